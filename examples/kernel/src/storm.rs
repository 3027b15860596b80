//! Programs write, read and fork on the other CPUs while this one moves all their pages to and fro.
//!
//! Two spaces share some pages and have others of their own, copied at a fork. On each CPU a program of each space writes words of
//! its own, in both kinds of pages, and looks at each before it writes it again; another reads the other space's words. Now
//! and then a space forks; the child must find what its parent had, and writes on by itself.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use backend_x86_64::Faulted;
use backend_x86_64::fixture::{Op, Then};
use migrate_core::{Lru as _, Profile, UsesPageMap};
use mm_types::{ActorId, Mode, NodeId, Pfn, Rules, Site, SpaceId, VirtAddr, VmaFlags};

use crate::migrator::{BATCH, migrate};
use crate::seam::{self, Mm};
use crate::user::{Words, WrongWord};
use crate::{cpu, jobs, memory, println, user};

const SHARED: VirtAddr = VirtAddr::new(0x10_0000);
const PRIVATE: VirtAddr = VirtAddr::new(0x4000_0000);
const PAGES: u64 = 32;
const FRAMES: u64 = 2048;
const ROUNDS_BETWEEN_FORKS: u64 = 16;
const ROUNDS_OF_A_CHILD: u64 = 3;
// More spaces than ever are there at once.
const SPACES: u32 = 16;
// Moved pages between two lines that say so.
const STEPS: u64 = 10_000;
// Pauses of a CPU between two runs, at most.
const MOST_PAUSES: u64 = 1024;
// A word of the shared pages that no program uses.
const UNUSED: u64 = 63;

const FLAGS: VmaFlags = VmaFlags::READ
    .union(VmaFlags::WRITE)
    .union(VmaFlags::MAYREAD)
    .union(VmaFlags::MAYWRITE);

/// What the storm came to.
#[derive(Default)]
struct Counts {
    words_written: AtomicU64,
    words_read: AtomicU64,
    lost_writes: AtomicU64,
    wrong_reads: AtomicU64,
    zeroed: AtomicU64,
    copied: AtomicU64,
    reused: AtomicU64,
    waited: AtomicU64,
    spurious: AtomicU64,
    forks: AtomicU64,
}

impl Counts {
    /// True where a write was lost or a read was wrong.
    fn are_wrong(&self) -> bool {
        [&self.lost_writes, &self.wrong_reads]
            .iter()
            .any(|count| count.load(Ordering::Relaxed) > 0)
    }
}

/// What is asked for.
pub struct Storm {
    /// Whose rules.
    pub profile: &'static Profile,
    /// What a run may wait for.
    pub mode: Mode,
    /// Pages that are moved, at least.
    pub migrations: u64,
    /// It is over at the first word that is wrong: for a kernel in which one is expected, sooner or later.
    pub until_wrong: bool,
}

/// Chances: xorshift64, the same in each run.
///
/// Without them the CPUs may fall into step: a program that waits for the first page of each run, and goes on when its last is back,
/// uses no old translation for hours.
struct Chance(u64);

impl Chance {
    const FIRST: Self = Self(0x9e37_79b9_7f4a_7c15);

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 16
    }

    /// A number from 1 to `most`, each power of two as likely as any other.
    fn scale(&mut self, most: u64) -> u64 {
        let bits = self.next() % u64::from(most.ilog2() + 1);
        (1 << bits) + self.next() % (1 << bits)
    }
}

struct World {
    mm: &'static Mm,
    spaces: [SpaceId; 2],
    counts: Counts,
    /// The rounds that the words of a slot in the shared pages have been through.
    rounds: [AtomicU64; 64],
    over: AtomicBool,
}

fn add(count: &AtomicU64, n: u64) {
    count.fetch_add(n, Ordering::Relaxed);
}

impl World {
    fn space(&self, id: SpaceId) -> (SpaceId, Pfn) {
        let root = self.mm.space(id).expect("it exists").root();
        (id, root.expect("it has tables"))
    }

    fn on_fault(&self, space: SpaceId) -> impl FnMut(VirtAddr, u32) -> Then {
        move |addr, code| {
            let actor = ActorId::new(cpu::current() as u32 + 1);
            let handled = self.mm.page_fault(space, addr, code, actor, ());
            let counts = &self.counts;
            let count = match handled.unwrap_or_else(|error| panic!("{space:?} at {addr:?}: {error}")) {
                Faulted::Zeroed => &counts.zeroed,
                Faulted::Copied => &counts.copied,
                Faulted::Reused => &counts.reused,
                Faulted::Waited => &counts.waited,
                Faulted::Spurious => &counts.spurious,
            };
            add(count, 1);
            Then::Again
        }
    }

    fn wrong(&self, what: &str, space: SpaceId, words: Words, round: u64, wrong: Option<WrongWord>, exact: bool) {
        let Some(WrongWord { count, at, found }) = wrong else {
            return;
        };
        // An earlier round's word is a write that was lost; anything else was never written there.
        let lost = exact && found >> 32 < round;
        add(
            if lost {
                &self.counts.lost_writes
            } else {
                &self.counts.wrong_reads
            },
            count,
        );
        println!("wrong {what} {space:?} {words:?} round={round} count={count} at={at:?} found={found:#x}");
    }

    fn write(&self, space: SpaceId, words: Words, round: u64) {
        let wrong = words.write(self.space(space), round, &mut self.on_fault(space));
        self.wrong("write", space, words, round, wrong, true);
        add(&self.counts.words_written, words.len());
    }

    fn read(&self, space: SpaceId, words: Words, round: u64) {
        let wrong = words.read(self.space(space), round, &mut self.on_fault(space));
        self.wrong("read", space, words, round, wrong, false);
        add(&self.counts.words_read, words.len());
    }

    /// What CPU `me` does until it is over.
    fn programs(&self, me: usize) {
        let slot = |n: usize| (me * 2 + n) as u64;
        let shared = |slot| Words {
            start: SHARED,
            pages: PAGES,
            slot,
        };
        let private = Words {
            start: PRIVATE,
            pages: PAGES,
            slot: me as u64,
        };
        let mut round = 0;
        while !self.over.load(Ordering::Acquire) {
            for (n, space) in self.spaces.into_iter().enumerate() {
                self.write(space, shared(slot(n)), round);
                self.rounds[slot(n) as usize].store(round + 1, Ordering::Release);
                self.write(space, private, round);
                // The other space's words, and those of the other CPUs: at least as new as they are said to be.
                for slot in 0..(cpu::count() * 2) as u64 {
                    let known = self.rounds[slot as usize].load(Ordering::Acquire);
                    self.read(space, shared(slot), known);
                }
            }
            round += 1;
            if round % ROUNDS_BETWEEN_FORKS == 0 {
                self.child(self.spaces[(round / ROUNDS_BETWEEN_FORKS % 2) as usize], private, round);
            }
        }
        for (n, space) in self.spaces.into_iter().enumerate() {
            self.read(space, shared(slot(n)), round);
            self.read(space, private, round);
        }
    }

    fn child(&self, parent: SpaceId, private: Words, round: u64) {
        let child = match self.mm.fork(parent, ()) {
            Ok(child) => child,
            Err(error) => panic!("fork of {parent:?}: {error}"),
        };
        add(&self.counts.forks, 1);
        for later in 0..ROUNDS_OF_A_CHILD {
            self.write(child, private, round + later);
        }
        cpu::switch_to(None);
        self.mm.destroy_space(child, ()).expect("it exists");
        self.read(parent, private, round);
    }
}

/// Runs it; true where no write was lost and no read was wrong.
pub fn run(storm: &Storm) -> bool {
    let mm = seam::new_mm(memory::first_free_frame(), FRAMES, storm.profile);
    let first = mm.create_space(Some(cpu::root())).expect("there is room");
    mm.map_area(first, SHARED, PAGES, FLAGS | VmaFlags::SHARED)
        .expect("there is room");
    mm.map_area(first, PRIVATE, PAGES, FLAGS).expect("there is room");
    let mut world = World {
        mm,
        spaces: [first; 2],
        counts: Counts::default(),
        rounds: [const { AtomicU64::new(0) }; 64],
        over: AtomicBool::new(false),
    };
    // Shared pages are there before the fork: there is no file that the second space would find them in.
    for page in 0..PAGES {
        let at = VirtAddr::new(SHARED.raw() + page * 4096 + UNUSED * 8);
        user::access(world.space(first), at, Op::Store(0), &mut world.on_fault(first));
    }
    cpu::switch_to(None);
    world.spaces[1] = mm.fork(first, ()).expect("there is room");
    let world: &'static World = Box::leak(Box::new(world));
    for cpu in 1..cpu::count() {
        assert!(jobs::give(cpu, Box::new(move || world.programs(cpu))));
    }

    let (mut moved, mut stayed, mut retried, mut runs, mut told) = (0, 0, 0, 0, 0);
    let mut node = 1;
    let mut chance = Chance::FIRST;
    while moved < storm.migrations && !(storm.until_wrong && world.counts.are_wrong()) {
        let pages = |start: VirtAddr| (0..PAGES).filter_map(move |page| start.vpn().checked_add(page));
        let sites: Vec<Site> = (0..SPACES)
            .map(SpaceId::new)
            .filter(|space| mm.space(*space).is_ok())
            .flat_map(|space| {
                pages(SHARED)
                    .chain(pages(PRIVATE))
                    .map(move |page| Site::new(space, page))
            })
            .collect();
        let mut rest = &sites[..];
        while !rest.is_empty() {
            let some;
            (some, rest) = rest.split_at(rest.len().min(chance.scale(BATCH as u64) as usize));
            (0..chance.scale(MOST_PAUSES)).for_each(|_| core::hint::spin_loop());
            let tally = migrate(mm, some, NodeId::new(node), storm.mode);
            moved += u64::from(tally.moved);
            stayed += u64::from(tally.failed + tally.retry + tally.not_reached);
            retried += tally.retried.iter().map(|n| u64::from(*n)).sum::<u64>();
            runs += 1;
        }
        node = 1 - node;
        if moved / STEPS > told {
            told = moved / STEPS;
            println!("moved {moved}");
        }
    }
    world.over.store(true, Ordering::Release);
    (1..cpu::count()).for_each(jobs::wait);
    world
        .spaces
        .iter()
        .for_each(|space| mm.destroy_space(*space, ()).expect("it exists"));
    mm.drain();
    let leaked = (0..FRAMES).filter(|n| {
        let pfn = Pfn::new(memory::first_free_frame().raw() + n);
        let page = mm.page_map().page(pfn).expect("a frame of this machine");
        (page.count(), page.mapcount()) != (0, 0) || !mm.platform().is_free(pfn)
    });
    let leaked = leaked.count();
    let counts = &world.counts;
    let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
    println!(
        "storm profile={} mode={} moved={moved} stayed={stayed} retried={retried} runs={runs} forks={} shootdowns={} interrupts={} \
         zeroed={} copied={} reused={} waited={} spurious={} leaked={leaked} words_written={} words_read={} lost_writes={} wrong_reads={}",
        Rules::word(storm.profile.rules),
        storm.mode.word(),
        of(&counts.forks),
        of(&seam::SHOOTDOWNS),
        of(&seam::INTERRUPTS),
        of(&counts.zeroed),
        of(&counts.copied),
        of(&counts.reused),
        of(&counts.waited),
        of(&counts.spurious),
        of(&counts.words_written),
        of(&counts.words_read),
        of(&counts.lost_writes),
        of(&counts.wrong_reads),
    );
    !counts.are_wrong() && leaked == 0
}

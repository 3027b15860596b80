//! A machine of ordinary memory: frames, CPUs that walk the tables and keep stale translations, threads that sleep.

#![allow(dead_code, clippy::allow_attributes, reason = "each test file uses a part of it")]

use core::alloc::Layout;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, mpsc};

pub(crate) mod machine;

use backend_x86_64::{
    FrameMapping, FrameSource, FrameWords, Gather, HwBits, HwEntry, Kernel, Paging, Purpose, Shootdown, Space, Stale,
    Storage,
};
use migrate_core::invariants::TranslationState;
use migrate_core::{
    Args, FromFn, Isolated, Lru as _, MODERN, PageRef, Profile, Slot, Tally, UsesPageMap, isolate_lru_page,
    migrate_pages, migrate_prep, putback_lru_pages,
};
use mm_types::trace::Observer;
use mm_types::{
    ActorId, AnonVma, AnonVmaLink, Mode, Outcome, Page, PageMap, Pfn, Pte, Reason, Refusal, Site, Sleep, SpaceId,
    VirtAddr, VmaFlags, VmaSlot, Vpn,
};

pub(crate) type Host<'s> = Kernel<'s, Machine>;

#[cfg(not(miri))]
pub(crate) const PROFILES: [&Profile; 2] = [&migrate_core::LINUX_2_6_17, &MODERN];
// Miri looks at memory, and slowly: the other rules are in the storm's tests.
#[cfg(miri)]
pub(crate) const PROFILES: [&Profile; 1] = [&MODERN];
pub(crate) const BASE: Pfn = Pfn::new(0x100);
pub(crate) const POISON: u64 = 0xdead_beef_dead_beef;
pub(crate) const READ_WRITE: VmaFlags = VmaFlags::READ
    .union(VmaFlags::WRITE)
    .union(VmaFlags::MAYREAD)
    .union(VmaFlags::MAYWRITE);

#[repr(align(4096))]
struct Frame(FrameWords);

// What a CPU keeps of an entry: it may store through it where the entry was writable, and dirty by then.
#[derive(Clone, Copy)]
struct Translation {
    pfn: Pfn,
    write: bool,
    execute: bool,
}

#[derive(Clone, Default)]
struct Tlb {
    pages: BTreeMap<(SpaceId, Vpn), Translation>,
    // The paging-structure cache: where the table of entries for 512 pages is (SDM vol. 3, 4.10.3).
    tables: BTreeMap<(SpaceId, u64), Pfn>,
}

// Says that a shootdown has begun, and hears that it may go on.
type Delay = (mpsc::Sender<()>, mpsc::Receiver<()>);

/// Frames in two nodes of the same size, and CPUs.
pub(crate) struct Machine {
    // One allocation each: Miri splits what it knows of an allocation at every word that is touched.
    frames: Box<[Box<Frame>]>,
    free: [Mutex<VecDeque<Pfn>>; 2],
    tlbs: Box<[Mutex<Tlb>]>,
    sleepers: (Mutex<()>, Condvar),
    /// Threads that sleep now.
    pub(crate) asleep: AtomicU32,
    /// Threads that a fixture left asleep.
    pub(crate) threads: machine::Threads,
    paging: Paging,
    /// Frames that `take` still gives for tables.
    pub(crate) tables: AtomicUsize,
    /// Shootdowns do nothing: what a kernel does that forgot them.
    pub(crate) deaf: AtomicBool,
    /// The next shootdown waits, before any CPU hears of it; see [`Machine::during_shootdown`].
    delayed: Mutex<Option<Delay>>,
    pub(crate) shootdowns: AtomicU32,
}

// SAFETY: frames are aligned arrays of atomics in allocations that live as long as the machine and do not move with it (1, 4),
// one for each frame (2); tests reach them through atomics only (3).
unsafe impl FrameMapping for Machine {
    fn frame(&self, pfn: Pfn) -> Option<NonNull<FrameWords>> {
        Some(NonNull::from(&self.at(pfn)?.0))
    }
}

impl FrameSource for Machine {
    fn take(&self, purpose: Purpose) -> Option<Pfn> {
        if purpose == Purpose::Table {
            let less = |left: usize| left.checked_sub(1);
            self.tables
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
                .ok()?;
        }
        self.take_from(0).or_else(|| self.take_from(1))
    }

    fn give_back(&self, pfn: Pfn) {
        // Under Miri the words that tests look at are enough.
        let words = if cfg!(miri) { 4 } else { 512 };
        for word in self.at(pfn).expect("a frame of this machine").0.iter().take(words) {
            word.store(POISON, Ordering::Relaxed);
        }
        let mut free = self.free[self.node(pfn)].lock().unwrap();
        assert!(!free.contains(&pfn), "{pfn:?} was freed twice");
        free.push_back(pfn);
    }
}

impl Shootdown for Machine {
    fn shootdown(&self, stale: Stale<'_>) {
        self.shootdowns.fetch_add(1, Ordering::Relaxed);
        if self.deaf.load(Ordering::Relaxed) {
            return;
        }
        let delay = self.delayed.lock().unwrap().take();
        if let Some((begun, go_on)) = delay {
            begun.send(()).unwrap();
            // An error: whoever delayed it has panicked.
            let _ = go_on.recv();
        }
        for tlb in &self.tlbs {
            // A CPU acknowledges between two accesses.
            let mut tlb = tlb.lock().unwrap();
            tlb.pages.retain(|(at, page), _| match stale {
                Stale::Pages(space, pages) => *at != space || pages.binary_search(page).is_err(),
                Stale::Space(space) => *at != space,
                Stale::Everything => false,
            });
            // INVLPG drops the whole paging-structure cache of the space, whichever page it names.
            tlb.tables.retain(|(at, _), _| match stale {
                Stale::Pages(space, _) | Stale::Space(space) => *at != space,
                Stale::Everything => false,
            });
        }
    }
}

impl Sleep for Machine {
    fn wait(&self, word: &AtomicU32, seen: u32) {
        let guard = self.sleepers.0.lock().unwrap();
        if word.load(Ordering::Acquire) == seen {
            self.asleep.fetch_add(1, Ordering::AcqRel);
            drop(self.sleepers.1.wait(guard).unwrap());
            self.asleep.fetch_sub(1, Ordering::AcqRel);
        }
    }

    fn wake_all(&self, _word: &AtomicU32) {
        let _guard = self.sleepers.0.lock().unwrap();
        self.sleepers.1.notify_all();
    }
}

/// What an access does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Load,
    Store(u64),
    Add(u64),
}

fn zeroed_frame() -> Box<Frame> {
    let layout = Layout::new::<Frame>();
    // SAFETY: the layout is not empty.
    let frame = unsafe { std::alloc::alloc_zeroed(layout) }.cast::<Frame>();
    // SAFETY: allocated with its layout by the allocator that a box uses; zeros are atomics of 0.
    unsafe { Box::from_raw(frame) }
}

impl Machine {
    pub(crate) fn new(frames: usize, cpus: usize, paging: Paging) -> Self {
        let half = frames as u64 / 2;
        let node = |n: u64| Mutex::new((0..half).map(|at| Pfn::new(BASE.raw() + n * half + at)).collect());
        Self {
            frames: (0..frames).map(|_| zeroed_frame()).collect(),
            free: [node(0), node(1)],
            tlbs: (0..cpus).map(|_| Mutex::default()).collect(),
            sleepers: Default::default(),
            asleep: AtomicU32::new(0),
            threads: machine::Threads::default(),
            paging,
            tables: AtomicUsize::new(usize::MAX),
            deaf: AtomicBool::new(false),
            delayed: Mutex::new(None),
            shootdowns: AtomicU32::new(0),
        }
    }

    /// Runs `edit` on another thread, and `meanwhile` when it has made its edits and no CPU has heard of them.
    pub(crate) fn during_shootdown<R>(&self, edit: impl FnOnce() + Send, meanwhile: impl FnOnce() -> R) -> R {
        let (begun, begins) = mpsc::channel();
        let (goes_on, go_on) = mpsc::channel();
        *self.delayed.lock().unwrap() = Some((begun, go_on));
        std::thread::scope(|scope| {
            scope.spawn(edit);
            begins.recv().expect("the edit needs a shootdown");
            // Dropped with this closure, so that the edit does not wait for ever where `meanwhile` panics.
            let goes_on = goes_on;
            let done = meanwhile();
            goes_on.send(()).unwrap();
            done
        })
    }

    fn at(&self, pfn: Pfn) -> Option<&Frame> {
        let at = usize::try_from(pfn.raw().checked_sub(BASE.raw())?).ok()?;
        self.frames.get(at).map(|frame| &**frame)
    }

    pub(crate) fn node(&self, pfn: Pfn) -> usize {
        usize::from(pfn.raw() - BASE.raw() >= self.frames.len() as u64 / 2)
    }

    pub(crate) fn take_from(&self, node: usize) -> Option<Pfn> {
        self.free[node].lock().unwrap().pop_front()
    }

    pub(crate) fn free_frames(&self) -> BTreeSet<Pfn> {
        let both = self.free.iter().flat_map(|free| free.lock().unwrap().clone());
        both.collect()
    }

    pub(crate) fn data(&self, pfn: Pfn, word: usize) -> &AtomicU64 {
        &self.at(pfn).expect("a frame of this machine").0[word]
    }

    fn tlb(&self, cpu: usize) -> MutexGuard<'_, Tlb> {
        self.tlbs[cpu].lock().unwrap()
    }

    /// What every CPU holds.
    pub(crate) fn translations(&self) -> Vec<TranslationState> {
        let tlbs = self.tlbs.iter().zip(0..);
        let held = tlbs.flat_map(|(tlb, cpu)| {
            let pages = tlb.lock().unwrap().pages.clone();
            pages.into_iter().map(move |((space, page), held)| TranslationState {
                cpu,
                site: Site::new(space, page),
                pfn: held.pfn,
                write: held.write,
            })
        });
        held.collect()
    }

    /// What every CPU holds is what the tables say.
    pub(crate) fn stale(&self, entry: impl Fn(Site) -> HwEntry) -> Option<Site> {
        let tlbs = self.tlbs.iter().map(|tlb| tlb.lock().unwrap().pages.clone());
        let all: Vec<_> = tlbs.flatten().collect();
        let stale = all.into_iter().find(|((space, page), held)| {
            let word = entry(Site::new(*space, *page));
            let allows = word.is_present() && word.frame() == held.pfn;
            !allows || held.write && !word.hw_bits().contains(HwBits::WRITE | HwBits::DIRTY)
        });
        stale.map(|((space, page), _)| Site::new(space, page))
    }

    /// One access to word `word` of a page by a CPU in user mode: its TLB, then the tables. Returns what was there.
    ///
    /// # Errors
    /// The error code of a page fault.
    pub(crate) fn access(
        &self,
        cpu: usize,
        root: Pfn,
        space: SpaceId,
        page: Vpn,
        word: usize,
        op: Op,
    ) -> Result<u64, u32> {
        // Held for the whole access: a shootdown is acknowledged between two instructions.
        let mut tlb = self.tlb(cpu);
        let write = op != Op::Load;
        let held = tlb
            .pages
            .get(&(space, page))
            .filter(|held| held.write || !write)
            .copied();
        let found = match held {
            Some(held) => held,
            None => {
                // A CPU drops its translation where it faults, and walks again.
                tlb.pages.remove(&(space, page));
                let found = self.walk(&mut tlb.tables, root, (space, page), write)?;
                tlb.pages.insert((space, page), found);
                found
            }
        };
        let data = self.data(found.pfn, word);
        Ok(match op {
            Op::Load => data.load(Ordering::Acquire),
            Op::Store(value) => data.swap(value, Ordering::AcqRel),
            Op::Add(value) => data.fetch_add(value, Ordering::AcqRel),
        })
    }

    /// What the CPU's walker does (SDM vol. 3, 4.5 and 4.8).
    fn walk(
        &self,
        tables: &mut BTreeMap<(SpaceId, u64), Pfn>,
        root: Pfn,
        (space, page): (SpaceId, Vpn),
        write: bool,
    ) -> Result<Translation, u32> {
        let code = 1 << 2 | u32::from(write) << 1;
        let cached = tables.get(&(space, page.raw() >> 9)).copied();
        let mut table = cached.unwrap_or(root);
        let levels = cached.map_or(self.paging.levels(), |_| 1);
        for level in (0..levels).rev() {
            let index = (page.raw() >> (9 * level)) & 0x1ff;
            let slot = self.data(table, index as usize);
            let mut seen = slot.load(Ordering::Acquire);
            loop {
                let entry = HwEntry::from_bits(seen);
                let bits = entry.hw_bits();
                if !entry.is_present() {
                    return Err(code);
                }
                if !bits.contains(HwBits::USER) || write && !bits.contains(HwBits::WRITE) {
                    return Err(code | 1);
                }
                let mut marks = HwBits::ACCESSED;
                marks.set(HwBits::DIRTY, write && level == 0);
                if bits.contains(marks) {
                    break;
                }
                match slot.compare_exchange(seen, seen | marks.bits(), Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => seen |= marks.bits(),
                    Err(now) => seen = now,
                }
            }
            let entry = HwEntry::from_bits(seen);
            if level == 0 {
                return Ok(Translation {
                    pfn: entry.frame(),
                    write: entry.hw_bits().contains(HwBits::WRITE | HwBits::DIRTY),
                    execute: !entry.hw_bits().contains(HwBits::NO_EXECUTE),
                });
            }
            table = entry.frame();
            if level == 1 {
                tables.insert((space, page.raw() >> 9), table);
            }
        }
        unreachable!("the last level returns")
    }
}

/// Runs `f` on a kernel over a machine of `frames` frames and `cpus` CPUs; then everything must be free again once `f` has
/// destroyed its spaces.
pub(crate) fn with_kernel(
    frames: usize,
    cpus: usize,
    paging: Paging,
    profile: &'static Profile,
    f: impl FnOnce(&Host<'_>),
) {
    let pages: Box<[Page]> = (0..frames).map(|_| Page::new()).collect();
    let spaces: Box<[Space]> = (0..12).map(|_| Space::new()).collect();
    let (mut vmas, mut roots, mut links) = (
        [VmaSlot::default(); 96],
        [AnonVma::default(); 96],
        [AnonVmaLink::default(); 96],
    );
    let storage = Storage {
        pages: PageMap::new(BASE, &pages),
        spaces: &spaces,
        vmas: &mut vmas,
        anon_vmas: &mut roots,
        links: &mut links,
    };
    let kernel = Kernel::new(Machine::new(frames, cpus, paging), paging, profile, storage);
    f(&kernel);
    kernel.drain();
    for (id, space) in (0..).zip(&spaces) {
        if space.root().is_some() {
            assert_eq!(kernel.destroy_space(SpaceId::new(id), ()), Ok(()));
        }
        assert!(!space.is_pending(), "a gather of {id} was never flushed");
        assert_eq!(space.rss(), 0);
    }
    kernel.drain();
    assert_eq!(kernel.platform().free_frames().len(), frames, "a frame leaked");
    for page in &pages {
        assert_eq!((page.count(), page.mapcount()), (0, 0));
    }
}

/// The page at `addr` of `space`.
pub(crate) fn site(space: SpaceId, addr: u64) -> Site {
    Site::new(space, VirtAddr::new(addr).vpn())
}

/// Where tests have their pages.
pub(crate) const AT: u64 = 0x40_0000;

pub(crate) fn addr(page: u64) -> VirtAddr {
    VirtAddr::new(AT + page * 4096)
}

pub(crate) fn area(kernel: &Host<'_>, space: SpaceId, pages: u64) {
    kernel.map_area(space, addr(0), pages, READ_WRITE).unwrap();
}

pub(crate) fn at(space: SpaceId, page: u64) -> Site {
    site(space, AT + page * 4096)
}

/// One access with its faults; `None` where it is not allowed.
pub(crate) fn access<O: Observer>(
    kernel: &Host<'_>,
    cpu: usize,
    at: Site,
    word: usize,
    op: Op,
    observer: O,
) -> Option<u64> {
    let root = kernel.space(at.space).unwrap().root().unwrap();
    let addr = at.page.addr().unwrap();
    loop {
        match kernel.platform().access(cpu, root, at.space, at.page, word, op) {
            Ok(value) => return Some(value),
            Err(code) => {
                let actor = ActorId::new(u32::try_from(cpu).unwrap() + 1);
                let handled = kernel.page_fault(at.space, addr, code, actor, observer);
                match handled {
                    Ok(_) => {}
                    Err(backend_x86_64::FaultError::NotAllowed) => return None,
                    Err(error) => panic!("{at:?}: {error}"),
                }
            }
        }
    }
}

pub(crate) fn load(kernel: &Host<'_>, at: Site) -> u64 {
    access(kernel, 0, at, 0, Op::Load, ()).expect("it may be read")
}

pub(crate) fn store(kernel: &Host<'_>, at: Site, value: u64) {
    access(kernel, 0, at, 0, Op::Store(value), ()).expect("it may be written");
}

pub(crate) fn frame_of(kernel: &Host<'_>, at: Site) -> Pfn {
    match kernel.entry(at) {
        Pte::Present { pfn, .. } => pfn,
        other => panic!("{at:?} is {other}"),
    }
}

/// What a run came to, page by page.
#[derive(Debug, Default)]
pub(crate) struct Moved {
    pub(crate) tally: Tally,
    pub(crate) refusals: Vec<Refusal>,
}

/// Moves the pages at `sites` to node `to`; pages that stayed are put back.
pub(crate) fn migrate<O: Observer>(kernel: &Host<'_>, sites: &[Site], to: usize, mode: Mode, observer: O) -> Moved {
    migrate_prep(kernel);
    let mut from: VecDeque<Isolated<PageRef>> = VecDeque::new();
    for at in sites {
        let pfn = kernel.entry(*at).pfn();
        let Some(page) = pfn.and_then(|pfn| PageRef::get(kernel.page_map(), pfn)) else {
            continue;
        };
        from.extend(isolate_lru_page(kernel, &page, observer));
        migrate_core::Frames::put(kernel, page);
    }
    let mut failed = VecDeque::new();
    let mut slots: Vec<Slot<Host<'_>>> = (0..sites.len().clamp(1, 512)).map(|_| Slot::new()).collect();
    let mut moved = Moved::default();
    let args = Args {
        from: &mut from,
        target: FromFn {
            take: |_: &PageRef| {
                let pfn = kernel.platform().take_from(to).ok_or(Refusal::NoTarget)?;
                PageRef::allocate(kernel.page_map(), pfn).ok_or(Refusal::NoTarget)
            },
            give_back: |page| migrate_core::Frames::put(kernel, page),
        },
        moved: None,
        failed: &mut failed,
        slots: &mut slots,
        profile: kernel.profile(),
        mode,
        reason: Reason::Compaction,
        outcome: &mut |_, outcome| {
            if let Outcome::Refused(refusal) | Outcome::Retry(refusal) = outcome {
                moved.refusals.push(refusal);
            }
        },
        observer,
    };
    moved.tally = migrate_pages(kernel, args).expect("slots were lent");
    putback_lru_pages(kernel, &mut from, observer);
    putback_lru_pages(kernel, &mut failed, observer);
    kernel.drain();
    moved
}

/// Nothing of a batch is left to be flushed by `gather`'s owner.
pub(crate) const fn is_quiet(gather: &Gather) -> bool {
    gather.is_empty()
}

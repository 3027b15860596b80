//! One scenario for each flush: a program has used a translation, the kernel changes the entry, the program uses it again from
//! the same CPU, with nothing between that would drop it but that one flush.
//!
//! Under TCG a CPU's translations stay until they are invalidated, CR3 is loaded, or too many others come; so a build without
//! the flush fails here.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Debug;

use backend_x86_64::fixture::Op;
use migrate_core::{Lru as _, Profile};
use mm_types::{Mode, NodeId, Site, SpaceId, VirtAddr, VmaFlags};
use spin::Mutex;

use crate::migrator::migrate;
use crate::seam::{self, Mm};
use crate::thread::{Thread, access};
use crate::{cpu, hold, jobs, memory, println};

const START: VirtAddr = VirtAddr::new(0x10_0000);
const ELSEWHERE: VirtAddr = VirtAddr::new(0x18_0000);
// More than are invalidated one by one, fewer than TCG forgets by itself.
const BATCH: u64 = 40;
const FRAMES: u64 = 1024;
const FLAGS: VmaFlags = VmaFlags::READ
    .union(VmaFlags::WRITE)
    .union(VmaFlags::MAYREAD)
    .union(VmaFlags::MAYWRITE);

type Outcome = Result<(), String>;
type Scenario = fn(&'static Mm, SpaceId) -> Outcome;

/// Its name, and what it does in a fresh space.
const SCENARIOS: [(&str, Scenario); 11] = [
    ("migrate_here", migrate_here),
    ("migrate_elsewhere", migrate_elsewhere),
    ("batch_here", batch_here),
    ("batch_elsewhere", batch_elsewhere),
    ("fork", fork),
    ("protect", protect),
    ("unmap", unmap),
    ("move", move_range),
    ("fault", fault),
    ("before_copy", before_copy),
    ("at_end", at_end),
];

fn page(n: u64) -> VirtAddr {
    VirtAddr::new(START.raw() + n * 4096)
}

fn site(space: SpaceId, n: u64) -> Site {
    Site::new(space, page(n).vpn())
}

fn expect<T: PartialEq + Debug>(what: &str, found: T, expected: T) -> Outcome {
    if found == expected {
        Ok(())
    } else {
        Err(format!("{what}: expected {expected:x?}, found {found:x?}"))
    }
}

/// The first word of the frame that is mapped at `site`, as the kernel sees it.
fn in_memory(mm: &Mm, site: Site) -> Option<u64> {
    mm.platform().first_word(mm.word(site).frame())
}

fn move_to_node_1(mm: &Mm, space: SpaceId, pages: u64) -> Outcome {
    let sites: Vec<Site> = (0..pages).map(|n| site(space, n)).collect();
    let tally = migrate(mm, &sites, NodeId::new(1), Mode::Sync);
    expect("pages moved", u64::from(tally.moved), pages)
}

// Ring 3 on this CPU stores, the pages move, ring 3 loads and stores again.
fn moved_here(mm: &'static Mm, space: SpaceId, pages: u64) -> Outcome {
    for n in 0..pages {
        access(mm, space, page(n), Op::Store(n));
    }
    move_to_node_1(mm, space, pages)?;
    for n in 0..pages {
        expect("a load after the move", access(mm, space, page(n), Op::Load), Some(n))?;
        access(mm, space, page(n), Op::Store(n + 100));
        expect(
            "the word in the new frame",
            in_memory(mm, site(space, n)),
            Some(n + 100),
        )?;
    }
    Ok(())
}

fn moved_elsewhere(mm: &'static Mm, space: SpaceId, pages: u64) -> Outcome {
    let thread = Thread::begin(1, mm, space);
    let done = (|| {
        for n in 0..pages {
            thread.access(page(n), Op::Store(n));
        }
        move_to_node_1(mm, space, pages)?;
        for n in 0..pages {
            expect("a load after the move", thread.access(page(n), Op::Load), Some(n))?;
            thread.access(page(n), Op::Store(n + 100));
            expect(
                "the word in the new frame",
                in_memory(mm, site(space, n)),
                Some(n + 100),
            )?;
        }
        Ok(())
    })();
    thread.end();
    done
}

fn migrate_here(mm: &'static Mm, space: SpaceId) -> Outcome {
    moved_here(mm, space, 1)
}

fn migrate_elsewhere(mm: &'static Mm, space: SpaceId) -> Outcome {
    moved_elsewhere(mm, space, 1)
}

fn batch_here(mm: &'static Mm, space: SpaceId) -> Outcome {
    moved_here(mm, space, BATCH)
}

fn batch_elsewhere(mm: &'static Mm, space: SpaceId) -> Outcome {
    moved_elsewhere(mm, space, BATCH)
}

// What the parent stores after the fork is not the child's.
fn fork(mm: &'static Mm, space: SpaceId) -> Outcome {
    access(mm, space, page(0), Op::Store(1));
    let child = mm.fork(space, ()).map_err(|error| format!("{error}"))?;
    access(mm, space, page(0), Op::Store(2));
    let childs = in_memory(mm, site(child, 0));
    cpu::switch_to(None);
    mm.destroy_space(child, ()).map_err(|error| format!("{error}"))?;
    expect("the child's word", childs, Some(1))
}

fn protect(mm: &'static Mm, space: SpaceId) -> Outcome {
    access(mm, space, page(0), Op::Store(1));
    mm.protect(space, page(0), 1, VmaFlags::READ, ())
        .map_err(|error| format!("{error}"))?;
    expect(
        "a store that is not allowed",
        access(mm, space, page(0), Op::Store(2)),
        None,
    )?;
    expect("the word", in_memory(mm, site(space, 0)), Some(1))
}

// A neighbour keeps the table, so that it is the entry's flush and not the table's.
fn unmap(mm: &'static Mm, space: SpaceId) -> Outcome {
    access(mm, space, page(1), Op::Store(1));
    access(mm, space, page(0), Op::Store(1));
    mm.unmap(space, page(0), 1, ()).map_err(|error| format!("{error}"))?;
    expect("a load of what is gone", access(mm, space, page(0), Op::Load), None)
}

fn move_range(mm: &'static Mm, space: SpaceId) -> Outcome {
    access(mm, space, page(1), Op::Store(1));
    access(mm, space, page(0), Op::Store(2));
    mm.move_range(space, page(0), 1, ELSEWHERE, ())
        .map_err(|error| format!("{error}"))?;
    expect("a load of the old place", access(mm, space, page(0), Op::Load), None)?;
    expect(
        "a load of the new place",
        access(mm, space, ELSEWHERE, Op::Load),
        Some(2),
    )
}

// Another thread has read the page that this one gets a copy of.
fn fault(mm: &'static Mm, space: SpaceId) -> Outcome {
    access(mm, space, page(0), Op::Store(1));
    let child = mm.fork(space, ()).map_err(|error| format!("{error}"))?;
    let thread = Thread::begin(1, mm, space);
    let before = thread.access(page(0), Op::Load);
    access(mm, space, page(0), Op::Store(2));
    let after = thread.access(page(0), Op::Load);
    thread.end();
    mm.destroy_space(child, ()).map_err(|error| format!("{error}"))?;
    expect("the other thread's word before the copy", before, Some(1))?;
    expect("the other thread's word after the copy", after, Some(2))
}

// CPU 3 forks and is held before its flush; CPU 2 stores and copies the page, and is held when the copy is mapped; CPU 1 has
// written the page all the while, and writes it now.
fn before_copy(mm: &'static Mm, space: SpaceId) -> Outcome {
    let (writer, copier, forker) = (1, 2, 3);
    let second_word = VirtAddr::new(page(0).raw() + 8);
    let thread = Thread::begin(writer, mm, space);
    let other = Thread::begin(copier, mm, space);
    thread.access(page(0), Op::Store(1));
    hold::arm(forker);
    let child = Arc::new(Mutex::new(None));
    let forked = Arc::clone(&child);
    jobs::give(forker, Box::new(move || *forked.lock() = mm.fork(space, ()).ok()));
    let held = until_held(forker, || !jobs::is_busy(forker)).and_then(|()| {
        // With the fork's flush pending, its own is one of the whole space.
        hold::arm_after_a_frame(copier);
        other.ask(second_word, Op::Store(2));
        let held = until_held(copier, || other.has_answered());
        thread.access(page(0), Op::Store(3));
        hold::release(copier);
        other.answer();
        held
    });
    hold::release(forker);
    jobs::wait(forker);
    let seen = thread.access(page(0), Op::Load);
    thread.end();
    other.end();
    let child = child.lock().take().ok_or("no fork")?;
    mm.destroy_space(child, ()).map_err(|error| format!("{error}"))?;
    held?;
    expect("what the writer stored last", seen, Some(3))
}

// CPU 1 migrates and is held before its flush; the page is unmapped meanwhile.
fn at_end(mm: &'static Mm, space: SpaceId) -> Outcome {
    let migrator = 1;
    access(mm, space, page(1), Op::Store(1));
    access(mm, space, page(0), Op::Store(1));
    hold::arm(migrator);
    jobs::give(
        migrator,
        Box::new(move || {
            migrate(mm, &[site(space, 0)], NodeId::new(1), Mode::Sync);
        }),
    );
    let held = until_held(migrator, || !jobs::is_busy(migrator));
    let unmapped = mm.unmap(space, page(0), 1, ());
    let seen = access(mm, space, page(0), Op::Load);
    hold::release(migrator);
    jobs::wait(migrator);
    held?;
    unmapped.map_err(|error| format!("{error}"))?;
    expect("a load of what is gone", seen, None)
}

// Waits until `cpu` is held; an error where what it does is over, and it never came to a flush.
fn until_held(cpu: usize, over: impl Fn() -> bool) -> Outcome {
    while !hold::is_held(cpu) {
        if over() {
            hold::release(cpu);
            return Err(format!("CPU {cpu} did not flush"));
        }
        cpu::halt_unless(|| hold::is_held(cpu) || over());
    }
    Ok(())
}

/// Runs each scenario `times` times; true where none failed.
pub fn run(profile: &'static Profile, times: u64, only: Option<&str>) -> bool {
    let mm = seam::new_mm(memory::first_free_frame(), FRAMES, profile);
    let mut good = true;
    for (name, scenario) in SCENARIOS
        .iter()
        .filter(|(name, _)| only.is_none_or(|only| only == *name))
    {
        let (mut failed, mut first) = (0, None);
        for _ in 0..times {
            let space = mm.create_space(Some(cpu::root())).expect("there is room");
            mm.map_area(space, START, BATCH, FLAGS).expect("there is room");
            if let Err(error) = scenario(mm, space) {
                failed += 1;
                first = first.or(Some(error));
            }
            cpu::switch_to(None);
            mm.destroy_space(space, ()).expect("it exists");
            mm.drain();
        }
        println!("flush {name} times={times} failed={failed}");
        if let Some(first) = first {
            println!("first {name} {first}");
            good = false;
        }
    }
    good
}

//! The core allocates nothing: counted by the allocator, while pages move in both profiles.

#[path = "../benches/noop/mod.rs"]
mod noop;

use core::alloc::{GlobalAlloc, Layout};
use core::cell::Cell;
use std::alloc::System;

use migrate_core::{LINUX_2_6_17, MODERN, Slot};
use mm_types::Mode;
use noop::{Noop, prepare, run};

struct Counting;

thread_local! {
    // Per thread: the test harness allocates on threads of its own. Const-initialised, so that reading it does not allocate.
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is passed on to the system's allocator unchanged; counting touches no memory of the caller's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.with(|calls| calls.set(calls.get() + 1));
        // SAFETY: the caller keeps `alloc`'s contract, which is the same one.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        CALLS.with(|calls| calls.set(calls.get() + 1));
        // SAFETY: the caller keeps `dealloc`'s contract, which is the same one.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn calls() -> u64 {
    CALLS.with(Cell::get)
}

#[test]
fn the_allocator_counts() {
    let before = calls();
    drop(core::hint::black_box(vec![0u8; 100]));
    assert_eq!(calls() - before, 2);
}

#[test]
fn moving_pages_allocates_nothing() {
    let noop = Noop::new(1024);
    let order: Vec<usize> = (0..1024).collect();
    let mut slots: Vec<Slot<Noop>> = (0..512).map(|_| Slot::new()).collect();
    for profile in [&LINUX_2_6_17, &MODERN] {
        for mode in [Mode::Async, Mode::SyncLight, Mode::Sync] {
            let (mut from, mut news) = prepare(&noop, &order);
            let mut failed = noop.list(14);
            let before = calls();
            let tally = run(&noop, &mut from, &mut news, &mut failed, &mut slots, profile, mode, ());
            assert_eq!(calls() - before, 0, "{} in mode {mode}", profile.rules);
            assert_eq!((tally.moved, tally.left()), (1024, 0));
        }
    }
}

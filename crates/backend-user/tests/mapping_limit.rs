//! At `vm.max_map_count`: typed errors, and ballast that rescues the operation.

mod support;

use core::ffi::c_void;
use core::ptr;
use std::os::fd::AsFd;

use backend_user::sys::ballast::Ballast;
use backend_user::sys::error::MapError;
use backend_user::sys::maps::{self, Tally};
use backend_user::sys::node::NodeMemory;
use backend_user::sys::range::{PageRange, Prot};
use mm_types::{NodeId, PAGE_SIZE};
use support::{child, ended_with, exit_now, is_child};

/// Makes mappings until the kernel refuses; returns the region that holds most of them.
fn fill_up() -> (*mut c_void, usize) {
    let limit = maps::limit().unwrap();
    let len = (limit + 10) * PAGE_SIZE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: the kernel picks a free place.
    let start = unsafe { libc::mmap(ptr::null_mut(), len, libc::PROT_NONE, flags, -1, 0) };
    assert_ne!(start, libc::MAP_FAILED);
    for page in (1..limit + 10).step_by(2) {
        let at = start.wrapping_byte_add(page * PAGE_SIZE);
        // SAFETY: a page of the mapping just made, which nobody uses.
        if unsafe { libc::mprotect(at, PAGE_SIZE, libc::PROT_READ) } != 0 {
            break;
        }
    }
    // Splitting a page off costs two; a last mapping of its own costs one.
    while {
        // SAFETY: the kernel picks a free place; protections alternate so that no two merge.
        let read = unsafe { libc::mmap(ptr::null_mut(), PAGE_SIZE, libc::PROT_READ, flags, -1, 0) };
        // SAFETY: as above.
        let write = unsafe { libc::mmap(ptr::null_mut(), PAGE_SIZE, libc::PROT_WRITE, flags, -1, 0) };
        read != libc::MAP_FAILED && write != libc::MAP_FAILED
    } {}
    (start, len)
}

#[test]
fn ballast_rescues_an_operation_at_the_mapping_limit() {
    const NAME: &str = "ballast_rescues_an_operation_at_the_mapping_limit";
    if !is_child() {
        return ended_with(&child(NAME), 42);
    }
    let limit = maps::limit().unwrap();
    let tally = Tally::new();
    let node = NodeMemory::new(NodeId::new(0), 64, None).unwrap();
    let range = PageRange::reserve(64).unwrap();
    range.map_run(0, 64, node.as_fd(), 0, Prot::ReadWrite, false).unwrap();
    let ballast = Ballast::reserve(64).unwrap();
    let before = tally.sample().unwrap();
    let (start, len) = fill_up();
    let full = tally.sample().unwrap();
    assert!(full >= limit - 1 && full > before, "{full} of {limit}");

    // Replacing one page in the middle of a run needs two more mappings, and fails at the limit: commit and rollback alike.
    let replace = |page: usize| range.map_run(page, 1, node.as_fd(), 63 - page, Prot::ReadWrite, false);
    assert_eq!(replace(9), Err(MapError::MappingLimit { call: "mmap" }));
    assert_eq!(
        range.protect_run(9, 1, Prot::None),
        Err(MapError::MappingLimit { call: "mprotect" })
    );

    for page in (1..20).step_by(2) {
        ballast.rescue(|| range.protect_run(page, 1, Prot::None)).unwrap();
        ballast.rescue(|| replace(page)).unwrap();
    }
    assert!(ballast.held() < ballast.capacity());

    // Put back as it was, the run is one mapping again; with room in the process the ballast is whole again.
    ballast
        .rescue(|| range.map_run(0, 64, node.as_fd(), 0, Prot::ReadWrite, false))
        .unwrap();
    // SAFETY: the filler's own region, which nobody uses.
    assert_eq!(unsafe { libc::munmap(start, len) }, 0);
    assert_eq!(ballast.refill(), Ok(ballast.capacity()));
    assert!(tally.peak() >= full && tally.peak() <= limit + 1);
    exit_now(42);
}

#[test]
fn ballast_is_mappings_one_by_one() {
    const NAME: &str = "ballast_is_mappings_one_by_one";
    if !is_child() {
        return ended_with(&child(NAME), 42);
    }
    let before = maps::in_use().unwrap();
    let ballast = Ballast::reserve(1000).unwrap();
    let with = maps::in_use().unwrap();
    assert!(with >= before + 1000, "{before} then {with}");
    assert_eq!(ballast.give_up(400), 400);
    assert!(maps::in_use().unwrap() <= with - 400);
    drop(ballast);
    assert!(maps::in_use().unwrap() <= before + 1);
    exit_now(42);
}

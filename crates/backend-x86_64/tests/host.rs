//! The backend over an arena of ordinary memory, with CPUs that keep stale translations until they are told.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use backend_x86_64::{FaultError, Faulted, Gather, HwBits, MapError, Paging};
use migrate_core::{LINUX_2_6_17, Lru as _, MODERN, PageRef, Profile};
use mm_types::{ActorId, Mode, Pfn, PhysAddr, PteFlags, SpaceId, VirtAddr, VmaFlags};

mod support;
use support::{BASE, Host, Op, READ_WRITE, access, frame_of, load, migrate, site, store, with_kernel};

const PROFILES: [&Profile; 2] = [&LINUX_2_6_17, &MODERN];
const AT: u64 = 0x40_0000;

fn addr(page: u64) -> VirtAddr {
    VirtAddr::new(AT + page * 4096)
}

fn area(kernel: &Host<'_>, space: SpaceId, pages: u64) {
    kernel.map_area(space, addr(0), pages, READ_WRITE).unwrap();
}

fn at(space: SpaceId, page: u64) -> mm_types::Site {
    site(space, AT + page * 4096)
}

#[test]
fn pages_move_to_the_other_node_and_back_with_their_contents() {
    for paging in [Paging::Four, Paging::Five] {
        for profile in PROFILES {
            with_kernel(256, 1, paging, profile, |kernel| {
                let space = kernel.create_space(None).unwrap();
                let pages: u32 = if cfg!(miri) { 2 } else { 48 };
                area(kernel, space, pages.into());
                let sites: Vec<_> = (0..pages.into()).map(|page| at(space, page)).collect();
                for (site, value) in sites.iter().zip(1000..) {
                    store(kernel, *site, value);
                }
                for node in [1, 0, 1] {
                    let moved = migrate(kernel, &sites, node, Mode::Sync, ());
                    assert_eq!((moved.tally.moved, moved.refusals), (pages, vec![]));
                    for (site, value) in sites.iter().zip(1000..) {
                        assert_eq!(kernel.platform().node(frame_of(kernel, *site)), node);
                        assert_eq!(load(kernel, *site), value);
                    }
                }
            });
        }
    }
}

#[test]
fn every_mapper_of_a_shared_page_finds_it_after_it_moved() {
    for profile in PROFILES {
        with_kernel(128, 2, Paging::Four, profile, |kernel| {
            let parent = kernel.create_space(None).unwrap();
            area(kernel, parent, 2);
            store(kernel, at(parent, 0), 7);
            let other = kernel.create_space(None).unwrap();
            kernel
                .share(at(parent, 0), other, VirtAddr::new(0x7000_0000), true)
                .unwrap();
            let far = site(other, 0x7000_0000);
            assert_eq!(load(kernel, far), 7);
            let child = kernel.fork(other, ()).unwrap();
            let sites = [at(parent, 0), far, site(child, 0x7000_0000)];
            let moved = migrate(kernel, &sites[..1], 1, Mode::Sync, ());
            assert_eq!(moved.tally.moved, 1, "{moved:?}");
            let frame = frame_of(kernel, sites[0]);
            assert_eq!(kernel.platform().node(frame), 1);
            for at in sites {
                assert_eq!(frame_of(kernel, at), frame);
            }
            // Shared: a store by one is seen by all.
            access(kernel, 1, far, 0, Op::Store(8), ()).unwrap();
            assert_eq!(load(kernel, sites[2]), 8);
        });
    }
}

#[test]
fn a_fork_copies_on_write_before_and_after_a_move() {
    for profile in PROFILES {
        with_kernel(128, 2, Paging::Four, profile, |kernel| {
            let parent = kernel.create_space(None).unwrap();
            area(kernel, parent, 2);
            store(kernel, at(parent, 0), 1);
            store(kernel, at(parent, 1), 1);
            let child = kernel.fork(parent, ()).unwrap();
            assert_eq!(frame_of(kernel, at(parent, 0)), frame_of(kernel, at(child, 0)));
            store(kernel, at(child, 0), 2);
            assert_eq!((load(kernel, at(parent, 0)), load(kernel, at(child, 0))), (1, 2));
            let sites = [at(parent, 0), at(child, 0), at(parent, 1)];
            let moved = migrate(kernel, &sites, 1, Mode::Sync, ());
            assert_eq!(moved.tally.moved, 3, "{moved:?}");
            assert_eq!(frame_of(kernel, at(parent, 1)), frame_of(kernel, at(child, 1)));
            store(kernel, at(parent, 1), 3);
            let all = [at(parent, 0), at(child, 0), at(parent, 1), at(child, 1)];
            assert_eq!(all.map(|at| load(kernel, at)), [1, 2, 3, 1]);
            assert_eq!(kernel.destroy_space(parent, ()), Ok(()));
            // The last one left does not copy any more.
            let frame = frame_of(kernel, at(child, 1));
            store(kernel, at(child, 1), 4);
            assert_eq!(frame_of(kernel, at(child, 1)), frame);
        });
    }
}

#[test]
fn a_page_in_flight_is_moved_along_by_mremap_and_found_again() {
    for profile in PROFILES {
        with_kernel(128, 1, Paging::Four, profile, |kernel| {
            let space = kernel.create_space(None).unwrap();
            area(kernel, space, 4);
            for page in 0..4 {
                store(kernel, at(space, page), 10 + page);
            }
            kernel.move_range(space, addr(1), 2, addr(0x1000), ()).unwrap();
            let sites = [0, 0x1000, 0x1001, 3].map(|page| at(space, page));
            let moved = migrate(kernel, &sites, 1, Mode::Sync, ());
            assert_eq!(moved.tally.moved, 4, "{moved:?}");
            assert_eq!(sites.map(|at| load(kernel, at)), [10, 11, 12, 13]);
            assert_eq!(
                access(kernel, 0, at(space, 1), 0, Op::Load, ()),
                None,
                "the old place is empty"
            );
        });
    }
}

#[test]
fn mprotect_takes_what_the_cpu_had_and_gives_it_back_by_faults() {
    with_kernel(128, 2, Paging::Four, &MODERN, |kernel| {
        let space = kernel.create_space(None).unwrap();
        area(kernel, space, 3);
        store(kernel, at(space, 1), 5);
        let protect = |flags| kernel.protect(space, addr(1), 1, flags, ()).unwrap();
        protect(VmaFlags::READ);
        assert_eq!(load(kernel, at(space, 1)), 5);
        assert_eq!(access(kernel, 0, at(space, 1), 0, Op::Store(6), ()), None);
        assert!(
            access(kernel, 0, at(space, 0), 0, Op::Store(6), ()).is_some(),
            "a neighbour"
        );
        protect(VmaFlags::empty());
        assert_eq!(access(kernel, 0, at(space, 1), 0, Op::Load, ()), None);
        let moved = migrate(kernel, &[at(space, 1)], 1, Mode::Sync, ());
        assert_eq!(moved.tally.moved, 1);
        assert!(
            !kernel.word(at(space, 1)).hw_bits().contains(HwBits::USER),
            "restored as the area says"
        );
        assert_eq!(access(kernel, 0, at(space, 1), 0, Op::Load, ()), None);
        protect(VmaFlags::READ | VmaFlags::WRITE | VmaFlags::EXEC);
        assert_eq!(load(kernel, at(space, 1)), 5);
        assert!(!kernel.word(at(space, 1)).hw_bits().contains(HwBits::NO_EXECUTE));
        store(kernel, at(space, 1), 7);
        assert_eq!(load(kernel, at(space, 1)), 7);
    });
}

#[test]
fn a_kernel_that_passes_nonsense_gets_a_typed_error_and_nothing_is_mapped() {
    with_kernel(64, 1, Paging::Four, &MODERN, |kernel| {
        let space = kernel.create_space(None).unwrap();
        area(kernel, space, 4);
        let page = kernel.allocate().unwrap();
        let frame = page.pfn().addr().unwrap();
        let map = |at: u64, frame: PhysAddr| kernel.map_frame(space, VirtAddr::new(at), frame, PteFlags::WRITE);
        let off = PhysAddr::new(frame.raw() + 8);
        assert_eq!(map(AT, off), Err(MapError::MisalignedFrame(off)));
        for pfn in [Pfn::new(0), Pfn::new(BASE.raw() + 64), Pfn::new(1 << 40)] {
            assert_eq!(map(AT, pfn.addr().unwrap()), Err(MapError::FrameOutOfRange(pfn)));
        }
        let free = *kernel.platform().free_frames().last().unwrap();
        assert_eq!(map(AT, free.addr().unwrap()), Err(MapError::FrameFree(free)));
        let root = kernel.space(space).unwrap().root().unwrap();
        assert_eq!(map(AT, root.addr().unwrap()), Err(MapError::NotOfThisArea(root)));
        let wild = VirtAddr::new(1 << 47);
        assert_eq!(map(wild.raw(), frame), Err(MapError::NonCanonical(wild)));
        let upper = VirtAddr::new(!0 << 47);
        assert_eq!(map(upper.raw(), frame), Err(MapError::KernelHalf(upper)));
        assert_eq!(map(AT + 1, frame), Err(MapError::MisalignedPage(VirtAddr::new(AT + 1))));
        assert_eq!(map(0, frame), Err(MapError::NoArea(site(space, 0))));
        let nobody = SpaceId::new(5);
        let nowhere = kernel.map_frame(nobody, addr(0), frame, PteFlags::empty());
        assert_eq!(nowhere, Err(MapError::NoSpace(nobody)));
        let rss = kernel.space(space).unwrap().rss();
        assert_eq!(rss, 0, "nothing was mapped until here");

        let word = map(AT, frame).unwrap();
        assert_eq!(word.frame(), page.pfn());
        let taken = map(AT, frame).unwrap_err();
        assert!(
            matches!(taken, MapError::AlreadyMapped { site, found: Some(_) } if site == at(space, 0)),
            "{taken}"
        );
        assert_eq!(map(AT + 4096, frame), Err(MapError::NotOfThisArea(page.pfn())));
        let unmap = |at, pages| kernel.unmap(space, VirtAddr::new(at), pages, ());
        assert_eq!(unmap(wild.raw(), 1), Err(MapError::NonCanonical(wild)));
        let long = MapError::RangeTooLong {
            start: addr(0),
            pages: u64::MAX,
        };
        assert_eq!(unmap(AT, u64::MAX), Err(long));
        migrate_core::Frames::put(kernel, page);
    });
}

#[test]
fn a_table_that_cannot_be_had_is_an_error_and_leaves_nothing_behind() {
    for left in 0..3 {
        with_kernel(64, 1, Paging::Four, &MODERN, |kernel| {
            let space = kernel.create_space(None).unwrap();
            area(kernel, space, 1);
            kernel.platform().tables.store(left, Ordering::Relaxed);
            let page = kernel.allocate().unwrap();
            let frame = page.pfn().addr().unwrap();
            let map = || kernel.map_frame(space, addr(0), frame, PteFlags::empty());
            assert_eq!(map(), Err(MapError::NoTable));
            let fault = kernel.page_fault(space, addr(0), 2, ActorId::new(1), ());
            assert_eq!(fault, Err(FaultError::Map(MapError::NoTable)));
            kernel.platform().tables.store(9, Ordering::Relaxed);
            assert!(map().is_ok());
            migrate_core::Frames::put(kernel, page);
            let before = kernel.platform().free_frames();
            kernel.platform().tables.store(left, Ordering::Relaxed);
            if left < 1 {
                assert_eq!(kernel.fork(space, ()), Err(MapError::NoTable));
                assert_eq!(kernel.platform().free_frames(), before);
            }
        });
    }
}

#[test]
fn a_fork_that_runs_out_of_tables_takes_its_child_back() {
    with_kernel(64, 1, Paging::Four, &MODERN, |kernel| {
        let space = kernel.create_space(None).unwrap();
        area(kernel, space, 3);
        store(kernel, at(space, 2), 1);
        let before = kernel.platform().free_frames();
        for left in 1..4 {
            kernel.platform().tables.store(left, Ordering::Relaxed);
            assert_eq!(kernel.fork(space, ()), Err(MapError::NoTable));
            assert_eq!(kernel.platform().free_frames(), before);
        }
        kernel.platform().tables.store(4, Ordering::Relaxed);
        assert!(kernel.fork(space, ()).is_ok());
        store(kernel, at(space, 2), 2);
    });
}

#[test]
fn empty_tables_are_freed_and_shared_ones_stay() {
    with_kernel(64, 1, Paging::Five, &MODERN, |kernel| {
        let space = kernel.create_space(None).unwrap();
        let before = kernel.platform().free_frames().len();
        // The last page of one table and the first of the next: two tables of entries under one of the second level.
        let edge = VirtAddr::new((1 << 30) + (2 << 20) - 4096);
        kernel.map_area(space, edge, 2, READ_WRITE).unwrap();
        let sites = [site(space, edge.raw()), site(space, edge.raw() + 4096)];
        sites.iter().for_each(|at| store(kernel, *at, 1));
        kernel.drain();
        let tables = 5;
        assert_eq!(kernel.platform().free_frames().len(), before - tables - 2);
        kernel.unmap(space, edge, 1, ()).unwrap();
        assert_eq!(kernel.platform().free_frames().len(), before - (tables - 1) - 1);
        assert_eq!(load(kernel, sites[1]), 1);
        kernel.unmap(space, VirtAddr::new(edge.raw() + 4096), 1, ()).unwrap();
        assert_eq!(kernel.platform().free_frames().len(), before);
    });
}

#[test]
fn without_shootdowns_a_cpu_reads_the_frame_that_a_page_left() {
    for profile in PROFILES {
        for deaf in [false, true] {
            with_kernel(64, 1, Paging::Four, profile, |kernel| {
                let space = kernel.create_space(None).unwrap();
                area(kernel, space, 1);
                store(kernel, at(space, 0), 1);
                kernel.platform().deaf.store(deaf, Ordering::Relaxed);
                let moved = migrate(kernel, &[at(space, 0)], 1, Mode::Sync, ());
                assert_eq!(moved.tally.moved, 1);
                let stale = load(kernel, at(space, 0));
                assert_eq!(stale == 1, !deaf, "{stale:#x}");
            });
        }
    }
}

// A translation of CPU 0 is stale until the shootdown of an unmapping ends; meanwhile others give up what they hold of the page.
fn last_reference_goes_before_the_shootdown(profile: &'static Profile, isolated: bool) {
    with_kernel(64, 1, Paging::Four, profile, |kernel| {
        let space = kernel.create_space(None).unwrap();
        area(kernel, space, 1);
        store(kernel, at(space, 0), 1);
        let (machine, root) = (kernel.platform(), kernel.space(space).unwrap().root().unwrap());
        let frame = frame_of(kernel, at(space, 0));
        let other = isolated.then(|| {
            kernel.drain();
            kernel.isolate(&PageRef::counted(frame)).unwrap()
        });
        let (seen, free) = machine.during_shootdown(
            || kernel.unmap(space, addr(0), 1, ()).unwrap(),
            || {
                // The migrator's reference, or that of the staging.
                if let Some(page) = other {
                    kernel.putback_direct(page);
                }
                kernel.drain();
                let seen = machine.access(0, root, space, at(space, 0).page, 0, Op::Store(2));
                (seen, machine.free_frames().contains(&frame))
            },
        );
        assert_eq!(seen, Ok(1), "the translation is there, and leads to the page");
        assert!(!free, "{frame:?} is free, and a program has just written to it");
        assert!(machine.free_frames().contains(&frame), "nobody has it any more");
    });
}

#[test]
fn a_frame_that_a_stale_translation_reaches_is_not_free() {
    for profile in PROFILES {
        for isolated in [false, true] {
            last_reference_goes_before_the_shootdown(profile, isolated);
        }
    }
}

#[test]
fn what_a_move_left_stale_is_flushed_by_whoever_takes_the_page_from_its_new_place() {
    for unmaps in [false, true] {
        with_kernel(64, 1, Paging::Four, &MODERN, |kernel| {
            let space = kernel.create_space(None).unwrap();
            area(kernel, space, 1);
            store(kernel, at(space, 0), 1);
            let (machine, root) = (kernel.platform(), kernel.space(space).unwrap().root().unwrap());
            let stale = machine.during_shootdown(
                || kernel.move_range(space, addr(0), 1, addr(8), ()).unwrap(),
                || {
                    if unmaps {
                        kernel.unmap(space, addr(8), 1, ()).unwrap();
                    } else {
                        let moved = migrate(kernel, &[at(space, 8)], 1, Mode::Sync, ());
                        assert_eq!(moved.tally.moved, 1, "{moved:?}");
                    }
                    machine.access(0, root, space, at(space, 0).page, 0, Op::Store(2))
                },
            );
            assert!(stale.is_err(), "a store to the frame that the page left: {stale:?}");
            assert_eq!(load_or_none(kernel, at(space, 8)), (!unmaps).then_some(1));
        });
    }
}

fn load_or_none(kernel: &Host<'_>, at: mm_types::Site) -> Option<u64> {
    access(kernel, 0, at, 0, Op::Load, ())
}

#[test]
fn an_unmapping_of_more_shared_pages_than_a_gather_holds_flushes_in_between_and_is_not_seen_half_done() {
    let pages = Gather::OWED as u64 + 6;
    with_kernel(512, 2, Paging::Four, &MODERN, |kernel| {
        let parent = kernel.create_space(None).unwrap();
        area(kernel, parent, pages);
        (0..pages).for_each(|page| store(kernel, at(parent, page), 100 + page));
        let child = kernel.fork(parent, ()).unwrap();
        let (machine, root) = (kernel.platform(), kernel.space(child).unwrap().root().unwrap());
        let mut frames = Vec::new();
        for page in 0..pages {
            assert_eq!(access(kernel, 1, at(child, page), 0, Op::Load, ()), Some(100 + page));
            frames.push(frame_of(kernel, at(child, page)));
        }
        let before = machine.shootdowns.load(Ordering::Relaxed);
        machine.during_shootdown(
            || kernel.unmap(child, addr(0), pages, ()).unwrap(),
            || {
                // Nothing is mapped there any more, not even a copy, where there are entries still.
                assert_eq!(load_or_none(kernel, at(child, 0)), None);
                let last = access(kernel, 0, at(child, pages - 1), 0, Op::Store(1), ());
                assert_eq!(last, None);
                // The last who has the pages goes; CPU 1 has heard of nothing.
                kernel.unmap(parent, addr(0), pages, ()).unwrap();
                kernel.drain();
                let free = machine.free_frames();
                for (page, frame) in (0..pages).zip(&frames) {
                    let seen = machine.access(1, root, child, at(child, page).page, 0, Op::Load);
                    assert_eq!(seen, Ok(100 + page));
                    assert!(!free.contains(frame), "{frame:?} of page {page}");
                }
                let grandchild = kernel.fork(child, ()).unwrap();
                assert_eq!(load_or_none(kernel, at(grandchild, pages - 1)), None);
            },
        );
        assert!(machine.shootdowns.load(Ordering::Relaxed) > before + 2);
        assert_eq!(kernel.area(at(child, 0)), Err(MapError::NoArea(at(child, 0))));
        let free = machine.free_frames();
        assert!(frames.iter().all(|frame| free.contains(frame)));
    });
}

#[test]
fn a_batch_is_flushed_with_one_shootdown_and_restoring_needs_none() {
    with_kernel(256, 1, Paging::Four, &MODERN, |kernel| {
        let space = kernel.create_space(None).unwrap();
        // One page, the last count that goes page by page, and more. Miri looks at something else, and slowly.
        let (most, counts) = if cfg!(miri) { (2, [1, 1, 2]) } else { (64, [1, 33, 64]) };
        area(kernel, space, most);
        let sites: Vec<_> = (0..most).map(|page| at(space, page)).collect();
        sites.iter().for_each(|at| store(kernel, *at, 1));
        for pages in counts {
            let before = kernel.platform().shootdowns.load(Ordering::Relaxed);
            let moved = migrate(kernel, &sites[..pages], 1, Mode::Async, ());
            assert_eq!(moved.tally.moved as usize, pages);
            assert_eq!(kernel.platform().shootdowns.load(Ordering::Relaxed), before + 1);
            migrate(kernel, &sites, 0, Mode::Async, ());
        }
    });
}

#[test]
fn a_store_through_a_fault_for_nothing_is_only_run_again() {
    with_kernel(64, 2, Paging::Four, &MODERN, |kernel| {
        let space = kernel.create_space(None).unwrap();
        area(kernel, space, 1);
        let fault = |code| kernel.page_fault(space, addr(0), code, ActorId::new(1), ());
        assert_eq!(fault(2), Ok(Faulted::Zeroed));
        assert_eq!(fault(3), Ok(Faulted::Spurious), "another CPU was first");
        assert_eq!(fault(1 << 4), Err(FaultError::NotAllowed), "no execution");
        let outside = kernel.page_fault(space, addr(9), 0, ActorId::new(1), ());
        assert_eq!(outside, Err(FaultError::NotAllowed));
    });
}

// Two programs add to counters in pages they share, and in private ones, while everything moves to and fro.
fn storm(profile: &'static Profile, mode: Mode, adds: u64) {
    with_kernel(256, 2, Paging::Four, profile, |kernel| {
        let first = kernel.create_space(None).unwrap();
        let flags = READ_WRITE | VmaFlags::SHARED;
        kernel.map_area(first, addr(0), 4, flags).unwrap();
        kernel.map_area(first, addr(16), 4, READ_WRITE).unwrap();
        for page in [0, 1, 2, 3, 16, 17, 18, 19] {
            store(kernel, at(first, page), 0);
        }
        let second = kernel.fork(first, ()).unwrap();
        let (done, moves) = (AtomicBool::new(false), AtomicU64::new(0));
        let sites: Vec<_> = [first, second]
            .iter()
            .flat_map(|space| [0, 1, 2, 3, 16, 17, 18, 19].map(|page| at(*space, page)))
            .collect();
        std::thread::scope(|threads| {
            let running: Vec<_> = [first, second]
                .into_iter()
                .enumerate()
                .map(|(cpu, space)| {
                    threads.spawn(move || {
                        for n in 0..adds {
                            let page = n % 4;
                            let shared = access(kernel, cpu, at(space, page), cpu, Op::Add(1), ()).unwrap();
                            assert_eq!(shared, n / 4, "a store was lost, or another's was seen");
                            let private = access(kernel, cpu, at(space, 16 + page), 0, Op::Add(1), ()).unwrap();
                            assert_eq!(private, n / 4, "the other's copy was written");
                        }
                    })
                })
                .collect();
            let (done, moves) = (&done, &moves);
            threads.spawn(move || {
                for node in [1, 0].into_iter().cycle() {
                    let moved = migrate(kernel, &sites, node, mode, ());
                    moves.fetch_add(moved.tally.moved.into(), Ordering::Relaxed);
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
            let failed = running.into_iter().map(|thread| thread.join().is_err());
            let failed = failed.fold(false, |any, one| any | one);
            done.store(true, Ordering::Relaxed);
            assert!(!failed);
        });
        assert!(moves.load(Ordering::Relaxed) > 0);
        for page in 0..4 {
            let total = |cpu| access(kernel, 0, at(first, page), cpu, Op::Load, ()).unwrap();
            assert_eq!(total(0) + total(1), adds / 4 * 2);
        }
    });
}

const ADDS: u64 = if cfg!(miri) { 8 } else { 40_000 };

#[test]
fn no_store_is_lost_while_pages_move_by_the_rules_of_2006() {
    storm(&LINUX_2_6_17, Mode::Sync, ADDS);
}

#[test]
fn no_store_is_lost_while_pages_move_asynchronously() {
    storm(&MODERN, Mode::Async, ADDS);
}

#[test]
fn no_store_is_lost_while_pages_move_in_batches_and_wait() {
    storm(&MODERN, Mode::Sync, ADDS);
}

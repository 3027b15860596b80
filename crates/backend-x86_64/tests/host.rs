//! The backend over an arena of ordinary memory, with CPUs that keep stale translations until they are told.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use backend_x86_64::{FaultError, Faulted, HwBits, MapError, Paging};
use migrate_core::{LINUX_2_6_17, Lru as _, MODERN, Profile};
use mm_types::{ActorId, Mode, Pfn, PhysAddr, PteFlags, SpaceId, VirtAddr, VmaFlags};

mod support;
use support::{
    AT, BASE, Op, PROFILES, READ_WRITE, access, addr, area, at, frame_of, load, migrate, site, store, with_kernel,
};

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
fn a_table_that_was_freed_is_not_written_to_again() {
    with_kernel(64, 1, Paging::Four, &MODERN, |kernel| {
        let fault = |space| kernel.page_fault(space, addr(0), 2, ActorId::new(1), ());
        let space = kernel.create_space(None).unwrap();
        area(kernel, space, 1);
        assert_eq!(fault(space), Ok(Faulted::Zeroed));
        // The next table is another frame than the one that goes.
        kernel.unmap(space, addr(0), 1, ()).unwrap();
        area(kernel, space, 1);
        assert_eq!(fault(space), Ok(Faulted::Zeroed));
        assert!(
            kernel.entry(at(space, 0)).is_present(),
            "it is where a walk from the root comes to"
        );
        // A space of the same number has other tables.
        kernel.destroy_space(space, ()).unwrap();
        assert_eq!(kernel.create_space(None), Ok(space));
        area(kernel, space, 1);
        assert_eq!(fault(space), Ok(Faulted::Zeroed));
        assert!(kernel.entry(at(space, 0)).is_present());
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

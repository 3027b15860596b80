//! Which flush comes when, seen by CPUs that keep stale translations until they are told.

use core::sync::atomic::Ordering;

use backend_x86_64::{Gather, MapError, Paging};
use migrate_core::{Lru as _, MODERN, PageRef, Profile};
use mm_types::Mode;

mod support;
use support::{Host, Op, PROFILES, access, addr, area, at, frame_of, load, migrate, store, with_kernel};

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
#[cfg_attr(miri, ignore = "more pages than Miri gets through in minutes")]
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

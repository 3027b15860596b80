//! What changes address spaces, against a migration: fork, mremap, munmap, mprotect.

use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use migrate_core::model::{Access, Op};
use mm_types::Vpn;

use crate::explore::Rules;
use crate::world::{World, join, site};

/// A child sees what its parent had written when it forked, and no store of either is seen by the other (I15, B1, B22).
pub(crate) fn fork_against_restore(rules: Rules) {
    let world = World::new(rules);
    let space = world.anon(2, 10);
    // The CPU that stores has the translation already: only a flush stops it.
    world.write(1, site(space, 0), 10);
    // Core's own: telling of a store is no step of the schedule.
    let written = Arc::new(AtomicU64::new(10));
    let stores = Arc::clone(&written);
    join([
        world.spawn(move |world| {
            world.migrate(&[site(space, 0), site(space, 1)], 1);
        }),
        world.spawn(move |world| {
            for word in 11..14 {
                // May be seen from before the store returns.
                stores.store(word, Ordering::Relaxed);
                world.write(1, site(space, 0), word);
                assert_eq!(world.read(1, site(space, 0)), word, "I9: the parent's own store");
            }
        }),
        world.spawn(move |world| {
            let before = written.load(Ordering::Relaxed) - 1;
            let child = world.model.fork(space, world.watch());
            let after = written.load(Ordering::Relaxed);
            let seen = world.read(2, site(child, 0));
            assert!(
                (before.max(10)..=after).contains(&seen),
                "I9: the child sees {seen}; the parent had stored {before} and went on to {after}"
            );
            assert_eq!(
                world.read(2, site(child, 0)),
                seen,
                "I15: the parent's store is seen by the child"
            );
            world.write(2, site(child, 0), 1000);
            assert_eq!(world.read(2, site(child, 0)), 1000, "I9: the child's own store");
            assert_eq!(world.read(2, site(child, 1)), 11, "I8: the child's other page");
        }),
    ]);
    assert_eq!(world.read(3, site(space, 0)), 13, "I9: the parent's last store");
    assert_eq!(world.read(3, site(space, 1)), 11, "I9: the parent's other page");
    world.finish();
}

/// A page that mremap moves to another address meanwhile is found there by whoever restores its entry (B2).
pub(crate) fn mremap_against_restore(rules: Rules) {
    let world = World::new(rules);
    let space = world.anon(2, 20);
    world.write(1, site(space, 0), 20);
    join([
        world.spawn(move |world| {
            world.migrate(&[site(space, 0), site(space, 1)], 1);
            world.migrate(&[site(space, 8), site(space, 16)], 0);
        }),
        world.spawn(move |world| {
            for (from, to) in [(0, 8), (8, 16)] {
                let moved = world.model.mremap(site(space, from), 2, Vpn::new(to), world.watch());
                assert!(moved, "the new place is empty");
                world.count_up(1, site(space, to), 100 + to, 2);
                assert_eq!(
                    world.access(1, site(space, from), Op::Read),
                    Access::Segv,
                    "the old place"
                );
                assert_eq!(world.read(1, site(space, to + 1)), 21, "I8: the second page");
            }
        }),
    ]);
    assert_eq!(world.read(2, site(space, 16)), 117, "I9: the last store");
    world.finish();
}

/// munmap clears entries of pages in flight; other spaces' mappings of the same page come back.
pub(crate) fn zap_against_entry(rules: Rules) {
    let world = World::new(rules);
    let space = world.anon(2, 30);
    let child = world.model.fork(space, world.watch());
    world.write(1, site(space, 1), 31);
    world.read(2, site(child, 0));
    join([
        world.spawn(move |world| {
            world.migrate(&[site(space, 0), site(space, 1)], 1);
        }),
        world.spawn(move |world| {
            world.model.munmap(site(space, 0), 1, world.watch());
            assert_eq!(world.access(1, site(space, 0), Op::Read), Access::Segv, "unmapped");
            world.count_up(1, site(space, 1), 300, 2);
        }),
        world.spawn(move |world| {
            assert_eq!(world.read(2, site(child, 0)), 30, "I8: the child's mapping");
            world.model.exit(child, world.watch());
            assert_eq!(
                world.access(2, site(child, 1), Op::Read),
                Access::Segv,
                "the child is gone"
            );
        }),
    ]);
    assert_eq!(world.read(3, site(space, 1)), 301, "I9: the last store");
    assert_eq!(
        (world.model.rss(space), world.model.rss(child)),
        ((1, 0), (0, 0)),
        "I27"
    );
    world.finish();
}

/// Once mprotect returns nobody stores any more, whatever was in flight (I14, B16).
pub(crate) fn mprotect_against_entry(rules: Rules) {
    let world = World::new(rules);
    let space = world.anon(1, 40);
    let at = site(space, 0);
    world.write(1, at, 40);
    let last = Arc::new(AtomicU64::new(40));
    let stored = Arc::clone(&last);
    join([
        world.spawn(move |world| {
            world.migrate(&[at], 1);
        }),
        world.spawn(move |world| {
            for word in 41..46 {
                match world.access(1, at, Op::Write(word)) {
                    Access::Done(_) => {
                        stored.store(word, Ordering::Relaxed);
                        assert_eq!(world.read(1, at), word, "I9: a load after the store");
                    }
                    Access::Segv => {}
                    other => panic!("I8: a store ends with {other:?}"),
                }
            }
        }),
        world.spawn(move |world| {
            world.model.protect(at, 1, false, world.watch());
            let seen = world.read(2, at);
            assert_eq!(world.access(2, at, Op::Write(9)), Access::Segv, "I14: read-only");
            assert_eq!(world.read(2, at), seen, "I14: a store to read-only memory");
            world.model.protect(at, 1, true, world.watch());
        }),
    ]);
    assert_eq!(world.read(3, at), last.load(Ordering::Relaxed), "I9: the last store");
    world.write(3, at, 99);
    world.finish();
}

//! Crowds: many who wait for one page, and everything at once.

use migrate_core::Mover;
use migrate_core::model::{Access, Op, WritePage};
use mm_types::{Outcome, Vpn};

use crate::explore::Rules;
use crate::world::{World, join, site};

pub(crate) fn one_waiter(rules: Rules) {
    waiters(rules, 1);
}

pub(crate) fn two_waiters(rules: Rules) {
    waiters(rules, 2);
}

pub(crate) fn eight_waiters(rules: Rules) {
    waiters(rules, 8);
}

/// Waiting for a page does not keep it from moving (B31, I24); in 2006 it does, and the page moves once nobody comes any more.
fn waiters(rules: Rules, crowd: u32) {
    let world = World::new(rules);
    let space = world.anon(1, 10);
    let at = site(space, 0);
    let mut threads = vec![world.spawn(move |world| {
        let (tally, outcomes) = world.migrate(&[at], 1);
        if world.rules.modern() {
            assert_eq!(tally.moved, 1, "I24: waiters kept the page from moving: {outcomes:?}");
        }
    })];
    threads.extend((0..crowd).map(|n| world.spawn(move |world| assert_eq!(world.read(1 + n % 4, at), 10, "I9"))));
    join(threads);
    // From wherever it is now.
    let node = u16::from(world.model.node_of(world.frames(&[at])[0]).raw() == 0);
    let (_, outcomes) = world.migrate(&[at], node);
    assert!(
        matches!(outcomes.last(), Some((_, Outcome::Moved { .. }))),
        "I24: nobody waits any more, and yet: {outcomes:?}"
    );
    assert_eq!(world.read(5, at), 10, "I9");
    world.finish();
}

/// Two migrations with batches, two who store, one who forks and unmaps, and reclaim.
pub(crate) fn everything_on_anonymous_memory(rules: Rules) {
    let world = World::with_frames(rules, 12);
    let space = world.anon(4, 10);
    let sites = [0, 1, 2, 3].map(|n| site(space, n));
    world.write(1, sites[0], 10);
    world.write(2, sites[1], 11);
    join([
        world.spawn(move |world| {
            world.migrate(&sites[..3], 1);
        }),
        world.spawn(move |world| {
            world.migrate(&[sites[3], sites[2], sites[1]], 1);
            world.migrate(&sites[1..], 0);
        }),
        world.spawn(move |world| world.count_up(1, sites[0], 100, 3)),
        world.spawn(move |world| world.count_up(2, sites[1], 200, 3)),
        world.spawn(move |world| {
            let child = world.model.fork(space, world.watch());
            // Unless the parent unmapped it first.
            let seen = world.access(3, site(child, 3), Op::Read);
            assert!(
                matches!(seen, Access::Done(13) | Access::Segv),
                "I8: the child's page: {seen:?}"
            );
            world.write(3, site(child, 2), 500);
            assert!(
                world.model.mremap(site(child, 2), 1, Vpn::new(9), world.watch()),
                "an empty place"
            );
            assert_eq!(world.read(3, site(child, 9)), 500, "I9: the child's own store");
            world.model.exit(child, world.watch());
        }),
        world.spawn(move |world| {
            for pfn in world.frames(&sites[1..3]) {
                world.model.reclaim(pfn, world.watch());
            }
            world.model.munmap(sites[3], 1, world.watch());
            assert_eq!(world.access(4, sites[3], Op::Read), Access::Segv, "unmapped");
        }),
    ]);
    for (at, word) in [(sites[0], 102), (sites[1], 202), (sites[2], 12)] {
        assert_eq!(world.read(5, at), word, "I9: the last store at {at:?}");
    }
    world.finish();
}

/// Two migrations, two who store through mappings of their own, one who reads and writes the file, write-back, and a truncation.
pub(crate) fn everything_on_files(rules: Rules) {
    let world = World::with_frames(rules, 12);
    let file = world.model.create_file(3, Mover::Plain, WritePage::Unlocks);
    let (space, other) = (world.model.new_space(), world.model.new_space());
    world.model.map_file(site(space, 0), 3, file, 0, true);
    world.model.map_file(site(other, 0), 3, file, 0, true);
    for n in 0..3 {
        world.write(0, site(space, n), 10 + n);
        world.read(0, site(other, n));
    }
    world.write(1, site(space, 0), 10);
    world.write(2, site(other, 1), 11);
    join([
        world.spawn(move |world| {
            world.migrate(&[site(space, 0), site(space, 1), site(space, 2)], 1);
        }),
        world.spawn(move |world| {
            world.migrate(&[site(other, 1), site(other, 0)], 1);
        }),
        world.spawn(move |world| world.count_up(1, site(space, 0), 100, 3)),
        world.spawn(move |world| world.count_up(2, site(other, 1), 200, 3)),
        world.spawn(move |world| {
            let mut last = 0;
            for _ in 0..3 {
                let seen = world.read_file(file, 0).expect("the file has the page");
                assert!(
                    seen == 10 || (100..103).contains(&seen) && seen >= last,
                    "I9: read {seen:#x} after {last}"
                );
                last = seen;
            }
            for pfn in world.frames(&[site(space, 1)]) {
                world.model.write_back(pfn);
            }
        }),
        world.spawn(move |world| {
            world.model.truncate(file, 2, world.watch());
            assert_eq!(world.access(3, site(other, 2), Op::Read), Access::Bus, "beyond the end");
        }),
    ]);
    for (at, word) in [(site(other, 0), 102), (site(space, 1), 202)] {
        assert_eq!(world.read(5, at), word, "I9: the last store at {at:?}");
    }
    world.finish();
}

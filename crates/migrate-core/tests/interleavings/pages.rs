//! Who else has to do with a page: faults, another migration, reclaim, whoever frees it, whoever pins it.

use migrate_core::model::Model;
use mm_types::{Outcome, Pfn};

use crate::explore::{Rules, mark};
use crate::meeting::Meeting;
use crate::world::{World, join, site};

/// Threads go on storing while their pages move, on CPUs of their own; one more comes late.
pub(crate) fn fault_against_migrate(rules: Rules) {
    let world = World::new(rules);
    let space = world.anon(2, 10);
    world.write(1, site(space, 0), 10);
    world.write(2, site(space, 1), 11);
    join([
        world.spawn(move |world| {
            world.migrate(&[site(space, 0), site(space, 1)], 1);
        }),
        world.spawn(move |world| world.count_up(1, site(space, 0), 100, 3)),
        world.spawn(move |world| world.count_up(2, site(space, 1), 200, 3)),
        world.spawn(move |world| {
            let mut last = 10;
            for _ in 0..2 {
                let seen = world.read(3, site(space, 0));
                assert!(
                    seen == last || (100..103).contains(&seen) && seen >= last,
                    "I9: {seen} after {last}"
                );
                last = seen;
            }
        }),
    ]);
    assert_eq!(world.read(4, site(space, 0)), 102, "I9: the last store");
    assert_eq!(world.read(4, site(space, 1)), 202, "I9: the last store");
    world.finish();
}

/// Two want the same page elsewhere; each of its outcomes is told once to whoever isolated it.
pub(crate) fn two_migrators_on_one_page(rules: Rules) {
    let world = World::new(rules);
    let space = world.anon(2, 10);
    let sites = [site(space, 0), site(space, 1)];
    world.write(1, sites[0], 10);
    join([
        world.spawn(move |world| outcomes_are_whole(&world.migrate(&sites, 1).1)),
        world.spawn(move |world| outcomes_are_whole(&world.migrate(&[sites[1], sites[0]], 0).1)),
        world.spawn(move |world| world.count_up(1, sites[0], 100, 3)),
    ]);
    assert_eq!(world.read(2, sites[0]), 102, "I9: the last store");
    assert_eq!(world.read(2, sites[1]), 11, "I9: the other page");
    world.finish();
}

/// The last word on each page is said once (I29).
fn outcomes_are_whole(outcomes: &[(Pfn, Outcome)]) {
    let mut told: Vec<Pfn> = Vec::new();
    for (pfn, outcome) in outcomes {
        if !matches!(outcome, Outcome::Retry(_)) {
            assert!(!told.contains(pfn), "I29: {pfn:?} has two outcomes: {outcomes:?}");
            told.push(*pfn);
        }
    }
}

/// Reclaim isolates the same pages, puts one back and swaps one out.
pub(crate) fn migrate_against_reclaim(rules: Rules) {
    let world = World::new(rules);
    let space = world.anon(2, 10);
    let sites = [site(space, 0), site(space, 1)];
    world.write(1, sites[1], 11);
    join([
        world.spawn(move |world| {
            world.migrate(&sites, 1);
        }),
        world.spawn(move |world| {
            for pfn in world.frames(&sites[..1]) {
                if let Ok(page) = world.isolate(pfn) {
                    let mut list = std::collections::VecDeque::from([page]);
                    migrate_core::putback_lru_pages(&world.model, &mut list, world.watch());
                }
            }
            for pfn in world.frames(&sites[1..]) {
                world.model.reclaim(pfn, world.watch());
            }
        }),
        world.spawn(move |world| world.count_up(1, sites[1], 100, 3)),
    ]);
    assert_eq!(world.read(2, sites[0]), 10, "I9: the page that nobody stores to");
    assert_eq!(world.read(2, sites[1]), 102, "I9: the last store");
    world.finish();
}

/// A page is freed, and its frame used again, while somebody isolates it to move it (B35, I25).
pub(crate) fn isolation_against_free(rules: Rules) {
    let world = World::new(rules);
    let space = world.anon(2, 10);
    let sites = [site(space, 0), site(space, 1)];
    join([
        world.spawn(move |world| {
            let frames = world.frames(&sites);
            world.migrate_frames(&frames, 1);
            world.migrate_frames(&frames, 1);
        }),
        world.spawn(move |world| world.model.munmap(sites[0], 1, world.watch())),
        world.spawn(move |world| {
            let other = world.anon(1, 50);
            world.count_up(1, site(other, 0), 100, 1);
            world.model.exit(other, world.watch());
            world.count_up(1, sites[1], 200, 1);
        }),
    ]);
    assert_eq!(world.read(2, sites[1]), 200, "I9: the last store");
    world.finish();
}

/// Pins what a site maps, as `get_user_pages_fast` does: the entry is looked at again once the page is held.
fn pin_at(model: &Model, at: mm_types::Site) -> Option<Pfn> {
    let mapped = |pte: mm_types::Pte| Some(pte).filter(|pte| pte.is_present() && pte.writable())?.pfn();
    let pfn = mapped(model.pte(at))?;
    if !model.pin(pfn) {
        mark(Meeting::Frozen);
        return None;
    }
    if mapped(model.pte(at)) == Some(pfn) {
        return Some(pfn);
    }
    model.unpin(pfn);
    None
}

/// What a device stores through a pin is not lost: a pinned page does not move, and one that moves cannot be pinned (I19, I35).
pub(crate) fn pin_against_freeze(rules: Rules) {
    let world = World::new(rules);
    let space = world.anon(1, 10);
    let at = site(space, 0);
    join([
        world.spawn(move |world| {
            world.migrate(&[at], 1);
            world.migrate(&[at], 0);
        }),
        world.spawn(move |world| {
            let mut word = 10;
            for _ in 0..3 {
                if let Some(pfn) = pin_at(&world.model, at) {
                    word += 1;
                    world.model.set_word(pfn, word);
                    world.model.dirty_page(pfn);
                    assert_eq!(world.model.word(pfn), word, "I35: stored through the pin");
                    world.model.unpin(pfn);
                }
                assert_eq!(world.read(1, at), word, "I9: what the device stored");
            }
        }),
    ]);
    world.finish();
}

//! Swap-in against the migration of the page in the swap cache.

use crate::explore::Rules;
use crate::world::{World, join, site};

/// Parent and child fault a page in from swap while it moves from one frame to the next, in the swap cache or out of it.
pub(crate) fn swap_in_against_swap_cache_migration(rules: Rules) {
    let world = World::new(rules);
    let space = world.anon(1, 10);
    let child = world.model.fork(space, world.watch());
    let (ours, theirs) = (site(space, 0), site(child, 0));
    for pfn in world.frames(&[ours]) {
        assert!(world.model.reclaim(pfn, world.watch()), "nobody else has the page");
    }
    join([
        world.spawn(move |world| {
            world.migrate(&[ours, theirs], 1);
            for pfn in world.frames(&[theirs]) {
                world.model.swap_cache(pfn);
            }
            world.migrate(&[ours, theirs], 1);
        }),
        world.spawn(move |world| {
            assert_eq!(world.read(1, ours), 10, "I9: swapped in");
            world.count_up(1, ours, 100, 2);
        }),
        world.spawn(move |world| {
            assert_eq!(world.read(2, theirs), 10, "I15: the child's page");
            for pfn in world.frames(&[theirs]) {
                world.model.reclaim(pfn, world.watch());
            }
            assert_eq!(world.read(2, theirs), 10, "I15: the child's page, out and in again");
        }),
    ]);
    assert_eq!(world.read(3, ours), 101, "I9: the last store");
    assert_eq!(world.read(3, theirs), 10, "I15: the child's page");
    world.finish();
}

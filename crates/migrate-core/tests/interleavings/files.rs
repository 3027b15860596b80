//! Pages of files: lookups, buffers, writing out, truncation.

use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use migrate_core::Mover;
use migrate_core::model::{Access, Op, POISON, WritePage};

use crate::explore::{Rules, mark};
use crate::meeting::Meeting;
use crate::world::{World, join, site};

/// Who looks a page up in the cache while it moves finds the old page or the new one, with its contents (I9, I10, I18, B30).
pub(crate) fn lookup_against_switch(rules: Rules) {
    let world = World::new(rules);
    let file = world.model.create_file(1, Mover::Plain, WritePage::Unlocks);
    let space = world.model.new_space();
    let at = site(space, 0);
    world.model.map_file(at, 1, file, 0, true);
    world.write(1, at, 10);
    join([
        world.spawn(move |world| {
            world.migrate(&[at], 1);
        }),
        world.spawn(move |world| {
            let mut last = 10;
            for _ in 0..3 {
                let seen = world.read_file(file, 0).expect("the file has the page");
                assert!((last..14).contains(&seen), "I9: read {seen:#x} after {last}");
                last = seen;
            }
        }),
        world.spawn(move |world| {
            for word in 11..14 {
                assert!(world.write_file(file, 0, word), "the file has the page");
                assert_eq!(world.read_file(file, 0), Some(word), "I9: read after write");
                assert_eq!(world.read(1, at), word, "I9: mapped, after write");
            }
        }),
    ]);
    assert_eq!(world.read(2, at), 13, "I9: the last write");
    assert_eq!(world.read_file(file, 0), Some(13), "I9: the last write");
    world.finish();
}

/// I/O on a page's buffers and their move keep each other out (B26, B27).
pub(crate) fn buffers_against_switch(rules: Rules) {
    let world = World::new(rules);
    let file = world.model.create_file(1, Mover::Buffers, WritePage::Unlocks);
    let space = world.model.new_space();
    let at = site(space, 0);
    world.model.map_file(at, 1, file, 0, true);
    world.write(1, at, 10);
    join([
        world.spawn(move |world| {
            world.migrate(&[at], 1);
        }),
        world.spawn(move |world| {
            for _ in 0..2 {
                let Some(pfn) = world.model.cached(file, 0) else {
                    continue;
                };
                if world.model.lock_buffer(pfn) {
                    let seen = world.model.word(pfn);
                    assert_ne!(seen, POISON, "I10: I/O on a page without contents");
                    world.model.set_buffers_busy(pfn, false);
                } else {
                    mark(Meeting::BuffersTaken);
                }
            }
        }),
        world.spawn(move |world| world.count_up(1, at, 100, 2)),
    ]);
    assert_eq!(world.read(2, at), 101, "I9: the last store");
    assert_eq!(world.read_file(file, 0), Some(101), "I9: the last store");
    world.finish();
}

/// A dirty page of a file without a mover is written out, unlocked, while others touch it (B50, I11).
pub(crate) fn write_out_unlocks(rules: Rules) {
    write_out(rules, WritePage::Unlocks);
}

/// As above; the page stays under writeback, and the migration waits for that.
pub(crate) fn write_out_starts(rules: Rules) {
    write_out(rules, WritePage::Starts);
}

/// As above; the write fails once the page is unlocked, and its contents are not forgotten (B51).
pub(crate) fn write_out_fails_unlocked(rules: Rules) {
    write_out(rules, WritePage::FailsUnlocked);
}

fn write_out(rules: Rules, how: WritePage) {
    let world = World::new(rules);
    let file = world.model.create_file(1, Mover::Fallback, how);
    let space = world.model.new_space();
    let at = site(space, 0);
    world.model.map_file(at, 1, file, 0, true);
    world.write(0, at, 10);
    let pfn = world.frames(&[at])[0];
    world.model.write_back(pfn);
    world.write(1, at, 11);
    // Core's own: telling that there is no more to write is no step of the schedule.
    let over = Arc::new(AtomicBool::new(false));
    let last = Arc::clone(&over);
    let mut threads = vec![
        world.spawn(move |world| {
            world.migrate(&[at], 1);
            last.store(true, Ordering::Relaxed);
        }),
        world.spawn(move |world| world.count_up(1, at, 100, 2)),
    ];
    if how == WritePage::Starts {
        // The disk: whatever is being written is written some time.
        threads.push(world.spawn(move |world| {
            while !over.load(Ordering::Relaxed) {
                world
                    .model
                    .cached(file, 0)
                    .into_iter()
                    .for_each(|pfn| world.model.end_io(pfn));
                mm_types::sync::spin_loop();
            }
        }));
    }
    join(threads);
    world
        .model
        .cached(file, 0)
        .into_iter()
        .for_each(|pfn| world.model.end_io(pfn));
    assert_eq!(world.read(2, at), 101, "I9: the last store");
    for pfn in world.frames(&[at]) {
        world.model.write_back(pfn);
    }
    assert_eq!(
        world.model.stored(file, 0),
        Some(101),
        "I11: what is in storage in the end"
    );
    world.finish();
}

/// After a truncate no entry is left beyond the end, of the page or of a private copy, in flight or not (B39).
pub(crate) fn truncate_against_entry(rules: Rules) {
    let world = World::new(rules);
    let file = world.model.create_file(2, Mover::Plain, WritePage::Unlocks);
    let (space, other) = (world.model.new_space(), world.model.new_space());
    world.model.map_file(site(space, 0), 2, file, 0, true);
    world.model.map_file(site(other, 0), 2, file, 0, false);
    for n in 0..2 {
        world.write(0, site(space, n), 10 + n);
    }
    // The other space has not touched the page that goes: its faults look it up.
    world.read(2, site(other, 0));
    world.write(2, site(space, 0), 10);
    world.read(3, site(space, 1));
    join([
        world.spawn(move |world| {
            world.migrate(&[site(space, 0), site(space, 1)], 1);
        }),
        world.spawn(move |world| {
            world.model.truncate(file, 1, world.watch());
            for space in [space, other] {
                assert!(
                    world.model.pte(site(space, 1)).is_none(),
                    "B39: an entry beyond the end of the file"
                );
                assert_eq!(world.access(1, site(space, 1), Op::Read), Access::Bus, "beyond the end");
            }
            assert_eq!(world.model.cached(file, 1), None, "a page beyond the end");
        }),
        world.spawn(move |world| {
            let at = site(other, 1);
            let stored = world.access(2, at, Op::Write(77));
            assert!(
                matches!(stored, Access::Done(77) | Access::Bus),
                "a store ends with {stored:?}"
            );
            // Beyond the end already, and the page still there for a moment: a fault that came before the end mapped it.
            let (seen, old) = (world.access(2, at, Op::Read), Access::Done(11));
            assert!(
                seen == stored || seen == Access::Bus || stored == Access::Bus && seen == old,
                "I9: {seen:?} where {stored:?} was stored"
            );
            world.write(2, site(space, 0), 12);
        }),
        world.spawn(move |world| {
            let seen = world.access(3, site(space, 1), Op::Read);
            assert!(
                matches!(seen, Access::Done(11) | Access::Bus),
                "a load ends with {seen:?}"
            );
            let seen = world.access(3, site(other, 1), Op::Read);
            assert!(
                matches!(seen, Access::Done(11 | 77) | Access::Bus),
                "a load ends with {seen:?}"
            );
        }),
    ]);
    for space in [space, other] {
        assert!(
            world.model.pte(site(space, 1)).is_none(),
            "B39: an entry beyond the end of the file"
        );
    }
    assert_eq!(world.read(4, site(space, 0)), 12, "I9: the last store");
    world.finish();
}

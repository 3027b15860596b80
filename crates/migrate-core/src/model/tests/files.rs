//! The page cache and its buffers.

use std::collections::BTreeSet;

use mm_types::{Invariant, PageFlags, Pfn, SpaceId};

use super::{at, frame, good, locked, model, read, unlock, write};
use crate::invariants::Inspect;
use crate::model::{Model, WritePage};
use crate::{Cache, Frames, MODERN, Mover};

/// A file with buffers, both its pages used; the frames.
fn buffered() -> (Model, SpaceId, [Pfn; 2]) {
    let (model, space) = model(&MODERN);
    let file = model.create_file(2, Mover::Buffers, WritePage::Unlocks);
    model.map_file(at(space, 0), 2, file, 0, true);
    let pfns = [0, 1].map(|page| {
        read(&model, at(space, page));
        frame(&model, at(space, page))
    });
    crate::migrate_prep(&model);
    (model, space, pfns)
}

fn dirty_parts(model: &Model, pfn: Pfn) -> u32 {
    Inspect::frame(model, pfn).unwrap().dirty_parts
}

#[test]
fn every_page_of_every_file_has_contents_of_its_own_that_are_not_those_of_fresh_memory() {
    let (model, _) = model(&MODERN);
    let files = [(); 3].map(|()| model.create_file(3, Mover::Plain, WritePage::Unlocks));
    let words = files
        .iter()
        .flat_map(|file| (0..3).map(|index| model.stored(*file, index).unwrap()));
    let words: BTreeSet<u64> = words.collect();
    assert_eq!(words.len(), 9);
    assert!(!words.contains(&0));
    assert_eq!(model.stored(files[0], 3), None);
}

#[test]
fn a_page_that_is_read_has_what_storage_has_and_there_is_none_beyond_the_end() {
    let (model, _) = model(&MODERN);
    let file = model.create_file(1, Mover::Plain, WritePage::Unlocks);
    let page = model.read_page(file, 0).unwrap();
    assert_eq!(Some(model.word(page.pfn())), model.stored(file, 0));
    assert_eq!(model.cached(file, 0), Some(page.pfn()));
    model.put(page);
    assert!(model.read_page(file, 1).is_none());
    crate::migrate_prep(&model);
    good(&model);
}

#[test]
fn a_page_is_cached_where_it_is_and_only_as_long_as_its_file_reaches_there() {
    let (model, _, [first, second]) = buffered();
    let mm_types::Mapping::File(file) = model.page(first).mapping() else {
        panic!("a page of a file")
    };
    let there = || {
        [(first, 0), (second, 1), (first, 1), (second, 0), (first, 2)].map(|(pfn, at)| model.is_cached(pfn, file, at))
    };
    assert_eq!(there(), [true, true, false, false, false]);
    model.caches.lock().file(file).size = 1;
    assert_eq!(there(), [true, false, false, false, false]);
}

#[test]
fn buffers_are_private_data_that_hold_a_reference() {
    let (model, space) = model(&MODERN);
    let file = model.create_file(1, Mover::Plain, WritePage::Unlocks);
    model.map_file(at(space, 0), 1, file, 0, true);
    read(&model, at(space, 0));
    crate::migrate_prep(&model);
    let pfn = frame(&model, at(space, 0));
    let count = model.page(pfn).count();
    model.attach_buffers(pfn);
    assert!(model.page(pfn).flags().load().contains(PageFlags::PRIVATE));
    assert_eq!(model.page(pfn).count(), count + 1);
    assert_ne!(model.page(pfn).private(), 0);
    good(&model);
}

#[test]
fn a_page_that_is_dirtied_dirties_its_buffers_but_not_those_that_a_migration_holds() {
    let (model, _, [pfn, other]) = buffered();
    model.dirty_page(pfn);
    assert_eq!(dirty_parts(&model, pfn), 0b1111);
    let page = locked(&model, other);
    model.try_lock_buffers(&page).unwrap();
    model.dirty_page(other);
    assert_eq!(dirty_parts(&model, other), 0);
    model.unlock_buffers(&page);
    unlock(&model, page);
    model.dirty_buffer(other, 2);
    assert_eq!(dirty_parts(&model, other), 0b100);
    good(&model);
}

#[test]
fn what_is_written_back_leaves_no_buffer_dirty() {
    let (model, _, [pfn, _]) = buffered();
    model.dirty_page(pfn);
    model.begin_writeback(pfn);
    assert_eq!(dirty_parts(&model, pfn), 0);
    model.end_writeback(pfn);
    good(&model);
}

#[test]
fn a_private_copy_of_a_page_that_was_only_read_leaves_it_clean() {
    let (model, space) = model(&MODERN);
    let file = model.create_file(1, Mover::Plain, WritePage::Unlocks);
    model.map_file(at(space, 0), 1, file, 0, false);
    read(&model, at(space, 0));
    let cached = frame(&model, at(space, 0));
    write(&model, at(space, 0), 7);
    assert_ne!(frame(&model, at(space, 0)), cached);
    assert!(!model.page(cached).flags().load().contains(PageFlags::DIRTY));
    good(&model);
}

#[test]
fn who_waits_for_buffers_sleeps_on_something_of_that_page_which_is_not_its_flags() {
    let (model, _, pfns) = buffered();
    let keys = pfns.map(|pfn| model.buffers_of(pfn));
    let flags = pfns.map(|pfn| core::ptr::from_ref(model.page(pfn).flags().word()).addr());
    let all: BTreeSet<usize> = keys.into_iter().chain(flags).collect();
    assert_eq!(all.len(), 4);
}

#[test]
fn a_buffer_is_locked_by_one_at_a_time_and_a_locked_one_is_not_released() {
    let (model, space, [pfn, _]) = buffered();
    assert!(model.lock_buffer(pfn));
    assert!(!model.lock_buffer(pfn), "for I/O");
    let page = locked(&model, pfn);
    assert!(!model.release_buffers(&page));
    model.set_buffers_busy(pfn, false);
    model.try_lock_buffers(&page).unwrap();
    assert!(!model.lock_buffer(pfn), "by a migration");
    assert!(!model.release_buffers(&page));
    model.unlock_buffers(&page);
    assert!(model.release_buffers(&page));
    unlock(&model, page);
    assert!(!model.lock_buffer(pfn), "there is none");
    model.map_anon(at(space, 8), 1);
    read(&model, at(space, 8));
    assert!(!model.lock_buffer(frame(&model, at(space, 8))), "there never was one");
    good(&model);
}

#[test]
fn a_disk_that_is_told_to_be_done_ends_what_it_writes_and_nothing_else() {
    let (model, _, [pfn, _]) = buffered();
    let written = || model.page(pfn).flags().load().contains(PageFlags::WRITEBACK);
    model.end_io(pfn);
    model.begin_writeback(pfn);
    assert!(written());
    model.end_io(pfn);
    assert!(!written());
    good(&model);
}

#[test]
fn a_node_that_miscounts_its_dirty_pages_is_noticed() {
    let (model, _, [pfn, _]) = buffered();
    Inspect::recount(&model).unwrap();
    model.page(pfn).flags().edit(PageFlags::DIRTY, PageFlags::empty());
    let wrong = Inspect::recount(&model).unwrap_err();
    assert_eq!(wrong.invariant, Invariant::DirtyCounted);
}

#[test]
fn the_end_of_writeback_clears_the_flag_and_wakes_who_waits_for_it() {
    let ends: [fn(&Model, Pfn); 2] = [
        |model, pfn| crate::end_page_writeback(model, pfn),
        |model, pfn| {
            let page = locked(model, pfn);
            Frames::end_writeback(model, &page);
            unlock(model, page);
        },
    ];
    for end in ends {
        let (model, _, [pfn, _]) = buffered();
        let flags = model.page(pfn).flags();
        flags.edit(PageFlags::WRITEBACK, PageFlags::empty());
        assert!(flags.announce_wait(PageFlags::WRITEBACK).is_some());
        model.on_wake(pfn, |_| {});
        end(&model, pfn);
        assert!(!flags.load().contains(PageFlags::WRITEBACK));
        assert_eq!(model.asleep(), 0);
        good(&model);
    }
}

//! The model itself: what it does without a migration, and what it shows when something is left out. With one: `tests/migration.rs`.

mod areas;
mod calls;
mod cpu;
mod files;
mod look;
mod migration;
mod steps;
mod swap;

use mm_types::{ActorId, Invariant, Mode, NodeId, Outcome, Page, PageFlags, Pfn, Site, SpaceId, Vpn};

use super::{Access, Config, Model, Op, POISON, WritePage};
use crate::{Frames, LINUX_2_6_17, LockedPage, MODERN, Mover, Profile, Readers, Rmap};

const CPU0: ActorId = ActorId::new(0);
const CPU1: ActorId = ActorId::new(1);
const NODE1: NodeId = NodeId::new(1);

fn at(space: SpaceId, page: u64) -> Site {
    Site::new(space, Vpn::new(page))
}

fn model(profile: &'static Profile) -> (Model, SpaceId) {
    let model = Model::new(Config {
        profile,
        ..Config::default()
    });
    let space = model.new_space();
    (model, space)
}

fn read(model: &Model, site: Site) -> Access {
    model.access(CPU0, site, Op::Read, ())
}

fn write(model: &Model, site: Site, word: u64) {
    assert_eq!(model.access(CPU0, site, Op::Write(word), ()), Access::Done(word));
}

fn frame(model: &Model, site: Site) -> Pfn {
    let pte = model.pte(site);
    assert!(pte.is_present(), "{pte}");
    pte.pfn().unwrap()
}

fn outcome(model: &Model, pfn: Pfn, profile: &'static Profile) -> Outcome {
    let mode = Mode::Sync;
    let (_, outcomes) = model.migrate(&[pfn], NODE1, profile, mode, 1, ());
    outcomes.last().unwrap().1
}

/// Takes a page's lock as a migration does, with a reference.
fn locked(model: &Model, pfn: Pfn) -> LockedPage {
    let page = model.get(pfn).expect("a page in use");
    model.try_lock(page).expect("a page that nobody has locked")
}

fn unlock(model: &Model, page: LockedPage) {
    let page = model.unlock(page);
    model.put(page);
}

#[track_caller]
fn good(model: &Model) {
    model.check(&[]).unwrap();
}

#[test]
fn memory_comes_as_zeroes_and_goes_back_when_the_space_ends() {
    let (model, space) = model(&MODERN);
    model.map_anon(at(space, 4), 3);
    assert_eq!(read(&model, at(space, 3)), Access::Segv);
    assert_eq!(read(&model, at(space, 4)), Access::Done(0));
    write(&model, at(space, 5), 7);
    assert_eq!(read(&model, at(space, 5)), Access::Done(7));
    good(&model);
    assert_eq!(model.rss(space), (2, 0));
    model.exit(space, ());
    crate::migrate_prep(&model);
    good(&model);
    assert_eq!(model.rss(space), (0, 0));
    assert_eq!(model.free_frames(NodeId::new(0)) as u64, Config::FRAMES);
}

#[test]
fn a_model_shows_how_large_it_is() {
    let shown = std::format!("{:?}", Model::default());
    let frames = std::format!("frames: {}", Config::FRAMES);
    assert!(shown.starts_with("Model") && shown.contains(&frames), "{shown}");
}

#[test]
fn no_memory_is_told_and_leaves_nothing_behind() {
    let (model, space) = model(&MODERN);
    model.map_anon(at(space, 0), 2);
    model.fail_allocation(1);
    assert_eq!(read(&model, at(space, 0)), Access::OutOfMemory);
    good(&model);
    assert_eq!(read(&model, at(space, 0)), Access::Done(0));
}

#[test]
fn parent_and_child_do_not_see_each_others_stores() {
    for profile in [&MODERN, &LINUX_2_6_17] {
        let (model, parent) = model(profile);
        model.map_anon(at(parent, 0), 2);
        write(&model, at(parent, 0), 1);
        let child = model.fork(parent, ());
        good(&model);
        assert_eq!(frame(&model, at(parent, 0)), frame(&model, at(child, 0)));
        write(&model, at(child, 0), 2);
        write(&model, at(parent, 0), 3);
        assert_eq!(read(&model, at(parent, 0)), Access::Done(3));
        assert_eq!(read(&model, at(child, 0)), Access::Done(2));
        good(&model);
        // The child is the only one left: its page is written where it is.
        model.exit(parent, ());
        let pfn = frame(&model, at(child, 0));
        write(&model, at(child, 0), 4);
        assert_eq!(frame(&model, at(child, 0)), pfn);
        good(&model);
    }
}

#[test]
fn a_store_that_copies_leaves_the_dirty_bit_of_its_entry_with_the_page() {
    for profile in [&MODERN, &LINUX_2_6_17] {
        let (model, parent) = model(profile);
        model.map_anon(at(parent, 0), 1);
        write(&model, at(parent, 0), 1);
        let pfn = frame(&model, at(parent, 0));
        let child = model.fork(parent, ());
        // Who has the page locked keeps it when nobody maps it any more, and its last user from storing in place.
        let page = locked(&model, pfn);
        for space in [parent, child] {
            write(&model, at(space, 0), 2);
            assert_ne!(frame(&model, at(space, 0)), pfn);
        }
        let flags = model.page(pfn).flags().load();
        assert!(flags.contains(PageFlags::DIRTY), "{}: {flags:?}", profile.rules);
        unlock(&model, page);
        crate::migrate_prep(&model);
        good(&model);
    }
}

#[test]
fn a_store_through_a_stale_translation_is_seen_where_hardware_would_do_it() {
    let (model, space) = model(&MODERN);
    model.map_anon(at(space, 0), 1);
    write(&model, at(space, 0), 1);
    let pfn = frame(&model, at(space, 0));
    // A protection without the flush that mprotect owes.
    let readers = Readers::begin(&model, space, ());
    let mut gather = model.gather();
    model.with_entry(at(space, 0), crate::EntryVma::PLAIN, &mut gather, |entry| {
        readers.protect(entry, false, true, MODERN.entries)
    });
    assert!(!model.pte(at(space, 0)).writable());
    write(&model, at(space, 0), 2);
    assert_eq!(model.word(pfn), 2, "the translation is stale and still there");
    assert!(model.check(&[]).is_err(), "and a check says so");
    // Another CPU never had it.
    let other = model.access(CPU1, at(space, 0), Op::Write(3), ());
    assert_eq!(other, Access::Done(3));
    model.flush(gather);
    readers.finish();
    good(&model);
}

#[test]
fn the_end_of_a_reader_flushes_what_somebody_else_left_pending() {
    let (model, space) = model(&MODERN);
    model.map_anon(at(space, 0), 1);
    write(&model, at(space, 0), 1);
    let gather = {
        let mut gather = model.gather();
        model.with_entry(at(space, 0), crate::EntryVma::PLAIN, &mut gather, |entry| {
            entry.update(&|pte| Some(pte.protect(false, true, MODERN.entries)))
        });
        gather
    };
    Readers::begin(&model, space, ()).finish();
    model.vmas.lock().list[0].flags.remove(mm_types::VmaFlags::WRITE);
    assert_eq!(model.access(CPU0, at(space, 0), Op::Write(2), ()), Access::Segv);
    model.flush(gather);
    good(&model);
}

#[test]
fn a_protected_page_is_not_written_until_it_is_allowed_again() {
    let (model, space) = model(&MODERN);
    model.map_anon(at(space, 0), 4);
    write(&model, at(space, 1), 1);
    write(&model, at(space, 2), 1);
    model.protect(at(space, 1), 1, false, ());
    assert_eq!(model.access(CPU0, at(space, 1), Op::Write(2), ()), Access::Segv);
    write(&model, at(space, 2), 2);
    model.protect(at(space, 1), 1, true, ());
    write(&model, at(space, 1), 3);
    good(&model);
}

#[test]
fn a_file_is_shared_through_its_cache_and_private_copies_stay_private() {
    let (model, space) = model(&MODERN);
    let file = model.create_file(2, Mover::Plain, WritePage::Unlocks);
    model.map_file(at(space, 0), 3, file, 0, true);
    model.map_file(at(space, 8), 3, file, 0, false);
    let stored = model.stored(file, 0).unwrap();
    assert_eq!(read(&model, at(space, 0)), Access::Done(stored));
    write(&model, at(space, 8), 9);
    assert_eq!(read(&model, at(space, 0)), Access::Done(stored));
    write(&model, at(space, 1), 5);
    assert_eq!(read(&model, at(space, 9)), Access::Done(5));
    assert_eq!(read(&model, at(space, 2)), Access::Bus);
    good(&model);
    model.munmap(at(space, 0), 3, ());
    let pfn = model.cached(file, 1).unwrap();
    assert!(
        model.page(pfn).flags().load().contains(PageFlags::DIRTY),
        "the entry's dirty bit went to the page"
    );
    good(&model);
    model.write_back(pfn);
    assert_eq!(model.stored(file, 1), Some(5));
    good(&model);
}

#[test]
fn after_a_truncation_nothing_beyond_the_end_is_mapped_or_cached() {
    let (model, space) = model(&MODERN);
    let file = model.create_file(3, Mover::Buffers, WritePage::Unlocks);
    model.map_file(at(space, 0), 3, file, 0, true);
    model.map_file(at(space, 8), 3, file, 0, false);
    for page in [0, 1, 2, 8, 9] {
        assert!(matches!(read(&model, at(space, page)), Access::Done(_)));
    }
    write(&model, at(space, 10), 1);
    let free = model.free_frames(NodeId::new(0));
    model.truncate(file, 1, ());
    crate::migrate_prep(&model);
    good(&model);
    assert_eq!(read(&model, at(space, 1)), Access::Bus);
    assert_eq!(read(&model, at(space, 10)), Access::Bus, "private copies go too");
    assert!(matches!(read(&model, at(space, 8)), Access::Done(_)));
    assert_eq!(model.cached(file, 1), None);
    assert_eq!(model.free_frames(NodeId::new(0)), free + 3);
}

#[test]
fn a_page_moved_by_mremap_is_found_at_its_new_place() {
    for profile in [&MODERN, &LINUX_2_6_17] {
        let (model, space) = model(profile);
        model.map_anon(at(space, 0), 4);
        write(&model, at(space, 2), 7);
        assert!(model.mremap(at(space, 1), 2, Vpn::new(20), ()));
        assert_eq!(read(&model, at(space, 2)), Access::Segv);
        let pfn = frame(&model, at(space, 21));
        assert!(matches!(outcome(&model, pfn, profile), Outcome::Moved { .. }));
        assert_eq!(read(&model, at(space, 21)), Access::Done(7));
        assert_ne!(frame(&model, at(space, 21)), pfn);
        good(&model);
    }
}

#[test]
fn a_truncate_waits_for_writeback_before_it_frees_the_page() {
    let (model, space) = model(&MODERN);
    let file = model.create_file(1, Mover::Plain, WritePage::Unlocks);
    model.map_file(at(space, 0), 1, file, 0, true);
    write(&model, at(space, 0), 7);
    let pfn = frame(&model, at(space, 0));
    model.begin_writeback(pfn);
    model.on_sleep(move |model| model.end_writeback(pfn));
    model.truncate(file, 0, ());
    crate::migrate_prep(&model);
    good(&model);
    assert_eq!(model.page(pfn).count(), 0);
}

#[test]
fn a_move_onto_a_part_of_itself_is_refused_also_where_that_part_is_empty() {
    let (model, space) = model(&MODERN);
    model.map_anon(at(space, 0), 2);
    write(&model, at(space, 1), 7);
    assert!(!model.mremap(at(space, 1), 3, Vpn::new(2), ()));
    assert_eq!(read(&model, at(space, 1)), Access::Done(7));
    good(&model);
}

#[test]
fn a_page_in_swap_comes_back_with_its_contents_and_each_fork_has_its_own() {
    let (model, parent) = model(&MODERN);
    model.map_anon(at(parent, 0), 1);
    write(&model, at(parent, 0), 7);
    let free = model.free_frames(NodeId::new(0));
    let child = model.fork(parent, ());
    assert!(model.swap_out(frame(&model, at(parent, 0))));
    good(&model);
    assert_eq!(model.free_frames(NodeId::new(0)), free + 1);
    assert_eq!((model.rss(parent), model.rss(child)), ((0, 1), (0, 1)));
    write(&model, at(child, 0), 8);
    assert_eq!(read(&model, at(parent, 0)), Access::Done(7));
    assert_eq!(read(&model, at(child, 0)), Access::Done(8));
    good(&model);
    model.exit(parent, ());
    model.exit(child, ());
    crate::migrate_prep(&model);
    good(&model);
    assert_eq!(model.free_frames(NodeId::new(0)) as u64, Config::FRAMES);
    assert!(model.caches.lock().swap.slots.is_empty());
}

#[test]
fn a_page_freed_while_it_is_in_use_is_noticed() {
    let (model, space) = model(&MODERN);
    model.map_anon(at(space, 0), 1);
    write(&model, at(space, 0), 1);
    crate::migrate_prep(&model);
    let pfn = frame(&model, at(space, 0));
    assert!(model.page(pfn).put(), "the reference of the entry, which stays");
    crate::page_map::free_unused(&model, pfn);
    assert_eq!(read(&model, at(space, 0)), Access::Done(POISON));
    assert_eq!(model.check(&[]).unwrap_err().invariant, Invariant::OnlyForward);
    assert_eq!(model.check_noticed().unwrap_err().invariant, Invariant::OnlyForward);
    assert_eq!(model.check_always().unwrap_err().invariant, Invariant::OnlyForward);
}

#[test]
fn a_page_freed_while_it_is_pinned_or_in_flight_is_noticed() {
    let noticed = |leave: fn(&Page)| {
        let model = Model::default();
        let page = model.allocate(NODE1).unwrap();
        leave(model.page(page.pfn()));
        model.put(page);
        model.check_noticed().unwrap_err().invariant
    };
    assert_eq!(noticed(Page::add_pin), Invariant::NotFreedInUse);
    assert_eq!(
        noticed(|page| assert_eq!(page.entries_out(1), 1)),
        Invariant::NotFreedInUse
    );
}

#[test]
fn a_fault_takes_a_frame_of_the_next_node_where_the_first_has_none() {
    let (model, space) = model(&MODERN);
    let last = Config::FRAMES;
    model.map_anon(at(space, 0), last + 1);
    for page in 0..last {
        read(&model, at(space, page));
    }
    assert_eq!(model.free_frames(NodeId::new(0)), 0);
    assert_eq!(read(&model, at(space, last)), Access::Done(0));
    assert_eq!(model.node_of(frame(&model, at(space, last))), NODE1);
}

#[test]
fn a_reference_that_nobody_declares_is_noticed() {
    let (model, space) = model(&MODERN);
    model.map_anon(at(space, 0), 1);
    write(&model, at(space, 0), 1);
    let pfn = frame(&model, at(space, 0));
    let held = model.get(pfn).unwrap();
    assert_eq!(model.check(&[]).unwrap_err().invariant, Invariant::References);
    model.check(&[pfn]).unwrap();
    model.put(held);
    good(&model);
}

#[test]
#[should_panic(expected = "sleeps for ever")]
fn a_thread_that_nobody_would_wake_is_an_error() {
    let (model, space) = model(&MODERN);
    let file = model.create_file(1, Mover::Plain, WritePage::Unlocks);
    model.map_file(at(space, 0), 1, file, 0, true);
    read(&model, at(space, 0));
    assert!(model.lock_page(model.cached(file, 0).unwrap()));
    model.munmap(at(space, 0), 1, ());
    model.map_file(at(space, 0), 1, file, 0, true);
    model.access_wait(CPU0, at(space, 0), Op::Read, ());
}

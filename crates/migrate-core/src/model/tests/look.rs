//! What a look at one entry or one frame finds: nothing while the model is used, and each thing that is wrong.

use mm_types::{Invariant, MigrationEntry, Mode, PageFlags, Pfn, Pte, PteFlags, Site};

use super::{CPU0, CPU1, NODE1, at, frame, model, read, write};
use crate::invariants::Inspect;
use crate::model::{Model, Op};
use crate::{EntryVma, Frames, LINUX_2_6_17, MODERN, Rmap};

/// Looks at every entry of the first spaces and at every frame.
fn look(model: &Model) -> Result<(), crate::model::Violation> {
    model.check_noticed()?;
    let mut spaces = std::vec::Vec::new();
    Inspect::spaces(model, &mut |state| spaces.push(state.space));
    for (site, _) in spaces.into_iter().flat_map(|space| model.entries(space)) {
        model.check_site(site)?;
    }
    model.frame_numbers().try_for_each(|n| model.check_frame(Pfn::new(n)))
}

#[track_caller]
fn finds(model: &Model, wrong: Invariant) {
    assert_eq!(look(model).unwrap_err().invariant, wrong);
}

/// Edits an entry as whoever holds its lock would, and leaves the flush undone.
fn edit(model: &Model, site: Site, after: Pte) -> crate::model::Gather {
    let mut gather = model.gather();
    let edited = model.with_entry(site, EntryVma::PLAIN, &mut gather, |entry| {
        entry.update(&|_| Some(after))
    });
    assert_eq!(edited.unwrap().after, after);
    gather
}

#[test]
fn nothing_is_wrong_while_pages_are_used_shared_moved_and_swapped() {
    for profile in [&MODERN, &LINUX_2_6_17] {
        let (model, space) = model(profile);
        look(&model).unwrap();
        model.map_anon(at(space, 0), 4);
        read(&model, at(space, 0));
        look(&model).unwrap();
        write(&model, at(space, 1), 1);
        model.access(CPU1, at(space, 1), Op::Read, ());
        look(&model).unwrap();
        let child = model.fork(space, ());
        look(&model).unwrap();
        write(&model, at(child, 1), 2);
        look(&model).unwrap();
        crate::migrate_prep(&model);
        look(&model).unwrap();
        let pfn = frame(&model, at(space, 1));
        assert!(model.pin(pfn));
        look(&model).unwrap();
        model.unpin(pfn);
        model.migrate(&[pfn], NODE1, profile, Mode::Sync, 1, ());
        look(&model).unwrap();
        assert!(model.swap_out(frame(&model, at(space, 1))));
        look(&model).unwrap();
        model.protect(at(child, 1), 1, false, ());
        look(&model).unwrap();
        model.exit(space, ());
        model.exit(child, ());
        crate::migrate_prep(&model);
        look(&model).unwrap();
    }
}

/// A model with one written page, not in staging.
fn written() -> (Model, Site, Pfn) {
    let (model, space) = model(&MODERN);
    let site = at(space, 0);
    model.map_anon(site, 1);
    write(&model, site, 7);
    crate::migrate_prep(&model);
    look(&model).unwrap();
    let pfn = frame(&model, site);
    (model, site, pfn)
}

#[test]
fn an_entry_that_its_page_does_not_count_is_found() {
    let (model, _, pfn) = written();
    model.page(pfn).remove_mapping();
    finds(&model, Invariant::MapCount);
    let (model, _, pfn) = written();
    model.page(pfn).add_mapping();
    finds(&model, Invariant::References);
}

#[test]
fn an_entry_of_a_page_in_flight_is_right_while_the_page_is_locked_and_counts_it() {
    let (model, site, pfn) = written();
    let held = model.get(pfn).unwrap();
    let gather = edit(&model, site, Pte::Migration(MigrationEntry::readable(pfn)));
    finds(&model, Invariant::EntryNamesLocked);
    let held = model.try_lock(held).unwrap();
    finds(&model, Invariant::NoEntryLeft);
    model.page(pfn).entries_out(1);
    look(&model).unwrap();
    model.flush(gather);
    look(&model).unwrap();
    let held = model.unlock(held);
    model.put(held);
}

#[test]
fn a_swap_slot_that_is_named_and_free_is_found() {
    let (model, _, pfn) = written();
    assert!(model.swap_out(pfn));
    look(&model).unwrap();
    model.caches.lock().swap.slots.clear();
    finds(&model, Invariant::SwapSlots);
}

#[test]
fn a_stale_translation_is_found_once_nobody_owes_its_flush() {
    let (rw, clean, ro) = (
        PteFlags::WRITE | PteFlags::YOUNG | PteFlags::DIRTY,
        PteFlags::WRITE | PteFlags::YOUNG,
        PteFlags::YOUNG | PteFlags::DIRTY,
    );
    for (after, stale) in [(rw, false), (clean, true), (ro, true)] {
        let (model, site, pfn) = written();
        let marks = model.pte(site).flags().difference(rw);
        let gather = edit(&model, site, Pte::present(pfn, after | marks));
        look(&model).unwrap();
        // The edit is forgotten, as by a flush that did not interrupt anybody.
        model.tlbs.pending.lock().clear();
        if stale {
            finds(&model, Invariant::NoStaleTranslation);
        } else {
            look(&model).unwrap();
        }
        model.tlbs.of(CPU0).lock().clear();
        look(&model).unwrap();
        drop(gather);
    }
}

#[test]
fn a_frame_that_is_free_and_not_like_one_is_found() {
    type Break = fn(&Model, Pfn);
    let wrongs: [(Break, Invariant); 5] = [
        (|model, pfn| model.page(pfn).add_mapping(), Invariant::OnlyForward),
        (|model, pfn| model.page(pfn).add_pin(), Invariant::OnlyForward),
        (|model, pfn| set(model, pfn, PageFlags::DIRTY), Invariant::OnlyForward),
        (|model, pfn| set(model, pfn, PageFlags::LRU), Invariant::OneList),
        (|model, pfn| model.set_word(pfn, 1), Invariant::NoStaleTranslation),
    ];
    for (break_it, wrong) in wrongs {
        let (model, ..) = written();
        let mut free = None;
        Inspect::free_frames(&model, &mut |pfn| free = Some(pfn));
        break_it(&model, free.unwrap());
        finds(&model, wrong);
    }
    // A frozen page has no references either, and is locked.
    let (model, _, pfn) = written();
    let held = model.try_lock(model.get(pfn).unwrap()).unwrap();
    let gather = edit(&model, at(mm_types::SpaceId::new(0), 0), Pte::None);
    model.flush(gather);
    model.freeze(&held, 1).unwrap();
    model.check_frame(pfn).unwrap();
    model.unfreeze(&held, 1);
    let held = model.unlock(held);
    model.put(held);
    model.check_frame(pfn).unwrap();
}

#[test]
fn a_page_on_the_lru_that_does_not_say_so_is_found() {
    let (model, _, pfn) = written();
    model.page(pfn).flags().edit(PageFlags::empty(), PageFlags::LRU);
    finds(&model, Invariant::OneList);
}

fn set(model: &Model, pfn: Pfn, flags: PageFlags) {
    model.page(pfn).flags().edit(flags, PageFlags::empty());
}

#[test]
fn a_spinlock_that_somebody_holds_is_seen_whichever_it_is() {
    fn sees<T>(model: &Model, _held: T) -> bool {
        Inspect::holds_spinlock(model)
    }
    let (model, space) = model(&MODERN);
    assert!(!sees(&model, ()));
    assert!(sees(&model, model.space(space).table.lock()));
    assert!(sees(&model, model.vmas.lock()));
    assert!(sees(&model, model.caches.lock()));
    assert!(sees(&model, model.lru.lock()));
    assert!(sees(&model, model.tlbs.pending.lock()));
    assert!(sees(&model, model.tlbs.cpus[0].lock()));
    assert!(sees(&model, model.memory.lock()));
    assert!(!sees(&model, ()));
}

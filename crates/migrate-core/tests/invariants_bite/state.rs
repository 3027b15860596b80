//! One moment: a good state with one thing changed.

use core::cell::RefCell;
use std::collections::VecDeque;

use migrate_core::invariants::{
    FrameState, Held, Inspect as _, Snapshot, Violation, Watch, check_always, check_at_rest,
};
use migrate_core::model::Model;
use migrate_core::{Edge, MODERN, Verdict, putback_lru_pages};
use mm_types::trace::Event;
use mm_types::{
    AnonVmaId, Invariant, LruList, Mapping, Mode, Page, PageFlags, Pfn, Pte, PteFlags, Site, SpaceId, VmaFlags, Vpn,
};

use super::system::{
    ANON, BUFFERED, CACHED, FORKED, SHARED, at, at_rest, frame, hooked, in_flight, moved, named, system, traced,
    waited, write,
};

#[test]
fn i1_a_page_on_two_lists_or_on_one_that_its_flag_denies() {
    let twice = at_rest(|_, state| state.free.push(state.free[0]));
    assert_eq!(twice, Invariant::OneList);
    let denied = at_rest(|model, state| {
        let pfn = frame(model, ANON);
        state.frame_mut(pfn).unwrap().flags.remove(PageFlags::LRU);
    });
    assert_eq!(denied, Invariant::OneList);
}

#[test]
fn i2_an_isolated_page_that_is_on_a_list_or_whose_reference_is_missing() {
    let model = system(&MODERN);
    let pfn = frame(&model, ANON);
    let isolated = model.isolate(pfn, ()).unwrap();
    let held = Held {
        isolated: &[pfn],
        ..Held::default()
    };
    let good = Snapshot::of(&model);
    check_at_rest(&good, &held).unwrap();
    let broken = |break_it: fn(&mut FrameState)| {
        let mut state = good.clone();
        break_it(state.frame_mut(pfn).unwrap());
        named(check_at_rest(&state, &held))
    };
    let listed = broken(|page| {
        page.list = Some(LruList::Inactive);
        page.flags.insert(PageFlags::LRU);
    });
    assert_eq!(listed, Invariant::Isolation);
    assert_eq!(broken(|page| page.count -= 1), Invariant::Isolation);
    // Where more is missing than isolations could have, it is not they that were forgotten.
    let held = Held {
        references: &[pfn],
        ..held
    };
    let mut state = good.clone();
    state.frame_mut(pfn).unwrap().count = 1;
    assert_eq!(named(check_at_rest(&state, &held)), Invariant::References);
    putback_lru_pages(&model, &mut VecDeque::from([isolated]), ());
}

#[test]
fn i3_an_entry_in_flight_for_a_page_that_is_not_locked() {
    let state = in_flight(|pfn, state| state.frame_mut(pfn).unwrap().flags.remove(PageFlags::LOCKED));
    assert_eq!(named(check_always(&state)), Invariant::EntryNamesLocked);
}

#[test]
fn i4_a_mapping_that_nobody_has() {
    let broken = at_rest(|model, state| state.frame_mut(frame(model, ANON)).unwrap().mapcount += 1);
    assert_eq!(broken, Invariant::MapCount);
}

#[test]
fn i5_a_reference_that_nobody_holds_and_a_holder_without_one() {
    let more = at_rest(|model, state| state.frame_mut(frame(model, ANON)).unwrap().count += 1);
    assert_eq!(more, Invariant::References);
    let less = at_rest(|model, state| state.frame_mut(frame(model, SHARED)).unwrap().count -= 1);
    assert_eq!(less, Invariant::References);
    // Only a page that is frozen, locked and without any reference, has its references put aside.
    let model = system(&MODERN);
    let pfn = frame(&model, SHARED);
    let counted = |count: u32, locked: bool| {
        let mut state = Snapshot::of(&model);
        let page = state.frame_mut(pfn).unwrap();
        page.flags.set(PageFlags::LOCKED, locked);
        page.count = count;
        check_always(&state)
    };
    assert_eq!(named(counted(1, true)), Invariant::References);
    assert_eq!(named(counted(0, false)), Invariant::References);
    counted(0, true).expect("frozen");
}

#[test]
fn i6_an_entry_that_is_left_and_one_that_the_core_did_not_count() {
    let state = in_flight(|_, _| {});
    assert_eq!(named(check_at_rest(&state, &Held::default())), Invariant::NoEntryLeft);
    let state = in_flight(|pfn, state| state.frame_mut(pfn).unwrap().entries_out = Some(2));
    assert_eq!(named(check_always(&state)), Invariant::NoEntryLeft);
}

#[test]
fn i11_dirt_that_nobody_remembers() {
    let forgotten = at_rest(|model, state| {
        let pfn = frame(model, SHARED);
        let entry = state.entry_mut(at(SHARED)).unwrap();
        entry.pte = Pte::present(pfn, entry.pte.flags().difference(PteFlags::DIRTY));
        // A CPU that could store without making it dirty again would be another mistake.
        state.translations.retain(|held| held.site != at(SHARED));
    });
    assert_eq!(forgotten, Invariant::DirtyConserved);
    let in_swap_cache = at_rest(|model, state| {
        let pfn = frame(model, CACHED);
        state.frame_mut(pfn).unwrap().flags.remove(PageFlags::DIRTY);
        let entry = state.entry_mut(at(CACHED)).unwrap();
        entry.pte = Pte::present(pfn, entry.pte.flags().difference(PteFlags::DIRTY));
        state.translations.retain(|held| held.site != at(CACHED));
        let slot = state.swap_slots.iter_mut().find(|slot| slot.cached == Some(pfn));
        slot.unwrap().stored = Some(false);
    });
    assert_eq!(in_swap_cache, Invariant::DirtyConserved);
    let lost = moved(&MODERN).changed(|run| {
        let pfn = run.new_page(ANON);
        let entry = run.after.entry_mut(at(ANON)).unwrap();
        entry.pte = Pte::present(pfn, entry.pte.flags().difference(PteFlags::DIRTY));
        run.after.frame_mut(pfn).unwrap().flags.remove(PageFlags::DIRTY);
    });
    assert_eq!(lost, Invariant::DirtyConserved);
}

#[test]
fn i12_a_dirty_page_that_its_slot_calls_clean() {
    let broken = at_rest(|model, state| {
        let page = state.frame_mut(frame(model, SHARED)).unwrap();
        page.flags.toggle(PageFlags::DIRTY);
    });
    assert_eq!(broken, Invariant::DirtyCounted);
    // What the model counts of each node: a page's descriptor says otherwise, and nothing was counted.
    let recounted = |page: u64, break_it: fn(&Page)| {
        let model = system(&MODERN);
        model.dirty_page(frame(&model, SHARED));
        assert_eq!(model.recount(), Ok(()));
        break_it(model.page(frame(&model, page)));
        named(model.recount())
    };
    let cleaned = recounted(SHARED, |page| {
        page.flags().edit(PageFlags::empty(), PageFlags::DIRTY);
    });
    assert_eq!(cleaned, Invariant::DirtyCounted);
    let uncached = recounted(CACHED, |page| {
        page.flags().edit(PageFlags::empty(), PageFlags::SWAPCACHE);
    });
    assert_eq!(uncached, Invariant::DirtyCounted);
    let not_anonymous = recounted(ANON, |page| page.set_mapping(Mapping::None));
    assert_eq!(not_anonymous, Invariant::DirtyCounted);
}

#[test]
fn i14_a_write_permission_that_is_wider_than_its_area_or_than_it_was() {
    let area = at_rest(|_, state| {
        let entry = state.entry_mut(at(ANON)).unwrap();
        entry.area = entry.area.map(|area| area.difference(VmaFlags::WRITE));
    });
    assert_eq!(area, Invariant::WriteNotWidened);
    let widened = moved(&MODERN).changed(|run| {
        let (pfn, flags) = (run.new_page(BUFFERED), run.after.pte(at(BUFFERED)).flags());
        let was = run.before.entry_mut(at(BUFFERED)).unwrap();
        was.pte = Pte::present(was.pte.pfn().unwrap(), flags.difference(PteFlags::WRITE));
        run.after.entry_mut(at(BUFFERED)).unwrap().pte = Pte::present(pfn, flags | PteFlags::WRITE);
    });
    assert_eq!(widened, Invariant::WriteNotWidened);
}

/// A child shares everything; what one thing of its entry is changed to is what a check names.
#[track_caller]
fn after_fork(gained: PteFlags) -> Invariant {
    let model = system(&MODERN);
    let space = model.fork(SpaceId::new(0), ());
    let theirs = Site::new(space, Vpn::new(FORKED));
    let mut state = Snapshot::of(&model);
    check_at_rest(&state, &Held::default()).expect("a good fork");
    let entry = state.entry_mut(theirs).expect("the child maps it too");
    entry.pte = Pte::present(entry.pte.pfn().unwrap(), entry.pte.flags() | gained);
    named(check_always(&state))
}

#[test]
fn i15_a_child_that_may_write_what_its_parent_sees() {
    assert_eq!(after_fork(PteFlags::WRITE), Invariant::ForkIsReadOnly);
}

#[test]
fn i16_an_exclusive_page_of_two_and_a_mark_that_is_lost() {
    assert_eq!(after_fork(PteFlags::EXCLUSIVE), Invariant::MarksKept);
    let lost = moved(&MODERN).changed(|run| {
        let was = run.before.entry_mut(at(SHARED)).unwrap();
        was.pte = Pte::present(was.pte.pfn().unwrap(), was.pte.flags() | PteFlags::SOFT_DIRTY);
    });
    assert_eq!(lost, Invariant::MarksKept);
}

#[test]
fn i18_a_slot_that_holds_a_page_which_is_elsewhere() {
    let file = at_rest(|model, state| state.cache_slots[0].pfn = frame(model, ANON));
    assert_eq!(file, Invariant::OnePageInSlot);
    let swap = at_rest(|model, state| {
        let cached = state.swap_slots.iter_mut().find(|slot| slot.cached.is_some());
        cached.unwrap().cached = Some(frame(model, ANON));
    });
    assert_eq!(swap, Invariant::OnePageInSlot);
    // The slot and the page have to name each other.
    let other_slot = at_rest(|model, state| state.frame_mut(frame(model, CACHED)).unwrap().private += 1);
    assert_eq!(other_slot, Invariant::OnePageInSlot);
    let no_slot = at_rest(|model, state| {
        let page = state.frame_mut(frame(model, CACHED)).unwrap();
        page.flags.remove(PageFlags::SWAPCACHE);
    });
    assert_eq!(no_slot, Invariant::OnePageInSlot);
    for page in [SHARED, CACHED] {
        let in_none = at_rest(|model, state| {
            let pfn = frame(model, page);
            state.cache_slots.retain(|slot| slot.pfn != pfn);
            for slot in state.swap_slots.iter_mut().filter(|slot| slot.cached == Some(pfn)) {
                slot.cached = None;
            }
            state.frame_mut(pfn).unwrap().count -= 1;
        });
        assert_eq!(in_none, Invariant::OnePageInSlot);
    }
    let neither = moved(&MODERN).changed(|run| {
        run.after.cache_slots.remove(0);
    });
    assert_eq!(neither, Invariant::OnePageInSlot);
}

#[test]
fn i23_a_page_that_nobody_will_unlock_and_a_thread_that_never_wakes() {
    let locked = at_rest(|model, state| {
        state
            .frame_mut(frame(model, ANON))
            .unwrap()
            .flags
            .insert(PageFlags::LOCKED);
    });
    assert_eq!(locked, Invariant::WaitersWake);
    let asleep = traced(waited(&MODERN), |events| {
        events.retain(|event| !matches!(event, Event::Wake { .. }));
    });
    assert_eq!(asleep, Invariant::WaitersWake);
}

#[test]
fn i25_a_page_that_is_free_and_mapped() {
    let broken = at_rest(|model, state| state.free.push(frame(model, ANON)));
    assert_eq!(broken, Invariant::NotFreedInUse);
}

#[test]
fn i26_a_reverse_map_that_was_given_to_somebody_else() {
    let model = system(&MODERN);
    let page = model.page(frame(&model, ANON));
    let mapping = page.mapping();
    page.set_mapping(Mapping::Anon(AnonVmaId::new(77)));
    assert_eq!(named(check_always(&model)), Invariant::RootPinned);
    page.set_mapping(mapping);
    check_always(&model).unwrap();
    page.set_index(page.index() + 1);
    assert_eq!(named(check_always(&model)), Invariant::RootPinned);
    // Above all while it is in flight, when nothing else knows where its entries are.
    for break_it in [
        |page: &Page| page.set_mapping(Mapping::Anon(AnonVmaId::new(77))),
        |page: &Page| page.set_index(page.index() + 1),
    ] {
        let mut found = None;
        let watched = broken_in_flight(|model, pfn| {
            let page = model.page(pfn);
            let (mapping, index) = (page.mapping(), page.index());
            check_always(model).expect("a good state in flight");
            break_it(page);
            found = Some(named(check_always(model)));
            page.set_mapping(mapping);
            page.set_index(index);
        });
        assert_eq!((found, watched), (Some(Invariant::RootPinned), Ok(())));
    }
}

/// Lets somebody do something while the page at [`ANON`] is in flight; what a watch of the run says.
fn broken_in_flight(mut act: impl FnMut(&Model, Pfn)) -> Result<(), Violation> {
    let model = system(&MODERN);
    let pfn = frame(&model, ANON);
    let act = RefCell::new(&mut act);
    let hook = |edge: Edge| {
        if matches!(edge, Edge::Copy { .. }) {
            (act.borrow_mut())(&model, pfn);
        }
        Verdict::Go
    };
    let watch = Watch::new(&model, &MODERN, Mode::Sync, hook);
    hooked(&model, &watch, &MODERN, Mode::Sync, pfn);
    watch.finish()
}

#[test]
fn i26_a_reverse_map_that_is_freed_or_used_again_while_its_page_is_in_flight() {
    let others = |model: &Model| {
        let space = model.new_space();
        let site = Site::new(space, Vpn::new(0));
        model.map_anon(site, 1);
        write(model, site, 1);
        model.vma_at(site).unwrap().anon_vma
    };
    let leave = |model: &Model| model.munmap(at(ANON), 1, ());
    let root = |model: &Model, pfn: Pfn| Some(model.page(pfn).mapping());
    // Everybody leaves the page in flight: its anon-vma waits for the end of the migration, and is somebody else's then.
    let mut was = None;
    let kept = broken_in_flight(|model, pfn| {
        was = root(model, pfn);
        leave(model);
        assert_ne!(others(model).map(Mapping::Anon), was);
    });
    assert_eq!(kept, Ok(()));
    let model = system(&MODERN);
    let pfn = frame(&model, ANON);
    let was = root(&model, pfn);
    leave(&model);
    assert_eq!(others(&model).map(Mapping::Anon), was, "freed, and used again at once");
    // One that does not wait, as the kernel's did not once, is gone when the migration comes back for the entries.
    for reused in [false, true] {
        let freed = broken_in_flight(|model, pfn| {
            let flags = model.page(pfn).flags();
            flags.edit(PageFlags::empty(), PageFlags::LOCKED);
            leave(model);
            if reused {
                others(model);
            }
            flags.edit(PageFlags::LOCKED, PageFlags::empty());
        });
        assert_eq!(named(freed), Invariant::RootPinned, "{reused}");
    }
}

#[test]
fn i27_a_space_that_miscounts_its_pages() {
    let resident = at_rest(|_, state| state.spaces[0].rss -= 1);
    assert_eq!(resident, Invariant::Resident);
    let in_swap = at_rest(|_, state| state.spaces[0].swapents += 1);
    assert_eq!(in_swap, Invariant::Resident);
}

#[test]
fn i28_a_swap_slot_that_miscounts_its_users_or_loses_its_page() {
    let users = at_rest(|_, state| state.swap_slots[0].users += 1);
    assert_eq!(users, Invariant::SwapSlots);
    let lost = moved(&MODERN).changed(|run| {
        let cached = run.after.swap_slots.iter_mut().find(|slot| slot.cached.is_some());
        cached.unwrap().cached = None;
    });
    assert_eq!(lost, Invariant::SwapSlots);
}

#[test]
fn i33_a_translation_that_is_stale_an_edit_that_is_not_flushed_and_a_free_page_that_is_written() {
    let stale = at_rest(|model, state| {
        let held = state
            .translations
            .iter_mut()
            .find(|held| held.site == at(ANON))
            .unwrap();
        held.pfn = frame(model, SHARED);
    });
    assert_eq!(stale, Invariant::NoStaleTranslation);
    // A CPU that may store needs an entry that allows it and that remembers it.
    for taken in [PteFlags::WRITE, PteFlags::DIRTY] {
        let narrowed = at_rest(|model, state| {
            let entry = state.entry_mut(at(ANON)).unwrap();
            entry.pte = Pte::present(frame(model, ANON), entry.pte.flags().difference(taken));
        });
        assert_eq!(narrowed, Invariant::NoStaleTranslation, "{taken:?}");
    }
    let unmapped = at_rest(|_, state| {
        let mut held = state.translations[0];
        held.site = at(99);
        state.translations.push(held);
    });
    assert_eq!(unmapped, Invariant::NoStaleTranslation);
    let owed = at_rest(|_, state| state.pending.push(at(ANON)));
    assert_eq!(owed, Invariant::NoStaleTranslation);
    let written = at_rest(|_, state| {
        let free = state.free[0].raw() - state.first;
        state.words[free as usize] = Some(1);
    });
    assert_eq!(written, Invariant::NoStaleTranslation);
}

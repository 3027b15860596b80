//! What a run changed: a good run with one thing changed in the state before it or after it.

use std::collections::VecDeque;

use migrate_core::invariants::{Inspect as _, Snapshot, check_contents, check_round_trip, check_unmoved, check_unused};
use migrate_core::model::Model;
use migrate_core::{Frames as _, LINUX_2_6_17, MODERN, putback_lru_pages};
use mm_types::{Invariant, Mapping, MappingId, Mode, Outcome, PageFlags, Pfn, Pte, PteFlags, Refusal, SwapEntry};

use super::system::{
    ANON, BUFFERED, CACHED, FORKED, NODE0, NODE1, Run, SHARED, SWAPPED, at, at_rest, frame, moved, named, stayed,
    system,
};

#[test]
fn i7_an_entry_that_comes_back_to_the_wrong_page() {
    for profile in [&MODERN, &LINUX_2_6_17] {
        let to_old = moved(profile).changed(|run| {
            let was = run.before.entry(at(ANON)).unwrap().pte;
            run.after.entry_mut(at(ANON)).unwrap().pte = was;
        });
        assert_eq!(to_old, Invariant::RestoresRightFrame);
        let to_new = stayed(profile).changed(|run| {
            let flags = run.after.entry(at(ANON)).unwrap().pte.flags();
            run.after.entry_mut(at(ANON)).unwrap().pte = Pte::present(Pfn::new(0x17f), flags);
        });
        assert_eq!(to_new, Invariant::RestoresRightFrame);
    }
}

#[test]
fn i8_a_mapping_that_does_not_come_back() {
    let gone = moved(&MODERN).changed(|run| run.after.entries.retain(|entry| entry.site != at(ANON)));
    assert_eq!(gone, Invariant::MappedAsBefore);
    // Not one that the profile lets come back by a fault: that page is in no swap cache.
    let swapped = moved(&LINUX_2_6_17).changed(|run| {
        let swapped = run.after.pte(at(SWAPPED));
        run.after.entry_mut(at(ANON)).unwrap().pte = swapped;
    });
    assert_eq!(swapped, Invariant::MappedAsBefore);
    let out_of_nothing = moved(&MODERN).changed(|run| {
        let mut entry = *run.after.entry(at(ANON)).unwrap();
        entry.site = at(ANON + 1);
        run.after.entries.insert(1, entry);
    });
    assert_eq!(out_of_nothing, Invariant::MappedAsBefore);
}

#[test]
fn i9_contents_that_are_not_what_was_written_last() {
    let run = moved(&MODERN);
    let contents = |word| {
        let stored = [(at(ANON), Some(word)), (at(SHARED), Some(SHARED + 1))];
        check_contents(&run.after, |site| run.after.pte(site), stored)
    };
    contents(ANON + 1).unwrap();
    assert_eq!(named(contents(77)), Invariant::Contents);
    let lost = moved(&MODERN).changed(|run| {
        let at = run.new_page(SHARED).raw() - run.after.first;
        run.after.words[at as usize] = Some(77);
    });
    assert_eq!(lost, Invariant::Contents);
    let of_another = Run::of(&MODERN, &[ANON], |_| {}).changed(|run| {
        let at = run.new_page(SHARED).raw() - run.after.first;
        run.after.words[at as usize] = Some(77);
    });
    assert_eq!(of_another, Invariant::Contents);
}

#[test]
fn i11_a_part_that_was_dirty_and_is_clean() {
    for held in [false, true] {
        let run = Run::of(&MODERN, &[BUFFERED], |model| {
            // What storage does not have is in two of the parts.
            let pfn = frame(model, BUFFERED);
            model.set_word(pfn, 77);
            model.dirty_buffer(pfn, 1);
            model.dirty_buffer(pfn, 2);
            assert!(!held || model.pin(pfn));
        });
        assert_eq!(run.tally.moved, u32::from(!held));
        let lost = run.changed(|run| {
            let pfn = run.new_page(BUFFERED);
            run.after.frame_mut(pfn).unwrap().dirty_parts = 0b10;
        });
        assert_eq!(lost, Invariant::DirtyConserved);
    }
}

#[test]
fn i13_a_part_that_was_clean_and_is_dirty() {
    let in_part = || {
        Run::of(&MODERN, &[BUFFERED], |model| {
            model.dirty_buffer(frame(model, BUFFERED), 1);
        })
    };
    let run = in_part();
    let pfn = run.new_page(BUFFERED);
    assert_eq!(
        run.after.frame(pfn).unwrap().dirty_parts,
        0b10,
        "it moved with its dirty part"
    );
    let widened = in_part().changed(|run| run.after.frame_mut(pfn).unwrap().dirty_parts = 0b11);
    assert_eq!(widened, Invariant::PartsStayClean);
}

#[test]
fn i17_an_entry_or_a_page_that_is_older_or_younger_than_it_was() {
    for profile in [&MODERN, &LINUX_2_6_17] {
        let entry = moved(profile).changed(|run| {
            let (pfn, flags) = (run.new_page(ANON), run.after.pte(at(ANON)).flags());
            run.after.entry_mut(at(ANON)).unwrap().pte = Pte::present(pfn, flags ^ PteFlags::YOUNG);
        });
        assert_eq!(entry, Invariant::YoungAsProfile);
        let page = moved(profile).changed(|run| {
            let pfn = run.new_page(ANON);
            run.after.frame_mut(pfn).unwrap().flags.toggle(PageFlags::REFERENCED);
        });
        assert_eq!(page, Invariant::YoungAsProfile);
    }
}

#[test]
fn i20_an_old_page_that_is_still_somebodys_and_a_free_one_that_is_not_bare() {
    let kept = moved(&MODERN).changed(|run| {
        let old = run.pfns[1];
        run.after.frame_mut(old).unwrap().flags.insert(PageFlags::DIRTY);
    });
    assert_eq!(kept, Invariant::OnlyForward);
    let not_bare = at_rest(|_, state| {
        let free = state.free[0];
        state.frame_mut(free).unwrap().mapping = Mapping::File(MappingId::new(0));
    });
    assert_eq!(not_bare, Invariant::OnlyForward);
    let lost = at_rest(|_, state| {
        state.free.pop();
    });
    assert_eq!(lost, Invariant::OnlyForward);
}

#[test]
fn i21_a_page_that_stayed_and_a_new_one_that_is_not_as_it_was() {
    for profile in [&MODERN, &LINUX_2_6_17] {
        let settings = stayed(profile).changed(|run| {
            let pfn = run.pfns[0];
            run.after.frame_mut(pfn).unwrap().index += 1;
        });
        assert_eq!(settings, Invariant::FailureRestores);
        let permission = stayed(profile).changed(|run| {
            let (pfn, flags) = (run.pfns[0], run.after.pte(at(ANON)).flags());
            run.after.entry_mut(at(ANON)).unwrap().pte = Pte::present(pfn, flags.difference(PteFlags::WRITE));
        });
        assert_eq!(permission, Invariant::FailureRestores);
        for page in [SHARED, CACHED] {
            let elsewhere = Run::of(profile, &[page], |model| assert!(model.pin(frame(model, page)))).changed(|run| {
                let pfn = run.pfns[0];
                for slot in run.after.cache_slots.iter_mut().filter(|slot| slot.pfn == pfn) {
                    slot.index += 1;
                }
                for slot in run.after.swap_slots.iter_mut().filter(|slot| slot.cached == Some(pfn)) {
                    slot.slot = SwapEntry::new(slot.slot.ty(), slot.slot.offset() + 100).unwrap();
                }
            });
            assert_eq!(elsewhere, Invariant::FailureRestores);
        }
    }
    let of_another = Run::of(&MODERN, &[ANON], |_| {}).changed(|run| {
        let pfn = run.new_page(SHARED);
        run.after.frame_mut(pfn).unwrap().flags.toggle(PageFlags::DIRTY);
    });
    assert_eq!(of_another, Invariant::FailureRestores);
    let model = system(&MODERN);
    let new = model.allocate(NODE1).unwrap();
    check_unused(&model, &[new.pfn()]).unwrap();
    model
        .page(new.pfn())
        .flags()
        .edit(PageFlags::UPTODATE, PageFlags::empty());
    assert_eq!(named(check_unused(&model, &[new.pfn()])), Invariant::FailureRestores);
    model.put(new);
}

#[test]
fn i36_a_page_that_could_not_be_copied_and_looks_sound() {
    let unreadable = || {
        let run = Run::of(&LINUX_2_6_17, &[ANON], |model| {
            model.set_unreadable(frame(model, ANON), true);
        });
        assert_eq!(run.outcomes.last().unwrap().1, Outcome::Refused(Refusal::CopiedTooLate));
        run
    };
    let sound = unreadable().changed(|run| {
        let pfn = run.new_page(ANON);
        run.after.frame_mut(pfn).unwrap().flags.insert(PageFlags::UPTODATE);
    });
    assert_eq!(sound, Invariant::CopyErrorReported);
    let silent = unreadable().changed(|run| {
        let pfn = run.new_page(ANON);
        run.after.frame_mut(pfn).unwrap().flags.remove(PageFlags::ERROR);
    });
    assert_eq!(silent, Invariant::CopyErrorReported);
}

#[test]
fn i38_a_page_that_moves_from_where_it_is_to_where_it_is() {
    let model = system(&MODERN);
    let before = Snapshot::of(&model);
    let pfn = frame(&model, ANON);
    let isolated = model.isolate(pfn, ()).unwrap();
    putback_lru_pages(&model, &mut VecDeque::from([isolated]), ());
    check_unmoved(&before, &Snapshot::of(&model)).expect("isolated and put back is nothing");
    // Who asks for a node must leave pages out that are there: the core moves what it is given.
    model.migrate(&[pfn], NODE0, &MODERN, Mode::Sync, 1, ());
    assert_eq!(
        named(check_unmoved(&before, &Snapshot::of(&model))),
        Invariant::Idempotent
    );
}

#[test]
fn i39_a_page_that_comes_back_otherwise_than_it_went() {
    for profile in [&MODERN, &LINUX_2_6_17] {
        let model = system(profile);
        let pages = [ANON, SHARED, BUFFERED, CACHED, FORKED];
        let before = Snapshot::of(&model);
        for node in [NODE1, NODE0] {
            let present = pages.iter().filter_map(|page| model.pte(at(*page)).pfn());
            let pfns: Vec<Pfn> = present.collect();
            let (tally, _) = model.migrate(&pfns, node, profile, Mode::Sync, pfns.len(), ());
            assert_eq!(tally.moved as usize, pfns.len());
        }
        let after = Snapshot::of(&model);
        let style = profile.entries;
        check_round_trip(&before, &after, style, profile.rules).expect("there and back");
        let broken = |break_it: fn(&Model, &mut Snapshot)| {
            let mut after = after.clone();
            break_it(&model, &mut after);
            named(check_round_trip(&before, &after, style, profile.rules))
        };
        let flag = broken(|model, state| {
            let page = state.frame_mut(frame(model, ANON)).unwrap();
            page.flags.remove(PageFlags::UPTODATE);
        });
        assert_eq!(flag, Invariant::RoundTrip);
        let permission = broken(|model, state| {
            let pfn = frame(model, ANON);
            state.entry_mut(at(ANON)).unwrap().pte = Pte::present(pfn, PteFlags::DIRTY | PteFlags::YOUNG);
        });
        assert_eq!(permission, Invariant::RoundTrip);
        let swapped = broken(|_, state| {
            let (one, other) = (state.cache_slots[0].pfn, state.cache_slots[1].pfn);
            (state.cache_slots[0].pfn, state.cache_slots[1].pfn) = (other, one);
        });
        assert_eq!(swapped, Invariant::RoundTrip);
    }
}

//! What a check compares, one part at a time: each flag, count and mark that it names, and none that it does not.

use migrate_core::invariants::{
    EntryState, FrameState, Held, Inspect, Snapshot, SpaceState, check_always, check_at_rest, check_between_calls,
    check_entries, check_pages, check_round_trip, check_unmoved, check_unused,
};
use migrate_core::{LINUX_2_6_17, MODERN};
use mm_types::{
    AnonVmaId, Invariant, LruList, Mapping, MappingId, Mode, Outcome, PageFlags, Pfn, Pte, PteFlags, Refusal, Rules,
    SpaceId, VmaFlags,
};

use super::system::{
    ANON, BUFFERED, CACHED, FORKED, NODE0, NODE1, Run, SHARED, SWAPPED, at, frame, moved, named, stayed, system,
};

/// One frame, and nothing else.
struct One(FrameState);

impl Inspect for One {
    fn frame_numbers(&self) -> core::ops::Range<u64> {
        0..1
    }

    fn frame(&self, pfn: Pfn) -> Option<FrameState> {
        (pfn.raw() == 0).then_some(self.0)
    }

    fn spaces(&self, _: &mut dyn FnMut(SpaceState)) {}

    fn entries(&self, _: SpaceId, _: &mut dyn FnMut(EntryState)) {}

    fn free_frames(&self, _: &mut dyn FnMut(Pfn)) {}
}

#[test]
fn a_new_page_that_was_not_used_differs_in_nothing() {
    let pristine = FrameState {
        count: 1,
        ..FrameState::default()
    };
    let pfn = [Pfn::new(0)];
    check_unused(&One(pristine), &pfn).unwrap();
    let waited_for = FrameState {
        flags: PageFlags::WAITERS,
        ..pristine
    };
    check_unused(&One(waited_for), &pfn).unwrap();
    let breaks: [fn(&mut FrameState); 7] = [
        |page| page.count = 0,
        |page| page.count = 2,
        |page| page.mapcount = 1,
        |page| page.mapping = Mapping::File(MappingId::new(1)),
        |page| page.mapping = Mapping::Anon(AnonVmaId::new(1)),
        |page| page.list = Some(LruList::Inactive),
        |page| page.flags = PageFlags::LOCKED,
    ];
    for break_it in breaks {
        let mut page = pristine;
        break_it(&mut page);
        assert_eq!(
            named(check_unused(&One(page), &pfn)),
            Invariant::FailureRestores,
            "{page:?}"
        );
    }
}

#[test]
fn an_old_page_keeps_nothing_that_the_allocator_would_mind() {
    let flags = [
        PageFlags::PRIVATE,
        PageFlags::SWAPCACHE,
        PageFlags::ACTIVE,
        PageFlags::DIRTY,
    ];
    for flag in flags {
        let kept = moved(&MODERN).changed(|run| {
            let old = run.pfns[0];
            run.after.frame_mut(old).unwrap().flags.insert(flag);
        });
        assert_eq!(kept, Invariant::OnlyForward, "{flag}");
    }
    let breaks: [fn(&mut FrameState); 3] = [
        |page| page.count = 2,
        |page| page.mapcount = 1,
        |page| page.mapping = Mapping::File(MappingId::new(0)),
    ];
    for break_it in breaks {
        let kept = moved(&MODERN).changed(|run| {
            let old = run.pfns[0];
            break_it(run.after.frame_mut(old).unwrap());
        });
        assert_eq!(kept, Invariant::OnlyForward);
    }
}

#[test]
fn a_page_that_stayed_has_each_of_its_settings_and_may_have_been_used() {
    let settings = PageFlags::UPTODATE
        | PageFlags::ERROR
        | PageFlags::CHECKED
        | PageFlags::MAPPEDTODISK
        | PageFlags::SWAPCACHE
        | PageFlags::SWAPBACKED
        | PageFlags::WORKINGSET
        | PageFlags::HWPOISON
        | PageFlags::RESERVED
        | PageFlags::ACTIVE;
    for flag in settings.iter() {
        let toggled = stayed(&MODERN).changed(|run| {
            let pfn = run.pfns[0];
            run.after.frame_mut(pfn).unwrap().flags.toggle(flag);
        });
        assert_eq!(toggled, Invariant::FailureRestores, "{flag}");
    }
    let mut run = stayed(&MODERN);
    let pfn = run.pfns[0];
    run.after
        .frame_mut(pfn)
        .unwrap()
        .flags
        .toggle(PageFlags::REFERENCED | PageFlags::WAITERS);
    run.check().unwrap();
}

#[test]
fn a_page_that_stayed_is_as_dirty_as_it_was_unless_it_was_written() {
    let clean = |run: &mut Run| {
        let pfn = run.pfns[0];
        run.after.frame_mut(pfn).unwrap().flags.remove(PageFlags::DIRTY);
        let entry = run.after.entry_mut(at(ANON)).unwrap();
        entry.pte = Pte::present(pfn, entry.pte.flags().difference(PteFlags::DIRTY));
        pfn
    };
    assert_eq!(
        stayed(&MODERN).changed(|run| {
            clean(run);
        }),
        Invariant::DirtyConserved
    );
    let mut written = stayed(&MODERN);
    let pfn = clean(&mut written);
    written.outcomes = vec![(pfn, Outcome::Refused(Refusal::WrittenOut))];
    written.check().unwrap();
    // Stored in swap, and in a file: each is enough, where it is this page that is stored.
    let mut slot = written.before.swap_slots[0];
    for (cached, stored, good) in [
        (pfn, Some(true), true),
        (pfn, Some(false), false),
        (Pfn::new(0x17f), Some(true), false),
    ] {
        let mut run = stayed(&MODERN);
        clean(&mut run);
        (slot.cached, slot.stored) = (Some(cached), stored);
        for state in [&mut run.before, &mut run.after] {
            state.swap_slots = vec![slot];
        }
        assert_eq!(run.check().is_ok(), good, "{slot:?}");
        let mut slot = run.before.cache_slots[0];
        (slot.pfn, slot.stored) = (cached, stored);
        for state in [&mut run.before, &mut run.after] {
            state.swap_slots.clear();
            state.cache_slots = vec![slot];
        }
        assert_eq!(run.check().is_ok(), good, "{slot:?}");
    }
}

#[test]
fn a_page_that_stayed_is_in_the_slots_it_was_in() {
    let run = || Run::of(&MODERN, &[SHARED], |model| assert!(model.pin(frame(model, SHARED))));
    let other = Pfn::new(0x17f);
    let elsewhere = run().changed(|run| {
        let pfn = run.pfns[0];
        let mut slots = run.after.cache_slots.iter_mut();
        slots.find(|slot| slot.pfn == pfn).unwrap().pfn = other;
    });
    assert_eq!(elsewhere, Invariant::FailureRestores);
    let of_another = |run: &mut Run| {
        let pfn = run.pfns[0];
        let mut slots = run.after.cache_slots.iter_mut();
        slots.find(|slot| slot.pfn != pfn).unwrap().pfn = other;
    };
    let mut unconcerned = run();
    of_another(&mut unconcerned);
    unconcerned.check().unwrap();
    let cached = Run::of(&MODERN, &[CACHED], |model| assert!(model.pin(frame(model, CACHED)))).changed(|run| {
        let pfn = run.pfns[0];
        let mut slots = run.after.swap_slots.iter_mut();
        slots.find(|slot| slot.cached == Some(pfn)).unwrap().cached = None;
    });
    assert_eq!(cached, Invariant::FailureRestores);
}

#[test]
fn an_entry_keeps_each_mark_and_gains_none() {
    for mark in [PteFlags::EXCLUSIVE, PteFlags::SOFT_DIRTY, PteFlags::UFFD_WP] {
        for gained in [false, true] {
            // Nothing but this mark is set, so that nothing else explains it.
            let run = |toggled: bool| {
                let mut run = moved(&MODERN);
                let set = |state: &mut Snapshot, on: bool| {
                    let entry = state.entry_mut(at(ANON)).unwrap();
                    let pfn = entry.pte.pfn().unwrap();
                    entry.pte = Pte::present(pfn, if on { mark } else { PteFlags::empty() });
                };
                set(&mut run.before, !gained);
                set(&mut run.after, !gained ^ toggled);
                run.before
                    .frame_mut(run.pfns[0])
                    .unwrap()
                    .flags
                    .remove(PageFlags::DIRTY);
                run
            };
            run(false).check().unwrap();
            assert_eq!(named(run(true).check()), Invariant::MarksKept, "{mark:?} {gained}");
        }
    }
}

#[test]
fn a_writable_entry_of_a_private_page_may_come_back_exclusive() {
    let mut run = moved(&MODERN);
    for state in [&mut run.before, &mut run.after] {
        let entry = state.entry_mut(at(ANON)).unwrap();
        entry.pte = Pte::present(entry.pte.pfn().unwrap(), PteFlags::WRITE);
    }
    let entry = run.after.entry_mut(at(ANON)).unwrap();
    entry.pte = Pte::present(entry.pte.pfn().unwrap(), PteFlags::WRITE | PteFlags::EXCLUSIVE);
    let pfn = run.pfns[0];
    run.before.frame_mut(pfn).unwrap().flags.remove(PageFlags::DIRTY);
    run.check().unwrap();
}

#[test]
fn only_in_a_nonlinear_area_is_an_entry_aged_or_named_by_its_offset() {
    let of = |nonlinear: bool, after: fn(Pfn, PteFlags) -> Pte| {
        let mut run = stayed(&MODERN);
        for state in [&mut run.before, &mut run.after] {
            let entry = state.entry_mut(at(ANON)).unwrap();
            let area = entry.area.unwrap().difference(VmaFlags::NONLINEAR);
            let flag = if nonlinear {
                VmaFlags::NONLINEAR
            } else {
                VmaFlags::empty()
            };
            entry.area = Some(area.union(flag));
            entry.pte = Pte::present(entry.pte.pfn().unwrap(), PteFlags::YOUNG | PteFlags::DIRTY);
        }
        let entry = run.after.entry_mut(at(ANON)).unwrap();
        entry.pte = after(entry.pte.pfn().unwrap(), entry.pte.flags());
        run
    };
    let entries = |run: Run| {
        let ran = migrate_core::invariants::Ran {
            profile: run.profile,
            outcomes: &run.outcomes,
        };
        check_entries(&run.before, &run.after, &ran)
    };
    let aged = |pfn, flags: PteFlags| Pte::present(pfn, flags.difference(PteFlags::YOUNG));
    entries(of(true, aged)).unwrap();
    assert_eq!(named(entries(of(false, aged))), Invariant::YoungAsProfile);
    let by_offset = |_, _| Pte::File { offset: 0 };
    entries(of(true, by_offset)).unwrap();
    assert_eq!(named(entries(of(false, by_offset))), Invariant::MappedAsBefore);
}

#[test]
fn what_did_not_move_differs_in_nothing_but_its_place_on_its_list() {
    let before = Snapshot::of(&system(&MODERN));
    let pfn = before.pte(at(ANON)).pfn().unwrap();
    let broken = |break_it: &dyn Fn(&mut Snapshot)| {
        let mut after = before.clone();
        break_it(&mut after);
        check_unmoved(&before, &after)
    };
    broken(&|_| {}).unwrap();
    // It was isolated and put back, and waits in staging.
    broken(&|state| {
        let page = state.frame_mut(pfn).unwrap();
        page.flags.remove(PageFlags::LRU);
        page.list = Some(if page.is_active() {
            LruList::StagedActive
        } else {
            LruList::StagedInactive
        });
        page.count += 1;
    })
    .unwrap();
    let breaks: [&dyn Fn(&mut Snapshot); 9] = [
        &|state| state.frame_mut(pfn).unwrap().flags.toggle(PageFlags::REFERENCED),
        &|state| state.frame_mut(pfn).unwrap().list = None,
        &|state| state.frame_mut(pfn).unwrap().mapcount += 1,
        &|state| state.frame_mut(pfn).unwrap().index += 1,
        &|state| state.words[0] = Some(77),
        &|state| state.free.truncate(1),
        &|state| state.cache_slots.truncate(1),
        &|state| state.swap_slots.truncate(0),
        &|state| state.spaces.truncate(0),
    ];
    for break_it in breaks {
        assert_eq!(named(broken(break_it)), Invariant::Idempotent);
    }
}

#[test]
fn what_moved_there_and_back_has_each_flag_that_lasts_and_is_as_dirty() {
    for profile in [&MODERN, &LINUX_2_6_17] {
        let model = system(profile);
        let before = Snapshot::of(&model);
        for node in [NODE1, NODE0] {
            let pages = [ANON, SHARED, BUFFERED, CACHED, FORKED].map(|page| model.pte(at(page)).pfn());
            let pfns: Vec<Pfn> = pages.into_iter().flatten().collect();
            model.migrate(&pfns, node, profile, Mode::Sync, pfns.len(), ());
        }
        let good = Snapshot::of(&model);
        let checked = |after: &Snapshot| check_round_trip(&before, after, profile.entries, profile.rules);
        checked(&good).unwrap();
        let pfn = frame(&model, ANON);
        let of_today = PageFlags::WORKINGSET | PageFlags::YOUNG | PageFlags::IDLE | PageFlags::SWAPBACKED;
        let of_all = PageFlags::REFERENCED
            | PageFlags::UPTODATE
            | PageFlags::CHECKED
            | PageFlags::MAPPEDTODISK
            | PageFlags::SWAPCACHE
            | PageFlags::PRIVATE;
        for flag in (of_today | of_all).iter() {
            let mut after = good.clone();
            after.frame_mut(pfn).unwrap().flags.toggle(flag);
            let lasts = of_all.contains(flag) || profile.rules == Rules::Modern;
            assert_eq!(checked(&after).is_err(), lasts, "{flag} in {}", profile.rules);
        }
        let mut clean = good.clone();
        clean.frame_mut(pfn).unwrap().flags.remove(PageFlags::DIRTY);
        let entry = clean.entry_mut(at(ANON)).unwrap();
        entry.pte = Pte::present(pfn, entry.pte.flags().difference(PteFlags::DIRTY));
        assert_eq!(named(checked(&clean)), Invariant::RoundTrip);
        // One that was clean may be clean.
        let mut before = before.clone();
        let was = before.entry_mut(at(ANON)).unwrap();
        let old = was.pte.pfn().unwrap();
        was.pte = Pte::present(old, was.pte.flags().difference(PteFlags::DIRTY));
        before.frame_mut(old).unwrap().flags.remove(PageFlags::DIRTY);
        check_round_trip(&before, &clean, profile.entries, profile.rules).unwrap();
        // Mappings of pages in the swap cache come back by a fault in 2006, and not today.
        let mut faulted = good.clone();
        let swapped = faulted.pte(at(SWAPPED));
        assert!(matches!(swapped, Pte::Swap { .. }));
        faulted.entry_mut(at(ANON)).unwrap().pte = swapped;
        assert_eq!(checked(&faulted).is_ok(), profile.rules == Rules::Linux2617);
        let mut by_offset = good.clone();
        by_offset.entry_mut(at(ANON)).unwrap().pte = Pte::File { offset: 0 };
        checked(&by_offset).unwrap();
    }
}

#[test]
fn who_holds_a_page_may_have_locked_it_and_nobody_else() {
    let model = system(&MODERN);
    let pfn = frame(&model, ANON);
    let mut state = Snapshot::of(&model);
    let page = state.frame_mut(pfn).unwrap();
    page.flags.insert(PageFlags::LOCKED);
    assert_eq!(named(check_at_rest(&state, &Held::default())), Invariant::WaitersWake);
    state.frame_mut(pfn).unwrap().count += 1;
    let held = Held {
        references: &[pfn],
        ..Held::default()
    };
    check_at_rest(&state, &held).unwrap();
}

#[test]
fn between_calls_areas_and_entries_agree_and_what_was_written_is_dirty() {
    let model = system(&MODERN);
    let good = Snapshot::of(&model);
    check_between_calls(&good).unwrap();
    let mut widened = good.clone();
    let entry = widened.entry_mut(at(ANON)).unwrap();
    entry.area = entry.area.map(|area| area.difference(VmaFlags::WRITE));
    check_always(&widened).unwrap();
    assert_eq!(named(check_between_calls(&widened)), Invariant::WriteNotWidened);
    // A frame on two free lists, or free and named, is no frame that nobody needs to look at.
    let mut twice = good.clone();
    twice.free.push(twice.free[0]);
    assert_eq!(named(check_always(&twice)), Invariant::OneList);
    let mut named_too = good.clone();
    named_too.free.push(frame(&model, ANON));
    assert_eq!(named(check_always(&named_too)), Invariant::NotFreedInUse);
}

#[test]
fn pages_whose_outcome_is_not_their_last_are_not_looked_at() {
    let mut run = stayed(&MODERN);
    let pfn = run.pfns[0];
    run.after.frame_mut(pfn).unwrap().index += 1;
    run.outcomes = vec![];
    let ran = migrate_core::invariants::Ran {
        profile: run.profile,
        outcomes: &run.outcomes,
    };
    check_pages(&run.before, &run.after, &ran).unwrap();
}

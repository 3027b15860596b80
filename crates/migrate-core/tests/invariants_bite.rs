//! Every invariant bites: a good state, change, outcome, trace or word passes, and with one thing broken on purpose the check names
//! exactly the invariant that it breaks.
//!
//! Which check and which of these tests belong to which invariant is the table of the documents' chapter on invariants.

#![cfg(feature = "model")]

use core::cell::Cell;
use std::collections::VecDeque;

use migrate_core::fixture::{Recording, Replay, run_scenario};
use migrate_core::invariants::{
    FrameState, Held, Inspect as _, Looks, Ran, Snapshot, Violation, Watch, check_always, check_at_rest,
    check_contents, check_must_stay, check_outcomes, check_packing, check_round_trip, check_run, check_targets,
    check_unmoved, check_unused, check_waiters,
};
use migrate_core::model::{Access, Config, Model, ModelFixture, Op, WritePage};
use migrate_core::{
    Args, Edge, Frames as _, Hook as _, Hooked, HookedTarget, Isolated, LINUX_2_6_17, MODERN, Mover, PageRef, Profile,
    Slot, Tally, Verdict, WaiterRef, migrate_pages, migrate_prep, putback_lru_pages,
};
use mm_types::trace::{CheckError, Event, check_events};
use mm_types::{
    ActorId, AnonVmaId, EntryFormat, Invariant, LruList, Mapping, MappingId, MigrationEntry, MigrationFlags, Mode,
    NodeId, NonPresent, Outcome, PageFlags, Pfn, Pte, PteFlags, Reason, Refusal, Rules, Site, SpaceId, Vpn,
};

const CPU0: ActorId = ActorId::new(0);
const NODE0: NodeId = NodeId::new(0);
const NODE1: NodeId = NodeId::new(1);

fn at(page: u64) -> Site {
    Site::new(SpaceId::new(0), Vpn::new(page))
}

/// Where what is, in the space that everybody uses.
const ANON: u64 = 0;
const SHARED: u64 = 4;
const BUFFERED: u64 = 8;
const CACHED: u64 = 12;
const SWAPPED: u64 = 16;
const FORKED: u64 = 20;

/// A system with one of everything: anonymous memory, a shared file with and without buffers, a page in the swap cache, one in
/// swap, one that a child shares. CPU 0 has used all of it.
fn system(profile: &'static Profile) -> Model {
    let model = Model::new(Config {
        profile,
        ..Config::default()
    });
    model.new_space();
    let plain = model.create_file(2, Mover::Plain, WritePage::Unlocks);
    let buffered = model.create_file(2, Mover::Buffers, WritePage::Unlocks);
    for page in [ANON, CACHED, SWAPPED] {
        model.map_anon(at(page), 1);
    }
    model.map_file(at(SHARED), 1, plain, 0, true);
    model.map_file(at(BUFFERED), 1, buffered, 0, true);
    for page in [ANON, SHARED, CACHED, SWAPPED] {
        write(&model, at(page), page + 1);
    }
    read(&model, at(BUFFERED));
    assert!(model.swap_out(frame(&model, SWAPPED)));
    model.swap_cache(frame(&model, CACHED)).unwrap();
    model.map_anon(at(FORKED), 1);
    write(&model, at(FORKED), 7);
    migrate_prep(&model);
    check_at_rest(&model, &Held::default()).expect("a good system");
    model
}

fn write(model: &Model, site: Site, word: u64) {
    assert_eq!(model.access(CPU0, site, Op::Write(word), ()), Access::Done(word));
}

fn read(model: &Model, site: Site) {
    assert!(matches!(model.access(CPU0, site, Op::Read, ()), Access::Done(_)));
}

fn frame(model: &Model, page: u64) -> Pfn {
    model.pte(at(page)).pfn().expect("it is mapped")
}

/// What a check found.
#[track_caller]
fn named(found: Result<(), Violation>) -> Invariant {
    found.expect_err("something was broken").invariant
}

/// Breaks a good state, and says what the check of it at rest names.
#[track_caller]
fn at_rest(break_it: impl FnOnce(&Model, &mut Snapshot)) -> Invariant {
    let model = system(&MODERN);
    let mut state = Snapshot::of(&model);
    check_at_rest(&state, &Held::default()).expect("the snapshot is as good as the model");
    break_it(&model, &mut state);
    named(check_at_rest(&state, &Held::default()))
}

/// Breaks a good state in the middle of a run, before a page is copied whose entries are out.
#[track_caller]
fn in_flight(break_it: impl FnOnce(Pfn, &mut Snapshot)) -> Snapshot {
    let model = system(&MODERN);
    let pfn = frame(&model, ANON);
    let state = Cell::new(None);
    let hook = |edge: Edge| {
        if matches!(edge, Edge::Copy { .. }) {
            state.set(Some(Snapshot::of(&model)));
        }
        Verdict::Go
    };
    hooked(&model, &hook, &MODERN, Mode::Sync, pfn);
    let mut state = state.take().expect("the page was copied");
    check_always(&state).expect("a good state in the middle");
    break_it(pfn, &mut state);
    state
}

/// One page's run with a hook.
fn hooked<H: migrate_core::Hook>(
    model: &Model,
    hook: &H,
    profile: &Profile,
    mode: Mode,
    pfn: Pfn,
) -> Vec<(Pfn, Outcome)> {
    let hooked = Hooked::new(model, hook);
    let mut from: VecDeque<Isolated<PageRef>> = VecDeque::from([model.isolate(pfn, ()).unwrap()]);
    let (mut moved, mut failed) = (VecDeque::new(), VecDeque::new());
    let mut outcomes = Vec::new();
    let args = Args {
        from: &mut from,
        target: HookedTarget(model.target(NODE1)),
        moved: Some(&mut moved),
        failed: &mut failed,
        slots: &mut [const { Slot::new() }],
        profile,
        mode,
        reason: Reason::Compaction,
        outcome: &mut |page: &PageRef, outcome| outcomes.push((page.pfn(), outcome)),
        observer: (),
    };
    migrate_pages(&hooked, args).unwrap();
    for list in [&mut from, &mut moved, &mut failed] {
        putback_lru_pages(model, list, ());
    }
    migrate_prep(model);
    outcomes
}

/// A run over what is at `pages`, from the state before to the state after.
struct Run {
    model: Model,
    profile: &'static Profile,
    before: Snapshot,
    after: Snapshot,
    outcomes: Vec<(Pfn, Outcome)>,
    pfns: Vec<Pfn>,
    tally: Tally,
}

impl Run {
    fn of(profile: &'static Profile, pages: &[u64], prepare: impl FnOnce(&Model)) -> Self {
        let model = system(profile);
        prepare(&model);
        let pfns: Vec<Pfn> = pages.iter().map(|page| frame(&model, *page)).collect();
        let before = Snapshot::of(&model);
        let (tally, outcomes) = model.migrate(&pfns, NODE1, profile, Mode::Sync, pages.len(), ());
        let after = Snapshot::of(&model);
        let run = Self {
            model,
            profile,
            before,
            after,
            outcomes,
            pfns,
            tally,
        };
        run.check().expect("a good run");
        run
    }

    fn check(&self) -> Result<(), Violation> {
        let ran = Ran {
            profile: self.profile,
            outcomes: &self.outcomes,
        };
        check_run(&self.before, &self.after, &ran)
    }

    fn new_page(&self, page: u64) -> Pfn {
        self.model.pte(at(page)).pfn().unwrap()
    }

    #[track_caller]
    fn changed(mut self, break_it: impl FnOnce(&mut Self)) -> Invariant {
        break_it(&mut self);
        named(self.check())
    }
}

/// A run in which everything moves.
fn moved(profile: &'static Profile) -> Run {
    let run = Run::of(profile, &[ANON, SHARED, BUFFERED, CACHED, FORKED], |_| {});
    assert_eq!(run.tally.moved, 5, "{:?}", run.outcomes);
    run
}

/// A run in which a page stays, because somebody holds it.
fn stayed(profile: &'static Profile) -> Run {
    let run = Run::of(profile, &[ANON], |model| assert!(model.pin(frame(model, ANON))));
    assert_eq!(run.tally.moved, 0);
    run
}

/// The events of a run that moves a page, with what must come before it.
fn recorded(profile: &'static Profile, pages: &[u64], mode: Mode) -> Vec<Event> {
    let model = system(profile);
    let pfns: Vec<Pfn> = pages.iter().map(|page| frame(&model, *page)).collect();
    let recording = Recording::with_capacity(1 << 10);
    model.migrate(&pfns, NODE1, profile, mode, pages.len(), &recording);
    let events: Vec<Event> = recording.events().collect();
    check_events(&events).expect("a good trace");
    events
}

/// Breaks a good trace, and says which invariant its check names.
#[track_caller]
fn traced(mut events: Vec<Event>, break_it: impl FnOnce(&mut Vec<Event>)) -> Invariant {
    break_it(&mut events);
    match check_events(&events) {
        Err(CheckError::Violation(violation)) => violation.rule.invariant().expect("an invariant"),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn place(events: &[Event], which: impl Fn(&Event) -> bool) -> usize {
    events.iter().position(which).expect("the event happened")
}

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
}

#[test]
fn i6_an_entry_that_is_left_and_one_that_the_core_did_not_count() {
    let state = in_flight(|_, _| {});
    assert_eq!(named(check_at_rest(&state, &Held::default())), Invariant::NoEntryLeft);
    let state = in_flight(|pfn, state| state.frame_mut(pfn).unwrap().entries_out = Some(2));
    assert_eq!(named(check_always(&state)), Invariant::NoEntryLeft);
}

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
}

#[test]
fn i10_a_new_page_that_is_seen_before_its_contents() {
    let broken = traced(recorded(&LINUX_2_6_17, &[ANON], Mode::Sync), |events| {
        let restore = place(events, |event| matches!(event, Event::Restore { .. }));
        let restore = events.remove(restore);
        let copy = place(events, |event| matches!(event, Event::Copy { .. }));
        events.insert(copy, restore);
    });
    assert_eq!(broken, Invariant::CopyBeforeUse);
}

#[test]
fn i11_dirt_that_nobody_remembers() {
    let forgotten = at_rest(|model, state| {
        let pfn = frame(model, SHARED);
        let entry = state.entry_mut(at(SHARED)).unwrap();
        entry.pte = Pte::present(pfn, entry.pte.flags().difference(PteFlags::DIRTY));
    });
    assert_eq!(forgotten, Invariant::DirtyConserved);
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
fn i14_a_write_permission_that_is_wider_than_its_area_or_than_it_was() {
    let area = at_rest(|_, state| {
        let entry = state.entry_mut(at(ANON)).unwrap();
        entry.area = entry.area.map(|area| area.difference(mm_types::VmaFlags::WRITE));
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
fn i18_a_slot_that_holds_a_page_which_is_elsewhere() {
    let file = at_rest(|model, state| state.cache_slots[0].pfn = frame(model, ANON));
    assert_eq!(file, Invariant::OnePageInSlot);
    let swap = at_rest(|model, state| {
        let cached = state.swap_slots.iter_mut().find(|slot| slot.cached.is_some());
        cached.unwrap().cached = Some(frame(model, ANON));
    });
    assert_eq!(swap, Invariant::OnePageInSlot);
    let neither = moved(&MODERN).changed(|run| {
        run.after.cache_slots.remove(0);
    });
    assert_eq!(neither, Invariant::OnePageInSlot);
}

#[test]
fn i19_a_switch_while_the_count_was_not_frozen() {
    for profile in [&MODERN, &LINUX_2_6_17] {
        let broken = traced(recorded(profile, &[ANON], Mode::Sync), |events| {
            events.retain(|event| !matches!(event, Event::Freeze { .. } | Event::SetMapping { .. }));
        });
        assert_eq!(broken, Invariant::SwitchFrozen);
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
    }
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

/// Watches a run in which somebody does something before the copy.
fn watched(profile: &Profile, before_copy: impl Fn(&Model, Pfn)) -> Result<(), Violation> {
    let model = system(&MODERN);
    let pfn = frame(&model, ANON);
    let hook = |edge: Edge| {
        if let Edge::Copy { new, .. } = edge {
            before_copy(&model, new);
        }
        Verdict::Go
    };
    let watch = Watch::new(&model, profile, Mode::Sync, hook);
    hooked(&model, &watch, profile, Mode::Sync, pfn);
    watch.finish()
}

#[test]
fn i22_a_new_page_that_is_touched_before_the_point_of_no_return() {
    watched(&MODERN, |_, _| {}).unwrap();
    // Its settings are set early in 2006, and that is exempt.
    watched(&LINUX_2_6_17, |_, _| {}).unwrap();
    let touched = watched(&MODERN, |model, new| {
        model.page(new).flags().edit(PageFlags::REFERENCED, PageFlags::empty());
    });
    assert_eq!(named(touched), Invariant::DestinationUntouched);
}

#[test]
fn i23_a_page_that_nobody_will_unlock_and_a_thread_that_never_wakes() {
    let locked = at_rest(|model, state| {
        state
            .frame_mut(frame(model, ANON))
            .unwrap()
            .flags
            .insert(PageFlags::LOCKED)
    });
    assert_eq!(locked, Invariant::WaitersWake);
    let asleep = traced(waited(&MODERN), |events| {
        events.retain(|event| !matches!(event, Event::Wake { .. }));
    });
    assert_eq!(asleep, Invariant::WaitersWake);
}

/// The events of a run whose page a thread waits for.
fn waited(profile: &'static Profile) -> Vec<Event> {
    let text = include_str!("scenarios/fault_in_the_middle.scn").lines();
    // What it expects is not what a broken profile does.
    let text: Vec<&str> = text.filter(|line| !line.starts_with("expect")).collect();
    match run_scenario(&mut ModelFixture::new(), &text.join("\n"), Some(profile)).unwrap() {
        Replay::Ran(report) => {
            let waits = report.events.iter().any(|event| matches!(event, Event::Wait { .. }));
            assert!(waits, "{}", report.trace());
            report.events
        }
        Replay::NotApplicable { lacks } => panic!("the model has no {lacks}"),
    }
}

/// Today's rules, but a thread that waits for a page takes a reference, as in 2006.
const WAITERS_HOLD: Profile = Profile {
    waiter: WaiterRef::Take,
    ..MODERN
};

#[test]
fn i24_a_page_that_stays_because_threads_wait_for_it() {
    check_waiters(Rules::Modern, waited(&MODERN), |_| 0).unwrap();
    let events = waited(&WAITERS_HOLD);
    assert_eq!(
        named(check_waiters(Rules::Modern, events.clone(), |_| 0)),
        Invariant::WaitingIsFree
    );
    // In 2006 that was so.
    check_waiters(Rules::Linux2617, events, |_| 0).unwrap();
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
fn i29_a_page_without_an_outcome_and_a_wrong_sum() {
    let run = moved(&MODERN);
    check_outcomes(&run.pfns, &run.outcomes, &run.tally).unwrap();
    let silent = check_outcomes(&run.pfns, &run.outcomes[1..], &run.tally);
    assert_eq!(named(silent), Invariant::OneOutcome);
    let tally = Tally { failed: 1, ..run.tally };
    let sum = check_outcomes(&run.pfns, &run.outcomes, &tally);
    assert_eq!(named(sum), Invariant::OneOutcome);
}

#[test]
fn i30_a_new_page_that_is_lost_and_one_pass_too_many() {
    let run = moved(&MODERN);
    check_targets(7, 2, &run.outcomes).unwrap();
    assert_eq!(named(check_targets(7, 1, &run.outcomes)), Invariant::Bounded);
    let passes = traced(recorded(&LINUX_2_6_17, &[ANON], Mode::Sync), |events| {
        let first = place(events, |event| matches!(event, Event::Pass { .. }));
        for number in (1..=11).rev() {
            events.insert(first + 1, Event::Pass { number });
        }
    });
    assert_eq!(passes, Invariant::Bounded);
}

/// What a watch says of steps that somebody makes of a run.
fn steps(mode: Mode, steps: impl FnOnce(&Model, &dyn Fn(Edge))) -> Result<(), Violation> {
    let model = system(&MODERN);
    let watch = Watch::new(&model, &MODERN, mode, |_: Edge| Verdict::Go);
    steps(&model, &|edge| {
        watch.before(edge);
    });
    watch.finish()
}

#[test]
fn i31_a_run_that_sleeps_and_may_not() {
    let sleep = |model: &Model, step: &dyn Fn(Edge)| step(Edge::Lock(frame(model, ANON)));
    steps(Mode::Sync, sleep).unwrap();
    assert_eq!(named(steps(Mode::Async, sleep)), Invariant::AsyncNeverWaits);
    let waited = traced(recorded(&MODERN, &[SHARED], Mode::Sync), |events| {
        let Event::Start { mode, .. } = events
            .iter_mut()
            .find(|event| matches!(event, Event::Start { .. }))
            .unwrap()
        else {
            unreachable!()
        };
        *mode = Mode::Async;
        let lock = place(events, |event| matches!(event, Event::Lock(_)));
        let Event::Lock(pfn) = events[lock] else { unreachable!() };
        events.insert(lock + 1, Event::WaitWriteback(pfn));
    });
    assert_eq!(waited, Invariant::AsyncNeverWaits);
}

#[test]
fn i32_a_run_that_sleeps_with_another_page_locked() {
    let slept = |other: bool| {
        steps(Mode::Sync, |model, step| {
            let (first, second) = (frame(model, ANON), frame(model, SHARED));
            if other {
                step(Edge::TryLock(first));
                assert!(model.page(first).flags().try_lock());
            }
            step(Edge::TryLock(second));
            step(Edge::Lock(second));
            model.page(first).flags().edit(PageFlags::empty(), PageFlags::LOCKED);
        })
    };
    slept(false).unwrap();
    assert_eq!(named(slept(true)), Invariant::NoWaitWithLocks);
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

#[test]
fn i34_a_page_that_is_written_out_while_entries_name_it() {
    let broken = traced(recorded(&LINUX_2_6_17, &[ANON], Mode::Sync), |events| {
        let copy = place(events, |event| matches!(event, Event::Copy { .. }));
        let Event::Copy { old, .. } = events[copy] else {
            unreachable!()
        };
        events.insert(copy, Event::Writeout { pfn: old, ok: true });
    });
    assert_eq!(broken, Invariant::NoEntriesAtCallback);
    // The core counts entries in debug builds.
    if cfg!(debug_assertions) {
        let state = in_flight(|_, _| {});
        let watch = Watch::new(&state, &LINUX_2_6_17, Mode::Sync, |_: Edge| Verdict::Go);
        let pfn = state.frames.iter().zip(state.first..).find_map(|(page, n)| {
            let page = page.as_ref()?;
            (page.entries_out > Some(0)).then_some(Pfn::new(n))
        });
        watch.before(Edge::Writeout(pfn.unwrap()));
        assert_eq!(named(watch.finish()), Invariant::NoEntriesAtCallback);
    }
}

#[test]
fn i35_a_pinned_page_that_moves_and_a_wrong_reason() {
    let run = stayed(&MODERN);
    check_must_stay(&run.before, &run.outcomes).unwrap();
    let to = Pfn::new(0x17f);
    let moved = check_must_stay(&run.before, &[(run.pfns[0], Outcome::Moved { to })]);
    assert_eq!(named(moved), Invariant::MustStay);
    let mut before = run.before.clone();
    before.frame_mut(run.pfns[0]).unwrap().pins = 0;
    assert_eq!(named(check_must_stay(&before, &run.outcomes)), Invariant::MustStay);
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
fn i37_a_status_that_is_written_twice_and_one_of_a_page_that_was_not_tried() {
    let run = moved(&MODERN);
    let mut outcomes = run.outcomes.clone();
    outcomes.push(outcomes[0]);
    let twice = check_outcomes(&run.pfns, &outcomes, &run.tally);
    assert_eq!(named(twice), Invariant::StatusOnce);
    let foreign = check_outcomes(&run.pfns[1..], &run.outcomes, &run.tally);
    assert_eq!(named(foreign), Invariant::StatusOnce);
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

#[test]
fn i40_an_entry_that_reads_back_as_another_or_looks_like_one_that_is_present() {
    let format = EntryFormat::X86_64;
    let migration = MigrationEntry::writable(Pfn::new(0x1234)).with_flags(MigrationFlags::DIRTY);
    let entry = Pte::Migration(migration);
    let word = format.encode(NonPresent::Migration(migration)).unwrap();
    let looks = |word: u64| Looks {
        present: format.is_present(word),
        none: format.is_none(word),
        file: format.is_file(word),
    };
    let decode = |word: u64| match format.decode(word)? {
        NonPresent::Migration(entry) => Some(Pte::Migration(entry)),
        _ => None,
    };
    check_packing(entry, word, looks, decode).unwrap();
    let forgetful = |word: u64| {
        let entry = decode(word)?.migration()?;
        Some(Pte::Migration(entry.with_flags(MigrationFlags::empty())))
    };
    let lost = check_packing(entry, word, looks, forgetful);
    assert_eq!(named(lost), Invariant::EntryReadsBack);
    let present = check_packing(entry, word | 1, looks, decode);
    assert_eq!(named(present), Invariant::EntryReadsBack);
}

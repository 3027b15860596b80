//! A system with one of everything, runs over it, and how one thing of them is broken.

use core::cell::Cell;
use std::collections::VecDeque;

use migrate_core::fixture::{Recording, Replay, run_scenario};
use migrate_core::invariants::{Held, Ran, Snapshot, Violation, check_always, check_at_rest, check_run};
use migrate_core::model::{Access, Config, Model, ModelFixture, Op, WritePage};
use migrate_core::{
    Args, Edge, Hooked, HookedTarget, Isolated, MODERN, Mover, PageRef, Profile, Slot, Tally, Verdict, migrate_pages,
    migrate_prep, putback_lru_pages,
};
use mm_types::trace::{CheckError, Event, check_events};
use mm_types::{ActorId, Invariant, Mode, NodeId, Outcome, Pfn, Reason, Site, SpaceId, Vpn};

pub(crate) const CPU0: ActorId = ActorId::new(0);
pub(crate) const NODE0: NodeId = NodeId::new(0);
pub(crate) const NODE1: NodeId = NodeId::new(1);

pub(crate) fn at(page: u64) -> Site {
    Site::new(SpaceId::new(0), Vpn::new(page))
}

/// Where what is, in the space that everybody uses.
pub(crate) const ANON: u64 = 0;
pub(crate) const SHARED: u64 = 4;
pub(crate) const BUFFERED: u64 = 8;
pub(crate) const CACHED: u64 = 12;
pub(crate) const SWAPPED: u64 = 16;
pub(crate) const FORKED: u64 = 20;

/// A system with one of everything: anonymous memory, a shared file with and without buffers, a page in the swap cache, one in
/// swap, one that a child shares. CPU 0 has used all of it.
pub(crate) fn system(profile: &'static Profile) -> Model {
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

pub(crate) fn write(model: &Model, site: Site, word: u64) {
    assert_eq!(model.access(CPU0, site, Op::Write(word), ()), Access::Done(word));
}

pub(crate) fn read(model: &Model, site: Site) {
    assert!(matches!(model.access(CPU0, site, Op::Read, ()), Access::Done(_)));
}

pub(crate) fn frame(model: &Model, page: u64) -> Pfn {
    model.pte(at(page)).pfn().expect("it is mapped")
}

/// What a check found.
#[track_caller]
pub(crate) fn named(found: Result<(), Violation>) -> Invariant {
    found.expect_err("something was broken").invariant
}

/// Breaks a good state, and says what the check of it at rest names.
#[track_caller]
pub(crate) fn at_rest(break_it: impl FnOnce(&Model, &mut Snapshot)) -> Invariant {
    let model = system(&MODERN);
    let mut state = Snapshot::of(&model);
    check_at_rest(&state, &Held::default()).expect("the snapshot is as good as the model");
    break_it(&model, &mut state);
    named(check_at_rest(&state, &Held::default()))
}

/// Breaks a good state in the middle of a run, before a page is copied whose entries are out.
#[track_caller]
pub(crate) fn in_flight(break_it: impl FnOnce(Pfn, &mut Snapshot)) -> Snapshot {
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
pub(crate) fn hooked<H: migrate_core::Hook>(
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
pub(crate) struct Run {
    pub(crate) model: Model,
    pub(crate) profile: &'static Profile,
    pub(crate) before: Snapshot,
    pub(crate) after: Snapshot,
    pub(crate) outcomes: Vec<(Pfn, Outcome)>,
    pub(crate) pfns: Vec<Pfn>,
    pub(crate) tally: Tally,
}

impl Run {
    pub(crate) fn of(profile: &'static Profile, pages: &[u64], prepare: impl FnOnce(&Model)) -> Self {
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

    pub(crate) fn check(&self) -> Result<(), Violation> {
        let ran = Ran {
            profile: self.profile,
            outcomes: &self.outcomes,
        };
        check_run(&self.before, &self.after, &ran)
    }

    pub(crate) fn new_page(&self, page: u64) -> Pfn {
        self.model.pte(at(page)).pfn().unwrap()
    }

    #[track_caller]
    pub(crate) fn changed(mut self, break_it: impl FnOnce(&mut Self)) -> Invariant {
        break_it(&mut self);
        named(self.check())
    }
}

/// A run in which everything moves.
pub(crate) fn moved(profile: &'static Profile) -> Run {
    let run = Run::of(profile, &[ANON, SHARED, BUFFERED, CACHED, FORKED], |_| {});
    assert_eq!(run.tally.moved, 5, "{:?}", run.outcomes);
    run
}

/// A run in which a page stays, because somebody holds it.
pub(crate) fn stayed(profile: &'static Profile) -> Run {
    let run = Run::of(profile, &[ANON], |model| assert!(model.pin(frame(model, ANON))));
    assert_eq!(run.tally.moved, 0);
    run
}

/// The events of a run that moves a page, with what must come before it.
pub(crate) fn recorded(profile: &'static Profile, pages: &[u64], mode: Mode) -> Vec<Event> {
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
pub(crate) fn traced(mut events: Vec<Event>, break_it: impl FnOnce(&mut Vec<Event>)) -> Invariant {
    break_it(&mut events);
    match check_events(&events) {
        Err(CheckError::Violation(violation)) => violation.rule.invariant().expect("an invariant"),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
pub(crate) fn place(events: &[Event], which: impl Fn(&Event) -> bool) -> usize {
    events.iter().position(which).expect("the event happened")
}

/// The events of a run whose page a thread waits for.
pub(crate) fn waited(profile: &'static Profile) -> Vec<Event> {
    let text = include_str!("../scenarios/fault_in_the_middle.scn").lines();
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

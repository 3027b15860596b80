//! One run in which something fails, and everything that must hold of it.

use core::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use migrate_core::fixture::Recording;
use migrate_core::invariants::{Snapshot as State, Watch, check_between_calls};
use migrate_core::model::Model;
use migrate_core::{
    Args, Edge, Effect, Failure, FailurePlan, Frames, Hook, Hooked, HookedTarget, Injection, Isolated, Lru, NewPages,
    PageRef, Profile, Slot, Tally, Verdict, isolate_lru_page, migrate_pages, migrate_pages_nowait, migrate_prep,
    migration_entry_wait, putback_lru_pages,
};
use mm_types::trace::{check_events, text_of};
use mm_types::{ActorId, Mode, NodeId, Outcome, Pfn, Reason, Refusal};

use super::check::{check_again, check_lists, check_outcomes, check_pages, check_said};
use super::snapshot::Snapshot;
use super::stage::{Kind, Stage};

const TARGET: NodeId = NodeId::new(1);
pub(crate) const WAITER: ActorId = ActorId::new(0);
/// Events that one page can have: refused in ten passes at the last step, and copied ten times in each.
const EVENTS: usize = 512;

/// How a run is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    pub(crate) profile: &'static Profile,
    pub(crate) mode: Mode,
    pub(crate) batch: usize,
}

/// What became of every page.
#[derive(Debug, Default)]
pub(crate) struct Ran {
    /// Everything told, by page number in the scene.
    pub(crate) told: Vec<Vec<Outcome>>,
    /// Which pages met a failure that was injected, and which.
    pub(crate) hits: BTreeSet<(usize, Injection)>,
}

impl Ran {
    pub(crate) fn last(&self, page: usize) -> Option<Outcome> {
        self.told[page].iter().copied().find(|outcome| outcome.is_final())
    }

    pub(crate) fn refusals(&self, page: usize) -> impl Iterator<Item = Refusal> {
        self.told[page].iter().filter_map(|outcome| match outcome {
            Outcome::Refused(refusal) | Outcome::Retry(refusal) => Some(*refusal),
            Outcome::Moved { .. } | Outcome::Freed => None,
        })
    }

    pub(crate) fn was_refused_by(&self, page: usize, refusal: Refusal) -> bool {
        self.refusals(page).any(|other| other.word() == refusal.word())
    }

    /// What was injected into the page.
    pub(crate) fn failures_of(&self, page: usize) -> impl Iterator<Item = Injection> {
        let hits = self.hits.iter().filter(move |(at, _)| *at == page);
        hits.map(|(_, injection)| *injection)
    }

    /// What had to come of it.
    pub(crate) fn effects_on(&self, page: usize, config: Config) -> impl Iterator<Item = Effect> {
        self.failures_of(page)
            .map(move |injection| injection.effect(config.profile, config.mode))
    }

    pub(crate) fn is_hit(&self, page: usize) -> bool {
        self.failures_of(page).next().is_some()
    }

    /// Somebody dirtied the page in the middle of the run.
    pub(crate) fn is_dirtied(&self, page: usize) -> bool {
        self.failures_of(page)
            .any(|injection| injection.failure == Failure::Dirtied)
    }

    /// How many pages `injection` refused, beyond what they would have been refused by themselves.
    pub(crate) fn refused_by(&self, injection: Injection, effect: Effect, clean: &Self) -> u32 {
        let so_often = |ran: &Self, page: usize| ran.refusals(page).filter(|refusal| effect.is(*refusal)).count();
        let by_it =
            |page: &usize| self.hits.contains(&(*page, injection)) && so_often(self, *page) > so_often(clean, *page);
        (0..self.told.len()).filter(by_it).count() as u32
    }
}

pub(crate) type List = VecDeque<Isolated<PageRef>>;

/// The lists of a run, after it.
#[derive(Default)]
pub(crate) struct Lists {
    pub(crate) from: List,
    pub(crate) moved: List,
    pub(crate) failed: List,
    pub(crate) news: VecDeque<PageRef>,
}

pub(crate) fn pfns(list: &List) -> Vec<Pfn> {
    list.iter().map(|page| page.page().pfn()).collect()
}

/// What one run is checked against.
pub(crate) struct Expected<'a> {
    /// The same run without a failure.
    pub(crate) clean: &'a Ran,
    /// Once only: whoever was only refused for now must have gone on.
    pub(crate) once: bool,
}

/// Makes the run, checks all that must hold, lets everybody go, and checks that nothing is left.
///
/// # Errors
/// What does not hold, and the trace.
pub(crate) fn run(
    kinds: &[Kind],
    config: Config,
    plan: &FailurePlan,
    expected: Option<&Expected<'_>>,
) -> Result<Ran, String> {
    let stage = Stage::new(config.profile, kinds);
    let recording = Recording::with_capacity(EVENTS * kinds.len());
    let checked = run_on(&stage, config, plan, expected, &recording);
    let ran = checked.and_then(|ran| {
        stage.end()?;
        Ok(ran)
    });
    ran.map_err(|what| format!("{what}\n{}", recording.text()))
}

fn run_on(
    stage: &Stage,
    config: Config,
    plan: &FailurePlan,
    expected: Option<&Expected<'_>>,
    recording: &Recording,
) -> Result<Ran, String> {
    let model = &stage.model;
    let page_at: BTreeMap<Pfn, usize> = stage.pages.iter().zip(0..).map(|(page, n)| (page.pfn, n)).collect();
    let before = Snapshot::take(stage);
    let ran = RefCell::new(Ran {
        told: vec![Vec::new(); stage.pages.len()],
        ..Ran::default()
    });
    let trouble: RefCell<Option<String>> = RefCell::default();
    let (taken_for, touched) = (Cell::new(None), Cell::new(false));
    let ask = |edge: Edge| {
        let of_edge = edge.pfn().and_then(|pfn| page_at.get(&pfn).copied());
        let page = match edge {
            // A new page is locked right after it was taken, for the page that it was taken for.
            Edge::TryLockNew(_) => taken_for.get(),
            _ => of_edge,
        };
        if let Edge::Take(_) = edge {
            taken_for.set(page);
        }
        let verdict = plan.before(edge);
        if let (Verdict::FailAs(failure), Some(page)) = (verdict, page) {
            let edge = edge.kind();
            ran.borrow_mut().hits.insert((page, Injection { edge, failure }));
        }
        verdict
    };
    let hook = |edge: Edge| {
        let verdict = ask(edge);
        stage.while_it_sleeps(edge, verdict);
        if let (Edge::Copy { old, .. }, false) = (edge, touched.get()) {
            touched.set(true);
            touch(stage, config, old, &ask, recording);
        }
        // A look changes nothing. No call of a program is in the middle of anything, whatever the run is at.
        let checked = if edge.is_look() {
            Ok(())
        } else {
            check_between_calls(model)
        };
        if let Err(violation) = checked {
            let what = format!("before {edge:?}: {violation}");
            trouble.borrow_mut().get_or_insert(what);
        }
        verdict
    };
    let watch = Watch::new(model, config.profile, config.mode, hook);
    let hooked = Hooked::new(model, &watch);
    let all: Vec<Pfn> = stage.pages.iter().map(|page| page.pfn).collect();
    let mut lists = Lists::default();
    isolate(&hooked, &all, &mut lists.from, &ran, &page_at, recording);
    stage.after_isolation(recording);
    let (isolated, state) = (Snapshot::take(stage), State::of(model));
    let listed = pfns(&lists.from);
    lists.news = (0..listed.len()).filter_map(|_| model.allocate(TARGET)).collect();
    let given: BTreeSet<Pfn> = lists.news.iter().map(PageRef::pfn).collect();
    let tell = |pfn: Pfn, outcome| ran.borrow_mut().told[page_at[&pfn]].push(outcome);
    let tally = migrate(&hooked, config, &mut lists, &tell, recording);
    stage.after_the_run();
    let watched = watch.finish();
    if let Some(trouble) = trouble.take() {
        return Err(trouble);
    }
    watched.map_err(|violation| format!("before a step: {violation}"))?;
    let ran = ran.into_inner();
    check_lists(&ran, stage, &listed, &lists, &given)?;
    check_pages(&ran, stage, &isolated, &lists, config.profile)?;
    for list in [&mut lists.from, &mut lists.moved, &mut lists.failed] {
        putback_lru_pages(model, list, recording);
    }
    lists.news.drain(..).for_each(|page| model.put(page));
    model.drain();
    check_again(&ran, stage, &before, config.profile)?;
    if recording.dropped() > 0 {
        return Err(format!("{} events were not recorded", recording.dropped()));
    }
    let events: Vec<_> = recording.events().collect();
    check_events(&events).map_err(|error| format!("the trace: {error}"))?;
    check_said(&ran, stage, config, &listed, &tally, &state, &events)?;
    if let Some(expected) = expected {
        check_outcomes(&ran, stage, config, expected)?;
        try_again(&ran, stage, config, expected)?;
    }
    Ok(ran)
}

/// A thread touches the page while it is in flight: it waits, or is woken too early.
fn touch(stage: &Stage, config: Config, old: Pfn, ask: &dyn Fn(Edge) -> Verdict, recording: &Recording) {
    let model = &stage.model;
    let in_flight = |site: &&mm_types::Site| model.pte(**site).migration().is_some_and(|entry| entry.pfn() == old);
    let Some(site) = stage.pages.iter().flat_map(|page| &page.sites).find(in_flight) else {
        return;
    };
    let hook = |edge: Edge| {
        let verdict = ask(edge);
        if matches!((edge, verdict), (Edge::WaitOn(_), Verdict::Go)) {
            // One thread runs everything: nobody could end its wait, so it ends by itself, as a wait may.
            model.on_sleep(|_| {});
        }
        verdict
    };
    migration_entry_wait(&Hooked::new(model, &hook), config.profile, *site, WAITER, recording);
}

fn isolate<H: Hook>(
    hooked: &Hooked<'_, Model, H>,
    pages: &[Pfn],
    from: &mut List,
    ran: &RefCell<Ran>,
    page_at: &BTreeMap<Pfn, usize>,
    recording: &Recording,
) {
    migrate_prep(hooked);
    for pfn in pages {
        let page = hooked.get(*pfn).expect("a page in use");
        match isolate_lru_page(hooked, &page, recording) {
            Ok(isolated) => from.push_back(isolated),
            Err(refusal) => ran.borrow_mut().told[page_at[pfn]].push(Outcome::Refused(refusal)),
        }
        hooked.put(page);
    }
}

fn migrate<H: Hook>(
    hooked: &Hooked<'_, Model, H>,
    config: Config,
    lists: &mut Lists,
    tell: &dyn Fn(Pfn, Outcome),
    recording: &Recording,
) -> Tally {
    let mut slots: Vec<_> = (0..config.batch).map(|_| Slot::new()).collect();
    let args = Args {
        from: &mut lists.from,
        target: HookedTarget(NewPages(&mut lists.news)),
        moved: Some(&mut lists.moved),
        failed: &mut lists.failed,
        slots: &mut slots,
        profile: config.profile,
        mode: config.mode,
        reason: Reason::Compaction,
        outcome: &mut |page: &PageRef, outcome| tell(page.pfn(), outcome),
        observer: recording,
    };
    let done = if config.profile.blocks(config.mode) {
        migrate_pages(hooked, args)
    } else {
        migrate_pages_nowait(hooked, args)
    };
    done.expect("slots were lent, and the call is the mode's")
}

/// Whatever stayed for an injected failure only, moves as soon as nothing fails.
fn try_again(ran: &Ran, stage: &Stage, config: Config, expected: &Expected<'_>) -> Result<(), String> {
    let model = &stage.model;
    let would = |n: &usize| {
        matches!(expected.clean.last(*n), Some(Outcome::Moved { .. }))
            && matches!(ran.last(*n), Some(Outcome::Refused(refusal)) if refusal != Refusal::CopiedTooLate)
    };
    let stayed: Vec<usize> = (0..stage.pages.len()).filter(would).collect();
    if stayed.is_empty() {
        return Ok(());
    }
    for n in stayed.iter().filter(|n| ran.is_dirtied(**n)) {
        stage.write_back(&stage.pages[*n]);
    }
    let pages: Vec<Pfn> = stayed.iter().map(|n| stage.pages[*n].pfn).collect();
    let page_at: BTreeMap<Pfn, usize> = pages.iter().copied().zip(0..).collect();
    let again = RefCell::new(Ran {
        told: vec![Vec::new(); pages.len()],
        ..Ran::default()
    });
    let hook = |edge: Edge| {
        stage.while_it_sleeps(edge, Verdict::Go);
        Verdict::Go
    };
    let hooked = Hooked::new(model, &hook);
    let mut lists = Lists::default();
    let recording = Recording::with_capacity(EVENTS * pages.len());
    isolate(&hooked, &pages, &mut lists.from, &again, &page_at, &recording);
    lists.news = pages.iter().filter_map(|_| model.allocate(TARGET)).collect();
    let tell = |pfn: Pfn, outcome| again.borrow_mut().told[page_at[&pfn]].push(outcome);
    migrate(&hooked, config, &mut lists, &tell, &recording);
    for list in [&mut lists.from, &mut lists.moved, &mut lists.failed] {
        putback_lru_pages(model, list, &recording);
    }
    lists.news.drain(..).for_each(|page| model.put(page));
    stage.after_the_run();
    let again = again.into_inner();
    for (n, of_stage) in stayed.iter().enumerate() {
        if !matches!(again.last(n), Some(Outcome::Moved { .. })) {
            let kind = stage.pages[*of_stage].kind;
            return Err(format!(
                "{kind:?} does not move when nothing fails any more: {:?}",
                again.told[n]
            ));
        }
    }
    let events: Vec<_> = recording.events().collect();
    let checked = check_events(&events);
    checked.map_err(|error| format!("the second trace: {error}\n{}", text_of(events)))?;
    Ok(())
}

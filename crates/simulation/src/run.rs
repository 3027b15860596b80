//! One run of the engine in a sequence: lists, targets, what others do meanwhile.
//!
//! To the reference a run is nothing at all. So all that is checked of it is what programs cannot see: its trace, here; outcomes,
//! lists and entries, in `ran.rs`.

use core::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use migrate_core::fixture::Recording;
use migrate_core::invariants::{Snapshot, Watch, check_targets, check_unused};
use migrate_core::model::Model;
use migrate_core::{
    Args, Edge, Frames, FromFn, Hook, Hooked, HookedTarget, Isolated, LINUX_2_6_17, MODERN, NewPages, PageRef, Profile,
    Slot, Tally, Target, Verdict, WaiterRef, migrate_pages, migrate_pages_nowait, migrate_prep, putback_lru_pages,
};
use mm_types::trace::{CheckError, Event, Observer, check_events};
use mm_types::{Mode, NodeId, Pfn, Reason, Refusal, Rules, Site};

use crate::check::words;
use crate::counts::Kind;
use crate::disturbed::Disturbed;
use crate::ran::Ran;
use crate::step::Migrate;
use crate::steps::Course;
use crate::world::World;

/// Of the runs that are compared where nobody else acts, one in so many is where others do: memory is written down at each of theirs.
const SELDOM: u32 = 16;

type Pages = VecDeque<Isolated<PageRef>>;

/// Where a run's events go, when anybody wants them.
#[derive(Clone, Copy)]
struct Trace<'r>(Option<&'r Recording>);

impl Observer for Trace<'_> {
    const ENABLED: bool = true;

    fn event(self, event: Event) {
        if let Some(recording) = self.0.filter(|_| !std::thread::panicking()) {
            recording.push(event);
        }
    }
}

const fn run_word(rules: Rules, mode: Mode) -> &'static str {
    match (rules, mode) {
        (Rules::Linux2617, Mode::Async) => "linux-2.6.17 async",
        (Rules::Linux2617, Mode::SyncLight) => "linux-2.6.17 sync_light",
        (Rules::Linux2617, Mode::Sync) => "linux-2.6.17 sync",
        (Rules::Modern, Mode::Async) => "modern async",
        (Rules::Modern, Mode::SyncLight) => "modern sync_light",
        (Rules::Modern, Mode::Sync) => "modern sync",
    }
}

fn pfns(list: &Pages) -> Vec<Pfn> {
    list.iter().map(|page| page.page().pfn()).collect()
}

impl World {
    pub(crate) fn migrate(&self, migrate: &Migrate) -> Result<(), String> {
        if migrate.back {
            self.there_and_back(migrate)
        } else {
            self.one_way(migrate, None).map(|_| ())
        }
    }

    /// The profile whose rules a run follows.
    pub(crate) fn rules_of(&self, migrate: &Migrate) -> &'static Profile {
        match (self.profile.rules, migrate.other_rules) {
            (Rules::Modern, false) | (Rules::Linux2617, true) => &MODERN,
            _ => &LINUX_2_6_17,
        }
    }

    /// Makes one run, puts everything back, and checks it. Returns what it did. `home` says which pages it is about, and the node
    /// where each shall go; without it, its picks say that.
    ///
    /// # Errors
    /// What does not hold.
    pub(crate) fn one_way(&self, migrate: &Migrate, home: Option<&BTreeMap<Pfn, NodeId>>) -> Result<Ran, String> {
        let model = &self.model;
        let profile = self.rules_of(migrate);
        let run = self.runs.replace(self.runs.get().wrapping_add(1));
        let traced = run % self.care.traces == 0;
        let alone = migrate.is_alone();
        // Where others act, memory is written down before and after each of them.
        let compared = traced && (alone || run % (SELDOM * self.care.traces) == 0 || self.care.every == 1);
        let course = Course::default();
        let node = |pfn| {
            home.and_then(|home| home.get(&pfn).copied())
                .unwrap_or_else(|| self.other_node(pfn))
        };
        let recording = traced.then(|| Arc::new(Recording::with_capacity(self.size.events)));
        // Kept from now on, so that it is there when the run panics.
        self.recording.borrow_mut().clone_from(&recording);
        self.moments.borrow_mut().clear();
        let trace = Trace(recording.as_deref());
        migrate_prep(model);
        // The trace begins where the first of them was isolated.
        for page in &self.held().isolated {
            trace.note(|| Event::Isolate(page.page().pfn()));
        }
        let mut from = if migrate.isolated {
            core::mem::take(&mut self.held().isolated)
        } else {
            Pages::new()
        };
        let frames = match home {
            Some(home) => home.keys().copied().collect(),
            None => self.frames(migrate.at, migrate.pages.into()),
        };
        let untouched = (compared && alone && from.is_empty()).then(|| Snapshot::of(model));
        for pfn in frames {
            let Some(page) = model.get(pfn) else { continue };
            if let Ok(isolated) = self.isolate_for(migrate, profile, &page, &course, trace) {
                from.push_back(isolated);
            }
            model.put(page);
        }
        let listed = pfns(&from);
        self.note("migrate", || {
            format!(
                "{} mode={} {} batch={} targets={:?} moved={}",
                listed
                    .iter()
                    .map(|pfn| format!("f{:x}", pfn.raw()))
                    .collect::<Vec<_>>()
                    .join(","),
                migrate.mode,
                profile.rules,
                migrate.batch,
                migrate.targets,
                migrate.moved,
            )
        });
        self.counts.add(Kind::Run, run_word(profile.rules, migrate.mode));
        let entries = self.entries();
        let in_use = self.in_use(&entries);
        let of_run = |site: &Site| self.model.pte(*site).pfn().is_some_and(|pfn| listed.contains(&pfn));
        let bound = |pfn: &Pfn| (*pfn, self.bound(*pfn, &in_use, profile, migrate.mode));
        let mut ran = Ran {
            profile,
            targets: migrate.targets.map(usize::from),
            alone,
            // In 2006 whoever waits for a page holds it.
            undisturbed: alone || migrate.only_waits() && self.profile.waiter == WaiterRef::None,
            sites: entries.iter().map(|(site, _)| *site).filter(of_run).collect(),
            before: compared.then(|| Snapshot::of(model)),
            untouched,
            bound: listed.iter().map(bound).collect(),
            from: listed,
            outcomes: Vec::new(),
            tally: Tally::default(),
            slept: 0,
            may_sleep: profile.blocks(migrate.mode),
        };
        let (mut moved, mut failed) = (Pages::new(), Pages::new());
        let act = |edge: Edge| self.before(migrate, profile, edge, &course, trace);
        let watch = Watch::new(model, profile, migrate.mode, act);
        let hook = |edge: Edge| {
            // A run that panicked is given up, and went wrong before.
            if std::thread::panicking() {
                return Verdict::Go;
            }
            self.keep_moment();
            let verdict = watch.before(edge);
            if let Some(wrong) = watch.wrong() {
                course.trouble_at(self, edge, &wrong);
            }
            verdict
        };
        let targets_hold;
        let went_on = self.held().went_on.len();
        self.run_sites.borrow_mut().clone_from(&ran.sites);
        *self.disturbed.borrow_mut() = compared.then(Disturbed::default);
        self.in_run.set(true);
        let lists = (&mut from, &mut moved, &mut failed);
        match migrate.targets {
            Some(targets) => {
                let node = ran.from.first().map_or(NodeId::new(1), |pfn| node(*pfn));
                let mut news: VecDeque<PageRef> = (0..targets).filter_map(|_| model.allocate(node)).collect();
                let offered = news.len();
                self.run(migrate, &mut ran, &hook, NewPages(&mut news), lists, trace);
                let unused: Vec<Pfn> = news.iter().map(PageRef::pfn).collect();
                targets_hold =
                    check_unused(model, &unused).and_then(|()| check_targets(offered, unused.len(), &ran.outcomes));
                news.into_iter().for_each(|page| model.put(page));
            }
            None => {
                let given = Cell::new(0usize);
                let target = FromFn {
                    take: |old: &PageRef| {
                        let page = model.allocate(node(old.pfn())).ok_or(Refusal::NoTarget)?;
                        given.set(given.get() + 1);
                        Ok(page)
                    },
                    give_back: |page| {
                        given.set(given.get() - 1);
                        model.put(page);
                    },
                };
                self.run(migrate, &mut ran, &hook, target, lists, trace);
                targets_hold = check_targets(given.get(), 0, &ran.outcomes);
            }
        }
        self.in_run.set(false);
        let let_go = self.held().went_on.split_off(went_on);
        ran.slept = let_go.len() - course.others_slept();
        let lists = [pfns(&from), pfns(&moved), pfns(&failed)];
        for list in [&mut from, &mut moved, &mut failed] {
            putback_lru_pages(model, list, trace);
        }
        if let Some(trouble) = course.trouble() {
            return Err(trouble);
        }
        self.finish_waits()?;
        let disturbed = self.disturbed.take().map(|mut disturbed| {
            disturbed.let_go(&let_go);
            disturbed
        });
        if let Some(recording) = recording.as_ref().filter(|recording| recording.dropped() == 0) {
            self.counts.add(Kind::Check, "traces replayed");
            let events: Vec<_> = recording.events().collect();
            check_events(&events).map_err(|error| {
                if let CheckError::Violation(violation) = error {
                    // The version line is line 1.
                    self.mark(violation.line.saturating_sub(1));
                }
                format!("the trace: {error}")
            })?;
        }
        targets_hold.map_err(words)?;
        self.touched.borrow_mut().extend_from_slice(&ran.sites);
        ran.check(self, &lists, migrate.moved, disturbed.as_ref())?;
        Ok(ran)
    }

    fn run<H: Hook, T: Target<Model>>(
        &self,
        migrate: &Migrate,
        ran: &mut Ran,
        hook: &H,
        target: T,
        (from, moved, failed): (&mut Pages, &mut Pages, &mut Pages),
        trace: Trace<'_>,
    ) {
        let hooked = Hooked::new(&self.model, hook);
        let mut slots: Vec<Slot<_>> = (0..migrate.batch).map(|_| Slot::new()).collect();
        let outcomes = &mut ran.outcomes;
        let args = Args {
            from,
            target: HookedTarget(target),
            moved: migrate.moved.then_some(moved),
            failed,
            slots: &mut slots,
            profile: ran.profile,
            mode: migrate.mode,
            reason: Reason::SyscallOrCpuset,
            outcome: &mut |page: &PageRef, outcome| outcomes.push((page.pfn(), outcome)),
            observer: trace,
        };
        let tally = if ran.profile.blocks(migrate.mode) || migrate.batch % 2 == 0 {
            migrate_pages(&hooked, args)
        } else {
            migrate_pages_nowait(&hooked, args)
        };
        ran.tally = tally.expect("slots were lent, and the call is the mode's");
    }
}

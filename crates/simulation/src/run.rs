//! One run of the engine in a sequence: lists, targets, what others do meanwhile.
//!
//! To the reference a run is nothing at all. So all that is checked of it is what programs cannot see: its trace, here; outcomes,
//! lists and entries, in `ran.rs`.

use core::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;

use migrate_core::fixture::Recording;
use migrate_core::invariants::{Snapshot, Watch, check_targets, check_unused};
use migrate_core::model::Model;
use migrate_core::{
    Args, Edge, Failure, Frames, FromFn, Hook, Hooked, HookedTarget, Isolated, LINUX_2_6_17, MODERN, MoveOrder,
    NewPages, PageRef, Profile, Slot, Tally, Target, Verdict, WaiterRef, isolate_lru_page, migrate_pages,
    migrate_pages_nowait, migrate_prep, putback_lru_pages,
};
use mm_types::trace::{CheckError, Event, Observer, check_events};
use mm_types::{PageFlags, Pfn, Reason, Refusal, Rules, Site};

use crate::check::words;
use crate::counts::Kind;
use crate::ran::Ran;
use crate::step::Migrate;
use crate::world::{World, pick};

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

fn pfns(list: &Pages) -> Vec<Pfn> {
    list.iter().map(|page| page.page().pfn()).collect()
}

impl World {
    /// Makes one run, puts everything back, and checks it.
    ///
    /// # Errors
    /// What does not hold.
    pub(crate) fn migrate(&self, migrate: &Migrate) -> Result<(), String> {
        let model = &self.model;
        let profile: &'static Profile = match (self.profile.rules, migrate.other_rules) {
            (Rules::Modern, false) | (Rules::Linux2617, true) => &MODERN,
            _ => &LINUX_2_6_17,
        };
        let run = self.runs.replace(self.runs.get().wrapping_add(1));
        let traced = run % self.care.traces == 0;
        let recording = traced.then(|| Arc::new(Recording::with_capacity(self.size.events)));
        // Kept from now on, so that it is there when the run panics.
        self.recording.borrow_mut().clone_from(&recording);
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
        for pfn in self.frames(migrate.at, migrate.pages.into()) {
            let Some(page) = model.get(pfn) else { continue };
            if let Ok(isolated) = isolate_lru_page(model, &page, trace) {
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
        let entries = self.entries();
        let in_use = self.in_use(&entries);
        let of_run = |site: &Site| self.model.pte(*site).pfn().is_some_and(|pfn| listed.contains(&pfn));
        let bound = |pfn: &Pfn| (*pfn, self.bound(*pfn, &in_use, profile, migrate.mode));
        // Whoever reads a page in ends that when the run sleeps for it, and the page is up to date then.
        let alone = migrate.middle.is_empty()
            && migrate.fails.is_empty()
            && listed.iter().all(|pfn| self.flags(*pfn).contains(PageFlags::UPTODATE));
        let mut ran = Ran {
            profile,
            targets: migrate.targets.map(usize::from),
            alone,
            undisturbed: migrate.only_waits() && self.profile.waiter == WaiterRef::None,
            sites: entries.iter().map(|(site, _)| *site).filter(of_run).collect(),
            before: (alone && traced).then(|| Snapshot::of(model)),
            bound: listed.iter().map(bound).collect(),
            from: listed,
            outcomes: Vec::new(),
            tally: Tally::default(),
            slept: 0,
            may_sleep: profile.blocks(migrate.mode),
        };
        let (mut moved, mut failed) = (Pages::new(), Pages::new());
        let (edges, trouble) = (Cell::new(0usize), RefCell::new(None));
        let act = |edge: Edge| self.before(migrate, profile, edge, &edges, &trouble, trace);
        let watch = Watch::new(model, profile, migrate.mode, act);
        let hook = |edge: Edge| {
            // A run that panicked is given up, and went wrong before.
            if std::thread::panicking() {
                return Verdict::Go;
            }
            self.keep_moment();
            let verdict = watch.before(edge);
            if let Some(wrong) = watch.wrong() {
                self.trouble(&trouble, || format!("before {edge:?}: {wrong}"));
            }
            verdict
        };
        let targets_hold;
        let woken = self.held().woken;
        self.run_sites.borrow_mut().clone_from(&ran.sites);
        self.in_run.set(true);
        let lists = (&mut from, &mut moved, &mut failed);
        match migrate.targets {
            Some(targets) => {
                let node = ran
                    .from
                    .first()
                    .map_or(mm_types::NodeId::new(1), |pfn| self.other_node(*pfn));
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
                        let page = model.allocate(self.other_node(old.pfn())).ok_or(Refusal::NoTarget)?;
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
        ran.slept = self.held().woken - woken;
        let lists = [pfns(&from), pfns(&moved), pfns(&failed)];
        for list in [&mut from, &mut moved, &mut failed] {
            putback_lru_pages(model, list, trace);
        }
        if let Some(trouble) = trouble.take() {
            return Err(trouble);
        }
        self.finish_waits()?;
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
        ran.check(self, &lists, migrate.moved)
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

    /// Before each step of the core: everything that holds at every moment is looked at, and others do what they do.
    fn before(
        &self,
        migrate: &Migrate,
        profile: &Profile,
        edge: Edge,
        edges: &Cell<usize>,
        trouble: &RefCell<Option<String>>,
        trace: Trace<'_>,
    ) -> Verdict {
        if edge.is_look() && !matches!(edge, Edge::IsMapped(_)) {
            return Verdict::Go;
        }
        let now = edges.replace(edges.get() + 1);
        let due = |n: u16| usize::from(n) == now;
        self.touched.borrow_mut().clear();
        let mut done = self.finish_waits().and_then(|()| self.look_in_run());
        for (_, step) in migrate.middle.iter().filter(|(n, _)| due(*n)) {
            done = done
                .and_then(|()| self.act(step, trace))
                .and_then(|()| self.look_in_run());
        }
        if let Err(what) = done {
            self.trouble(trouble, || format!("before {edge:?}: {what}"));
        }
        // Contents that cannot be read after the switch of 2006 are lost, and the reference has no word for that.
        let lost = matches!(edge, Edge::Copy { .. }) && profile.order == MoveOrder::SwitchThenCopy;
        let fails = migrate.fails.iter().any(|n| due(*n)) && !lost;
        let ways: Vec<Failure> = edge.kind().failures().filter(|_| fails).collect();
        // Each edge has its own way, so that a case replays when other failures are taken out of it.
        let Some(failure) = pick(&ways, now as u32) else {
            return Verdict::Go;
        };
        self.counts.add(Kind::Fault, edge.kind().word());
        self.log(|| format!("fails {edge:?}: {failure}"));
        Verdict::FailAs(failure)
    }

    /// Something does not hold at this step, and it is the first that does not.
    fn trouble(&self, first: &RefCell<Option<String>>, what: impl FnOnce() -> String) {
        let mut first = first.borrow_mut();
        if first.is_none() {
            *first = Some(what());
            self.mark_here();
        }
    }
}

//! One run of the engine in a sequence: lists, targets, what others do meanwhile; and what must hold of it afterwards.
//!
//! To the reference a run is nothing at all. So all that is checked here is what programs cannot see: outcomes, lists, entries,
//! who stayed and why, the trace.

use core::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use migrate_core::fixture::Recording;
use migrate_core::invariants::{
    Ran as Changed, Snapshot, Violation, Watch, check_between_calls, check_must_stay, check_outcomes, check_run,
    check_targets, check_unused,
};
use migrate_core::model::Model;
use migrate_core::{
    Args, Edge, Frames, FromFn, Hook, Hooked, HookedTarget, Isolated, LINUX_2_6_17, MODERN, MoveOrder, Mover, NewPages,
    PageRef, Profile, Slot, Tally, Target, Verdict, WaiterRef, isolate_lru_page, migrate_pages, migrate_pages_nowait,
    migrate_prep, putback_lru_pages,
};
use mm_types::trace::{Event, check_events};
use mm_types::{Mapping, Mode, Outcome, PageFlags, Pfn, Reason, Refusal, Rules};

use super::step::Migrate;
use super::world::World;

type Pages = VecDeque<Isolated<PageRef>>;

/// What a run was given and what it did.
struct Ran {
    profile: &'static Profile,
    from: Vec<Pfn>,
    targets: Option<usize>,
    /// Nobody did anything in the middle and nothing was made to fail.
    alone: bool,
    /// As alone, but for threads that waited for its pages and read them.
    undisturbed: bool,
    before: Snapshot,
    bound: BTreeMap<Pfn, Bound>,
    outcomes: Vec<(Pfn, Outcome)>,
    tally: Tally,
    /// How often the run made others go on, because it would have slept.
    slept: usize,
    may_sleep: bool,
}

/// What the world says of a page before a run, as long as nobody acts meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    /// Nobody is in its way.
    ToMove,
    /// Only the isolation holds it.
    ToBeFreed,
    /// Somebody holds a reference for longer than the run, or it may not move.
    ToStay,
    /// It is pinned, and nothing else is noticed before that.
    Pinned,
    /// Depends on who gives up what.
    Either,
}

fn pfns(list: &Pages) -> Vec<Pfn> {
    list.iter().map(|page| page.page().pfn()).collect()
}

impl World {
    /// Whose page it is decides what must become of it.
    fn bound(&self, pfn: Pfn, profile: &Profile, mode: Mode) -> Bound {
        let (page, flags) = (self.model.page(pfn), self.flags(pfn));
        let held = self.held();
        let locked = held.locks.iter().any(|page| page.pfn() == pfn);
        let written = flags.contains(PageFlags::WRITEBACK);
        // Who sleeps for a page long enough gets it: holders go on one by one.
        let waits = profile.rules == Rules::Linux2617 || mode == Mode::Sync;
        let few = held.locks.len() + held.busy.len() + held.written(&self.model).len() < 4;
        if held.pins.contains(&pfn) {
            return if locked || written {
                Bound::ToStay
            } else {
                Bound::Pinned
            };
        }
        if held.refs.iter().any(|page| page.pfn() == pfn) {
            return Bound::ToStay;
        }
        if (locked || written || held.busy.contains(&pfn)) && !(waits && few) {
            return Bound::Either;
        }
        drop(held);
        if page.count() == 1 {
            return Bound::ToBeFreed;
        }
        if profile.mlocked_stays && self.is_mlocked(pfn) {
            return Bound::ToStay;
        }
        let dirty = flags.contains(PageFlags::DIRTY) || self.entries().values().any(|pte| pte.maps(pfn) && pte.dirty());
        match page.mapping() {
            // Only its private data keep it.
            Mapping::None => Bound::Either,
            Mapping::Anon(_) => Bound::ToMove,
            Mapping::File(file) => match self.mover(file) {
                Mover::Never => Bound::ToStay,
                // Its file system knows where it is.
                Mover::Fallback if dirty && !profile.writes_out => Bound::ToStay,
                Mover::Fallback if dirty => Bound::Either,
                Mover::Fallback | Mover::Plain | Mover::Buffers => Bound::ToMove,
            },
        }
    }

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
        let recording = Arc::new(Recording::with_capacity(1 << 13));
        *self.recording.borrow_mut() = Arc::clone(&recording);
        let recording = &*recording;
        migrate_prep(model);
        // The trace begins where the first of them was isolated.
        for page in &self.held().isolated {
            recording.push(Event::Isolate(page.page().pfn()));
        }
        let mut from = if migrate.isolated {
            core::mem::take(&mut self.held().isolated)
        } else {
            Pages::new()
        };
        let frames = self.frames();
        let first = usize::from(migrate.at).checked_rem(frames.len()).unwrap_or(0);
        for pfn in frames
            .iter()
            .cycle()
            .skip(first)
            .take(usize::from(migrate.pages).min(frames.len()))
        {
            let Some(page) = model.get(*pfn) else { continue };
            if let Ok(isolated) = isolate_lru_page(model, &page, recording) {
                from.push_back(isolated);
            }
            model.put(page);
        }
        let listed = pfns(&from);
        self.note(format!(
            "migrate {} mode={} {} batch={} targets={:?} moved={}",
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
        ));
        let mut ran = Ran {
            profile,
            targets: migrate.targets.map(usize::from),
            // Whoever reads a page in ends that when the run sleeps for it, and the page is up to date then.
            alone: migrate.middle.is_empty()
                && migrate.fails.is_empty()
                && listed.iter().all(|pfn| self.flags(*pfn).contains(PageFlags::UPTODATE)),
            undisturbed: migrate.only_waits() && self.profile.waiter == WaiterRef::None,
            before: Snapshot::of(model),
            bound: listed
                .iter()
                .map(|pfn| (*pfn, self.bound(*pfn, profile, migrate.mode)))
                .collect(),
            from: listed,
            outcomes: Vec::new(),
            tally: Tally::default(),
            slept: 0,
            may_sleep: profile.blocks(migrate.mode),
        };
        let (mut moved, mut failed) = (Pages::new(), Pages::new());
        let (edges, trouble) = (Cell::new(0usize), RefCell::new(None));
        let hook = |edge: Edge| self.before(migrate, profile, edge, &edges, &trouble, recording);
        let watch = Watch::new(model, profile, migrate.mode, hook);
        let targets_hold;
        let woken = self.held().woken;
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
                self.run(migrate, &mut ran, &watch, NewPages(&mut news), lists, recording);
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
                self.run(migrate, &mut ran, &watch, target, lists, recording);
                targets_hold = check_targets(given.get(), 0, &ran.outcomes);
            }
        }
        self.in_run.set(false);
        ran.slept = self.held().woken - woken;
        let lists = [pfns(&from), pfns(&moved), pfns(&failed)];
        for list in [&mut from, &mut moved, &mut failed] {
            putback_lru_pages(model, list, recording);
        }
        let events: Vec<_> = recording.events().collect();
        if let Some(trouble) = trouble.take() {
            return Err(trouble);
        }
        self.finish_waits()?;
        if recording.dropped() == 0 {
            check_events(&events).map_err(|error| format!("the trace: {error}"))?;
        }
        let said = |violation: Violation| violation.to_string();
        watch.finish().and(targets_hold).map_err(said)?;
        ran.check(self, &lists, migrate.moved)
    }

    fn run<H: Hook, T: Target<Model>>(
        &self,
        migrate: &Migrate,
        ran: &mut Ran,
        hook: &H,
        target: T,
        (from, moved, failed): (&mut Pages, &mut Pages, &mut Pages),
        recording: &Recording,
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
            observer: recording,
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
        recording: &Recording,
    ) -> Verdict {
        if edge.is_look() && !matches!(edge, Edge::IsMapped(_)) {
            return Verdict::Go;
        }
        let now = edges.replace(edges.get() + 1);
        let due = |n: u8| usize::from(n) == now;
        let mut done = self
            .finish_waits()
            .and_then(|()| self.check_always())
            .and_then(|()| self.check_wait(migrate, profile, edge));
        for (_, step) in migrate.middle.iter().filter(|(n, _)| due(*n)) {
            done = done
                .and_then(|()| self.act(step, recording))
                .and_then(|()| self.check_always());
        }
        if let Err(what) = done {
            trouble.borrow_mut().get_or_insert(format!("before {edge:?}: {what}"));
        }
        // Contents that cannot be read after the switch of 2006 are lost, and the reference has no word for that.
        let lost = matches!(edge, Edge::Copy { .. }) && profile.order == MoveOrder::SwitchThenCopy;
        if migrate.fails.iter().any(|n| due(*n)) && edge.can_fail() && !lost {
            self.note(format!("fails {edge:?}"));
            Verdict::Fail
        } else {
            Verdict::Go
        }
    }

    /// A light run does not sleep for a page that is being read in (I31).
    fn check_wait(&self, migrate: &Migrate, profile: &Profile, edge: Edge) -> Result<(), String> {
        let light = profile.rules == Rules::Modern && migrate.mode == Mode::SyncLight;
        match edge {
            Edge::Lock(pfn) if light && !self.flags(pfn).contains(PageFlags::UPTODATE) => {
                Err(format!("a light run sleeps while {} is read in (I31)", self.name(pfn)))
            }
            _ => Ok(()),
        }
    }

    fn check_always(&self) -> Result<(), String> {
        check_between_calls(&self.model).map_err(|violation| violation.to_string())?;
        self.check_entries()
    }
}

impl Ran {
    fn check(&self, world: &World, [from, moved, failed]: &[Vec<Pfn>; 3], wanted: bool) -> Result<(), String> {
        let said = |violation: Violation| violation.to_string();
        check_outcomes(&self.from, &self.outcomes, &self.tally).map_err(said)?;
        let ended = self.outcomes.iter().filter(|(_, outcome)| outcome.is_final());
        let last: BTreeMap<Pfn, Outcome> = ended.copied().collect();
        for outcome in last.values() {
            world.count(match outcome {
                Outcome::Moved { .. } => "outcome: moved".to_owned(),
                Outcome::Freed => "outcome: freed".to_owned(),
                Outcome::Retry(refusal) | Outcome::Refused(refusal) => format!("outcome: {}", refusal.word()),
            });
        }
        let has = |list: &Vec<Pfn>, pfn: &Pfn| list.contains(pfn);
        for pfn in &self.from {
            let outcome = &last[pfn];
            let expected = match outcome {
                Outcome::Moved { .. } | Outcome::Freed => (false, wanted, false),
                Outcome::Refused(refusal) | Outcome::Retry(refusal) => {
                    (refusal.is_transient(), false, !refusal.is_transient())
                }
            };
            if (has(from, pfn), has(moved, pfn), has(failed, pfn)) != expected {
                return Err(format!(
                    "f{:x} ended as {outcome:?} and is on the wrong list (I1)",
                    pfn.raw()
                ));
            }
        }
        let in_order: Vec<Pfn> = self.from.iter().copied().filter(|pfn| has(from, pfn)).collect();
        if in_order != *from {
            return Err(format!(
                "what is left on from is not in its old order: {from:x?} of {:x?}",
                self.from
            ));
        }
        if self.alone {
            if self.slept > 0 && !self.may_sleep {
                return Err(format!("an asynchronous run slept {} times (I31)", self.slept));
            }
            let ran = Changed {
                profile: self.profile,
                outcomes: &self.outcomes,
            };
            check_must_stay(&self.before, &self.outcomes).map_err(said)?;
            check_run(&self.before, &Snapshot::of(&world.model), &ran).map_err(said)?;
        }
        if self.undisturbed {
            self.check_bounds(&last)?;
        }
        Ok(())
    }

    /// Who was free to move moved, and who was held stayed (I5, I19, I35).
    fn check_bounds(&self, last: &BTreeMap<Pfn, Outcome>) -> Result<(), String> {
        for (pfn, outcome) in &self.outcomes {
            let (Outcome::Refused(refusal) | Outcome::Retry(refusal)) = outcome else {
                continue;
            };
            let counted = matches!(refusal, Refusal::ExtraReference { .. });
            if counted && self.bound.get(pfn) == Some(&Bound::ToMove) {
                return Err(format!(
                    "f{:x} stayed for who waits for it: {refusal:?} (I24)",
                    pfn.raw()
                ));
            }
        }
        let enough = self.targets.is_none_or(|targets| targets >= self.from.len());
        for (pfn, bound) in &self.bound {
            let outcome = last.get(pfn);
            let good = match bound {
                Bound::ToMove => !enough || matches!(outcome, Some(Outcome::Moved { .. })),
                Bound::ToBeFreed => outcome == Some(&Outcome::Freed),
                Bound::ToStay => !matches!(outcome, Some(Outcome::Moved { .. } | Outcome::Freed)),
                Bound::Pinned => matches!(outcome, Some(Outcome::Refused(Refusal::Pinned { .. }))),
                Bound::Either => true,
            };
            // Without a new page even a page that its users freed may not be reached.
            let reached = outcome != Some(&Outcome::Refused(Refusal::NoTarget));
            if !good && (reached || enough) {
                return Err(format!(
                    "f{:x} was bound {bound:?}, and ended as {outcome:?}",
                    pfn.raw()
                ));
            }
        }
        Ok(())
    }
}

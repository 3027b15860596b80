//! One run of the engine in a sequence: lists, targets, what others do meanwhile; and what must hold of it afterwards.
//!
//! To the reference a run is nothing at all. So all that is checked here is what programs cannot see: outcomes, lists, entries,
//! who stayed and why, the trace.

use core::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use migrate_core::fixture::Recording;
use migrate_core::model::Model;
use migrate_core::{
    Args, Edge, Frames, FromFn, Hook, Hooked, HookedTarget, Isolated, LINUX_2_6_17, MODERN, MoveOrder, Mover, NewPages,
    PageRef, Profile, Slot, SwapCacheEntries, Tally, Target, Verdict, isolate_lru_page, migrate_pages,
    migrate_pages_nowait, migrate_prep, putback_lru_pages,
};
use mm_types::trace::{Event, Observer, check_events};
use mm_types::{EntryStyle, Mapping, Mode, Outcome, PageFlags, Pfn, Pte, PteFlags, Reason, Refusal, Rules, Site};

use crate::counts::Kind;
use crate::step::Migrate;
use crate::world::{World, site_name};

/// The word for a page that moved.
pub const MOVED: &str = "moved";

type Pages = VecDeque<Isolated<PageRef>>;

/// What a run was given and what it did.
struct Ran {
    profile: &'static Profile,
    from: Vec<Pfn>,
    targets: Option<usize>,
    /// Nobody did anything in the middle and nothing was made to fail.
    alone: bool,
    before: Vec<(Site, Pte)>,
    flags: BTreeMap<Pfn, PageFlags>,
    bound: BTreeMap<Pfn, Bound>,
    outcomes: Vec<(Pfn, Outcome)>,
    tally: Tally,
    /// How often the run made others go on, because it would have slept.
    slept: usize,
    may_sleep: bool,
}

/// Where a run's events go, when anybody wants them.
#[derive(Clone, Copy)]
struct Trace<'r>(Option<&'r Recording>);

impl Observer for Trace<'_> {
    const ENABLED: bool = true;

    fn event(self, event: Event) {
        if let Some(recording) = self.0 {
            recording.push(event);
        }
    }
}

/// Whose pages are in use, and how, before a run.
struct InUse {
    /// Dirty by an entry that maps them.
    dirty: BTreeSet<Pfn>,
    /// Mapped by a locked area.
    mlocked: BTreeSet<Pfn>,
    /// Few enough hold something for whoever sleeps long enough to get it.
    few_holders: bool,
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
    fn in_use(&self, before: &[(Site, Pte)]) -> InUse {
        let reference = self.reference.borrow();
        let is_locked = |site: &Site| reference.pages.get(site).is_some_and(|page| page.locked);
        let present = || before.iter().filter(|(_, pte)| pte.is_present());
        let pfns = |(_, pte): &(Site, Pte)| pte.pfn();
        let held = self.held();
        InUse {
            dirty: present().filter(|(_, pte)| pte.dirty()).filter_map(pfns).collect(),
            mlocked: present().filter(|(site, _)| is_locked(site)).filter_map(pfns).collect(),
            few_holders: held.locks.len() + held.busy.len() + held.written(&self.model).len() < 4,
        }
    }

    /// Whose page it is decides what must become of it.
    fn bound(&self, pfn: Pfn, in_use: &InUse, profile: &Profile, mode: Mode) -> Bound {
        let (page, flags) = (self.model.page(pfn), self.flags(pfn));
        let held = self.held();
        let locked = held.locks.iter().any(|page| page.pfn() == pfn);
        let written = flags.contains(PageFlags::WRITEBACK);
        // Who sleeps for a page long enough gets it: holders go on one by one.
        let waits = profile.rules == Rules::Linux2617 || mode == Mode::Sync;
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
        if (locked || written || held.busy.contains(&pfn)) && !(waits && in_use.few_holders) {
            return Bound::Either;
        }
        if page.count() == 1 {
            return Bound::ToBeFreed;
        }
        if profile.mlocked_stays && in_use.mlocked.contains(&pfn) {
            return Bound::ToStay;
        }
        let dirty = flags.contains(PageFlags::DIRTY) || in_use.dirty.contains(&pfn);
        match page.mapping() {
            // Only its private data keep it.
            Mapping::None => Bound::Either,
            Mapping::Anon(_) => Bound::ToMove,
            Mapping::File(file) => match self.mover(file) {
                Mover::Never => Bound::ToStay,
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
        let run = self.runs.replace(self.runs.get().wrapping_add(1));
        let traced = run % self.care.traces == 0;
        let recording = traced.then(|| Rc::new(Recording::with_capacity(self.size.events)));
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
        let before = self.entries();
        let in_use = self.in_use(&before);
        let bound = |pfn: &Pfn| (*pfn, self.bound(*pfn, &in_use, profile, migrate.mode));
        let mut ran = Ran {
            profile,
            targets: migrate.targets.map(usize::from),
            alone: migrate.middle.is_empty() && migrate.fails.is_empty(),
            flags: listed.iter().map(|pfn| (*pfn, self.flags(*pfn))).collect(),
            bound: listed.iter().map(bound).collect(),
            before,
            from: listed,
            outcomes: Vec::new(),
            tally: Tally::default(),
            slept: 0,
            may_sleep: profile.blocks(migrate.mode),
        };
        let (mut moved, mut failed) = (Pages::new(), Pages::new());
        let (edges, trouble) = (Cell::new(0usize), RefCell::new(None));
        let hook = |edge: Edge| self.before(migrate, profile, edge, &edges, &trouble, trace);
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
                self.run(migrate, &mut ran, &hook, NewPages(&mut news), lists, trace);
                let used = ran.used();
                let left = news.len();
                news.into_iter().for_each(|page| model.put(page));
                if left + used != usize::from(targets) {
                    let what = format!("{targets} new pages, {left} left, {used} used");
                    trouble.borrow_mut().get_or_insert(what);
                }
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
                let (given, used) = (given.get(), ran.used());
                if given != used {
                    let what = format!("{given} new pages not given back, {used} used");
                    trouble.borrow_mut().get_or_insert(what);
                }
            }
        }
        self.in_run.set(false);
        ran.slept = self.held().woken - woken;
        let lists = [pfns(&from), pfns(&moved), pfns(&failed)];
        for list in [&mut from, &mut moved, &mut failed] {
            putback_lru_pages(model, list, trace);
        }
        if let Some(trouble) = trouble.into_inner() {
            return Err(trouble);
        }
        if let Some(recording) = recording.filter(|recording| recording.dropped() == 0) {
            self.counts.add(Kind::Check, "traces replayed");
            let events: Vec<_> = recording.events().collect();
            check_events(&events).map_err(|error| format!("the trace: {error}"))?;
        }
        self.touched
            .borrow_mut()
            .extend(ran.before.iter().filter_map(|(site, pte)| {
                let of_run = pte.pfn().is_some_and(|pfn| ran.flags.contains_key(&pfn));
                of_run.then_some(*site)
            }));
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
        let now = edges.replace(edges.get() + 1);
        let due = |n: u16| usize::from(n) == now;
        self.touched.borrow_mut().clear();
        let mut done = self.look_in_run();
        for (_, step) in migrate.middle.iter().filter(|(n, _)| due(*n)) {
            done = done
                .and_then(|()| self.act(step, trace))
                .and_then(|()| self.look_in_run());
        }
        if let Err(what) = done {
            trouble.borrow_mut().get_or_insert(format!("before {edge:?}: {what}"));
        }
        // Contents that cannot be read after the switch of 2006 are lost, and the reference has no word for that.
        let lost = matches!(edge, Edge::Copy { .. }) && profile.order == MoveOrder::SwitchThenCopy;
        if migrate.fails.iter().any(|n| due(*n)) && edge.can_fail() && !lost {
            self.counts.add(Kind::Fault, word_of(edge));
            self.log(|| format!("fails {edge:?}"));
            Verdict::Fail
        } else {
            Verdict::Go
        }
    }
}

const fn word_of(edge: Edge) -> &'static str {
    match edge {
        Edge::TryLock(_) => "try_lock",
        Edge::Lock(_) => "lock",
        Edge::WaitWriteback(_) => "wait_writeback",
        Edge::WaitBuffers(_) => "wait_buffers",
        Edge::Take(_) => "take",
        Edge::Reserve(_) => "reserve",
        Edge::Walk(_) => "walk",
        Edge::IsMapped(_) => "is_mapped",
        Edge::Flush => "flush",
        Edge::Copy { .. } => "copy",
        Edge::Freeze(_) => "freeze",
        Edge::Switch { .. } => "switch",
        Edge::TryLockBuffers(_) => "try_lock_buffers",
        Edge::ReleaseBuffers(_) => "release_buffers",
        Edge::Writeout(_) => "writeout",
        Edge::Unlock(_) => "unlock",
        Edge::Isolate(_) => "isolate",
        Edge::Putback(_) => "putback",
    }
}

impl Ran {
    fn used(&self) -> usize {
        let used = |outcome: &Outcome| {
            matches!(
                outcome,
                Outcome::Moved { .. } | Outcome::Refused(Refusal::CopiedTooLate)
            )
        };
        self.outcomes.iter().filter(|(_, outcome)| used(outcome)).count()
    }

    fn check(&self, world: &World, [from, moved, failed]: &[Vec<Pfn>; 3], wanted: bool) -> Result<(), String> {
        let mut last: BTreeMap<Pfn, Outcome> = BTreeMap::new();
        for (pfn, outcome) in self.outcomes.iter().filter(|(_, outcome)| outcome.is_final()) {
            let word = match outcome {
                Outcome::Moved { .. } => MOVED,
                Outcome::Freed => "freed",
                Outcome::Retry(refusal) | Outcome::Refused(refusal) => refusal.word(),
            };
            world.counts.add(Kind::Outcome, word);
            if last.insert(*pfn, *outcome).is_some() {
                return Err(format!("f{:x} has two outcomes (I29)", pfn.raw()));
            }
        }
        let has = |list: &Vec<Pfn>, pfn: &Pfn| list.contains(pfn);
        for pfn in &self.from {
            let outcome = last
                .get(pfn)
                .ok_or_else(|| format!("f{:x} has no outcome (I29)", pfn.raw()))?;
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
        let tally = self.tally.moved + self.tally.freed + self.tally.left();
        if tally as usize != self.from.len() {
            return Err(format!("{} pages, and the tally is {:?}", self.from.len(), self.tally));
        }
        if self.alone {
            if self.slept > 0 && !self.may_sleep {
                return Err(format!("an asynchronous run slept {} times (I31)", self.slept));
            }
            self.check_bounds(&last)?;
            self.check_entries(world, &last)?;
        }
        Ok(())
    }

    /// Who was free to move moved, and who was held stayed (I5, I19, I35).
    fn check_bounds(&self, last: &BTreeMap<Pfn, Outcome>) -> Result<(), String> {
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

    /// Every entry maps its page where it is now, and allows what it allowed (I7, I8, I14, I16, I17, I21).
    fn check_entries(&self, world: &World, last: &BTreeMap<Pfn, Outcome>) -> Result<(), String> {
        let now = world.entries();
        let added = now
            .iter()
            .map(|(site, _)| site)
            .filter(|site| self.entry_before(**site).is_none());
        if let Some(site) = added.into_iter().next() {
            return Err(format!("{} had no entry and has one", site_name(*site)));
        }
        for (site, before) in &self.before {
            let now = world.model.pte(*site);
            let unexpected = || Err(format!("{} was {before} and is {now}", site_name(*site)));
            let Some(pfn) = before.pfn().filter(|pfn| before.is_present() && last.contains_key(pfn)) else {
                if now != *before {
                    return unexpected();
                }
                continue;
            };
            let to = match last.get(&pfn) {
                Some(Outcome::Moved { to }) => *to,
                _ => pfn,
            };
            let good = match now {
                Pte::Present { pfn: at, flags } => at == to && self.same_permission(before.flags(), flags),
                Pte::Swap { .. } => {
                    let cached = self
                        .flags
                        .get(&pfn)
                        .is_some_and(|flags| flags.contains(PageFlags::SWAPCACHE));
                    cached && self.profile.swap_cache == SwapCacheEntries::Swap
                }
                Pte::File { .. } => world.is_nonlinear(*site),
                _ => false,
            };
            if !good {
                return unexpected();
            }
        }
        Ok(())
    }

    fn entry_before(&self, site: Site) -> Option<Pte> {
        let at = self.before.binary_search_by_key(&site, |(site, _)| *site).ok()?;
        self.before.get(at).map(|(_, pte)| *pte)
    }

    fn same_permission(&self, before: PteFlags, now: PteFlags) -> bool {
        let lossless = self.profile.entries == EntryStyle::Lossless;
        let mut kept = PteFlags::WRITE;
        kept.set(PteFlags::EXCLUSIVE | PteFlags::SOFT_DIRTY | PteFlags::UFFD_WP, lossless);
        // A writable mapping of a private page is exclusive, also where the system's own entries do not say so.
        let sure = if before.contains(PteFlags::WRITE) {
            PteFlags::EXCLUSIVE
        } else {
            PteFlags::empty()
        };
        let none_gained = before.union(sure).contains(now);
        none_gained && now.contains(before & kept)
    }
}

//! One run of the engine in a sequence: lists, targets, what others do meanwhile; and what must hold of it afterwards.
//!
//! To the reference a run is nothing at all. So all that is checked here is what programs cannot see: outcomes, lists, entries,
//! who stayed and why, the trace.

use core::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use migrate_core::fixture::Recording;
use migrate_core::model::Model;
use migrate_core::{
    Args, Edge, Frames, FromFn, Hook, Hooked, HookedTarget, Isolated, LINUX_2_6_17, MODERN, MoveOrder, Mover, NewPages,
    PageRef, Profile, Slot, SwapCacheEntries, Tally, Target, Verdict, WaiterRef, isolate_lru_page, migrate_pages,
    migrate_pages_nowait, migrate_prep, putback_lru_pages,
};
use mm_types::trace::{Event, check_events, text_of};
use mm_types::{
    EntryStyle, Mapping, MappingId, Mode, Outcome, PageFlags, Pfn, Pte, PteFlags, Reason, Refusal, Rules, Site,
};

use super::step::Migrate;
use super::world::{FILE, World, site_name};

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
    before: BTreeMap<Site, Pte>,
    flags: BTreeMap<Pfn, PageFlags>,
    /// Buffers that are dirty, or are to be because an entry is, by place in the page cache.
    buffers: BTreeMap<(MappingId, usize), u8>,
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
            alone: migrate.middle.is_empty() && migrate.fails.is_empty(),
            undisturbed: migrate.only_waits() && self.profile.waiter == WaiterRef::None,
            buffers: self.dirty_buffers(true),
            before: self.entries(),
            flags: listed.iter().map(|pfn| (*pfn, self.flags(*pfn))).collect(),
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
                self.run(migrate, &mut ran, &hook, NewPages(&mut news), lists, recording);
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
                self.run(migrate, &mut ran, &hook, target, lists, recording);
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
            putback_lru_pages(model, list, recording);
        }
        let events: Vec<_> = recording.events().collect();
        *self.trace.borrow_mut() = text_of(events.iter().copied());
        if let Some(trouble) = trouble.into_inner() {
            return Err(trouble);
        }
        self.finish_waits()?;
        if recording.dropped() == 0 {
            check_events(&events).map_err(|error| format!("the trace: {error}"))?;
        }
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

    /// The dirty buffers of every page in the cache; with what entries know, where that is asked for.
    fn dirty_buffers(&self, entries: bool) -> BTreeMap<(MappingId, usize), u8> {
        let ptes: Vec<Pte> = self.entries().into_values().collect();
        let files = self.held().files.clone();
        let places = files.iter().flat_map(|file| (0..FILE).map(|index| (*file, index)));
        places
            .filter_map(|(file, index)| {
                let pfn = self.model.cached(file, index)?;
                let dirty = self.model.dirty_buffers(pfn)?;
                let whole = entries && ptes.iter().any(|pte| pte.maps(pfn) && pte.dirty());
                Some(((file, index), if whole { u8::MAX } else { dirty }))
            })
            .collect()
    }

    fn check_always(&self) -> Result<(), String> {
        self.model.check_always().map_err(|violation| violation.to_string())?;
        self.check_entries()
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
            world.count(match outcome {
                Outcome::Moved { .. } => "outcome: moved".to_owned(),
                Outcome::Freed => "outcome: freed".to_owned(),
                Outcome::Retry(refusal) | Outcome::Refused(refusal) => format!("outcome: {}", refusal.word()),
            });
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
            self.check_entries(world, &last)?;
            self.check_buffers(world)?;
        }
        if self.undisturbed {
            self.check_bounds(&last)?;
        }
        Ok(())
    }

    /// No buffer is dirty that nobody stored to (I13).
    fn check_buffers(&self, world: &World) -> Result<(), String> {
        for (place, now) in world.dirty_buffers(false) {
            let before = self.buffers.get(&place).copied().unwrap_or(0);
            if now & !before != 0 {
                let (file, index) = (place.0.raw(), place.1);
                return Err(format!(
                    "of file {file} page {index} the buffers {before:#06b} were dirty, and now {now:#06b} (I13)"
                ));
            }
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

    /// Every entry maps its page where it is now, and allows what it allowed (I7, I8, I14, I16, I17, I21).
    fn check_entries(&self, world: &World, last: &BTreeMap<Pfn, Outcome>) -> Result<(), String> {
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
                Pte::Present { pfn: at, flags } => {
                    let aged = world.is_nonlinear(*site);
                    at == to && self.same_permission(before.flags(), flags, aged)
                }
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

    /// A nonlinear entry may have been aged instead of being unmapped.
    fn same_permission(&self, before: PteFlags, now: PteFlags, aged: bool) -> bool {
        let lossless = self.profile.entries == EntryStyle::Lossless;
        let mut kept = PteFlags::WRITE;
        let marks = PteFlags::EXCLUSIVE | PteFlags::SOFT_DIRTY | PteFlags::UFFD_WP;
        kept.set(marks | PteFlags::DIRTY, lossless);
        kept.set(PteFlags::YOUNG, lossless && !aged);
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

//! What must hold of a run that is over: what each page was bound to become, and what became of it.

use std::collections::{BTreeMap, BTreeSet};

use migrate_core::{Mover, Profile, SwapCacheEntries, Tally};
use mm_types::{EntryStyle, Mapping, Mode, Outcome, PageFlags, Pfn, Pte, PteFlags, Refusal, Rules, Site};

use crate::counts::Kind;
use crate::world::{World, site_name};

/// The word for a page that moved.
pub const MOVED: &str = "moved";

/// What a run was given and what it did.
pub(crate) struct Ran {
    pub(crate) profile: &'static Profile,
    pub(crate) from: Vec<Pfn>,
    pub(crate) targets: Option<usize>,
    /// Nobody did anything in the middle and nothing was made to fail.
    pub(crate) alone: bool,
    pub(crate) before: Vec<(Site, Pte)>,
    pub(crate) flags: BTreeMap<Pfn, PageFlags>,
    pub(crate) bound: BTreeMap<Pfn, Bound>,
    pub(crate) outcomes: Vec<(Pfn, Outcome)>,
    pub(crate) tally: Tally,
    /// How often the run made others go on, because it would have slept.
    pub(crate) slept: usize,
    pub(crate) may_sleep: bool,
}

/// Whose pages are in use, and how, before a run.
pub(crate) struct InUse {
    /// Dirty by an entry that maps them.
    dirty: BTreeSet<Pfn>,
    /// Mapped by a locked area.
    mlocked: BTreeSet<Pfn>,
    /// Few enough hold something for whoever sleeps long enough to get it.
    few_holders: bool,
}

/// What the world says of a page before a run, as long as nobody acts meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
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

impl World {
    pub(crate) fn in_use(&self, before: &[(Site, Pte)]) -> InUse {
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
    pub(crate) fn bound(&self, pfn: Pfn, in_use: &InUse, profile: &Profile, mode: Mode) -> Bound {
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
}

impl Ran {
    /// Where the run's pages were mapped.
    pub(crate) fn sites(&self) -> Vec<Site> {
        let of_run = |pte: &Pte| pte.pfn().is_some_and(|pfn| self.flags.contains_key(&pfn));
        let sites = self.before.iter().filter(|(_, pte)| of_run(pte));
        sites.map(|(site, _)| *site).collect()
    }

    pub(crate) fn used(&self) -> usize {
        let used = |outcome: &Outcome| {
            matches!(
                outcome,
                Outcome::Moved { .. } | Outcome::Refused(Refusal::CopiedTooLate)
            )
        };
        self.outcomes.iter().filter(|(_, outcome)| used(outcome)).count()
    }

    /// Checks lists, outcomes and entries.
    ///
    /// # Errors
    /// What does not hold.
    pub(crate) fn check(
        &self,
        world: &World,
        [from, moved, failed]: &[Vec<Pfn>; 3],
        wanted: bool,
    ) -> Result<(), String> {
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

//! What must hold of a run that is over: what each page was bound to become, and what became of it.

use std::collections::{BTreeMap, BTreeSet};

use migrate_core::invariants::{
    FrameState, Ran as Changed, Snapshot, check_entries, check_must_stay, check_others, check_outcomes, check_pages,
    check_unmoved,
};
use migrate_core::{Mover, Profile, Tally};
use mm_types::{Invariant, Mapping, Mode, Outcome, PageFlags, Pfn, Pte, Refusal, Rules, Site};

use crate::check::words;
use crate::counts::Kind;
use crate::disturbed::Disturbed;
use crate::world::World;

/// The word for a page that moved.
pub const MOVED: &str = "moved";

/// What a run was given and what it did.
pub(crate) struct Ran {
    pub(crate) profile: &'static Profile,
    pub(crate) from: Vec<Pfn>,
    pub(crate) targets: Option<usize>,
    /// Nobody did anything in the middle and nothing was made to fail.
    pub(crate) alone: bool,
    /// As alone, but for threads that waited for its pages and read them, where those hold nothing.
    pub(crate) undisturbed: bool,
    /// Where the run's pages were mapped.
    pub(crate) sites: Vec<Site>,
    /// All there was before, where it is to be compared.
    pub(crate) before: Option<Snapshot>,
    /// The same, and no page was isolated yet.
    pub(crate) untouched: Option<Snapshot>,
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
    /// Somebody holds a reference for longer than the run, or it may not move: what breaks if it does.
    ToStay(Invariant),
    /// It is pinned, and nothing else is noticed before that.
    Pinned,
    /// Depends on who gives up what.
    Either,
}

impl Bound {
    /// What does not hold where it came otherwise.
    fn breaks(self) -> Invariant {
        match self {
            Self::ToMove | Self::Either => Invariant::References,
            Self::ToBeFreed => Invariant::OnlyForward,
            Self::ToStay(invariant) => invariant,
            Self::Pinned => Invariant::MustStay,
        }
    }
}

/// Leaves out what was free and is free: a page that was offered and given back is as fresh as any, not as it was left by its last user.
fn in_use_of_both(mut before: Snapshot, mut after: Snapshot) -> (Snapshot, Snapshot) {
    let frames = before.frames.iter_mut().zip(&mut after.frames);
    let contents = before.words.iter_mut().zip(&mut after.words);
    for ((was, now), (word, word_now)) in frames.zip(contents) {
        let is_free = |frame: &Option<FrameState>| frame.is_none_or(|frame| frame.count == 0);
        if is_free(was) && is_free(now) {
            (*was, *now) = (None, None);
            (*word, *word_now) = (None, None);
        }
    }
    (before, after)
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
                Bound::ToStay(Invariant::MustStay)
            } else {
                Bound::Pinned
            };
        }
        if held.refs.iter().any(|page| page.pfn() == pfn) {
            return Bound::ToStay(Invariant::SwitchFrozen);
        }
        if (locked || written || held.busy.contains(&pfn)) && !(waits && in_use.few_holders) {
            return Bound::Either;
        }
        if page.count() == 1 {
            return Bound::ToBeFreed;
        }
        // Whoever has it locked is its last user: freed once he lets go, moved where the run has the lock from him.
        if locked && page.count() == 2 {
            return Bound::Either;
        }
        if profile.mlocked_stays && in_use.mlocked.contains(&pfn) {
            return Bound::ToStay(Invariant::MustStay);
        }
        let dirty = flags.contains(PageFlags::DIRTY) || in_use.dirty.contains(&pfn);
        match page.mapping() {
            // Only its private data keep it.
            Mapping::None => Bound::Either,
            Mapping::Anon(_) => Bound::ToMove,
            Mapping::File(file) => match self.mover(file) {
                Mover::Never => Bound::ToStay(Invariant::MustStay),
                // Its file system knows where it is.
                Mover::Fallback if dirty && !profile.writes_out => Bound::ToStay(Invariant::DirtyConserved),
                Mover::Fallback if dirty => Bound::Either,
                Mover::Fallback | Mover::Plain | Mover::Buffers => Bound::ToMove,
            },
        }
    }
}

impl Ran {
    /// Checks lists, outcomes, and what changed.
    ///
    /// # Errors
    /// What does not hold.
    pub(crate) fn check(
        &self,
        world: &World,
        [from, moved, failed]: &[Vec<Pfn>; 3],
        wanted: bool,
        disturbed: Option<&Disturbed>,
    ) -> Result<(), String> {
        check_outcomes(&self.from, &self.outcomes, &self.tally).map_err(words)?;
        let ended = self.outcomes.iter().filter(|(_, outcome)| outcome.is_final());
        let last: BTreeMap<Pfn, Outcome> = ended.copied().collect();
        for outcome in last.values() {
            let word = match outcome {
                Outcome::Moved { .. } => MOVED,
                Outcome::Freed => "freed",
                Outcome::Retry(refusal) | Outcome::Refused(refusal) => refusal.word(),
            };
            world.counts.add(Kind::Outcome, word);
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
        if self.slept > 0 && !self.may_sleep {
            return Err(format!("an asynchronous run slept {} times (I31)", self.slept));
        }
        if let (Some(before), Some(disturbed)) = (&self.before, disturbed) {
            self.check_changes(world, before, disturbed)?;
        }
        if self.undisturbed {
            self.check_bounds(world, &last)?;
        }
        Ok(())
    }

    /// What others did not change is as it should be after such outcomes, whoever acted and whatever failed.
    fn check_changes(&self, world: &World, before: &Snapshot, disturbed: &Disturbed) -> Result<(), String> {
        let word = match (self.alone, disturbed.is_nothing()) {
            (true, _) => "what a run changed",
            (false, true) => "what a run changed, where steps failed or others looked",
            (false, false) => "what a run changed, where others did something",
        };
        world.counts.add(Kind::Check, word);
        let ran = Changed {
            profile: self.profile,
            outcomes: &self.outcomes,
        };
        let after = Snapshot::of(&world.model);
        let entries = |of: &Snapshot| disturbed.without_entries(of.clone());
        let frames = disturbed.without_frames(before.clone(), &self.outcomes);
        check_must_stay(&frames, &disturbed.heard_the_truth(&self.outcomes)).map_err(words)?;
        let check = |after: &Snapshot| {
            check_entries(&entries(before), &entries(after), &ran)
                .and_then(|()| check_pages(&frames, after, &ran))
                .and_then(|()| check_others(&frames, after, &ran))
        };
        check(&after).map_err(|wrong| {
            world.mark_where(|state, _| check(state).as_ref() == Err(&wrong));
            words(wrong)
        })?;
        match &self.untouched {
            Some(untouched) if self.did_nothing() && disturbed.is_nothing() => {
                world
                    .counts
                    .add(Kind::Check, "that a run with nothing to do did nothing");
                let (untouched, after) = in_use_of_both(untouched.clone(), after);
                check_unmoved(&untouched, &after).map_err(words)
            }
            _ => Ok(()),
        }
    }

    /// Every page was refused before anything was done to it, or there was none.
    fn did_nothing(&self) -> bool {
        let early = |outcome: &Outcome| {
            let (Outcome::Refused(refusal) | Outcome::Retry(refusal)) = outcome else {
                return false;
            };
            matches!(refusal, Refusal::NoTarget | Refusal::LockBusy | Refusal::Pinned { .. })
        };
        self.outcomes.iter().all(|(_, outcome)| early(outcome))
    }

    /// Who was free to move moved, and who was held stayed (I5, I19, I35).
    fn check_bounds(&self, world: &World, last: &BTreeMap<Pfn, Outcome>) -> Result<(), String> {
        for (pfn, outcome) in &self.outcomes {
            let (Outcome::Refused(refusal) | Outcome::Retry(refusal)) = outcome else {
                continue;
            };
            let counted = matches!(refusal, Refusal::ExtraReference { .. });
            if counted && self.bound.get(pfn) == Some(&Bound::ToMove) {
                world.mark_outcome(*pfn);
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
                Bound::ToStay(_) => !matches!(outcome, Some(Outcome::Moved { .. } | Outcome::Freed)),
                Bound::Pinned => matches!(outcome, Some(Outcome::Refused(Refusal::Pinned { .. }))),
                Bound::Either => true,
            };
            // Without a new page even a page that its users freed may not be reached.
            let reached = outcome != Some(&Outcome::Refused(Refusal::NoTarget));
            if !good && (reached || enough) {
                world.mark_outcome(*pfn);
                return Err(format!(
                    "{}: f{:x} was bound {bound:?}, and ended as {outcome:?}",
                    bound.breaks().id(),
                    pfn.raw()
                ));
            }
        }
        Ok(())
    }
}

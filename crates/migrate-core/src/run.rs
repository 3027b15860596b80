//! One batch in flight: what is held for each page, and the one way it ends.
//!
//! [`Run`] owns everything a run borrows: the caller's lists, the target, the slots, what has to be flushed, the observer.
//! Its stages are functions over it, and [`Run::finish_batch`] is the end of every batch, taken also when the run is dropped
//! in the middle (a panic in a caller's closure): pages that have not switched get their mappings back, those that have go
//! forward, the barrier runs, locks open (the new page's before the old one's), and every page goes to a list.

use mm_types::trace::{Event, Observer};
use mm_types::{Outcome, Pfn, Refusal};

use crate::guard::pfn_of;
use crate::mover::Plan;
use crate::{Backend, Frames, Isolated, List, Profile, Rmap, Slot, Tally, Target};

/// What a slot holds of one page.
pub(crate) enum Held<B: Frames> {
    Nothing,
    Page(B::Page),
    Locked(B::Locked),
}

impl<B: Frames> Held<B> {
    pub(crate) const fn locked(&self) -> Option<&B::Locked> {
        match self {
            Self::Locked(locked) => Some(locked),
            _ => None,
        }
    }

    pub(crate) const fn is_nothing(&self) -> bool {
        matches!(self, Self::Nothing)
    }

    pub(crate) fn take(&mut self) -> Self {
        core::mem::replace(self, Self::Nothing)
    }

    pub(crate) fn page<'h>(&'h self, backend: &B) -> Option<&'h B::Page> {
        match self {
            Self::Nothing => None,
            Self::Page(page) => Some(page),
            Self::Locked(locked) => Some(backend.page(locked)),
        }
    }
}

/// How far a page has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nothing has been done that restoring entries and unlocking does not undo.
    Before,
    /// References have been switched: only forward.
    Switched,
    /// Only the isolation held it.
    Freed,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct SlotState {
    pub(crate) stage: Stage,
    pub(crate) refusal: Option<Refusal>,
    /// Entries of the page may be migration entries.
    pub(crate) unmapped: bool,
    /// The trace has named the new page.
    pub(crate) new_noted: bool,
    /// The page was copied, and is to be switched.
    pub(crate) copied: Option<Plan>,
}

impl SlotState {
    pub(crate) const EMPTY: Self = Self {
        stage: Stage::Before,
        refusal: None,
        unmapped: false,
        new_noted: false,
        copied: None,
    };
}

impl<B: Frames> Slot<B> {
    pub(crate) fn refuse(&mut self, refusal: Refusal) {
        self.state.refusal = Some(refusal);
    }

    /// In work: may still move.
    pub(crate) const fn is_pending(&self) -> bool {
        matches!(self.state.stage, Stage::Before) && self.state.refusal.is_none()
    }

    /// Has moved, and nothing went wrong.
    const fn has_moved(&self) -> bool {
        matches!(self.state.stage, Stage::Switched) && self.state.refusal.is_none()
    }
}

/// The slots that a batch uses.
pub(crate) fn batch<B: Frames>(slots: &mut [Slot<B>], used: usize) -> &mut [Slot<B>] {
    slots.get_mut(..used).unwrap_or_default()
}

/// What every stage sees and none changes.
pub(crate) struct Cx<'r, B, O> {
    pub(crate) backend: &'r B,
    pub(crate) profile: &'r Profile,
    pub(crate) observer: O,
}

impl<B, O: Copy> Clone for Cx<'_, B, O> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B, O: Copy> Copy for Cx<'_, B, O> {}

/// Edits of entries that the next barrier has to make good.
pub(crate) struct Pending<B: Rmap> {
    gather: Option<B::Gather>,
    pub(crate) edits: u32,
}

impl<B: Rmap> Pending<B> {
    pub(crate) const fn new() -> Self {
        Self { gather: None, edits: 0 }
    }

    pub(crate) fn parts(&mut self, backend: &B) -> (&mut B::Gather, &mut u32) {
        (self.gather.get_or_insert_with(|| backend.gather()), &mut self.edits)
    }

    pub(crate) fn barrier<O: Observer>(&mut self, cx: Cx<'_, B, O>) {
        let Some(gather) = self.gather.take() else { return };
        cx.backend.flush(gather);
        let entries = core::mem::take(&mut self.edits);
        if entries > 0 {
            cx.observer.note(|| Event::Flush { entries });
        }
    }
}

/// The pass that a run is in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PassNow {
    pub(crate) number: u32,
    /// Pages refused for now in this pass are not tried again.
    pub(crate) last: bool,
    /// Tries to move a page once it is unmapped (6.3: phase M has passes of its own).
    pub(crate) tries: u32,
    pub(crate) may_lock: bool,
    pub(crate) may_wait_writeback: bool,
    pub(crate) uptodate_only: bool,
}

pub(crate) struct Run<'r, B: Backend, L: List<Isolated<B::Page>>, T: Target<B>, O: Observer> {
    pub(crate) cx: Cx<'r, B, O>,
    pub(crate) from: &'r mut L,
    pub(crate) target: T,
    pub(crate) moved: Option<&'r mut L>,
    pub(crate) failed: &'r mut L,
    pub(crate) slots: &'r mut [Slot<B>],
    pub(crate) used: usize,
    pub(crate) pending: Pending<B>,
    /// A page that the batch did not take: the one at which a pass stopped for want of a new one, or the next batch's first.
    pub(crate) set_aside: Option<Isolated<B::Page>>,
    /// What the batch's pages cost to hold, in nanoseconds, where there is a budget.
    pub(crate) held_ns: u32,
    /// The page whose outcome is being told: a caller's closure that panics does not lose it.
    pub(crate) in_hand: Option<Isolated<B::Page>>,
    pub(crate) outcome: &'r mut dyn FnMut(&B::Page, Outcome),
    pub(crate) tally: Tally,
    pub(crate) pass: PassNow,
}

impl<B, L, T, O> Run<'_, B, L, T, O>
where
    B: Backend,
    L: List<Isolated<B::Page>>,
    T: Target<B>,
    O: Observer,
{
    /// Ends the batch: whatever has switched goes forward, whatever has not goes back; all slots are empty afterwards.
    pub(crate) fn finish_batch(&mut self, tell: bool) {
        let cx = self.cx;
        // Nothing may be restored while a stale translation of an earlier edit is about.
        self.pending.barrier(cx);
        for slot in batch(self.slots, self.used) {
            slot.restore(cx, &mut self.pending);
        }
        self.pending.barrier(cx);
        let mut lost = None;
        for slot in batch(self.slots, self.used) {
            lost = slot.unlock(cx).or(lost);
        }
        // Looked at under each lock, told after the last: the run that this panic drops must not come by here again.
        debug_assert!(lost.is_none(), "I6: a migration entry of {lost:?} was not found again");
        for n in 0..self.used {
            self.account(n, tell);
        }
        self.used = 0;
    }

    /// Puts the pages of one unlocked slot where they belong, and leaves the slot as it was lent.
    fn account(&mut self, n: usize, tell: bool) {
        let Some(slot) = self.slots.get_mut(n) else { return };
        let (Held::Page(old), new) = (slot.old.take(), slot.new.take()) else {
            slot.state = SlotState::EMPTY;
            return;
        };
        let pfn = self.cx.backend.pfn(&old);
        self.in_hand = Some(Isolated::from_isolated(old));
        if slot.has_moved() {
            // What a move leaves of the state, and no more: this is the end of nearly every page.
            slot.state.stage = Stage::Before;
            slot.state.new_noted = false;
            self.account_moved(pfn, new, tell);
        } else {
            let state = core::mem::replace(&mut slot.state, SlotState::EMPTY);
            self.account_other(pfn, new, state, tell);
        }
    }

    /// The page in hand has moved to `new`.
    #[inline(always)]
    fn account_moved(&mut self, pfn: Pfn, new: Held<B>, tell: bool) {
        let Some(to) = self.putback_new(new) else { return };
        self.tally.moved = self.tally.moved.saturating_add(1);
        self.cx.observer.note(|| Event::Moved { old: pfn, new: to });
        self.end(Outcome::Moved { to }, tell);
    }

    /// The new page of a page that has switched goes to the LRU.
    #[inline(always)]
    fn putback_new(&self, new: Held<B>) -> Option<Pfn> {
        let cx = self.cx;
        let Held::Page(new) = new else { return None };
        let to = cx.backend.pfn(&new);
        cx.observer.note(|| Event::Putback(to));
        if cx.profile.lru_staging {
            cx.backend.putback(new);
        } else {
            cx.backend.putback_direct(new);
        }
        Some(to)
    }

    /// The page in hand was freed, stayed, or moved in error.
    #[inline(never)]
    fn account_other(&mut self, pfn: Pfn, new: Held<B>, state: SlotState, tell: bool) {
        let cx = self.cx;
        match state.stage {
            Stage::Freed => {
                self.tally.freed = self.tally.freed.saturating_add(1);
                cx.observer.note(|| Event::Freed(pfn));
                self.end(Outcome::Freed, tell);
            }
            Stage::Switched => {
                if let (Some(_), Some(refusal)) = (self.putback_new(new), state.refusal) {
                    self.refused(pfn, refusal, tell);
                }
            }
            Stage::Before => {
                if let Held::Page(new) = new {
                    if state.new_noted {
                        cx.observer.note(|| Event::GiveBack(cx.backend.pfn(&new)));
                    }
                    self.target.give_back(cx.backend, new);
                }
                match state.refusal {
                    Some(refusal) => self.refused(pfn, refusal, tell),
                    // Interrupted: as it was before.
                    None => self.keep(),
                }
            }
        }
    }

    fn refused(&mut self, pfn: Pfn, refusal: Refusal, tell: bool) {
        let last = self.pass.last || !refusal.is_transient();
        self.cx.observer.note(|| Event::Refuse { pfn, refusal, last });
        self.tell(
            tell,
            if last {
                Outcome::Refused(refusal)
            } else {
                Outcome::Retry(refusal)
            },
        );
        if refusal.is_transient() {
            self.tally.retry = self.tally.retry.saturating_add(1);
            if let Some(retried) = usize::try_from(self.pass.number)
                .ok()
                .and_then(|n| self.tally.retried.get_mut(n))
            {
                *retried = retried.saturating_add(1);
            }
            self.keep();
        } else {
            self.tally.failed = self.tally.failed.saturating_add(1);
            if let Some(page) = self.in_hand.take() {
                self.failed.push_back(page);
            }
        }
    }

    /// Tells the caller the outcome of the page in hand.
    pub(crate) fn tell(&mut self, tell: bool, outcome: Outcome) {
        if let (true, Some(page)) = (tell, &self.in_hand) {
            (self.outcome)(page.page(), outcome);
        }
    }

    /// Puts the page in hand back on the caller's list.
    pub(crate) fn keep(&mut self) {
        if let Some(page) = self.in_hand.take() {
            self.from.push_back(page);
        }
    }

    /// The old page of a finished migration: to the caller, or to the allocator.
    fn end(&mut self, outcome: Outcome, tell: bool) {
        self.tell(tell, outcome);
        let Some(page) = self.in_hand.take() else { return };
        match &mut self.moved {
            Some(moved) => moved.push_back(page),
            // 2006: freed when the staging array drains (`migrate_pages_to` puts moved pages back).
            None if self.cx.profile.lru_staging => self.cx.backend.putback(page.into_page()),
            None => self.cx.backend.put(page.into_page()),
        }
    }
}

impl<B, L, T, O> Drop for Run<'_, B, L, T, O>
where
    B: Backend,
    L: List<Isolated<B::Page>>,
    T: Target<B>,
    O: Observer,
{
    fn drop(&mut self) {
        // The caller's closure may be what panicked; it is not called again.
        self.keep();
        self.finish_batch(false);
        self.in_hand = self.set_aside.take();
        self.keep();
    }
}

impl<B: Backend> Slot<B> {
    /// Opens the locks, the new page's first. Returns a page that entries still name, where somebody counts (debug builds).
    fn unlock<O: Observer>(&mut self, cx: Cx<'_, B, O>) -> Option<Pfn> {
        let mut lost = None;
        self.abandon(cx);
        if self.state.stage == Stage::Before {
            if let (Held::Locked(new), true) = (&self.new, cx.profile.settings_early) {
                // 2.6.17: `newpage->mapping = NULL`; the page stays on the caller's list.
                cx.backend.disown(new);
            }
        }
        for held in [&mut self.new, &mut self.old] {
            let Some(pfn) = held.locked().map(|locked| pfn_of(cx.backend, locked)) else {
                continue;
            };
            if cfg!(debug_assertions) && cx.backend.entries_out(pfn, 0).is_some_and(|entries| entries != 0) {
                lost = Some(pfn);
            }
            // Noted before the lock opens: after it, others may be at the page already.
            cx.observer.note(|| Event::Unlock(pfn));
            if let Held::Locked(locked) = held.take() {
                *held = Held::Page(cx.backend.unlock(locked));
            }
        }
        lost
    }
}

//! What a run is given, and what it says at the end.

use mm_types::{Mode, Outcome, Reason};

use crate::run::Held;
use crate::{Frames, Profile};

/// Passes that any profile makes at most; retries are counted for each.
pub const MAX_PASSES: usize = 11;

/// The caller's mistake: the run did not start and touched nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No slot was lent, so no page could be in flight.
    #[error("no slots were lent: lend at least one, as many as the batch may have")]
    NoSlots,
    /// The profile sleeps in this mode, and the call was the one that never does.
    #[error("this profile sleeps in mode {0}: call migrate_pages, or use the modern profile with mode async")]
    WouldBlock(Mode),
    /// A slot holds pages of a run that was leaked.
    #[error("a lent slot is in use: lend slots that no other run holds")]
    SlotInUse,
}

/// Room for one page in flight, lent by the caller: static, on the stack or on the heap.
///
/// The number of slots lent is the size of a batch, up to the profile's.
pub struct Slot<B: Frames> {
    pub(crate) old: Held<B>,
    pub(crate) new: Held<B>,
    pub(crate) state: crate::run::SlotState,
}

impl<B: Frames> Slot<B> {
    /// Makes an empty slot.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            old: Held::Nothing,
            new: Held::Nothing,
            state: crate::run::SlotState::EMPTY,
        }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.old.is_nothing() && self.new.is_nothing()
    }
}

impl<B: Frames> Default for Slot<B> {
    fn default() -> Self {
        Self::new()
    }
}

impl<B: Frames> core::fmt::Debug for Slot<B> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Slot")
            .field("empty", &self.is_empty())
            .field("state", &self.state)
            .finish()
    }
}

/// The arguments of a run.
///
/// `from` holds isolated pages; afterwards those that may be tried again, in their old order. Every page that was on it is
/// on exactly one of `from`, `moved` and `failed`, unlocked, with its isolation's reference (but for `moved: None`).
pub struct Args<'r, B: Frames, L, T, O> {
    /// The pages to move.
    pub from: &'r mut L,
    /// Where new pages come from: [`NewPages`](crate::NewPages), or a pair of closures.
    pub target: T,
    /// Gets the old pages of those that moved, and pages that were freed meanwhile. `None`: the run releases them.
    pub moved: Option<&'r mut L>,
    /// Gets the pages that cannot move.
    pub failed: &'r mut L,
    /// Room for pages in flight.
    pub slots: &'r mut [Slot<B>],
    /// Whose rules.
    pub profile: &'r Profile,
    /// What the run may wait for. [`LINUX_2_6_17`](crate::LINUX_2_6_17) has one way only and ignores it.
    pub mode: Mode,
    /// Why the pages move.
    pub reason: Reason,
    /// Told every page's outcome, whatever the observer; with no page lock held.
    pub outcome: &'r mut dyn FnMut(&B::Page, Outcome),
    /// Told every step.
    pub observer: O,
}

impl<B: Frames, L, T, O> core::fmt::Debug for Args<'_, B, L, T, O> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Args")
            .field("profile", &self.profile.rules)
            .field("mode", &self.mode)
            .field("reason", &self.reason)
            .field("slots", &self.slots.len())
            .finish_non_exhaustive()
    }
}

/// What a run did, in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Tally {
    /// Moved to a new frame.
    pub moved: u32,
    /// Freed by their users meanwhile.
    pub freed: u32,
    /// On `failed`.
    pub failed: u32,
    /// Refused for now in the last pass, and on `from`.
    pub retry: u32,
    /// On `from` without having been tried in the last pass, because there was no new page.
    pub not_reached: u32,
    /// Passes made.
    pub passes: u32,
    /// Attempts refused for now, by pass.
    pub retried: [u32; MAX_PASSES],
}

impl Tally {
    /// Returns what 2.6.17's `migrate_pages()` returned: pages failed, and pages to retry by the count of the *last* pass
    /// only. Pages that were not reached are in neither; the caller looks at the lists.
    #[must_use]
    pub const fn return_value(&self) -> u32 {
        self.failed.saturating_add(self.retry)
    }

    /// Returns how many pages did not move and were not freed.
    #[must_use]
    pub const fn left(&self) -> u32 {
        self.failed.saturating_add(self.retry).saturating_add(self.not_reached)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MODERN;
    use crate::told::{Locked, Told};
    use std::collections::VecDeque;
    use std::format;

    #[test]
    fn a_slot_is_empty_where_neither_page_is_in_it() {
        let empty = Slot::<Told>::new();
        assert!(empty.is_empty());
        for (old, new) in [
            (Held::Page(1), Held::Nothing),
            (Held::Nothing, Held::Locked(Locked(2))),
            (Held::Page(1), Held::Page(2)),
        ] {
            let slot = Slot::<Told> {
                old,
                new,
                ..Slot::new()
            };
            assert!(!slot.is_empty(), "{slot:?}");
        }
        assert!(format!("{empty:?}").starts_with("Slot { empty: true"));
    }

    #[test]
    fn arguments_say_whose_rules_mode_and_room_they_have() {
        let (mut from, mut failed) = (VecDeque::<u64>::new(), VecDeque::new());
        let args = Args::<Told, _, _, _> {
            from: &mut from,
            target: (),
            moved: None,
            failed: &mut failed,
            slots: &mut [const { Slot::new() }; 3],
            profile: &MODERN,
            mode: Mode::Async,
            reason: Reason::Compaction,
            outcome: &mut |_, _| {},
            observer: (),
        };
        let said = format!("{args:?}");
        for word in ["Modern", "Async", "Compaction", "slots: 3"] {
            assert!(said.contains(word), "{word} is not in {said}");
        }
    }
}

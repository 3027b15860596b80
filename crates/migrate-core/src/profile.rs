//! Whose rules a run follows: two profiles, as data. One engine reads them; there is no second code path.

use mm_types::museum::{self, Bug};
use mm_types::{EntryStyle, Mode, Rules};

/// Whether the contents are copied before the references are switched, or after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MoveOrder {
    /// 2006: an unreadable page is noticed when there is no way back.
    SwitchThenCopy,
    /// Since 6.11: everything before the switch can be undone.
    CopyThenSwitch,
}

/// What the entries of a swap-cache page become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SwapCacheEntries {
    /// 2006: swap entries, which nobody restores; the process faults the page in again.
    Swap,
    /// Today: migration entries, as for any page.
    Migration,
}

/// Whether a thread that waits on an entry holds a reference meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WaiterRef {
    /// Until 5.0: it does, and makes the migration fail its reference check.
    Take,
    /// It does not.
    None,
}

/// When a page's buffers are locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BufferLock {
    /// 2006: after the point of no return, sleeping.
    AfterSwitch,
    /// Since 5.0: before it, so that there is a way back.
    BeforeSwitch,
}

/// How long programs may be kept from the pages of one batch, and what holding them costs: the caller's estimate, in nanoseconds.
///
/// A batch takes no page by which it would be held for longer, and a page that would be held for longer all by itself is refused
/// ([`Refusal::StallBudget`](mm_types::Refusal::StallBudget)). The core has no clock: who sets the budget measures what it costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StallBudget {
    /// The longest that a page may be held.
    pub hold_ns: u32,
    /// What a batch costs whatever is in it: its barriers.
    pub batch_ns: u32,
    /// What a page costs: its copy, mostly.
    pub page_ns: u32,
    /// What each reference to a page costs but for the isolation's: an entry that is taken away and brought back.
    pub reference_ns: u32,
}

impl StallBudget {
    /// Returns what a page costs that has so many references, the isolation's among them.
    pub(crate) const fn page(self, references: u32) -> u32 {
        let others = references.saturating_sub(1);
        self.page_ns.saturating_add(self.reference_ns.saturating_mul(others))
    }
}

/// A round: so many passes over the pages, in batches of so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Round {
    pub(crate) passes: u32,
    pub(crate) batch: usize,
    /// First pass that may sleep on a page lock; `None` where none may.
    pub(crate) lock_from: Option<u32>,
    /// First pass that may wait for writeback; `None` where none may.
    pub(crate) writeback_from: Option<u32>,
    /// Sleeps on locks only of pages that are up to date (6.6: SYNC_LIGHT must not stall on reads).
    pub(crate) uptodate_only: bool,
}

impl Round {
    pub(crate) const fn blocks(&self) -> bool {
        self.lock_from.is_some() || self.writeback_from.is_some()
    }
}

/// The rules of one system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Whose rules these are: for errno values, the state transfer and traces.
    pub rules: Rules,
    /// What an entry remembers.
    pub entries: EntryStyle,
    /// Copy and switch.
    pub order: MoveOrder,
    /// Swap-cache pages.
    pub swap_cache: SwapCacheEntries,
    /// Waiting threads.
    pub waiter: WaiterRef,
    /// Buffers.
    pub buffers: BufferLock,
    /// A locked VMA refuses the migration.
    pub mlocked_stays: bool,
    /// Index and mapping of the new page are set before the switch, and undone on failure.
    pub settings_early: bool,
    /// The new page is taken before the old one is locked (today) or after it is unmapped (2006).
    pub new_page_first: bool,
    /// Dirty pages without a mover are written out by the migration.
    pub writes_out: bool,
    /// Pages go through the LRU's staging arrays, and an old page that the caller does not want is freed when these drain;
    /// else a new page goes to its list, and an old one to the allocator, at once.
    pub lru_staging: bool,
    /// Pages a batch may have at most.
    pub max_batch: usize,
    /// How long a batch may hold its pages; `None`: as long as it takes.
    pub stall: Option<StallBudget>,
}

/// Linux 2.6.17-rc3-mm1, exact in order, lists, return value, ledger, and what is lost.
pub const LINUX_2_6_17: Profile = Profile {
    rules: Rules::Linux2617,
    entries: EntryStyle::Lossy,
    order: MoveOrder::SwitchThenCopy,
    swap_cache: SwapCacheEntries::Swap,
    waiter: WaiterRef::Take,
    buffers: BufferLock::AfterSwitch,
    mlocked_stays: true,
    settings_early: true,
    new_page_first: false,
    writes_out: true,
    lru_staging: true,
    max_batch: 1,
    stall: None,
};

/// Today's kernel: batches with one flush, copy before the switch, lossless entries.
pub const MODERN: Profile = Profile {
    rules: Rules::Modern,
    entries: EntryStyle::Lossless,
    order: MoveOrder::CopyThenSwitch,
    swap_cache: SwapCacheEntries::Migration,
    waiter: WaiterRef::None,
    buffers: BufferLock::BeforeSwitch,
    mlocked_stays: false,
    settings_early: false,
    new_page_first: true,
    writes_out: false,
    lru_staging: false,
    max_batch: 512,
    stall: None,
};

impl Profile {
    /// Returns the rounds of a run in `mode`: the second is empty where there is only one.
    ///
    /// 2006 has one mode: passes 0 to 10, sleeping on the page lock from pass 3 and on writeback from pass 1.
    pub(crate) const fn rounds(&self, mode: Mode) -> [Round; 2] {
        const NONE: Round = Round {
            passes: 0,
            batch: 1,
            lock_from: None,
            writeback_from: None,
            uptodate_only: false,
        };
        match (self.rules, mode) {
            (Rules::Linux2617, _) => [
                Round {
                    passes: 11,
                    batch: 1,
                    lock_from: Some(3),
                    writeback_from: Some(1),
                    uptodate_only: false,
                },
                NONE,
            ],
            (Rules::Modern, Mode::Async) => [
                Round {
                    passes: 10,
                    batch: self.max_batch,
                    ..NONE
                },
                NONE,
            ],
            (Rules::Modern, Mode::SyncLight) => [
                Round {
                    passes: 3,
                    batch: self.max_batch,
                    ..NONE
                },
                Round {
                    passes: 7,
                    lock_from: Some(0),
                    uptodate_only: true,
                    ..NONE
                },
            ],
            (Rules::Modern, Mode::Sync) => [
                Round {
                    passes: 3,
                    batch: self.max_batch,
                    ..NONE
                },
                Round {
                    passes: 7,
                    lock_from: Some(0),
                    writeback_from: Some(0),
                    ..NONE
                },
            ],
        }
    }

    /// True where a thread that waits on an entry holds a reference to the page meanwhile.
    #[must_use]
    pub fn waiter_holds_a_reference(&self) -> bool {
        self.waiter == WaiterRef::Take || museum::has(Bug::B31)
    }

    /// True where a run in `mode` may sleep, and so needs a backend that can.
    #[must_use]
    pub const fn blocks(&self, mode: Mode) -> bool {
        let [first, second] = self.rounds(mode);
        first.blocks() || second.blocks()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_asynchronous_run_of_today_never_sleeps() {
        assert!(!MODERN.blocks(Mode::Async));
        assert!(MODERN.blocks(Mode::SyncLight));
        assert!(MODERN.blocks(Mode::Sync));
        for mode in Mode::ALL {
            assert!(LINUX_2_6_17.blocks(*mode));
        }
    }

    #[test]
    fn passes_are_eleven_ten_and_three_and_seven() {
        let passes = |profile: Profile, mode| profile.rounds(mode).map(|round| round.passes);
        assert_eq!(passes(LINUX_2_6_17, Mode::Sync), [11, 0]);
        assert_eq!(passes(MODERN, Mode::Async), [10, 0]);
        assert_eq!(passes(MODERN, Mode::Sync), [3, 7]);
    }

    #[test]
    fn only_the_first_round_of_today_takes_batches_and_sleeps_for_nothing() {
        let many = Profile {
            max_batch: 37,
            ..MODERN
        };
        for mode in Mode::ALL {
            let [first, second] = many.rounds(*mode);
            assert_eq!(
                (first.batch, first.lock_from, first.writeback_from),
                (37, None, None),
                "{mode}"
            );
            assert_eq!(second.batch, 1, "{mode}");
        }
        let [_, light] = many.rounds(Mode::SyncLight);
        let [_, sync] = many.rounds(Mode::Sync);
        assert_eq!(
            (light.lock_from, light.writeback_from, light.uptodate_only),
            (Some(0), None, true)
        );
        assert_eq!(
            (sync.lock_from, sync.writeback_from, sync.uptodate_only),
            (Some(0), Some(0), false)
        );
    }
}

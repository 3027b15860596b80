//! The invariants of page migration: what must hold at any moment, or once no migration is in progress.
//!
//! This is the one list. Checks name an invariant by its value, messages and documents by its number; the sentences are the
//! documentation's.

use core::fmt;

use crate::Rules;

/// When an invariant holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// At every moment at which nobody holds a lock that covers the change.
    Always,
    /// When no migration is in progress.
    End,
}

impl Scope {
    /// Returns the word that tables use.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::End => "end",
        }
    }
}

macro_rules! invariants {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $scope:ident, $rule:literal;)*) => {
        /// What must hold of a system that moves pages.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Invariant {
            $($(#[$doc])* $name = $number,)*
        }

        impl Invariant {
            /// Every invariant, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Returns its number as text, such as `I3`.
            #[must_use]
            pub const fn id(self) -> &'static str {
                match self { $(Self::$name => concat!("I", $number),)* }
            }

            /// Returns when it holds.
            #[must_use]
            pub const fn scope(self) -> Scope {
                match self { $(Self::$name => Scope::$scope,)* }
            }

            /// Returns the rule in a few words.
            #[must_use]
            pub const fn rule(self) -> &'static str {
                match self { $(Self::$name => $rule,)* }
            }
        }
    };
}

invariants! {
    /// A page is on at most one list: an LRU list, a staging array, a caller's list or the free list; it has the LRU flag exactly
    /// if that is an LRU list.
    OneList = 1, Always, "a page is on at most one list";
    /// An isolated page has one extra reference and no LRU flag; isolation happens wholly or not at all.
    Isolation = 2, Always, "a page is isolated once and put back once";
    /// A migration entry names a locked page, and the lock belongs to the migration that installed the entry.
    EntryNamesLocked = 3, Always, "a migration entry names a page that the migration has locked";
    /// A migration entry holds neither a reference nor a mapping; a page's map count is the number of present entries that map it.
    MapCount = 4, Always, "a page's map count is the number of entries that map it";
    /// A page's reference count is the sum of its holders: entries, cache slots, private data, isolation, and whoever holds it for
    /// a while.
    References = 5, Always, "a page's references are those of its holders";
    /// No migration entry outlives its migration, whether the page moved or stayed, not even in a space that a fork made or at an
    /// address that a remap chose meanwhile.
    NoEntryLeft = 6, End, "no migration entry survives, and none vanishes";
    /// A restored entry maps the new page if the page moved and the old one if it stayed.
    RestoresRightFrame = 7, End, "a restored entry maps the new page if it moved, the old one if not";
    /// An address that was mapped before, and that nobody else changed, is mapped afterwards, to the same contents.
    MappedAsBefore = 8, End, "what was mapped is mapped afterwards";
    /// Whoever reads, through a mapping, the page cache or the file, reads what was written last: no write is lost, and none
    /// happens twice.
    Contents = 9, Always, "whoever reads, reads what was written last";
    /// Nobody sees the new page before the contents are copied.
    CopyBeforeUse = 10, Always, "nobody sees the new page before its contents are there";
    /// What was dirty, in any entry or in the page, stays dirty in one of them until it has been written back.
    DirtyConserved = 11, Always, "what was dirty stays dirty until it is written back";
    /// Dirty tags and the counts of each file and node equal what a recount finds.
    DirtyCounted = 12, End, "dirty tags are those of the dirty pages";
    /// Parts of a page that were clean stay clean.
    PartsStayClean = 13, End, "parts of a page that were clean stay clean";
    /// An entry comes back writable only if it was writable when it was unmapped, nobody took the permission away since, and the
    /// area allows it now.
    WriteNotWidened = 14, Always, "write permission is never widened";
    /// After a fork in the middle of a migration, parent and child both map a copy-on-write page read-only.
    ForkIsReadOnly = 15, End, "after fork the child may not write what the parent may not";
    /// The marks of an entry (soft-dirty, write-protected by user space, exclusive) survive the move unless somebody changed them
    /// meanwhile; a page that two spaces map is never exclusive.
    MarksKept = 16, End, "the marks of an entry survive, and nobody is exclusive who is not alone";
    /// An entry's young bit, and the page's marks of use, are after the move what they were before.
    YoungAsProfile = 17, End, "restored entries are old in 2006 and as they were today";
    /// A slot of the page cache holds the old page or the new one, never both and never neither; all slots of one page change
    /// together.
    OnePageInSlot = 18, Always, "a cache slot holds one page, and that page knows it";
    /// The switch happens only while the reference count is frozen at the expected value, so that nobody can gain a reference
    /// between check and switch.
    SwitchFrozen = 19, Always, "the switch happens only on a page whose count is frozen";
    /// After a success the old page has its isolation reference alone, no cache, no private data and no dirty flag, and the
    /// allocator takes it back; a page is free exactly if nobody holds it.
    OnlyForward = 20, End, "after the switch there is no way back, and the old page is freed";
    /// After a failure the old page and its entries are as they were, and the new page is as if never used.
    FailureRestores = 21, End, "a page that stays is as it was";
    /// Nothing in the new page's settings changes before the point of no return.
    DestinationUntouched = 22, Always, "the new page is not touched before the point of no return";
    /// Whoever waits for a page or an entry is woken, and nobody sleeps on a page that no one will unlock.
    WaitersWake = 23, End, "who waits on an entry waits on a locked page, and wakes";
    /// Waiting on an entry does not by itself make a migration fail.
    WaitingIsFree = 24, End, "waiting on an entry does not make the migration fail";
    /// No page is freed while an entry names it or a waiter uses it.
    NotFreedInUse = 25, Always, "no page is freed that an entry names";
    /// The root of a page's reverse map is not freed or used for something else while the page is being moved.
    RootPinned = 26, Always, "the root of a page's reverse map lives as long as it is needed";
    /// Each space's count of resident pages equals its mapped pages and those in flight, and is zero once the space is gone.
    Resident = 27, End, "resident pages are those mapped and those in flight";
    /// A move leaves the page's swap slot alone, and the slot counts each of its users once.
    SwapSlots = 28, End, "a swap slot counts each of its users once";
    /// Each page given to a run has exactly one outcome, and the outcomes add up to the pages given.
    OneOutcome = 29, End, "each page has exactly one outcome, and the counts add up";
    /// The number of passes is bounded, no more pages are allocated than were tried, and each new page is used or given back
    /// exactly once.
    Bounded = 30, End, "passes are bounded, and every new page is used or given back once";
    /// A mode that may not wait sleeps on no page lock, writeback, buffer lock or allocation.
    AsyncNeverWaits = 31, Always, "a mode that may not wait for I/O does not";
    /// Who holds more than one page lock only tries for further ones, and does not wait for I/O.
    NoWaitWithLocks = 32, Always, "nobody waits for I/O while another page lock is held";
    /// Nobody writes through an old translation once the copy begins, or reads through one once the new page can be written; what
    /// a batch owes is flushed before its first copy.
    NoStaleTranslation = 33, Always, "no stale translation is left when contents are copied or a lock opens";
    /// Code of a file system or an allocator is not called under a spinlock, nor, where it may unlock the page, while migration
    /// entries exist.
    NoEntriesAtCallback = 34, Always, "no entry exists when the file system is called";
    /// A page that must not move (pinned, reserved, poisoned, inaccessible, a device's) is refused with the right reason and left
    /// as it is.
    MustStay = 35, End, "a page that must not move is refused, and left as it is";
    /// A page whose contents cannot be read never becomes a new page that looks sound; the error is told, and the old page stays.
    CopyErrorReported = 36, End, "a page whose contents could not be copied did not move";
    /// Each element of a status array is written once where the call says so, and one that was not tried is left alone.
    StatusOnce = 37, End, "each status is written once, and none of a page that was not tried";
    /// To move a page to the node it is on does nothing, and its status is that node.
    Idempotent = 38, End, "to move a page to where it is does nothing";
    /// A page that moves away and back is, but for its frame, as it was.
    RoundTrip = 39, End, "a page that moves away and back is as it was";
    /// A migration entry reads back as it was written, for every kind, mark and frame number, and is never taken for a present,
    /// empty or file entry.
    EntryReadsBack = 40, Always, "a migration entry reads back as it was written";
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.id(), self.rule())
    }
}

/// Where one system does not promise the whole of an invariant, because the original did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exemption {
    /// Whose rules.
    pub rules: Rules,
    /// The invariants.
    pub invariants: &'static [Invariant],
    /// What holds instead.
    pub instead: &'static str,
}

const fn exempt(rules: Rules, invariants: &'static [Invariant], instead: &'static str) -> Exemption {
    Exemption {
        rules,
        invariants,
        instead,
    }
}

/// Every exemption. That 2.6.17 miscounted resident pages at a fork and an unmapping is a bug, and bugs are not rebuilt: the
/// invariant of resident pages has none.
pub const EXEMPTIONS: &[Exemption] = &[
    exempt(
        Rules::Linux2617,
        &[Invariant::MappedAsBefore, Invariant::SwapSlots],
        "mappings of a page in the swap cache become swap entries, and nonlinear ones file entries; both come back by the next fault",
    ),
    exempt(
        Rules::Modern,
        &[Invariant::MappedAsBefore, Invariant::SwapSlots],
        "nonlinear mappings come back by the next fault",
    ),
    exempt(
        Rules::Linux2617,
        &[Invariant::YoungAsProfile],
        "restored entries are old",
    ),
    exempt(
        Rules::Linux2617,
        &[Invariant::FailureRestores],
        "of a page that stays, dirty moves from entries to the page, young is lost, and nonlinear mappings are not rebuilt",
    ),
    exempt(
        Rules::Modern,
        &[Invariant::FailureRestores],
        "dirty may move from entries to the page",
    ),
    exempt(
        Rules::Linux2617,
        &[Invariant::DestinationUntouched],
        "the new page's index and mapping are set early, and undone on failure",
    ),
    exempt(
        Rules::Linux2617,
        &[Invariant::WaitingIsFree],
        "a waiter's reference may make an attempt fail",
    ),
    exempt(
        Rules::Linux2617,
        &[Invariant::CopyErrorReported, Invariant::RoundTrip],
        "a copy that fails after the switch leaves the entries on the new page, which is marked as in error and not up to date; the old page is reported as failed",
    ),
];

impl Invariant {
    /// Returns what holds instead under `rules`; `None` where the whole invariant holds.
    #[must_use]
    pub fn exemption(self, rules: Rules) -> Option<&'static str> {
        EXEMPTIONS
            .iter()
            .find(|exempt| exempt.rules == rules && exempt.invariants.contains(&self))
            .map(|exempt| exempt.instead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;

    #[test]
    fn the_forty_are_numbered_in_order() {
        let ids = Invariant::ALL.iter().map(|invariant| invariant.id());
        assert!(ids.eq((1..=40).map(|n| format!("I{n}"))));
    }

    #[test]
    fn each_has_a_rule_of_its_own() {
        let rules: std::collections::BTreeSet<_> = Invariant::ALL.iter().map(|invariant| invariant.rule()).collect();
        assert_eq!(rules.len(), Invariant::ALL.len());
    }

    #[test]
    fn an_exemption_is_found_by_its_rules() {
        assert_eq!(
            Invariant::YoungAsProfile.exemption(Rules::Linux2617),
            Some("restored entries are old")
        );
        assert_eq!(Invariant::YoungAsProfile.exemption(Rules::Modern), None);
        assert_eq!(
            Invariant::Resident.exemption(Rules::Linux2617),
            None,
            "a bug, not a rule"
        );
    }

    #[test]
    fn one_prints_as_its_number_and_its_rule_and_says_when_it_holds() {
        let read_back = Invariant::EntryReadsBack;
        assert_eq!(
            format!("{read_back}, {}", read_back.scope().word()),
            "I40 (a migration entry reads back as it was written), always"
        );
        assert_eq!(Invariant::NoEntryLeft.scope(), Scope::End);
        assert_eq!(Scope::End.word(), "end");
    }
}

//! What a checker says about a trace that cannot be right.

use core::fmt;

use crate::trace::{Event, Full, Line, ParseError};

macro_rules! invariants {
    ($($(#[$doc:meta])* $name:ident = $id:literal, $rule:literal;)*) => {
        /// The rules a trace is checked against: the specification's invariants, as far as a trace shows them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Invariant {
            $($(#[$doc])* $name,)*
        }

        impl Invariant {
            /// Every invariant that is checked, in the specification's order.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Returns its number in the specification, such as `I3`; `order` for the order of the documented steps.
            #[must_use]
            pub const fn id(self) -> &'static str {
                match self { $(Self::$name => $id,)* }
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
    /// A page is on one list at a time.
    OneList = "I1", "a page is on at most one list";
    /// Isolation is one reference, given back once.
    Isolation = "I2", "a page is isolated once and put back once";
    /// Entries name locked pages.
    EntryNamesLocked = "I3", "a migration entry names a page that the migration has locked";
    /// No entry outlives its migration.
    NoEntryLeft = "I6", "no migration entry survives, and none vanishes";
    /// Restored entries map the right frame.
    RestoresRightFrame = "I7", "a restored entry maps the new page if it moved, the old one if not";
    /// Nobody sees a destination before its contents.
    CopyBeforeUse = "I10", "nobody sees the new page before its contents are there";
    /// Write permission only shrinks.
    WriteNotWidened = "I14", "write permission is never widened";
    /// Fork takes write permission from both.
    ForkIsReadOnly = "I15", "after fork the child may not write what the parent may not";
    /// 2006 entries come back old; modern ones as they were.
    YoungAsProfile = "I17", "restored entries are old in 2006 and as they were today";
    /// The switch happens on a frozen page.
    SwitchFrozen = "I19", "the switch happens only on a page whose count is frozen";
    /// After the switch there is only forward.
    OnlyForward = "I20", "after the switch there is no way back";
    /// A failed page is as it was.
    FailureRestores = "I21", "a page that stays is as it was";
    /// The modern destination is untouched before the switch.
    DestinationUntouched = "I22", "the new page is not touched before the point of no return";
    /// Every waiter wakes.
    WaitersWake = "I23", "who waits on an entry waits on a locked page, and wakes";
    /// Every page has one outcome.
    OneOutcome = "I29", "each page has exactly one outcome, and the counts add up";
    /// Everything is bounded, and new pages are accounted for.
    Bounded = "I30", "passes are bounded, and every new page is used or given back once";
    /// Async never waits.
    AsyncNeverWaits = "I31", "a mode that may not wait for I/O does not";
    /// No waiting with several locks held.
    NoWaitWithLocks = "I32", "nobody waits for I/O while another page lock is held";
    /// No stale translations.
    NoStaleTranslation = "I33", "no stale translation is left when contents are copied or a lock opens";
    /// No callback while entries exist.
    NoEntriesAtCallback = "I34", "no entry exists when the file system is called";
    /// A copy that failed is not hidden.
    CopyErrorReported = "I36", "a page whose contents could not be copied did not move";
    /// The order of the documented steps.
    StepOrder = "order", "the steps come in their order";
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.id(), self.rule())
    }
}

/// A place where a trace breaks an invariant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The line of the canonical text, from 1; the version line is 1, the first event 2.
    pub line: usize,
    /// The rule.
    pub invariant: Invariant,
    /// What was seen.
    pub what: &'static str,
    /// The event that broke it; `None` where the trace ended with something undone.
    pub event: Option<Event>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}: {}", self.line, self.invariant, self.what)?;
        match self.event {
            Some(event) => write!(f, ": {}", Line { page: None, event }),
            None => Ok(()),
        }
    }
}

impl core::error::Error for Violation {}

/// Why a check ended before the trace did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// The trace is wrong.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// The checker was lent too little room to tell.
    #[error(transparent)]
    Full(#[from] Full),
    /// The text is not a trace.
    #[error(transparent)]
    Parse(#[from] ParseError),
}

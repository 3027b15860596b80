//! What a checker says about a trace that cannot be right.

use core::fmt;

use crate::Invariant;
use crate::trace::{Event, Full, Line, ParseError};

/// What a trace can break: one of the invariants, as far as a trace shows them, or the order of the documented steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// An invariant.
    Invariant(Invariant),
    /// The steps come in their order.
    StepOrder,
}

impl Rule {
    /// Every rule that the checker holds a trace against.
    pub const ALL: &'static [Self] = &[
        Self::Invariant(Invariant::OneList),
        Self::Invariant(Invariant::Isolation),
        Self::Invariant(Invariant::EntryNamesLocked),
        Self::Invariant(Invariant::NoEntryLeft),
        Self::Invariant(Invariant::RestoresRightFrame),
        Self::Invariant(Invariant::CopyBeforeUse),
        Self::Invariant(Invariant::WriteNotWidened),
        Self::Invariant(Invariant::ForkIsReadOnly),
        Self::Invariant(Invariant::YoungAsProfile),
        Self::Invariant(Invariant::SwitchFrozen),
        Self::Invariant(Invariant::OnlyForward),
        Self::Invariant(Invariant::DestinationUntouched),
        Self::Invariant(Invariant::WaitersWake),
        Self::Invariant(Invariant::OneOutcome),
        Self::Invariant(Invariant::Bounded),
        Self::Invariant(Invariant::AsyncNeverWaits),
        Self::Invariant(Invariant::NoWaitWithLocks),
        Self::Invariant(Invariant::NoStaleTranslation),
        Self::Invariant(Invariant::NoEntriesAtCallback),
        Self::Invariant(Invariant::CopyErrorReported),
        Self::StepOrder,
    ];

    /// Returns the invariant's number, such as `I3`; `order` for the order of the documented steps.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::Invariant(invariant) => invariant.id(),
            Self::StepOrder => "order",
        }
    }

    /// Returns the rule in a few words.
    #[must_use]
    pub const fn rule(self) -> &'static str {
        match self {
            Self::Invariant(invariant) => invariant.rule(),
            Self::StepOrder => "the steps come in their order",
        }
    }

    /// Returns the invariant; `None` for the order of the steps.
    #[must_use]
    pub const fn invariant(self) -> Option<Invariant> {
        match self {
            Self::Invariant(invariant) => Some(invariant),
            Self::StepOrder => None,
        }
    }
}

impl From<Invariant> for Rule {
    fn from(invariant: Invariant) -> Self {
        Self::Invariant(invariant)
    }
}

impl PartialEq<Invariant> for Rule {
    fn eq(&self, other: &Invariant) -> bool {
        self.invariant() == Some(*other)
    }
}

impl fmt::Display for Rule {
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
    pub rule: Rule,
    /// What was seen.
    pub what: &'static str,
    /// The event that broke it; `None` where the trace ended with something undone.
    pub event: Option<Event>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}: {}", self.line, self.rule, self.what)?;
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

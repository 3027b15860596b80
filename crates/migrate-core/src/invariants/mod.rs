//! The invariants as code: checks of a backend's state, of what a run changed, of what it said, and of the steps it made.
//!
//! Every check names what does not hold by its [`Invariant`]; the list of them is [`mm_types::Invariant`]. A backend that can
//! be recounted says what it has through one trait, [`Inspect`], and has all checks of state; whoever compares two moments takes
//! a [`Snapshot`] of each.
//!
//! | what is checked | by | invariants |
//! |---|---|---|
//! | the state at any moment | [`check_always`] | I1, I3–I6, I15, I16, I18, I25–I28, I33 |
//! | the state between two calls of programs | [`check_between_calls`] | those, and I11, I14 |
//! | the state when no migration is in progress | [`check_at_rest`] | those, and I2, I12, I20, I23 |
//! | what is read | [`check_contents`] | I9 |
//! | what a run changed | [`check_run`], [`check_unused`] | I7–I9, I11, I13, I14, I16–I18, I20, I21, I28, I36 |
//! | that nothing changed | [`check_unmoved`], [`check_round_trip`] | I38, I39 |
//! | what a run said | [`check_outcomes`], [`check_targets`], [`check_must_stay`], [`check_waiters`] | I24, I29, I30, I35, I37 |
//! | the steps of a run | [`Watch`], before each; [`mm_types::trace::Checker`], afterwards | I10, I19, I22, I26, I31, I32, I34, I36, and others |
//! | the packing of entries | [`check_packing`] | I40 |
//!
//! Where a profile is exempt ([`mm_types::EXEMPTIONS`]) a check knows it by the rules it is given.

use alloc::string::{String, ToString};
use core::fmt::{Debug, Display};

use mm_types::Invariant;

mod change;
mod count;
mod inspect;
mod outcomes;
mod packing;
mod same;
mod snapshot;
mod state;
mod watch;

pub use change::{Ran, check_entries, check_others, check_pages, check_run, check_unused};
pub use inspect::{CacheSlotState, EntryState, FrameState, Held, Inspect, SpaceState, SwapSlotState, TranslationState};
pub use outcomes::{check_must_stay, check_outcomes, check_targets, check_waiters};
pub use packing::{Looks, check_packing};
pub use same::{check_round_trip, check_unmoved};
pub use snapshot::Snapshot;
pub use state::{check_always, check_at_rest, check_between_calls, check_contents};
pub use watch::Watch;

/// What does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {what}", invariant.id())]
pub struct Violation {
    /// The invariant.
    pub invariant: Invariant,
    /// What was found.
    pub what: String,
}

impl Violation {
    /// Names an invariant that does not hold, and what was found.
    #[must_use]
    pub fn new(invariant: Invariant, what: impl Display) -> Self {
        Self {
            invariant,
            what: what.to_string(),
        }
    }
}

/// Says what was found where something does not hold.
fn hold(invariant: Invariant, holds: bool, what: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds {
        Ok(())
    } else {
        Err(Violation {
            invariant,
            what: what(),
        })
    }
}

/// Says two values where they are not the same.
fn same<T: PartialEq + Debug>(
    invariant: Invariant,
    found: T,
    counted: T,
    of: impl FnOnce() -> String,
) -> Result<(), Violation> {
    hold(invariant, found == counted, || {
        alloc::format!("{}: {found:?}, but counted {counted:?}", of())
    })
}

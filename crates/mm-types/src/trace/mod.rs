//! Traces: a public contract.
//!
//! A version line, then one event a line: `word key=value …`, with the kernel's words where it has them. Ids are given
//! in order of first appearance, so the same steps make the same text: `p` a page's content, `f` a frame, `m` a space,
//! `t` an actor; `site=m1+0x3` is a page within a space. Adding an event is a minor change, changing a line a major one.
//!
//! An [`Observer`] hears [`Event`]s, raw; a [`Namer`] makes [`Line`]s of them; `Display` and `FromStr` of a line are
//! each other's inverse. A [`Checker`] replays a trace against the invariants.

mod checker;
mod event;
#[cfg(test)]
pub(crate) mod examples;
mod line;
mod namer;
mod packed;
mod parse;
mod record;
mod steps;
mod table;
pub(crate) mod text;

pub use crate::Invariant;
pub use checker::{CheckError, Checked, Checker, FrameState, Room, Rule, SpaceState, Violation, check};
pub use event::{Event, Observer, Tell};
pub use line::Line;
pub use namer::{FrameName, Named, Namer, SmallName};
pub use parse::{HEADER, Lines};
#[cfg(feature = "std")]
pub use record::Recorder;
pub use record::{Ring, RingSlot};
pub use steps::{Numbered, STEPS_2006, STEPS_MODERN, Step, Stepper, steps};
pub use table::{Full, Key, Slot, Table};
pub use text::{ParseError, ParseErrorKind};

#[cfg(feature = "alloc")]
mod owned;
#[cfg(feature = "alloc")]
pub use owned::{check_events, check_text, lines_of, numbered_text, text_of};

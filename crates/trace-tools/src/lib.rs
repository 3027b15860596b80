//! What a person asks of a trace: whether it can be right, how it differs from another, why a page stayed.
//!
//! [`Replay`] goes through a trace, forward and back, and shows the frames, entries, lists and waiters between any two of
//! its events. It needs an allocator and nothing else.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod convert;
pub mod diff;
pub mod explain;
pub mod kernel;
pub mod replay;
mod rules;
mod source;
pub mod stats;

pub use diff::diff;
pub use explain::explain;
pub use replay::Replay;
pub use rules::rules_of;
pub use source::{Unreadable, parse};

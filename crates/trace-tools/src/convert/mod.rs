//! Other forms of a trace, for the tools that people have.
//!
//! A trace has no time. Where a form needs one, the events are counted: the first has time 1.

mod folded;
mod ftrace;
mod heat;
#[cfg(feature = "cli")]
mod perfetto;
#[cfg(feature = "cli")]
mod proto;

pub use folded::folded;
pub use ftrace::ftrace;
pub use heat::{Grid, heat};
#[cfg(feature = "cli")]
pub use perfetto::perfetto;

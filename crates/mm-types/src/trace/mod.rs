//! Traces: a public contract.
//!
//! A version line, then one event a line: `word key=value …`, with the kernel's words where it has them. Ids are given
//! in order of first appearance, so the same steps make the same text: `p` a page's content, `f` a frame, `m` a space,
//! `t` an actor; `site=m1+0x3` is a page within a space. Adding an event is a minor change, changing a line a major one.

mod event;

pub use event::{Event, Observer, Tell};

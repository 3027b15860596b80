//! The seam by itself: each method's promise, asked for without a run where that can be.
//!
//! The files are named for the traits.

mod entry;
mod frames;
mod lru;
mod rmap;
mod waiting;

pub(super) use entry::*;
pub(super) use frames::*;
pub(super) use lru::*;
pub(super) use rmap::*;
pub(super) use waiting::*;

//! Calls in any order, made of the model and of a plain reference beside it, and compared after each.
//!
//! A [`World`] is a small kernel in memory ([`migrate_core::model`]) with somebody who uses it, and a map from address to value and
//! permission that says what programs must see. A [`Step`] is what programs do (map, load, store, fork, mprotect, munmap, mremap,
//! truncate, …), what a kernel does (write back, pin, isolate, swap out, …) or a run of the engine, in any mode and either profile,
//! with any batch and number of new pages; within a run others act before any step of the protocol, and steps fail. To the
//! reference a run is nothing at all.
//!
//! Steps are plain data and their picks mean something in any world, so a sequence can be cut short, thinned out and played again.
//! [`Size`] says how large a world is; [`Care`] how much is looked at how often. The tests of the core play small worlds and look at
//! everything always; the simulator plays large ones.
//!
//! This is test code: what cannot be panics.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "test code: a world that is wrong stops the test"
)]

mod act;
mod broke;
mod check;
mod counts;
mod disturbed;
mod draw;
mod held;
mod packing;
mod quiet;
mod ran;
mod reference;
mod run;
mod size;
mod step;
mod steps;
mod there_and_back;
mod world;

pub use check::EVERYTHING;
pub use counts::{Counts, Kind};
pub use draw::{Calls, any_case, case_in_flight, rng};
pub use quiet::quietly;
pub use ran::MOVED;
pub use size::Size;
pub use step::{CORRUPT, Case, Fail, Migrate, Step};
pub use steps::failures_of_a_world;
pub use world::{Care, World};

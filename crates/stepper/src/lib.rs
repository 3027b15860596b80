//! The machine of the stepper, a page that goes through a trace one event at a time.
//!
//! The page is one HTML file without a network. What it knows of traces is this crate, compiled to WebAssembly and embedded:
//! reading, checking and replaying are [`trace_tools`]' and [`mm_types`]', and nothing of them is written a second time in
//! JavaScript, which shows rows and passes keys on. [`Session`] is a trace that was opened and a place in it; its answers are
//! JSON. `docs-gen --stepper FILE` makes the page, with the files in `page/`.

#![deny(unsafe_code)]

mod panel;
mod problem;
mod search;
mod session;
mod step;

#[cfg(target_arch = "wasm32")]
#[expect(
    unsafe_code,
    reason = "a name that is exported as it is could be another's: nothing else is linked with this module"
)]
mod exports;

pub use panel::Panel;
pub use problem::Problem;
pub use search::Query;
pub use session::Session;

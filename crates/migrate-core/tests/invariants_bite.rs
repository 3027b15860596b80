//! Every invariant bites: a good state, change, outcome, trace or word passes, and with one thing broken on purpose the check names
//! exactly the invariant that it breaks.
//!
//! Which check and which of these tests belong to which invariant is the table of the documents' chapter on invariants.

#![cfg(feature = "model")]

#[path = "invariants_bite/change.rs"]
mod change;
#[path = "invariants_bite/fields.rs"]
mod fields;
#[path = "invariants_bite/said.rs"]
mod said;
#[path = "invariants_bite/state.rs"]
mod state;
#[path = "invariants_bite/steps.rs"]
mod steps;
#[path = "invariants_bite/system.rs"]
mod system;

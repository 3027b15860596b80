//! What the programs share.
//!
//! | question | module |
//! |---|---|
//! | what was asked for, and does it make sense? | [`args`], [`size`], [`memory`] |
//! | what happens then? | [`job`] |
//! | whose pages move? | [`workers`]: [`words`] that are written, [`file_check`] of what is read |
//! | what does a plain copy cost? | [`mod@reference`] |
//! | what is happening? | [`progress`], [`picture`], [`stop`] |
//! | does it hold when everything happens at once? | [`storm`] |
//! | and on the model, in every order? | [`simulate`] |
//! | why would a page stay? | [`provoke`] |
//! | what came of it? | [`report`], [`refused`], [`tally`], [`console`] |
//! | and with real page tables, in a kernel of its own? | [`boot`] |
//! | what does a page cost, beside everything else that moves pages? | [`compare`], and the running kernel: [`linux`] |

pub mod args;
pub mod boot;
pub mod compare;
pub mod console;
pub mod file_check;
mod input;
pub mod job;
pub mod linux;
pub mod median;
pub mod memory;
pub mod picture;
pub mod progress;
pub mod provoke;
pub mod random;
pub mod reference;
pub mod refused;
pub mod report;
pub mod simulate;
pub mod size;
pub mod stop;
pub mod storm;
pub mod tally;
pub mod words;
pub mod workers;

// The README's code is compiled, and run where it says something that can be checked.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

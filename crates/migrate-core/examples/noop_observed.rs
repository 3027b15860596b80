//! As `noop_run`, with an observer that is on: shows that the comparison of instructions can tell the difference.

#[path = "../benches/noop/mod.rs"]
mod noop;

use core::hint::black_box;

use mm_types::trace::{Event, Tell};

fn main() {
    noop::move_there_and_back(&Tell(|event: Event| {
        black_box(event);
    }));
}

//! Rule: an observer is passed by value to every step, so it is `Copy`: a shared reference to where events go.

use mm_types::trace::{Event, Observer};

struct Counter {
    events: usize,
}

impl Observer for Counter {
    const ENABLED: bool = true;

    fn event(self, _event: Event) {}
}

fn main() {}

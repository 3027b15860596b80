//! The core alone, on a backend that does nothing: no contents, no translations, one entry for each page.

use core::cell::RefCell;
use std::time::Instant;

use migrate_core::{MODERN, Slot};
use mm_types::Mode;

use super::engine::{Engine, Went};

// The benchmark of the core has it; there is one.
#[path = "../../../crates/migrate-core/benches/noop/mod.rs"]
mod noop;

use noop::{Noop, prepare, run};

/// The name in the table.
pub const NAME: &str = "the core alone: nothing to copy or flush";

/// Pages that the core moves in order.
#[expect(missing_debug_implementations, reason = "nothing of the backend can be shown")]
pub struct Core {
    noop: Noop,
    order: Vec<usize>,
    slots: RefCell<Vec<Slot<Noop>>>,
}

impl Core {
    /// Makes a backend of `pages` pages.
    #[must_use]
    pub fn new(pages: usize) -> Self {
        Self {
            noop: Noop::new(pages),
            order: (0..pages).collect(),
            slots: RefCell::default(),
        }
    }
}

impl Engine for Core {
    fn name(&self) -> &'static str {
        NAME
    }

    fn pages(&self) -> usize {
        self.order.len()
    }

    fn go(&self, batch: usize) -> Result<Went, String> {
        let mut slots = self.slots.borrow_mut();
        slots.resize_with(batch, Slot::new);
        let (mut from, mut news) = prepare(&self.noop, &self.order);
        let mut failed = self.noop.list(14);
        let begun = Instant::now();
        let tally = run(
            &self.noop,
            &mut from,
            &mut news,
            &mut failed,
            &mut slots,
            &MODERN,
            Mode::Async,
            (),
        );
        let took = begun.elapsed();
        let moved = u64::from(tally.moved);
        Ok(Went {
            took,
            moved,
            stayed: self.order.len() as u64 - moved,
        })
    }
}

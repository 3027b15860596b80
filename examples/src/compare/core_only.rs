//! The core alone, on a backend that does nothing: no contents, no translations, one entry for each page.

use core::cell::RefCell;

use migrate_core::Slot;

use super::engine::{Engine, Went};

// The benchmark of the core has it; there is one.
#[path = "../../../crates/migrate-core/benches/noop/mod.rs"]
mod noop;

use noop::{Noop, timed};

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
        let (took, tally) = timed(&self.noop, &self.order, &mut slots);
        let moved = u64::from(tally.moved);
        Ok(Went {
            took,
            moved,
            stayed: self.order.len() as u64 - moved,
        })
    }
}

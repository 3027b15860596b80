//! The page tables of x86-64 in ordinary memory: nobody's processor uses them, so a flush costs nothing.

use core::cell::RefCell;

use migrate_core::Slot;
use mm_types::Site;

use super::engine::{Engine, Went};

// The benchmarks of the backend have it; there is one.
#[path = "../../../crates/backend-x86_64/benches/arena/mod.rs"]
mod arena;

use arena::moves::move_all;

/// The name in the table.
pub const NAME: &str = "page tables of x86-64, no processor";

/// A space full of pages. Its memory is never given back.
#[expect(missing_debug_implementations, reason = "nothing of the arena can be shown")]
pub struct Host {
    kernel: arena::Host,
    sites: Vec<Site>,
    slots: RefCell<Vec<Slot<arena::Host>>>,
}

impl Host {
    /// Makes `pages` pages that so many spaces map.
    #[must_use]
    pub fn new(pages: usize, mappings: usize) -> Self {
        let (kernel, sites) = arena::boot(pages, mappings);
        Self {
            kernel,
            sites,
            slots: RefCell::default(),
        }
    }
}

impl Engine for Host {
    fn name(&self) -> &'static str {
        NAME
    }

    fn pages(&self) -> usize {
        self.sites.len()
    }

    fn go(&self, batch: usize) -> Result<Went, String> {
        let mut slots = self.slots.borrow_mut();
        slots.resize_with(batch, Slot::new);
        // As of the running kernel: the calls of migrate_pages() alone. Every page moves, or the arena stops the program.
        let took = move_all(&self.kernel, &self.sites, &mut slots).runs;
        Ok(Went {
            took,
            moved: self.sites.len() as u64,
            stayed: 0,
        })
    }
}

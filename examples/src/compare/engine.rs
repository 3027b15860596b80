//! Something that moves pages.

use core::sync::atomic::AtomicU64;
use core::time::Duration;

/// What it did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Went {
    /// How long it took.
    pub took: Duration,
    /// Pages moved.
    pub moved: u64,
    /// Pages that stayed.
    pub stayed: u64,
}

/// Something that moves pages: a row of the table for each size of a batch. A new one is a line in `super::engines`.
pub trait Engine {
    /// Returns its name in the table.
    fn name(&self) -> &str;

    /// Returns how many pages move: as many are copied beside it.
    fn pages(&self) -> usize;

    /// Chooses the sizes of a batch from those that were asked for.
    fn batches(&self, asked: &[usize]) -> Vec<usize> {
        asked.to_vec()
    }

    /// Gets ready to move once; does not count.
    ///
    /// # Errors
    /// Why it cannot.
    fn prepare(&mut self) -> Result<(), String> {
        Ok(())
    }

    /// Returns the memory that moves, page by page, for threads to use meanwhile; empty where none can.
    fn memory(&self) -> Vec<&[AtomicU64]> {
        Vec::new()
    }

    /// Moves every page once, `batch` at a time.
    ///
    /// # Errors
    /// Why it cannot.
    fn go(&self, batch: usize) -> Result<Went, String>;
}

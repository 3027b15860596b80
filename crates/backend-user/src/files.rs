//! Files, as a program holds them.

use std::sync::Arc;

use crate::file::Cached;
use crate::machine::Inner;

/// A file whose pages are cached by a machine, and move like others. Cheap to clone.
#[derive(Clone, Debug)]
pub struct MappedFile {
    pub(crate) machine: Arc<Inner>,
    pub(crate) cached: Arc<Cached>,
}

impl MappedFile {
    pub(crate) fn new(machine: &Arc<Inner>, cached: Arc<Cached>) -> Self {
        Self {
            machine: machine.clone(),
            cached,
        }
    }

    /// Returns how many pages it has; the last one may be partly beyond its end, and reads as zero there.
    #[must_use]
    pub fn pages(&self) -> usize {
        self.cached.pages()
    }
}

//! Why pages stayed, remembered for whoever asks later.

use std::collections::HashMap;
use std::sync::Mutex;

use mm_types::{Pfn, Refusal};

use crate::kernel::{Latch, lock};

/// The last refusal of each frame that has one.
#[derive(Debug, Default)]
pub(crate) struct LastRefusals {
    /// Set by the first refusal: until then, moving and freeing pages cost no lock here.
    any: Latch,
    by_frame: Mutex<HashMap<Pfn, Refusal>>,
}

impl LastRefusals {
    pub(crate) fn remember(&self, pfn: Pfn, refusal: Refusal) {
        self.any.set();
        lock(&self.by_frame).insert(pfn, refusal);
    }

    pub(crate) fn forget(&self, pfn: Pfn) {
        if self.any.is_set() {
            lock(&self.by_frame).remove(&pfn);
        }
    }

    pub(crate) fn of(&self, pfn: Pfn) -> Option<Refusal> {
        lock(&self.by_frame).get(&pfn).copied()
    }
}

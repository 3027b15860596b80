//! What a space's owner does to its mappings: unmap.

use core::ops::Range;
use std::sync::Arc;

use migrate_core::Readers;
use mm_types::{PageFlags, Pte, Vpn};

use crate::error::MachineError;
use crate::kernel::Kernel;
use crate::mm::Mm;
use crate::rmap::{Slot, Walked};
use crate::spaces::{Area, Space};
use crate::trace::Tracer;

impl Kernel {
    /// Unmaps pages and removes them from their areas (2.6.17 `do_munmap`).
    pub(crate) fn unmap(&self, mm: &Arc<Mm>, pages: Range<usize>) -> Result<(), MachineError> {
        // Made first and dropped last: its end takes the areas again.
        let readers = Readers::begin(self, mm.id, Tracer(self.trace.as_deref()));
        let mut owed = Vec::new();
        let mut areas = self.areas_mut();
        let mut state = mm.lock();
        for page in pages.clone() {
            if mm.read(page).is_none() {
                continue;
            }
            let mut slot = Slot {
                kernel: self,
                space: mm,
                state: &mut state,
                page,
                vma: migrate_core::EntryVma::PLAIN,
                owed: &mut owed,
                walked: Walked::default(),
            };
            let before = readers.zap(&mut slot);
            self.keep_dirty(before.unwrap_or_default());
        }
        let settled = mm.settle(self, &mut state);
        state
            .placed
            .retain(|(first, n, _)| *first + *n <= pages.start || pages.end <= *first);
        drop(state);
        let removed = areas.remove(mm.id, Vpn::new(pages.start as u64), Vpn::new(pages.end as u64));
        drop(areas);
        readers.finish();
        self.free_owed(&mut owed);
        settled?;
        removed
    }

    /// Hands the dirty bit of an entry that went to its page.
    pub(crate) fn keep_dirty(&self, before: Pte) {
        if let Pte::Present { pfn, .. } = before {
            // The entry's reference is dropped by now, the cache's is not: the slot keeps the page of a file.
            let page = self
                .page(pfn)
                .filter(|page| before.dirty() && !page.mapping().is_anon());
            if let Some(page) = page.filter(|page| page.count() != 0) {
                page.flags().edit(PageFlags::DIRTY, PageFlags::empty());
            }
        }
    }
}

impl Space {
    /// Unmaps an area; pages that nobody else has are freed.
    ///
    /// # Errors
    /// An area of another space, or no room in the tables to split areas.
    pub fn unmap(&self, area: Area) -> Result<(), MachineError> {
        if !Arc::ptr_eq(self.mm(), area.space.mm()) {
            return Err(MachineError::Foreign);
        }
        self.inner.machine.kernel.unmap(self.mm(), area.range())
    }
}

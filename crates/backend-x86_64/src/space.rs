//! Address spaces, in slots the caller lends.

use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use mm_types::Pfn;

use crate::lock::StructureLock;

/// Room for one address space (Linux: `mm_struct`, the part about page tables). Its number is its place among the slots.
#[derive(Debug, Default)]
pub struct Space {
    // The root's frame number and one; 0 for a free slot.
    root: AtomicU64,
    pub(crate) structure: StructureLock,
    // Gathers that edited entries of this space and were not flushed yet.
    pending: AtomicU32,
    // How often entries were downgraded by fork or mprotect; a copy on write that saw another number begins again.
    downgrades: AtomicU32,
    rss: AtomicUsize,
}

impl Space {
    /// Makes a free slot.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            root: AtomicU64::new(0),
            structure: StructureLock::new(),
            pending: AtomicU32::new(0),
            downgrades: AtomicU32::new(0),
            rss: AtomicUsize::new(0),
        }
    }

    /// Returns the frame of the root table, which is what goes into CR3; `None` for a free slot.
    #[must_use]
    pub fn root(&self) -> Option<Pfn> {
        self.root.load(Ordering::Acquire).checked_sub(1).map(Pfn::new)
    }

    /// Returns how many pages are resident, in flight or not.
    #[must_use]
    pub fn rss(&self) -> usize {
        self.rss.load(Ordering::Relaxed)
    }

    /// True where entries were edited and not flushed yet.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.pending() != 0
    }

    /// Returns how many gathers have edits of this space.
    pub(crate) fn pending(&self) -> u32 {
        self.pending.load(Ordering::Acquire)
    }

    pub(crate) fn claim(&self, root: Pfn) -> bool {
        let word = root.raw().wrapping_add(1);
        self.root
            .compare_exchange(0, word, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    pub(crate) fn release(&self) {
        self.root.store(0, Ordering::Release);
    }

    pub(crate) fn begin_pending(&self) {
        self.pending.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn end_pending(&self) {
        self.pending.fetch_sub(1, Ordering::AcqRel);
    }

    pub(crate) fn downgrades(&self) -> u32 {
        self.downgrades.load(Ordering::Acquire)
    }

    pub(crate) fn note_downgrade(&self) {
        self.downgrades.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn add_rss(&self, change: i8) {
        // Neither unmapping for a migration nor restoring changes it, and that is most edits.
        if change == 0 {
            return;
        }
        self.rss
            .fetch_add(0usize.wrapping_add_signed(change.into()), Ordering::Relaxed);
    }
}

//! Buffers: the four of a page of a file that has them, who has locked them, and which are dirty.

use mm_types::museum::{self, Bug};
use mm_types::{PageFlags, Pfn, Refusal};

use super::Model;
use super::cache::Caches;

/// The four buffers of a page.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Buffers {
    /// Locked by I/O, one bit each.
    busy: u8,
    /// All locked by a migration.
    held: bool,
    /// Not written back yet, one bit each: at most what the page's own flag says.
    dirty: u8,
}

impl Buffers {
    /// True where I/O or a migration has any of them.
    const fn is_taken(&self) -> bool {
        self.busy != 0 || self.held
    }
}

/// All four.
const ALL_BUFFERS: u8 = 0xf;

impl Caches {
    /// Which buffers of the page are dirty, one bit each.
    pub(super) fn dirty_parts(&self, pfn: Pfn) -> u32 {
        self.buffers.get(&pfn).map_or(0, |buffers| buffers.dirty.into())
    }

    /// Marks all buffers of a page dirty, unless a migration holds them.
    pub(super) fn dirty_buffers(&mut self, pfn: Pfn) {
        // Buffers that move with their page know which of them are dirty.
        let idle = |buffers: &&mut Buffers| !buffers.held || museum::has(Bug::B18);
        if let Some(buffers) = self.buffers.get_mut(&pfn).filter(idle) {
            buffers.dirty = ALL_BUFFERS;
        }
    }

    /// Marks all buffers of a page clean.
    pub(super) fn clean_buffers(&mut self, pfn: Pfn) {
        if let Some(buffers) = self.buffers.get_mut(&pfn) {
            buffers.dirty = 0;
        }
    }
}

impl Model {
    /// Gives a page of a file buffers, as reading a block of it does (2.6.17 `create_empty_buffers`); it has none yet.
    pub fn attach_buffers(&self, pfn: Pfn) {
        self.give_buffers(&mut self.caches.lock(), pfn);
    }

    pub(super) fn give_buffers(&self, caches: &mut Caches, pfn: Pfn) {
        caches.buffers.insert(pfn, Buffers::default());
        // The buffers' reference is theirs until they are released; the word stands for a pointer to them.
        self.page(pfn).get();
        self.page(pfn).set_private(1);
        self.page(pfn).flags().edit(PageFlags::PRIVATE, PageFlags::empty());
    }

    /// Marks one of the page's four buffers dirty, and the page (Linux: `mark_buffer_dirty`).
    pub fn dirty_buffer(&self, pfn: Pfn, buffer: u32) {
        let mut caches = self.caches.lock();
        if let Some(buffers) = caches.buffers.get_mut(&pfn) {
            buffers.dirty |= 1u8.checked_shl(buffer).unwrap_or(0) & ALL_BUFFERS;
        }
        self.mark_dirty(&mut caches, pfn);
    }

    /// What who waits for a page's buffers sleeps on: something of the descriptor that is not its flags.
    pub(super) fn buffers_of(&self, pfn: Pfn) -> usize {
        core::ptr::from_ref(self.page(pfn)).addr() | 1
    }

    /// True where a buffer of the page is locked or under I/O.
    pub(super) fn buffers_busy(&self, pfn: Pfn) -> bool {
        let mut caches = self.caches.lock();
        caches.buffers.get_mut(&pfn).is_some_and(|buffers| buffers.is_taken())
    }

    /// Locks the page's first buffer for I/O where nobody has any of them, as whoever submits I/O does; false where somebody has,
    /// or where the page has none (any more).
    #[must_use]
    pub fn lock_buffer(&self, pfn: Pfn) -> bool {
        let mut caches = self.caches.lock();
        let free = caches.buffers.get_mut(&pfn).filter(|buffers| !buffers.is_taken());
        free.map(|buffers| buffers.busy = 1).is_some()
    }

    /// Locks the page's first buffer as I/O does, or unlocks it.
    pub fn set_buffers_busy(&self, pfn: Pfn, busy: bool) {
        if let Some(buffers) = self.caches.lock().buffers.get_mut(&pfn) {
            buffers.busy = u8::from(busy);
        }
        self.wake(self.buffers_of(pfn));
    }

    /// Takes all buffers of a page for a migration; refused where I/O or another one has any.
    pub(super) fn hold_buffers(&self, pfn: Pfn) -> Result<(), Refusal> {
        let mut caches = self.caches.lock();
        let Some(buffers) = caches.buffers.get_mut(&pfn) else {
            return Ok(());
        };
        if buffers.is_taken() {
            return Err(Refusal::BuffersBusy);
        }
        buffers.held = true;
        Ok(())
    }

    /// Ends what [`Model::hold_buffers`] began, and wakes who waits.
    pub(super) fn let_go_of_buffers(&self, pfn: Pfn) {
        if let Some(buffers) = self.caches.lock().buffers.get_mut(&pfn) {
            buffers.held = false;
        }
        self.wake(self.buffers_of(pfn));
    }

    /// Hands the buffers that a migration holds to the new page, and their reference and the private data with them.
    pub(super) fn hand_buffers_over(&self, old: Pfn, new: Pfn) {
        let mut caches = self.caches.lock();
        let Some(buffers) = caches.buffers.remove(&old) else {
            return;
        };
        debug_assert!(buffers.held, "I20: buffers moved while nobody held them");
        caches.buffers.insert(new, buffers);
        self.page(new).get();
        self.page(new).set_private(self.page(old).private());
        self.page(new).flags().edit(PageFlags::PRIVATE, PageFlags::empty());
        self.page(old).flags().edit(PageFlags::empty(), PageFlags::PRIVATE);
        self.page(old).set_private(0);
        let last = self.page(old).put();
        debug_assert!(!last, "the isolation holds the old page");
    }

    /// Takes the buffers off a locked page and drops their reference; false where somebody has any of them.
    pub(super) fn drop_buffers(&self, pfn: Pfn) -> bool {
        let mut caches = self.caches.lock();
        if caches.buffers.get(&pfn).is_some_and(Buffers::is_taken) {
            return false;
        }
        if caches.buffers.remove(&pfn).is_some() {
            self.page(pfn).flags().edit(PageFlags::empty(), PageFlags::PRIVATE);
            self.page(pfn).set_private(0);
            let last = self.page(pfn).put();
            debug_assert!(!last, "who holds the lock holds the page");
        }
        true
    }
}

//! Dirty pages, and writing them back.

use mm_types::museum::{self, Bug};
use mm_types::{Invariant, Mapping, PageFlags, Pfn, SlotTags};

use super::Model;
use super::cache::Caches;
use crate::invariants::Violation;
use crate::{Frames, LockedPage, PageRef, Wait, WriteError, Written};

/// What a file's `writepage` does (2.6.17 `a_ops->writepage`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WritePage {
    /// There is none.
    Missing,
    /// Writes and unlocks the page.
    Unlocks,
    /// Starts writing, unlocks the page, and leaves it under writeback until [`Model::end_writeback`].
    Starts,
    /// Does not write now: the page is dirty again and stays locked (`AOP_WRITEPAGE_ACTIVATE`).
    Activates,
    /// Fails, the page still locked.
    Fails,
    /// Fails after unlocking the page.
    FailsUnlocked,
}

impl Model {
    /// Marks a page dirty through its mapping, and all its buffers unless a migration holds them (Linux: `set_page_dirty`); for who
    /// knows it by frame.
    pub fn dirty_page(&self, pfn: Pfn) {
        let mut caches = self.caches.lock();
        caches.dirty_buffers(pfn);
        self.mark_dirty(&mut caches, pfn);
    }

    /// The flag and the tag change together, or a page that one dirties and another cleans ends with one of them.
    pub(super) fn mark_dirty(&self, caches: &mut Caches, pfn: Pfn) {
        let before = self.page(pfn).flags().edit(PageFlags::DIRTY, PageFlags::empty());
        if let Some((_, tags)) = caches.slot(self, pfn) {
            tags.insert(SlotTags::DIRTY);
        }
        if !before.contains(PageFlags::DIRTY) {
            caches.count_dirty(self, pfn, 1);
        }
    }

    pub(super) fn clean_page(&self, pfn: Pfn) -> bool {
        let mut caches = self.caches.lock();
        if let Some((_, tags)) = caches.slot(self, pfn) {
            tags.remove(SlotTags::DIRTY);
        }
        let was_dirty = self.page(pfn).flags().test_and_clear(PageFlags::DIRTY);
        if was_dirty {
            caches.count_dirty(self, pfn, -1);
        }
        was_dirty
    }

    /// Stores the page's word where it came from.
    fn store_page(&self, pfn: Pfn) {
        let word = self.word(pfn);
        let mut caches = self.caches.lock();
        caches.clean_buffers(pfn);
        if self.page(pfn).flags().load().contains(PageFlags::SWAPCACHE) {
            caches.swap.store(self.slot_of(pfn), word);
        } else if let Mapping::File(file) = self.page(pfn).mapping() {
            caches.file(file).store.insert(self.page(pfn).index(), word);
        }
    }

    /// Begins writing a page back; its contents are those of this moment. Entries keep their dirty bits.
    pub fn begin_writeback(&self, pfn: Pfn) {
        self.clean_page(pfn);
        self.page(pfn).flags().edit(PageFlags::WRITEBACK, PageFlags::empty());
        self.store_page(pfn);
        if let Some((_, tags)) = self.caches.lock().slot(self, pfn) {
            tags.insert(SlotTags::WRITEBACK);
        }
    }

    /// Ends writing a page back where it is being written, as a disk does that was told to.
    pub fn end_io(&self, pfn: Pfn) {
        if self.page(pfn).flags().load().contains(PageFlags::WRITEBACK) {
            self.end_writeback(pfn);
        }
    }

    /// Ends writing a page back, and wakes who waits for it.
    pub fn end_writeback(&self, pfn: Pfn) {
        if let Some((_, tags)) = self.caches.lock().slot(self, pfn) {
            tags.remove(SlotTags::WRITEBACK);
        }
        if self.page(pfn).flags().end_writeback() {
            mm_types::Sleep::wake_all(self, self.page(pfn).flags().word());
        }
    }

    /// Writes a dirty page back and waits until that is over (Linux: `write_one_page`). Takes the page lock.
    pub fn write_back(&self, pfn: Pfn) {
        let Some(page) = self.get(pfn) else { return };
        let page = self.lock(page);
        self.begin_writeback(pfn);
        self.end_writeback(pfn);
        let page = self.unlock(page);
        self.put(page);
    }

    /// Writes a locked page, as its file's [`WritePage`] does it.
    pub(super) fn write_page(&self, page: LockedPage) -> Written<LockedPage, PageRef> {
        let pfn = page.pfn();
        if self.page(pfn).entries_out(0) != 0 {
            self.violation(Violation::new(
                Invariant::NoEntriesAtCallback,
                format_args!("{pfn:?} was written out while in flight"),
            ));
        }
        self.notice_spinlock("a page is written out");
        let how = match self.page(pfn).mapping() {
            Mapping::File(file) => self.caches.lock().file(file).write,
            Mapping::Anon(_) | Mapping::None => WritePage::Unlocks,
        };
        match how {
            WritePage::Missing | WritePage::Fails => {
                self.dirty_page(pfn);
                Written::Locked(page, Err(WriteError))
            }
            WritePage::FailsUnlocked => {
                self.dirty_page(pfn);
                if museum::has(Bug::B51) {
                    self.unlock_page(pfn);
                    return Written::Locked(page, Err(WriteError));
                }
                Written::Unlocked(self.unlock(page), Err(WriteError))
            }
            WritePage::Activates => {
                self.dirty_page(pfn);
                Written::Locked(page, Ok(()))
            }
            WritePage::Unlocks => {
                self.store_page(pfn);
                Written::Unlocked(self.unlock(page), Ok(()))
            }
            WritePage::Starts => {
                self.begin_writeback(pfn);
                Written::Unlocked(self.unlock(page), Ok(()))
            }
        }
    }
}

//! Files: their page cache, and what the core asks of it.

use core::sync::atomic::{AtomicUsize, Ordering};
use std::fs::File;
use std::sync::{Arc, OnceLock};

use migrate_core::{Cache, Frames as _, LockedPage, Lru as _, Mover, PageRef, Pair, SlotChanged, UsesPageMap};
use mm_types::{Mapping, MappingId, PageFlags, Pfn, Pte, PteFlags, Vpn};

use crate::error::MachineError;
use crate::fill::{Filled, Place};
use crate::kernel::{Kernel, lock};

/// A file whose pages are cached.
#[derive(Debug)]
pub(crate) struct Cached {
    pub(crate) id: MappingId,
    pub(crate) file: File,
    pub(crate) path: String,
    pub(crate) writable: bool,
    pub(crate) mover: Mover,
    /// Pages it has; an access beyond is refused.
    pub(crate) pages: AtomicUsize,
    /// Where its first page should have its frame, so that all of it can be one mapping.
    pub(crate) placed: OnceLock<Option<Pfn>>,
}

impl Cached {
    pub(crate) fn pages(&self) -> usize {
        self.pages.load(Ordering::Acquire)
    }

    pub(crate) fn failed(&self, error: std::io::Error) -> MachineError {
        MachineError::File {
            path: self.path.clone(),
            error,
        }
    }
}

impl Kernel {
    /// Returns where the page cache has a page.
    pub(crate) fn slot_of(&self, pfn: Pfn) -> Option<(MappingId, usize)> {
        let page = self.page(pfn)?;
        match page.mapping() {
            Mapping::File(file) => Some((file, page.index())),
            _ => None,
        }
    }

    /// Returns a reference to a cached page; `None` where it is not cached.
    ///
    /// A page that is being switched is frozen for a moment: it is looked up again.
    pub(crate) fn cached(&self, file: MappingId, index: usize) -> Option<PageRef> {
        loop {
            let pfn = lock(&self.cache).lookup(file, index)?;
            if let Some(page) = PageRef::get(self.page_map(), pfn) {
                // Between the look and the reference the frame may have become another page.
                if lock(&self.cache).lookup(file, index) == Some(pfn) {
                    return Some(page);
                }
                migrate_core::Frames::put(self, page);
            }
            core::hint::spin_loop();
        }
    }

    /// Reads a page of a file into the page cache; returns a reference to what is there then.
    fn read_page(&self, file: &Cached, index: usize) -> Result<PageRef, MachineError> {
        let placed = *file.placed.get_or_init(|| self.place(0, file.pages()));
        let planned = placed.map(|first| Pfn::new(first.raw() + index as u64));
        let before = index
            .checked_sub(1)
            .and_then(|index| lock(&self.cache).lookup(file.id, index));
        let beside = before.map(|pfn| Pfn::new(pfn.raw() + 1));
        let wanted = [planned, beside].into_iter().flatten().find(|pfn| self.take_at(*pfn));
        let pfn = wanted
            .or_else(|| Some(self.take_frames(1)?.0))
            .ok_or(MachineError::NoFrame)?;
        let page = self.new_page(pfn).ok_or(MachineError::NoFrame)?;
        self.claim(pfn, false)?;
        let (node, frame) = self.frame(pfn).ok_or(MachineError::NoFrame)?;
        if let Err(e) = node.read_from(frame, &file.file, index) {
            migrate_core::Frames::put(self, page);
            return Err(file.failed(e));
        }
        let descriptor = self.page(pfn).ok_or(MachineError::NoFrame)?;
        descriptor.set_mapping(Mapping::File(file.id));
        descriptor.set_index(index);
        descriptor.flags().edit(PageFlags::UPTODATE, PageFlags::empty());
        // The slot's reference.
        descriptor.get();
        let inserted = lock(&self.cache).insert(file.id, index, pfn);
        if inserted.is_err() {
            // Somebody else read it meanwhile, or there is no slot: this copy goes.
            let _ = descriptor.put();
            migrate_core::Frames::put(self, page);
            return self.cached(file.id, index).ok_or(MachineError::NoFrame);
        }
        let ours = PageRef::get(self.page_map(), pfn).ok_or(MachineError::NoFrame)?;
        self.putback(page);
        Ok(ours)
    }

    /// Returns a reference to a page of a file, which is read where it is not cached.
    pub(crate) fn file_page(&self, file: &Cached, index: usize) -> Result<PageRef, MachineError> {
        if index >= file.pages() {
            return Err(MachineError::Denied);
        }
        match self.cached(file.id, index) {
            Some(page) => Ok(page),
            None => self.read_page(file, index),
        }
    }
}

impl Place<'_> {
    /// Maps pages of a file around `page`.
    pub(crate) fn map_around(
        &mut self,
        file: &Arc<Cached>,
        page: usize,
        write: bool,
        around: usize,
    ) -> Result<Filled, MachineError> {
        for near in self.missing(page, around) {
            let filled = self.one_from_file(file, near, write && near == page);
            // A neighbour beyond the end, or for which there is no frame, is nobody's wish.
            if near == page && !matches!(filled, Ok(Filled::Accessible)) {
                return filled;
            }
        }
        Ok(Filled::Accessible)
    }

    fn one_from_file(&mut self, file: &Cached, page: usize, write: bool) -> Result<Filled, MachineError> {
        let index = self.vma.index(Vpn::new(page as u64)).ok_or(MachineError::Denied)?;
        let cached = self.kernel.file_page(file, index)?;
        let pfn = cached.pfn();
        let filled = self.map_cached(file, page, index, pfn, write);
        // Not the last: the cache holds one, or a truncation has just dropped it.
        self.kernel.put(cached);
        filled
    }

    /// Maps a cached page that the caller holds a reference of.
    fn map_cached(
        &mut self,
        file: &Cached,
        page: usize,
        index: usize,
        pfn: Pfn,
        write: bool,
    ) -> Result<Filled, MachineError> {
        let Some(descriptor) = self.kernel.page(pfn) else {
            return Err(MachineError::Denied);
        };
        // Locked: it neither moves nor is cut off its file while it is being mapped (`filemap_fault`).
        if !descriptor.flags().try_lock() {
            return Ok(Filled::Busy(pfn));
        }
        let there = descriptor.mapping() == Mapping::File(file.id) && descriptor.index() == index;
        let done = if !there {
            Ok(Filled::Busy(pfn))
        } else if write && !self.shared() {
            self.copy(page, pfn)
        } else {
            let mut flags = self.young();
            if self.kernel.options.learn_dirty && self.shared() && self.may_write() {
                flags |= PteFlags::WRITE;
            }
            if write {
                descriptor.flags().edit(PageFlags::DIRTY, PageFlags::empty());
                flags |= PteFlags::WRITE | PteFlags::DIRTY;
            }
            self.map(page, Pte::present(pfn, flags));
            Ok(Filled::Accessible)
        };
        self.kernel.unlock_page(descriptor);
        done
    }
}

impl Cache for Kernel {
    fn slots(&self, page: &LockedPage) -> u32 {
        let slot = self.slot_of(page.pfn());
        slot.map_or(0, |(file, index)| lock(&self.cache).slots_of(file, index, page.pfn()))
    }

    fn mover(&self, page: &LockedPage) -> Mover {
        let file = self.slot_of(page.pfn()).map(|(file, _)| file);
        let areas = self.areas();
        file.and_then(|file| areas.file(file))
            .map_or(Mover::Plain, |file| file.mover)
    }

    fn switch(&self, pair: Pair<'_, LockedPage>) -> Result<u32, SlotChanged> {
        let (old, new) = (pair.old().pfn(), pair.new_page().pfn());
        let Some((file, index)) = self.slot_of(old) else {
            return Ok(0);
        };
        let new_page = self.page(new).ok_or(SlotChanged)?;
        let mut cache = lock(&self.cache);
        cache.switch(file, index, old, new, 1).map_err(|_| SlotChanged)?;
        // Lookups take the cache's lock too: none sees the slot without its reference.
        new_page.get();
        Ok(1)
    }
}

//! The page cache of each file, and what the core asks of it.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use mm_types::museum::{self, Bug};
use mm_types::{Mapping, MappingId, NodeId, PageFlags, Pfn, Refusal, SlotTags, SwapEntry};

use super::Model;
use super::buffers::Buffers;
use super::swap::Swap;
use super::writeback::WritePage;
use crate::{Cache, Frames, LockedPage, Mover, PageRef, Pair, SlotChanged, Written};

#[derive(Debug)]
pub(super) struct File {
    /// Pages; an access beyond is a bus error.
    pub(super) size: usize,
    mover: Mover,
    pub(super) write: WritePage,
    pub(super) slots: BTreeMap<usize, (Pfn, SlotTags)>,
    pub(super) store: BTreeMap<usize, u64>,
}

/// What became of a look into the page cache.
pub(super) enum Found {
    /// In the cache, or just read.
    Page(PageRef),
    /// In the cache, and frozen by a migration: look again.
    Frozen(Pfn),
    /// The file has no such page.
    Beyond,
    /// No memory.
    NoMemory,
}

impl File {
    /// The word that storage has for a page.
    pub(super) fn stored(&self, index: usize) -> Option<u64> {
        self.store.get(&index).copied()
    }
}

/// What a kernel counts of a node's pages (Linux: `NR_FILE_PAGES`, `NR_FILE_DIRTY`, `NR_ANON_MAPPED`, `NR_SWAPCACHE`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct NodeCounts {
    pub(super) pages: i64,
    pub(super) dirty: i64,
    /// Anonymous pages that are mapped, however often.
    pub(super) anon: i64,
    pub(super) swap_cached: i64,
}

/// What is under the caches' locks (Linux: `tree_lock`, `private_lock`, `swap_lock`).
#[derive(Debug, Default)]
pub(super) struct Caches {
    pub(super) files: Vec<File>,
    pub(super) buffers: BTreeMap<Pfn, Buffers>,
    pub(super) counts: BTreeMap<NodeId, NodeCounts>,
    pub(super) swap: Swap,
}

impl Caches {
    pub(super) fn file(&mut self, file: MappingId) -> &mut File {
        &mut self.files[usize::try_from(file.raw()).expect("a small model")]
    }

    pub(super) fn counts_of(&mut self, model: &Model, pfn: Pfn) -> &mut NodeCounts {
        self.counts.entry(model.node_of(pfn)).or_default()
    }

    /// A page became dirty, or clean; only a file's are counted.
    pub(super) fn count_dirty(&mut self, model: &Model, pfn: Pfn, change: i64) {
        if let Mapping::File(_) = model.page(pfn).mapping() {
            self.counts_of(model, pfn).dirty += change;
        }
    }

    /// A page was mapped for the first time, or for the last; only anonymous ones are counted.
    pub(super) fn count_mapped(&mut self, model: &Model, pfn: Pfn, change: i64) {
        if model.page(pfn).mapping().is_anon() {
            self.counts_of(model, pfn).anon += change;
        }
    }

    /// The slot that holds the page, where one does.
    pub(super) fn slot(&mut self, model: &Model, pfn: Pfn) -> Option<&mut (Pfn, SlotTags)> {
        let Mapping::File(file) = model.page(pfn).mapping() else {
            return None;
        };
        self.file(file)
            .slots
            .get_mut(&model.page(pfn).index())
            .filter(|(at, _)| *at == pfn)
    }
}

impl Model {
    /// Makes a file of `pages` pages, each with a word of its own in storage; pages of a file with [`Mover::Buffers`] have buffers.
    pub fn create_file(&self, pages: usize, mover: Mover, write: WritePage) -> MappingId {
        let mut caches = self.caches.lock();
        let id = u32::try_from(caches.files.len()).expect("a small model");
        let store = (0..pages)
            .map(|index| (index, u64::from(id + 1) << 32 | index as u64))
            .collect();
        caches.files.push(File {
            size: pages,
            mover,
            write,
            slots: BTreeMap::new(),
            store,
        });
        MappingId::new(id)
    }

    /// Returns the word that storage holds for a page of a file.
    #[must_use]
    pub fn stored(&self, file: MappingId, index: usize) -> Option<u64> {
        self.caches.lock().file(file).stored(index)
    }

    /// Returns the frame in a slot of the page cache.
    #[must_use]
    pub fn cached(&self, file: MappingId, index: usize) -> Option<Pfn> {
        self.caches.lock().file(file).slots.get(&index).map(|(pfn, _)| *pfn)
    }

    /// Finds a page of a file, or reads it in; `None` where there is no memory, where it is beyond the end of the file, or the page
    /// found is frozen (look again).
    pub fn read_page(&self, file: MappingId, index: usize) -> Option<PageRef> {
        match self.find_or_read(file, index) {
            Found::Page(page) => Some(page),
            Found::Frozen(_) | Found::Beyond | Found::NoMemory => None,
        }
    }

    /// Finds a page of a file, or reads it in (2.6.17 `find_get_page`, `page_cache_read`).
    ///
    /// A reference is taken under the cache's lock, before anybody can take the page out of its slot. The page is not locked:
    /// who wants it to stay where it was found locks it and looks again ([`Model::is_cached`]). Of two who read at once, one wins.
    pub(super) fn find_or_read(&self, file: MappingId, index: usize) -> Found {
        let found = |caches: &mut Caches| {
            let file = caches.file(file);
            let slot = file.slots.get(&index).map(|(pfn, _)| *pfn);
            match slot {
                _ if index >= file.size => Some(Found::Beyond),
                Some(pfn) => Some(self.get(pfn).map_or(Found::Frozen(pfn), Found::Page)),
                None => None,
            }
        };
        if let Some(found) = found(&mut self.caches.lock()) {
            return found;
        }
        let Some(page) = self.allocate_any() else {
            return Found::NoMemory;
        };
        let pfn = page.pfn();
        let lost = {
            let mut caches = self.caches.lock();
            let lost = found(&mut caches);
            if lost.is_none() {
                self.set_word(pfn, caches.file(file).stored(index).unwrap_or(0));
                self.page(pfn).set_mapping(Mapping::File(file));
                self.page(pfn).set_index(index);
                self.page(pfn).flags().edit(PageFlags::UPTODATE, PageFlags::empty());
                if caches.file(file).mover == Mover::Buffers {
                    self.give_buffers(&mut caches, pfn);
                }
                self.page(pfn).get();
                caches.file(file).slots.insert(index, (pfn, SlotTags::empty()));
                caches.counts_of(self, pfn).pages += 1;
            }
            lost
        };
        if let Some(found) = lost {
            self.put(page);
            return found;
        }
        self.add_to_lru(pfn);
        Found::Page(page)
    }

    /// True where `pfn` is the page at `index` of a file, which has not ended before it. Stable while the page is locked, but for
    /// the size.
    pub(super) fn is_cached(&self, pfn: Pfn, file: MappingId, index: usize) -> bool {
        let mut caches = self.caches.lock();
        let file = caches.file(file);
        index < file.size && file.slots.get(&index).is_some_and(|(at, _)| *at == pfn)
    }

    /// Takes a page out of its file's cache; its mapping is cleared, its private data stay. The page is locked.
    pub(super) fn remove_from_cache(&self, page: &LockedPage) {
        let pfn = page.pfn();
        self.clean_page(pfn);
        let Mapping::File(file) = self.page(pfn).mapping() else {
            return;
        };
        let removed = {
            let mut caches = self.caches.lock();
            let removed = caches.file(file).slots.remove(&self.page(pfn).index());
            if let Some((pfn, _)) = removed {
                caches.counts_of(self, pfn).pages -= 1;
            }
            removed
        };
        self.page(pfn).set_mapping(Mapping::None);
        if let Some((pfn, _)) = removed {
            self.put(PageRef::counted(pfn));
        }
    }

    fn is_swap_cached(&self, pfn: Pfn) -> bool {
        self.page(pfn).flags().load().contains(PageFlags::SWAPCACHE)
    }
}

impl Cache for Model {
    fn slots(&self, page: &LockedPage) -> u32 {
        let pfn = page.pfn();
        let mut caches = self.caches.lock();
        let in_swap = self.is_swap_cached(pfn) && caches.swap.lookup(self.slot_of(pfn)) == Some(pfn);
        u32::from(in_swap) + u32::from(caches.slot(self, pfn).is_some())
    }

    fn swap_entry(&self, page: &LockedPage) -> Option<SwapEntry> {
        self.is_swap_cached(page.pfn()).then(|| self.slot_of(page.pfn()))
    }

    fn mover(&self, page: &LockedPage) -> Mover {
        match self.page(page.pfn()).mapping() {
            Mapping::File(file) => self.caches.lock().file(file).mover,
            Mapping::Anon(_) | Mapping::None => Mover::Plain,
        }
    }

    fn switch(&self, pair: Pair<'_, LockedPage>) -> Result<u32, SlotChanged> {
        let (old, new) = (pair.old().pfn(), pair.new_page().pfn());
        let mut caches = self.caches.lock();
        if self.is_swap_cached(old) {
            caches.swap.switch(self.slot_of(old), old, new)?;
            caches.counts_of(self, old).swap_cached -= 1;
            caches.counts_of(self, new).swap_cached += 1;
        } else if let Mapping::File(_) = self.page(old).mapping() {
            caches.slot(self, old).ok_or(SlotChanged)?.0 = new;
            if !museum::has(Bug::B59) {
                caches.counts_of(self, old).pages -= 1;
                caches.counts_of(self, new).pages += 1;
            }
        } else {
            return Ok(0);
        }
        // As the allocator's one reference is there, this cannot be the first.
        self.page(new).get();
        Ok(1)
    }

    fn set_dirty(&self, page: &LockedPage) {
        self.dirty_page(page.pfn());
    }

    fn clear_dirty_for_io(&self, page: &LockedPage) -> bool {
        self.clean_page(page.pfn())
    }

    fn try_lock_buffers(&self, page: &LockedPage) -> Result<(), Refusal> {
        self.hold_buffers(page.pfn())
    }

    fn unlock_buffers(&self, page: &LockedPage) {
        self.let_go_of_buffers(page.pfn());
    }

    fn move_buffers(&self, pair: Pair<'_, LockedPage>) {
        self.hand_buffers_over(pair.old().pfn(), pair.new_page().pfn());
    }

    fn release_buffers(&self, page: &LockedPage) -> bool {
        self.drop_buffers(page.pfn())
    }

    fn can_write(&self, page: &LockedPage) -> bool {
        match self.page(page.pfn()).mapping() {
            Mapping::File(file) => self.caches.lock().file(file).write != WritePage::Missing,
            Mapping::Anon(_) | Mapping::None => self.is_swap_cached(page.pfn()),
        }
    }

    fn writeout(&self, page: LockedPage) -> Written<LockedPage, PageRef> {
        self.write_page(page)
    }
}

//! The page cache of each file, buffers, and writing pages back.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use mm_types::museum::{self, Bug};
use mm_types::{Invariant, Mapping, MappingId, NodeId, PageFlags, Pfn, Refusal, SlotTags, SwapEntry};

use super::Model;
use super::swap::Swap;
use crate::invariants::Violation;
use crate::{Cache, Frames, LockedPage, Mover, PageRef, Pair, SlotChanged, UsesPageMap, Wait, WriteError, Written};

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

#[derive(Debug)]
pub(super) struct File {
    /// Pages; an access beyond is a bus error.
    pub(super) size: usize,
    mover: Mover,
    write: WritePage,
    pub(super) slots: BTreeMap<usize, (Pfn, SlotTags)>,
    store: BTreeMap<usize, u64>,
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

/// The four buffers of a page.
#[derive(Clone, Copy, Debug, Default)]
struct Buffers {
    /// Locked by I/O, one bit each.
    busy: u8,
    /// All locked by a migration.
    held: bool,
    /// Not written back yet, one bit each: at most what the page's own flag says.
    dirty: u8,
}

/// What a kernel counts of a node's page-cache pages (Linux: `NR_FILE_PAGES`, `NR_FILE_DIRTY`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct NodeCounts {
    pub(super) pages: i64,
    pub(super) dirty: i64,
}

/// All four.
const ALL_BUFFERS: u8 = 0xf;

/// What is under the caches' locks (Linux: `tree_lock`, `private_lock`, `swap_lock`).
#[derive(Debug, Default)]
pub(super) struct Caches {
    pub(super) files: Vec<File>,
    buffers: BTreeMap<Pfn, Buffers>,
    pub(super) counts: BTreeMap<NodeId, NodeCounts>,
    pub(super) swap: Swap,
}

impl Caches {
    pub(super) fn file(&mut self, file: MappingId) -> &mut File {
        &mut self.files[usize::try_from(file.raw()).expect("a small model")]
    }

    /// Which buffers of the page are dirty, one bit each.
    pub(super) fn dirty_parts(&self, pfn: Pfn) -> u32 {
        self.buffers.get(&pfn).map_or(0, |buffers| buffers.dirty.into())
    }

    fn counts_of(&mut self, model: &Model, pfn: Pfn) -> &mut NodeCounts {
        self.counts.entry(model.node_of(pfn)).or_default()
    }

    /// A page became dirty, or clean; only a file's are counted.
    fn count_dirty(&mut self, model: &Model, pfn: Pfn, change: i64) {
        if let Mapping::File(_) = model.page(pfn).mapping() {
            self.counts_of(model, pfn).dirty += change;
        }
    }

    /// The slot that holds the page, where one does.
    fn slot(&mut self, model: &Model, pfn: Pfn) -> Option<&mut (Pfn, SlotTags)> {
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

    /// Gives a page of a file buffers, as reading a block of it does (2.6.17 `create_empty_buffers`); it has none yet.
    pub fn attach_buffers(&self, pfn: Pfn) {
        self.give_buffers(&mut self.caches.lock(), pfn);
    }

    fn give_buffers(&self, caches: &mut Caches, pfn: Pfn) {
        caches.buffers.insert(pfn, Buffers::default());
        // The buffers' reference is theirs until they are released; the word stands for a pointer to them.
        self.page(pfn).get();
        self.page(pfn).set_private(1);
        self.page(pfn).flags().edit(PageFlags::PRIVATE, PageFlags::empty());
    }

    /// Stages a new page for the LRU.
    pub(super) fn add_to_lru(&self, pfn: Pfn) {
        let added = self.with_lru(|lru| lru.add_new(self.page_map(), pfn, |pfn| self.free(pfn)));
        added.expect("a new page is on no list");
    }

    /// Marks a page dirty through its mapping, and all its buffers unless a migration holds them (Linux: `set_page_dirty`); for who
    /// knows it by frame.
    pub fn dirty_page(&self, pfn: Pfn) {
        let mut caches = self.caches.lock();
        // Buffers that move with their page know which of them are dirty.
        let idle = |buffers: &&mut Buffers| !buffers.held || museum::has(Bug::B18);
        if let Some(buffers) = caches.buffers.get_mut(&pfn).filter(idle) {
            buffers.dirty = ALL_BUFFERS;
        }
        self.mark_dirty(&mut caches, pfn);
    }

    /// Marks one of the page's four buffers dirty, and the page (Linux: `mark_buffer_dirty`).
    pub fn dirty_buffer(&self, pfn: Pfn, buffer: u32) {
        let mut caches = self.caches.lock();
        if let Some(buffers) = caches.buffers.get_mut(&pfn) {
            buffers.dirty |= 1u8.checked_shl(buffer).unwrap_or(0) & ALL_BUFFERS;
        }
        self.mark_dirty(&mut caches, pfn);
    }

    /// The flag and the tag change together, or a page that one dirties and another cleans ends with one of them.
    fn mark_dirty(&self, caches: &mut Caches, pfn: Pfn) {
        let before = self.page(pfn).flags().edit(PageFlags::DIRTY, PageFlags::empty());
        if let Some((_, tags)) = caches.slot(self, pfn) {
            tags.insert(SlotTags::DIRTY);
        }
        if !before.contains(PageFlags::DIRTY) {
            caches.count_dirty(self, pfn, 1);
        }
    }

    fn clean_page(&self, pfn: Pfn) -> bool {
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
        if let Some(buffers) = caches.buffers.get_mut(&pfn) {
            buffers.dirty = 0;
        }
        if self.page(pfn).flags().load().contains(PageFlags::SWAPCACHE) {
            caches.swap.store(self.slot_of(pfn), word);
        } else if let Mapping::File(file) = self.page(pfn).mapping() {
            caches.file(file).store.insert(self.page(pfn).index(), word);
        }
    }

    /// What who waits for a page's buffers sleeps on: something of the descriptor that is not its flags.
    pub(super) fn buffers_of(&self, pfn: Pfn) -> usize {
        core::ptr::from_ref(self.page(pfn)).addr() | 1
    }

    /// True where a buffer of the page is locked or under I/O.
    pub(super) fn buffers_busy(&self, pfn: Pfn) -> bool {
        let mut caches = self.caches.lock();
        caches
            .buffers
            .get_mut(&pfn)
            .is_some_and(|buffers| buffers.busy != 0 || buffers.held)
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

    /// Locks the page's first buffer for I/O where nobody has any of them, as whoever submits I/O does; false where somebody has,
    /// or where the page has none (any more).
    #[must_use]
    pub fn lock_buffer(&self, pfn: Pfn) -> bool {
        let mut caches = self.caches.lock();
        let free = caches
            .buffers
            .get_mut(&pfn)
            .filter(|buffers| buffers.busy == 0 && !buffers.held);
        free.map(|buffers| buffers.busy = 1).is_some()
    }

    /// Locks the page's first buffer as I/O does, or unlocks it.
    pub fn set_buffers_busy(&self, pfn: Pfn, busy: bool) {
        if let Some(buffers) = self.caches.lock().buffers.get_mut(&pfn) {
            buffers.busy = u8::from(busy);
        }
        self.wake(self.buffers_of(pfn));
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

    /// Takes the page lock as somebody else would, without a reference (the reader of a page has the cache's); false where it is taken.
    #[must_use]
    pub fn lock_page(&self, pfn: Pfn) -> bool {
        self.page(pfn).flags().try_lock()
    }

    /// Opens the page lock that [`Model::lock_page`] took.
    pub fn unlock_page(&self, pfn: Pfn) {
        if self.page(pfn).flags().unlock() {
            mm_types::Sleep::wake_all(self, self.page(pfn).flags().word());
        }
    }

    /// Pins a page for direct access: one reference and one pin; false where it is free or frozen.
    pub fn pin(&self, pfn: Pfn) -> bool {
        let alive = self.page(pfn).get_unless_zero();
        if alive {
            self.page(pfn).add_pin();
        }
        alive
    }

    /// Ends one pin.
    pub fn unpin(&self, pfn: Pfn) {
        self.page(pfn).remove_pin();
        self.put(PageRef::counted(pfn));
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
        let mut caches = self.caches.lock();
        let Some(buffers) = caches.buffers.get_mut(&page.pfn()) else {
            return Ok(());
        };
        if buffers.busy != 0 || buffers.held {
            return Err(Refusal::BuffersBusy);
        }
        buffers.held = true;
        Ok(())
    }

    fn unlock_buffers(&self, page: &LockedPage) {
        if let Some(buffers) = self.caches.lock().buffers.get_mut(&page.pfn()) {
            buffers.held = false;
        }
        self.wake(self.buffers_of(page.pfn()));
    }

    fn move_buffers(&self, pair: Pair<'_, LockedPage>) {
        let (old, new) = (pair.old().pfn(), pair.new_page().pfn());
        let mut caches = self.caches.lock();
        let Some(buffers) = caches.buffers.remove(&old) else {
            return;
        };
        debug_assert!(buffers.held, "buffers moved while nobody held them");
        caches.buffers.insert(new, buffers);
        self.page(new).get();
        self.page(new).set_private(self.page(old).private());
        self.page(new).flags().edit(PageFlags::PRIVATE, PageFlags::empty());
        self.page(old).flags().edit(PageFlags::empty(), PageFlags::PRIVATE);
        self.page(old).set_private(0);
        let last = self.page(old).put();
        debug_assert!(!last, "the isolation holds the old page");
    }

    fn release_buffers(&self, page: &LockedPage) -> bool {
        let pfn = page.pfn();
        let mut caches = self.caches.lock();
        if caches
            .buffers
            .get(&pfn)
            .is_some_and(|buffers| buffers.busy != 0 || buffers.held)
        {
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

    fn can_write(&self, page: &LockedPage) -> bool {
        match self.page(page.pfn()).mapping() {
            Mapping::File(file) => self.caches.lock().file(file).write != WritePage::Missing,
            Mapping::Anon(_) | Mapping::None => self.is_swap_cached(page.pfn()),
        }
    }

    fn writeout(&self, page: LockedPage) -> Written<LockedPage, PageRef> {
        let pfn = page.pfn();
        if self.page(pfn).entries_out(0) != 0 {
            self.violation(Violation::new(
                Invariant::NoEntriesAtCallback,
                format_args!("{pfn:?} was written out while in flight"),
            ));
        }
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

impl Model {
    /// Writes a dirty page back and waits until that is over (Linux: `write_one_page`). Takes the page lock.
    pub fn write_back(&self, pfn: Pfn) {
        let Some(page) = self.get(pfn) else { return };
        let page = self.lock(page);
        self.begin_writeback(pfn);
        self.end_writeback(pfn);
        let page = self.unlock(page);
        self.put(page);
    }
}

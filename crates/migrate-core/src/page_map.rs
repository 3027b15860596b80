//! For kernels without a `struct page` of their own: the page map of `mm-types` behind the seam, once for all.
//!
//! Such a kernel says [`UsesPageMap`] and has [`Frames`], [`Wait`] and [`Lru`]; page tables ([`Rmap`](crate::Rmap)) and caches
//! ([`Cache`](crate::Cache)) stay its own. Both backends of this project and the model stand on it.

use mm_types::{CountMismatch, Ledger, Lru as LruLists, Mapping, Page, PageFlags, PageMap, Pfn, Refusal, Sleep};

use crate::{CopyError, Frames, Lru, Pair, Wait};

/// What a kernel without a `struct page` says; every other trait that is about descriptors follows.
pub trait UsesPageMap {
    /// How its threads sleep.
    type Sleep: Sleep;

    /// Returns the page map. Its descriptors are never freed while the kernel runs.
    fn page_map(&self) -> PageMap<'_>;

    /// Returns how threads sleep.
    fn sleeper(&self) -> &Self::Sleep;

    /// Runs `f` on the LRU lists under their lock. `f` does not sleep, and calls nothing of the kernel but
    /// [`UsesPageMap::free_frame`].
    fn with_lru<R>(&self, f: impl FnOnce(&mut LruLists) -> R) -> R;

    /// Copies one frame's contents to another. Nobody can write either.
    ///
    /// # Errors
    /// [`CopyError`] where the source cannot be read.
    fn copy_frame(&self, from: Pfn, to: Pfn) -> Result<(), CopyError>;

    /// Takes back a frame whose last reference was dropped (Linux: `free_hot_cold_page`).
    ///
    /// The core holds no entry lock then, and perhaps the LRU lock. A kernel may drop references under entry locks of its own, so
    /// this takes neither an entry lock nor the LRU lock, and does not sleep.
    fn free_frame(&self, pfn: Pfn);

    /// Sleeps until a buffer of the page may have been unlocked; see [`Wait::wait_buffers`]. A kernel without buffers has
    /// nothing to say.
    fn wait_buffers(&self, pfn: Pfn) {
        let _ = pfn;
    }
}

/// One counted reference to a page of a page map.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a reference that is dropped is never given back; use put"]
pub struct PageRef(Pfn);

impl PageRef {
    /// Makes a free frame a page in use, with the one reference returned; `None` where it is in use or outside the map.
    #[inline]
    pub fn allocate(map: PageMap<'_>, pfn: Pfn) -> Option<Self> {
        map.page(pfn)?.allocate().then_some(Self(pfn))
    }

    /// Takes a reference unless the page is free or frozen.
    #[inline]
    pub fn get(map: PageMap<'_>, pfn: Pfn) -> Option<Self> {
        map.page(pfn)?.get_unless_zero().then_some(Self(pfn))
    }

    /// Names a reference that is counted already: one that a cache slot or a list held.
    #[inline]
    pub const fn counted(pfn: Pfn) -> Self {
        Self(pfn)
    }

    /// Returns the frame.
    #[must_use]
    #[inline]
    pub const fn pfn(&self) -> Pfn {
        self.0
    }
}

/// A reference and the page lock.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a lock that is dropped is never opened; use unlock"]
pub struct LockedPage(PageRef);

impl LockedPage {
    /// Returns the frame.
    #[must_use]
    #[inline]
    pub const fn pfn(&self) -> Pfn {
        self.0.pfn()
    }
}

/// Applies the increments of an entry's ledger. Called by [`Entry::update`](crate::Entry::update) under the entry lock, before
/// the store.
#[inline]
pub fn get_for_ledger(map: PageMap<'_>, ledger: &Ledger) {
    if let Some(page) = ledger.get.and_then(|pfn| map.page(pfn)) {
        page.get();
        page.add_mapping();
    }
}

/// Applies the decrement of an entry's ledger to the page's mappings. Called under the entry lock, after the store; returns the
/// entry's reference, to be dropped when no CPU can reach the page through the entry any more: by the flush (Linux:
/// `tlb_remove_page`).
///
/// Were it dropped at once, whoever else holds the page could drop the last one before the flush, and another CPU would write
/// through its old translation to a frame that is free, or somebody else's (I20, I33).
#[must_use = "the entry's reference is the caller's to drop, after the flush"]
#[inline]
pub fn unmap_for_ledger(map: PageMap<'_>, ledger: &Ledger) -> Option<PageRef> {
    let pfn = ledger.put?;
    map.page(pfn)?.remove_mapping();
    Some(PageRef::counted(pfn))
}

/// Frees a frame whose last reference was dropped by the caller (Linux: `__put_page`): it leaves its LRU list first. The LRU lock
/// is not held, for it is taken here; entry locks come before it, so they may be.
#[inline]
pub fn free_unused<K: UsesPageMap>(kernel: &K, pfn: Pfn) {
    let map = kernel.page_map();
    // Nobody can put the page on a list any more: putting takes a reference, and there is none to take.
    let listed = PageFlags::LRU.union(PageFlags::ACTIVE).union(PageFlags::UNEVICTABLE);
    if with(kernel, pfn, false, |page| page.flags().load().intersects(listed)) {
        kernel.with_lru(|lru| lru.forget(map, pfn));
    }
    kernel.free_frame(pfn);
}

/// Ends writeback of a page and wakes who waits for it (Linux: `end_page_writeback`).
///
/// For whoever completes the I/O: needs no page lock, and may not wait for it, because a migration waits for this with the
/// page locked. Never sleeps.
pub fn end_page_writeback<K: UsesPageMap>(kernel: &K, pfn: Pfn) {
    with(kernel, pfn, (), |page| {
        if page.flags().end_writeback() {
            kernel.sleeper().wake_all(page.flags().word());
        }
    });
}

// A guard names a frame that the map had when it was made, and a map never shrinks; a frame outside it can only come from
// another kernel's guard. Such a page reads as free and unlocked, and nothing is done to it.
fn with<K: UsesPageMap, R>(kernel: &K, pfn: Pfn, absent: R, f: impl FnOnce(&Page) -> R) -> R {
    match kernel.page_map().page(pfn) {
        Some(page) => f(page),
        None => {
            debug_assert!(false, "a page guard of another kernel: {pfn:?}");
            absent
        }
    }
}

impl<K: UsesPageMap> Frames for K {
    type Page = PageRef;
    type Locked = LockedPage;

    fn pfn(&self, page: &PageRef) -> Pfn {
        page.0
    }

    fn page<'l>(&self, locked: &'l LockedPage) -> &'l PageRef {
        &locked.0
    }

    fn count(&self, page: &PageRef) -> u32 {
        with(self, page.0, 0, Page::count)
    }

    fn get(&self, pfn: Pfn) -> Option<PageRef> {
        PageRef::get(self.page_map(), pfn)
    }

    #[inline(always)]
    fn put(&self, page: PageRef) {
        if with(self, page.0, false, Page::put) {
            free_unused(self, page.0);
        }
    }

    fn try_lock(&self, page: PageRef) -> Result<LockedPage, PageRef> {
        if with(self, page.0, false, |page| page.flags().try_lock()) {
            Ok(LockedPage(page))
        } else {
            Err(page)
        }
    }

    fn unlock(&self, locked: LockedPage) -> PageRef {
        with(self, locked.pfn(), (), |page| {
            if page.flags().unlock() {
                self.sleeper().wake_all(page.flags().word());
            }
        });
        locked.0
    }

    fn flags(&self, page: &PageRef) -> PageFlags {
        with(self, page.0, PageFlags::empty(), |page| page.flags().load())
    }

    fn edit_flags(&self, locked: &LockedPage, set: PageFlags, clear: PageFlags) -> PageFlags {
        with(self, locked.pfn(), PageFlags::empty(), |page| {
            page.flags().edit(set, clear)
        })
    }

    fn mapping(&self, page: &PageRef) -> Mapping {
        with(self, page.0, Mapping::None, Page::mapping)
    }

    fn adopt(&self, new: &LockedPage, old: &LockedPage) {
        with(self, old.pfn(), (), |old| {
            with(self, new.pfn(), (), |new| {
                new.adopt(old);
                if old.flags().load().contains(PageFlags::SWAPCACHE) {
                    new.set_private(old.private());
                }
            });
        });
    }

    fn disown(&self, locked: &LockedPage) {
        with(self, locked.pfn(), (), |page| {
            page.set_mapping(Mapping::None);
            page.set_private(0);
        });
    }

    fn freeze(&self, locked: &LockedPage, expected: u32) -> Result<(), CountMismatch> {
        let absent = Err(CountMismatch { expected, found: 0 });
        with(self, locked.pfn(), absent, |page| page.freeze(expected))
    }

    fn unfreeze(&self, locked: &LockedPage, count: u32) {
        with(self, locked.pfn(), (), |page| page.unfreeze(count));
    }

    fn copy(&self, pair: Pair<'_, LockedPage>) -> Result<(), CopyError> {
        self.copy_frame(pair.old().pfn(), pair.new_page().pfn())
    }

    fn pins(&self, page: &PageRef) -> u32 {
        with(self, page.0, 0, Page::pins)
    }

    fn entries_out(&self, pfn: Pfn, change: i32) -> Option<u32> {
        self.page_map().page(pfn).map(|page| page.entries_out(change))
    }

    fn end_writeback(&self, locked: &LockedPage) {
        end_page_writeback(self, locked.pfn());
    }
}

impl<K: UsesPageMap> Wait for K {
    fn lock(&self, page: PageRef) -> LockedPage {
        let mut page = page;
        loop {
            match self.try_lock(page) {
                Ok(locked) => return locked,
                Err(busy) => page = busy,
            }
            wait_while(self, page.0, PageFlags::LOCKED);
        }
    }

    fn wait_buffers(&self, page: &LockedPage) {
        UsesPageMap::wait_buffers(self, page.pfn());
    }

    fn wait_writeback(&self, page: &LockedPage) {
        while self.flags(&page.0).contains(PageFlags::WRITEBACK) {
            wait_while(self, page.pfn(), PageFlags::WRITEBACK);
        }
    }
}

/// Sleeps while `flag` may be set on `pfn`; may return early.
#[inline]
pub(crate) fn wait_while<K: UsesPageMap>(kernel: &K, pfn: Pfn, flag: PageFlags) {
    with(kernel, pfn, (), |page| {
        if let Some(seen) = page.flags().announce_wait(flag) {
            kernel.sleeper().wait(page.flags().word(), seen);
        }
    });
}

impl<K: UsesPageMap> Lru for K {
    fn isolate(&self, page: &PageRef) -> Result<PageRef, Refusal> {
        let map = self.page_map();
        self.with_lru(|lru| lru.isolate(map, page.0)).map(|()| PageRef(page.0))
    }

    fn putback(&self, page: PageRef) {
        let map = self.page_map();
        let put = self.with_lru(|lru| lru.putback(map, page.0, |pfn| self.free_frame(pfn)));
        debug_assert!(put.is_ok(), "a page on a list was put back: {put:?}");
    }

    fn putback_direct(&self, page: PageRef) {
        let map = self.page_map();
        let put = self.with_lru(|lru| lru.putback_direct(map, page.0, |pfn| self.free_frame(pfn)));
        debug_assert!(put.is_ok(), "a page on a list was put back: {put:?}");
    }

    fn drain(&self) {
        let map = self.page_map();
        self.with_lru(|lru| lru.drain(map, |pfn| self.free_frame(pfn)));
    }
}

//! Page tables in memory: walking down, adding tables, freeing empty ones.
//!
//! The words are atomics, for the CPU reads them at any time and sets accessed and dirty bits in them. A word of the last level
//! changes by compare-exchange under its table's lock; a word above it goes from empty to a table by compare-exchange without
//! a lock, and back to empty only under the areas' lock and the space's structure lock, held alone: one of them is enough to walk down.

use core::cell::Cell;
use core::sync::atomic::{AtomicU64, Ordering};

use mm_types::{Page, PageFlags, Pfn, Site, SpaceId, Vpn, spin_loop};

use crate::areas::Areas;
use crate::entry::{HwBits, HwEntry};
use crate::gather::Gather;
use crate::paging::INDEX_BITS;
use crate::{FrameWords, Kernel, MapError, Paging, Platform, Purpose, Space};

const EMPTY: HwEntry = HwEntry::NONE;
const ENTRIES: usize = 512;

/// A table of the last level.
pub(crate) struct Leaf<'k> {
    pub(crate) pfn: Pfn,
    // The table frame's descriptor: its page-lock bit is the lock of the table's entries. Nobody sleeps on it.
    page: &'k Page,
}

/// The lock of one table of entries (Linux: the split ptl).
#[must_use]
pub(crate) struct TableLock<'k>(&'k Page);

impl<'k> Leaf<'k> {
    pub(crate) fn lock(&self) -> TableLock<'k> {
        while !self.page.flags().try_lock() {
            while self.page.flags().load().contains(PageFlags::LOCKED) {
                spin_loop();
            }
        }
        TableLock(self.page)
    }
}

impl Drop for TableLock<'_> {
    fn drop(&mut self) {
        let woken = self.0.flags().unlock();
        debug_assert!(!woken, "somebody sleeps on a table's lock");
    }
}

/// The table that was walked down to last, for whoever comes to one of its other entries next: a page's neighbours mostly do.
///
/// # Invariants
/// Under the areas' lock: where a table is named, it is the space's for these pages. So whoever frees tables forgets it first.
#[derive(Debug, Default)]
pub(crate) struct LastLeaf(Cell<Option<(SpaceId, u64, Pfn)>>);

impl LastLeaf {
    fn find(&self, site: Site) -> Option<Pfn> {
        let (space, pages, leaf) = self.0.get()?;
        ((space, pages) == (site.space, pages_of_a_leaf(site.page))).then_some(leaf)
    }

    // INVARIANT: the caller has just walked there.
    fn note(&self, site: Site, leaf: Pfn) {
        self.0.set(Some((site.space, pages_of_a_leaf(site.page), leaf)));
    }

    pub(crate) fn forget(&self) {
        self.0.set(None);
    }
}

// Names the 512 pages that one table of the last level translates.
const fn pages_of_a_leaf(page: Vpn) -> u64 {
    page.raw() >> INDEX_BITS
}

impl<P: Platform> Kernel<'_, P> {
    /// Returns the words of a frame that this crate owns.
    pub(crate) fn words(&self, pfn: Pfn) -> Option<&FrameWords> {
        let pointer = self.platform().frame(pfn)?;
        // SAFETY: condition 1 of `FrameMapping`: aligned and valid for as long as the platform, which `self` owns or keeps borrowed;
        // condition 3: nobody accesses the bytes but through atomics.
        Some(unsafe { pointer.as_ref() })
    }

    /// Returns one word of a frame that this crate owns.
    pub(crate) fn word_at(&self, pfn: Pfn, index: usize) -> Option<&AtomicU64> {
        let first = self.platform().frame(pfn)?.cast::<AtomicU64>();
        if index >= ENTRIES {
            return None;
        }
        // SAFETY: a frame has 512 words (condition 1 of `FrameMapping`), and the index is below that.
        let word = unsafe { first.add(index) };
        // SAFETY: as in `words`; one word of the same array.
        Some(unsafe { word.as_ref() })
    }

    /// Takes a frame for a table, all its words empty.
    pub(crate) fn new_table(&self) -> Result<Pfn, MapError> {
        let pfn = self.platform().take(Purpose::Table).ok_or(MapError::NoTable)?;
        let usable = HwEntry::table(pfn).is_some();
        let words = self.words(pfn).filter(|_| usable).ok_or(MapError::BadTable(pfn))?;
        let page = self.map().page(pfn).ok_or(MapError::BadTable(pfn))?;
        if !page.allocate() {
            return Err(MapError::BadTable(pfn));
        }
        // Nobody may isolate it, or take it for a page with contents.
        page.flags().edit(PageFlags::RESERVED, PageFlags::empty());
        words
            .iter()
            .for_each(|word| word.store(EMPTY.bits(), Ordering::Relaxed));
        Ok(pfn)
    }

    /// Gives a table back that no CPU ever saw.
    pub(crate) fn drop_unseen_table(&self, pfn: Pfn) {
        if self.retire_table(pfn) {
            self.give_back(pfn);
        }
    }

    // The table's frame has no reference afterwards; true where that is so.
    fn retire_table(&self, pfn: Pfn) -> bool {
        self.map().page(pfn).is_some_and(|page| {
            page.flags().edit(PageFlags::empty(), PageFlags::RESERVED);
            page.put()
        })
    }

    /// Walks down to the last level; the structure lock or the areas' is held. `None` where a table is missing.
    pub(crate) fn leaf(&self, space: &Space, site: Site) -> Result<Option<Leaf<'_>>, MapError> {
        self.descend(space, site, false)
    }

    /// As [`Self::leaf`], for whoever holds the areas' lock; does not walk where the last walk came to the same table.
    pub(crate) fn leaf_again(
        &self,
        areas: &Areas<'_>,
        space: &Space,
        site: Site,
    ) -> Result<Option<Leaf<'_>>, MapError> {
        let known = areas.last_leaf.find(site);
        if let Some((pfn, page)) = known.and_then(|pfn| Some((pfn, self.map().page(pfn)?))) {
            return Ok(Some(Leaf { pfn, page }));
        }
        let leaf = self.leaf(space, site)?;
        if let Some(leaf) = &leaf {
            areas.last_leaf.note(site, leaf.pfn);
        }
        Ok(leaf)
    }

    /// Walks down to the last level and adds the tables that are missing; the areas' lock is held.
    pub(crate) fn make_leaf(&self, space: &Space, site: Site) -> Result<Leaf<'_>, MapError> {
        self.descend(space, site, true)?.ok_or(MapError::NoTable)
    }

    fn descend(&self, space: &Space, site: Site, make: bool) -> Result<Option<Leaf<'_>>, MapError> {
        let mut pfn = space.root().ok_or(MapError::NoSpace(site.space))?;
        for level in (1..self.paging().levels()).rev() {
            let index = self.paging().index(site.page, level);
            let word = self.word_at(pfn, index).ok_or(MapError::BadTable(pfn))?;
            let mut entry = HwEntry::from_bits(word.load(Ordering::Acquire));
            if entry.is_none() && make {
                entry = self.add_table(word)?;
            }
            if !entry.is_present() {
                return Ok(None);
            }
            if entry.hw_bits().contains(HwBits::PAT_OR_LARGE) {
                return Err(MapError::LargePage(site));
            }
            pfn = entry.frame();
        }
        let page = self.map().page(pfn).ok_or(MapError::BadTable(pfn))?;
        Ok(Some(Leaf { pfn, page }))
    }

    // Release: whoever finds the table, a CPU among them, finds its words empty and not what the frame held before.
    fn add_table(&self, word: &AtomicU64) -> Result<HwEntry, MapError> {
        let pfn = self.new_table()?;
        let entry = HwEntry::table(pfn).ok_or(MapError::BadTable(pfn))?;
        match word.compare_exchange(EMPTY.bits(), entry.bits(), Ordering::Release, Ordering::Acquire) {
            Ok(_) => Ok(entry),
            Err(other) => {
                self.drop_unseen_table(pfn);
                Ok(HwEntry::from_bits(other))
            }
        }
    }

    /// Returns the first page of `from..end` whose word is not empty.
    pub(crate) fn next_used(&self, _areas: &Areas<'_>, site: Site, end: Vpn) -> Option<Vpn> {
        let root = self.space(site.space).ok()?.root()?;
        self.scan(root, self.paging().levels().checked_sub(1)?, site.page, end)
    }

    // Depth is bounded by the number of levels.
    fn scan(&self, table: Pfn, level: u32, from: Vpn, end: Vpn) -> Option<Vpn> {
        let words = self.words(table)?;
        let mut page = from;
        for word in words.get(self.paging().index(from, level)..)? {
            if page >= end {
                return None;
            }
            let entry = HwEntry::from_bits(word.load(Ordering::Acquire));
            if level == 0 && !entry.is_none() {
                return Some(page);
            }
            if level > 0 && entry.is_present() && !entry.hw_bits().contains(HwBits::PAT_OR_LARGE) {
                if let Some(found) = self.scan(entry.frame(), level.checked_sub(1)?, page, end) {
                    return Some(found);
                }
            }
            page = Paging::next_slot(page, level)?;
        }
        None
    }

    /// Frees the tables around `start..end` that are empty (Linux: `free_pgtables`); the frames go to the gather, for a CPU may
    /// have cached the way through them.
    pub(crate) fn free_tables(&self, areas: &Areas<'_>, id: SpaceId, start: Vpn, end: Vpn, gather: &mut Gather) {
        let Ok(space) = self.space(id) else { return };
        let _structure = space.structure.exclusive();
        let (Some(root), Some(top)) = (space.root(), self.paging().levels().checked_sub(1)) else {
            return;
        };
        areas.last_leaf.forget();
        let mut freed = false;
        self.prune(root, top, (start, end), &mut |table| {
            freed = true;
            if self.retire_table(table) {
                gather.unused.push(self.map(), table);
            }
        });
        if freed {
            gather.note_tables(self.pending(), id);
        }
    }

    // Frees empty tables below `table`; true where it is empty itself by then.
    fn prune(&self, table: Pfn, level: u32, (start, end): (Vpn, Vpn), free: &mut impl FnMut(Pfn)) -> bool {
        let Some(words) = self.words(table) else { return false };
        if let Some(below) = level.checked_sub(1) {
            let mut page = start;
            for word in words.iter().skip(self.paging().index(start, level)) {
                let entry = HwEntry::from_bits(word.load(Ordering::Acquire));
                let next = Paging::next_slot(page, level).unwrap_or(end);
                let is_table = entry.is_present() && !entry.hw_bits().contains(HwBits::PAT_OR_LARGE);
                if page < end && is_table && self.prune(entry.frame(), below, (page, next.min(end)), free) {
                    word.store(EMPTY.bits(), Ordering::Release);
                    free(entry.frame());
                }
                page = next;
                if page >= end {
                    break;
                }
            }
        }
        words
            .iter()
            .all(|word| HwEntry::from_bits(word.load(Ordering::Acquire)).is_none())
    }
}

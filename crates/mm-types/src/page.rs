//! The page descriptor, for kernels that have no `struct page` of their own.
//!
//! Every field is an atomic, and says who may change it:
//!
//! * (A) atomic: anybody, by the operation named
//! * (L) the page lock
//! * (R) the reverse map: entry locks of the page tables that map it
//! * (Q) the lock of the list the page is on
//!
//! A field with two letters may be read under either and is written under both.
//!
//! References are the only truth about outside users. [`Page::get_unless_zero`] is how a lookup takes one; a page whose
//! count is 0 is free *or frozen*, and a lookup that meets it must look again. [`Page::freeze`] turns the expected count
//! into 0 in one compare-exchange, so that no reference can be gained between the check and the switch.

use crate::museum::{self, Bug};
use crate::sync::{AtomicU32, AtomicUsize, Ordering};
use crate::{AnonVmaId, AtomicPageFlags, MappingId, PageFlags};

/// What a page belongs to (Linux: `page->mapping`, with bit 0 for anonymous pages).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Mapping {
    /// Nothing: freshly allocated, truncated, or freed.
    #[default]
    None,
    /// Anonymous memory, found through an anon-vma.
    Anon(AnonVmaId),
    /// A file's page cache.
    File(MappingId),
}

impl Mapping {
    /// Anonymous (Linux: `PageAnon`).
    #[must_use]
    #[inline]
    pub const fn is_anon(self) -> bool {
        matches!(self, Self::Anon(_))
    }

    // 0 is null; bit 0 marks anonymous (PAGE_MAPPING_ANON), ids are stored from 1.
    fn to_word(self) -> usize {
        let (id, anon) = match self {
            Self::None => return 0,
            Self::Anon(id) => (id.raw(), 1),
            Self::File(id) => (id.raw(), 0),
        };
        usize::try_from(id).unwrap_or(0).wrapping_add(1).wrapping_shl(1) | anon
    }

    fn from_word(word: usize) -> Self {
        let Some(id) = (word >> 1).checked_sub(1).and_then(|id| u32::try_from(id).ok()) else {
            return Self::None;
        };
        if word & 1 == 1 {
            Self::Anon(AnonVmaId::new(id))
        } else {
            Self::File(MappingId::new(id))
        }
    }
}

/// The descriptor of one frame (Linux: `struct page`).
///
/// One cache line each, so that neighbours' users do not slow each other.
#[derive(Debug)]
#[repr(align(64))]
pub struct Page {
    /// (A) Flags; the page lock is one of them.
    flags: AtomicPageFlags,
    /// (A) References; 0 is free or frozen.
    count: AtomicU32,
    /// (R) Present entries that map the page.
    mapcount: AtomicU32,
    /// (L) What it belongs to, see [`Mapping`].
    mapping: AtomicUsize,
    /// (L) Page number within the mapping.
    index: AtomicUsize,
    /// (L) Swap slot, buffers, or the file system's word; guarded further by whoever owns it.
    private: AtomicUsize,
    /// (A) Pins for direct access; each also holds a reference.
    pins: AtomicU32,
    /// (R) Migration entries out, by the core's count; 0 whenever the page is unlocked. Debug builds only.
    entries_out: AtomicU32,
    /// (Q) Neighbours on the one list the page is on, and that list's number; see [`list`](crate::PageList).
    pub(crate) link: Link,
}

/// (Q) The one list link of a page.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) list: AtomicU32,
    pub(crate) next: AtomicU32,
    pub(crate) prev: AtomicU32,
}

/// The count was not what was expected; nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("reference count is {found}, expected {expected}")]
pub struct CountMismatch {
    /// What the caller stated.
    pub expected: u32,
    /// What was there.
    pub found: u32,
}

/// A page that goes back to the allocator still has state that says it is in use (Linux: `bad_page`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("page freed with flags {flags}, mapping {mapping:?}, {mapcount} mappings")]
pub struct BadPage {
    /// Flags that a free page may not have.
    pub flags: PageFlags,
    /// Its mapping.
    pub mapping: Mapping,
    /// Its mappings.
    pub mapcount: u32,
}

impl Page {
    /// Flags that a page may not have when it is freed (2.6.17 `free_pages_check`).
    pub const NOT_FREEABLE: PageFlags = PageFlags::LRU
        .union(PageFlags::PRIVATE)
        .union(PageFlags::LOCKED)
        .union(PageFlags::ACTIVE)
        .union(PageFlags::RECLAIM)
        .union(PageFlags::SLAB)
        .union(PageFlags::SWAPCACHE)
        .union(PageFlags::WRITEBACK)
        .union(PageFlags::RESERVED)
        .union(PageFlags::BUDDY);

    /// Makes the descriptor of a free frame.
    #[must_use]
    #[inline]
    pub fn new() -> Self {
        Self {
            flags: AtomicPageFlags::new(PageFlags::empty()),
            count: AtomicU32::new(0),
            mapcount: AtomicU32::new(0),
            mapping: AtomicUsize::new(0),
            index: AtomicUsize::new(0),
            private: AtomicUsize::new(0),
            pins: AtomicU32::new(0),
            entries_out: AtomicU32::new(0),
            link: Link {
                list: AtomicU32::new(0),
                next: AtomicU32::new(0),
                prev: AtomicU32::new(0),
            },
        }
    }

    /// Returns the flags, the page lock among them.
    #[must_use]
    #[inline]
    pub fn flags(&self) -> &AtomicPageFlags {
        &self.flags
    }

    /// Returns the reference count at this moment.
    #[must_use]
    #[inline]
    pub fn count(&self) -> u32 {
        self.count.load(Ordering::Acquire)
    }

    /// Returns how many present entries map the page at this moment.
    #[must_use]
    #[inline]
    pub fn mapcount(&self) -> u32 {
        self.mapcount.load(Ordering::Acquire)
    }

    /// Takes a reference on a page the caller knows to be alive.
    #[inline]
    pub fn get(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes a reference unless the count is 0 (Linux: `get_page_unless_zero`, `folio_try_get`).
    ///
    /// False for a page that is free or frozen: look it up again.
    #[must_use]
    #[inline]
    pub fn get_unless_zero(&self) -> bool {
        let mut seen = self.count.load(Ordering::Relaxed);
        while seen != 0 {
            let Some(more) = seen.checked_add(1) else { return false };
            match self
                .count
                .compare_exchange_weak(seen, more, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
        false
    }

    /// Drops a reference; returns true where it was the last and the caller owes the frame to the allocator.
    ///
    /// A count of 0 stays 0: a reference dropped twice must not wrap into four thousand million users.
    #[must_use = "the last reference frees the frame"]
    #[inline]
    pub fn put(&self) -> bool {
        let mut seen = self.count.load(Ordering::Relaxed);
        loop {
            let Some(less) = seen.checked_sub(1) else {
                debug_assert!(false, "I5: a reference was dropped that nobody held");
                return false;
            };
            match self
                .count
                .compare_exchange_weak(seen, less, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => return less == 0,
                Err(now) => seen = now,
            }
        }
    }

    /// Drops a reference where it is the last, which the caller owes to the allocator then; false where there are others, and
    /// nothing changed.
    #[must_use = "the last reference frees the frame"]
    #[inline]
    pub fn put_last(&self) -> bool {
        self.count
            .compare_exchange(1, 0, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// Turns a count of exactly `expected` into 0, so that no lookup can gain a reference (Linux: `folio_ref_freeze`, 2.6.27).
    ///
    /// # Errors
    /// [`CountMismatch`] with what was found; nothing changed.
    #[inline]
    pub fn freeze(&self, expected: u32) -> Result<(), CountMismatch> {
        if museum::has(Bug::B30) {
            let found = self.count();
            return if found == expected {
                Ok(())
            } else {
                Err(CountMismatch { expected, found })
            };
        }
        self.count
            .compare_exchange(expected, 0, Ordering::AcqRel, Ordering::Acquire)
            .map(drop)
            .map_err(|found| CountMismatch { expected, found })
    }

    /// Gives a frozen page the count `count` (Linux: `folio_ref_unfreeze`). Only whoever froze it may call this.
    #[inline]
    pub fn unfreeze(&self, count: u32) {
        self.count.store(count, Ordering::Release);
    }

    /// Makes a free frame a page in use with one reference, as an allocator does; false where it is not free.
    #[must_use]
    #[inline]
    pub fn allocate(&self) -> bool {
        if self
            .count
            .compare_exchange(0, 1, Ordering::AcqRel, Ordering::Relaxed)
            .is_err()
        {
            return false;
        }
        self.flags.edit(PageFlags::empty(), PageFlags::all());
        self.index.store(0, Ordering::Relaxed);
        self.private.store(0, Ordering::Relaxed);
        true
    }

    /// Checks what the allocator of 2.6.17 checked when a page comes back.
    ///
    /// # Errors
    /// [`BadPage`] with what is left on it.
    #[inline]
    pub fn check_free(&self) -> Result<(), BadPage> {
        let flags = self.flags.load() & Self::NOT_FREEABLE;
        let (mapping, mapcount) = (self.mapping(), self.mapcount());
        if flags.is_empty() && mapping == Mapping::None && mapcount == 0 {
            Ok(())
        } else {
            Err(BadPage {
                flags,
                mapping,
                mapcount,
            })
        }
    }

    /// One more present entry maps the page. Called under the entry's lock, before the store.
    #[inline]
    pub fn add_mapping(&self) {
        self.mapcount.fetch_add(1, Ordering::AcqRel);
    }

    /// One present entry less maps the page. Called under the entry's lock, after the store.
    #[inline]
    pub fn remove_mapping(&self) {
        let before = self.mapcount.fetch_sub(1, Ordering::AcqRel);
        debug_assert!(before != 0, "a mapping was removed that nobody had added");
    }

    /// Returns what the page belongs to. Stable under the page lock.
    #[must_use]
    #[inline]
    pub fn mapping(&self) -> Mapping {
        Mapping::from_word(self.mapping.load(Ordering::Acquire))
    }

    /// Sets what the page belongs to. Caller holds the page lock, or is the page's only user.
    #[inline]
    pub fn set_mapping(&self, mapping: Mapping) {
        self.mapping.store(mapping.to_word(), Ordering::Release);
    }

    /// Returns the page number within the mapping. Stable under the page lock.
    #[must_use]
    #[inline]
    pub fn index(&self) -> usize {
        self.index.load(Ordering::Acquire)
    }

    /// Sets the page number within the mapping. Caller holds the page lock, or is the page's only user.
    #[inline]
    pub fn set_index(&self, index: usize) {
        self.index.store(index, Ordering::Release);
    }

    /// Takes over mapping and index of `old`. Caller holds both page locks.
    #[inline]
    pub fn adopt(&self, old: &Self) {
        self.index.store(old.index.load(Ordering::Acquire), Ordering::Release);
        self.mapping
            .store(old.mapping.load(Ordering::Acquire), Ordering::Release);
    }

    /// Returns the private word. Stable under the page lock.
    #[must_use]
    #[inline]
    pub fn private(&self) -> usize {
        self.private.load(Ordering::Acquire)
    }

    /// Sets the private word. Caller holds the page lock, or is the page's only user.
    #[inline]
    pub fn set_private(&self, private: usize) {
        self.private.store(private, Ordering::Release);
    }

    /// Returns the number of pins.
    #[must_use]
    #[inline]
    pub fn pins(&self) -> u32 {
        self.pins.load(Ordering::Acquire)
    }

    /// Counts one pin. The caller holds a reference for it.
    #[inline]
    pub fn add_pin(&self) {
        self.pins.fetch_add(1, Ordering::AcqRel);
    }

    /// Takes one pin away. The caller then drops its reference.
    #[inline]
    pub fn remove_pin(&self) {
        let before = self.pins.fetch_sub(1, Ordering::AcqRel);
        debug_assert!(before != 0, "a pin was removed that nobody held");
    }

    /// Counts `change` more migration entries that name the page; returns how many there are.
    #[inline]
    pub fn entries_out(&self, change: i32) -> u32 {
        let step = 0u32.wrapping_add_signed(change);
        self.entries_out.fetch_add(step, Ordering::AcqRel).wrapping_add(step)
    }
}

impl Default for Page {
    fn default() -> Self {
        Self::new()
    }
}

/// How a kernel lets a thread sleep on a word, in the shape of a futex.
///
/// Both may be called with a page lock held by the caller, never with a spin lock held.
pub trait Sleep {
    /// Sleeps while `word` holds `seen`; may return early for no reason, so the caller looks again.
    fn wait(&self, word: &AtomicU32, seen: u32);

    /// Wakes everybody who sleeps on `word`. Never sleeps.
    fn wake_all(&self, word: &AtomicU32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frozen_page_gives_no_reference_until_it_thaws() {
        let page = Page::new();
        assert!(!page.get_unless_zero(), "free");
        assert!(page.allocate());
        assert!(!page.allocate(), "in use");
        page.get();
        assert_eq!(page.freeze(1), Err(CountMismatch { expected: 1, found: 2 }));
        assert_eq!(page.count(), 2);
        assert_eq!(page.freeze(2), Ok(()));
        assert!(!page.get_unless_zero(), "frozen");
        page.unfreeze(1);
        assert!(page.get_unless_zero());
        assert!(!page.put_last(), "there are two");
        assert_eq!(page.count(), 2);
        assert!(!page.put());
        assert!(page.put_last());
        assert!(page.allocate() && page.put(), "the last one");
    }

    #[test]
    fn a_page_that_is_still_in_use_is_not_freeable() {
        let page = Page::new();
        assert!(page.allocate());
        assert_eq!(page.check_free(), Ok(()));
        page.set_mapping(Mapping::Anon(AnonVmaId::new(0)));
        page.flags()
            .edit(PageFlags::ACTIVE | PageFlags::DIRTY, PageFlags::empty());
        let bad = page.check_free();
        assert_eq!(
            bad,
            Err(BadPage {
                flags: PageFlags::ACTIVE,
                mapping: Mapping::Anon(AnonVmaId::new(0)),
                mapcount: 0
            })
        );
    }

    #[test]
    fn one_thing_left_on_a_page_is_enough_to_make_it_bad() {
        let file = Mapping::File(MappingId::new(3));
        let bad = |flags, mapping, mapcount| BadPage {
            flags,
            mapping,
            mapcount,
        };
        type Leave = fn(&Page);
        let cases: [(Leave, BadPage); 3] = [
            (
                |page| {
                    page.flags().edit(PageFlags::LRU, PageFlags::empty());
                },
                bad(PageFlags::LRU, Mapping::None, 0),
            ),
            (
                |page| page.set_mapping(Mapping::File(MappingId::new(3))),
                bad(PageFlags::empty(), file, 0),
            ),
            (Page::add_mapping, bad(PageFlags::empty(), Mapping::None, 1)),
        ];
        for (leave, left) in cases {
            let page = Page::new();
            leave(&page);
            assert_eq!(page.check_free(), Err(left));
        }
    }

    #[test]
    fn every_mapping_word_reads_back() {
        for mapping in [
            Mapping::None,
            Mapping::Anon(AnonVmaId::new(0)),
            Mapping::Anon(AnonVmaId::new(7)),
            Mapping::File(MappingId::new(0)),
            Mapping::File(MappingId::new(1 << 20)),
        ] {
            assert_eq!(Mapping::from_word(mapping.to_word()), mapping);
        }
    }
}

//! The seam: what a kernel says about its pages, its page tables and its caches.
//!
//! Small, safe capability traits. A kernel with its own `struct page` implements them directly; one without says
//! [`UsesPageMap`](crate::UsesPageMap) and gets [`Frames`], [`Wait`] and [`Lru`]. An anonymous-only kernel writes
//! `impl Cache for MyKernel {}`.
//!
//! Guards are owned: a [`Frames::Page`] is one counted reference, a [`Frames::Locked`] is a reference and the page lock. The
//! core stores them, hands each back exactly once (`put`, `unlock`, `putback`, or onto a caller's list), and never drops one.

use core::ops::ControlFlow;

use mm_types::{CountMismatch, Mapping, PageFlags, Pfn, Pte, Refusal, Site, SpaceId, SwapEntry};

use crate::Pair;

/// The contents of a page could not be read (a machine check, an I/O error of the memory behind it).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the page's contents could not be copied")]
pub struct CopyError;

/// A page-cache slot does not hold the old page any more; nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a page cache slot holds another page")]
pub struct SlotChanged;

#[diagnostic::on_unimplemented(
    note = "a kernel with a `struct page` of its own implements `Frames`, `Lru` and `Wait`; one without implements `UsesPageMap`, from \
            which all three follow"
)]
/// Frames and their descriptors: references, the page lock, flags, contents (Linux: `struct page` and its accessors).
pub trait Frames {
    /// One counted reference to a page. Not `Clone`: each is given back once.
    type Page;
    /// One counted reference and the page lock.
    type Locked;

    /// Returns the frame number.
    fn pfn(&self, page: &Self::Page) -> Pfn;

    /// Returns the reference inside a lock guard.
    fn page<'l>(&self, locked: &'l Self::Locked) -> &'l Self::Page;

    /// Returns the reference count at this moment (Linux: `page_count`).
    fn count(&self, page: &Self::Page) -> u32;

    /// Takes a reference unless the count is 0 (Linux: `get_page_unless_zero`). `None` for a page that is free or frozen, and
    /// for a frame that has no descriptor.
    fn get(&self, pfn: Pfn) -> Option<Self::Page>;

    /// Drops a reference; the last one frees the page (Linux: `put_page`). Needs no page lock; the core never calls it under an
    /// entry lock.
    fn put(&self, page: Self::Page);

    /// Takes the page lock if it is free (Linux: `trylock_page`). Never sleeps.
    ///
    /// # Errors
    /// The reference, where somebody else holds the lock.
    fn try_lock(&self, page: Self::Page) -> Result<Self::Locked, Self::Page>;

    /// Gives up the page lock and wakes who sleeps on it. Never sleeps.
    fn unlock(&self, locked: Self::Locked) -> Self::Page;

    /// Reads the page's flags.
    fn flags(&self, page: &Self::Page) -> PageFlags;

    /// Sets `set`, then clears `clear`; returns the flags before. May be called under an entry lock.
    fn edit_flags(&self, locked: &Self::Locked, set: PageFlags, clear: PageFlags) -> PageFlags;

    /// Returns what the page belongs to (Linux: `page->mapping`). Stable under the page lock.
    fn mapping(&self, page: &Self::Page) -> Mapping;

    /// Gives `new` the mapping and the index of `old`, and its private word where `old` is in the swap cache. Both locked.
    fn adopt(&self, new: &Self::Locked, old: &Self::Locked);

    /// Clears mapping and private word. Locked.
    fn disown(&self, locked: &Self::Locked);

    /// Turns a reference count of exactly `expected` into 0 in one step (Linux: `folio_ref_freeze`).
    ///
    /// # Errors
    /// [`CountMismatch`] with what was found; nothing changed.
    fn freeze(&self, locked: &Self::Locked, expected: u32) -> Result<(), CountMismatch>;

    /// Gives a frozen page the count `count` (Linux: `folio_ref_unfreeze`).
    fn unfreeze(&self, locked: &Self::Locked, count: u32);

    /// Copies the contents. Nobody can write either page: both are locked, the source is unmapped and flushed.
    ///
    /// # Errors
    /// [`CopyError`] where the source cannot be read; the destination's contents are then undefined.
    fn copy(&self, pair: Pair<'_, Self::Locked>) -> Result<(), CopyError>;

    /// Returns how many times the page is pinned for direct access. Pins are looked for before anything is unmapped.
    fn pins(&self, page: &Self::Page) -> u32 {
        let _ = page;
        0
    }

    /// Counts `change` more migration entries that name `pfn`; returns how many there are, or `None` where nobody counts.
    ///
    /// Called under entry locks, in debug builds only. A kernel that holds the count finds lost entries the moment the page
    /// is unlocked, instead of hanging a process later.
    fn entries_out(&self, pfn: Pfn, change: i32) -> Option<u32> {
        let _ = (pfn, change);
        None
    }

    /// Ends writeback on a page that somebody queued for writing while it was locked (2.6.17 `migrate_page_copy`).
    fn end_writeback(&self, locked: &Self::Locked) {
        self.edit_flags(locked, PageFlags::empty(), PageFlags::WRITEBACK);
    }
}

/// What one update of an entry did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edited {
    /// The entry before, with every bit that the hardware had set.
    pub before: Pte,
    /// The entry now.
    pub after: Pte,
}

/// What the VMA around an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryVma {
    /// The VMA is mlocked.
    pub locked: bool,
    /// The VMA allows writing now.
    pub may_write: bool,
    /// The VMA shares what it maps with others: its entries are exclusive to nobody, also those of anonymous pages.
    pub shared: bool,
    /// The VMA is nonlinear, and this is the file offset in pages that the entry stands for.
    pub nonlinear: Option<u64>,
}

impl EntryVma {
    /// An ordinary, writable VMA.
    pub const PLAIN: Self = Self {
        locked: false,
        may_write: true,
        shared: false,
        nonlinear: None,
    };
}

/// A page-table entry held under its lock (Linux: `pte_offset_map_lock`). Borrowed from a walk and never stored.
pub trait Entry {
    /// Returns where the entry is.
    fn site(&self) -> Site;

    /// Reads the entry. Do not write back what was read: use [`Entry::update`].
    fn read(&self) -> Pte;

    /// Replaces the entry by what `edit` makes of it, in one atomic step (Linux: `ptep_clear_flush`, `set_pte_at`); `None` where
    /// `edit` declines.
    ///
    /// `edit` is pure and may run twice, so that bits the hardware sets meanwhile are never lost. The implementation applies
    /// [`mm_types::ledger`] exactly once, under the entry lock: increments before the store, decrements after it; and gathers
    /// the translation for the next flush where the entry was present. The reference of an entry that is gone waits for that flush
    /// too, because a CPU may still reach the page, unless another reference surely lasts until then.
    fn update(&mut self, edit: &dyn Fn(Pte) -> Option<Pte>) -> Option<Edited>;

    /// Returns what the VMA says; plain where the kernel has nothing to say.
    fn vma(&self) -> EntryVma {
        EntryVma::PLAIN
    }
}

/// What a walk calls for each entry; breaking ends the walk.
pub type Visit<'v> = dyn FnMut(&mut dyn Entry) -> ControlFlow<()> + 'v;

/// The reverse map, page tables and TLB (Linux: `rmap.c`, `mmu_gather`).
pub trait Rmap: Frames {
    /// What edits of entries leave to do: translations to invalidate, then references to drop, and, where tables are not the truth
    /// by themselves (user space), translations to make real.
    type Gather;

    /// Makes an empty gather.
    fn gather(&self) -> Self::Gather;

    /// Visits every entry that may map the page or name it in a migration entry, each under its entry lock (Linux: `rmap_walk`).
    ///
    /// `page` is locked, so its reverse-map root stays alive (I26), and its holder keeps its reference until the flush. Before the switch the core walks the source, after it the
    /// destination. A VMA that was copied from another is visited after it (B1). Need not be re-entrant.
    fn walk(&self, page: &Self::Locked, gather: &mut Self::Gather, visit: &mut Visit<'_>);

    /// The barrier (Linux: `try_to_unmap_flush`): when it returns, no CPU can use a translation that was gathered, and gathered
    /// restorations are real.
    ///
    /// Never called under an entry lock; several page locks may be held. Cannot fail: what it needs was reserved.
    fn flush(&self, gather: Self::Gather);

    /// Makes sure that no stale translation of a batch in progress is left in `space` (Linux: `flush_tlb_batched_pending`).
    ///
    /// Between the first edit of a batch and its flush other CPUs may still write through old translations; who copies,
    /// clears or downgrades entries calls this before it returns (B22).
    fn flush_pending(&self, space: SpaceId);

    /// Reserves what restoring this page's entries can need, before the first of them is replaced.
    ///
    /// `new` is the page it will move to if nothing goes wrong, where the profile takes that first. A backend for which making
    /// a translation real is the expensive part can prepare it at the first barrier already, inaccessible, and only open it at
    /// the second; should the page stay after all, the second barrier makes the old frame's mapping again.
    ///
    /// # Errors
    /// The refusal for the page; nothing was reserved.
    fn reserve(
        &self,
        page: &Self::Locked,
        new: Option<&Self::Locked>,
        gather: &mut Self::Gather,
    ) -> Result<(), Refusal> {
        let _ = (page, new, gather);
        Ok(())
    }

    /// True where a present entry maps the page (Linux: `page_mapped`).
    fn is_mapped(&self, page: &Self::Locked) -> bool;

    /// Visits entries of nonlinear VMAs that may map the page; they cannot be found by index (2.6.17 only).
    fn walk_nonlinear(&self, page: &Self::Locked, gather: &mut Self::Gather, visit: &mut Visit<'_>) {
        let _ = (page, gather, visit);
    }
}

/// Which way a mapping's pages move (Linux: `a_ops->migratepage`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mover {
    /// No private data (`migrate_page`).
    Plain,
    /// Private data are buffers that move along (`buffer_migrate_page`).
    Buffers,
    /// The mapping has no method (`fallback_migrate_page`): dirty pages are written out (2006) or stay (today).
    Fallback,
    /// The mapping forbids it (`fail_migrate_page`).
    Never,
}

/// What became of a page that was handed to its file system for writing.
#[derive(Debug)]
pub enum Written<L, P> {
    /// It came back locked (`AOP_WRITEPAGE_ACTIVATE`).
    Locked(L, Result<(), WriteError>),
    /// The file system unlocked it, as `writepage` does when it starts I/O.
    Unlocked(P, Result<(), WriteError>),
}

/// Writing a page failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("writing the page failed")]
pub struct WriteError;

/// The page cache and the swap cache; every method is provided, so an anonymous-only kernel has nothing to write.
///
/// A mover's methods are reached only where [`Cache::mover`] names it.
pub trait Cache: Frames {
    /// Returns how many cache slots hold the page, the swap cache's among them; 0 for plain anonymous pages. Locked.
    fn slots(&self, page: &Self::Locked) -> u32 {
        let _ = page;
        0
    }

    /// Returns the page's slot in swap, where it is in the swap cache. Locked.
    fn swap_entry(&self, page: &Self::Locked) -> Option<SwapEntry> {
        let _ = page;
        None
    }

    /// Returns which way the page's mapping wants it moved. Locked, and has at least one slot.
    fn mover(&self, page: &Self::Locked) -> Mover {
        let _ = page;
        Mover::Plain
    }

    /// Replaces old by new in every slot, in one critical section, and takes one reference on the new page for each.
    ///
    /// Called while the old page's count is frozen: a lookup that meets it looks again. The references of the old page's slots
    /// are taken from it by the core. Slot tags (dirty, writeback) stay where they are.
    ///
    /// # Errors
    /// [`SlotChanged`] where a slot does not hold the old page; nothing changed.
    fn switch(&self, pair: Pair<'_, Self::Locked>) -> Result<u32, SlotChanged> {
        let _ = pair;
        Ok(0)
    }

    /// Marks the page dirty through its mapping, so that accounting and tags run (Linux: `set_page_dirty`). May be called
    /// under an entry lock. Buffers that the migration holds ([`Cache::try_lock_buffers`]) stay as they are, dirty or clean: the
    /// new page is as dirty as the old one was, and in the same parts (Linux: `__set_page_dirty_nobuffers`; I13).
    fn set_dirty(&self, page: &Self::Locked) {
        self.edit_flags(page, PageFlags::DIRTY, PageFlags::empty());
    }

    /// Clears the dirty flag before writing; false where it was clear (Linux: `clear_page_dirty_for_io`).
    fn clear_dirty_for_io(&self, page: &Self::Locked) -> bool {
        self.edit_flags(page, PageFlags::empty(), PageFlags::DIRTY)
            .contains(PageFlags::DIRTY)
    }

    /// Locks every buffer of the page, or none. Never sleeps.
    ///
    /// # Errors
    /// The refusal, where one is locked or under I/O.
    fn try_lock_buffers(&self, page: &Self::Locked) -> Result<(), Refusal> {
        let _ = page;
        Ok(())
    }

    /// Unlocks the buffers of whichever of the two pages has them now.
    fn unlock_buffers(&self, page: &Self::Locked) {
        let _ = page;
    }

    /// Moves the buffers from old to new: the private word, the private flag, and the one reference they hold. Buffers locked.
    fn move_buffers(&self, pair: Pair<'_, Self::Locked>) {
        let _ = pair;
    }

    /// Frees the page's private data if it can, with the reference it holds (Linux: `try_to_release_page`); false where not.
    fn release_buffers(&self, page: &Self::Locked) -> bool {
        let _ = page;
        false
    }

    /// True where the mapping can write pages (2006: `a_ops->writepage` is there).
    fn can_write(&self, page: &Self::Locked) -> bool {
        let _ = page;
        false
    }

    /// Writes the page, which is clean for I/O by now; returns it locked or not, as the file system left it (2006 only).
    ///
    /// No entry names the page, no spin lock is held; may sleep only as the file system's non-blocking writing does. A file
    /// system that did not write the page has made it dirty again when it says so, or its contents would be forgotten (I11).
    fn writeout(&self, page: Self::Locked) -> Written<Self::Locked, Self::Page> {
        self.set_dirty(&page);
        Written::Locked(page, Err(WriteError))
    }
}

#[diagnostic::on_unimplemented(
    note = "a kernel with a `struct page` of its own implements `Frames`, `Lru` and `Wait`; one without implements `UsesPageMap`, from \
            which all three follow"
)]
/// The LRU lists.
pub trait Lru: Frames {
    /// Takes the page off the LRU and returns a reference for the isolation (Linux: `isolate_lru_page`, with
    /// get-unless-zero). The page keeps its active flag.
    ///
    /// # Errors
    /// [`Refusal::NotOnLru`] where it is on no list (2006: `-EBUSY`).
    fn isolate(&self, page: &Self::Page) -> Result<Self::Page, Refusal>;

    /// Puts an isolated page, or a new one, on the LRU list that its active flag names, and drops the reference given (Linux:
    /// `move_to_lru`).
    fn putback(&self, page: Self::Page);

    /// As [`Lru::putback`], without staging, where a kernel can: the page is on its list when this returns.
    fn putback_direct(&self, page: Self::Page) {
        self.putback(page);
    }

    /// Puts the pages of all CPUs' staging arrays on the LRU (Linux: `lru_add_drain_all`). Called before isolating.
    fn drain(&self) {}
}

#[diagnostic::on_unimplemented(
    note = "a kernel with a `struct page` of its own implements `Frames`, `Lru` and `Wait`; one without implements `UsesPageMap`, from \
            which all three follow"
)]
/// Sleeping on pages; asked for by blocking runs only.
pub trait Wait: Frames {
    /// Takes the page lock, sleeping until it is free (Linux: `lock_page`). The caller holds no other page lock.
    fn lock(&self, page: Self::Page) -> Self::Locked;

    /// Sleeps until the page is not under writeback (Linux: `wait_on_page_writeback`). The caller holds this page lock only.
    fn wait_writeback(&self, page: &Self::Locked);

    /// Sleeps until a buffer of the page may have been unlocked; may return early (Linux: `lock_buffer`).
    fn wait_buffers(&self, page: &Self::Locked) {
        let _ = page;
    }
}

/// The fault side (Linux: `migration_entry_wait_on_locked`); asked for by
/// [`migration_entry_wait`](crate::migration_entry_wait) only.
pub trait Faults: Rmap {
    /// Shows `look` the entry at `site` under its lock; where it names a page to wait for, sleeps until that page's lock opens.
    ///
    /// The wait is set up before the entry lock is dropped, so the wake-up that the migrator owes cannot be missed (B32), and
    /// takes no reference (I24): the entry says that the page is locked, and a descriptor is never unmapped. May return early.
    /// Called by a faulting thread that holds no lock. `look` sees [`Pte::None`] where there is no entry.
    fn wait_on(&self, site: Site, look: &mut dyn FnMut(Pte) -> Option<Pfn>);
}

/// All that a run needs; nothing to write.
pub trait Backend: Frames + Rmap + Cache + Lru {}

impl<B: Frames + Rmap + Cache + Lru> Backend for B {}

#[cfg(test)]
mod tests;

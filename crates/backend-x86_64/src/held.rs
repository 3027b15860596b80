//! One entry, held under its table's lock.

use core::cell::RefCell;
use core::sync::atomic::{AtomicU64, Ordering};

use migrate_core::{Edited, Entry, EntryVma, PageRef, get_for_ledger, unmap_for_ledger};
use mm_types::{Ledger, Page, Pte, Site, Vma, VmaFlags, ledger};

use crate::areas::Areas;
use crate::gather::Gather;
use crate::{Attributes, HwEntry, Kernel, MapError, Platform, Space};

/// An entry whose table's lock is held, by whoever made this.
pub(crate) struct HeldEntry<'h, 'k, 's, P> {
    kernel: &'k Kernel<'s, P>,
    space: &'k Space,
    site: Site,
    word: &'k AtomicU64,
    vma: EntryVma,
    attributes: Attributes,
    held: bool,
    // Shared by two entries that are held at one time.
    gather: &'h RefCell<&'h mut Gather>,
}

/// What a walk says of the area around an entry; nothing, for one that only looks.
#[derive(Clone, Copy)]
pub(crate) struct Around {
    vma: EntryVma,
    attributes: Attributes,
    held: bool,
}

impl Around {
    /// For an entry whose page somebody keeps alive until what is edited now is flushed: its reference goes at once.
    ///
    /// In a walk that is the caller, who has the page locked. In a move it is the entry at the new place; whoever takes that away
    /// flushes the whole space, because the move's own flush is pending.
    pub(crate) const fn held(self) -> Self {
        Self { held: true, ..self }
    }
}

impl Default for Around {
    fn default() -> Self {
        Self {
            vma: EntryVma::PLAIN,
            attributes: Attributes::default(),
            held: false,
        }
    }
}

impl From<&Vma> for Around {
    fn from(vma: &Vma) -> Self {
        Self {
            vma: EntryVma {
                locked: vma.flags.contains(VmaFlags::LOCKED),
                may_write: vma.flags.contains(VmaFlags::WRITE),
                shared: vma.flags.contains(VmaFlags::SHARED),
                nonlinear: None,
            },
            attributes: Attributes::of(vma.flags),
            held: false,
        }
    }
}

impl<P: Platform> HeldEntry<'_, '_, '_, P> {
    /// Returns the word, with whatever the CPU set until now.
    pub(crate) fn word(&self) -> HwEntry {
        HwEntry::from_bits(self.word.load(Ordering::Acquire))
    }

    // Replaces exactly `from`; where the CPU set a bit meanwhile, returns what is there.
    fn exchange(&self, from: HwEntry, to: HwEntry) -> Result<(), HwEntry> {
        self.word
            .compare_exchange(from.bits(), to.bits(), Ordering::AcqRel, Ordering::Acquire)
            .map_err(HwEntry::from_bits)?;
        if from.needs_flush(to) {
            self.gather.borrow_mut().note(self.kernel.pending(), self.site);
        }
        Ok(())
    }

    /// Gives a present entry the attributes that its area has now.
    pub(crate) fn refresh_attributes(&mut self) {
        let mut seen = self.word();
        while seen.decode().is_some() && seen.with_attributes(self.attributes) != seen {
            match self.exchange(seen, seen.with_attributes(self.attributes)) {
                Ok(()) => return,
                Err(now) => seen = now,
            }
        }
    }

    fn unmap(&self, counts: &Ledger, held: bool) {
        let map = self.kernel.map();
        match unmap_for_ledger(map, counts) {
            Some(page) if held => self.drop_held(&page),
            Some(page) => self.gather.borrow_mut().owe(map, &page),
            None => {}
        }
    }

    // Drops a reference that is not the last.
    fn drop_held(&self, page: &PageRef) {
        let map = self.kernel.map();
        if map.page(page.pfn()).is_some_and(Page::put) {
            debug_assert!(false, "nobody kept the page alive: {:?}", page.pfn());
            self.gather.borrow_mut().unused.push(map, page.pfn());
        }
    }
}

impl<P: Platform> Entry for HeldEntry<'_, '_, '_, P> {
    fn site(&self) -> Site {
        self.site
    }

    // A word that is not ours reads as empty and takes no edit; nothing is mapped over it either.
    fn read(&self) -> Pte {
        self.word().decode().unwrap_or_default()
    }

    fn update(&mut self, edit: &dyn Fn(Pte) -> Option<Pte>) -> Option<Edited> {
        let map = self.kernel.map();
        let mut seen = self.word();
        loop {
            let before = seen.decode()?;
            let after = edit(before)?;
            let to = seen.replaced_by(after, self.attributes).ok()?;
            let counts = ledger(before, after);
            if counts.swap_dup.is_some() || counts.swap_free.is_some() {
                // There is no swap here: nobody counts the slot's users.
                return None;
            }
            get_for_ledger(map, &counts);
            match self.exchange(seen, to) {
                Ok(()) => {
                    self.space.add_rss(counts.rss);
                    self.unmap(&counts, self.held);
                    return Some(Edited { before, after });
                }
                Err(now) => {
                    // It was never mapped, and whoever wants to map it holds it.
                    let back = Ledger {
                        put: counts.get,
                        ..Ledger::default()
                    };
                    self.unmap(&back, true);
                    seen = now;
                }
            }
        }
    }

    fn vma(&self) -> EntryVma {
        self.vma
    }
}

impl<'s, P: Platform> Kernel<'s, P> {
    /// Reads the word at `site` where its table exists, under the table's lock; no other lock is needed.
    ///
    /// # Errors
    /// [`MapError`] where the space does not exist, or a large page is in the way.
    pub(crate) fn look_at<R>(&self, site: Site, f: impl FnOnce(HwEntry) -> R) -> Result<Option<R>, MapError> {
        let space = self.space(site.space)?;
        let _structure = space.structure.shared();
        let Some(leaf) = self.leaf(space, site)? else {
            return Ok(None);
        };
        let Some(word) = self.word_at(leaf.pfn, self.paging().index(site.page, 0)) else {
            return Ok(None);
        };
        let _lock = leaf.lock();
        Ok(Some(f(HwEntry::from_bits(word.load(Ordering::Acquire)))))
    }

    /// Holds the entry at `site` where its table exists. The areas' lock keeps the tables.
    ///
    /// # Errors
    /// [`MapError`] where the space does not exist, or a large page is in the way.
    #[inline]
    pub(crate) fn with_entry<R>(
        &self,
        areas: &Areas<'_>,
        site: Site,
        around: Around,
        gather: &mut Gather,
        f: impl FnOnce(&mut HeldEntry<'_, '_, 's, P>) -> R,
    ) -> Result<Option<R>, MapError> {
        let space = self.space(site.space)?;
        let Some(leaf) = self.leaf_again(areas, space, site)? else {
            return Ok(None);
        };
        let Some(word) = self.word_at(leaf.pfn, self.paging().index(site.page, 0)) else {
            return Ok(None);
        };
        let _lock = leaf.lock();
        let gather = RefCell::new(gather);
        Ok(Some(f(&mut self.hold(space, site, word, around, &gather))))
    }

    /// Holds the entry at `site`; tables that are missing are added.
    ///
    /// # Errors
    /// As [`Self::with_entry`], and where there is no frame for a table.
    pub(crate) fn with_new_entry<R>(
        &self,
        areas: &Areas<'_>,
        site: Site,
        around: Around,
        gather: &mut Gather,
        f: impl FnOnce(&mut HeldEntry<'_, '_, 's, P>) -> R,
    ) -> Result<R, MapError> {
        self.make_leaf(self.space(site.space)?, site)?;
        self.with_entry(areas, site, around, gather, f)?
            .ok_or(MapError::NoTable)
    }

    /// Holds an entry that is there and another, of the same space or not, whose tables are added.
    ///
    /// # Errors
    /// As [`Self::with_new_entry`].
    pub(crate) fn with_entries<R>(
        &self,
        areas: &Areas<'_>,
        (from, to): (Site, Site),
        around: Around,
        gather: &mut Gather,
        f: impl FnOnce(&mut HeldEntry<'_, '_, 's, P>, &mut HeldEntry<'_, '_, 's, P>) -> R,
    ) -> Result<R, MapError> {
        let (first, second) = (self.space(from.space)?, self.space(to.space)?);
        let target = self.make_leaf(second, to)?;
        let source = self.leaf_again(areas, first, from)?.ok_or(MapError::NotMapped(from))?;
        // Two tables in the order of their frames, so that two movers in opposite directions do not wait for each other.
        let (low, high) = if source.pfn <= target.pfn {
            (&source, &target)
        } else {
            (&target, &source)
        };
        let _lock = low.lock();
        let _second_lock = (low.pfn != high.pfn).then(|| high.lock());
        let index = |site: Site| self.paging().index(site.page, 0);
        let source = self.word_at(source.pfn, index(from));
        let (Some(source), Some(target)) = (source, self.word_at(target.pfn, index(to))) else {
            return Err(MapError::NotMapped(from));
        };
        let gather = RefCell::new(gather);
        let mut from = self.hold(first, from, source, around, &gather);
        let mut to = self.hold(second, to, target, around, &gather);
        Ok(f(&mut from, &mut to))
    }

    fn hold<'h, 'k>(
        &'k self,
        space: &'k Space,
        site: Site,
        word: &'k AtomicU64,
        around: Around,
        gather: &'h RefCell<&'h mut Gather>,
    ) -> HeldEntry<'h, 'k, 's, P> {
        HeldEntry {
            kernel: self,
            space,
            site,
            word,
            vma: around.vma,
            attributes: around.attributes,
            held: around.held,
            gather,
        }
    }
}

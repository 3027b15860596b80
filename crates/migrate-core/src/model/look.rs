//! Looking at a part of the state: what is too large to be recounted after each step is looked at where it was touched.

use alloc::vec::Vec;

use mm_types::{Invariant as I, MappingId, PageFlags, Pfn, Pte, Site, SpaceId};

use super::{Model, POISON};
use crate::UsesPageMap;
use crate::invariants::Violation;

impl Model {
    /// Returns the entries of a space that are not empty, by address.
    #[must_use]
    pub fn entries(&self, space: SpaceId) -> Vec<(Site, Pte)> {
        let table = self.space(space).table.lock();
        table.iter().map(|(page, pte)| (Site::new(space, page), pte)).collect()
    }

    /// Returns the pages of a file that are in its cache, by index.
    #[must_use]
    pub fn cached_pages(&self, file: MappingId) -> Vec<(usize, Pfn)> {
        let mut caches = self.caches.lock();
        let slots = caches.file(file).slots.iter();
        slots.map(|(index, (pfn, _))| (*index, *pfn)).collect()
    }

    /// Checks that no operation has noticed anything so far.
    ///
    /// # Errors
    /// What was noticed first.
    pub fn check_noticed(&self) -> Result<(), Violation> {
        self.violations.lock().first().cloned().map_or(Ok(()), Err)
    }

    /// Checks what holds of one entry at every moment: the page or slot behind it is there, and no CPU uses another one. Takes no
    /// longer the larger the model is; [`Model::check_always`] counts as well.
    ///
    /// # Errors
    /// As [`Model::check_always`].
    pub fn check_site(&self, site: Site) -> Result<(), Violation> {
        let pte = self.pte(site);
        match pte {
            Pte::Present { pfn, .. } => {
                let page = self.page(pfn);
                if page.mapcount() == 0 {
                    return Err(Violation::new(
                        I::MapCount,
                        format_args!("{site:?} maps {pfn:?}, which counts no mapping"),
                    ));
                }
                // Frozen is 0 too; but who is frozen was unmapped before.
                if page.count() < page.mapcount() {
                    let (count, mapcount) = (page.count(), page.mapcount());
                    return Err(Violation::new(
                        I::References,
                        format_args!("{pfn:?} has {count} references and {mapcount} mappings"),
                    ));
                }
            }
            Pte::Migration(entry) => {
                let pfn = entry.pfn();
                if !self.page(pfn).flags().load().contains(PageFlags::LOCKED) {
                    return Err(Violation::new(
                        I::EntryNamesLocked,
                        format_args!("{pfn:?} is in flight and not locked"),
                    ));
                }
                if self.page(pfn).entries_out(0) == 0 && cfg!(debug_assertions) {
                    return Err(Violation::new(
                        I::NoEntryLeft,
                        format_args!("{pfn:?} has entries out, and counts none"),
                    ));
                }
            }
            Pte::Swap { entry, .. } => {
                if self.caches.lock().swap.users(entry) == 0 {
                    return Err(Violation::new(
                        I::SwapSlots,
                        format_args!("{site:?} names swap slot {entry}, which is free"),
                    ));
                }
            }
            Pte::None | Pte::File { .. } | Pte::Poison(_) => {}
        }
        for held in self.tlbs.cpus.iter().filter_map(|cpu| cpu.lock().get(&site).copied()) {
            // A CPU that stores through what it holds does not look whether the entry is dirty: it was by then.
            let good = pte.maps(held.pfn) && (pte.writable() && pte.dirty() || !held.write);
            if !good && !self.tlbs.pending.lock().contains_key(&site) {
                return Err(Violation::new(
                    I::NoStaleTranslation,
                    format_args!("a stale translation at {site:?}: {held:?}"),
                ));
            }
        }
        Ok(())
    }

    /// Checks what holds of one frame at every moment: the LRU, its counts, and what a free one looks like. Takes no longer the
    /// larger the model is.
    ///
    /// # Errors
    /// As [`Model::check_always`].
    pub fn check_frame(&self, pfn: Pfn) -> Result<(), Violation> {
        let page = self.page(pfn);
        let (flags, on_lru) = (
            page.flags().load(),
            self.with_lru(|lru| lru.contains(self.page_map(), pfn)),
        );
        if flags.contains(PageFlags::LRU) != on_lru {
            return Err(Violation::new(
                I::OneList,
                format_args!("{pfn:?} is on the LRU: {on_lru}, its flags say {flags}"),
            ));
        }
        // A count of 0 is a free page, or one that a migration froze, and that is locked.
        let free = page.count() == 0 && !flags.contains(PageFlags::LOCKED);
        if free && (page.mapcount() != 0 || page.pins() != 0 || !flags.is_empty()) {
            return Err(Violation::new(
                I::OnlyForward,
                format_args!("{pfn:?} is free, with {} mappings, flags {flags}", page.mapcount()),
            ));
        }
        if free && self.word(pfn) != POISON {
            return Err(Violation::new(
                I::NoStaleTranslation,
                format_args!("{pfn:?} was written while it was free"),
            ));
        }
        Ok(())
    }
}

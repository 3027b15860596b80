//! What programs ask of the kernel while a page is in flight: fork, mprotect, munmap, mremap, truncate, and the two ways to gain a
//! reference, through an entry and through the page cache.
//!
//! Whatever copies, clears, moves or downgrades entries goes through [`Readers`], flushes what it changed itself, and ends with the
//! flush of what a migration left pending.

use migrate_core::{Entry, Frames, LockedPage, PageRef, Readers, Rmap, Wait, migration_entry_wait};
use mm_types::{ActorId, PageFlags, Pfn, Pte, Site, SpaceId};

use crate::kernel::{Area, Gather, Hears, Kernel, SLOTS, at, hold, lock};

impl Kernel {
    fn readers(&self, space: SpaceId) -> Readers<'_, Self, Hears<'_>> {
        Readers::begin(self, space, self.obs())
    }

    /// An entry seen under its lock that is a migration entry names a locked page (I3).
    fn look(&self, pte: Pte) {
        if let Some(entry) = pte.migration() {
            let flags = self.page_of(entry.pfn()).flags().load();
            assert!(flags.contains(PageFlags::LOCKED), "I3: {pte:?} names an unlocked page");
        }
    }

    /// Copies the area at `from` to the child's `to` (Linux: `dup_mmap`, `copy_page_range`), copy-on-write.
    pub(crate) fn fork(&self, from: Area, to: SpaceId) {
        let _mm = self.spaces[at(from.site).0].mmap_sem.write().expect("not poisoned");
        let child = Area {
            site: Site::new(to, from.site.page),
            ..from
        };
        // Linked after the parent's, and before the first entry is copied (B1).
        lock(&self.areas).push(child);
        let readers = self.readers(from.site.space);
        let mut gather = self.gather();
        for page in 0..from.pages as u64 {
            let (parent, child) = (next(from.site, page), next(child.site, page));
            self.with_entries(parent, child, &mut gather, |from, to| {
                self.look(from.read());
                readers.copy(from, to, true);
            });
        }
        self.flush(gather);
        readers.finish();
        // Copies on write in the parent wait for `mmap_sem`.
        self.assert_flushed(from, |held| held.write);
    }

    /// Takes write permission away (Linux: `mprotect`).
    pub(crate) fn protect(&self, area: Area) {
        let _mm = self.spaces[at(area.site).0].mmap_sem.write().expect("not poisoned");
        self.table(area.site.space).may_write = false;
        let readers = self.readers(area.site.space);
        let mut gather = self.gather();
        for page in 0..area.pages as u64 {
            self.with_entry(next(area.site, page), &mut gather, |entry| {
                self.look(entry.read());
                readers.protect(entry, false, !self.file, self.profile.entries)
            });
        }
        self.flush(gather);
        readers.finish();
        self.assert_flushed(area, |held| held.write);
    }

    /// Unmaps an area (Linux: `munmap`).
    pub(crate) fn munmap(&self, area: Area) {
        let _mm = self.spaces[at(area.site).0].mmap_sem.write().expect("not poisoned");
        self.zap(area, true);
    }

    fn zap(&self, area: Area, unmap: bool) {
        let readers = self.readers(area.site.space);
        let mut gather = self.gather();
        for page in 0..area.pages as u64 {
            let site = next(area.site, page);
            if unmap {
                self.table(site.space).mapped[at(site).1] = false;
            }
            self.zap_one(&readers, site, &mut gather);
        }
        self.flush(gather);
        readers.finish();
    }

    /// Clears one entry; a dirty bit goes to a file's page, which its cache slot keeps alive.
    fn zap_one(&self, readers: &Readers<'_, Self, Hears<'_>>, site: Site, gather: &mut Gather) {
        self.with_entry(site, gather, |entry| {
            self.look(entry.read());
            let dirty = readers.zap(entry).filter(|pte| pte.is_present() && pte.dirty());
            if let Some(pfn) = dirty.and_then(Pte::pfn).filter(|_| self.file) {
                self.page_of(pfn).flags().edit(PageFlags::DIRTY, PageFlags::empty());
            }
        });
    }

    /// Moves the first page of `from` to `to`, where nothing is, in the same space (Linux: `mremap`).
    pub(crate) fn mremap(&self, from: Area, to: Site) {
        let _mm = self.spaces[at(to).0].mmap_sem.write().expect("not poisoned");
        // At the end, so that a walk that passed the old place with the entry still there meets it again.
        lock(&self.areas).push(Area {
            site: to,
            pages: 1,
            ..from
        });
        let readers = self.readers(to.space);
        let mut gather = self.gather();
        self.with_entries(from.site, to, &mut gather, |from, to| {
            self.look(from.read());
            readers.relocate(from, to);
        });
        {
            let mut table = self.table(to.space);
            table.mapped[at(from.site).1] = false;
        }
        lock(&self.areas).retain_mut(|area| {
            if area.site == from.site {
                // The rest stays where it is.
                (area.site, area.index, area.pages) = (next(area.site, 1), area.index + 1, area.pages - 1);
            }
            area.pages > 0
        });
        self.flush(gather);
        readers.finish();
        self.assert_flushed(Area { pages: 1, ..from }, |_| true);
    }

    /// Cuts the file off before its first page (Linux: `vmtruncate`): entries first, then, under its lock, each page.
    pub(crate) fn truncate(&self, areas: &[Area]) {
        areas.iter().for_each(|area| self.zap(*area, false));
        (0..SLOTS).for_each(|index| self.truncate_one(areas, index));
    }

    fn truncate_one(&self, areas: &[Area], index: usize) {
        while let Some(pfn) = self.cached(index) {
            let Some(page) = self.get(pfn) else {
                self.wait_frozen(pfn);
                continue;
            };
            let page = self.lock(page);
            let last = self.cached(index) == Some(pfn);
            if last {
                if self.is_mapped(&page) {
                    // Faulted in between the two (2.6.23).
                    areas.iter().for_each(|area| self.zap(*area, false));
                }
                lock(&self.slots)[index] = None;
                self.disown(&page);
            }
            self.put(self.unlock(page));
            if last {
                self.put(PageRef::counted(pfn));
            }
        }
    }

    /// Takes a reference to what the entry maps, for direct access (Linux: `get_user_pages`, pinned); `None` where nothing is mapped.
    pub(crate) fn pin(&self, site: Site, actor: ActorId) -> Option<PageRef> {
        loop {
            let pte = {
                let table = self.table(site.space);
                let pte = table.entries[at(site).1];
                if let Pte::Present { pfn, .. } = pte {
                    let page = hold(self, pfn);
                    self.page_of(pfn).add_pin();
                    return Some(page);
                }
                pte
            };
            pte.migration()?;
            migration_entry_wait(self, self.profile, site, actor, self.obs());
        }
    }

    pub(crate) fn unpin(&self, page: PageRef) {
        self.page_of(page.pfn()).remove_pin();
        self.put(page);
    }

    /// Looks the file's first page up (Linux: `find_get_page`): get-unless-zero, and the slot still holds it. The page lock is not taken.
    pub(crate) fn find_get_page(&self) -> Option<PageRef> {
        loop {
            let pfn = self.cached(0)?;
            let Some(page) = self.get(pfn) else {
                self.wait_frozen(pfn);
                continue;
            };
            if self.cached(0) == Some(pfn) {
                return Some(page);
            }
            self.put(page);
        }
    }

    /// Waits until the page's contents are valid, as a reader of the file does.
    pub(crate) fn wait_uptodate(&self, page: PageRef) -> PageRef {
        if self.flags(&page).contains(PageFlags::UPTODATE) {
            return page;
        }
        let locked: LockedPage = self.lock(page);
        assert!(self.flags(self.page(&locked)).contains(PageFlags::UPTODATE), "I10");
        self.unlock(locked)
    }
}

fn next(site: Site, pages: u64) -> Site {
    crate::kernel::site(site.space.raw(), site.page.raw() + pages)
}

/// The frame that the entry at `site` maps now.
pub(crate) fn mapped(kernel: &Kernel, site: Site) -> Option<Pfn> {
    let pte = kernel.table(site.space).entries[at(site).1];
    pte.is_present().then(|| pte.pfn()).flatten()
}

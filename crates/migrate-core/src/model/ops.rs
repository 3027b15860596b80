//! What programs ask of the kernel, and what that does to entries: fork, mprotect, munmap, mremap, mlock, remap_file_pages,
//! truncate.
//!
//! Whatever copies, clears, moves or downgrades entries goes through [`Readers`], flushes what it changed itself, and ends with
//! the flush of what a migration left pending.

use alloc::vec::Vec;

use mm_types::museum::{self, Bug};
use mm_types::trace::Observer;
use mm_types::{Backing, Mapping, MappingId, PageFlags, Pfn, Pte, PteFlags, Site, SpaceId, Vma, VmaFlags, Vpn};

use super::Model;
use super::rmap::entry_vma;
use super::table::Gather;
use crate::page_map::wait_while;
use crate::{Frames, Readers, Rmap, Wait};

impl Model {
    /// Copies a space (Linux: `dup_mmap`, `copy_page_range`); private areas become copy-on-write. Locked areas are not locked in
    /// the child.
    ///
    /// # Panics
    /// As [`Model::new_space`].
    pub fn fork<O: Observer>(&self, parent: SpaceId, observer: O) -> SpaceId {
        let _mmap = self.space(parent).mmap.write();
        let child = self.new_space();
        let copied: Vec<Vma> = {
            let mut vmas = self.vmas.lock();
            let of_parent = |vma: &&Vma| vma.space == parent && !vma.flags.contains(VmaFlags::DONTCOPY);
            let copied: Vec<Vma> = vmas.list.iter().filter(of_parent).copied().collect();
            // Linked before the first entry is copied, and after the parent's.
            let of_child = |vma: &Vma| Vma {
                space: child,
                flags: vma.flags.difference(VmaFlags::LOCKED),
                ..*vma
            };
            let linked = if museum::has(Bug::B1) { 0 } else { vmas.list.len() };
            vmas.list.splice(linked..linked, copied.iter().map(of_child));
            copied
        };
        let readers = Readers::begin(self, parent, observer);
        let mut gather = self.gather();
        for vma in &copied {
            for (site, _) in self.entries_of(vma) {
                let to = Site::new(child, site.page);
                self.with_entries((site, to), entry_vma(vma), &mut gather, |from, to| {
                    readers.copy(from, to, vma.is_cow());
                });
            }
        }
        self.flush(gather);
        readers.finish();
        child
    }

    /// Changes whether `pages` pages from `site` on may be written (Linux: `mprotect`). Entries lose the permission here; they get
    /// it back one by one, by faults.
    pub fn protect<O: Observer>(&self, site: Site, pages: u64, allow_write: bool, observer: O) {
        let _mmap = self.space(site.space).mmap.write();
        let cut = self.cut(site, pages, |vma| vma.flags.set(VmaFlags::WRITE, allow_write));
        let readers = Readers::begin(self, site.space, observer);
        let mut gather = self.gather();
        for vma in &cut {
            for (site, _) in self.entries_of(vma) {
                self.with_entry(site, entry_vma(vma), &mut gather, |entry| {
                    // Of the page that is there now, not of one that has moved and been freed since.
                    let pfn = entry.read().pfn();
                    let anon = pfn.is_some_and(|pfn| self.page(pfn).mapping().is_anon());
                    readers.protect(entry, allow_write, anon, self.config.profile.entries)
                });
            }
        }
        self.flush(gather);
        readers.finish();
    }

    /// Unmaps `pages` pages from `site` on (Linux: `munmap`).
    pub fn munmap<O: Observer>(&self, site: Site, pages: u64, observer: O) {
        let _mmap = self.space(site.space).mmap.write();
        let cut = self.cut(site, pages, |_| {});
        let readers = Readers::begin(self, site.space, observer);
        let mut gather = self.gather();
        for vma in &cut {
            for (site, _) in self.entries_of(vma) {
                self.zap(&readers, vma, site, &mut gather);
            }
        }
        let end = Vpn::new(site.page.raw().saturating_add(pages));
        {
            let mut vmas = self.vmas.lock();
            vmas.list.retain(|vma| !vma.overlaps(site.space, site.page, end));
            // Not what a migration needs yet: it holds the lock of a page that leads there (I26).
            vmas.free_roots(|id| self.is_held(id));
        }
        self.flush(gather);
        readers.finish();
    }

    /// Unmaps everything in a space (Linux: `exit_mmap`).
    pub fn exit<O: Observer>(&self, space: SpaceId, observer: O) {
        self.munmap(Site::new(space, Vpn::new(0)), u64::MAX, observer);
    }

    /// Moves `pages` pages from `from` on to `to`, where nothing is mapped, in the same space (Linux: `mremap`); false where
    /// something is, and where the two places overlap. The pages keep their indices, so the reverse map finds them at their new
    /// place.
    pub fn mremap<O: Observer>(&self, from: Site, pages: u64, to: Vpn, observer: O) -> bool {
        let _mmap = self.space(from.space).mmap.write();
        let end = Vpn::new(to.raw() + pages);
        if from.page < end && to.raw() < from.page.raw() + pages {
            return false;
        }
        if self
            .vmas
            .lock()
            .list
            .iter()
            .any(|vma| vma.overlaps(from.space, to, end))
        {
            return false;
        }
        let cut = self.cut(from, pages, |_| {});
        let moved = |page: Vpn| Vpn::new(to.raw() + (page.raw() - from.page.raw()));
        // The new place stands at the end, so that a walk that passed the old one with the entries still there meets them again.
        let there = cut.iter().map(|vma| Vma {
            start: moved(vma.start),
            end: moved(vma.end),
            ..*vma
        });
        self.vmas.lock().list.extend(there);
        let end = Vpn::new(from.page.raw() + pages);
        let forget_old = || {
            self.vmas
                .lock()
                .list
                .retain(|vma| !vma.overlaps(from.space, from.page, end));
        };
        if museum::has(Bug::B2) {
            forget_old();
        }
        let readers = Readers::begin(self, from.space, observer);
        let mut gather = self.gather();
        for vma in &cut {
            for (site, _) in self.entries_of(vma) {
                let to = Site::new(site.space, moved(site.page));
                self.with_entries((site, to), entry_vma(vma), &mut gather, |from, to| {
                    readers.relocate(from, to)
                });
            }
        }
        forget_old();
        self.flush(gather);
        readers.finish();
        true
    }

    /// Locks `pages` pages from `site` on in memory, or unlocks them (Linux: `mlock`, without its faulting in).
    pub fn mlock(&self, site: Site, pages: u64, locked: bool) {
        let _mmap = self.space(site.space).mmap.write();
        self.cut(site, pages, |vma| vma.flags.set(VmaFlags::LOCKED, locked));
    }

    /// Marks the present entry at `site` as written since soft-dirty marks were last cleared (Linux: `pte_mksoft_dirty`).
    pub fn mark_soft_dirty(&self, site: Site) {
        let Some(vma) = self.vma_at(site) else { return };
        let mut gather = self.gather();
        self.with_entry(site, entry_vma(&vma), &mut gather, |entry| {
            entry.update(&|pte| match pte {
                Pte::Present { pfn, flags } => Some(Pte::present(pfn, flags | PteFlags::SOFT_DIRTY)),
                _ => None,
            })
        });
        self.flush(gather);
    }

    /// Makes the page at `site` of a shared file mapping stand for page `index` of the file (2.6.17 `remap_file_pages`): the
    /// area is nonlinear from now on, and the page comes by a fault.
    pub fn remap_file<O: Observer>(&self, site: Site, index: u64, observer: O) {
        let _mmap = self.space(site.space).mmap.write();
        let (from, pages) = match self.vma_at(site) {
            Some(vma) if museum::has(Bug::B5) => (Site::new(vma.space, vma.start), vma.end.raw() - vma.start.raw()),
            _ => (site, 1),
        };
        let cut = self.cut(from, pages, |vma| vma.flags.insert(VmaFlags::NONLINEAR));
        let readers = Readers::begin(self, site.space, observer);
        let mut gather = self.gather();
        for vma in &cut {
            self.zap(&readers, vma, site, &mut gather);
            self.with_entry(site, entry_vma(vma), &mut gather, |entry| {
                entry.update(&|_| Some(Pte::File { offset: index }))
            });
        }
        self.flush(gather);
        readers.finish();
    }

    /// Cuts a file off at `pages` pages (Linux: `vmtruncate`): entries beyond go first, private copies among them, then the pages
    /// of the cache, each under its lock; waits for one that is locked or being written back.
    pub fn truncate<O: Observer>(&self, file: MappingId, pages: usize, observer: O) {
        // A page is read in only within the size, under the same lock: nothing comes into the cache beyond the end from here on.
        let beyond: Vec<usize> = {
            let mut caches = self.caches.lock();
            let file = caches.file(file);
            file.size = file.size.min(pages);
            file.slots.keys().copied().filter(|index| *index >= pages).collect()
        };
        self.zap_file(file, |index| index >= pages, observer);
        for index in beyond {
            self.truncate_index(file, index, observer);
        }
        // Again: a fault that had a page locked before the size was cut may have mapped a private copy since (Linux 2.6.23,
        // `unmap_mapping_range` called twice).
        self.zap_file(file, |index| index >= pages, observer);
    }

    fn truncate_index<O: Observer>(&self, file: MappingId, index: usize, observer: O) {
        while let Some(pfn) = self.cached(file, index) {
            let Some(page) = self.get(pfn) else {
                // Frozen, and so locked by whoever froze it; or moved since.
                wait_while(self, pfn, PageFlags::LOCKED);
                continue;
            };
            let page = self.lock(page);
            self.wait_writeback(&page);
            // Looked up before it was locked: it may have moved meanwhile, and then it is the new page that goes.
            if self.cached(file, index) == Some(page.pfn()) {
                if self.page(page.pfn()).mapcount() != 0 {
                    // A fault had it locked before the size was cut, and mapped it after the entries were cleared.
                    self.zap_file(file, |at| at == index, observer);
                }
                crate::Cache::release_buffers(self, &page);
                self.remove_from_cache(&page);
            }
            let page = self.unlock(page);
            self.put(page);
        }
    }

    /// Cuts one page off its file, wherever it is in it: its entries, migration entries too; then its slot and its mapping, unless
    /// somebody holds the page lock. Its private data stay. Returns whether all of it was done.
    pub fn truncate_page<O: Observer>(&self, pfn: Pfn, observer: O) -> bool {
        let (Mapping::File(file), index) = (self.page(pfn).mapping(), self.page(pfn).index()) else {
            return true;
        };
        self.zap_file(file, |at| at == index, observer);
        let Some(page) = self.get(pfn) else { return false };
        match self.try_lock(page) {
            Ok(page) => {
                self.remove_from_cache(&page);
                let page = self.unlock(page);
                self.put(page);
                true
            }
            Err(page) => {
                self.put(page);
                false
            }
        }
    }

    /// Clears the entries of a file's indices in every space.
    fn zap_file<O: Observer>(&self, file: MappingId, gone: impl Fn(usize) -> bool, observer: O) {
        let mut gather = self.gather();
        {
            // Held for the whole walk (Linux: `i_mmap_lock`): a VMA that fork or mremap links meanwhile comes after its source, and
            // what was copied before the source was cleared is met there.
            let vmas = self.vmas.lock();
            for vma in vmas.list.iter().filter(|vma| vma.backing == Backing::File(file)) {
                let readers = Readers::begin(self, vma.space, observer);
                for (site, pte) in self.entries_of(vma) {
                    let nonlinear = vma.flags.contains(VmaFlags::NONLINEAR);
                    let index = match pte {
                        Pte::File { offset } => usize::try_from(offset).ok(),
                        Pte::Present { pfn, .. } if nonlinear => Some(self.page(pfn).index()),
                        _ => vma.index(site.page),
                    };
                    let skipped = pte.is_migration() && museum::has(Bug::B39);
                    if index.is_some_and(&gone) && !skipped {
                        self.zap(&readers, vma, site, &mut gather);
                    }
                }
                readers.finish();
            }
        }
        self.flush(gather);
    }

    /// Clears one entry; a dirty bit goes to the page.
    fn zap<O: Observer>(&self, readers: &Readers<'_, Self, O>, vma: &Vma, site: Site, gather: &mut Gather) {
        self.with_entry(site, entry_vma(vma), gather, |entry| {
            // Under the entry's lock: once it is open and the entry gone, the page may move and take with it only what its flag
            // says, or be freed and be somebody else's.
            let pte = entry.read();
            if let Some(pfn) = pte.pfn().filter(|_| pte.is_present() && pte.dirty()) {
                self.dirty_page(pfn);
            }
            readers.zap(entry);
        });
    }

    /// Cuts a range out of its VMAs, changes each of them, and returns what they are now.
    pub(super) fn cut(&self, site: Site, pages: u64, mut change: impl FnMut(&mut Vma)) -> Vec<Vma> {
        let end = Vpn::new(site.page.raw().saturating_add(pages));
        let mut vmas = self.vmas.lock();
        vmas.cut(site.space, site.page, end);
        let range = vmas.range(site.space, site.page, end);
        range
            .map(|vma| {
                change(vma);
                *vma
            })
            .collect()
    }
}

//! What programs ask for of what is mapped: mlock, fork, mprotect, munmap, mremap, exit.
//!
//! Each runs under the areas' lock from its first look to its last edit, so that none sees another half done; its flush comes
//! after the lock, before it returns, and ends with the flush of what a migration left pending ([`Readers`]). An unmapping that
//! leaves more references than a gather holds goes on after a flush; meanwhile no fault maps anything there, and no fork copies what is left of it.

use migrate_core::{Entry, Readers};
use mm_types::trace::Observer;
use mm_types::{PageFlags, Pte, Site, SpaceId, VirtAddr, Vma, VmaFlags, Vpn};

use crate::areas::Areas;
use crate::gather::Gather;
use crate::held::Around;
use crate::{Barrier, Kernel, MapError, Platform};

const ACCESS: VmaFlags = VmaFlags::READ.union(VmaFlags::WRITE).union(VmaFlags::EXEC);

impl<P: Platform> Kernel<'_, P> {
    /// Locks a range in memory, or unlocks it (Linux: `mlock`, without its faulting in).
    ///
    /// # Errors
    /// [`MapError`] where the range is not one of user pages, or there is no room for the parts of areas. Nothing changed.
    pub fn lock_range(&self, space: SpaceId, start: VirtAddr, pages: u64, locked: bool) -> Result<(), MapError> {
        let (start, end) = self.paging().user_range(start, pages)?;
        let mut areas = self.areas().lock();
        areas.cut(space, start, end)?;
        let mut from = start;
        while let Some(vma) = areas.next(space, from, end) {
            from = vma.end;
            let mut flags = vma.flags;
            flags.set(VmaFlags::LOCKED, locked);
            areas.vmas.set_flags(vma.id, flags)?;
        }
        Ok(())
    }

    /// Copies a space (Linux: `dup_mmap`, `copy_page_range`); pages of private areas become copy-on-write in both. Locked areas
    /// are not locked in the child.
    ///
    /// # Errors
    /// [`MapError`] where room or memory ran out; there is no child then, and the parent's pages may have become copy-on-write.
    pub fn fork<O: Observer>(&self, parent: SpaceId, observer: O) -> Result<SpaceId, MapError> {
        let child = self.create_space(self.space(parent)?.root())?;
        let readers = Readers::begin(self, parent, observer);
        let mut gather = Gather::new();
        let copied = self.copy_areas(parent, child, &readers, &mut gather);
        self.flush_gather(&mut gather, Barrier::Fork);
        readers.finish();
        match copied {
            Ok(()) => Ok(child),
            Err(error) => {
                self.destroy_space(child, observer)?;
                Err(error)
            }
        }
    }

    fn copy_areas<O: Observer>(
        &self,
        parent: SpaceId,
        child: SpaceId,
        readers: &Readers<'_, Self, O>,
        gather: &mut Gather,
    ) -> Result<(), MapError> {
        let end = self.paging().user_end();
        let mut areas = self.areas().lock();
        self.space(parent)?.note_downgrade();
        let mut from = Vpn::new(0);
        while let Some(vma) = areas.next(parent, from, end) {
            from = vma.end;
            if vma.flags.contains(VmaFlags::DONTCOPY) {
                continue;
            }
            // Linked before its first entry is copied, and after the parent's, so that every walk finds the copies.
            let copy = Vma {
                space: child,
                flags: vma.flags.difference(VmaFlags::LOCKED),
                ..vma
            };
            areas.add_after(vma.id, copy)?;
            let mut at = vma.start;
            while let Some(page) = self.next_used(&areas, Site::new(parent, at), vma.end) {
                let sites = (Site::new(parent, page), Site::new(child, page));
                self.with_entries(&areas, sites, Around::from(&vma), gather, |from, to| {
                    readers.copy(from, to, vma.is_cow());
                })?;
                at = after(page);
            }
        }
        Ok(())
    }

    /// Changes what programs may do with a range (Linux: `mprotect`): `access` is any of READ, WRITE and EXEC. Entries lose
    /// permissions here; write permission comes back page by page, by faults.
    ///
    /// # Errors
    /// [`MapError`] where the range is not one of user pages, or there is no room for the parts of areas. Nothing changed.
    pub fn protect<O: Observer>(
        &self,
        space: SpaceId,
        start: VirtAddr,
        pages: u64,
        access: VmaFlags,
        observer: O,
    ) -> Result<(), MapError> {
        let (start, end) = self.paging().user_range(start, pages)?;
        let of = self.space(space)?;
        let readers = Readers::begin(self, space, observer);
        let mut gather = Gather::new();
        let done = (|| {
            let mut areas = self.areas().lock();
            areas.cut(space, start, end)?;
            of.note_downgrade();
            let mut from = start;
            while let Some(vma) = areas.next(space, from, end) {
                from = vma.end;
                let flags = vma.flags.difference(ACCESS) | access.intersection(ACCESS);
                areas.vmas.set_flags(vma.id, flags)?;
                let vma = Vma { flags, ..vma };
                self.each_entry(&areas, &vma, &mut gather, |entry| {
                    let pte = entry.read();
                    let anon = pte.pfn().and_then(|pfn| self.map().page(pfn));
                    let anon = anon.is_some_and(|page| page.mapping().is_anon());
                    let allow = flags.contains(VmaFlags::WRITE);
                    readers.protect(entry, allow, anon, self.profile().entries);
                    entry.refresh_attributes();
                })?;
            }
            Ok(())
        })();
        self.flush_gather(&mut gather, Barrier::Protect);
        readers.finish();
        done
    }

    /// Unmaps a range (Linux: `munmap`): its entries, migration entries among them, then its areas, then tables left empty.
    ///
    /// # Errors
    /// [`MapError`] where the range is not one of user pages, or there is no room for the parts of areas. Nothing changed.
    pub fn unmap<O: Observer>(&self, space: SpaceId, start: VirtAddr, pages: u64, observer: O) -> Result<(), MapError> {
        let range = self.paging().user_range(start, pages)?;
        self.space(space)?;
        self.unmap_pages(space, range, observer)
    }

    fn unmap_pages<O: Observer>(&self, space: SpaceId, (start, end): (Vpn, Vpn), observer: O) -> Result<(), MapError> {
        let readers = Readers::begin(self, space, observer);
        let mut gather = Gather::new();
        let mut done = Ok(false);
        while done == Ok(false) {
            done = self.unmap_part(space, (start, end), &readers, &mut gather);
            self.flush_gather(&mut gather, Barrier::Unmap);
        }
        readers.finish();
        done.map(drop)
    }

    // Unmaps as much as the gather has room for; true where that is all.
    fn unmap_part<O: Observer>(
        &self,
        space: SpaceId,
        (start, end): (Vpn, Vpn),
        readers: &Readers<'_, Self, O>,
        gather: &mut Gather,
    ) -> Result<bool, MapError> {
        let mut areas = self.areas().lock();
        areas.cut(space, start, end)?;
        while let Some(vma) = areas.next(space, start, end) {
            if !self.zap(&areas, &vma, readers, gather)? {
                retire(&mut areas, space, (start, end))?;
                return Ok(false);
            }
            // The entries are gone before the area: a walk in between finds the places empty.
            areas.remove(vma.id);
        }
        self.free_tables(&areas, space, start, end, gather);
        Ok(true)
    }

    // Clears the entries of an area; false where the gather is full before the last.
    fn zap<O: Observer>(
        &self,
        areas: &Areas<'_>,
        vma: &Vma,
        readers: &Readers<'_, Self, O>,
        gather: &mut Gather,
    ) -> Result<bool, MapError> {
        self.each_entry(areas, vma, gather, |entry| {
            let dirty = readers.zap(entry).filter(|pte| pte.is_present() && pte.dirty());
            // Somebody else's reference keeps the page alive, and its contents are wanted; else nobody sees the flag.
            let page = dirty.and_then(Pte::pfn).and_then(|pfn| self.map().page(pfn));
            if let Some(page) = page.filter(|page| page.count() > 0) {
                page.flags().edit(PageFlags::DIRTY, PageFlags::empty());
            }
        })
    }

    /// Moves a range to an empty one of the same space (Linux: `mremap`). Pages keep their indices, so the reverse map finds
    /// them at their new places.
    ///
    /// # Errors
    /// [`MapError`] where a range is not one of user pages, the two overlap, the new one is not empty, or memory ran out; what did
    /// not move by then is still at its old place, in an area.
    pub fn move_range<O: Observer>(
        &self,
        space: SpaceId,
        start: VirtAddr,
        pages: u64,
        to: VirtAddr,
        observer: O,
    ) -> Result<(), MapError> {
        let from = start;
        let (start, end) = self.paging().user_range(start, pages)?;
        let (target, target_end) = self.paging().user_range(to, pages)?;
        if start < target_end && target < end {
            return Err(MapError::RangesOverlap { from, to });
        }
        self.space(space)?;
        let readers = Readers::begin(self, space, observer);
        let mut gather = Gather::new();
        let moved = |page: Vpn| {
            let offset = page.raw().saturating_sub(start.raw());
            Vpn::new(target.raw().saturating_add(offset))
        };
        let done = (|| {
            let mut areas = self.areas().lock();
            if let Some(there) = areas.next(space, target, target_end) {
                return Err(mm_types::VmaError::Overlap(there.id).into());
            }
            areas.cut(space, start, end)?;
            while let Some(vma) = areas.next(space, start, end) {
                // The new place comes after the old one in every walk: one that passed the old place with the entries still there
                // has restored them, and one that passes it without meets them again.
                let there = Vma {
                    start: moved(vma.start),
                    end: moved(vma.end),
                    ..vma
                };
                areas.add_after(vma.id, there)?;
                self.move_entries(&areas, &vma, moved, &readers, &mut gather)?;
                areas.remove(vma.id);
            }
            self.free_tables(&areas, space, start, end, &mut gather);
            Ok(())
        })();
        self.flush_gather(&mut gather, Barrier::Move);
        readers.finish();
        done
    }

    fn move_entries<O: Observer>(
        &self,
        areas: &Areas<'_>,
        vma: &Vma,
        moved: impl Fn(Vpn) -> Vpn,
        readers: &Readers<'_, Self, O>,
        gather: &mut Gather,
    ) -> Result<(), MapError> {
        let mut at = vma.start;
        while let Some(page) = self.next_used(areas, Site::new(vma.space, at), vma.end) {
            let sites = (Site::new(vma.space, page), Site::new(vma.space, moved(page)));
            self.with_entries(areas, sites, Around::from(vma).held(), gather, |from, to| {
                readers.relocate(from, to)
            })?;
            at = after(page);
        }
        Ok(())
    }

    /// Unmaps everything in a space and frees its tables (Linux: `exit_mmap`). No CPU runs it, and none will: its number may be
    /// another space's at once.
    ///
    /// # Errors
    /// [`MapError::NoSpace`].
    pub fn destroy_space<O: Observer>(&self, id: SpaceId, observer: O) -> Result<(), MapError> {
        let space = self.space(id)?;
        self.unmap_pages(id, (Vpn::new(0), self.paging().user_end()), observer)?;
        let areas = self.areas().lock();
        areas.last_leaf.forget();
        let _structure = space.structure.exclusive();
        if let Some(root) = space.root() {
            space.release();
            self.drop_unseen_table(root);
        }
        Ok(())
    }

    // Holds each entry of an area that is not empty, in turn. False where the gather was full before the last.
    fn each_entry(
        &self,
        areas: &Areas<'_>,
        vma: &Vma,
        gather: &mut Gather,
        mut f: impl FnMut(&mut crate::held::HeldEntry<'_, '_, '_, P>),
    ) -> Result<bool, MapError> {
        let mut at = vma.start;
        while let Some(page) = self.next_used(areas, Site::new(vma.space, at), vma.end) {
            if !gather.has_room() {
                return Ok(false);
            }
            self.with_entry(areas, Site::new(vma.space, page), Around::from(vma), gather, &mut f)?;
            at = after(page);
        }
        Ok(true)
    }
}

pub(crate) fn after(page: Vpn) -> Vpn {
    Vpn::new(page.raw().saturating_add(1))
}

// Leaves areas nothing but their places in walks: faults find that they allow nothing, and a fork does not copy them.
fn retire(areas: &mut Areas<'_>, space: SpaceId, (start, end): (Vpn, Vpn)) -> Result<(), MapError> {
    let mut from = start;
    while let Some(vma) = areas.next(space, from, end) {
        from = vma.end;
        let flags = vma.flags.difference(ACCESS | VmaFlags::LOCKED) | VmaFlags::DONTCOPY;
        areas.vmas.set_flags(vma.id, flags)?;
    }
    Ok(())
}

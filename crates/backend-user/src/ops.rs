//! What a space's owner does to its mappings: unmap, protect, move.
//!
//! Each holds the areas alone, so that no walk is in progress: a migration is either before its first walk, or its entries are
//! out and are met here, as the core's [`Readers`] say. What is changed in the table is made real before the table lock
//! opens.

use core::mem::ManuallyDrop;
use core::ops::Range;
use core::sync::atomic::Ordering;
use std::sync::{Arc, RwLockWriteGuard};

use migrate_core::Readers;
use mm_types::{Backing, EntryStyle, PageFlags, Pfn, Pte, Vma, VmaFlags, Vpn};

use crate::areas::Areas;
use crate::error::MachineError;
use crate::kernel::Kernel;
use crate::mm::{Mm, State};
use crate::rmap::Slot;
use crate::spaces::{Area, Space};
use crate::sys::range::Prot;
use crate::trace::Tracer;

/// Readers of a space's entries, noting what they do where the machine records.
pub(crate) type SpaceReaders<'k> = Readers<'k, Kernel, Tracer<'k>>;

impl Kernel {
    /// Begins an operation on a space. Made before the areas are taken and dropped after them: its end takes them again.
    pub(crate) fn readers(&self, mm: &Mm) -> SpaceReaders<'_> {
        Readers::begin(self, mm.id, Tracer(self.trace.as_deref()))
    }

    /// Unmaps pages and removes them from their areas (2.6.17 `do_munmap`).
    pub(crate) fn unmap(&self, mm: &Arc<Mm>, pages: Range<usize>) -> Result<(), MachineError> {
        let readers = self.readers(mm);
        let mut areas = self.areas_mut();
        let removed = areas.remove(mm.id, Vpn::new(pages.start as u64), Vpn::new(pages.end as u64));
        let mut settled = Ok(());
        if removed.is_ok() {
            let mut state = mm.lock();
            self.zap(&readers, mm, &mut state, pages.clone());
            settled = mm.settle(self, &mut state);
            self.disown(mm, &mut state, pages.clone())?;
            state
                .placed
                .retain(|(first, n, _)| *first + *n <= pages.start || pages.end <= *first);
        }
        drop(areas);
        readers.finish();
        settled?;
        removed
    }

    /// Clears the entries of `pages`, those in flight among them (B39).
    pub(crate) fn zap(&self, readers: &SpaceReaders<'_>, mm: &Mm, state: &mut State, pages: Range<usize>) {
        for page in pages {
            if mm.read(page).is_none() {
                continue;
            }
            // The page gets the dirty bit before the entry's reference goes: after it the page may be another's.
            self.keep_dirty(mm.read(page));
            let mut slot = Slot::new(self, mm, state, page, &Vma::default());
            let _ = readers.zap(&mut slot);
        }
    }

    /// Hands an entry's dirty bit to its page, where that is a file's.
    pub(crate) fn keep_dirty(&self, pte: Pte) {
        if let Pte::Present { pfn, .. } = pte {
            let page = self.page(pfn).filter(|page| pte.dirty() && !page.mapping().is_anon());
            if let Some(page) = page {
                page.flags().edit(PageFlags::DIRTY, PageFlags::empty());
            }
        }
    }

    /// True where the frame holds an anonymous page.
    pub(crate) fn is_anon(&self, pfn: Option<Pfn>) -> bool {
        pfn.and_then(|pfn| self.page(pfn))
            .is_some_and(|page| page.mapping().is_anon())
    }
}

impl Space {
    pub(crate) fn owns(&self, area: &Area) -> Result<(), MachineError> {
        if Arc::ptr_eq(self.mm(), area.space.mm()) {
            Ok(())
        } else {
            Err(MachineError::Foreign)
        }
    }

    /// Unmaps an area; pages that nobody else has are freed.
    ///
    /// # Errors
    /// An area of another space, or no room in the tables to split areas.
    pub fn unmap(&self, area: Area) -> Result<(), MachineError> {
        self.owns(&area)?;
        self.inner.machine.kernel.unmap(self.mm(), area.range())
    }

    /// Changes what an area allows (`mprotect`). A permission given shows at the next access, by a fault.
    ///
    /// # Errors
    /// An area of another space, a protection that allows nothing, writing to a shared file opened for reading, or no room to
    /// split areas.
    pub fn protect(&self, area: &Area, prot: Prot) -> Result<(), MachineError> {
        self.owns(area)?;
        let allow_write = match prot {
            Prot::None => return Err(MachineError::NothingAllowed),
            Prot::Read => false,
            Prot::ReadWrite => true,
        };
        let kernel = &self.inner.machine.kernel;
        let (start, end) = (Vpn::new(area.first as u64), Vpn::new(area.range().end as u64));
        let readers = kernel.readers(self.mm());
        let mut areas = kernel.areas_mut();
        if allow_write {
            for vma in areas
                .vmas
                .space(self.id())
                .filter(|vma| vma.start < end && start < vma.end)
            {
                if let Backing::File(file) = vma.backing {
                    let file = areas.file(file).filter(|file| !file.writable);
                    if let Some(file) = file.filter(|_| vma.flags.contains(VmaFlags::SHARED)) {
                        return Err(MachineError::ReadOnlyFile(file.path.clone()));
                    }
                }
            }
        }
        areas.set_flags(self.id(), start, end, |flags| {
            if allow_write {
                flags | VmaFlags::WRITE
            } else {
                flags - VmaFlags::WRITE
            }
        })?;
        let style = kernel.style();
        let mut state = self.mm().lock();
        for page in area.range() {
            let pte = self.mm().read(page);
            if pte.is_none() {
                continue;
            }
            let anon = kernel.is_anon(pte.pfn());
            let mut slot = Slot::new(kernel, self.mm(), &mut state, page, &Vma::default());
            let _ = readers.protect(&mut slot, allow_write, anon, style);
        }
        let settled = self.mm().settle(kernel, &mut state);
        drop(state);
        drop(areas);
        readers.finish();
        Ok(settled?)
    }

    /// Moves an area to another place in the space, with `pages` pages: what is more is empty, what is less is unmapped
    /// (`mremap`).
    ///
    /// # Errors
    /// An area of another space or of several parts, no pages, or no room. The area is gone then, its pages are still mapped.
    pub fn remap(&self, area: Area, pages: usize) -> Result<Area, MachineError> {
        self.owns(&area)?;
        let kernel = &self.inner.machine.kernel;
        let areas = kernel.areas_mut();
        let first = self.free_pages(&areas, pages)?;
        kernel.remap(self.mm(), areas, area.range(), first..first + pages)?;
        Ok(self.area(first..first + pages))
    }
}

impl Kernel {
    /// Moves pages of a space to a free place in it; what does not fit there is unmapped.
    pub(crate) fn remap(
        &self,
        mm: &Arc<Mm>,
        mut areas: RwLockWriteGuard<'_, Areas>,
        from: Range<usize>,
        to: Range<usize>,
    ) -> Result<(), MachineError> {
        let (at, end) = (mm.site(from.start), Vpn::new(from.end as u64));
        let old = *areas.vmas.find(at).ok_or(MachineError::OutOfArea)?;
        if old.end < end {
            return Err(MachineError::OutOfArea);
        }
        // Pages keep their index, so that the reverse map finds them at the new place; and the new area comes after the old
        // one in every walk.
        let new = Vma {
            start: Vpn::new(to.start as u64),
            end: Vpn::new(to.end as u64),
            pgoff: old.index(at.page).unwrap_or(0),
            ..old
        };
        areas.add_child(&old, new)?;
        let mut state = mm.lock();
        self.own(mm, &mut state, &new)?;
        for (from, to) in from.clone().zip(to) {
            relocate(self, mm, &mut state, (from, to));
        }
        // Its end takes the areas, which are the caller's lock: never while they are held, a panic included.
        let readers = ManuallyDrop::new(self.readers(mm));
        self.zap(&readers, mm, &mut state, from.clone());
        let settled = mm.settle(self, &mut state);
        let disowned = self.disown(mm, &mut state, from);
        drop(state);
        let removed = areas.remove(mm.id, at.page, end);
        drop(areas);
        ManuallyDrop::into_inner(readers).finish();
        settled?;
        disowned?;
        removed
    }

    /// Makes the places of an area the second engine's, where that is for them: private, and without a file.
    ///
    /// # Errors
    /// The mapping limit, or what the system answers.
    pub(crate) fn own(&self, mm: &Mm, state: &mut State, vma: &Vma) -> Result<(), MachineError> {
        let Some(private) = &self.private else { return Ok(()) };
        if vma.backing != Backing::Anon || vma.flags.contains(VmaFlags::SHARED) {
            return Ok(());
        }
        let pages = vma.start.raw() as usize..vma.end.raw() as usize;
        for run in runs(pages, |page| !state.is_private(page)) {
            mm.range.own_run(run.start, run.len(), &private.uffd)?;
            state.set_private(self, run, true);
        }
        Ok(())
    }

    /// Reserves places of the second engine again, which are empty now.
    fn disown(&self, mm: &Mm, state: &mut State, pages: Range<usize>) -> Result<(), MachineError> {
        let Some(private) = &self.private else { return Ok(()) };
        for run in runs(pages, |page| state.is_private(page)) {
            mm.range.unmap_run(run.start, run.len())?;
            state.set_private(self, run.clone(), false);
            // Who waited for a page there faults again, and finds nothing.
            mm.wake(private, run);
        }
        Ok(())
    }

    /// What entries remember, under the rules that are followed now.
    fn style(&self) -> EntryStyle {
        if self.runs_2006.load(Ordering::Relaxed) == 0 {
            EntryStyle::Lossless
        } else {
            EntryStyle::Lossy
        }
    }
}

/// Returns the runs of `pages` for which `is` holds.
fn runs(pages: Range<usize>, is: impl Fn(usize) -> bool) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for page in pages.filter(|page| is(*page)) {
        match runs.last_mut().filter(|run| run.end == page) {
            Some(run) => run.end += 1,
            None => runs.push(page..page + 1),
        }
    }
    runs
}

/// Moves one entry within a table: the core's `relocate` takes two entries at a time, and here both are of one table, whose lock
/// cannot be lent twice; the order is the same: filled first, then cleared.
fn relocate(kernel: &Kernel, mm: &Mm, state: &mut State, (from, to): (usize, usize)) {
    let source = mm.read(from);
    if source.is_none() {
        return;
    }
    for (page, pte) in [(to, source), (from, Pte::None)] {
        let mut slot = Slot::new(kernel, mm, state, page, &Vma::default());
        let _ = migrate_core::Entry::update(&mut slot, &|_| Some(pte));
    }
    let (from, to) = (mm.site(from), mm.site(to));
    let tracer = Tracer(kernel.trace.as_deref());
    mm_types::trace::Observer::note(tracer, || mm_types::trace::Event::MovePte { from, to, pte: source });
}

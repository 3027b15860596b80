//! Pages that stay where they are, for as long as a system call uses them.
//!
//! A system call that is given a buffer on a page that is protected does not fault and wait, as an instruction does: it answers
//! `EFAULT`, or a short count; what a `recv` had taken off a socket by then is lost. A pinned page is there, allows what its area
//! allows, and neither moves nor is protected until the pin is gone.

use core::ops::Range;
use std::sync::Arc;

use migrate_core::{Frames, PageRef, Wait};
use mm_types::{PageFlags, Pte, Site, VmaFlags};

use crate::error::MachineError;
use crate::kernel::Kernel;
use crate::machine::Machine;
use crate::mm::Mm;
use crate::spaces::Area;

/// Pinned pages; dropping it lets them move again.
#[must_use = "the pages move again as soon as it is dropped"]
#[derive(Debug)]
pub struct PinGuard<'a> {
    kernel: &'a Kernel,
    pages: Vec<PageRef>,
    written: bool,
}

impl Machine {
    /// Brings pages of `area` in (`pages` counts from its first), and keeps them there and accessible until the guard is dropped.
    ///
    /// They can be written if the area allows it. A migration that meets them refuses with
    /// [`Refusal::Pinned`](mm_types::Refusal::Pinned). Waits for pages in flight.
    ///
    /// # Errors
    /// Pages outside the area, no frames, or a file that cannot be read. Nothing is pinned then.
    pub fn pin<'a>(&'a self, area: &'a Area, pages: Range<usize>) -> Result<PinGuard<'a>, MachineError> {
        if !Arc::ptr_eq(&self.inner, &area.space.inner.machine) {
            return Err(MachineError::Foreign);
        }
        if pages.start > pages.end || pages.end > area.pages {
            return Err(MachineError::OutOfArea);
        }
        let kernel = self.kernel();
        let mut guard = PinGuard {
            kernel,
            pages: Vec::with_capacity(pages.len()),
            written: false,
        };
        for page in pages {
            let page = area.first + page;
            let site = area.space.mm().site(page);
            let write = kernel.may_write(site)?;
            guard.written |= write;
            guard.pages.push(kernel.pin(area.space.mm(), page, write)?);
        }
        Ok(guard)
    }
}

impl Kernel {
    fn may_write(&self, site: Site) -> Result<bool, MachineError> {
        let areas = self.areas();
        let vma = areas.vmas.find(site).ok_or(MachineError::OutOfArea)?;
        Ok(vma.flags.contains(VmaFlags::WRITE))
    }

    /// Pins the page at a site; returns the pin's reference.
    fn pin(&self, mm: &Arc<Mm>, page: usize, write: bool) -> Result<PageRef, MachineError> {
        loop {
            self.fill_waiting(mm, page, write, self.options.around)?;
            let Pte::Present { pfn, .. } = mm.read(page) else {
                continue;
            };
            let Some(found) = self.get(pfn) else { continue };
            // A migration looks for pins when it has the page lock. With the lock held here, it has either not looked yet, or is
            // over and the page is at the place where we look again.
            let locked = self.lock(found);
            let pte = mm.read(page);
            let there = pte.maps(pfn) && (!write || pte.writable());
            if let Some(descriptor) = self.page(pfn).filter(|_| there) {
                descriptor.add_pin();
                // Watched pages are hidden; a pinned one may not be.
                let mut state = mm.lock();
                if state.tracking && !pte.young() {
                    self.show(mm, &mut state, page);
                }
                drop(state);
                return Ok(self.unlock(locked));
            }
            self.put(self.unlock(locked));
        }
    }
}

impl PinGuard<'_> {
    /// Returns how many pages are pinned.
    #[must_use]
    pub fn pages(&self) -> usize {
        self.pages.len()
    }
}

impl Drop for PinGuard<'_> {
    fn drop(&mut self) {
        for page in self.pages.drain(..) {
            if let Some(descriptor) = self.kernel.page(page.pfn()) {
                // What a system call wrote went through no fault.
                if self.written && !descriptor.mapping().is_anon() {
                    descriptor.flags().edit(PageFlags::DIRTY, PageFlags::empty());
                }
                descriptor.remove_pin();
            }
            self.kernel.put(page);
        }
    }
}

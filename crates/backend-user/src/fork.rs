//! Copies of spaces, and pages that several spaces share.

use std::sync::Arc;

use mm_types::{Backing, Pte, PteFlags, Vma, VmaFlags, Vpn};

use crate::error::MachineError;
use crate::fill::Place;
use crate::kernel::Kernel;
use crate::mm::{Mm, State};
use crate::rmap::Slot;
use crate::spaces::{Area, Space};
use crate::sys::range::Prot;
use crate::trace::Tracer;

impl Kernel {
    /// True for an area whose pages are the second engine's, and cannot have a second place.
    fn has_one_place(&self, vma: &Vma) -> bool {
        self.private.is_some() && vma.backing == Backing::Anon && !vma.flags.contains(VmaFlags::SHARED)
    }
}

/// True for an anonymous area whose pages several spaces may have.
fn is_shared_anon(vma: &Vma) -> bool {
    vma.backing == Backing::Anon && vma.flags.contains(VmaFlags::SHARED)
}

impl Space {
    /// Makes a space with the same areas: private pages are copied when either side writes, shared ones stay shared.
    ///
    /// The child's part of an area is [`Space::same`]. This is the fork of an emulated space; a `fork` of the process gets none of
    /// the emulated memory.
    ///
    /// # Errors
    /// No addresses, no room in the tables, or no frames for the parts that are shared and not there yet.
    pub fn fork(&self) -> Result<Self, MachineError> {
        let kernel = &self.inner.machine.kernel;
        let child = Self::new(&self.inner.machine, self.pages())?;
        let readers = kernel.readers(self.mm());
        let mut areas = kernel.areas_mut();
        let vmas: Vec<Vma> = areas.vmas.space(self.id()).copied().collect();
        if vmas.iter().any(|vma| kernel.has_one_place(vma)) {
            return Err(MachineError::OnePlace);
        }
        let mut done = Ok(());
        // A parent is older than its child, and so has the lower number: table locks are taken in that order.
        let (mut ours, mut theirs) = (self.mm().lock(), child.mm().lock());
        for vma in &vmas {
            let copied = areas.add_child(
                vma,
                Vma {
                    space: child.id(),
                    ..*vma
                },
            );
            done = copied.and_then(|copy| {
                let tables = Tables {
                    kernel,
                    parent: (self.mm(), &mut ours),
                    child: (child.mm(), &mut theirs),
                };
                tables.copy(&readers, vma, &copy)
            });
            if done.is_err() {
                break;
            }
        }
        let settled = self.mm().settle(kernel, &mut ours);
        let childs = child.mm().settle(kernel, &mut theirs);
        theirs.placed = ours.placed.clone();
        drop(theirs);
        drop(ours);
        drop(areas);
        readers.finish();
        done?;
        settled?;
        childs?;
        Ok(child)
    }

    /// Maps the pages of `area`, which is of this space, in `other` too: both see what either writes, where `prot` allows.
    ///
    /// Pages of an anonymous area that are not there yet are made; the area is shared from then on.
    ///
    /// # Errors
    /// Spaces of different machines or the same space, an area of several parts, no room, or no frames.
    pub fn share(&self, area: &Area, other: &Self, prot: Prot) -> Result<Area, MachineError> {
        self.owns(area)?;
        if !Arc::ptr_eq(&self.inner.machine, &other.inner.machine) || self.id() == other.id() {
            return Err(MachineError::Foreign);
        }
        let flags = crate::spaces::flags(prot, crate::spaces::Sharing::Shared)?;
        loop {
            self.own(area)?;
            if let Some(shared) = self.share_now(area, other, flags)? {
                return Ok(shared);
            }
        }
    }

    /// Makes every page of an anonymous area present, and this space's own: whoever has pages in common with a relative,
    /// copy-on-write, gets copies first.
    fn own(&self, area: &Area) -> Result<(), MachineError> {
        let kernel = &self.inner.machine.kernel;
        for page in area.range() {
            let found = kernel.areas().vmas.find(self.mm().site(page)).copied();
            let vma = found.ok_or(MachineError::OutOfArea)?;
            let shared = vma.flags.contains(VmaFlags::SHARED);
            if vma.backing != Backing::Anon {
                return if shared { Ok(()) } else { Err(MachineError::Denied) };
            }
            loop {
                let pte = self.mm().read(page);
                let pfn = pte.pfn().filter(|_| pte.is_present());
                let alone = pfn
                    .and_then(|pfn| kernel.page(pfn))
                    .is_some_and(|page| page.mapcount() <= 1);
                if pte.is_present() && (shared || alone || pte.writable()) {
                    break;
                }
                // Refused where the area is read-only and the page a relative's too.
                kernel.fill_waiting(self.mm(), page, pte.is_present(), 64)?;
            }
        }
        Ok(())
    }

    /// One attempt; `None` where a page was in flight or not there.
    fn share_now(&self, area: &Area, other: &Self, flags: VmaFlags) -> Result<Option<Area>, MachineError> {
        let kernel = &self.inner.machine.kernel;
        let mut areas = kernel.areas_mut();
        let at = self.mm().site(area.first);
        let vma = *areas.vmas.find(at).ok_or(MachineError::OutOfArea)?;
        if vma.end.raw() < area.range().end as u64 {
            return Err(MachineError::OutOfArea);
        }
        if kernel.has_one_place(&vma) {
            return Err(MachineError::OnePlace);
        }
        let anon = vma.backing == Backing::Anon;
        let first = other.free_pages(&areas, area.pages)?;
        let (mut ours, mut theirs);
        if self.id() < other.id() {
            ours = self.mm().lock();
            theirs = other.mm().lock();
        } else {
            theirs = other.mm().lock();
            ours = self.mm().lock();
        }
        let in_flight = |page| self.mm().read(page).is_migration();
        let missing = |page| anon && !self.mm().read(page).is_present();
        if let Some(page) = area.range().find(|page| in_flight(*page) || missing(*page)) {
            drop((ours, theirs, areas));
            if let Pte::Migration(entry) = self.mm().read(page) {
                kernel.wait_unlocked(entry.pfn());
            }
            return Ok(None);
        }
        let copy = Vma {
            space: other.id(),
            start: Vpn::new(first as u64),
            end: Vpn::new((first + area.pages) as u64),
            pgoff: vma.index(at.page).unwrap_or(0),
            flags,
            ..vma
        };
        let copy = areas.add_child(&vma, copy)?;
        if anon {
            let end = Vpn::new(area.range().end as u64);
            areas.set_flags(self.id(), at.page, end, |flags| flags | VmaFlags::SHARED)?;
        }
        for n in 0..area.pages {
            let Pte::Present { pfn, flags } = self.mm().read(area.first + n) else {
                continue;
            };
            let mut kept = flags - PteFlags::EXCLUSIVE;
            let mut source = Slot::new(kernel, self.mm(), &mut ours, area.first + n, &vma);
            let _ = migrate_core::Entry::update(&mut source, &|_| Some(Pte::present(pfn, kept)));
            // A file's page is writable where it was written through; anonymous memory where the area allows.
            let may_write = copy.flags.contains(VmaFlags::WRITE);
            kept.set(PteFlags::WRITE, anon && may_write);
            let mut target = Slot::new(kernel, other.mm(), &mut theirs, first + n, &copy);
            let _ = migrate_core::Entry::update(&mut target, &|_| Some(Pte::present(pfn, kept - PteFlags::DIRTY)));
        }
        let settled = self.mm().settle(kernel, &mut ours);
        let others = other.mm().settle(kernel, &mut theirs);
        drop((ours, theirs, areas));
        settled?;
        others?;
        Ok(Some(other.area(first..first + area.pages)))
    }
}

/// Both tables of a fork, locked.
struct Tables<'f> {
    kernel: &'f Kernel,
    parent: (&'f Arc<Mm>, &'f mut State),
    child: (&'f Arc<Mm>, &'f mut State),
}

impl Tables<'_> {
    /// Copies the entries of one area (2.6.17 `copy_page_range`).
    fn copy(self, readers: &crate::ops::SpaceReaders<'_>, vma: &Vma, copy: &Vma) -> Result<(), MachineError> {
        let Self { kernel, parent, child } = self;
        let pages = vma.start.raw() as usize..vma.end.raw() as usize;
        if is_shared_anon(vma) {
            let mut place = Place {
                kernel,
                space: parent.0,
                vma,
                state: parent.1,
                tracer: Tracer(kernel.trace.as_deref()),
            };
            place.complete(pages.clone())?;
        }
        let cow = vma.is_cow();
        for page in pages {
            let pte = parent.0.read(page);
            if pte.is_none() {
                continue;
            }
            let pinned = pte
                .pfn()
                .filter(|_| cow && pte.is_present() && kernel.is_anon(pte.pfn()));
            let pinned = pinned.filter(|pfn| kernel.page(*pfn).is_some_and(|page| page.pins() > 0));
            if let Some(pfn) = pinned {
                // A system call may be writing to it: the parent keeps the page, and the right to write it (5.9).
                let mut place = Place {
                    kernel,
                    space: child.0,
                    vma: copy,
                    state: child.1,
                    tracer: Tracer(kernel.trace.as_deref()),
                };
                place.copy(page, pfn)?;
                continue;
            }
            // In flight, and perhaps readable because it had one site: now it has two.
            if pte.is_migration() {
                parent.1.unsettled(page, true);
            }
            let mut from = Slot::new(kernel, parent.0, parent.1, page, vma);
            let mut to = Slot::new(kernel, child.0, child.1, page, copy);
            readers.copy(&mut from, &mut to, cow);
        }
        Ok(())
    }
}

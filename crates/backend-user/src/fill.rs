//! Making a page accessible: the demand fault, the first write, the copy on write.
//!
//! Runs on the fault server, and on threads that want pages there before anybody touches them. Holds the areas, so that
//! what the area says stays true meanwhile, and the table lock of the space.

use core::ops::Range;
use std::sync::Arc;

use migrate_core::{Entry, Frames as _, Lru as _, PageRef};
use mm_types::trace::{Event, Observer};
use mm_types::{Backing, Mapping, PageFlags, Pfn, Pte, PteFlags, Vma, VmaFlags};

use crate::error::MachineError;
use crate::kernel::Kernel;
use crate::mm::{Mm, State};
use crate::rmap::Slot;
use crate::stats::Kind;
use crate::trace::Tracer;

/// Pages that are shown together where mappings are scarce.
const SHOWN_TOGETHER: usize = 64;

/// What became of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filled {
    /// The access goes through now.
    Accessible,
    /// The page is locked: try again when it is not.
    Busy(Pfn),
}

/// A page of a space whose areas and table are held.
pub(crate) struct Place<'p> {
    pub(crate) kernel: &'p Kernel,
    pub(crate) space: &'p Mm,
    pub(crate) vma: &'p Vma,
    pub(crate) state: &'p mut State,
    pub(crate) tracer: Tracer<'p>,
}

impl Kernel {
    /// Makes `page` accessible, for writing where asked, with up to `around` neighbours that are missing too.
    ///
    /// # Errors
    /// The area does not allow it or is not there, no frame, a file that cannot be read, or the limit of mappings.
    pub(crate) fn fill(
        &self,
        space: &Arc<Mm>,
        page: usize,
        write: bool,
        around: usize,
    ) -> Result<Filled, MachineError> {
        self.fill_noting(space, page, write, around, Tracer(self.trace.as_deref()))
    }

    /// As [`fill`](Self::fill), telling `tracer` what was mapped.
    pub(crate) fn fill_noting(
        &self,
        space: &Arc<Mm>,
        page: usize,
        write: bool,
        around: usize,
        tracer: Tracer<'_>,
    ) -> Result<Filled, MachineError> {
        let areas = self.areas();
        let vma = *areas.vmas.find(space.site(page)).ok_or(MachineError::Denied)?;
        let needs = if write { VmaFlags::WRITE } else { VmaFlags::READ };
        if !vma.flags.contains(needs) {
            return Err(MachineError::Denied);
        }
        let mut state = space.lock();
        let mut place = Place {
            kernel: self,
            space,
            vma: &vma,
            state: &mut state,
            tracer,
        };
        let filled = match (space.read(page), vma.backing) {
            (Pte::Migration(entry), _) => Ok(Filled::Busy(entry.pfn())),
            (Pte::Present { .. }, _) => place.present(page, write),
            (Pte::None, Backing::Anon) => {
                self.faults.count(Kind::Demand);
                place.zeroed(page, around)
            }
            (Pte::None, Backing::File(file)) => {
                self.faults.count(Kind::Demand);
                let file = areas.file(file).ok_or(MachineError::Denied)?;
                place.map_around(file, page, write, around)
            }
            _ => Err(MachineError::Denied),
        };
        let settled = space.settle(self, &mut state);
        // What could not be done for other pages of the space is not this access's affair.
        let settled = settled.or_else(|error| if state.is_settled(page) { Ok(()) } else { Err(error) });
        drop(state);
        drop(areas);
        settled?;
        filled
    }

    /// As [`fill`](Self::fill), and waits for pages that are locked.
    pub(crate) fn fill_waiting(
        &self,
        space: &Arc<Mm>,
        page: usize,
        write: bool,
        around: usize,
    ) -> Result<(), MachineError> {
        while let Filled::Busy(pfn) = self.fill(space, page, write, around)? {
            self.wait_unlocked(pfn);
        }
        Ok(())
    }
}

impl Place<'_> {
    /// Fills every missing page of `pages` of a shared anonymous area: once a second space maps it, no page of it may be missing
    /// in one and there in the other.
    pub(crate) fn complete(&mut self, pages: Range<usize>) -> Result<(), MachineError> {
        for page in pages {
            if self.space.read(page).is_none() {
                self.zeroed_one(page)?;
            }
        }
        Ok(())
    }

    pub(crate) fn slot(&mut self, page: usize) -> Slot<'_> {
        Slot::new(self.kernel, self.space, self.state, page, self.vma)
    }

    pub(crate) fn set(&mut self, page: usize, pte: Pte) {
        let _ = self.slot(page).update(&|_| Some(pte));
    }

    /// Maps a page where nothing was, and says so.
    pub(crate) fn map(&mut self, page: usize, pte: Pte) {
        self.set(page, pte);
        let site = self.space.site(page);
        self.tracer.note(|| Event::Map { site, after: pte });
    }

    /// What every mapping made now has: it was used, where use is watched.
    pub(crate) fn young(&self) -> PteFlags {
        if self.state.tracking {
            PteFlags::YOUNG
        } else {
            PteFlags::empty()
        }
    }

    pub(crate) fn may_write(&self) -> bool {
        self.vma.flags.contains(VmaFlags::WRITE)
    }

    pub(crate) fn shared(&self) -> bool {
        self.vma.flags.contains(VmaFlags::SHARED)
    }

    /// The entry is there, and did not suffice when the access was made.
    fn present(&mut self, page: usize, write: bool) -> Result<Filled, MachineError> {
        let Pte::Present { pfn, flags } = self.space.read(page) else {
            return Ok(Filled::Accessible);
        };
        let used = flags | self.young();
        if self.state.tracking && !self.kernel.has_room(SHOWN_TOGETHER) {
            self.show_around(page);
        }
        // Whatever the entry says, the mapping is looked at again.
        self.state.unsettled(page, false);
        if !write || Pte::present(pfn, flags).writable() {
            let dirty = if write { PteFlags::DIRTY } else { PteFlags::empty() };
            if used | dirty != flags {
                self.set(page, Pte::present(pfn, used | dirty));
            }
            return Ok(Filled::Accessible);
        }
        self.kernel.faults.count(Kind::Write);
        let Some(descriptor) = self.kernel.page(pfn) else {
            return Err(MachineError::Denied);
        };
        // The lock keeps migrations out: one that is under way has sites whose entries do not count as mappings, and must not
        // see a writable site beside one that still shows the old frame. The reference keeps the page while we hold its lock.
        if !descriptor.flags().try_lock() {
            return Ok(Filled::Busy(pfn));
        }
        descriptor.get();
        let writable = used | PteFlags::WRITE | PteFlags::DIRTY;
        let done = match descriptor.mapping() {
            _ if self.shared() => {
                if !descriptor.mapping().is_anon() {
                    descriptor.flags().edit(PageFlags::DIRTY, PageFlags::empty());
                }
                self.set(page, Pte::present(pfn, writable));
                Ok(Filled::Accessible)
            }
            // The last who shared it: nobody else maps it, and nobody can begin to while it is locked.
            Mapping::Anon(_) if flags.contains(PteFlags::EXCLUSIVE) || descriptor.mapcount() == 1 => {
                self.set(page, Pte::present(pfn, writable | PteFlags::EXCLUSIVE));
                Ok(Filled::Accessible)
            }
            _ => self.copy(page, pfn),
        };
        self.kernel.unlock_page(descriptor);
        self.kernel.put(PageRef::counted(pfn));
        done
    }

    /// Shows a whole neighbourhood as used: near the limit of mappings, single pages cannot be told apart any more.
    fn show_around(&mut self, page: usize) {
        let first = page - page % SHOWN_TOGETHER;
        for near in first..(first + SHOWN_TOGETHER).min(self.space.pages()) {
            if let Pte::Present { pfn, flags } = self.space.read(near) {
                self.set(near, Pte::present(pfn, flags | PteFlags::YOUNG));
            }
        }
    }

    /// Copies a page for this space alone.
    pub(crate) fn copy(&mut self, page: usize, from: Pfn) -> Result<Filled, MachineError> {
        let new = self.new_anon(page, |kernel, new| kernel.copy_shared(from, new))?;
        let flags = PteFlags::WRITE | PteFlags::DIRTY | PteFlags::EXCLUSIVE | self.young();
        self.put_new(page, new, flags);
        Ok(Filled::Accessible)
    }

    /// Fills `page`, and neighbours around it that are missing too, with zeroes.
    fn zeroed(&mut self, page: usize, around: usize) -> Result<Filled, MachineError> {
        self.kernel.own(self.space, self.state, self.vma)?;
        for page in self.missing(page, around) {
            self.zeroed_one(page)?;
        }
        Ok(Filled::Accessible)
    }

    pub(crate) fn zeroed_one(&mut self, page: usize) -> Result<(), MachineError> {
        let new = self.new_anon(page, Kernel::zero)?;
        let mut flags = self.young();
        if self.may_write() {
            flags |= PteFlags::WRITE;
        }
        if !self.shared() && self.kernel.options.exclusive {
            flags |= PteFlags::EXCLUSIVE;
        }
        self.put_new(page, new, flags);
        Ok(())
    }

    /// Returns the aligned window of `around` pages around `page`, as far as its pages are missing and of the same area.
    pub(crate) fn missing(&self, page: usize, around: usize) -> Vec<usize> {
        let around = around.max(1);
        let start = page - page % around;
        let first = (self.vma.start.raw() as usize).max(start);
        let end = (self.vma.end.raw() as usize).min(start + around);
        let mut pages = vec![page];
        pages.extend((first..end).filter(|p| *p != page && self.space.read(*p).is_none()));
        pages.sort_unstable();
        pages
    }

    /// Makes a new anonymous page for `page`, with contents that `fill` writes.
    fn new_anon(&mut self, page: usize, fill: impl FnOnce(&Kernel, Pfn)) -> Result<PageRef, MachineError> {
        let kernel = self.kernel;
        let pfn = self.frame_for(page).ok_or(MachineError::NoFrame)?;
        let new = kernel.new_page(pfn).ok_or(MachineError::NoFrame)?;
        if let Err(error) = kernel.claim(pfn, self.state.is_private(page)) {
            kernel.put(new);
            return Err(error.into());
        }
        fill(kernel, pfn);
        if let (Some(descriptor), Some(root)) = (kernel.page(pfn), self.vma.anon_vma) {
            descriptor.set_mapping(Mapping::Anon(root));
            descriptor.set_index(self.vma.index(mm_types::Vpn::new(page as u64)).unwrap_or(0));
            descriptor.flags().edit(PageFlags::UPTODATE, PageFlags::empty());
        }
        Ok(new)
    }

    /// Maps a new page and puts it on the LRU; the caller's reference goes.
    fn put_new(&mut self, page: usize, new: PageRef, flags: PteFlags) {
        self.map(page, Pte::present(new.pfn(), flags));
        self.kernel.putback(new);
    }

    /// Takes a frame: on the preferred node where the area's pages were to be, beside a neighbour's, or any; else elsewhere.
    fn frame_for(&self, page: usize) -> Option<Pfn> {
        let placed = self
            .state
            .placed
            .iter()
            .find(|(first, n, _)| (*first..*first + *n).contains(&page));
        let planned = placed.map(|(first, _, pfn)| Pfn::new(pfn.raw() + (page - first) as u64));
        let beside = page.checked_sub(1).and_then(|before| match self.space.read(before) {
            Pte::Present { pfn, .. } => Some(Pfn::new(pfn.raw() + 1)),
            _ => None,
        });
        let kernel = self.kernel;
        // The node that is preferred now comes first: an area may have been planned, or begun, when it was another.
        let mut wanted = [planned, beside]
            .into_iter()
            .flatten()
            .filter(|pfn| kernel.prefers(*pfn));
        let wanted = wanted.find(|pfn| kernel.take_at(*pfn));
        wanted.or_else(|| kernel.take_frames(1).map(|(pfn, _)| pfn))
    }
}

impl Kernel {
    /// Clears a new page.
    fn zero(&self, pfn: Pfn) {
        if let Some(slot) = self.slot_of_frame(pfn) {
            // SAFETY: the frame was just taken and claimed: its slot has memory, and nobody else knows it.
            unsafe { slot.write_bytes(0, mm_types::PAGE_SIZE) };
            return;
        }
        if let Some((node, frame)) = self.frame(pfn) {
            // SAFETY: the frame was just taken and is mapped nowhere: nobody else knows it.
            let filled = unsafe { node.fill(frame, 0) };
            debug_assert!(filled.is_ok());
        }
    }

    /// Copies a page that others may be writing through shared mappings of a file: the copy is from some moment in between.
    pub(crate) fn copy_shared(&self, from: Pfn, to: Pfn) {
        if let (Some((source, at)), Some((target, into))) = (self.frame(from), self.frame(to)) {
            let copied = source.copy_frame_shared(at, target, into);
            debug_assert!(copied.is_ok());
        }
    }
}

//! Spaces and areas, as a program holds them.

use core::ops::Range;
use core::sync::atomic::AtomicU64;
use std::sync::Arc;

use mm_types::{PAGE_SIZE, Pte, Site, SpaceId, Vma, VmaFlags, Vpn};

use crate::areas::Areas;
use crate::error::MachineError;
use crate::files::MappedFile;
use crate::handler::Handler;
use crate::machine::{Inner, Machine};
use crate::mm::Mm;
use crate::sys::fault::{self, Registration};
use crate::sys::range::Prot;

/// Whether writes are seen by every mapper, or are the writer's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sharing {
    /// A fork copies on write; writes to a file's page stay in memory and in this space.
    Private,
    /// Every space that maps the page sees what any of them writes.
    Shared,
}

/// An emulated address space: a range of this process, with areas mapped in it. Cheap to clone.
///
/// It ends when the last clone and the last [`Area`] of it are gone.
#[derive(Clone, Debug)]
pub struct Space {
    pub(crate) inner: Arc<Owner>,
}

/// A registered space; unmaps everything when dropped.
#[derive(Debug)]
pub(crate) struct Owner {
    pub(crate) mm: Arc<Mm>,
    registration: Option<Registration>,
    pub(crate) machine: Arc<Inner>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        let kernel = &self.machine.kernel;
        let _ = kernel.unmap(&self.mm, 0..self.mm.pages());
        kernel.areas_mut().leave(self.mm.id);
        kernel.mappings_changed(self.mm.lock().edges + 1, 0);
        // The handler's reference goes with it, and with the last one the range.
        self.registration = None;
    }
}

impl Space {
    pub(crate) fn new(machine: &Arc<Inner>, pages: usize) -> Result<Self, MachineError> {
        if pages == 0 {
            return Err(MachineError::NoPages);
        }
        let kernel = &machine.kernel;
        let mut areas = kernel.areas_mut();
        let mm = Arc::new(Mm::new(areas.next_space(), pages, kernel.options.learn_dirty)?);
        let handler = Arc::new(Handler {
            kernel: kernel.clone(),
            space: mm.clone(),
        });
        let registration = fault::register(mm.range.addresses(), handler)?;
        areas.enter(mm.clone());
        drop(areas);
        kernel.mappings_changed(0, 1);
        Ok(Self {
            inner: Arc::new(Owner {
                mm,
                registration: Some(registration),
                machine: machine.clone(),
            }),
        })
    }

    pub(crate) fn mm(&self) -> &Arc<Mm> {
        &self.inner.mm
    }

    /// Returns the space's number, as traces name it.
    #[must_use]
    pub fn id(&self) -> SpaceId {
        self.mm().id
    }

    /// Returns how many pages the range has.
    #[must_use]
    pub fn pages(&self) -> usize {
        self.mm().pages()
    }

    /// Returns how many pages are resident, those in flight among them.
    #[must_use]
    pub fn resident(&self) -> usize {
        self.mm().lock().resident
    }

    /// Returns the machine.
    #[must_use]
    pub fn machine(&self) -> Machine {
        Machine {
            inner: self.inner.machine.clone(),
        }
    }

    /// Returns the entry at a page of the space, as it is now.
    #[must_use]
    pub fn entry(&self, page: usize) -> Pte {
        self.mm().read(page)
    }

    /// Maps `pages` pages of memory that is all zero until written; a page takes a frame when it is first touched.
    ///
    /// # Errors
    /// No pages, no room, or a protection that allows nothing.
    pub fn map_anonymous(&self, pages: usize, prot: Prot, sharing: Sharing) -> Result<Area, MachineError> {
        let flags = flags(prot, sharing)?;
        let kernel = &self.inner.machine.kernel;
        let mut areas = kernel.areas_mut();
        let first = self.free_pages(&areas, pages)?;
        let (start, end) = (Vpn::new(first as u64), Vpn::new((first + pages) as u64));
        let vma = areas.add(Vma::anon(self.id(), start, end, flags))?;
        // Before anybody can touch it: a system call does not fault where nothing is mapped.
        if let Err(error) = kernel.own(self.mm(), &mut self.mm().lock(), &vma) {
            areas.remove(self.id(), start, end)?;
            return Err(error);
        }
        drop(areas);
        if let Some(pfn) = kernel.place(first, pages) {
            self.mm().lock().placed.push((first, pages, pfn));
        }
        Ok(self.area(first..first + pages))
    }

    /// Maps `pages` pages of `file` from its page `first_page` on.
    ///
    /// # Errors
    /// No pages, no room, another machine's file, or a shared writable mapping of a file opened for reading.
    pub fn map_file(
        &self,
        file: &MappedFile,
        first_page: usize,
        pages: usize,
        prot: Prot,
        sharing: Sharing,
    ) -> Result<Area, MachineError> {
        if !Arc::ptr_eq(&file.machine, &self.inner.machine) {
            return Err(MachineError::Foreign);
        }
        let flags = flags(prot, sharing)?;
        if flags.contains(VmaFlags::SHARED | VmaFlags::WRITE) && !file.cached.writable {
            return Err(MachineError::ReadOnlyFile(file.cached.path.clone()));
        }
        let mut areas = self.inner.machine.kernel.areas_mut();
        let first = self.free_pages(&areas, pages)?;
        let (start, end) = (Vpn::new(first as u64), Vpn::new((first + pages) as u64));
        areas.add(Vma::file(self.id(), start, end, flags, file.cached.id, first_page))?;
        Ok(self.area(first..first + pages))
    }

    /// Returns the first of `pages` free neighbouring pages.
    pub(crate) fn free_pages(&self, areas: &Areas, pages: usize) -> Result<usize, MachineError> {
        if pages == 0 {
            return Err(MachineError::NoPages);
        }
        let full = MachineError::SpaceFull(pages);
        let mut first = 0usize;
        for vma in areas.vmas.space(self.id()) {
            if vma.start.raw() >= (first as u64).saturating_add(pages as u64) {
                break;
            }
            first = usize::try_from(vma.end.raw()).unwrap_or(usize::MAX);
        }
        let fits = first.checked_add(pages).is_some_and(|end| end <= self.pages());
        if fits { Ok(first) } else { Err(full) }
    }

    pub(crate) fn area(&self, pages: Range<usize>) -> Area {
        Area {
            space: self.clone(),
            first: pages.start,
            pages: pages.len(),
        }
    }

    /// Returns the pages of this space at which `area` is in another: in a fork's child, the child's copy of it.
    ///
    /// # Errors
    /// They lie outside the space.
    pub fn same(&self, area: &Area) -> Result<Area, MachineError> {
        let end = area.first + area.pages;
        if end > self.pages() {
            return Err(MachineError::OutOfArea);
        }
        Ok(self.area(area.first..end))
    }

    /// Checks, for tests, that the range agrees with every entry.
    ///
    /// # Errors
    /// The first page that does not, in words.
    #[doc(hidden)]
    pub fn check(&self) -> Result<(), String> {
        self.mm().lock().check(self.mm())
    }
}

/// Returns an area's flags.
pub(crate) fn flags(prot: Prot, sharing: Sharing) -> Result<VmaFlags, MachineError> {
    let mut flags = VmaFlags::READ | VmaFlags::MAYREAD | VmaFlags::MAYWRITE;
    match prot {
        Prot::None => return Err(MachineError::NothingAllowed),
        Prot::Read => {}
        Prot::ReadWrite => flags |= VmaFlags::WRITE,
    }
    if sharing == Sharing::Shared {
        flags |= VmaFlags::SHARED;
    }
    Ok(flags)
}

/// Pages mapped in a space. Any thread may use them while they move.
///
/// Dropping it leaves them mapped; [`Space::unmap`] takes it back.
#[derive(Debug)]
pub struct Area {
    pub(crate) space: Space,
    pub(crate) first: usize,
    pub(crate) pages: usize,
}

impl Area {
    /// Returns the space it is in.
    #[must_use]
    pub const fn space(&self) -> &Space {
        &self.space
    }

    /// Returns the first page, within its space.
    #[must_use]
    pub const fn first(&self) -> Vpn {
        Vpn::new(self.first as u64)
    }

    /// Returns how many pages it has.
    #[must_use]
    pub const fn pages(&self) -> usize {
        self.pages
    }

    pub(crate) const fn range(&self) -> Range<usize> {
        self.first..self.first + self.pages
    }

    /// Returns the first byte. Valid as long as the area, for what its protection allows.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        self.space.mm().range.as_ptr().wrapping_add(self.first * PAGE_SIZE)
    }

    /// Returns the memory, as words that any thread may load and store while the pages move.
    ///
    /// A store to an area that does not allow it ends the process, as everywhere.
    #[must_use]
    pub fn words(&self) -> &[AtomicU64] {
        // SAFETY: the pages lie in the space's range, which stays mapped as long as the space, which the area holds. Pages that
        // are not accessible now become so by a fault. Frames are all zero or hold what was written: any bytes are words. All
        // other accesses are by words, or by the copy that nobody's store can overlap.
        unsafe { core::slice::from_raw_parts(self.as_ptr().cast::<AtomicU64>(), self.pages * PAGE_SIZE / 8) }
    }

    /// Returns the words of one page; empty for a page that it does not have.
    #[must_use]
    pub fn page(&self, page: usize) -> &[AtomicU64] {
        let words = PAGE_SIZE / 8;
        let start = page.checked_mul(words);
        let run = start.and_then(|start| self.words().get(start..start.checked_add(words)?));
        run.unwrap_or_default()
    }

    /// Names each of its pages.
    pub fn sites(&self) -> impl Iterator<Item = Site> + use<> {
        let (space, range) = (self.space.id(), self.range());
        range.map(move |page| Site::new(space, Vpn::new(page as u64)))
    }

    /// Brings every page in that is not there yet.
    ///
    /// # Errors
    /// No frames, or a file that cannot be read; some pages may be there then.
    pub fn populate(&self) -> Result<(), MachineError> {
        let kernel = &self.space.inner.machine.kernel;
        let mut page = self.first;
        while page < self.first + self.pages {
            if self.space.mm().read(page).is_none() {
                kernel.fill_waiting(self.space.mm(), page, false, 512)?;
            }
            page += 1;
        }
        Ok(())
    }
}

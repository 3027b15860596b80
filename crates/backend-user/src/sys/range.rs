//! A range of the process's addresses in which pages are mapped: what an emulated address space looks like to a thread.
//!
//! The range is reserved inaccessible. Runs of neighbouring pages are mapped, protected and unmapped by one system call each,
//! and each is atomic for the threads that touch the pages: they see the run before or after (`mmap(2)`, `MAP_FIXED`).
//! When [`protect_run`](PageRange::protect_run) has returned, no CPU has a translation left that allows more.

use core::ffi::c_void;
use core::ops::Range;
use core::ptr;
use std::os::fd::{AsRawFd, BorrowedFd};

use mm_types::PAGE_SIZE;

use super::arena::advise;
use super::error::MapError;
use super::fork::NotInChild;
use super::node::HUGE;
use super::uffd::Uffd;

/// What a mapping allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prot {
    /// Every access faults.
    None,
    /// Writes fault.
    Read,
    /// Nothing faults.
    ReadWrite,
}

impl Prot {
    const fn bits(self) -> i32 {
        match self {
            Self::None => libc::PROT_NONE,
            Self::Read => libc::PROT_READ,
            Self::ReadWrite => libc::PROT_READ | libc::PROT_WRITE,
        }
    }
}

const RESERVED: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;

/// A reserved range of addresses.
///
/// Hands out raw pointers only, never references: other threads and other ranges reach the same frames. Which accesses
/// are allowed, and what they fault into, is known to the layer above.
///
/// # Invariants
/// 1. `start..start + pages * PAGE_SIZE` is this object's own: reserved by it, and always mapped with something.
#[derive(Debug)]
pub struct PageRange {
    not_in_child: Option<NotInChild>,
    start: *mut u8,
    pages: usize,
}

// SAFETY: the range is a set of addresses; the methods make one system call each on them, which the kernel orders.
unsafe impl Send for PageRange {}
// SAFETY: as for Send; no method touches the memory itself.
unsafe impl Sync for PageRange {}

impl PageRange {
    /// Reserves `pages` pages, all inaccessible.
    ///
    /// # Errors
    /// The mapping limit, a size that does not fit, or what `mmap` answers. An empty range is out of range.
    pub fn reserve(pages: usize) -> Result<Self, MapError> {
        if pages == 0 {
            return Err(MapError::OutOfRange { page: 0, pages, len: 0 });
        }
        let len = pages
            .checked_mul(PAGE_SIZE)
            .filter(|&l| isize::try_from(l).is_ok())
            .ok_or(MapError::TooLarge)?;
        // A range that can hold a large page begins where one may lie.
        let align = if pages >= HUGE { HUGE * PAGE_SIZE } else { PAGE_SIZE };
        let room = len.checked_add(align).ok_or(MapError::TooLarge)?;
        // SAFETY: the kernel picks a free place; no memory in use is touched.
        let got = unsafe { libc::mmap(ptr::null_mut(), room, libc::PROT_NONE, RESERVED, -1, 0) };
        if got == libc::MAP_FAILED {
            return Err(MapError::last("mmap"));
        }
        let before = got.addr().next_multiple_of(align) - got.addr();
        let start = got.wrapping_byte_add(before);
        for (at, len) in [(got, before), (start.wrapping_byte_add(len), align - before)] {
            if len != 0 {
                // SAFETY: a part of the room just made, outside of what is kept. Cutting off an end needs no mapping more.
                let _ = unsafe { libc::munmap(at, len) };
            }
        }
        // INVARIANT 1: just reserved; every later change maps something over it.
        let mut range = Self {
            not_in_child: None,
            start: start.cast(),
            pages,
        };
        range.not_in_child = Some(NotInChild::enter(range.addresses())?);
        Ok(range)
    }

    /// Returns the first byte of the range.
    #[must_use]
    pub const fn as_ptr(&self) -> *mut u8 {
        self.start
    }

    /// Returns how many pages the range has.
    #[must_use]
    pub const fn pages(&self) -> usize {
        self.pages
    }

    /// Returns the addresses of the range.
    #[must_use]
    pub fn addresses(&self) -> Range<usize> {
        let start = self.start.expose_provenance();
        start..start + self.pages * PAGE_SIZE
    }

    /// Returns the page that holds `addr`, or `None` outside the range.
    #[must_use]
    pub fn page_of(&self, addr: usize) -> Option<usize> {
        self.addresses()
            .contains(&addr)
            .then(|| (addr - self.start.addr()) / PAGE_SIZE)
    }

    fn run(&self, page: usize, n: usize) -> Result<(*mut c_void, usize), MapError> {
        let inside = n != 0 && page.checked_add(n).is_some_and(|end| end <= self.pages);
        if !inside {
            return Err(MapError::OutOfRange {
                page,
                pages: n,
                len: self.pages,
            });
        }
        // SAFETY: the page lies in the range, so the offset stays inside one mapping's worth of addresses.
        let at = unsafe { self.start.add(page * PAGE_SIZE) };
        Ok((at.cast(), n * PAGE_SIZE))
    }

    /// Maps the `n` frames of `fd` from `frame` on over the pages from `page` on: one `mmap(MAP_SHARED | MAP_FIXED)`.
    ///
    /// Threads see the old frames until they see the new ones: there is no moment with neither. `populate`: the translations are
    /// made now, rather than by a fault each (`MAP_POPULATE`).
    ///
    /// # Errors
    /// The mapping limit (the run splits a mapping), a run outside the range, or what `mmap` answers; nothing was changed.
    pub fn map_run(
        &self,
        page: usize,
        n: usize,
        fd: BorrowedFd<'_>,
        frame: usize,
        prot: Prot,
        populate: bool,
    ) -> Result<(), MapError> {
        let (at, len) = self.run(page, n)?;
        let offset = frame.checked_mul(PAGE_SIZE).and_then(|o| libc::off_t::try_from(o).ok());
        let offset = offset.ok_or(MapError::TooLarge)?;
        let flags = libc::MAP_SHARED | libc::MAP_FIXED | if populate { libc::MAP_POPULATE } else { 0 };
        // SAFETY: the run is part of the range, which is ours (invariant 1) and has no references into it.
        let got = unsafe { libc::mmap(at, len, prot.bits(), flags, fd.as_raw_fd(), offset) };
        if got == libc::MAP_FAILED {
            Err(MapError::last("mmap"))
        } else {
            Ok(())
        }
    }

    /// Changes what `n` pages from `page` on allow: one `mprotect`.
    ///
    /// On return every CPU's stale translations of the run are gone.
    ///
    /// # Errors
    /// The mapping limit (the run splits a mapping), a run outside the range, or what `mprotect` answers. A run that covers
    /// several mappings may then be changed in part, from its start; asking again, or for the old protection, is safe.
    pub fn protect_run(&self, page: usize, n: usize, prot: Prot) -> Result<(), MapError> {
        let (at, len) = self.run(page, n)?;
        // SAFETY: the run is part of the range, which is ours (invariant 1) and has no references into it.
        let rc = unsafe { libc::mprotect(at, len, prot.bits()) };
        if rc == 0 {
            Ok(())
        } else {
            Err(MapError::last("mprotect"))
        }
    }

    /// Makes `n` pages from `page` on private anonymous memory, all missing, which waits for whoever brings pages in by `uffd`.
    ///
    /// The mapping is not given to children of the process: its pages would be theirs too, and not move any more.
    ///
    /// # Errors
    /// The mapping limit, a run outside the range, or what `mmap`, `madvise` and `UFFDIO_REGISTER` answer.
    pub fn own_run(&self, page: usize, n: usize, uffd: &Uffd) -> Result<(), MapError> {
        let (at, len) = self.run(page, n)?;
        let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, RESERVED | libc::MAP_FIXED);
        // SAFETY: the run is part of the range, which is ours (invariant 1) and has no references into it.
        let got = unsafe { libc::mmap(at, len, prot, flags, -1, 0) };
        if got == libc::MAP_FAILED {
            return Err(MapError::last("mmap"));
        }
        advise(at, len, libc::MADV_DONTFORK)?;
        uffd.register(at.cast(), n, true)
    }

    /// Makes `n` pages from `page` on reserved and inaccessible again: one anonymous `mmap`.
    ///
    /// # Errors
    /// The mapping limit (the run splits a mapping), a run outside the range, or what `mmap` answers; nothing was changed.
    pub fn unmap_run(&self, page: usize, n: usize) -> Result<(), MapError> {
        let (at, len) = self.run(page, n)?;
        // SAFETY: the run is part of the range, which is ours (invariant 1) and has no references into it.
        let got = unsafe { libc::mmap(at, len, libc::PROT_NONE, RESERVED | libc::MAP_FIXED, -1, 0) };
        if got == libc::MAP_FAILED {
            Err(MapError::last("mmap"))
        } else {
            Ok(())
        }
    }
}

impl Drop for PageRange {
    fn drop(&mut self) {
        // Out of the fork table first: once unmapped, the addresses may be somebody else's.
        self.not_in_child = None;
        // SAFETY: the range is ours (invariant 1) and nobody may use its pointers after the object.
        let rc = unsafe { libc::munmap(self.start.cast(), self.pages * PAGE_SIZE) };
        // At the mapping limit an unmap that splits a neighbour fails; the addresses then stay reserved, which harms nobody.
        debug_assert!(rc == 0 || MapError::last("munmap").is_mapping_limit());
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use mm_types::NodeId;

    use super::*;
    use crate::sys::node::NodeMemory;

    #[test]
    fn a_run_outside_the_range_is_refused() {
        let r = PageRange::reserve(4).unwrap();
        for (page, pages) in [(0, 5), (4, 1), (2, usize::MAX), (0, 0)] {
            assert_eq!(
                r.unmap_run(page, pages),
                Err(MapError::OutOfRange { page, pages, len: 4 })
            );
        }
        assert!(matches!(PageRange::reserve(0), Err(MapError::OutOfRange { .. })));
        assert_eq!(PageRange::reserve(usize::MAX).err(), Some(MapError::TooLarge));
    }

    #[test]
    fn two_ranges_see_the_same_frames() {
        let node = NodeMemory::new(NodeId::new(0), 8, None).unwrap();
        let (a, b) = (PageRange::reserve(4).unwrap(), PageRange::reserve(4).unwrap());
        a.map_run(1, 2, node.as_fd(), 5, Prot::ReadWrite, false).unwrap();
        b.map_run(0, 2, node.as_fd(), 5, Prot::Read, false).unwrap();
        // SAFETY: page 2 is inside the range.
        let written = unsafe { a.as_ptr().add(2 * PAGE_SIZE) };
        // SAFETY: page 2 is mapped writable, and this test is alone with it.
        unsafe { written.write_volatile(7) };
        // SAFETY: page 1 is inside the range.
        let seen = unsafe { b.as_ptr().add(PAGE_SIZE) };
        // SAFETY: page 1 is mapped readable.
        assert_eq!(unsafe { seen.read_volatile() }, 7);
        assert_eq!(a.page_of(written.addr()), Some(2));
        assert_eq!(a.page_of(seen.addr()), None);
    }

    #[test]
    fn a_bad_descriptor_is_an_error_with_its_number() {
        let r = PageRange::reserve(1).unwrap();
        let (read_end, _write_end) = std::io::pipe().unwrap();
        let e = r.map_run(0, 1, read_end.as_fd(), 0, Prot::Read, false).unwrap_err();
        assert!(
            matches!(e, MapError::Os { call: "mmap", errno } if errno.raw() == libc::ENODEV),
            "{e}"
        );
    }
}

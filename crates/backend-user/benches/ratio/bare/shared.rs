//! Shared pages: a call that takes them away and puts the new frames there, a copy, and a call that opens them.

use core::ffi::c_void;
use core::ptr;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use mm_types::PAGE_SIZE;

/// Pages of a memfd at two places: a view whose pages move from one half of the memfd to the other, and all of it.
///
/// # Invariants
/// 1. `view` is a mapping of `pages` pages, and `all` one of twice as many, of this object's own; nobody has references into them.
pub(crate) struct Shared {
    fd: OwnedFd,
    view: *mut u8,
    all: *mut u8,
    pages: usize,
    /// Which half the view shows.
    half: usize,
}

fn mapped(at: *mut u8, pages: usize, prot: i32, flags: i32, fd: &OwnedFd, page: usize) -> io::Result<*mut u8> {
    let offset = libc::off_t::try_from(page * PAGE_SIZE).map_err(io::Error::other)?;
    let flags = libc::MAP_SHARED | flags;
    // SAFETY: a new mapping, or with MAP_FIXED one over a part of the caller's own view, into which nobody has references.
    let got = unsafe { libc::mmap(at.cast(), pages * PAGE_SIZE, prot, flags, fd.as_raw_fd(), offset) };
    if got == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    Ok(got.cast())
}

const READ_WRITE: i32 = libc::PROT_READ | libc::PROT_WRITE;

impl Shared {
    pub(crate) fn new(pages: usize) -> io::Result<Self> {
        // SAFETY: the name ends with a zero and lives for the call.
        let fd = unsafe { libc::memfd_create(c"bare".as_ptr(), libc::MFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and nobody else has it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let len = libc::off_t::try_from(2 * pages * PAGE_SIZE).map_err(io::Error::other)?;
        // SAFETY: the descriptor is open.
        if unsafe { libc::ftruncate(fd.as_raw_fd(), len) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let all = mapped(ptr::null_mut(), 2 * pages, READ_WRITE, libc::MAP_POPULATE, &fd, 0)?;
        let view = mapped(ptr::null_mut(), pages, READ_WRITE, 0, &fd, 0)?;
        // INVARIANT 1: just made.
        Ok(Self {
            fd,
            view,
            all,
            pages,
            half: 0,
        })
    }
}

impl super::Bare for Shared {
    fn touch(&mut self) {
        for page in 0..self.pages {
            // SAFETY: the page is in the view (invariant 1), which may be written between two moves.
            let word = unsafe { self.view.add(page * PAGE_SIZE) };
            // SAFETY: as above; no reference to it exists.
            unsafe { word.write_volatile(1) };
        }
    }

    fn go(&mut self, batch: usize) -> io::Result<()> {
        let (from, to) = (self.half * self.pages, (1 - self.half) * self.pages);
        for page in (0..self.pages).step_by(batch) {
            let n = batch.min(self.pages - page);
            // SAFETY: the page is in the view (invariant 1).
            let at = unsafe { self.view.add(page * PAGE_SIZE) };
            mapped(at, n, libc::PROT_NONE, libc::MAP_FIXED, &self.fd, to + page)?;
            // SAFETY: the run is in `all` (invariant 1).
            let source = unsafe { self.all.add((from + page) * PAGE_SIZE) };
            // SAFETY: as above.
            let target = unsafe { self.all.add((to + page) * PAGE_SIZE) };
            // SAFETY: the runs lie in different halves, and nobody reaches either through the view now.
            unsafe { ptr::copy_nonoverlapping(source.cast_const(), target, n * PAGE_SIZE) };
            // SAFETY: a part of the view (invariant 1), into which nobody has references.
            if unsafe { libc::mprotect(at.cast::<c_void>(), n * PAGE_SIZE, READ_WRITE) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        self.half = 1 - self.half;
        Ok(())
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        for (at, pages) in [(self.view, self.pages), (self.all, 2 * self.pages)] {
            // SAFETY: a mapping of ours (invariant 1), not used again.
            let _ = unsafe { libc::munmap(at.cast(), pages * PAGE_SIZE) };
        }
    }
}

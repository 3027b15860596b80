//! `userfaultfd(2)`: faults that block in the kernel until somebody answers them, and pages that move from one address to another.
//!
//! A thread that touches a missing page of a registered range sleeps in the kernel; system calls that do so sleep too, where
//! [`SystemCalls::Wait`] says so. Whoever brings the page in wakes it.
//!
//! The structures and numbers of the calls are in `uffd/abi.rs`, the accesses that wait in `uffd/events.rs`.

mod abi;
mod events;

use core::ffi::{c_int, c_ulong};
use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use mm_types::PAGE_SIZE;

use super::error::{Errno, MapError};

pub use events::{Event, wait};

use abi::{
    Api, COPY_MODE_WP, FEATURE_MOVE, FEATURE_PAGEFAULT_FLAG_WP, FEATURE_THREAD_ID, MODE_DONTWAKE,
    REGISTER_MODE_MISSING, REGISTER_MODE_WP, Range, Register, Transfer, UFFD_API, UFFD_USER_MODE_ONLY, UFFDIO_API,
    UFFDIO_COPY, UFFDIO_MOVE, UFFDIO_REGISTER, UFFDIO_UNREGISTER, UFFDIO_WAKE, UFFDIO_WRITEPROTECT,
    USERFAULTFD_IOC_NEW, WRITEPROTECT_MODE_WP, WriteProtect,
};

/// Why pages cannot be moved by userfaultfd here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UffdError {
    /// The system call is not there, or is forbidden (a sandbox, a kernel without it).
    #[error("userfaultfd: {0}")]
    Unavailable(Errno),
    /// The kernel has userfaultfd, but cannot move pages.
    #[error("this kernel has no UFFDIO_MOVE, which came with Linux 6.8")]
    NoMove,
}

/// What becomes of a system call that is given a buffer on a page in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SystemCalls {
    /// It waits for the page, as an instruction does.
    Wait,
    /// It answers `EFAULT` or stops short: the process may only ask for the faults of its own instructions
    /// (`UFFD_USER_MODE_ONLY`).
    Fail,
}

const FLAGS: c_int = libc::O_CLOEXEC | libc::O_NONBLOCK;

/// An open userfaultfd that can move pages.
#[derive(Debug)]
pub struct Uffd {
    fd: OwnedFd,
    calls: SystemCalls,
}

/// A run of a move was cut short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Pages moved before it.
    pub moved: usize,
    /// Why the next page did not.
    pub why: Errno,
}

fn ours(rc: c_int) -> Result<OwnedFd, Errno> {
    if rc < 0 {
        return Err(Errno::last());
    }
    // SAFETY: the descriptor was just made and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(rc) })
}

/// Opens one that hears of system calls' faults too: root and `vm.unprivileged_userfaultfd` may, and who may open the device.
fn open_full() -> Result<OwnedFd, Errno> {
    // SAFETY: makes a descriptor; no preconditions.
    let rc = unsafe { libc::syscall(libc::SYS_userfaultfd, FLAGS) };
    ours(c_int::try_from(rc).unwrap_or(-1)).or_else(|errno| {
        let device = File::open("/dev/userfaultfd").map_err(|_| errno)?;
        // SAFETY: the device is open, and the request takes a number.
        ours(unsafe { libc::ioctl(device.as_raw_fd(), USERFAULTFD_IOC_NEW, FLAGS) })
    })
}

fn open_user_only() -> Result<OwnedFd, Errno> {
    // SAFETY: makes a descriptor; no preconditions.
    let rc = unsafe { libc::syscall(libc::SYS_userfaultfd, FLAGS | UFFD_USER_MODE_ONLY) };
    ours(c_int::try_from(rc).unwrap_or(-1))
}

impl Uffd {
    /// Opens a userfaultfd: one that makes system calls wait where the process may have that, and is not told to do without
    /// (`user_only`).
    ///
    /// # Errors
    /// The kernel has none, forbids it, or cannot move pages.
    pub fn open(user_only: bool) -> Result<Self, UffdError> {
        let full = if user_only { None } else { open_full().ok() };
        let (fd, calls) = match full {
            Some(fd) => (fd, SystemCalls::Wait),
            None => (open_user_only().map_err(UffdError::Unavailable)?, SystemCalls::Fail),
        };
        let uffd = Self { fd, calls };
        let mut api = Api {
            api: UFFD_API,
            features: FEATURE_MOVE | FEATURE_PAGEFAULT_FLAG_WP | FEATURE_THREAD_ID,
            ioctls: 0,
        };
        // A kernel that lacks a feature asked for answers EINVAL.
        // SAFETY: `api` is the structure of the request and lives for the call.
        unsafe { uffd.call(UFFDIO_API, &mut api) }.map_err(|_| UffdError::NoMove)?;
        Ok(uffd)
    }

    /// Returns what becomes of system calls that meet a missing page.
    #[must_use]
    pub const fn system_calls(&self) -> SystemCalls {
        self.calls
    }

    /// Returns the descriptor: readable when an access waits that nobody has heard of.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.fd)
    }

    /// # Safety
    /// 1. `argument` is the structure that `request` takes, and what the request does to addresses named in it is allowed.
    unsafe fn call<T>(&self, request: c_ulong, argument: &mut T) -> Result<(), Errno> {
        // SAFETY: the structure lives for the call and is the request's (1).
        let rc = unsafe { libc::ioctl(self.fd.as_raw_fd(), request, core::ptr::from_mut(argument)) };
        if rc == 0 { Ok(()) } else { Err(Errno::last()) }
    }

    /// Lets accesses to missing pages of a range wait; with `protect`, stores to write-protected ones too.
    ///
    /// # Errors
    /// What the kernel answers: no whole pages of anonymous memory, or no room for a mapping more.
    pub fn register(&self, start: *mut u8, pages: usize, protect: bool) -> Result<(), MapError> {
        let mode = if protect { REGISTER_MODE_WP } else { 0 };
        let mut register = Register {
            range: range(start, pages),
            mode: REGISTER_MODE_MISSING | mode,
            ioctls: 0,
        };
        // SAFETY: the request's structure; registering changes who answers faults and not what pages hold.
        let done = unsafe { self.call(UFFDIO_REGISTER, &mut register) };
        done.map_err(|errno| os("UFFDIO_REGISTER", errno))
    }

    /// Ends that.
    ///
    /// # Errors
    /// No room for a mapping more.
    pub fn unregister(&self, start: *mut u8, pages: usize) -> Result<(), MapError> {
        let mut range = range(start, pages);
        // SAFETY: the request's structure; it changes who answers faults and not what pages hold.
        let done = unsafe { self.call(UFFDIO_UNREGISTER, &mut range) };
        done.map_err(|errno| os("UFFDIO_UNREGISTER", errno))
    }

    /// Wakes whoever waits for a page of the range; each looks again.
    pub fn wake(&self, start: *mut u8, pages: usize) {
        let mut range = range(start, pages);
        // SAFETY: the request's structure; waking changes no memory.
        let woken = unsafe { self.call(UFFDIO_WAKE, &mut range) };
        debug_assert_eq!(woken, Ok(()));
    }

    /// Moves pages from one run of addresses to another: what was there is missing afterwards, what was missing is there, writable. On
    /// return no CPU has a translation of the source left. With `wake`, who waits for the destination is woken.
    ///
    /// Pages count as moved that the kernel has moved and denies to have ([`has_moved`]).
    ///
    /// # Errors
    /// At the first page that does not move: `EBUSY` where others have it too (a fork of the process, an I/O that has pinned it),
    /// `ENOENT` where it is missing, `EEXIST` where something is at the destination.
    ///
    /// # Safety
    /// 1. Both runs are private anonymous memory of the caller's own, the destination registered; no reference into them relies on
    ///    contents that the move takes away.
    pub unsafe fn move_run(&self, to: *mut u8, from: *mut u8, pages: usize, wake: bool) -> Result<(), Cut> {
        let (mut moved, mut most) = (0, pages);
        while moved < pages {
            let at = moved * PAGE_SIZE;
            let n = most.min(pages - moved);
            let mut transfer = Transfer {
                dst: address(to.wrapping_add(at)),
                src: address(from.wrapping_add(at)),
                len: bytes(n),
                mode: if wake { 0 } else { MODE_DONTWAKE },
                done: 0,
            };
            // SAFETY: the request's structure; both runs may be moved (1).
            let done = unsafe { self.call(UFFDIO_MOVE, &mut transfer) };
            match done.map_err(|errno| (errno, errno.raw())) {
                Ok(()) => moved += n,
                // A part of it, or none because somebody was in the way for a moment.
                Err((_, libc::EAGAIN)) => moved += usize::try_from(transfer.done).unwrap_or(0) / PAGE_SIZE,
                // Nothing at all: a mapping may end within the run.
                Err((_, libc::EINVAL)) if n > 1 => most = 1,
                Err((_, libc::EEXIST | libc::ENOENT)) if has_moved(to.wrapping_add(at), from.wrapping_add(at)) => {
                    // An error of the call wakes nobody.
                    if wake {
                        self.wake(to.wrapping_add(at), 1);
                    }
                    moved += 1;
                }
                Err((why, _)) => return Err(Cut { moved, why }),
            }
        }
        Ok(())
    }

    /// Fills missing pages with copies of others, write-protected from the first moment where `protect` says so; with `wake`, who
    /// waits for them is woken.
    ///
    /// # Errors
    /// At the first page that could not be filled; those before it are there.
    ///
    /// # Safety
    /// 1. The destination is the caller's own and registered; the source is readable. The kernel copies it, at some moment.
    pub unsafe fn copy_run(
        &self,
        to: *mut u8,
        from: *const u8,
        pages: usize,
        protect: bool,
        wake: bool,
    ) -> Result<(), Cut> {
        let mut copied = 0;
        while copied < pages {
            let at = copied * PAGE_SIZE;
            let mut transfer = Transfer {
                dst: address(to.wrapping_add(at)),
                src: address(from.wrapping_add(at).cast_mut()),
                len: bytes(pages - copied),
                mode: if protect { COPY_MODE_WP } else { 0 } | if wake { 0 } else { MODE_DONTWAKE },
                done: 0,
            };
            // SAFETY: the request's structure; the runs are as they must be (1).
            match unsafe { self.call(UFFDIO_COPY, &mut transfer) } {
                Ok(()) => return Ok(()),
                Err(errno) if errno.raw() == libc::EAGAIN => {
                    copied += usize::try_from(transfer.done).unwrap_or(0) / PAGE_SIZE;
                }
                Err(why) => return Err(Cut { moved: copied, why }),
            }
        }
        Ok(())
    }

    /// Write-protects pages that are there, or lets them be written again and wakes who waited for that.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn protect_run(&self, start: *mut u8, pages: usize, protect: bool) -> Result<(), MapError> {
        let mode = if protect { WRITEPROTECT_MODE_WP } else { 0 };
        loop {
            let mut argument = WriteProtect {
                range: range(start, pages),
                mode,
            };
            // SAFETY: the request's structure; it changes what the pages allow and not what they hold.
            match unsafe { self.call(UFFDIO_WRITEPROTECT, &mut argument) } {
                Ok(()) => return Ok(()),
                Err(errno) if errno.raw() == libc::EAGAIN => {}
                Err(errno) => return Err(os("UFFDIO_WRITEPROTECT", errno)),
            }
        }
    }
}

/// True where a page that could not be moved, because something is at its destination or nothing at its source, has been moved.
///
/// Linux 6.18 says so of pages that the failing call itself has moved. The race: the destination has no table of pages, and the
/// source is one large page; while the call is about to move that as one, an access to the destination makes a table there. The
/// call sees it under the tables' locks, looks again (`move_pages` of `mm/userfaultfd.c`: `err` is `-EAGAIN`), and moves the pages of
/// the large one one by one, with success; but `err` is what it was, so it looks once more from the same page on, and finds
/// that page at the destination: `EEXIST`, as if nothing had moved. Who believes that takes the pages for those of the slot, which
/// is empty, and their contents for nobody's.
///
/// Asked page by page, and only of pages that a call has refused with one of the two errors: of pages that are still to be moved
/// it could not tell whether they are missing or swapped out.
fn has_moved(to: *mut u8, from: *mut u8) -> bool {
    is_there(to) == Some(true) && is_there(from) == Some(false)
}

/// Looks whether anything is at a page of private anonymous memory; `None` where the kernel does not say.
fn is_there(page: *mut u8) -> Option<bool> {
    let mut there = 0u8;
    // SAFETY: the answer for one page is one byte, which is live for the call; no memory is touched.
    let rc = unsafe { libc::mincore(page.cast(), PAGE_SIZE, &raw mut there) };
    (rc == 0).then_some(there & 1 != 0)
}

pub(crate) const fn os(call: &'static str, errno: Errno) -> MapError {
    if errno.raw() == libc::ENOMEM {
        MapError::MappingLimit { call }
    } else {
        MapError::Os { call, errno }
    }
}

fn range(start: *mut u8, pages: usize) -> Range {
    Range {
        start: address(start),
        len: bytes(pages),
    }
}

fn address(at: *mut u8) -> u64 {
    at.expose_provenance() as u64
}

const fn bytes(pages: usize) -> u64 {
    (pages * PAGE_SIZE) as u64
}

#[cfg(test)]
mod tests;

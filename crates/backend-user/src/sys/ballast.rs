//! Mappings held in reserve, so that finishing or undoing a migration cannot fail for want of one.
//!
//! Other threads use up mappings too, so counting does not help: at the limit even replacing one page in the middle
//! of a run fails, in commit and in rollback alike. Ballast is mappings that exist for nothing. When a call
//! meets the limit, some are given up and the call is made again.
//!
//! A ballast region is one reservation whose pages are alternately inaccessible and readable, so that the kernel cannot
//! merge them: each page is a mapping. Giving up is making a readable page inaccessible again: it merges with its two
//! neighbours, and two mappings are free. The addresses stay reserved throughout, so refilling needs no luck; and no
//! page of it is ever touched, so it costs no memory but the kernel's own records.

use core::ffi::c_void;
use core::ptr;
use std::sync::{Mutex, PoisonError};

use mm_types::PAGE_SIZE;

use super::error::MapError;

/// Mappings freed by giving up one page: its own, and the border between its neighbours.
pub const PER_PAGE: usize = 2;

/// Mappings held in reserve.
///
/// # Invariants
/// 1. The region of `2 * teeth + 1` pages is this object's own; no page of it is ever accessed.
/// 2. Of the odd pages (the teeth), exactly the first `held` are readable.
#[derive(Debug)]
pub struct Ballast {
    start: *mut c_void,
    teeth: usize,
    /// Teeth standing. The lock is held over the system calls that change them.
    held: Mutex<usize>,
}

// SAFETY: the region is a set of addresses that nobody accesses; changes to it are made under the lock.
unsafe impl Send for Ballast {}
// SAFETY: as for Send.
unsafe impl Sync for Ballast {}

impl Ballast {
    /// Reserves at least `mappings` mappings.
    ///
    /// # Errors
    /// The mapping limit where the process has no room for them; nothing is kept then.
    pub fn reserve(mappings: usize) -> Result<Self, MapError> {
        let teeth = mappings.div_ceil(PER_PAGE);
        let pages = teeth.checked_mul(2).and_then(|p| p.checked_add(1));
        let len = pages.and_then(|p| p.checked_mul(PAGE_SIZE)).ok_or(MapError::TooLarge)?;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: the kernel picks a free place; no memory in use is touched.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, libc::PROT_NONE, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(MapError::last("mmap"));
        }
        // Keeps the ends from merging with a stranger's reservation: a tooth would then free one mapping less. Best effort.
        // SAFETY: the region is ours and stays untouched; the advice is about core dumps.
        let _ = unsafe { libc::madvise(start, len, libc::MADV_DONTDUMP) };
        let ballast = Self {
            start,
            teeth,
            held: Mutex::new(0),
        };
        ballast.refill()?;
        Ok(ballast)
    }

    /// Returns how many mappings can still be given up.
    #[must_use]
    pub fn held(&self) -> usize {
        PER_PAGE * *self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how many mappings the full ballast holds.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        PER_PAGE * self.teeth
    }

    /// Changes one tooth; `index < teeth`.
    fn set(&self, index: usize, prot: i32) -> Result<(), MapError> {
        // SAFETY: tooth `index` is page `2 * index + 1` of the region's `2 * teeth + 1`.
        let at = unsafe { self.start.byte_add((2 * index + 1) * PAGE_SIZE) };
        // SAFETY: a page of our own region (invariant 1) that nobody accesses.
        let rc = unsafe { libc::mprotect(at, PAGE_SIZE, prot) };
        if rc == 0 {
            Ok(())
        } else {
            Err(MapError::last("mprotect"))
        }
    }

    /// Gives up at least `mappings` mappings, or what is left; returns how many.
    ///
    /// Does not allocate. Merging is the one change of mappings that the limit does not forbid.
    pub fn give_up(&self, mappings: usize) -> usize {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *held;
        let floor = before.saturating_sub(mappings.div_ceil(PER_PAGE));
        while *held > floor && self.set(*held - 1, libc::PROT_NONE).is_ok() {
            *held -= 1;
        }
        PER_PAGE * (before - *held)
    }

    /// Takes back what was given up; returns how many mappings are held now.
    ///
    /// # Errors
    /// The mapping limit: the ballast keeps what it got so far. Asking again later is the remedy.
    pub fn refill(&self) -> Result<usize, MapError> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        while *held < self.teeth {
            self.set(*held, libc::PROT_READ)?;
            *held += 1;
        }
        Ok(PER_PAGE * *held)
    }

    /// Calls `op` until it does not fail at the mapping limit, giving up ballast before each further try.
    ///
    /// The shares grow, so that a crowd of threads that snatch the freed mappings is outrun. `op` must change nothing when
    /// it fails, or be safe to repeat.
    ///
    /// # Errors
    /// What `op` answers last: its other errors at once, the mapping limit when no ballast is left.
    pub fn rescue<T>(&self, mut op: impl FnMut() -> Result<T, MapError>) -> Result<T, MapError> {
        let mut share = 2 * PER_PAGE;
        loop {
            match op() {
                Err(e) if e.is_mapping_limit() => {
                    if self.give_up(share) == 0 {
                        // Another thread may have given up the last of it for us to use.
                        return op();
                    }
                    share = share.saturating_mul(2);
                }
                other => return other,
            }
        }
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        // SAFETY: the region is ours (invariant 1) and nobody uses it after the object.
        let _ = unsafe { libc::munmap(self.start, (2 * self.teeth + 1) * PAGE_SIZE) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::error::Errno;

    #[test]
    fn ballast_is_given_up_and_taken_back() {
        let b = Ballast::reserve(9).unwrap();
        assert_eq!((b.held(), b.capacity()), (10, 10));
        assert_eq!(b.give_up(3), 4);
        assert_eq!(b.held(), 6);
        assert_eq!(b.give_up(100), 6);
        assert_eq!(b.give_up(1), 0);
        assert_eq!(b.refill(), Ok(10));
    }

    #[test]
    fn a_rescue_ends_when_the_ballast_does() {
        let b = Ballast::reserve(10).unwrap();
        let mut calls = 0;
        let limit = MapError::MappingLimit { call: "mmap" };
        let r: Result<(), _> = b.rescue(|| {
            calls += 1;
            Err(limit)
        });
        assert_eq!((r, b.held()), (Err(limit), 0));
        assert_eq!(calls, 4, "4, then 6 mappings, then nothing left, then once more");
    }

    #[test]
    fn another_error_costs_no_ballast() {
        let b = Ballast::reserve(4).unwrap();
        let e = MapError::Os {
            call: "mmap",
            errno: Errno::new(libc::ENODEV),
        };
        let r: Result<(), _> = b.rescue(|| Err(e));
        assert_eq!((r, b.held()), (Err(e), 4));
    }
}

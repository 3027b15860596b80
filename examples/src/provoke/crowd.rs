//! A crowd of mappings: what is left of `vm.max_map_count` when somebody else has used it up.

use core::ffi::c_void;
use core::ptr;
use std::io;

use mm_types::PAGE_SIZE;

/// Pages of the region, and mappings that it can become.
const PAGES: usize = 1 << 18;

/// Mappings left for everybody else in the process.
const LEFT: usize = 64;

/// Mappings that exist for nothing, until dropped.
#[derive(Debug)]
pub(super) struct Crowd {
    start: *mut c_void,
}

impl Crowd {
    /// True where the limit is low enough to be reached in a moment (`vm.max_map_count`; 65,530 unless somebody raised it).
    pub(super) fn is_possible() -> bool {
        let limit = std::fs::read_to_string("/proc/sys/vm/max_map_count").ok();
        let limit: Option<usize> = limit.and_then(|text| text.trim().parse().ok());
        limit.is_some_and(|limit| limit < PAGES / 2)
    }

    /// Takes all mappings that the process may still have, but a few.
    ///
    /// # Errors
    /// No addresses; or a limit so large that it was not reached.
    pub(super) fn gather() -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: the kernel picks a free place; no memory in use is touched.
        let start = unsafe { libc::mmap(ptr::null_mut(), PAGES * PAGE_SIZE, libc::PROT_NONE, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let crowd = Self { start };
        // A readable page between inaccessible ones: neighbours differ, so that the kernel cannot merge them.
        let full = (1..PAGES)
            .step_by(2)
            .find(|page| !crowd.protect(*page, libc::PROT_READ));
        let Some(full) = full else {
            return Err(io::Error::other("the limit of mappings is too high to be reached"));
        };
        // Each page made inaccessible again merges with its neighbours: two mappings fewer.
        for page in (1..full).step_by(2).rev().take(LEFT / 2) {
            crowd.protect(page, libc::PROT_NONE);
        }
        Ok(crowd)
    }

    fn protect(&self, page: usize, prot: i32) -> bool {
        // SAFETY: `page` is below PAGES, the region's size.
        let at = unsafe { self.start.byte_add(page * PAGE_SIZE) };
        // SAFETY: a page of this object's own region, which nobody accesses.
        unsafe { libc::mprotect(at, PAGE_SIZE, prot) == 0 }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        // SAFETY: the region is this object's own, and nobody uses it after the object.
        let _ = unsafe { libc::munmap(self.start, PAGES * PAGE_SIZE) };
    }
}

//! What `fork` does: the child has none of the emulated memory.
//!
//! A `MAP_SHARED` mapping stays shared in the child, but the tables, the migrator and the fault server that keep it
//! coherent are threads and words of the parent only: a child that went on using the pages would write into frames the parent
//! has already given to somebody else. So, in the child and before `fork` returns there, a `pthread_atfork` handler replaces
//! every region (ranges and direct maps) with inaccessible memory and orphans every fault range. A child that touches
//! one gets one line on stderr and dies by SIGSEGV, unless a handler of its own takes the fault. The parent notices nothing.
//!
//! `MADV_DONTFORK` would do the same in the kernel, but it belongs to a mapping, and each `mmap` over a range
//! makes a new one: it would cost a second system call for every run remapped, keep runs from merging until then, and leave
//! a window between the two calls. Replacing in the child has no window, because nothing of the program runs there before.
//!
//! Not covered: a raw `clone(2)` without `CLONE_VM`, which bypasses the C library. `posix_spawn`, `vfork` and
//! [`std::process::Command`] are fine: their child execs, or shares the parent's memory until it does.

use core::ffi::c_void;
use core::ops::Range;
use core::ptr;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::OnceLock;

use super::error::{Errno, MapError};
use super::fault;

/// Regions at a time.
const REGIONS: usize = 256;

const FREE: u32 = 0;
const CLAIMED: u32 = 1;
const LIVE: u32 = 2;
/// In a child: the region was its parent's.
const PARENTS: u32 = 3;

/// Lives in atomics because the child reads it in whatever state the other threads left it.
#[derive(Debug)]
struct Slot {
    state: AtomicU32,
    start: AtomicUsize,
    len: AtomicUsize,
}

static TABLE: [Slot; REGIONS] = [const {
    Slot {
        state: AtomicU32::new(FREE),
        start: AtomicUsize::new(0),
        len: AtomicUsize::new(0),
    }
}; REGIONS];

/// A region that a child of this process does not get. Dropped before the region is unmapped.
#[derive(Debug)]
pub(crate) struct NotInChild {
    slot: &'static Slot,
}

impl NotInChild {
    /// Enters `region`, whole pages mapped by the caller and its own until the guard is dropped.
    pub(crate) fn enter(region: Range<usize>) -> Result<Self, MapError> {
        at_fork()?;
        let claim = |s: &&Slot| {
            s.state
                .compare_exchange(FREE, CLAIMED, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        };
        let slot = TABLE.iter().find(claim).ok_or(MapError::TooManyRegions(REGIONS))?;
        slot.start.store(region.start, Ordering::Relaxed);
        slot.len.store(region.len(), Ordering::Relaxed);
        // A fork before this store leaves the region to the child; the caller has not handed it out yet.
        slot.state.store(LIVE, Ordering::Release);
        Ok(Self { slot })
    }
}

impl Drop for NotInChild {
    fn drop(&mut self) {
        self.slot.state.store(FREE, Ordering::Release);
    }
}

/// Asks the C library, once, to call us in every child.
pub(crate) fn at_fork() -> Result<(), MapError> {
    static ASKED: OnceLock<i32> = OnceLock::new();
    let rc = *ASKED.get_or_init(|| {
        // SAFETY: the handler is a function of this program and makes only async-signal-safe calls.
        unsafe { libc::pthread_atfork(None, None, Some(in_child)) }
    });
    if rc == 0 {
        Ok(())
    } else {
        Err(MapError::Os {
            call: "pthread_atfork",
            errno: Errno::new(rc),
        })
    }
}

/// Runs in the child, alone, before `fork` returns: only async-signal-safe calls, no locks, no allocation.
extern "C" fn in_child() {
    for s in TABLE.iter().filter(|s| s.state.load(Ordering::Acquire) == LIVE) {
        let start = ptr::with_exposed_provenance_mut::<c_void>(s.start.load(Ordering::Relaxed));
        let len = s.len.load(Ordering::Relaxed);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
        // SAFETY: a live slot names a region that its owner keeps mapped and holds no reference into (only raw pointers);
        // the pages stay reserved, so the owner's later unmap hits nothing else.
        let at = unsafe { libc::mmap(start, len, libc::PROT_NONE, flags, -1, 0) };
        if at == libc::MAP_FAILED {
            // Going on would let the child write into the parent's frames.
            say(b"fork: the child could not give up its parent's migrating pages\n");
            // SAFETY: ends the process; no preconditions.
            unsafe { libc::abort() };
        }
        s.state.store(PARENTS, Ordering::Release);
    }
    fault::orphan_all();
}

/// True in a child for an address of its parent's regions. For the signal handler: reads atomics only.
pub(super) fn was_parents(addr: usize) -> bool {
    TABLE.iter().any(|s| {
        s.state.load(Ordering::Acquire) == PARENTS
            && addr.wrapping_sub(s.start.load(Ordering::Relaxed)) < s.len.load(Ordering::Relaxed)
    })
}

/// Writes one line to stderr; async-signal-safe, and deaf to failure.
pub(crate) fn say(line: &[u8]) {
    // SAFETY: the bytes are live for the call.
    let _ = unsafe { libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), line.len()) };
}

//! The private memory of one emulated node: a slot of anonymous memory for each frame.
//!
//! A frame's memory lies in its slot, or, while a space shows it, at the place that shows it: `UFFDIO_MOVE` carries it there and
//! back, and the slot is missing meanwhile. Memory is taken block by block of [`HUGE`] slots, as large pages where the system
//! has them: a whole block moves for the price of a page then.

use core::ffi::c_void;
use core::ptr;
use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use core::time::Duration;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::{Mutex, OnceLock, PoisonError};

use mm_types::PAGE_SIZE;

use super::clock::processor_time;
use super::error::MapError;
use super::fork::NotInChild;
use super::node::HUGE;
use super::numa;
use super::uffd::Uffd;

/// Bytes of a block.
pub const BLOCK: usize = HUGE * PAGE_SIZE;

/// No memory yet.
const UNTAKEN: u8 = 0;
/// Memory in pages.
const SMALL: u8 = 1;
/// Memory in one large page.
const LARGE: u8 = 2;

/// Blocks in a row that could not be made large before it is not tried any more.
const GIVE_UP: u32 = 8;

/// How long to do without new large pages after one that was dear.
///
/// Where the system's memory is in pieces it carries pages about to make one large page, for milliseconds; pages that move one by one cost
/// less than that. So there is not to be spent more on large pages than would have been lost without them: each block that does without
/// pays back what a large page would have saved it. A block that has no memory yet takes some whatever it costs, and owes nothing.
#[derive(Debug, Default)]
struct Patience(AtomicU32);

impl Patience {
    /// What a block saves by being one large page, once, in microseconds: about two fifths of a plain copy of it.
    const SAVES_US: u128 = 100;
    /// To clear the memory takes a part of this: a large page that took no longer was not dear.
    const CHEAP: Duration = Duration::from_millis(1);

    /// Has a block do without, and pay its part; false where nothing is owed, and it may have a large page.
    fn pay(&self) -> bool {
        let one_less = |blocks: u32| blocks.checked_sub(1);
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
            .is_ok()
    }

    /// A large page was tried for, got or not, and took so much of the thread's time.
    fn begin(&self, took: Duration) {
        if took > Self::CHEAP {
            let more = u32::try_from(took.as_micros() / Self::SAVES_US).unwrap_or(u32::MAX);
            let owed = |blocks: u32| Some(blocks.saturating_add(more));
            let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, owed);
        }
    }
}

/// Slots for the frames of one node.
///
/// # Invariants
/// 1. `start..start + len` is this object's own, private and anonymous, readable and writable, from a multiple of [`BLOCK`] on.
/// 2. The slots of a block that is not untaken are registered, and missing only while a place shows their frames.
#[derive(Debug)]
pub struct Arena {
    /// Dropped before the region is unmapped.
    not_in_child: Option<NotInChild>,
    start: *mut u8,
    frames: usize,
    blocks: Box<[AtomicU8]>,
    /// Held while a block is taken.
    taking: Mutex<()>,
    large: bool,
    failures: AtomicU32,
    patience: Patience,
}

// SAFETY: the region is a set of addresses; what is done to a slot is up to whoever owns the frame.
unsafe impl Send for Arena {}
// SAFETY: as for Send.
unsafe impl Sync for Arena {}

impl Arena {
    /// Makes slots for `frames` frames, on real node `real` where one is given; in large pages if `large` says so and the system
    /// has them.
    ///
    /// # Errors
    /// A size that does not fit, or what `mmap` answers.
    pub fn new(frames: usize, real: Option<u32>, large: bool) -> Result<Self, MapError> {
        let len = frames
            .checked_mul(PAGE_SIZE)
            .filter(|len| isize::try_from(*len).is_ok());
        let len = len.ok_or(MapError::TooLarge)?;
        let room = len.checked_add(BLOCK).ok_or(MapError::TooLarge)?;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the kernel picks a free place; no memory in use is touched.
        let got = unsafe { libc::mmap(ptr::null_mut(), room, prot, flags, -1, 0) };
        if got == libc::MAP_FAILED {
            return Err(MapError::last("mmap"));
        }
        let before = got.addr().next_multiple_of(BLOCK) - got.addr();
        let start = got.wrapping_byte_add(before);
        for (at, len) in [(got, before), (start.wrapping_byte_add(len), BLOCK - before)] {
            if len != 0 {
                // SAFETY: a part of the room just made, outside of what is kept.
                let _ = unsafe { libc::munmap(at, len) };
            }
        }
        // INVARIANT 1: just made. INVARIANT 2: all blocks are untaken.
        let mut arena = Self {
            not_in_child: None,
            start: start.cast(),
            frames,
            blocks: (0..frames.div_ceil(HUGE)).map(|_| AtomicU8::new(UNTAKEN)).collect(),
            taking: Mutex::new(()),
            large,
            failures: AtomicU32::new(0),
            patience: Patience::default(),
        };
        arena.not_in_child = Some(NotInChild::enter(
            arena.start.expose_provenance()..arena.start.addr() + len,
        )?);
        advise(start, len, libc::MADV_DONTFORK)?;
        if large {
            // Best effort: pages will do.
            let _ = advise(start, len, libc::MADV_HUGEPAGE);
        }
        if let Some(node) = real {
            // Best effort, as for the memory of shared pages.
            let _ = numa::bind(arena.start, len, node);
        }
        Ok(arena)
    }

    /// Returns where the memory of `frame` is while no place shows it. A frame beyond the last has the first one's slot.
    #[must_use]
    pub fn slot(&self, frame: usize) -> *mut u8 {
        debug_assert!(frame < self.frames);
        let frame = if frame < self.frames { frame } else { 0 };
        self.start.wrapping_add(frame * PAGE_SIZE)
    }

    /// True for an address of a slot.
    #[must_use]
    pub fn contains(&self, addr: usize) -> bool {
        addr.wrapping_sub(self.start.addr()) < self.frames * PAGE_SIZE
    }

    fn state(&self, block: usize) -> u8 {
        self.blocks
            .get(block)
            .map_or(SMALL, |state| state.load(Ordering::Acquire))
    }

    fn set(&self, block: usize, state: u8) {
        if let Some(block) = self.blocks.get(block) {
            block.store(state, Ordering::Release);
        }
    }

    /// Makes sure that the slot of `frame` has memory.
    ///
    /// # Errors
    /// No memory, or no room for a mapping more.
    pub fn ready(&self, uffd: &Uffd, frame: usize) -> Result<(), MapError> {
        let block = frame / HUGE;
        if self.state(block) != UNTAKEN {
            return Ok(());
        }
        let taking = self.taking.lock().unwrap_or_else(PoisonError::into_inner);
        if self.state(block) == UNTAKEN {
            let pages = HUGE.min(self.frames - block * HUGE);
            let at = self.slot(block * HUGE);
            advise(at.cast(), pages * PAGE_SIZE, libc::MADV_POPULATE_WRITE)?;
            // Registered only now: taking memory of a registered block would wait for itself.
            uffd.register(at, pages, false)?;
            let large = self.large && pages == HUGE && is_large(at).unwrap_or(true);
            self.set(block, if large { LARGE } else { SMALL });
        }
        drop(taking);
        Ok(())
    }

    /// Makes sure that a block has memory, and is one large page where it can be. All its frames are the caller's, and what they hold
    /// is nobody's wish: taking new memory is cheaper than carrying the old one together.
    ///
    /// # Errors
    /// As [`ready`](Self::ready).
    pub fn renew(&self, uffd: &Uffd, block: usize) -> Result<(), MapError> {
        let at = self.slot(block * HUGE);
        let whole = self.large && (block + 1) * HUGE <= self.frames;
        if whole && self.state(block) != UNTAKEN && self.failures.load(Ordering::Relaxed) < GIVE_UP {
            // An access that came at the wrong moment may have split it.
            if is_large(at).unwrap_or(self.is_large(block)) {
                self.set(block, LARGE);
                return Ok(());
            }
            if self.patience.pay() {
                return Ok(());
            }
            let begun = processor_time();
            uffd.unregister(at, HUGE)?;
            let gone = advise(at.cast(), BLOCK, libc::MADV_DONTNEED);
            self.set(block, UNTAKEN);
            gone?;
            self.ready(uffd, block * HUGE)?;
            self.patience.begin(processor_time().saturating_sub(begun));
            if self.is_large(block) {
                self.failures.store(0, Ordering::Relaxed);
            } else {
                self.failures.fetch_add(1, Ordering::Relaxed);
            }
            return Ok(());
        }
        self.ready(uffd, block * HUGE)
    }

    /// True where the memory of a block is one large page, in its slots or at a place.
    #[must_use]
    pub fn is_large(&self, block: usize) -> bool {
        self.state(block) == LARGE
    }

    /// Notes that a part of a block moves by itself: its large page is one no longer.
    pub fn split(&self, block: usize) {
        if self.state(block) == LARGE {
            self.set(block, SMALL);
        }
    }
}

/// `struct pm_scan_arg` of `PAGEMAP_SCAN` (`include/uapi/linux/fs.h`, Linux 6.7).
#[repr(C)]
struct Scan {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// Looks whether a page is part of a large one; `None` where the kernel does not say.
fn is_large(at: *const u8) -> Option<bool> {
    const PAGEMAP_SCAN: libc::c_ulong = 3 << 30 | (size_of::<Scan>() as libc::c_ulong) << 16 | 0x66 << 8 | 16;
    const PAGE_IS_HUGE: u64 = 1 << 6;
    static PAGEMAP: OnceLock<Option<File>> = OnceLock::new();
    let pagemap = PAGEMAP.get_or_init(|| File::open("/proc/self/pagemap").ok()).as_ref()?;
    let start = at.addr() as u64;
    // Three numbers: `struct page_region`.
    let mut region = [0u64; 3];
    let mut scan = Scan {
        size: size_of::<Scan>() as u64,
        flags: 0,
        start,
        end: start + PAGE_SIZE as u64,
        walk_end: 0,
        vec: region.as_mut_ptr().expose_provenance() as u64,
        vec_len: 1,
        max_pages: 0,
        category_inverted: 0,
        category_mask: PAGE_IS_HUGE,
        category_anyof_mask: 0,
        return_mask: PAGE_IS_HUGE,
    };
    // SAFETY: the structure and the region it names are live for the call.
    let regions = unsafe { libc::ioctl(pagemap.as_raw_fd(), PAGEMAP_SCAN, &raw mut scan) };
    (regions >= 0).then_some(regions == 1)
}

/// Advises the kernel about memory of the caller's own; no advice given here changes what somebody else relies on.
pub(crate) fn advise(at: *mut c_void, len: usize, advice: i32) -> Result<(), MapError> {
    // SAFETY: whole pages that the callers own; they give up contents only where those are theirs to give up.
    if unsafe { libc::madvise(at, len, advice) } == 0 {
        Ok(())
    } else {
        Err(MapError::last("madvise"))
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        self.not_in_child = None;
        // SAFETY: the region is ours (invariant 1) and nobody uses it after the object.
        let _ = unsafe { libc::munmap(self.start.cast(), self.frames * PAGE_SIZE) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_do_without_a_large_page_until_they_have_lost_what_the_last_one_cost() {
        let patience = Patience::default();
        assert!(!patience.pay(), "before the first");
        patience.begin(Duration::from_micros(900));
        assert!(!patience.pay(), "one that was cheap");
        patience.begin(Duration::from_millis(5));
        let without = (0..1000).take_while(|_| patience.pay()).count();
        assert_eq!(without, 50);
        assert!(!patience.pay());
    }

    #[test]
    fn a_block_that_was_split_has_a_large_page_again_once_the_last_one_is_paid_for() {
        let Ok(uffd) = Uffd::open(false) else {
            return println!("not applicable: no userfaultfd that moves pages");
        };
        let arena = Arena::new(HUGE, None, true).unwrap();
        arena.ready(&uffd, 0).unwrap();
        if !arena.is_large(0) {
            return println!("not applicable: the system gives no large page");
        }
        // What a move of a single page does to it.
        advise(arena.slot(1).cast(), PAGE_SIZE, libc::MADV_DONTNEED).unwrap();
        arena.split(0);
        arena.patience.begin(Duration::from_millis(2));
        for block in 0..20 {
            arena.renew(&uffd, 0).unwrap();
            assert!(!arena.is_large(0), "after {block} blocks without");
        }
        arena.renew(&uffd, 0).unwrap();
        assert!(arena.is_large(0) || arena.failures.load(Ordering::Relaxed) == 1);
    }
}

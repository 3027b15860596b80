//! The kernel that the process plays: frames, descriptors, lists, areas and caches, and what the core asks of them.
//!
//! Locks, in the order they are taken: page lock, [`Areas`], table locks (by rising space number), page cache, LRU, free frames;
//! under a table lock also the second engine's own, which take no other: a block's memory, the waits that are noted.
//! The fault handler takes none of them. No thread touches emulated memory while it holds one, and nor do the fault server and
//! the migrator at any time: so whoever faults holds none.

mod frames;
mod mappings;

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use core::time::Duration;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Instant;

use migrate_core::{CopyError, UsesPageMap};
use mm_types::{CacheSlot, Lru, Mapping, NodeId, Page, PageCache, PageFlags, PageMap, Pfn, Sleep, SpaceId};

use crate::areas::Areas;
use crate::free_frames::FreeFrames;
use crate::lent::Lent;
use crate::private::Private;
use crate::refused::LastRefusals;
use crate::stall::Cost;
use crate::stats::{FaultCounts, Histogram, Stats};
use crate::sys::ballast::Ballast;
use crate::sys::error::MapError;
use crate::sys::futex;
use crate::sys::maps;
use crate::sys::node::NodeMemory;
use crate::sys::server::Desk;
use crate::trace::Recording;

use frames::GROUP;
use mappings::Mappings;

/// Takes a lock. A thread that panicked left data that are still whole: every change under these locks is made whole first.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Which pages may be read while they are copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readable {
    /// None.
    Never,
    /// Those that nobody can write: it costs nothing.
    NobodyWrites,
    /// Those too that one site maps, writable: its permission is taken first, and given back with the new frame.
    OneSite,
}

/// What a machine can be told once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// Which pages may be read while they are copied.
    pub(crate) readable: Readable,
    /// Pages that one demand fault brings in, where they are missing.
    pub(crate) around: usize,
    /// Mappings held in reserve.
    pub(crate) ballast: usize,
    /// Blocks of frames are made large pages of memory.
    pub(crate) large: bool,
    /// An entry that may write lets the processor write only once it is dirty: so every first store is noticed.
    pub(crate) learn_dirty: bool,
    /// Entries of pages that one space has alone say so.
    pub(crate) exclusive: bool,
    /// Make translations of restored pages at once.
    pub(crate) populate: bool,
}

/// Everything that all handles of a machine share.
///
/// The backend behind the seam. Programs use [`Machine`](crate::Machine); this is reachable for those who drive the core
/// themselves.
#[derive(Debug)]
pub struct Kernel {
    pub(crate) nodes: Box<[NodeMemory]>,
    /// The second engine, where the machine has it.
    pub(crate) private: Option<Arc<Private>>,
    pub(crate) frames_per_node: usize,
    pages: Box<[Page]>,
    free: Box<[Mutex<FreeFrames>]>,
    lru: Mutex<Lru>,
    areas: RwLock<Areas>,
    pub(crate) cache: Mutex<Lent<PageCache<'static>, Vec<CacheSlot>>>,
    pub(crate) options: Options,
    pub(crate) trace: Option<Arc<Recording>>,
    pub(crate) desk: OnceLock<Arc<Desk>>,
    /// Runs in progress under 2006 rules: pages are not readable while copied, and waiters take a reference.
    pub(crate) runs_2006: AtomicU32,
    /// Groups of frames that were made large pages, or could not be, node by node.
    large: Box<[AtomicBool]>,
    /// Where demand faults take their frames.
    preferred: AtomicUsize,
    pub(crate) ballast: Ballast,
    mappings: Mappings,
    pub(crate) stalls: Histogram,
    /// What moving pages has cost of late.
    pub(crate) cost: Cost,
    pub(crate) faults: FaultCounts,
    pub(crate) refused: LastRefusals,
    hook: Hook,
    /// Threads asleep on a page.
    pub(crate) sleepers: AtomicUsize,
}

/// A pause between the remapping of one space and the next, for tests.
#[derive(Debug, Default)]
struct Hook {
    pause: AtomicUsize,
    last: AtomicU32,
}

/// Sleeping on a page's flag word.
#[derive(Clone, Copy, Debug, Default)]
pub struct Futex;

impl Sleep for Futex {
    fn wait(&self, word: &AtomicU32, seen: u32) {
        futex::wait(word, seen, None);
    }

    fn wake_all(&self, word: &AtomicU32) {
        futex::wake_all(word);
    }
}

impl Kernel {
    pub(crate) fn new(
        nodes: Vec<NodeMemory>,
        private: Option<Private>,
        frames_per_node: usize,
        areas: usize,
        options: Options,
        trace: Option<Arc<Recording>>,
    ) -> Result<Self, MapError> {
        let nodes_len = nodes.len();
        let frames = nodes_len * frames_per_node;
        let free = (0..nodes.len()).map(|node| {
            let first = Pfn::new((node * frames_per_node) as u64);
            Mutex::new(FreeFrames::new(first, frames_per_node))
        });
        let limit = maps::limit().unwrap_or(65_530);
        let kernel = Self {
            free: free.collect(),
            nodes: nodes.into_boxed_slice(),
            private: private.map(Arc::new),
            frames_per_node,
            pages: (0..frames).map(|_| Page::new()).collect(),
            lru: Mutex::new(Lru::new(NodeId::new(0))),
            areas: RwLock::new(Areas::new(areas)),
            cache: Mutex::new(Lent::new(vec![CacheSlot::default(); frames], |slots| {
                PageCache::new(slots)
            })),
            options,
            trace,
            desk: OnceLock::new(),
            runs_2006: AtomicU32::new(0),
            large: (0..frames_per_node.div_ceil(GROUP) * nodes_len)
                .map(|_| AtomicBool::new(false))
                .collect(),
            preferred: AtomicUsize::new(0),
            ballast: Ballast::reserve(options.ballast.min(limit / 8))?,
            mappings: Mappings::new(limit),
            stalls: Histogram::new(),
            cost: Cost::new(),
            faults: FaultCounts::default(),
            refused: LastRefusals::default(),
            hook: Hook::default(),
            sleepers: AtomicUsize::new(0),
        };
        kernel.look_at_mappings();
        Ok(kernel)
    }

    /// Takes the areas, together with others who only look.
    pub(crate) fn areas(&self) -> RwLockReadGuard<'_, Areas> {
        self.areas.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the areas alone.
    pub(crate) fn areas_mut(&self) -> RwLockWriteGuard<'_, Areas> {
        self.areas.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a frame's descriptor.
    pub(crate) fn page(&self, pfn: Pfn) -> Option<&Page> {
        self.pages.get(pfn.index()?)
    }

    /// Sleeps while the page may be locked. Async-signal-safe.
    pub(crate) fn wait_unlocked(&self, pfn: Pfn) {
        if let Some(page) = self.page(pfn) {
            if let Some(seen) = page.flags().announce_wait(PageFlags::LOCKED) {
                self.sleep(page, seen);
            }
        }
    }

    /// Sleeps on a page's flag word while it is `seen`; counted, so that tests know when somebody sleeps.
    pub(crate) fn sleep(&self, page: &Page, seen: u32) {
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        futex::wait(page.flags().word(), seen, None);
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }

    /// True while somebody holds the page lock. Async-signal-safe.
    pub(crate) fn is_locked(&self, pfn: Pfn) -> bool {
        let flags = self.page(pfn).map(|page| page.flags().load());
        flags.is_some_and(|flags| flags.contains(PageFlags::LOCKED))
    }

    /// Adds an access that was blocked since `begun`. Async-signal-safe.
    pub(crate) fn stalled(&self, begun: Instant) {
        self.stalls
            .add(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }

    /// Opens a page lock taken by `try_lock` on the descriptor.
    pub(crate) fn unlock_page(&self, page: &Page) {
        if page.flags().unlock() {
            futex::wake_all(page.flags().word());
        }
    }

    /// True where translations of `n` restored pages are made at once.
    pub(crate) const fn populates(&self, n: usize) -> bool {
        self.options.populate && n > 1
    }

    /// Returns what is known so far.
    pub(crate) fn stats(&self) -> Stats {
        let m = &self.mappings;
        Stats {
            stalls: self.stalls.read(),
            faults: self.faults.read(),
            mappings: m.others.load(Ordering::Relaxed) + m.ours.load(Ordering::Relaxed),
            peak_mappings: m.peak.load(Ordering::Relaxed),
            mapping_limit: m.limit,
            ballast: self.ballast.held(),
        }
    }

    /// Makes every remapping of a space wait for `pause` where the last one was of another; for tests.
    #[doc(hidden)]
    pub fn pause_between_spaces(&self, pause: Duration) {
        let us = usize::try_from(pause.as_micros()).unwrap_or(usize::MAX);
        self.hook.pause.store(us, Ordering::Relaxed);
    }

    /// Called before each change of a space's mappings.
    pub(crate) fn before_change(&self, space: SpaceId, maps: bool) {
        let pause = self.hook.pause.load(Ordering::Relaxed);
        if pause != 0 && maps && self.hook.last.swap(space.raw() + 1, Ordering::Relaxed) != space.raw() + 1 {
            let never = AtomicU32::new(0);
            futex::wait(&never, 0, Some(Duration::from_micros(pause as u64)));
        }
    }
}

impl UsesPageMap for Kernel {
    type Sleep = Futex;

    fn page_map(&self) -> PageMap<'_> {
        PageMap::new(Pfn::new(0), &self.pages)
    }

    fn sleeper(&self) -> &Futex {
        &Futex
    }

    fn with_lru<R>(&self, f: impl FnOnce(&mut Lru) -> R) -> R {
        f(&mut lock(&self.lru))
    }

    fn copy_frame(&self, from: Pfn, to: Pfn) -> Result<(), CopyError> {
        match self.private.as_deref() {
            Some(private) if private.has(from) => return self.copy_private(private, from, to),
            Some(_) => self.claim(to, false).map_err(|_| CopyError)?,
            None => {}
        }
        let ((source, at), (target, into)) = (self.frame(from).ok_or(CopyError)?, self.frame(to).ok_or(CopyError)?);
        // SAFETY: 1: every entry of the source is a migration entry and the barrier is over, so no mapping of it lets anybody
        // write; the direct map is written by owners of the page lock, which the run holds. 2: the destination is a new page,
        // mapped nowhere. 3: a page is not its own target: both are locked, and a lock is taken once.
        unsafe { source.copy_frame(at, target, into) }.map_err(|_| CopyError)
    }

    fn free_frame(&self, pfn: Pfn) {
        if let Some(page) = self.page(pfn) {
            page.set_mapping(Mapping::None);
            debug_assert_eq!(page.check_free(), Ok(()), "{pfn:?}");
        }
        self.refused.forget(pfn);
        self.untake(pfn);
    }
}

/// A switch that only ever goes on.
#[derive(Debug, Default)]
pub(crate) struct Latch(AtomicBool);

impl Latch {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

//! The kernel that the process plays: frames, descriptors, lists, areas and caches, and what the core asks of them.
//!
//! Locks, in the order they are taken: page lock, [`Areas`], table locks (by rising space number), page cache, LRU, free frames;
//! under a table lock also the second engine's own, which take no other: a block's memory, the waits that are noted.
//! The fault handler takes none of them. No thread touches emulated memory while it holds one, and nor do the fault server and
//! the migrator at any time: so whoever faults holds none.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use core::time::Duration;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Instant;

use migrate_core::{CopyError, PageRef, UsesPageMap};
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
use crate::sys::node::{HUGE, NodeMemory};
use crate::sys::server::Desk;
use crate::trace::Recording;

/// Takes a lock. A thread that panicked left data that are still whole: every change under these locks is made whole first.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Frames that are made large pages together: the call takes a while, however many they are.
const GROUP: usize = 32 * HUGE;

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

/// What is known of the process's mappings.
#[derive(Debug, Default)]
struct Mappings {
    limit: usize,
    /// Those that are not in any space, when last looked at.
    others: AtomicUsize,
    /// Those in spaces: one for each, and one for each edge.
    ours: AtomicUsize,
    peak: AtomicUsize,
    /// When they were last looked at.
    looked: Mutex<Option<Instant>>,
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
            mappings: Mappings {
                limit,
                ..Mappings::default()
            },
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

    /// Returns the node that holds a frame, and the frame's place in it.
    pub(crate) fn frame(&self, pfn: Pfn) -> Option<(&NodeMemory, usize)> {
        let (node, frame) = self.place_of(pfn.index()?);
        Some((self.nodes.get(node)?, frame))
    }

    /// Returns the node and the frame within it. There are few nodes and many calls: counting is quicker than dividing.
    pub(crate) fn place_of(&self, index: usize) -> (usize, usize) {
        let (mut node, mut frame) = (0, index);
        while frame >= self.frames_per_node && node < self.nodes.len() {
            frame -= self.frames_per_node;
            node += 1;
        }
        (node, frame)
    }

    /// Returns how many frames of a node are free.
    pub(crate) fn free_on(&self, node: NodeId) -> usize {
        self.free
            .get(usize::from(node.raw()))
            .map_or(0, |free| lock(free).len())
    }

    /// Visits every free frame, with its node's free frames locked.
    pub(crate) fn each_free(&self, see: &mut dyn FnMut(Pfn)) {
        for free in &self.free {
            lock(free).iter().for_each(&mut *see);
        }
    }

    /// True where the frame is on the node that demand faults prefer.
    pub(crate) fn prefers(&self, pfn: Pfn) -> bool {
        usize::from(self.node_of(pfn).raw()) == self.preferred.load(Ordering::Relaxed)
    }

    /// Says on which node demand faults take their frames.
    pub(crate) fn prefer(&self, node: NodeId) {
        self.preferred.store(usize::from(node.raw()), Ordering::Relaxed);
    }

    /// Takes up to `want` neighbouring frames of one node for pages of which the first is in `old`: from `beside` on, where these are
    /// free; else at the place of `old` in its own node; else where they lie in their large pages as those from `old` on, if possible.
    pub(crate) fn take_on(&self, node: NodeId, want: usize, old: Pfn, beside: Option<Pfn>) -> Option<(Pfn, usize)> {
        let (_, at) = self.place_of(old.index()?);
        let same = Pfn::new((usize::from(node.raw()) * self.frames_per_node + at) as u64);
        let mut free = lock(self.free.get(usize::from(node.raw()))?);
        let mut exactly = beside.into_iter().chain([same]);
        let taken = exactly
            .find(|pfn| free.take_all_at(*pfn, want))
            .map(|pfn| (pfn, want))
            .or_else(|| free.take_run(want, Some(at)));
        drop(free);
        taken.inspect(|(first, n)| self.taken(*first, *n))
    }

    /// Makes the memory of taken frames large.
    fn taken(&self, first: Pfn, n: usize) {
        // With two engines, what the frames are for is not known yet.
        if self.private.is_none() {
            self.enlarge_shared(first, n);
        }
    }

    /// Makes the memory of shared pages in taken frames large, the first time that any frame of a group is taken.
    pub(crate) fn enlarge_shared(&self, first: Pfn, n: usize) {
        let Some((node, frame)) = self.frame(first).filter(|_| self.options.large) else {
            return;
        };
        let groups = self.frames_per_node.div_ceil(GROUP);
        let base = usize::from(node.id().raw()) * groups;
        for group in frame / GROUP..(frame + n).div_ceil(GROUP) {
            let known = self.large.get(base + group);
            if known.is_some_and(|known| !known.load(Ordering::Relaxed) && !known.swap(true, Ordering::Relaxed)) {
                node.make_large(group * GROUP, GROUP);
            }
        }
    }

    /// Takes up to `want` neighbouring frames, on the preferred node where it has any.
    pub(crate) fn take_frames(&self, want: usize) -> Option<(Pfn, usize)> {
        let first = self.preferred.load(Ordering::Relaxed);
        let taken =
            (0..self.free.len()).find_map(|n| lock(self.free.get((first + n) % self.free.len())?).take_run(want, None));
        taken.inspect(|(first, n)| self.taken(*first, *n))
    }

    /// Takes exactly this frame, if it is free.
    pub(crate) fn take_at(&self, pfn: Pfn) -> bool {
        let node = usize::from(self.node_of(pfn).raw());
        let taken = self.free.get(node).is_some_and(|free| lock(free).take_at(pfn));
        if taken {
            self.taken(pfn, 1);
        }
        taken
    }

    /// Returns where on the preferred node `pages` neighbouring pages would fit, the first of which is page `at` of its range.
    pub(crate) fn place(&self, at: usize, pages: usize) -> Option<Pfn> {
        let first = self.preferred.load(Ordering::Relaxed);
        let (pfn, n) = lock(self.free.get(first)?).find(pages, Some(at))?;
        (n >= pages.min(64)).then_some(pfn)
    }

    /// Puts frames back that were taken and not made pages.
    pub(crate) fn untake(&self, pfn: Pfn) {
        if let Some(free) = self.free.get(usize::from(self.node_of(pfn).raw())) {
            lock(free).give_back(pfn);
        }
    }

    /// Makes a taken frame a page with one reference.
    pub(crate) fn new_page(&self, pfn: Pfn) -> Option<PageRef> {
        let page = PageRef::allocate(self.page_map(), pfn);
        debug_assert!(page.is_some(), "a free frame {pfn:?} is in use");
        page
    }

    /// Returns a new page on `node`: one reference, on no list, mapped nowhere. `None` where no frame is free there.
    ///
    /// For who drives the core without [`Machine::migrate`](crate::Machine::migrate); `put` frees it.
    pub fn allocate_on(&self, node: NodeId) -> Option<PageRef> {
        let (pfn, n) = lock(self.free.get(usize::from(node.raw()))?).take_run(1, None)?;
        self.taken(pfn, n);
        self.new_page(pfn)
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

    /// Tries a change of mappings, giving ballast up as long as the limit is in the way.
    pub(crate) fn rescue(&self, op: impl FnMut() -> Result<(), MapError>) -> Result<(), MapError> {
        let done = self.ballast.rescue(op);
        if done.as_ref().is_err_and(MapError::is_mapping_limit) {
            self.mappings.peak.fetch_max(self.mappings.limit, Ordering::Relaxed);
        }
        done
    }

    /// True where translations of `n` restored pages are made at once.
    pub(crate) const fn populates(&self, n: usize) -> bool {
        self.options.populate && n > 1
    }

    /// Accounts for mappings of a space that came or went.
    pub(crate) fn mappings_changed(&self, before: usize, after: usize) {
        let ours = &self.mappings.ours;
        let now = if after >= before {
            ours.fetch_add(after - before, Ordering::Relaxed) + (after - before)
        } else {
            ours.fetch_sub(before - after, Ordering::Relaxed) - (before - after)
        };
        let all = now + self.mappings.others.load(Ordering::Relaxed);
        self.mappings.peak.fetch_max(all, Ordering::Relaxed);
    }

    /// Counts the process's mappings anew, now and then: others come and go without telling, and looking takes a while.
    pub(crate) fn look_at_mappings(&self) {
        let mut looked = lock(&self.mappings.looked);
        if looked.is_some_and(|looked| looked.elapsed() < Duration::from_millis(200)) {
            return;
        }
        *looked = Some(Instant::now());
        if let Ok(all) = maps::in_use() {
            let ours = self.mappings.ours.load(Ordering::Relaxed);
            self.mappings.others.store(all.saturating_sub(ours), Ordering::Relaxed);
            self.mappings.peak.fetch_max(all, Ordering::Relaxed);
        }
        // Best effort: what is missing now is asked for again at the next look.
        let _ = self.ballast.refill();
    }

    /// True where `sites` entries may be in flight, with two mappings more each, without coming near the limit.
    ///
    /// What other runs have in flight at the same time is what the ballast is for.
    pub(crate) fn has_room(&self, sites: usize) -> bool {
        const MARGIN: usize = 128;
        let used = self.mappings.others.load(Ordering::Relaxed) + self.mappings.ours.load(Ordering::Relaxed);
        used + 2 * sites + MARGIN <= self.mappings.limit
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

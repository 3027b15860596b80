//! The model: a small kernel in memory, for tests.
//!
//! It has what a migration meets: nodes of frames, address spaces with page tables and VMAs, fork and copy-on-write, files
//! with a page cache and buffers, swap, pins, and for every CPU a TLB that keeps stale translations until somebody flushes
//! them, as hardware does. Its one simplification of memory: a frame's contents are one word.
//!
//! # Protocol
//!
//! Locks, outermost first: a space's `mmap_sem`, a page, the VMAs (Linux: `i_mmap_lock` and the anon-vma's lock in one), a CPU's
//! TLB, a space's page table, and then the LRU, the caches, edits not flushed yet, or memory, which comes last. An entry held
//! in a walk holds its table's lock. An instruction holds its CPU's TLB, so that a flush, as the interrupt that it is, comes
//! before it or after it. A reference that an entry held is dropped when the flush is over, so that a CPU with a stale
//! translation cannot reach somebody else's page.
//!
//! One thread runs the model. Where it would sleep it does what the test queued with [`Model::on_sleep`]; with nothing queued
//! nothing could ever wake it, and it panics. Other threads are what [`Model::on_wake`] is given: they go on when a page lock
//! opens. Under `cfg(shuttle)` threads are real, the locks are shuttle's, and who sleeps sleeps. All of this module is test
//! code: what cannot happen in a kernel that is right panics or is remembered until [`Model::check`].
//!
//! | file | what |
//! |---|---|
//! | `mod.rs` | the state, and the seam's page half |
//! | `lock.rs`, `sleep.rs` | locks; sleeping and waking |
//! | `memory.rs` | nodes, allocation, contents |
//! | `table.rs` | page tables and held entries |
//! | `rmap.rs` | walks, flushes, waiting on an entry |
//! | `cache.rs`, `buffers.rs` | the page cache; the buffers of its pages |
//! | `writeback.rs` | dirty pages, and writing them |
//! | `swap.rs` | swap slots and the swap cache |
//! | `access.rs` | what a CPU does: TLB, table, fault |
//! | `vmas.rs`, `ops.rs` | what programs ask for: map, fork, mprotect, munmap, mremap, truncate |
//! | `check.rs` | what the checks of the invariants are shown |
//! | `look.rs` | the invariants of one entry and of one frame |
//! | `fixture.rs` | what scenarios ask for |
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "test code: a model that is wrong stops the test"
)]

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use mm_types::trace::Observer;
use mm_types::{ActorId, Invariant, Lru as LruLists, Mode, NodeId, Outcome, Page, PageMap, Pfn, Reason, Refusal, Site};

use crate::invariants::Inspect as _;
pub use crate::invariants::Violation;
use crate::{
    Args, CopyError, FromFn, Isolated, Lru, PageRef, Profile, Slot, Tally, UsesPageMap, isolate_lru_page,
    migrate_pages, migrate_prep, putback_lru_pages,
};

mod access;
mod buffers;
mod cache;
mod check;
mod fixture;
mod lock;
mod look;
mod memory;
mod ops;
mod rmap;
mod sleep;
mod swap;
mod table;
#[cfg(test)]
mod tests;
mod vmas;
mod writeback;

pub use access::{Access, Op};
pub use fixture::ModelFixture;
pub use memory::POISON;
pub use table::Gather;
pub use writeback::WritePage;

use cache::Caches;
use lock::Lock;
use memory::Memory;
use rmap::Tlbs;
use table::Space;
use vmas::Vmas;

/// How large a model is, and whose rules its faults follow.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// The first frame's number.
    pub base: Pfn,
    /// Memory nodes; node `n` has the frames from `base + n * frames`.
    pub nodes: u16,
    /// Frames of each node: 64 by default, 24 in Miri, which is slow with many.
    pub frames: u64,
    /// Address spaces there can ever be.
    pub spaces: usize,
    /// CPUs, each with a TLB; an actor runs on the CPU of its number.
    pub cpus: usize,
    /// Whose rules its faults and its readers of entries follow.
    pub profile: &'static Profile,
}

impl Config {
    /// Frames of each node where nobody says. Fewer in Miri: it looks at all of their descriptors whenever the page map is passed on.
    pub(crate) const FRAMES: u64 = if cfg!(miri) { 24 } else { 64 };
}

impl Default for Config {
    fn default() -> Self {
        Self {
            base: Pfn::new(0x100),
            nodes: 2,
            frames: Self::FRAMES,
            spaces: 16,
            cpus: 4,
            profile: &crate::MODERN,
        }
    }
}

/// What a sleeping thread of the model does instead of sleeping.
type Wakeup = Box<dyn FnOnce(&Model) + Send>;

/// The kernel.
pub struct Model {
    config: Config,
    pages: Box<[Page]>,
    memory: Lock<Memory>,
    lru: Lock<LruLists>,
    vmas: Lock<Vmas>,
    spaces: Box<[Space]>,
    caches: Lock<Caches>,
    tlbs: Tlbs,
    #[cfg(shuttle)]
    queue: sleep::WaitQueue,
    wakeups: Lock<VecDeque<Wakeup>>,
    sleepers: Lock<Vec<(Pfn, Wakeup)>>,
    finished: Lock<Vec<(ActorId, Site, Access)>>,
    violations: Lock<Vec<Violation>>,
}

impl core::fmt::Debug for Model {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Model")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Default for Model {
    fn default() -> Self {
        Self::new(Config::default())
    }
}

impl Model {
    /// Makes a kernel with all memory free and no address space.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let frames = usize::try_from(u64::from(config.nodes) * config.frames).expect("a small model");
        Self {
            config,
            pages: (0..frames).map(|_| Page::new()).collect(),
            memory: Lock::new(Memory::new(&config)),
            lru: Lock::new(LruLists::new(NodeId::new(0))),
            vmas: Lock::new(Vmas::default()),
            spaces: (0..config.spaces).map(|_| Space::default()).collect(),
            caches: Lock::new(Caches::default()),
            tlbs: Tlbs::new(config.cpus),
            #[cfg(shuttle)]
            queue: sleep::WaitQueue::default(),
            wakeups: Lock::default(),
            sleepers: Lock::default(),
            finished: Lock::default(),
            violations: Lock::default(),
        }
    }

    /// Returns the descriptor of `pfn`.
    ///
    /// # Panics
    /// Where the model has no such frame.
    #[must_use]
    pub fn page(&self, pfn: Pfn) -> &Page {
        self.page_map().page(pfn).expect("a frame of the model")
    }

    /// Queues what happens the next time a thread would sleep: what wakes it, or somebody else's work.
    pub fn on_sleep(&self, wakeup: impl FnOnce(&Self) + Send + 'static) {
        self.wakeups.lock().push_back(Box::new(wakeup));
    }

    /// Lets another thread go on once somebody wakes who sleeps on `pfn`: a page lock or writeback that was waited for is over.
    /// It runs within the wake-up, so it must not sleep; it may ask again.
    pub fn on_wake(&self, pfn: Pfn, thread: impl FnOnce(&Self) + Send + 'static) {
        self.sleepers.lock().push((pfn, Box::new(thread)));
    }

    /// Takes `pfn` off the LRU, after draining the staging arrays.
    ///
    /// # Errors
    /// As [`isolate_lru_page`].
    pub fn isolate(&self, pfn: Pfn, observer: impl Observer) -> Result<Isolated<PageRef>, Refusal> {
        migrate_prep(self);
        isolate_lru_page(self, &PageRef::counted(pfn), observer)
    }

    /// Takes the page lock as somebody else would, without a reference (the reader of a page has the cache's); false where it is taken.
    #[must_use]
    pub fn lock_page(&self, pfn: Pfn) -> bool {
        self.page(pfn).flags().try_lock()
    }

    /// Opens the page lock that [`Model::lock_page`] took.
    pub fn unlock_page(&self, pfn: Pfn) {
        if self.page(pfn).flags().unlock() {
            mm_types::Sleep::wake_all(self, self.page(pfn).flags().word());
        }
    }

    /// Pins a page for direct access: one reference and one pin; false where it is free or frozen.
    pub fn pin(&self, pfn: Pfn) -> bool {
        let alive = self.page(pfn).get_unless_zero();
        if alive {
            self.page(pfn).add_pin();
        }
        alive
    }

    /// Ends one pin.
    pub fn unpin(&self, pfn: Pfn) {
        self.page(pfn).remove_pin();
        crate::Frames::put(self, PageRef::counted(pfn));
    }

    /// Stages a new page for the LRU.
    pub(super) fn add_to_lru(&self, pfn: Pfn) {
        let added = self.with_lru(|lru| lru.add_new(self.page_map(), pfn, |pfn| self.free(pfn)));
        added.expect("a new page is on no list");
    }

    /// Returns a target that allocates on `node`, and nowhere else.
    pub fn target(
        &self,
        node: NodeId,
    ) -> FromFn<impl FnMut(&PageRef) -> Result<PageRef, Refusal> + '_, impl FnMut(PageRef) + '_> {
        FromFn {
            take: move |_old: &PageRef| {
                self.notice_spinlock("a new page is allocated");
                self.allocate(node).ok_or(Refusal::NoTarget)
            },
            give_back: |page| crate::Frames::put(self, page),
        }
    }

    /// Isolates `pfns`, migrates them to `node` with `batch` slots, puts back what is left, drains; returns the tally and every
    /// outcome in the order told. A page that cannot be isolated is told as refused.
    ///
    /// # Panics
    /// Where `batch` is 0.
    pub fn migrate<O: Observer>(
        &self,
        pfns: &[Pfn],
        node: NodeId,
        profile: &Profile,
        mode: Mode,
        batch: usize,
        observer: O,
    ) -> (Tally, Vec<(Pfn, Outcome)>) {
        let mut outcomes = Vec::new();
        let (mut from, mut moved, mut failed) = (VecDeque::new(), VecDeque::new(), VecDeque::new());
        for pfn in pfns {
            match self.isolate(*pfn, observer) {
                Ok(page) => from.push_back(page),
                Err(refusal) => outcomes.push((*pfn, Outcome::Refused(refusal))),
            }
        }
        let mut slots: Vec<Slot<Self>> = (0..batch).map(|_| Slot::new()).collect();
        let args = Args {
            from: &mut from,
            target: self.target(node),
            moved: Some(&mut moved),
            failed: &mut failed,
            slots: &mut slots,
            profile,
            mode,
            reason: Reason::SyscallOrCpuset,
            outcome: &mut |page, outcome| outcomes.push((page.pfn(), outcome)),
            observer,
        };
        let tally = migrate_pages(self, args).expect("slots were lent");
        for list in [&mut moved, &mut failed, &mut from] {
            putback_lru_pages(self, list, observer);
        }
        self.drain();
        (tally, outcomes)
    }

    /// Returns how many threads sleep on a page ([`Model::on_wake`]).
    #[must_use]
    pub fn asleep(&self) -> usize {
        self.sleepers.lock().len()
    }

    fn violation(&self, violation: Violation) {
        self.violations.lock().push(violation);
    }

    /// What is done may sleep, or call who does: remembers it where a lock is held that may not be held then (I34).
    fn notice_spinlock(&self, done: &str) {
        if self.holds_spinlock() {
            self.violation(Violation::new(
                Invariant::NoEntriesAtCallback,
                format_args!("{done} under a spinlock"),
            ));
        }
    }
}

impl UsesPageMap for Model {
    type Sleep = Self;

    fn page_map(&self) -> PageMap<'_> {
        PageMap::new(self.config.base, &self.pages)
    }

    fn sleeper(&self) -> &Self {
        self
    }

    fn with_lru<R>(&self, f: impl FnOnce(&mut LruLists) -> R) -> R {
        f(&mut self.lru.lock())
    }

    fn copy_frame(&self, from: Pfn, to: Pfn) -> Result<(), CopyError> {
        self.memory.lock().copy(from, to)
    }

    fn free_frame(&self, pfn: Pfn) {
        self.free(pfn);
    }

    fn wait_buffers(&self, pfn: Pfn) {
        self.sleep_while(self.buffers_of(pfn), || self.buffers_busy(pfn));
    }
}

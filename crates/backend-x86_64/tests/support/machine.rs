//! Memory of the machine: frames in two nodes, which are given out and taken back; and threads that sleep.

use core::alloc::Layout;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::collections::{BTreeSet, VecDeque};
use std::sync::{Condvar, Mutex, mpsc};

use backend_x86_64::{FrameMapping, FrameSource, FrameWords, Paging, Purpose};
use mm_types::{Pfn, Sleep};

use super::cpu::Tlb;
use super::fixture::Threads;

pub(crate) const BASE: Pfn = Pfn::new(0x100);

pub(crate) const POISON: u64 = 0xdead_beef_dead_beef;

#[repr(align(4096))]
struct Frame(FrameWords);

// Says that a shootdown has begun, and hears that it may go on.
type Delay = (mpsc::Sender<()>, mpsc::Receiver<()>);

/// Frames in two nodes of the same size, and CPUs.
pub(crate) struct Machine {
    // One allocation each: Miri splits what it knows of an allocation at every word that is touched.
    frames: Box<[Box<Frame>]>,
    free: [Mutex<VecDeque<Pfn>>; 2],
    pub(super) tlbs: Box<[Mutex<Tlb>]>,
    sleepers: (Mutex<()>, Condvar),
    /// Threads that sleep now.
    pub(crate) asleep: AtomicU32,
    /// Threads that a fixture left asleep.
    pub(crate) threads: Threads,
    pub(super) paging: Paging,
    /// Frames that `take` still gives for tables.
    pub(crate) tables: AtomicUsize,
    /// Shootdowns do nothing: what a kernel does that forgot them.
    pub(crate) deaf: AtomicBool,
    /// The next shootdown waits, before any CPU hears of it; see [`Machine::during_shootdown`].
    pub(super) delayed: Mutex<Option<Delay>>,
    pub(crate) shootdowns: AtomicU32,
}

// SAFETY: frames are aligned arrays of atomics in allocations that live as long as the machine and do not move with it (1, 4),
// one for each frame (2); tests reach them through atomics only (3).
unsafe impl FrameMapping for Machine {
    fn frame(&self, pfn: Pfn) -> Option<NonNull<FrameWords>> {
        Some(NonNull::from(&self.at(pfn)?.0))
    }
}

impl FrameSource for Machine {
    fn take(&self, purpose: Purpose) -> Option<Pfn> {
        if purpose == Purpose::Table {
            let less = |left: usize| left.checked_sub(1);
            self.tables
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
                .ok()?;
        }
        self.take_from(0).or_else(|| self.take_from(1))
    }

    fn give_back(&self, pfn: Pfn) {
        // Under Miri the words that tests look at are enough.
        let words = if cfg!(miri) { 4 } else { 512 };
        for word in self.at(pfn).expect("a frame of this machine").0.iter().take(words) {
            word.store(POISON, Ordering::Relaxed);
        }
        let mut free = self.free[self.node(pfn)].lock().unwrap();
        assert!(!free.contains(&pfn), "{pfn:?} was freed twice");
        free.push_back(pfn);
    }
}

impl Sleep for Machine {
    fn wait(&self, word: &AtomicU32, seen: u32) {
        let guard = self.sleepers.0.lock().unwrap();
        if word.load(Ordering::Acquire) == seen {
            self.asleep.fetch_add(1, Ordering::AcqRel);
            drop(self.sleepers.1.wait(guard).unwrap());
            self.asleep.fetch_sub(1, Ordering::AcqRel);
        }
    }

    fn wake_all(&self, _word: &AtomicU32) {
        let _guard = self.sleepers.0.lock().unwrap();
        self.sleepers.1.notify_all();
    }
}

fn zeroed_frame() -> Box<Frame> {
    let layout = Layout::new::<Frame>();
    // SAFETY: the layout is not empty.
    let frame = unsafe { std::alloc::alloc_zeroed(layout) }.cast::<Frame>();
    // SAFETY: allocated with its layout by the allocator that a box uses; zeros are atomics of 0.
    unsafe { Box::from_raw(frame) }
}

impl Machine {
    pub(crate) fn new(frames: usize, cpus: usize, paging: Paging) -> Self {
        let half = frames as u64 / 2;
        let node = |n: u64| Mutex::new((0..half).map(|at| Pfn::new(BASE.raw() + n * half + at)).collect());
        Self {
            frames: (0..frames).map(|_| zeroed_frame()).collect(),
            free: [node(0), node(1)],
            tlbs: (0..cpus).map(|_| Mutex::default()).collect(),
            sleepers: Default::default(),
            asleep: AtomicU32::new(0),
            threads: Threads::default(),
            paging,
            tables: AtomicUsize::new(usize::MAX),
            deaf: AtomicBool::new(false),
            delayed: Mutex::new(None),
            shootdowns: AtomicU32::new(0),
        }
    }

    /// Runs `edit` on another thread, and `meanwhile` when it has made its edits and no CPU has heard of them.
    pub(crate) fn during_shootdown<R>(&self, edit: impl FnOnce() + Send, meanwhile: impl FnOnce() -> R) -> R {
        let (begun, begins) = mpsc::channel();
        let (goes_on, go_on) = mpsc::channel();
        *self.delayed.lock().unwrap() = Some((begun, go_on));
        std::thread::scope(|scope| {
            scope.spawn(edit);
            begins.recv().expect("the edit needs a shootdown");
            // Dropped with this closure, so that the edit does not wait for ever where `meanwhile` panics.
            let goes_on = goes_on;
            let done = meanwhile();
            goes_on.send(()).unwrap();
            done
        })
    }

    fn at(&self, pfn: Pfn) -> Option<&Frame> {
        let at = usize::try_from(pfn.raw().checked_sub(BASE.raw())?).ok()?;
        self.frames.get(at).map(|frame| &**frame)
    }

    pub(crate) fn node(&self, pfn: Pfn) -> usize {
        usize::from(pfn.raw() - BASE.raw() >= self.frames.len() as u64 / 2)
    }

    pub(crate) fn take_from(&self, node: usize) -> Option<Pfn> {
        self.free[node].lock().unwrap().pop_front()
    }

    pub(crate) fn free_frames(&self) -> BTreeSet<Pfn> {
        let both = self.free.iter().flat_map(|free| free.lock().unwrap().clone());
        both.collect()
    }

    pub(crate) fn data(&self, pfn: Pfn, word: usize) -> &AtomicU64 {
        &self.at(pfn).expect("a frame of this machine").0[word]
    }
}

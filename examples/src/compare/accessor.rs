//! Threads that write to memory while it is moved, and know how long each visit took.

use core::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use core::time::Duration;
use std::time::Instant;

use crate::random::Random;
use crate::words::WORDS;

use super::clock::{Queue, processor_time};

/// Words of a page that a visit writes to, each on a line of its own.
const LINES: usize = 8;

/// A visit that takes longer may have waited for a processor that something else had: it is asked how long.
const LONG: Duration = Duration::from_micros(20);

/// Visits before anything is measured.
const WARM: usize = 2000;

/// What happens to the memory while a visit is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Nothing that counts.
    Between = 0,
    /// Other pages are copied plainly.
    Copying = 1,
    /// It is moved.
    Moving = 2,
    /// The threads end.
    Over = 3,
}

/// The phase that all threads are told.
#[derive(Debug, Default)]
pub struct Told {
    phase: AtomicU8,
    ready: AtomicUsize,
}

impl Told {
    /// Begins a phase.
    pub fn begin(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// Waits until `threads` threads are at work.
    pub fn wait_for(&self, threads: usize) {
        while self.ready.load(Ordering::Relaxed) < threads {
            std::thread::yield_now();
        }
    }
}

/// The visits of one phase.
#[derive(Clone, Debug, Default)]
pub struct Visits {
    /// How long each took, in nanoseconds, without the time in which something else had the processor.
    pub took: Vec<u32>,
    /// The processor time of all.
    pub processor: Duration,
    /// Words that were added to, one by one.
    pub stores: u64,
}

impl Visits {
    /// Adds another thread's.
    pub fn add(&mut self, other: Self) {
        self.took.extend(other.took);
        self.processor += other.processor;
        self.stores += other.stores;
    }

    /// Returns the processor time of one visit in nanoseconds.
    #[must_use]
    pub fn each(&self) -> Option<f64> {
        (!self.took.is_empty()).then(|| self.processor.as_nanos() as f64 / self.took.len() as f64)
    }
}

/// What a thread did, by [`Phase`].
pub type Phases = [Visits; 3];

/// Visits pages in random order until it is told that it is over; adds one to each of a few words of the page.
#[must_use]
pub fn visit(memory: &[&[AtomicU64]], told: &Told, seed: u64) -> Phases {
    let mut phases = Phases::default();
    let mut random = Random::new(seed, 0);
    let (mut phase, mut since) = (Phase::Between as u8, processor_time());
    let queue = Queue::of_this_thread();
    let (mut last, mut warm, mut queued) = (Instant::now(), 0, queue.waited());
    loop {
        let now = told.phase.load(Ordering::Relaxed);
        if now != phase {
            let until = processor_time();
            if let Some(visits) = phases.get_mut(usize::from(phase)) {
                visits.processor += until.saturating_sub(since);
            }
            (phase, since, queued, last) = (now, until, queue.waited(), Instant::now());
        }
        let Some(visits) = phases.get_mut(usize::from(phase)) else {
            return phases;
        };
        if let Some(page) = memory.get(random.below(memory.len())) {
            for word in page.iter().step_by(WORDS / LINES) {
                word.fetch_add(1, Ordering::Relaxed);
                visits.stores += 1;
            }
        }
        let mut at = Instant::now();
        let mut took = at - last;
        if took > LONG {
            let so_far = queue.waited();
            took = took.saturating_sub(so_far.saturating_sub(queued));
            (queued, at) = (so_far, Instant::now());
        }
        if phase != Phase::Between as u8 {
            visits.took.push(u32::try_from(took.as_nanos()).unwrap_or(u32::MAX));
        }
        last = at;
        warm += 1;
        if warm == WARM {
            told.ready.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Returns the sum of all words of the memory.
#[must_use]
pub fn sum(memory: &[&[AtomicU64]]) -> u64 {
    let words = memory.iter().flat_map(|page| page.iter());
    words.fold(0, |sum: u64, word| sum.wrapping_add(word.load(Ordering::Relaxed)))
}

//! What faults cost: counts, and how long accesses were blocked, kept without a lock.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

/// Buckets for each power of two: a value is known to an eighth.
const PARTS: u32 = 8;
const BUCKETS: usize = (64 * PARTS) as usize;

/// A histogram of durations; many threads add at once, none waits. Async-signal-safe.
#[derive(Debug)]
pub(crate) struct Histogram {
    buckets: Box<[AtomicU64]>,
    worst: AtomicU64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self {
            buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(),
            worst: AtomicU64::new(0),
        }
    }

    /// Adds one duration in nanoseconds.
    pub(crate) fn add(&self, ns: u64) {
        if let Some(bucket) = self.buckets.get(bucket(ns)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.worst.fetch_max(ns, Ordering::Relaxed);
    }

    /// Returns what was added so far.
    pub(crate) fn read(&self) -> Stalls {
        let counts: Vec<u64> = self.buckets.iter().map(|b| b.load(Ordering::Relaxed)).collect();
        let count: u64 = counts.iter().sum();
        let worst = self.worst.load(Ordering::Relaxed);
        // The upper end of the bucket that holds the share's last value.
        let at = |share: u64| {
            let rank = (count * share).div_ceil(100).max(1);
            let mut seen = 0;
            let mut buckets = counts.iter().enumerate();
            buckets
                .find(|(_, n)| {
                    seen += **n;
                    seen >= rank
                })
                .map_or(0, |(bucket, _)| end(bucket).min(worst))
        };
        let time = |ns| Duration::from_nanos(if count == 0 { 0 } else { ns });
        Stalls {
            count,
            p50: time(at(50)),
            p99: time(at(99)),
            worst: time(worst),
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        for bucket in &self.buckets {
            bucket.store(0, Ordering::Relaxed);
        }
        self.worst.store(0, Ordering::Relaxed);
    }
}

fn bucket(ns: u64) -> usize {
    let Some(power) = ns.checked_ilog2().filter(|power| *power >= PARTS.ilog2()) else {
        return ns as usize;
    };
    let shift = power - PARTS.ilog2();
    let part = (ns >> shift) as u32 - PARTS;
    (((shift + 1) * PARTS) + part) as usize
}

/// Returns the largest value of a bucket.
fn end(bucket: usize) -> u64 {
    let (shift, part) = (bucket as u32 / PARTS, u64::from(bucket as u32 % PARTS));
    if shift == 0 {
        return part;
    }
    let width = 1u64 << (shift - 1);
    ((u64::from(PARTS) + part) << (shift - 1)) | (width - 1)
}

/// How long accesses were blocked by migrations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Stalls {
    /// Accesses that were blocked.
    pub count: u64,
    /// Half of them no longer than this, to an eighth.
    pub p50: Duration,
    /// All but one in a hundred no longer than this, to an eighth.
    pub p99: Duration,
    /// The longest.
    pub worst: Duration,
}

/// Faults by what they were about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Faults {
    /// A page in flight: the access waited.
    pub migration: u64,
    /// A page that was about to be mapped: the access tried again.
    pub again: u64,
    /// A page that was not there: filled with zeroes, or read from its file.
    pub demand: u64,
    /// A page that was copied, or made writable.
    pub write: u64,
    /// Nothing of ours allowed the access: handed on.
    pub foreign: u64,
}

/// What a machine has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Accesses blocked by migrations.
    pub stalls: Stalls,
    /// Faults by kind.
    pub faults: Faults,
    /// Mappings of the process now, as far as this machine knows: its own exactly, others as last looked at.
    pub mappings: usize,
    /// The most mappings seen.
    pub peak_mappings: usize,
    /// Mappings that the process may have (`vm.max_map_count`).
    pub mapping_limit: usize,
    /// Mappings held back for finishing and undoing.
    pub ballast: usize,
}

/// A fault's kind, as an index of [`FaultCounts`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Migration,
    Again,
    Demand,
    Write,
    Foreign,
}

#[derive(Debug, Default)]
pub(crate) struct FaultCounts([AtomicU64; 5]);

impl FaultCounts {
    pub(crate) fn count(&self, kind: Kind) {
        if let Some(count) = self.0.get(kind as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn read(&self) -> Faults {
        let [migration, again, demand, write, foreign] = self.0.each_ref().map(|n| n.load(Ordering::Relaxed));
        Faults {
            migration,
            again,
            demand,
            write,
            foreign,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_each_other_without_gap_or_overlap() {
        for ns in (0..5000).chain([u64::MAX - 1, u64::MAX]) {
            let b = bucket(ns);
            assert!(b < BUCKETS && ns <= end(b), "{ns}");
            assert!(b == 0 || ns > end(b - 1), "{ns}");
        }
    }

    #[test]
    fn shares_are_known_to_an_eighth() {
        let h = Histogram::new();
        assert_eq!(h.read(), Stalls::default());
        for ns in 1..=1000 {
            h.add(ns * 1000);
        }
        let read = h.read();
        assert_eq!((read.count, read.worst), (1000, Duration::from_micros(1000)));
        for (got, exact) in [(read.p50, 500), (read.p99, 990)] {
            assert!(got >= Duration::from_micros(exact) && got <= Duration::from_micros(exact * 9 / 8 + 1));
        }
    }
}

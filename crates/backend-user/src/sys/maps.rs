//! How many mappings the process has, and how many it may have.
//!
//! The kernel counts VMAs (`mm->map_count`) against `vm.max_map_count`. Reading `/proc/self/maps` gives the true number and
//! costs a walk over all of them, so it is done now and then, and a peak is kept.

use core::sync::atomic::{AtomicUsize, Ordering};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};

/// Returns `vm.max_map_count`.
///
/// # Errors
/// What reading `/proc/sys/vm/max_map_count` answers.
pub fn limit() -> io::Result<usize> {
    let text = fs::read_to_string("/proc/sys/vm/max_map_count")?;
    text.trim()
        .parse()
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "max_map_count is not a number"))
}

/// Returns how many mappings the process has now, as the kernel counts them.
///
/// # Errors
/// What reading `/proc/self/maps` answers.
pub fn in_use() -> io::Result<usize> {
    let mut maps = BufReader::with_capacity(1 << 16, File::open("/proc/self/maps")?);
    let mut line = Vec::with_capacity(256);
    let mut n = 0;
    while maps.read_until(b'\n', &mut line)? != 0 {
        // The vsyscall page is listed but is nobody's VMA.
        n += usize::from(!line.ends_with(b"[vsyscall]\n"));
        line.clear();
    }
    Ok(n)
}

/// The number of mappings, followed over a run.
#[derive(Debug, Default)]
pub struct Tally {
    last: AtomicUsize,
    peak: AtomicUsize,
}

impl Tally {
    /// Starts at nothing seen.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            last: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
        }
    }

    /// Looks at the process and returns how many mappings it has now.
    ///
    /// # Errors
    /// What reading `/proc/self/maps` answers; the tally keeps what it had.
    pub fn sample(&self) -> io::Result<usize> {
        let n = in_use()?;
        self.last.store(n, Ordering::Relaxed);
        self.peak.fetch_max(n, Ordering::Relaxed);
        Ok(n)
    }

    /// Tells the tally that the limit was hit: the process had as many mappings as it may have.
    pub fn hit_limit(&self) {
        if let Ok(n) = limit() {
            self.peak.fetch_max(n, Ordering::Relaxed);
        }
    }

    /// Returns what the last look saw.
    #[must_use]
    pub fn last(&self) -> usize {
        self.last.load(Ordering::Relaxed)
    }

    /// Returns the most ever seen.
    #[must_use]
    pub fn peak(&self) -> usize {
        self.peak.load(Ordering::Relaxed)
    }
}

//! The running kernel moves pages of ours: memory that is in its way, compaction, and what it traces of that. Only root may.

mod fragments;
mod tracing;

use std::{fs, io};

pub use fragments::Fragments;
pub use tracing::Tracing;

/// Where the kernel is asked to compact its memory.
const COMPACT: &str = "/proc/sys/vm/compact_memory";

/// Has the kernel compact the memory of all nodes (Linux: `sysctl_compaction_handler`); returns when it is done. The pages are moved
/// by the calling thread.
///
/// # Errors
/// Nobody but root may, or the kernel was built without.
pub fn compact() -> io::Result<()> {
    fs::write(COMPACT, "1")
}

/// Says why the kernel cannot be asked to compact its memory, where it cannot.
#[must_use]
pub fn cannot_compact() -> Option<String> {
    // SAFETY: a system call without arguments that cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        return Some("only root may trace the kernel and ask it to compact its memory".to_owned());
    }
    let absent = fs::metadata(COMPACT).is_err();
    absent.then(|| format!("this kernel has no {COMPACT} (CONFIG_COMPACTION)"))
}

/// Returns a counter of `/proc/vmstat`; 0 for one that this kernel does not have.
#[must_use]
pub fn vmstat(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/vmstat").unwrap_or_default();
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    let found = lines.find(|(key, _)| *key == name);
    found.and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
}

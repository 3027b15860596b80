//! How much memory a job needs, and how much there is.

use std::fs;

/// The largest reference buffer: beyond this, a plain copy starts again from its beginning.
pub const REFERENCE_BYTES: u64 = 256 << 20;

/// What threads, tables and the program itself take, roughly.
const REST: u64 = 32 << 20;

/// Returns the bytes that a job with `size` of anonymous memory and a file of `file` bytes needs, or `None` where no
/// 64-bit number says it.
///
/// A node that gave its frames away keeps their memory, so both count fully; the file's contents are held once more to
/// compare with, and the plain copy has a source and a destination.
#[must_use]
pub fn needed(size: u64, file: u64) -> Option<u64> {
    let moving = size.checked_add(file)?.checked_next_multiple_of(4096)?;
    let reference = moving.min(REFERENCE_BYTES).checked_mul(2)?;
    moving
        .checked_mul(2)?
        .checked_add(reference)?
        .checked_add(file)?
        // Page descriptors, entries and generations: a few dozen bytes for each page of each node.
        .checked_add(moving / 32)?
        .checked_add(REST)
}

/// Returns how many bytes this process may still take: what the machine has, or its control group allows.
#[must_use]
pub fn available() -> Option<u64> {
    let machine = backend_user::sys::node::available_memory();
    match (machine, group()) {
        (Some(machine), Some(group)) => Some(machine.min(group)),
        (machine, group) => machine.or(group),
    }
}

/// What the control group of this process allows beyond what it holds (`cgroups(7)`), in the places where it is mounted.
///
/// Cached files count as used there, but go away when memory is needed: only what cannot is subtracted.
fn group() -> Option<u64> {
    let limit = [
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ]
    .iter()
    .find_map(|path| fs::read_to_string(path).ok()?.trim().parse().ok())?;
    let stat = fs::read_to_string("/sys/fs/cgroup/memory.stat").unwrap_or_default();
    Some(held(&stat).map_or(limit, |held| limit.saturating_sub(held)))
}

fn held(stat: &str) -> Option<u64> {
    let value = |key: &str| {
        let mut lines = stat.lines().filter_map(|line| line.split_once(' '));
        lines.find(|(name, _)| *name == key)?.1.parse::<u64>().ok()
    };
    value("anon")?.checked_add(value("shmem")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_needs_both_nodes_and_both_buffers() {
        let mib = 1 << 20;
        let need = needed(100 * mib, 50 * mib).unwrap();
        assert!(need > (2 * 150 + 2 * 150 + 50) * mib);
        assert!(needed(1 << 40, 0).unwrap() > 2 << 40);
        assert_eq!(needed(u64::MAX, 1), None);
        assert_eq!(needed(u64::MAX / 2, 0), None);
    }

    #[test]
    fn this_machine_has_memory() {
        assert!(available().is_some_and(|bytes| bytes > 0));
    }

    #[test]
    fn cached_files_do_not_count_as_held() {
        assert_eq!(held("anon 100\nfile 4000\nkernel 7\nshmem 20\n"), Some(120));
        assert_eq!(held(""), None);
    }
}

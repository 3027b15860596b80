//! Real memory nodes, where the machine has them.

use std::fs;

use super::error::Errno;

/// Whether an emulated node's memory lies on a real one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// Nobody asked.
    Unbound,
    /// The memory comes from this real node only.
    Bound(u32),
    /// It was asked for and the kernel refused (`ENOSYS` without NUMA, `EPERM` in a sandbox); the memory works all the same.
    Failed(Errno),
}

/// Returns the real nodes that have memory, in rising order; empty where the kernel does not say.
#[must_use]
pub fn real_nodes() -> Vec<u32> {
    let dir = "/sys/devices/system/node";
    let list = fs::read_to_string(format!("{dir}/has_memory")).or_else(|_| fs::read_to_string(format!("{dir}/online")));
    list.map(|l| parse_list(&l)).unwrap_or_default()
}

/// Reads the kernel's list format (`0-2,4`); what does not parse is left out.
fn parse_list(list: &str) -> Vec<u32> {
    let mut nodes = Vec::new();
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse()) {
            nodes.extend(first..=last);
        }
    }
    nodes
}

/// Asks that the pages of a shared mapping come from real node `node` only (`mbind(2)`, `MPOL_BIND`).
///
/// The policy belongs to the memory behind the mapping (`shmem`'s inode), so it holds for every other mapping of it, for
/// pages that are not there yet. `start` and `len` are whole pages mapped by the caller.
pub(crate) fn bind(start: *mut u8, len: usize, node: u32) -> Binding {
    const BITS: usize = 1024;
    let mut mask = [0u64; BITS / 64];
    let Some(word) = mask.get_mut(node as usize / 64) else {
        return Binding::Failed(Errno::new(libc::EINVAL));
    };
    *word = 1 << (node % 64);
    // The kernel takes one bit less than it is told (`get_nodes`, mm/mempolicy.c).
    let maxnode = BITS + 1;
    // SAFETY: `mask` is live for the call and holds the bits announced; a policy changes where pages come from, not
    // what they hold.
    let rc = unsafe { libc::syscall(libc::SYS_mbind, start, len, libc::MPOL_BIND, mask.as_ptr(), maxnode, 0) };
    if rc == 0 {
        Binding::Bound(node)
    } else {
        Binding::Failed(Errno::last())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_nodes_is_read() {
        assert_eq!(parse_list("0-2,4\n"), [0, 1, 2, 4]);
        assert_eq!(parse_list("0\n"), [0]);
        assert_eq!(parse_list("\n"), []);
    }
}

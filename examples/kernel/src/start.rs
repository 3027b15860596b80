//! What the loader told: the command line, and where memory is (Xen: `hvm_start_info`).

use core::ffi::CStr;

use migrate_core::{LINUX_2_6_17, MODERN, Profile};
use mm_types::Mode;

use crate::memory::{DIRECT_MAP_BYTES, direct};
use crate::storm::Storm;

const MAGIC: u32 = 0x336e_c578;
const RAM: u32 = 1;

#[repr(C)]
struct StartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    modules: u32,
    module_list: u64,
    command_line: u64,
    rsdp: u64,
    memory_map: u64,
    memory_map_entries: u32,
    reserved: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Range {
    start: u64,
    size: u64,
    kind: u32,
    reserved: u32,
}

/// What the kernel needs to know of its machine.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// The command line.
    pub command_line: &'static str,
    /// The end of the memory that the kernel is loaded into.
    pub memory_end: u64,
}

/// Reads the start information at physical address `at`.
pub fn read(at: u32) -> Start {
    let info = direct(at.into()).cast::<StartInfo>();
    // SAFETY: the loader's, in memory below 1 GiB, which the direct map shows; nobody writes it.
    let info = unsafe { info.read_unaligned() };
    assert!(
        info.magic == MAGIC && info.version >= 1,
        "started by something other than PVH"
    );
    let line = direct(info.command_line).cast_const().cast();
    // SAFETY: the protocol says that a string with a 0 at its end is there; nobody writes it.
    let line = unsafe { CStr::from_ptr(line) };
    let first = direct(info.memory_map).cast::<Range>();
    let ranges = (0..info.memory_map_entries as usize).map(|n| {
        let range = first.wrapping_add(n);
        // SAFETY: one of the entries that the protocol says are there.
        unsafe { range.read_unaligned() }
    });
    let image = 1 << 20;
    let mut around =
        ranges.filter(|range| range.kind == RAM && (range.start..range.start + range.size).contains(&image));
    let memory = around.next().expect("the kernel is loaded into memory");
    Start {
        command_line: line.to_str().unwrap_or_default(),
        memory_end: (memory.start + memory.size).min(DIRECT_MAP_BYTES),
    }
}

impl Start {
    /// Returns the value of `word=value` on the command line.
    pub fn value(&self, word: &str) -> Option<&'static str> {
        let mut words = self.command_line.split_ascii_whitespace();
        words.find_map(|one| one.strip_prefix(word)?.strip_prefix('='))
    }

    /// Returns the number of `word=number` on the command line.
    pub fn number(&self, word: &str) -> Option<u64> {
        let value = self.value(word)?;
        Some(value.parse().unwrap_or_else(|_| panic!("{word}={value} is no number")))
    }

    /// Returns whose rules are asked for.
    pub fn profile(&self) -> &'static Profile {
        match self.value("profile") {
            Some("linux") => &LINUX_2_6_17,
            None | Some("modern") => &MODERN,
            Some(other) => panic!("profile is linux or modern, not {other}"),
        }
    }

    /// Returns the storm that is asked for.
    pub fn storm(&self) -> Storm {
        Storm {
            profile: self.profile(),
            mode: match self.value("wait") {
                None => Mode::Sync,
                Some(word) => word
                    .parse()
                    .unwrap_or_else(|_| panic!("wait is async, sync-light or sync, not {word}")),
            },
            migrations: self.number("migrations").unwrap_or(10_000),
            until_wrong: match self.value("until") {
                None => false,
                Some("wrong") => true,
                Some(other) => panic!("until is wrong, not {other}"),
            },
        }
    }
}

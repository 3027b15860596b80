//! The kernel's own traces of migration: the text of ftrace, read and held against the rules that it can show.
//!
//! Linux tells of the two ends of a run (`mm_migrate_pages_start`, `mm_migrate_pages`) and of each entry that is replaced
//! and comes back (`set_migration_pte`, `remove_migration_pte`). It does not tell of locks, copies and barriers.

mod judge;
mod read;
mod runs;
#[cfg(test)]
mod tests;

pub use judge::{Broken, Judged, Wrong, judge, judge_within};
pub use read::{Ended, Happened, Record, Records, Task};
pub use runs::{Run, runs};

/// The kernel's names of the events, in its system `migrate`.
pub mod names {
    /// A run begins.
    pub const START: &str = "mm_migrate_pages_start";
    /// A run ended.
    pub const END: &str = "mm_migrate_pages";
    /// An entry was replaced by a migration entry.
    pub const SET: &str = "set_migration_pte";
    /// A migration entry became a mapping again.
    pub const REMOVE: &str = "remove_migration_pte";
}

/// Returns the word that the kernel's tracepoints have for `mode` (Linux: `MIGRATE_MODE`).
#[must_use]
pub const fn mode_word(mode: mm_types::Mode) -> &'static str {
    match mode {
        mm_types::Mode::Async => "MIGRATE_ASYNC",
        mm_types::Mode::SyncLight => "MIGRATE_SYNC_LIGHT",
        mm_types::Mode::Sync => "MIGRATE_SYNC",
    }
}

/// True where `bytes` look like the text of ftrace rather than like a trace of this project.
#[must_use]
pub fn is_kernels(bytes: &[u8]) -> bool {
    let first = bytes.split(|byte| *byte == b'\n').find(|line| !line.is_empty());
    let Some(first) = first else { return false };
    let begins = |word: &[u8]| first.starts_with(word);
    let Ok(line) = core::str::from_utf8(first) else {
        return false;
    };
    begins(b"# tracer:") || begins(b"cpus=") || begins(b"version = ") || read::head(line).is_some()
}

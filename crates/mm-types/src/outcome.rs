//! What became of a page, and the typed reason where it stayed.
//!
//! A [`Refusal`] names the rule that held the page *and* the holder, as far as the system can know it.
//! It says more than an errno can; [`Refusal::errno`] maps it to the number a kernel of either era would
//! have returned, at the edge.

use core::fmt;

use crate::{Pfn, Rules, Site};

/// The errno values that migration returns (Linux, asm-generic numbers).
pub mod errno {
    /// Operation not permitted.
    pub const EPERM: i32 = 1;
    /// Input/output error.
    pub const EIO: i32 = 5;
    /// Try again.
    pub const EAGAIN: i32 = 11;
    /// Out of memory.
    pub const ENOMEM: i32 = 12;
    /// Device or resource busy.
    pub const EBUSY: i32 = 16;
    /// Invalid argument.
    pub const EINVAL: i32 = 22;
    /// Memory page has hardware error.
    pub const EHWPOISON: i32 = 133;
}

/// Why a page stayed: the rule that was not met, and who holds the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The page lock is held by somebody else.
    LockBusy,
    /// The page is being written back and the run may not wait for it.
    Writeback,
    /// After unmapping, entries still map the page; one of them where the walk saw it.
    Mapped {
        /// A site that still maps the page, where known.
        site: Option<Site>,
    },
    /// Somebody outside the migration holds references.
    ExtraReference {
        /// References the page should have had.
        expected: u32,
        /// References it had.
        found: u32,
    },
    /// The page is pinned for direct access.
    Pinned {
        /// Pins held.
        pins: u32,
    },
    /// A buffer of the page is locked, or under I/O.
    BuffersBusy,
    /// The page's private data could not be released.
    BuffersNotReleasable,
    /// The page-cache slot does not hold the page any more.
    SlotChanged,
    /// The page was cut off its file and only private data keeps it.
    Truncated,
    /// The page is not on an LRU list: in a staging array, already isolated, or never put there.
    NotOnLru,
    /// A locked VMA maps the page (2006: an mlocked page does not move).
    Mlocked {
        /// The site in the locked VMA.
        site: Option<Site>,
    },
    /// The frame is known to be bad.
    Poisoned,
    /// The page is dirty and its file system neither moves nor writes it during migration.
    Dirty,
    /// The page was dirty and has been handed to its file system for writing; try again.
    WrittenOut,
    /// The page is dirty and its file system has no way to write it.
    NoWritepage,
    /// Writing the page out failed.
    WriteFailed,
    /// The file system forbids moving its pages.
    NeverMoves,
    /// There is no new page to move to.
    NoTarget,
    /// Protecting or mapping the page would exceed the number of mappings the system allows.
    MappingLimit,
    /// The expected time that the page would be held exceeds the caller's stall budget.
    StallBudget,
    /// The contents could not be read; nothing had moved.
    CopyFailed,
    /// The contents could not be read after the switch (2006 order): the new page is in place, in error.
    CopiedTooLate,
    /// A failure of the backend, by its own number.
    Backend {
        /// The backend's number, an errno where it is a system call's.
        code: i32,
    },
}

impl Refusal {
    /// Returns the stable word of the rule.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::LockBusy => "lock_busy",
            Self::Writeback => "writeback",
            Self::Mapped { .. } => "mapped",
            Self::ExtraReference { .. } => "extra_reference",
            Self::Pinned { .. } => "pinned",
            Self::BuffersBusy => "buffers_busy",
            Self::BuffersNotReleasable => "buffers_not_releasable",
            Self::SlotChanged => "slot_changed",
            Self::Truncated => "truncated",
            Self::NotOnLru => "not_on_lru",
            Self::Mlocked { .. } => "mlocked",
            Self::Poisoned => "poisoned",
            Self::Dirty => "dirty",
            Self::WrittenOut => "written_out",
            Self::NoWritepage => "no_writepage",
            Self::WriteFailed => "write_failed",
            Self::NeverMoves => "never_moves",
            Self::NoTarget => "no_target",
            Self::MappingLimit => "mapping_limit",
            Self::StallBudget => "stall_budget",
            Self::CopyFailed => "copy_failed",
            Self::CopiedTooLate => "copied_too_late",
            Self::Backend { .. } => "backend",
        }
    }

    /// Returns one plain sentence: what held the page, and what a caller can do.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::LockBusy => "another thread holds the page lock; try again, or use a mode that may block",
            Self::Writeback => "the page is being written back; try again after the write, or use sync",
            Self::Mapped { .. } => "a page table still maps the page; try again",
            Self::ExtraReference { .. } => {
                "somebody else holds a reference, in 2006 also a thread that waits for the page; find and drop it, or try again"
            }
            Self::Pinned { .. } => "the page is pinned for direct access; unpin it, then try again",
            Self::BuffersBusy => "a buffer is locked or under I/O; try again",
            Self::BuffersNotReleasable => "the file system will not give up the page's private data now; try again",
            Self::SlotChanged => "the page cache holds another page at this index; look the page up again",
            Self::Truncated => "the page was truncated from its file; release its private data",
            Self::NotOnLru => "the page is on no LRU list; drain the staging arrays, then isolate again",
            Self::Mlocked { .. } => "a locked VMA maps the page; munlock it, or use the modern profile",
            Self::Poisoned => "the frame is bad; take it out of use",
            Self::Dirty => "the page is dirty and has no mover; write it back, then try again",
            Self::WrittenOut => "the page has been handed to its file system for writing; try again",
            Self::NoWritepage => "the page is dirty and cannot be written; clean it, or give its mapping a mover",
            Self::WriteFailed => "writing the page failed; look at the file system",
            Self::NeverMoves => "its mapping forbids moving; leave it out",
            Self::NoTarget => "no new page; provide more targets",
            Self::MappingLimit => {
                "moving it could need more mappings than the system allows; raise the limit, or move fewer and contiguous pages at a time"
            }
            Self::StallBudget => "moving it would hold the page longer than the stall budget; raise the budget",
            Self::CopyFailed => "the contents cannot be read; nothing moved",
            Self::CopiedTooLate => "the contents could not be read after the switch; the new page is marked in error",
            Self::Backend { .. } => "the backend failed; look at its code",
        }
    }

    /// True where a later attempt may succeed without anybody changing what the page is.
    ///
    /// Pages refused so stay on `from`; the others go to `failed`.
    #[must_use]
    pub const fn is_transient(self) -> bool {
        match self {
            Self::LockBusy
            | Self::Writeback
            | Self::Mapped { .. }
            | Self::ExtraReference { .. }
            | Self::Pinned { .. }
            | Self::BuffersBusy
            | Self::BuffersNotReleasable
            | Self::SlotChanged
            | Self::Truncated
            | Self::NotOnLru
            | Self::Dirty
            | Self::WrittenOut
            | Self::NoTarget
            | Self::MappingLimit
            | Self::StallBudget => true,
            Self::Mlocked { .. }
            | Self::Poisoned
            | Self::NoWritepage
            | Self::WriteFailed
            | Self::NeverMoves
            | Self::CopyFailed
            | Self::CopiedTooLate
            | Self::Backend { .. } => false,
        }
    }

    /// Returns the errno a kernel under `rules` would have returned for the page (a positive number).
    ///
    /// Total: what an era did not know maps to the nearest thing it did.
    #[must_use]
    pub const fn errno(self, rules: Rules) -> i32 {
        match (self, rules) {
            (Self::NotOnLru, _) => errno::EBUSY,
            (Self::Mlocked { .. }, _) => errno::EPERM,
            (Self::NoWritepage, _) => errno::EINVAL,
            (Self::WriteFailed, _) => errno::EIO,
            // `fail_migrate_page`, 2.6.17; the modern answer to an inaccessible mapping is EIO at this edge too.
            (Self::NeverMoves, _) => errno::EIO,
            (Self::CopyFailed | Self::CopiedTooLate | Self::Poisoned, Rules::Modern) => errno::EHWPOISON,
            (Self::CopyFailed | Self::CopiedTooLate | Self::Poisoned, Rules::Linux2617) => errno::EIO,
            (Self::NoTarget | Self::MappingLimit, _) => errno::ENOMEM,
            (Self::Writeback | Self::Dirty | Self::StallBudget, Rules::Modern) => errno::EBUSY,
            (Self::Backend { code }, _) => {
                if code > 0 {
                    code
                } else {
                    errno::EIO
                }
            }
            (
                Self::LockBusy
                | Self::Writeback
                | Self::Mapped { .. }
                | Self::ExtraReference { .. }
                | Self::Pinned { .. }
                | Self::BuffersBusy
                | Self::BuffersNotReleasable
                | Self::SlotChanged
                | Self::Truncated
                | Self::Dirty
                | Self::WrittenOut
                | Self::StallBudget,
                _,
            ) => errno::EAGAIN,
        }
    }

    /// One example of every rule, for tables and exhaustive tests.
    pub const EXAMPLES: &'static [Self] = &[
        Self::LockBusy,
        Self::Writeback,
        Self::Mapped { site: None },
        Self::ExtraReference { expected: 1, found: 2 },
        Self::Pinned { pins: 1 },
        Self::BuffersBusy,
        Self::BuffersNotReleasable,
        Self::SlotChanged,
        Self::Truncated,
        Self::NotOnLru,
        Self::Mlocked { site: None },
        Self::Poisoned,
        Self::Dirty,
        Self::WrittenOut,
        Self::NoWritepage,
        Self::WriteFailed,
        Self::NeverMoves,
        Self::NoTarget,
        Self::MappingLimit,
        Self::StallBudget,
        Self::CopyFailed,
        Self::CopiedTooLate,
        Self::Backend { code: 5 },
    ];
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())?;
        match *self {
            Self::Mapped { site: Some(site) } | Self::Mlocked { site: Some(site) } => {
                write!(f, " site=m{}+{:#x}", site.space.raw(), site.page.raw())
            }
            Self::ExtraReference { expected, found } => write!(f, " expected={expected} found={found}"),
            Self::Pinned { pins } => write!(f, " pins={pins}"),
            Self::Backend { code } => write!(f, " code={code}"),
            _ => Ok(()),
        }
    }
}

impl core::error::Error for Refusal {}

/// What became of one page of a run.
///
/// Each page gets exactly one outcome other than [`Outcome::Retry`]; before it, any number of retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The page's contents are in a new frame; the old page is on `moved`.
    Moved {
        /// The new frame.
        to: Pfn,
    },
    /// Its users freed the page meanwhile: only the isolation held it. It is on `moved`.
    Freed,
    /// This attempt was refused; a later pass of the same run tries again.
    Retry(Refusal),
    /// The page stayed: on `from` where the refusal is transient, else on `failed`.
    Refused(Refusal),
}

impl Outcome {
    /// True for the one outcome that ends a page's run.
    #[must_use]
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Retry(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_rule_has_its_own_word_and_an_errno_in_both_eras() {
        let words: BTreeSet<_> = Refusal::EXAMPLES.iter().map(|refusal| refusal.word()).collect();
        assert_eq!(words.len(), Refusal::EXAMPLES.len());
        for refusal in Refusal::EXAMPLES {
            for rules in Rules::ALL {
                assert!(refusal.errno(*rules) > 0, "{refusal}");
            }
            assert!(!refusal.advice().is_empty());
        }
    }

    #[test]
    fn in_2006_exactly_the_eagain_class_stays_on_from() {
        for refusal in Refusal::EXAMPLES {
            // No target and the mapping limit are not reached, not refused by EAGAIN; isolation is EBUSY.
            if matches!(refusal, Refusal::NoTarget | Refusal::MappingLimit | Refusal::NotOnLru) {
                continue;
            }
            assert_eq!(
                refusal.is_transient(),
                refusal.errno(Rules::Linux2617) == errno::EAGAIN,
                "{refusal}"
            );
        }
    }

    #[test]
    fn each_rule_has_advice_of_its_own_and_a_backends_code_is_its_errno() {
        let advice: BTreeSet<_> = Refusal::EXAMPLES.iter().map(|refusal| refusal.advice()).collect();
        assert!(advice.len() > Refusal::EXAMPLES.len() / 2);
        for rules in Rules::ALL {
            for (code, seen) in [(7, 7), (1, 1), (0, errno::EIO), (-7, errno::EIO)] {
                assert_eq!(Refusal::Backend { code }.errno(*rules), seen);
            }
        }
    }
}

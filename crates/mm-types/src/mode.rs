//! How a run may wait, why it was asked for, and which system's rules it follows.

use core::{fmt, str::FromStr};

/// A word that is none of an enumeration's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what}; one of: {known}")]
pub struct UnknownWord {
    /// What was being read.
    pub what: &'static str,
    /// The words that would have been accepted.
    pub known: &'static str,
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $what:literal, $known:literal, { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$vdoc])* $variant,)*
        }

        impl $name {
            /// Every value, in declaration order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Returns the stable word used in traces and on command lines.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.word())
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;

            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                match text {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(UnknownWord { what: $what, known: $known }),
                }
            }
        }
    };
}
pub(crate) use words;

words! {
    /// What a run may block on (Linux: `enum migrate_mode`, 3.3).
    Mode, "mode", "async, sync-light, sync", {
        /// Never blocks.
        Async = "async",
        /// Blocks on page and buffer locks, never on I/O.
        SyncLight = "sync-light",
        /// Blocks on locks and on writeback.
        Sync = "sync",
    }
}

words! {
    /// Why pages are being moved (Linux: `enum migrate_reason`, with the words of its trace events).
    Reason, "reason",
    "compaction, memory_failure, memory_hotplug, syscall_or_cpuset, mempolicy_mbind, numa_misplaced, contig_range, longterm_pin, demotion, damon", {
        /// Free memory is being made contiguous.
        Compaction = "compaction",
        /// The frame is failing.
        MemoryFailure = "memory_failure",
        /// The memory is being unplugged.
        MemoryHotplug = "memory_hotplug",
        /// A system call or a cpuset change asked.
        SyscallOrCpuset = "syscall_or_cpuset",
        /// `mbind` asked.
        MempolicyMbind = "mempolicy_mbind",
        /// The page is used from another node.
        NumaMisplaced = "numa_misplaced",
        /// A contiguous range is being emptied.
        ContigRange = "contig_range",
        /// The page is about to be pinned for long.
        LongtermPin = "longterm_pin",
        /// The page is cold and goes to a slower tier.
        Demotion = "demotion",
        /// A DAMON scheme asked.
        Damon = "damon",
    }
}

words! {
    /// Which system's rules an errno or a transfer follows.
    Rules, "profile", "linux-2.6.17, modern", {
        /// Linux 2.6.17-rc3-mm1.
        Linux2617 = "linux-2.6.17",
        /// Today's kernel.
        Modern = "modern",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_reads_back_as_itself() {
        for mode in Mode::ALL {
            assert_eq!(mode.word().parse(), Ok(*mode));
        }
        for reason in Reason::ALL {
            assert_eq!(reason.word().parse(), Ok(*reason));
        }
        for rules in Rules::ALL {
            assert_eq!(rules.word().parse(), Ok(*rules));
        }
        assert!("turbo".parse::<Mode>().is_err());
    }
}

//! The kinds of pages that meet failures: which steps each is there to show, and what must come of them.

use mm_types::{Mode, Refusal};

use crate::fixture::Capabilities;
use crate::{EdgeKind, Effect, Injection, MoveOrder, Profile};

/// What a page is, and who is in its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Anon,
    Shared,
    Swapped,
    File,
    Buffers,
    Fallback,
    /// Dirty, without a mover: 2006 writes it out first.
    WrittenOut,
    /// Somebody else has the page lock until the run sleeps for it.
    Locked,
    /// I/O has a buffer until the run sleeps for it.
    BusyBuffer,
    /// Isolated, and cut off its file then: only its private data are left.
    CutOff,
}

impl Kind {
    #[cfg(test)]
    pub(super) const ALL: [Self; 10] = [
        Self::Anon,
        Self::Shared,
        Self::Swapped,
        Self::File,
        Self::Buffers,
        Self::Fallback,
        Self::WrittenOut,
        Self::Locked,
        Self::BusyBuffer,
        Self::CutOff,
    ];

    /// True where a run over such a page has steps of the kind `edge`, unless they are impossible by profile and mode.
    pub(super) const fn shows(self, edge: EdgeKind, profile: &Profile) -> bool {
        match self {
            Self::WrittenOut => matches!(edge, EdgeKind::CanWrite | EdgeKind::ClearDirty | EdgeKind::Writeout),
            // Who looks at a page that somebody else has locked counts, too; it matters to nobody, and 2006 has no other place.
            Self::Locked => {
                matches!(edge, EdgeKind::Lock)
                    || (matches!(edge, EdgeKind::Count) && matches!(profile.order, MoveOrder::SwitchThenCopy))
            }
            Self::BusyBuffer => matches!(edge, EdgeKind::TryLockBuffers | EdgeKind::WaitBuffers),
            Self::CutOff => matches!(edge, EdgeKind::ReleaseBuffers),
            Self::Anon | Self::Shared | Self::Swapped | Self::File | Self::Buffers | Self::Fallback => match edge {
                EdgeKind::CanWrite
                | EdgeKind::ClearDirty
                | EdgeKind::Writeout
                | EdgeKind::Lock
                | EdgeKind::WaitBuffers
                | EdgeKind::ReleaseBuffers => false,
                EdgeKind::TryLockBuffers => matches!(self, Self::Buffers),
                // A page without a slot in any cache has no mapping to be asked.
                EdgeKind::Mover => !matches!(self, Self::Anon | Self::Shared),
                // 2006 counts when it switches.
                EdgeKind::Count => matches!(profile.order, MoveOrder::CopyThenSwitch),
                _ => true,
            },
        }
    }

    /// What must come of the failure on such a page.
    pub(super) const fn effect(self, pair: Injection, profile: &Profile, mode: Mode) -> Effect {
        match self {
            Self::CutOff if profile.new_page_first => Effect::Refused(Refusal::Truncated),
            Self::CutOff => Effect::Impossible("2006 refuses the page before it looks at its private data"),
            _ => pair.effect(profile, mode),
        }
    }

    pub(super) const fn needs(self) -> Capabilities {
        match self {
            Self::Anon => Capabilities::ANON,
            Self::Shared => Capabilities::SHARED.union(Capabilities::SEVERAL_SPACES),
            Self::Swapped => Capabilities::SWAP_CACHE,
            Self::File => Capabilities::FILE.union(Capabilities::DIRTY_FILE),
            Self::Buffers => Capabilities::FILE.union(Capabilities::BUFFERS),
            Self::Fallback | Self::WrittenOut => Capabilities::FILE.union(Capabilities::WRITEOUT),
            Self::Locked => Capabilities::LOCK_BY_OTHER.union(Capabilities::MIDDLE),
            Self::BusyBuffer => Capabilities::FILE
                .union(Capabilities::BUFFERS)
                .union(Capabilities::MIDDLE),
            Self::CutOff => Capabilities::FILE
                .union(Capabilities::BUFFERS)
                .union(Capabilities::TRUNCATE),
        }
    }

    /// True where all but the frame is the same after a move: not what was written out for it, nor entries that faults bring back.
    pub(super) const fn looks_the_same_elsewhere(self) -> bool {
        !matches!(self, Self::Swapped | Self::WrittenOut | Self::CutOff)
    }
}

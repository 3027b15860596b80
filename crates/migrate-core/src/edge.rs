//! The steps of the protocol as a hook sees them, and what it may answer.

use core::fmt;

use mm_types::{Pfn, Site};

use crate::{Failure, Injection};

/// A step of the protocol that is about to happen. [`Injection::ALL`] says which of them can fail, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Edge {
    /// A page lock is tried for.
    TryLock(Pfn),
    /// The lock of a new page is tried for, which nobody else knows.
    TryLockNew(Pfn),
    /// The run sleeps for a page lock.
    Lock(Pfn),
    /// The run sleeps for the end of writeback.
    WaitWriteback(Pfn),
    /// The run sleeps for a buffer.
    WaitBuffers(Pfn),
    /// A thread that touched a page in flight sleeps for it.
    WaitOn(Site),
    /// A new page is taken for this one.
    Take(Pfn),
    /// The flags of a locked page are looked at.
    Flags(Pfn),
    /// The run asks whether the page is pinned.
    Pins(Pfn),
    /// The first entry of the page will be replaced; what that needs is reserved.
    Reserve(Pfn),
    /// Entries of the page are visited: the old page's, to be replaced or restored to it; the new page's, to be restored.
    Walk(Pfn),
    /// The run asks whether the page is mapped still.
    IsMapped(Pfn),
    /// A barrier.
    Flush,
    /// The run asks how many slots hold the page, which is in one and has private data.
    Slots(Pfn),
    /// The run asks which way the page moves.
    Mover(Pfn),
    /// The references of a locked page are looked at: today's look before the copy. Where somebody else has the lock, also the look
    /// whether users have freed the page.
    Count(Pfn),
    /// Contents are copied.
    Copy {
        /// The source.
        old: Pfn,
        /// The destination.
        new: Pfn,
    },
    /// The reference count is frozen.
    Freeze(Pfn),
    /// Cache slots are switched.
    Switch {
        /// The source.
        old: Pfn,
        /// The destination.
        new: Pfn,
    },
    /// Buffers are tried for.
    TryLockBuffers(Pfn),
    /// Private data are to be freed.
    ReleaseBuffers(Pfn),
    /// The run asks whether the page's mapping can write.
    CanWrite(Pfn),
    /// The dirty flag is cleared for writing.
    ClearDirty(Pfn),
    /// The page is written out.
    Writeout(Pfn),
    /// A page lock opens.
    Unlock(Pfn),
    /// The page is isolated.
    Isolate(Pfn),
    /// The page goes to the LRU.
    Putback(Pfn),
}

/// A kind of step, whatever its page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "as the edges of the same name")]
pub enum EdgeKind {
    TryLock,
    TryLockNew,
    Lock,
    WaitWriteback,
    WaitBuffers,
    WaitOn,
    Take,
    Flags,
    Pins,
    Reserve,
    Walk,
    IsMapped,
    Flush,
    Slots,
    Mover,
    Count,
    Copy,
    Freeze,
    Switch,
    TryLockBuffers,
    ReleaseBuffers,
    CanWrite,
    ClearDirty,
    Writeout,
    Unlock,
    Isolate,
    Putback,
}

impl EdgeKind {
    /// Every kind, in the order of the protocol as far as there is one.
    pub const ALL: &'static [Self] = &[
        Self::TryLock,
        Self::TryLockNew,
        Self::Lock,
        Self::WaitWriteback,
        Self::WaitBuffers,
        Self::WaitOn,
        Self::Take,
        Self::Flags,
        Self::Pins,
        Self::Reserve,
        Self::Walk,
        Self::IsMapped,
        Self::Flush,
        Self::Slots,
        Self::Mover,
        Self::Count,
        Self::Copy,
        Self::Freeze,
        Self::Switch,
        Self::TryLockBuffers,
        Self::ReleaseBuffers,
        Self::CanWrite,
        Self::ClearDirty,
        Self::Writeout,
        Self::Unlock,
        Self::Isolate,
        Self::Putback,
    ];

    /// Returns the stable word: the seam's name of the step.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::TryLock => "try_lock",
            Self::TryLockNew => "try_lock_new",
            Self::Lock => "lock",
            Self::WaitWriteback => "wait_writeback",
            Self::WaitBuffers => "wait_buffers",
            Self::WaitOn => "wait_on",
            Self::Take => "take",
            Self::Flags => "flags",
            Self::Pins => "pins",
            Self::Reserve => "reserve",
            Self::Walk => "walk",
            Self::IsMapped => "is_mapped",
            Self::Flush => "flush",
            Self::Slots => "slots",
            Self::Mover => "mover",
            Self::Count => "count",
            Self::Copy => "copy",
            Self::Freeze => "freeze",
            Self::Switch => "switch",
            Self::TryLockBuffers => "try_lock_buffers",
            Self::ReleaseBuffers => "release_buffers",
            Self::CanWrite => "can_write",
            Self::ClearDirty => "clear_dirty",
            Self::Writeout => "writeout",
            Self::Unlock => "unlock",
            Self::Isolate => "isolate",
            Self::Putback => "putback",
        }
    }

    /// Returns the ways in which such a step can fail, the usual one first.
    pub fn failures(self) -> impl Iterator<Item = Failure> {
        Injection::ALL
            .iter()
            .filter(move |pair| pair.edge == self)
            .map(|pair| pair.failure)
    }
}

impl fmt::Display for EdgeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl Edge {
    /// Returns which kind of step it is.
    #[must_use]
    pub const fn kind(self) -> EdgeKind {
        match self {
            Self::TryLock(_) => EdgeKind::TryLock,
            Self::TryLockNew(_) => EdgeKind::TryLockNew,
            Self::Lock(_) => EdgeKind::Lock,
            Self::WaitWriteback(_) => EdgeKind::WaitWriteback,
            Self::WaitBuffers(_) => EdgeKind::WaitBuffers,
            Self::WaitOn(_) => EdgeKind::WaitOn,
            Self::Take(_) => EdgeKind::Take,
            Self::Flags(_) => EdgeKind::Flags,
            Self::Pins(_) => EdgeKind::Pins,
            Self::Reserve(_) => EdgeKind::Reserve,
            Self::Walk(_) => EdgeKind::Walk,
            Self::IsMapped(_) => EdgeKind::IsMapped,
            Self::Flush => EdgeKind::Flush,
            Self::Slots(_) => EdgeKind::Slots,
            Self::Mover(_) => EdgeKind::Mover,
            Self::Count(_) => EdgeKind::Count,
            Self::Copy { .. } => EdgeKind::Copy,
            Self::Freeze(_) => EdgeKind::Freeze,
            Self::Switch { .. } => EdgeKind::Switch,
            Self::TryLockBuffers(_) => EdgeKind::TryLockBuffers,
            Self::ReleaseBuffers(_) => EdgeKind::ReleaseBuffers,
            Self::CanWrite(_) => EdgeKind::CanWrite,
            Self::ClearDirty(_) => EdgeKind::ClearDirty,
            Self::Writeout(_) => EdgeKind::Writeout,
            Self::Unlock(_) => EdgeKind::Unlock,
            Self::Isolate(_) => EdgeKind::Isolate,
            Self::Putback(_) => EdgeKind::Putback,
        }
    }

    /// Returns the page the step is about: the source, where there are two.
    #[must_use]
    pub const fn pfn(self) -> Option<Pfn> {
        match self {
            Self::WaitOn(_) | Self::Flush => None,
            Self::Copy { old, .. } | Self::Switch { old, .. } => Some(old),
            Self::TryLock(pfn)
            | Self::TryLockNew(pfn)
            | Self::Lock(pfn)
            | Self::WaitWriteback(pfn)
            | Self::WaitBuffers(pfn)
            | Self::Take(pfn)
            | Self::Flags(pfn)
            | Self::Pins(pfn)
            | Self::Reserve(pfn)
            | Self::Walk(pfn)
            | Self::IsMapped(pfn)
            | Self::Slots(pfn)
            | Self::Mover(pfn)
            | Self::Count(pfn)
            | Self::Freeze(pfn)
            | Self::TryLockBuffers(pfn)
            | Self::ReleaseBuffers(pfn)
            | Self::CanWrite(pfn)
            | Self::ClearDirty(pfn)
            | Self::Writeout(pfn)
            | Self::Unlock(pfn)
            | Self::Isolate(pfn)
            | Self::Putback(pfn) => Some(pfn),
        }
    }

    /// True where [`Verdict::Fail`] is heeded.
    #[must_use]
    pub fn can_fail(self) -> bool {
        self.kind().failures().next().is_some()
    }

    /// True where the run only looks, and nothing about the page changes.
    #[must_use]
    pub const fn is_look(self) -> bool {
        matches!(
            self,
            Self::Flags(_)
                | Self::Pins(_)
                | Self::IsMapped(_)
                | Self::Slots(_)
                | Self::Mover(_)
                | Self::Count(_)
                | Self::CanWrite(_)
        )
    }
}

/// What a hook lets happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The step is the backend's.
    Go,
    /// The step fails in its usual way, the first of its kind in [`Injection::ALL`], without reaching the backend; where it cannot
    /// fail it is the backend's.
    Fail,
    /// The step fails so; where it cannot fail so it is the backend's.
    FailAs(Failure),
}

impl Verdict {
    /// Returns how a step of `kind` fails under this verdict, if it does.
    pub(crate) fn failure(self, kind: EdgeKind) -> Option<Failure> {
        match self {
            Self::Go => None,
            Self::Fail => kind.failures().next(),
            Self::FailAs(wanted) => kind.failures().find(|failure| *failure == wanted),
        }
    }
}

/// Who looks over the backend's shoulder.
pub trait Hook {
    /// Called before each step. The caller may hold page locks, and no other lock.
    fn before(&self, edge: Edge) -> Verdict;
}

impl<F: Fn(Edge) -> Verdict> Hook for F {
    fn before(&self, edge: Edge) -> Verdict {
        self(edge)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_can_fail_where_there_is_a_way() {
        let page = Pfn::new(1);
        assert!(Edge::TryLock(page).can_fail() && Edge::Copy { old: page, new: page }.can_fail());
        for edge in [
            Edge::Flush,
            Edge::Putback(page),
            Edge::Unlock(page),
            Edge::WaitWriteback(page),
        ] {
            assert!(!edge.can_fail(), "{edge:?}");
        }
    }

    #[test]
    fn a_look_is_told_from_what_is_done() {
        let page = Pfn::new(1);
        for look in [
            Edge::Flags(page),
            Edge::IsMapped(page),
            Edge::Slots(page),
            Edge::Count(page),
        ] {
            assert!(look.is_look(), "{look:?}");
        }
        for deed in [Edge::Flush, Edge::Freeze(page), Edge::Unlock(page)] {
            assert!(!deed.is_look(), "{deed:?}");
        }
    }
}

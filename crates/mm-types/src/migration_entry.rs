//! Migration entries: what stands in a page table while the page is in flight.
//!
//! Protocol. An entry is made only while the page it names is locked by the migration that installs
//! it, and is gone before that lock opens; whoever meets one may therefore wait on the page's lock.
//! It holds no reference and no map count. Its permission may be taken away while the page is in
//! flight (fork, mprotect) and can never come back: there is no operation from read to write.

use core::fmt;

use bitflags::bitflags;

use crate::Pfn;

/// What the mapping allowed when it was replaced, and what was not taken away since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MigrationKind {
    /// Read-only.
    Read,
    /// Read-only, and no other space maps the page: a write fault may reuse it without a copy.
    ReadExclusive,
    /// Writable.
    Write,
}

impl MigrationKind {
    /// Returns the kind's word in traces.
    #[must_use]
    #[inline]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::ReadExclusive => "read-exclusive",
            Self::Write => "write",
        }
    }
}

impl fmt::Display for MigrationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

bitflags! {
    /// The page-table bits an entry carries beside the permission, where its format has room.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct MigrationFlags: u8 {
        /// The hardware had marked the mapping accessed (Linux: `SWP_MIG_YOUNG_BIT`).
        const YOUNG = 1 << 0;
        /// The hardware had marked the mapping written; the page is dirty too (Linux: `SWP_MIG_DIRTY_BIT`).
        const DIRTY = 1 << 1;
        /// Written since soft-dirty bits were last cleared.
        const SOFT_DIRTY = 1 << 2;
        /// userfaultfd wants to be told of the next write: never restored writable.
        const UFFD_WP = 1 << 3;
    }
}

/// The entry that stands for a page in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MigrationEntry {
    pfn: Pfn,
    kind: MigrationKind,
    flags: MigrationFlags,
}

impl MigrationEntry {
    /// Makes an entry that remembers only the permission (Linux 2.6.17: `make_migration_entry()`).
    ///
    /// The frame's page must be locked. `write` is a boolean and not a swap type: fork once passed
    /// type 30 here, which is true, and so gave parent and child write access to a shared page.
    #[must_use]
    #[inline]
    pub const fn make(pfn: Pfn, write: bool) -> Self {
        if write {
            Self::writable(pfn)
        } else {
            Self::readable(pfn)
        }
    }

    /// Makes a read-only entry (Linux 6.1: `make_readable_migration_entry()`); the page must be locked.
    #[must_use]
    #[inline]
    pub const fn readable(pfn: Pfn) -> Self {
        Self::of(MigrationKind::Read, pfn)
    }

    /// Makes a read-only entry of an anonymous page that only this space maps
    /// (Linux 6.1: `make_readable_exclusive_migration_entry()`); the page must be locked.
    #[must_use]
    #[inline]
    pub const fn readable_exclusive(pfn: Pfn) -> Self {
        Self::of(MigrationKind::ReadExclusive, pfn)
    }

    /// Makes a writable entry (Linux 6.1: `make_writable_migration_entry()`); the page must be locked.
    #[must_use]
    #[inline]
    pub const fn writable(pfn: Pfn) -> Self {
        Self::of(MigrationKind::Write, pfn)
    }

    /// Makes an entry of any kind; the page must be locked.
    #[inline]
    pub(crate) const fn of(kind: MigrationKind, pfn: Pfn) -> Self {
        Self {
            pfn,
            kind,
            flags: MigrationFlags::empty(),
        }
    }

    /// Returns the entry with exactly these flags.
    #[must_use]
    #[inline]
    pub const fn with_flags(self, flags: MigrationFlags) -> Self {
        Self { flags, ..self }
    }

    /// Returns the frame of the page in flight (Linux: `migration_entry_to_page()`).
    #[must_use]
    #[inline]
    pub const fn pfn(self) -> Pfn {
        self.pfn
    }

    /// Returns the permission that is left.
    #[must_use]
    #[inline]
    pub const fn kind(self) -> MigrationKind {
        self.kind
    }

    /// Returns the page-table bits it carries.
    #[must_use]
    #[inline]
    pub const fn flags(self) -> MigrationFlags {
        self.flags
    }

    /// True where the mapping will be writable again (Linux: `is_write_migration_entry()`).
    #[must_use]
    #[inline]
    pub const fn is_write(self) -> bool {
        matches!(self.kind, MigrationKind::Write)
    }

    /// Takes away write permission and exclusiveness, as fork does for a copy-on-write mapping
    /// (Linux: `make_migration_entry_read()`).
    #[must_use]
    #[inline]
    pub const fn make_read(self) -> Self {
        Self {
            kind: MigrationKind::Read,
            ..self
        }
    }

    /// Takes away write permission and keeps what is known of exclusiveness, as mprotect does for an
    /// anonymous page: write becomes read-exclusive, read stays read.
    #[must_use]
    #[inline]
    pub const fn make_read_exclusive(self) -> Self {
        match self.kind {
            MigrationKind::Write => Self {
                kind: MigrationKind::ReadExclusive,
                ..self
            },
            MigrationKind::Read | MigrationKind::ReadExclusive => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_downgrade_keeps_frame_and_marks_and_is_idempotent() {
        let entry = MigrationEntry::make(Pfn::new(7), true).with_flags(MigrationFlags::all());
        let read = entry.make_read();
        assert_eq!(
            (read.pfn(), read.kind(), read.flags()),
            (Pfn::new(7), MigrationKind::Read, MigrationFlags::all())
        );
        assert_eq!(read.make_read(), read);
        let exclusive = entry.make_read_exclusive();
        assert_eq!(exclusive.kind(), MigrationKind::ReadExclusive);
        assert_eq!(exclusive.make_read_exclusive(), exclusive);
        assert_eq!(exclusive.make_read(), read);
    }

    #[test]
    fn a_shared_page_does_not_become_exclusive() {
        let read = MigrationEntry::make(Pfn::new(7), false);
        assert_eq!(read.make_read_exclusive(), read);
    }

    #[test]
    fn every_kind_prints_its_word() {
        let kinds = [MigrationKind::Read, MigrationKind::ReadExclusive, MigrationKind::Write];
        assert_eq!(
            kinds.map(|kind| std::format!("{kind}")),
            ["read", "read-exclusive", "write"]
        );
    }
}

//! The logical page-table entry: what a slot of a page table says, without how a machine writes it.
//!
//! Backends translate their words to and from [`Pte`]; everything that decides about an entry is a
//! pure function over it (`pte_edit.rs`), so it can run again inside a compare-exchange loop when
//! the hardware set a bit in between. The text form is in `pte_text.rs`.

use bitflags::bitflags;

use crate::{MigrationEntry, MigrationFlags, Pfn, SwapEntry};

bitflags! {
    /// The bits of a present entry that the project reasons about.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct PteFlags: u16 {
        /// Stores are allowed.
        const WRITE = 1 << 0;
        /// Accessed since the bit was last cleared; set by hardware.
        const YOUNG = 1 << 1;
        /// Written since the bit was last cleared; set by hardware.
        const DIRTY = 1 << 2;
        /// Written since soft-dirty bits were last cleared.
        const SOFT_DIRTY = 1 << 3;
        /// userfaultfd wants to be told of the next write: excludes `WRITE`.
        const UFFD_WP = 1 << 4;
        /// The page is anonymous and only this space maps it (Linux: `PageAnonExclusive`).
        const EXCLUSIVE = 1 << 5;
    }
}

bitflags! {
    /// The marks of a swap entry in a page table, where its format has room.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct SwapPteFlags: u8 {
        /// Only this entry refers to the slot's page.
        const EXCLUSIVE = 1 << 0;
        /// Written since soft-dirty bits were last cleared.
        const SOFT_DIRTY = 1 << 1;
        /// userfaultfd wants to be told of the next write.
        const UFFD_WP = 1 << 2;
    }
}

/// How much of a mapping a migration entry remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EntryStyle {
    /// Linux 2.6.17: frame and one permission bit; restored entries are old and clean.
    Lossy,
    /// Linux 6.1: young, dirty, soft-dirty, uffd-wp and exclusiveness come back.
    Lossless,
}

/// One entry of a page table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Pte {
    /// Nothing is mapped, nothing is remembered.
    #[default]
    None,
    /// A page is mapped; holds one reference and one map count of it.
    Present {
        /// The frame.
        pfn: Pfn,
        /// Its bits.
        flags: PteFlags,
    },
    /// The page is in swap (or in the swap cache); holds one count of the slot.
    Swap {
        /// The slot.
        entry: SwapEntry,
        /// Its marks.
        flags: SwapPteFlags,
    },
    /// The page is in flight and locked; holds nothing.
    Migration(MigrationEntry),
    /// A page of a nonlinear mapping, found again by its offset in the file; holds nothing.
    File {
        /// The offset in pages.
        offset: u64,
    },
    /// The page had a memory error: an access kills the process; holds nothing.
    Poison(Pfn),
}

impl Pte {
    /// Maps `pfn` with `flags`.
    #[must_use]
    #[inline]
    pub const fn present(pfn: Pfn, flags: PteFlags) -> Self {
        Self::Present { pfn, flags }
    }

    /// Returns the frame the entry maps or names.
    #[must_use]
    #[inline]
    pub const fn pfn(self) -> Option<Pfn> {
        match self {
            Self::Present { pfn, .. } | Self::Poison(pfn) => Some(pfn),
            Self::Migration(entry) => Some(entry.pfn()),
            Self::None | Self::Swap { .. } | Self::File { .. } => None,
        }
    }

    /// True for an empty slot (Linux: `pte_none()`).
    #[must_use]
    #[inline]
    pub const fn is_none(self) -> bool {
        matches!(self, Self::None)
    }

    /// True where the hardware may translate through the entry.
    #[must_use]
    #[inline]
    pub const fn is_present(self) -> bool {
        matches!(self, Self::Present { .. })
    }

    /// True where a page in flight is named.
    #[must_use]
    #[inline]
    pub const fn is_migration(self) -> bool {
        matches!(self, Self::Migration(_))
    }

    /// Returns the migration entry, if it is one.
    #[must_use]
    #[inline]
    pub const fn migration(self) -> Option<MigrationEntry> {
        match self {
            Self::Migration(entry) => Some(entry),
            _ => None,
        }
    }

    /// True where `pfn` is mapped here, present.
    #[must_use]
    #[inline]
    pub fn maps(self, pfn: Pfn) -> bool {
        matches!(self, Self::Present { pfn: mapped, .. } if mapped == pfn)
    }

    /// Returns the bits of a present entry; no bits otherwise.
    #[must_use]
    #[inline]
    pub const fn flags(self) -> PteFlags {
        match self {
            Self::Present { flags, .. } => flags,
            _ => PteFlags::empty(),
        }
    }

    /// True where a store goes through now; a write migration entry is not writable, it will be.
    #[must_use]
    #[inline]
    pub const fn writable(self) -> bool {
        self.flags().contains(PteFlags::WRITE) && !self.flags().contains(PteFlags::UFFD_WP)
    }

    /// True where the entry, present or in flight, remembers a store.
    #[must_use]
    #[inline]
    pub const fn dirty(self) -> bool {
        match self {
            Self::Present { flags, .. } => flags.contains(PteFlags::DIRTY),
            Self::Migration(entry) => entry.flags().contains(MigrationFlags::DIRTY),
            _ => false,
        }
    }

    /// True where the entry, present or in flight, remembers an access.
    #[must_use]
    #[inline]
    pub const fn young(self) -> bool {
        match self {
            Self::Present { flags, .. } => flags.contains(PteFlags::YOUNG),
            Self::Migration(entry) => entry.flags().contains(MigrationFlags::YOUNG),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_present_entry_is_writable() {
        let pfn = Pfn::new(4);
        assert!(Pte::present(pfn, PteFlags::WRITE).writable());
        assert!(!Pte::present(pfn, PteFlags::WRITE | PteFlags::UFFD_WP).writable());
        assert!(!Pte::Migration(MigrationEntry::writable(pfn)).writable());
        assert_eq!(Pte::Migration(MigrationEntry::writable(pfn)).pfn(), Some(pfn));
        assert!(!Pte::Migration(MigrationEntry::writable(pfn)).maps(pfn));
    }
}

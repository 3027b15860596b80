//! Fitting, packing and unpacking: what an entry says, against the room a format has.
//!
//! A backend's format is a constant. Packing is inlined wherever it is asked for, so that masks and shifts are constants there too.

use bitflags::bitflags;

use super::{EntryFormat, bit, ones, pick, shl, shr};
use crate::museum::{self, Bug};
use crate::{MigrationEntry, MigrationFlags, MigrationKind, Pfn, Pte, SwapEntry, SwapPteFlags, SwapType, TypeKind};

bitflags! {
    /// What an entry had and a format has no room for.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct Lost: u8 {
        /// Accessed: the mapping will come back old.
        const YOUNG = 1 << 0;
        /// Written: the page itself must be marked dirty, or the store is forgotten.
        const DIRTY = 1 << 1;
        /// Soft-dirty: a checkpointer must take the page for written.
        const SOFT_DIRTY = 1 << 2;
        /// The userfaultfd mark: write permission went with it.
        const UFFD_WP = 1 << 3;
        /// Exclusiveness: the next write copies the page.
        const EXCLUSIVE = 1 << 4;
        /// Write permission: the next write faults.
        const WRITE = 1 << 5;
    }
}

/// What a word that is neither present nor empty can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NonPresent {
    /// A page in swap.
    Swap {
        /// The slot.
        entry: SwapEntry,
        /// Its marks.
        flags: SwapPteFlags,
    },
    /// A page in flight.
    Migration(MigrationEntry),
    /// A page with a memory error.
    Poison(Pfn),
}

impl From<NonPresent> for Pte {
    fn from(from: NonPresent) -> Self {
        match from {
            NonPresent::Swap { entry, flags } => Self::Swap { entry, flags },
            NonPresent::Migration(entry) => Self::Migration(entry),
            NonPresent::Poison(pfn) => Self::Poison(pfn),
        }
    }
}

impl Pte {
    /// Returns the swap, migration or poison entry, if it is one.
    #[must_use]
    #[inline]
    pub const fn non_present(self) -> Option<NonPresent> {
        match self {
            Self::Swap { entry, flags } => Some(NonPresent::Swap { entry, flags }),
            Self::Migration(entry) => Some(NonPresent::Migration(entry)),
            Self::Poison(pfn) => Some(NonPresent::Poison(pfn)),
            Self::None | Self::Present { .. } | Self::File { .. } => None,
        }
    }
}

/// Why an entry cannot be packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum EncodeError {
    /// The frame number does not fit the offset field.
    #[error("frame {pfn:?} does not fit {bits} bits")]
    PfnTooLarge {
        /// The frame.
        pfn: Pfn,
        /// How many bits the format has for it.
        bits: u32,
    },
    /// The swap offset does not fit the offset field.
    #[error("swap offset {offset:#x} does not fit {bits} bits")]
    OffsetTooLarge {
        /// The offset, in pages.
        offset: u64,
        /// How many bits the format has for it.
        bits: u32,
    },
    /// The type of a swap entry is not a swap file's in this layout.
    #[error("swap type {0} is not a swap file's")]
    NotASwapFile(SwapType),
    /// The layout has no type for this kind of entry.
    #[error("the layout has no type for {0:?}")]
    NoType(TypeKind),
    /// The format has no room for these; [`EntryFormat::fit`] was not asked first.
    #[error("the format has no room for {0:?}")]
    NoRoom(Lost),
    /// The word would be zero, which means an empty slot. Linux never uses these entries either: slot
    /// 0 of a swap file is its header, and with an inverted offset the last slot is out of reach.
    #[error("the entry would read as an empty slot")]
    LooksEmpty,
}

impl EntryFormat {
    /// Degrades a migration entry to what the format can hold, and says what it had more.
    ///
    /// The direction is always the safe one: old, read-only, not exclusive. `Lost::DIRTY` obliges the
    /// caller to mark the page dirty before the word replaces the mapping.
    #[must_use]
    #[inline]
    pub fn fit(&self, entry: MigrationEntry) -> (MigrationEntry, Lost) {
        let lost_flags = entry.flags().difference(self.room());
        let mut lost = Lost::empty();
        lost.set(Lost::YOUNG, lost_flags.contains(MigrationFlags::YOUNG));
        lost.set(Lost::DIRTY, lost_flags.contains(MigrationFlags::DIRTY));
        lost.set(Lost::SOFT_DIRTY, lost_flags.contains(MigrationFlags::SOFT_DIRTY));
        lost.set(Lost::UFFD_WP, lost_flags.contains(MigrationFlags::UFFD_WP));
        let mut fitted = entry.with_flags(entry.flags().intersection(self.room()));
        // Without its mark the entry would come back writable and the watcher would miss the write.
        let unmarked = lost.contains(Lost::UFFD_WP) || self.layout.type_of(TypeKind::MigrationWrite).is_none();
        if fitted.is_write() && unmarked {
            fitted = fitted.make_read_exclusive();
            lost |= Lost::WRITE;
        }
        if fitted.kind() == MigrationKind::ReadExclusive
            && self.layout.type_of(TypeKind::MigrationReadExclusive).is_none()
        {
            fitted = fitted.make_read();
            lost |= Lost::EXCLUSIVE;
        }
        (fitted, lost)
    }

    /// Degrades a swap entry's marks to what the format can hold, and says which it had more.
    #[must_use]
    #[inline]
    pub const fn fit_swap(&self, flags: SwapPteFlags) -> (SwapPteFlags, Lost) {
        let mut lost = Lost::empty();
        let mut kept = flags;
        if self.exclusive_bit.is_none() && flags.contains(SwapPteFlags::EXCLUSIVE) {
            kept = kept.difference(SwapPteFlags::EXCLUSIVE);
            lost = lost.union(Lost::EXCLUSIVE);
        }
        if self.soft_dirty_bit.is_none() && flags.contains(SwapPteFlags::SOFT_DIRTY) {
            kept = kept.difference(SwapPteFlags::SOFT_DIRTY);
            lost = lost.union(Lost::SOFT_DIRTY);
        }
        if self.uffd_wp_bit.is_none() && flags.contains(SwapPteFlags::UFFD_WP) {
            kept = kept.difference(SwapPteFlags::UFFD_WP);
            lost = lost.union(Lost::UFFD_WP);
        }
        (kept, lost)
    }

    /// Packs an entry.
    ///
    /// The word is never present, empty or a file entry, and [`Self::decode`] gives the entry back.
    ///
    /// # Errors
    ///
    /// [`EncodeError`]: a frame or offset too large, a type the layout does not have, marks without
    /// room, or the one entry that would read as an empty slot.
    #[inline(always)]
    pub fn encode(&self, entry: NonPresent) -> Result<u64, EncodeError> {
        let word = match entry {
            NonPresent::Swap { entry, flags } => self.swap_word(entry, flags)?,
            NonPresent::Migration(entry) => self.migration_word(entry)?,
            NonPresent::Poison(pfn) => self.pack(TypeKind::HwPoison, self.frame(pfn)?)?,
        };
        if self.is_none(word) {
            Err(EncodeError::LooksEmpty)
        } else {
            Ok(word)
        }
    }

    /// Unpacks a word.
    ///
    /// `None` for an empty slot, a present or a file entry, a type the layout gives to something this
    /// project has no entry for, and a word with a bit set that the format has no field for.
    #[must_use]
    #[inline]
    pub fn decode(&self, word: u64) -> Option<NonPresent> {
        let marks = bit(self.soft_dirty_bit) | bit(self.uffd_wp_bit) | bit(self.exclusive_bit);
        if self.is_none(word) || word & !(self.type_mask() | self.offset_mask() | marks) != 0 {
            return None;
        }
        let ty = shr(word & self.type_mask(), self.type_shift);
        let ty = SwapType::new(u8::try_from(ty).ok()?)?;
        let stored = shr(word & self.offset_mask(), self.offset_shift);
        let offset = if self.invert_offset {
            stored ^ ones(self.offset_bits)
        } else {
            stored
        };
        let kind = match self.layout.kind(ty) {
            TypeKind::SwapFile => {
                let entry = SwapEntry::new(ty, offset)?;
                return Some(NonPresent::Swap {
                    entry,
                    flags: self.swap_marks(word),
                });
            }
            TypeKind::HwPoison if word & marks == 0 && offset <= ones(self.pfn_bits) => {
                return Some(NonPresent::Poison(Pfn::new(offset)));
            }
            TypeKind::MigrationRead => MigrationKind::Read,
            TypeKind::MigrationReadExclusive => MigrationKind::ReadExclusive,
            TypeKind::MigrationWrite => MigrationKind::Write,
            _ => return None,
        };
        let above = self.young_bit() | self.dirty_bit();
        if offset & !(ones(self.pfn_bits) | above) != 0 || word & bit(self.exclusive_bit) != 0 {
            return None;
        }
        let mut flags = MigrationFlags::empty();
        flags.set(MigrationFlags::YOUNG, offset & self.young_bit() != 0);
        flags.set(MigrationFlags::DIRTY, offset & self.dirty_bit() != 0);
        flags.set(MigrationFlags::SOFT_DIRTY, word & bit(self.soft_dirty_bit) != 0);
        flags.set(MigrationFlags::UFFD_WP, word & bit(self.uffd_wp_bit) != 0);
        Some(NonPresent::Migration(
            MigrationEntry::of(kind, Pfn::new(offset & ones(self.pfn_bits))).with_flags(flags),
        ))
    }

    fn swap_word(&self, entry: SwapEntry, flags: SwapPteFlags) -> Result<u64, EncodeError> {
        if self.layout.kind(entry.ty()) != TypeKind::SwapFile && !museum::has(Bug::B11) {
            return Err(EncodeError::NotASwapFile(entry.ty()));
        }
        if entry.offset() > ones(self.offset_bits) {
            return Err(EncodeError::OffsetTooLarge {
                offset: entry.offset(),
                bits: self.offset_bits,
            });
        }
        let (_, lost) = self.fit_swap(flags);
        if !lost.is_empty() {
            return Err(EncodeError::NoRoom(lost));
        }
        let marks = pick(flags.contains(SwapPteFlags::EXCLUSIVE), self.exclusive_bit)
            | pick(flags.contains(SwapPteFlags::SOFT_DIRTY), self.soft_dirty_bit)
            | pick(flags.contains(SwapPteFlags::UFFD_WP), self.uffd_wp_bit);
        Ok(self.place(entry.ty(), entry.offset()) | marks)
    }

    #[inline(always)]
    fn migration_word(&self, entry: MigrationEntry) -> Result<u64, EncodeError> {
        let kind = match entry.kind() {
            MigrationKind::Read => TypeKind::MigrationRead,
            MigrationKind::ReadExclusive => TypeKind::MigrationReadExclusive,
            MigrationKind::Write => TypeKind::MigrationWrite,
        };
        let ty = self.layout.type_of(kind).ok_or(EncodeError::NoType(kind))?;
        let flags = entry.flags();
        // The layout has the type, so that only marks can be lost, and what goes with them.
        if !self.room().contains(flags) {
            return Err(EncodeError::NoRoom(self.fit(entry).1));
        }
        let young = if flags.contains(MigrationFlags::YOUNG) {
            self.young_bit()
        } else {
            0
        };
        let dirty = if flags.contains(MigrationFlags::DIRTY) {
            self.dirty_bit()
        } else {
            0
        };
        let marks = pick(flags.contains(MigrationFlags::SOFT_DIRTY), self.soft_dirty_bit)
            | pick(flags.contains(MigrationFlags::UFFD_WP), self.uffd_wp_bit);
        Ok(self.place(ty, self.frame(entry.pfn())? | young | dirty) | marks)
    }

    fn swap_marks(&self, word: u64) -> SwapPteFlags {
        let mut flags = SwapPteFlags::empty();
        flags.set(SwapPteFlags::EXCLUSIVE, word & bit(self.exclusive_bit) != 0);
        flags.set(SwapPteFlags::SOFT_DIRTY, word & bit(self.soft_dirty_bit) != 0);
        flags.set(SwapPteFlags::UFFD_WP, word & bit(self.uffd_wp_bit) != 0);
        flags
    }

    #[inline(always)]
    fn frame(&self, pfn: Pfn) -> Result<u64, EncodeError> {
        if pfn > self.max_pfn() {
            return Err(EncodeError::PfnTooLarge {
                pfn,
                bits: self.pfn_bits,
            });
        }
        Ok(pfn.raw())
    }

    fn pack(&self, kind: TypeKind, offset: u64) -> Result<u64, EncodeError> {
        let ty = self.layout.type_of(kind).ok_or(EncodeError::NoType(kind))?;
        Ok(self.place(ty, offset))
    }

    #[inline(always)]
    fn place(&self, ty: SwapType, offset: u64) -> u64 {
        let stored = if self.invert_offset {
            offset ^ ones(self.offset_bits)
        } else {
            offset
        };
        shl(u64::from(ty.raw()), self.type_shift) | shl(stored, self.offset_shift)
    }

    #[inline(always)]
    fn room(&self) -> MigrationFlags {
        let mut room = MigrationFlags::empty();
        room.set(MigrationFlags::YOUNG, self.keeps_young_and_dirty());
        room.set(MigrationFlags::DIRTY, self.keeps_young_and_dirty());
        room.set(MigrationFlags::SOFT_DIRTY, self.soft_dirty_bit.is_some());
        room.set(MigrationFlags::UFFD_WP, self.uffd_wp_bit.is_some());
        room
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PteFlags;

    #[test]
    fn what_a_word_can_say_is_an_entry_and_comes_back_from_it() {
        let pfn = Pfn::new(7);
        let entry = SwapEntry::new(SwapType::new(2).unwrap(), 5).unwrap();
        for said in [
            NonPresent::Swap {
                entry,
                flags: SwapPteFlags::UFFD_WP,
            },
            NonPresent::Migration(MigrationEntry::writable(pfn)),
            NonPresent::Poison(pfn),
        ] {
            assert_eq!(Pte::from(said).non_present(), Some(said));
        }
        for pte in [Pte::None, Pte::present(pfn, PteFlags::WRITE), Pte::File { offset: 3 }] {
            assert_eq!(pte.non_present(), None);
        }
    }
}

//! How an entry that is not present is packed into a word.
//!
//! A format is data: where the type and the offset sit, whether the offset is inverted, which bits
//! carry marks. An encoded entry is never present, never empty and never a file entry: a kernel that
//! tests those first must not take a page in flight for a mapping or for a hole.
//!
//! What a format has no room for is never dropped in silence. [`EntryFormat::fit`] degrades an entry
//! in the safe direction (old, read-only, shared) and says what was lost, so that the caller can put
//! a dirty bit on the page; [`EntryFormat::encode`] refuses what was not fitted.
//!
//! Plain integer arithmetic only: the type is `u64` on every machine, atomics are the backend's.

use bitflags::bitflags;

use crate::{MigrationEntry, MigrationFlags, MigrationKind, Pfn, Pte, SwapEntry, SwapLayout, SwapPteFlags, TypeKind};

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
    NotASwapFile(crate::SwapType),
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

/// A word format for entries that are not present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryFormat {
    /// Bits in the word: 32 or 64.
    pub word_bits: u32,
    /// Lowest bit of the swap type.
    pub type_shift: u32,
    /// Bits of the swap type.
    pub type_bits: u32,
    /// Lowest bit of the offset.
    pub offset_shift: u32,
    /// Bits of the offset.
    pub offset_bits: u32,
    /// The offset is stored inverted, so that the frame a speculating CPU reads from it does not exist (L1TF).
    pub invert_offset: bool,
    /// Bits of the offset that a frame number may use; with two more above them, young and dirty are stored there.
    pub pfn_bits: u32,
    /// A word with any of these bits is present (the present bit, and the one that marks `PROT_NONE` mappings).
    pub present_mask: u64,
    /// A word that is not present and has one of these bits is a nonlinear file entry.
    pub file_mask: u64,
    /// The soft-dirty bit, if there is one.
    pub soft_dirty_bit: Option<u32>,
    /// The userfaultfd bit, if there is one.
    pub uffd_wp_bit: Option<u32>,
    /// The exclusive bit of swap entries, if there is one.
    pub exclusive_bit: Option<u32>,
    /// What the types mean.
    pub layout: SwapLayout,
}

impl EntryFormat {
    /// The architecture-independent word of Linux 2.6.17 (`swp_entry_t`), 64 bits: type on top, offset below.
    /// It is not a page-table entry, so no bit means present or file.
    pub const SWP_ENTRY_2_6_17: Self = Self {
        word_bits: 64,
        type_shift: 59,
        type_bits: 5,
        offset_shift: 0,
        offset_bits: 59,
        invert_offset: false,
        pfn_bits: 59,
        present_mask: 0,
        file_mask: 0,
        soft_dirty_bit: None,
        uffd_wp_bit: None,
        exclusive_bit: None,
        layout: SwapLayout::LINUX_2_6_17,
    };

    /// x86-64's entry in Linux 2.6.17 (`include/asm-x86_64/pgtable.h`): type from bit 1 up, offset from bit 8 up;
    /// present is bit 0 or bit 7, file is bit 6.
    pub const X86_64_2_6_17: Self = Self {
        type_shift: 1,
        offset_shift: 8,
        offset_bits: 56,
        pfn_bits: 56,
        present_mask: 1 << 0 | 1 << 7,
        file_mask: 1 << 6,
        ..Self::SWP_ENTRY_2_6_17
    };

    /// i386's entry in Linux 2.6.17 without PAE: as x86-64's in 32 bits, so that 24 are left for the frame.
    pub const I386_2_6_17: Self = Self {
        word_bits: 32,
        offset_bits: 24,
        pfn_bits: 24,
        ..Self::X86_64_2_6_17
    };

    /// x86-64's entry in Linux 6.1 (`arch/x86/include/asm/pgtable_64.h`, "Encode and de-code a swap entry"):
    /// type in 59–63, inverted offset in 9–58, exclusive 3, uffd-wp 2, soft-dirty 1; present is bit 0 or bit 8,
    /// bit 7 stays zero for huge pages. A frame number has 52 − 12 bits, young and dirty are the next two.
    pub const X86_64: Self = Self {
        word_bits: 64,
        type_shift: 59,
        type_bits: 5,
        offset_shift: 9,
        offset_bits: 50,
        invert_offset: true,
        pfn_bits: 40,
        present_mask: 1 << 0 | 1 << 8,
        file_mask: 0,
        soft_dirty_bit: Some(1),
        uffd_wp_bit: Some(2),
        exclusive_bit: Some(3),
        layout: SwapLayout::MODERN,
    };

    /// True where the format's fields lie inside the word and none overlaps another, or a bit that
    /// means present or file, and every type the layout knows fits.
    ///
    /// The formats here are checked at compile time; an author's own one belongs in a `const` assertion too.
    #[must_use]
    pub const fn is_sound(&self) -> bool {
        let fields = [
            self.type_mask(),
            self.offset_mask(),
            self.present_mask,
            self.file_mask,
            bit(self.soft_dirty_bit),
            bit(self.uffd_wp_bit),
            bit(self.exclusive_bit),
        ];
        let mut seen = 0;
        let mut rest: &[u64] = &fields;
        while let [field, after @ ..] = rest {
            if seen & *field != 0 || *field & !ones(self.word_bits) != 0 {
                return false;
            }
            seen |= *field;
            rest = after;
        }
        let widths = ones(self.type_bits).count_ones() == self.type_mask().count_ones()
            && ones(self.offset_bits).count_ones() == self.offset_mask().count_ones();
        widths
            && self.pfn_bits <= self.offset_bits
            && ones(self.type_bits) >= (self.layout.max_types() as u64).saturating_sub(1)
    }

    /// True where young and dirty find room above the frame number.
    #[must_use]
    pub const fn keeps_young_and_dirty(&self) -> bool {
        self.pfn_bits.saturating_add(2) <= self.offset_bits
    }

    /// Returns the largest frame number an entry can name.
    #[must_use]
    pub const fn max_pfn(&self) -> Pfn {
        Pfn::new(ones(self.pfn_bits))
    }

    /// True for an empty slot.
    #[must_use]
    pub const fn is_none(&self, word: u64) -> bool {
        word == 0
    }

    /// True for a word the kernel takes for a mapping.
    #[must_use]
    pub const fn is_present(&self, word: u64) -> bool {
        word & self.present_mask != 0
    }

    /// True for a nonlinear file entry.
    #[must_use]
    pub const fn is_file(&self, word: u64) -> bool {
        !self.is_present(word) && word & self.file_mask != 0
    }

    /// Degrades a migration entry to what the format can hold, and says what it had more.
    ///
    /// The direction is always the safe one: old, read-only, not exclusive. `Lost::DIRTY` obliges the
    /// caller to mark the page dirty before the word replaces the mapping.
    #[must_use]
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
    pub fn decode(&self, word: u64) -> Option<NonPresent> {
        let marks = bit(self.soft_dirty_bit) | bit(self.uffd_wp_bit) | bit(self.exclusive_bit);
        if self.is_none(word) || word & !(self.type_mask() | self.offset_mask() | marks) != 0 {
            return None;
        }
        let ty = shr(word & self.type_mask(), self.type_shift);
        let ty = crate::SwapType::new(u8::try_from(ty).ok()?)?;
        let stored = shr(word & self.offset_mask(), self.offset_shift);
        let offset = if self.invert_offset {
            stored ^ ones(self.offset_bits)
        } else {
            stored
        };
        let make: fn(Pfn) -> MigrationEntry = match self.layout.kind(ty) {
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
            TypeKind::MigrationRead => MigrationEntry::readable,
            TypeKind::MigrationReadExclusive => MigrationEntry::readable_exclusive,
            TypeKind::MigrationWrite => MigrationEntry::writable,
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
            make(Pfn::new(offset & ones(self.pfn_bits))).with_flags(flags),
        ))
    }

    fn swap_word(&self, entry: SwapEntry, flags: SwapPteFlags) -> Result<u64, EncodeError> {
        if self.layout.kind(entry.ty()) != TypeKind::SwapFile {
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

    fn migration_word(&self, entry: MigrationEntry) -> Result<u64, EncodeError> {
        let kind = match entry.kind() {
            MigrationKind::Read => TypeKind::MigrationRead,
            MigrationKind::ReadExclusive => TypeKind::MigrationReadExclusive,
            MigrationKind::Write => TypeKind::MigrationWrite,
        };
        if self.layout.type_of(kind).is_none() {
            return Err(EncodeError::NoType(kind));
        }
        let (_, lost) = self.fit(entry);
        if !lost.is_empty() {
            return Err(EncodeError::NoRoom(lost));
        }
        let flags = entry.flags();
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
        Ok(self.pack(kind, self.frame(entry.pfn())? | young | dirty)? | marks)
    }

    fn swap_marks(&self, word: u64) -> SwapPteFlags {
        let mut flags = SwapPteFlags::empty();
        flags.set(SwapPteFlags::EXCLUSIVE, word & bit(self.exclusive_bit) != 0);
        flags.set(SwapPteFlags::SOFT_DIRTY, word & bit(self.soft_dirty_bit) != 0);
        flags.set(SwapPteFlags::UFFD_WP, word & bit(self.uffd_wp_bit) != 0);
        flags
    }

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

    fn place(&self, ty: crate::SwapType, offset: u64) -> u64 {
        let stored = if self.invert_offset {
            offset ^ ones(self.offset_bits)
        } else {
            offset
        };
        shl(u64::from(ty.raw()), self.type_shift) | shl(stored, self.offset_shift)
    }

    fn room(&self) -> MigrationFlags {
        let mut room = MigrationFlags::empty();
        room.set(MigrationFlags::YOUNG, self.keeps_young_and_dirty());
        room.set(MigrationFlags::DIRTY, self.keeps_young_and_dirty());
        room.set(MigrationFlags::SOFT_DIRTY, self.soft_dirty_bit.is_some());
        room.set(MigrationFlags::UFFD_WP, self.uffd_wp_bit.is_some());
        room
    }

    const fn young_bit(&self) -> u64 {
        if self.keeps_young_and_dirty() {
            shl(1, self.pfn_bits)
        } else {
            0
        }
    }

    const fn dirty_bit(&self) -> u64 {
        shl(self.young_bit(), 1)
    }

    const fn type_mask(&self) -> u64 {
        shl(ones(self.type_bits), self.type_shift)
    }

    const fn offset_mask(&self) -> u64 {
        shl(ones(self.offset_bits), self.offset_shift)
    }
}

const _: () = {
    assert!(EntryFormat::SWP_ENTRY_2_6_17.is_sound());
    assert!(EntryFormat::X86_64_2_6_17.is_sound());
    assert!(EntryFormat::I386_2_6_17.is_sound());
    assert!(EntryFormat::X86_64.is_sound());
    assert!(!EntryFormat::I386_2_6_17.keeps_young_and_dirty());
    assert!(EntryFormat::X86_64.keeps_young_and_dirty());
};

const fn shl(word: u64, by: u32) -> u64 {
    match word.checked_shl(by) {
        Some(shifted) => shifted,
        None => 0,
    }
}

const fn shr(word: u64, by: u32) -> u64 {
    match word.checked_shr(by) {
        Some(shifted) => shifted,
        None => 0,
    }
}

const fn ones(bits: u32) -> u64 {
    shl(1, bits).wrapping_sub(1)
}

const fn bit(at: Option<u32>) -> u64 {
    match at {
        Some(at) => shl(1, at),
        None => 0,
    }
}

const fn pick(set: bool, at: Option<u32>) -> u64 {
    if set { bit(at) } else { 0 }
}

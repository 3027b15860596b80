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

mod codec;

pub use codec::{EncodeError, Lost, NonPresent};

use crate::{Pfn, SwapLayout};

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_of_2006_is_present_by_either_bit_and_a_file_entry_only_where_it_is_not() {
        let format = EntryFormat::X86_64_2_6_17;
        for (word, present, file) in [
            (0, false, false),
            (1 << 0, true, false),
            (1 << 7, true, false),
            (1 << 6, false, true),
            (1 << 6 | 1 << 0, true, false),
            (1 << 6 | 1 << 7, true, false),
            (1 << 8, false, false),
        ] {
            assert_eq!(
                (format.is_present(word), format.is_file(word)),
                (present, file),
                "{word:#x}"
            );
        }
    }

    #[test]
    fn a_field_that_loses_its_top_bits_is_not_sound() {
        let whole = EntryFormat {
            type_shift: 0,
            offset_shift: 5,
            ..EntryFormat::SWP_ENTRY_2_6_17
        };
        assert!(whole.is_sound());
        let offset_bits = 60;
        assert!(!EntryFormat { offset_bits, ..whole }.is_sound(), "the offset");
        let type_shift = 60;
        assert!(
            !EntryFormat {
                type_shift,
                ..EntryFormat::SWP_ENTRY_2_6_17
            }
            .is_sound(),
            "the type"
        );
    }

    #[test]
    fn a_field_beyond_the_end_of_the_word_is_not_sound() {
        let format = EntryFormat::I386_2_6_17;
        for (offset_bits, sound) in [(format.offset_bits, true), (format.offset_bits + 1, false)] {
            assert_eq!(EntryFormat { offset_bits, ..format }.is_sound(), sound, "{offset_bits}");
        }
    }
}

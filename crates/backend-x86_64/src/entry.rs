//! The word that the CPU reads, and the logical entry it stands for.
//!
//! A present entry (Intel SDM vol. 3, table 4-20; names and software bits as in Linux `arch/x86/include/asm/pgtable_types.h`):
//!
//! | bit | name | is |
//! |---|---|---|
//! | 0 | P | present |
//! | 1 | RW | [`PteFlags::WRITE`], unless a userfaultfd mark takes it away |
//! | 2 | US | user; from the area, clear where it allows nothing |
//! | 3, 4, 7 | PWT, PCD, PAT | memory type; clear, write-back |
//! | 5 | A | [`PteFlags::YOUNG`], set by the CPU |
//! | 6 | D | [`PteFlags::DIRTY`], set by the CPU |
//! | 8 | G | global; clear in user memory |
//! | 9 | SOFTW1 | special: a frame without a page; such an entry is not ours |
//! | 10 | SOFTW2 | [`PteFlags::UFFD_WP`] |
//! | 11 | SOFTW3 | [`PteFlags::SOFT_DIRTY`] |
//! | 12–51 | | the frame |
//! | 52 | | [`PteFlags::EXCLUSIVE`]; Linux has it in `struct page` (`PageAnonExclusive`) |
//! | 59–62 | | protection key; kept while the page stays mapped, 0 once it moved |
//! | 63 | NX | no execution; from the area |
//!
//! Everything else that an entry can be is [`EntryFormat::X86_64`], as in Linux 6.1 (`pgtable_64.h`, "Encode and de-code a swap
//! entry"):
//!
//! | bit | is |
//! |---|---|
//! | 0 | clear: not present |
//! | 1 | soft-dirty |
//! | 2 | userfaultfd mark |
//! | 3 | exclusive (swap entries) |
//! | 7, 8 | clear: neither large nor `PROT_NONE` |
//! | 9–58 | the offset, inverted: the frame number in its low 40 bits, then young, then dirty |
//! | 59–63 | the swap type: migration read, read-exclusive, write; poison; swap file |
//!
//! A migration entry has no room for US, NX, memory type and protection key: they come back from the area at restore. A
//! `PROT_NONE` area's pages stay present and become the supervisor's, so no word here ever has the meaning of Linux's
//! `_PAGE_PROTNONE`; one that somebody else wrote is not decoded and not touched.
//!
//! The offset is inverted because a CPU with the L1 terminal fault reads through an entry that is not present, speculatively,
//! from the address that its frame bits spell. Inverted, they spell one in the top eighth of what the CPU can address
//! ([`HwEntry::l1tf_address`]): no memory is there unless the machine is full to that point (Linux: `l1tf_pfn_limit`).

use bitflags::bitflags;
use mm_types::{EncodeError, EntryFormat, Pfn, PhysAddr, Pte, PteFlags, VmaFlags};

const FRAME: u64 = 0x000f_ffff_ffff_f000;
const FRAME_SHIFT: u32 = 12;
const FORMAT: EntryFormat = EntryFormat::X86_64;

bitflags! {
    /// The bits of a present entry, the frame left out.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct HwBits: u64 {
        /// The CPU may translate through the entry.
        const PRESENT = 1 << 0;
        /// Stores are allowed.
        const WRITE = 1 << 1;
        /// User mode may use it.
        const USER = 1 << 2;
        /// Memory type, low bit.
        const PWT = 1 << 3;
        /// Memory type, middle bit.
        const PCD = 1 << 4;
        /// Set by the CPU at an access.
        const ACCESSED = 1 << 5;
        /// Set by the CPU at a store.
        const DIRTY = 1 << 6;
        /// In the last level: memory type, high bit. In the levels above: the entry maps a large page.
        const PAT_OR_LARGE = 1 << 7;
        /// The translation survives a load of CR3.
        const GLOBAL = 1 << 8;
        /// The frame has no page (Linux: `_PAGE_SPECIAL`).
        const SPECIAL = 1 << 9;
        /// userfaultfd's mark (Linux: `_PAGE_UFFD_WP`).
        const UFFD_WP = 1 << 10;
        /// Linux: `_PAGE_SOFT_DIRTY`.
        const SOFT_DIRTY = 1 << 11;
        /// Only this space maps the page.
        const EXCLUSIVE = 1 << 52;
        /// The protection key.
        const PKEY = 0xf << 59;
        /// No instruction is fetched through it.
        const NO_EXECUTE = 1 << 63;
    }
}

impl HwBits {
    /// What a table's entry has: the last level decides (Linux: `_PAGE_TABLE`).
    pub const TABLE: Self = Self::PRESENT
        .union(Self::WRITE)
        .union(Self::USER)
        .union(Self::ACCESSED)
        .union(Self::DIRTY);
    // What the logical entry does not know. Changing an entry that goes on mapping its frame leaves these.
    const ATTRIBUTES: Self = Self::USER
        .union(Self::PWT)
        .union(Self::PCD)
        .union(Self::PAT_OR_LARGE)
        .union(Self::GLOBAL)
        .union(Self::PKEY)
        .union(Self::NO_EXECUTE);
}

// A logical flag and its bit; WRITE depends on another flag and is handled where words are made.
const MARKS: [(PteFlags, HwBits); 5] = [
    (PteFlags::YOUNG, HwBits::ACCESSED),
    (PteFlags::DIRTY, HwBits::DIRTY),
    (PteFlags::SOFT_DIRTY, HwBits::SOFT_DIRTY),
    (PteFlags::UFFD_WP, HwBits::UFFD_WP),
    (PteFlags::EXCLUSIVE, HwBits::EXCLUSIVE),
];

/// The bits of an entry that its area decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Attributes(HwBits);

impl Attributes {
    /// Returns what an area with `flags` gives its entries (Linux: `vm_get_page_prot`): user, unless nothing is allowed, and no
    /// execution, unless it is.
    #[must_use]
    #[inline]
    pub const fn of(flags: VmaFlags) -> Self {
        let access = VmaFlags::READ.union(VmaFlags::WRITE).union(VmaFlags::EXEC);
        let mut bits = HwBits::empty();
        if flags.intersects(access) {
            bits = bits.union(HwBits::USER);
        }
        if !flags.contains(VmaFlags::EXEC) {
            bits = bits.union(HwBits::NO_EXECUTE);
        }
        Self(bits)
    }

    /// Returns the bits.
    #[must_use]
    #[inline]
    pub const fn bits(self) -> HwBits {
        self.0
    }
}

/// Why a logical entry has no word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum EntryError {
    /// The frame number does not fit 40 bits.
    #[error("frame {0:?} does not fit an entry")]
    FrameTooLarge(Pfn),
    /// The entry is not present, and its format has no room for it.
    #[error(transparent)]
    Format(#[from] EncodeError),
    /// x86-64 has had no entries of nonlinear files since Linux 4.0.
    #[error("there are no file entries")]
    NoFileEntries,
}

/// One word of a page table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[repr(transparent)]
pub struct HwEntry(u64);

impl HwEntry {
    /// The empty slot.
    pub const NONE: Self = Self(0);

    /// Names a word.
    #[must_use]
    #[inline]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Returns the word.
    #[must_use]
    #[inline]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Makes the entry of a table in frame `pfn`, for a level above the last; `None` where the frame does not fit.
    #[must_use]
    #[inline]
    pub const fn table(pfn: Pfn) -> Option<Self> {
        match Self::frame_bits(pfn) {
            Some(frame) => Some(Self(frame | HwBits::TABLE.bits())),
            None => None,
        }
    }

    const fn frame_bits(pfn: Pfn) -> Option<u64> {
        if pfn.raw() <= FRAME >> FRAME_SHIFT {
            Some(pfn.raw() << FRAME_SHIFT)
        } else {
            None
        }
    }

    /// True for an empty slot.
    #[must_use]
    #[inline]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// True where the CPU may translate through the word.
    #[must_use]
    #[inline]
    pub const fn is_present(self) -> bool {
        self.0 & HwBits::PRESENT.bits() != 0
    }

    /// True where a kernel takes the word for a mapping: bit 0, or Linux's `_PAGE_PROTNONE`, bit 8.
    #[must_use]
    #[inline]
    pub const fn looks_present(self) -> bool {
        FORMAT.is_present(self.0)
    }

    /// Returns the frame bits of a present word, of a page or of a table.
    #[must_use]
    #[inline]
    pub const fn frame(self) -> Pfn {
        Pfn::new((self.0 & FRAME) >> FRAME_SHIFT)
    }

    /// Returns the other bits; of use for a present word.
    #[must_use]
    #[inline]
    pub const fn hw_bits(self) -> HwBits {
        HwBits::from_bits_truncate(self.0)
    }

    /// Makes the word of `pte` in an area with `attributes`.
    ///
    /// # Errors
    /// [`EntryError`] where no word can say it.
    #[inline]
    pub fn encode(pte: Pte, attributes: Attributes) -> Result<Self, EntryError> {
        Self::NONE.replaced_by(pte, attributes)
    }

    /// Makes the word that replaces this one: attributes stay where the frame stays mapped, else they are the area's.
    ///
    /// # Errors
    /// As [`Self::encode`].
    #[inline]
    pub fn replaced_by(self, pte: Pte, attributes: Attributes) -> Result<Self, EntryError> {
        let (pfn, flags) = match pte {
            Pte::None => return Ok(Self::NONE),
            Pte::File { .. } => return Err(EntryError::NoFileEntries),
            Pte::Present { pfn, flags } => (pfn, flags),
            Pte::Swap { .. } | Pte::Migration(_) | Pte::Poison(_) => {
                let entry = pte.non_present().ok_or(EntryError::NoFileEntries)?;
                return Ok(Self(FORMAT.encode(entry)?));
            }
        };
        let frame = Self::frame_bits(pfn).ok_or(EntryError::FrameTooLarge(pfn))?;
        let mut bits = if self.is_present() && self.frame() == pfn {
            self.hw_bits().intersection(HwBits::ATTRIBUTES)
        } else {
            attributes.bits()
        };
        bits.insert(HwBits::PRESENT);
        // userfaultfd's mark stands above the permission: the CPU must fault at the store.
        bits.set(HwBits::WRITE, pte.writable());
        for (flag, bit) in MARKS {
            bits.set(bit, flags.contains(flag));
        }
        Ok(Self(frame | bits.bits()))
    }

    /// Makes the word that maps the same frame with an area's attributes, and with what the logical entry has left unchanged.
    #[must_use]
    #[inline]
    pub const fn with_attributes(self, attributes: Attributes) -> Self {
        if !self.is_present() {
            return self;
        }
        let area = HwBits::USER.union(HwBits::NO_EXECUTE);
        Self(self.0 & !area.bits() | attributes.bits().intersection(area).bits())
    }

    /// Reads the word; `None` for one that is not this crate's: special, `PROT_NONE` of Linux, a type without meaning here.
    #[must_use]
    #[inline(always)]
    pub fn decode(self) -> Option<Pte> {
        if self.is_none() {
            return Some(Pte::None);
        }
        if !self.is_present() {
            return FORMAT.decode(self.0).map(Pte::from);
        }
        let bits = self.hw_bits();
        if bits.contains(HwBits::SPECIAL) {
            return None;
        }
        let mut flags = PteFlags::empty();
        flags.set(PteFlags::WRITE, bits.contains(HwBits::WRITE));
        for (flag, bit) in MARKS {
            flags.set(flag, bits.contains(bit));
        }
        Some(Pte::present(self.frame(), flags))
    }

    /// True where replacing this word by `by` leaves a translation behind that allows more, or reaches another frame, or keeps
    /// a store from being noted (SDM vol. 3, 4.10.4.2 and .3).
    ///
    /// False for what only allows more: a CPU that still has the old translation faults once for nothing.
    #[must_use]
    #[inline]
    pub const fn needs_flush(self, by: Self) -> bool {
        if !self.is_present() {
            return false;
        }
        let software = HwBits::SPECIAL
            .union(HwBits::UFFD_WP)
            .union(HwBits::SOFT_DIRTY)
            .union(HwBits::EXCLUSIVE);
        let gained = HwBits::WRITE
            .union(HwBits::USER)
            .union(HwBits::ACCESSED)
            .union(HwBits::DIRTY);
        let (changed, lost) = (self.0 ^ by.0, self.0 & !by.0);
        // Permissions may come, never go; no execution may go, never come; all else may not change at all.
        let harmless = changed & (software.bits() | gained.bits() & !lost) | lost & HwBits::NO_EXECUTE.bits();
        changed & !harmless != 0
    }

    /// Returns the address that a CPU with `phys_bits` address bits reads, speculatively, through a word that is not present
    /// (L1 terminal fault): what its frame bits spell.
    #[must_use]
    pub const fn l1tf_address(self, phys_bits: u32) -> PhysAddr {
        let reach = match 1u64.checked_shl(phys_bits) {
            Some(beyond) => beyond.wrapping_sub(1),
            None => u64::MAX,
        };
        PhysAddr::new(self.0 & FRAME & reach)
    }
}

// What the tables above promise.
const _: () = {
    assert!(FORMAT.present_mask == HwBits::PRESENT.bits() | HwBits::GLOBAL.bits());
    assert!(FORMAT.soft_dirty_bit.is_some() && FORMAT.uffd_wp_bit.is_some() && FORMAT.exclusive_bit.is_some());
    assert!(FORMAT.offset_shift == 9 && FORMAT.offset_bits == 50 && FORMAT.type_shift == 59 && FORMAT.type_bits == 5);
    assert!(FORMAT.invert_offset && FORMAT.keeps_young_and_dirty());
    // Neither the type, the offset nor a mark can reach bits 0, 4 to 8: not present, not large, not PROT_NONE.
    assert!(FORMAT.offset_shift > 8 && FORMAT.type_shift >= FORMAT.offset_shift + FORMAT.offset_bits);
    // Frames of migration entries and of present ones are the same 40 bits.
    assert!(FORMAT.max_pfn().raw() == FRAME >> FRAME_SHIFT);
    // L1TF: the frame bits end at 51. Bit 51 stores the inverse of offset bit 42, which is above the frame number, young and
    // dirty, so it is always set: with 52 address bits the CPU reads in the upper half of what it could address.
    assert!(FORMAT.pfn_bits + 2 <= 51 - FORMAT.offset_shift);
    assert!(FRAME & (1 << 51) != 0 && FRAME & (1 << 52) == 0);
    assert!(HwBits::EXCLUSIVE.bits() & (FRAME | HwBits::PKEY.bits() | HwBits::NO_EXECUTE.bits()) == 0);
};

#[cfg(test)]
mod tests;

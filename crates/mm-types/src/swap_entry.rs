//! Swap entries, and which swap types mean a swap file and which mean something else.
//!
//! A page-table entry that is not present may say where the page went: a type (which swap file) and
//! an offset in it. Migration borrows types from the top of the range: `MAX_SWAPFILES` types are
//! swap files, the rest name pages in flight, poisoned pages and device memory. Which type means what
//! is a [`SwapLayout`]; nothing else in the project knows a type number.

use core::fmt;

use crate::museum::{self, Bug};

/// log2 of the number of swap types (Linux: `MAX_SWAPFILES_SHIFT`).
pub const SWAP_TYPE_BITS: u32 = 5;

/// A swap type: below the layout's limit a swap file, above it a special entry (Linux: `swp_type()`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SwapType(u8);

impl SwapType {
    /// How many types there are, usable as swap files or not.
    pub const COUNT: u8 = 1 << SWAP_TYPE_BITS;

    /// Names type `raw`, or `None` where it does not fit the five bits every entry has for it.
    #[must_use]
    #[inline]
    pub const fn new(raw: u8) -> Option<Self> {
        if raw < Self::COUNT { Some(Self(raw)) } else { None }
    }

    /// Returns the type's number.
    #[must_use]
    #[inline]
    pub const fn raw(self) -> u8 {
        self.0
    }

    /// Returns all types in order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT).map(Self)
    }
}

impl fmt::Display for SwapType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A place in swap: a type and an offset in pages (Linux: `swp_entry_t`, before any architecture packs it).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SwapEntry(
    // The type above the offset, as in Linux: one word, so that an entry of a page table is two.
    u64,
);

impl SwapEntry {
    /// The largest offset: what the type leaves free in a 64-bit word.
    pub const MAX_OFFSET: u64 = u64::MAX >> SWAP_TYPE_BITS;

    /// Names page `offset` of swap type `ty`, or `None` where the offset exceeds [`Self::MAX_OFFSET`].
    #[must_use]
    #[inline]
    pub const fn new(ty: SwapType, offset: u64) -> Option<Self> {
        if offset <= Self::MAX_OFFSET {
            Some(Self((ty.0 as u64) << Self::MAX_OFFSET.count_ones() | offset))
        } else {
            None
        }
    }

    /// Returns the swap type.
    #[must_use]
    #[inline]
    pub const fn ty(self) -> SwapType {
        SwapType((self.0 >> Self::MAX_OFFSET.count_ones()) as u8)
    }

    /// Returns the offset in pages.
    #[must_use]
    #[inline]
    pub const fn offset(self) -> u64 {
        self.0 & Self::MAX_OFFSET
    }
}

impl fmt::Debug for SwapEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SwapEntry")
            .field("ty", &self.ty())
            .field("offset", &self.offset())
            .finish()
    }
}

impl fmt::Display for SwapEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:#x}", self.ty(), self.offset())
    }
}

/// What a swap type stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TypeKind {
    /// A swap file or partition; the offset is a slot in it.
    SwapFile,
    /// A page with a memory error; the offset is its frame (Linux: `SWP_HWPOISON`).
    HwPoison,
    /// A page in flight that was mapped read-only (Linux: `SWP_MIGRATION_READ`).
    MigrationRead,
    /// A page in flight, mapped read-only, that no other space maps (Linux: `SWP_MIGRATION_READ_EXCLUSIVE`).
    MigrationReadExclusive,
    /// A page in flight that was mapped writable (Linux: `SWP_MIGRATION_WRITE`).
    MigrationWrite,
    /// Device memory, mapped writable (Linux: `SWP_DEVICE_WRITE`).
    DeviceWrite,
    /// Device memory, mapped read-only (Linux: `SWP_DEVICE_READ`).
    DeviceRead,
    /// Memory only a device may use for now, mapped writable (Linux: `SWP_DEVICE_EXCLUSIVE_WRITE`).
    DeviceExclusiveWrite,
    /// Memory only a device may use for now, mapped read-only (Linux: `SWP_DEVICE_EXCLUSIVE_READ`).
    DeviceExclusiveRead,
    /// A marker without a page behind it (Linux: `SWP_PTE_MARKER`).
    PteMarker,
    /// A page that could not be read back from swap (Linux: `SWP_SWAPIN_ERROR`).
    SwapinError,
    /// A type the layout gives no meaning.
    Unused,
}

impl TypeKind {
    const COUNT: usize = Self::Unused as usize + 1;

    /// True for the kinds that have one type in a layout.
    const fn is_special(self) -> bool {
        !matches!(self, Self::SwapFile | Self::Unused)
    }
}

/// A swap file asked for a type that is not a swap file's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("swap type {ty} cannot hold a swap file: the layout has {swap_files} of them")]
pub struct SwapTypeError {
    /// The type asked for.
    pub ty: SwapType,
    /// How many types the layout leaves to swap files.
    pub swap_files: u8,
}

/// Which swap types are swap files, and what the others mean.
///
/// The first `swap_files` types are swap files; the special kinds follow in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwapLayout {
    max_types: u8,
    swap_files: u8,
    special: &'static [TypeKind],
    /// The type of each kind, worked out when the layout is made: looked up for every entry that is packed.
    numbers: [Option<SwapType>; TypeKind::COUNT],
}

impl SwapLayout {
    /// Linux 2.6.17 without `CONFIG_MIGRATION`: 32 swap files.
    pub const LINUX_2_6_17_NO_MIGRATION: Self = Self::new(&[]);

    /// Linux 2.6.17-rc3-mm1 with `CONFIG_MIGRATION`: 30 swap files, read = 30, write = 31.
    pub const LINUX_2_6_17: Self = Self::new(&[TypeKind::MigrationRead, TypeKind::MigrationWrite]);

    /// Linux 6.1 with all features: 22 swap files, then the special types in `include/linux/swap.h`'s order.
    pub const MODERN: Self = Self::new(&[
        TypeKind::HwPoison,
        TypeKind::MigrationRead,
        TypeKind::MigrationReadExclusive,
        TypeKind::MigrationWrite,
        TypeKind::DeviceWrite,
        TypeKind::DeviceRead,
        TypeKind::DeviceExclusiveWrite,
        TypeKind::DeviceExclusiveRead,
        TypeKind::PteMarker,
        TypeKind::SwapinError,
    ]);

    /// Puts the special kinds at the top of the type range and leaves the rest to swap files.
    ///
    /// More kinds than there are types leave no swap file, and the surplus has no number.
    #[must_use]
    pub const fn new(special: &'static [TypeKind]) -> Self {
        let taken = if special.len() < SwapType::COUNT as usize {
            special.len() as u8
        } else {
            SwapType::COUNT
        };
        let swap_files = SwapType::COUNT.saturating_sub(taken);
        Self {
            max_types: SwapType::COUNT,
            swap_files,
            special,
            numbers: Self::numbers(swap_files, special),
        }
    }

    /// Numbers the kinds from `first` on; of a kind that is there twice, the first counts.
    const fn numbers(first: u8, special: &[TypeKind]) -> [Option<SwapType>; TypeKind::COUNT] {
        let mut numbers = [None; TypeKind::COUNT];
        let mut next = first;
        let mut rest = special;
        while let [kind, after @ ..] = rest {
            let (_, at) = numbers.split_at_mut(*kind as usize);
            if let ([number @ None, ..], true) = (at, kind.is_special()) {
                *number = SwapType::new(next);
            }
            next = next.saturating_add(1);
            rest = after;
        }
        numbers
    }

    /// Returns how many types there are in all (Linux: `1 << MAX_SWAPFILES_SHIFT`).
    #[must_use]
    pub const fn max_types(&self) -> u8 {
        self.max_types
    }

    /// Returns how many types are swap files (Linux: `MAX_SWAPFILES`).
    #[must_use]
    pub const fn swap_files(&self) -> u8 {
        self.swap_files
    }

    /// Returns what `ty` stands for.
    #[must_use]
    #[inline]
    pub fn kind(&self, ty: SwapType) -> TypeKind {
        match ty.raw().checked_sub(self.swap_files) {
            None => TypeKind::SwapFile,
            Some(above) => self
                .special
                .get(usize::from(above))
                .copied()
                .unwrap_or(TypeKind::Unused),
        }
    }

    /// Returns the type that stands for `kind`, or `None` where the layout has none (or, for swap files, many).
    #[must_use]
    #[inline]
    pub fn type_of(&self, kind: TypeKind) -> Option<SwapType> {
        self.numbers.get(kind as usize).copied().flatten()
    }

    /// Checks that a swap file may be given type `ty` (Linux: the type search in `sys_swapon`).
    ///
    /// The limit is compared, not derived from the width of the type field: once it stopped being a
    /// power of two, the old check let a swap file have a migration type, and pages in flight were
    /// then read from its slots.
    ///
    /// # Errors
    ///
    /// [`SwapTypeError`] for every type that is not a swap file's.
    pub fn activate(&self, ty: SwapType) -> Result<(), SwapTypeError> {
        if ty.raw() < self.swap_files || museum::has(Bug::B11) {
            Ok(())
        } else {
            Err(SwapTypeError {
                ty,
                swap_files: self.swap_files,
            })
        }
    }
}

const _: () = {
    assert!(SwapLayout::LINUX_2_6_17_NO_MIGRATION.swap_files() == 32);
    assert!(SwapLayout::LINUX_2_6_17.swap_files() == 30);
    assert!(SwapLayout::MODERN.swap_files() == 22);
};

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    fn ty(raw: u8) -> SwapType {
        SwapType::new(raw).unwrap()
    }

    #[test]
    fn the_2006_layout_keeps_30_for_read_and_31_for_write() {
        let layout = SwapLayout::LINUX_2_6_17;
        assert_eq!(layout.kind(ty(29)), TypeKind::SwapFile);
        assert_eq!(layout.kind(ty(30)), TypeKind::MigrationRead);
        assert_eq!(layout.kind(ty(31)), TypeKind::MigrationWrite);
        assert_eq!(layout.type_of(TypeKind::MigrationReadExclusive), None);
    }

    #[test]
    fn the_modern_layout_has_linux_6_1s_type_numbers() {
        let layout = SwapLayout::MODERN;
        let numbers = [
            (TypeKind::HwPoison, 22),
            (TypeKind::MigrationRead, 23),
            (TypeKind::MigrationReadExclusive, 24),
            (TypeKind::MigrationWrite, 25),
            (TypeKind::DeviceWrite, 26),
            (TypeKind::DeviceRead, 27),
            (TypeKind::DeviceExclusiveWrite, 28),
            (TypeKind::DeviceExclusiveRead, 29),
            (TypeKind::PteMarker, 30),
            (TypeKind::SwapinError, 31),
        ];
        for (kind, number) in numbers {
            assert_eq!(layout.type_of(kind), Some(ty(number)));
            assert_eq!(layout.kind(ty(number)), kind);
        }
    }

    #[test]
    fn no_swap_file_is_activated_on_a_type_that_means_something_else() {
        for layout in [
            SwapLayout::LINUX_2_6_17_NO_MIGRATION,
            SwapLayout::LINUX_2_6_17,
            SwapLayout::MODERN,
        ] {
            for ty in SwapType::all() {
                assert_eq!(layout.activate(ty).is_ok(), layout.kind(ty) == TypeKind::SwapFile);
            }
        }
        let refused = SwapLayout::LINUX_2_6_17.activate(ty(30)).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "swap type 30 cannot hold a swap file: the layout has 30 of them"
        );
    }

    #[test]
    fn a_layout_numbers_each_special_kind_once_and_no_other_kind() {
        let layout = SwapLayout::new(&[
            TypeKind::HwPoison,
            TypeKind::Unused,
            TypeKind::HwPoison,
            TypeKind::SwapFile,
            TypeKind::MigrationWrite,
        ]);
        assert_eq!(layout.swap_files(), 27);
        assert_eq!(layout.type_of(TypeKind::HwPoison), Some(ty(27)));
        assert_eq!(layout.type_of(TypeKind::MigrationWrite), Some(ty(31)));
        for kind in [TypeKind::SwapFile, TypeKind::Unused, TypeKind::MigrationRead] {
            assert_eq!(layout.type_of(kind), None, "{kind:?}");
        }
    }

    #[test]
    fn an_entry_is_shown_by_its_type_and_offset() {
        let entry = SwapEntry::new(ty(3), 42).unwrap();
        assert_eq!(std::format!("{entry:?}"), "SwapEntry { ty: SwapType(3), offset: 42 }");
        assert_eq!(entry.to_string(), "3:0x2a");
    }

    #[test]
    fn types_and_offsets_out_of_range_are_refused() {
        assert_eq!(SwapType::new(32), None);
        assert_eq!(SwapEntry::new(ty(0), SwapEntry::MAX_OFFSET + 1), None);
        assert!(SwapEntry::new(ty(31), SwapEntry::MAX_OFFSET).is_some());
    }
}

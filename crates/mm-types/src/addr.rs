//! Addresses and frame numbers: the words every kernel has, as types that do not mix.
//!
//! All arithmetic is checked: a sum that leaves the type's range is `None`, never a wrapped value,
//! because a wrapped frame number names somebody else's page.

use core::fmt;

/// log2 of the page size in bytes; 4 KiB pages, as on x86-64.
pub const PAGE_SHIFT: u32 = 12;
/// Bytes in one base page.
pub const PAGE_SIZE: usize = 1 << PAGE_SHIFT;

macro_rules! word {
    ($(#[$doc:meta])* $name:ident, $repr:ty, $fmt:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(transparent)]
        pub struct $name($repr);

        impl $name {
            /// Wraps a raw number.
            #[must_use]
            #[inline]
            pub const fn new(raw: $repr) -> Self {
                Self(raw)
            }

            /// Returns the raw number.
            #[must_use]
            #[inline]
            pub const fn raw(self) -> $repr {
                self.0
            }

            /// Adds `n`, or `None` where the result does not fit.
            #[must_use]
            #[inline]
            pub const fn checked_add(self, n: $repr) -> Option<Self> {
                match self.0.checked_add(n) {
                    Some(raw) => Some(Self(raw)),
                    None => None,
                }
            }

            /// Subtracts `n`, or `None` where the result would be negative.
            #[must_use]
            #[inline]
            pub const fn checked_sub(self, n: $repr) -> Option<Self> {
                match self.0.checked_sub(n) {
                    Some(raw) => Some(Self(raw)),
                    None => None,
                }
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "(", $fmt, ")"), self.0)
            }
        }
    };
}

word! {
    /// A physical address in bytes.
    PhysAddr, u64, "{:#x}"
}
word! {
    /// A virtual address in bytes, in some address space.
    VirtAddr, u64, "{:#x}"
}
word! {
    /// A page frame number: the physical address divided by the page size.
    Pfn, u64, "{:#x}"
}
word! {
    /// A page number inside an address space: the virtual address divided by the page size (Linux: `vpn`).
    Vpn, u64, "{:#x}"
}
word! {
    /// The number of one address space (Linux: an `mm_struct`).
    SpaceId, u32, "{}"
}
word! {
    /// The number of one page cache (Linux: an `address_space`; a file, or the swapper space).
    MappingId, u32, "{}"
}
word! {
    /// The number of one anon-vma: the list of VMAs that may map an anonymous page.
    AnonVmaId, u32, "{}"
}
word! {
    /// A memory node: frames at the same distance.
    NodeId, u16, "{}"
}
word! {
    /// The number of one actor of a trace: the migrator is 0, faulting threads follow.
    ActorId, u32, "{}"
}
word! {
    /// log2 of the number of base pages in a page; 0 is the only value until large pages arrive.
    Order, u8, "{}"
}

impl Pfn {
    /// Returns the frame's first byte, or `None` where it lies beyond 2^64.
    #[must_use]
    #[inline]
    pub const fn addr(self) -> Option<PhysAddr> {
        match self.0.checked_mul(PAGE_SIZE as u64) {
            Some(raw) => Some(PhysAddr(raw)),
            None => None,
        }
    }

    /// Returns the number as an index into a frame table, or `None` where it does not fit `usize`.
    #[must_use]
    #[inline]
    pub fn index(self) -> Option<usize> {
        usize::try_from(self.0).ok()
    }
}

impl PhysAddr {
    /// Returns the frame that holds this byte.
    #[must_use]
    #[inline]
    pub const fn pfn(self) -> Pfn {
        Pfn(self.0 >> PAGE_SHIFT)
    }

    /// True at the first byte of a frame.
    #[must_use]
    #[inline]
    pub const fn is_page_aligned(self) -> bool {
        self.0.trailing_zeros() >= PAGE_SHIFT
    }
}

impl VirtAddr {
    /// Returns the page that holds this byte.
    #[must_use]
    #[inline]
    pub const fn vpn(self) -> Vpn {
        Vpn(self.0 >> PAGE_SHIFT)
    }

    /// True at the first byte of a page.
    #[must_use]
    #[inline]
    pub const fn is_page_aligned(self) -> bool {
        self.0.trailing_zeros() >= PAGE_SHIFT
    }
}

impl Vpn {
    /// Returns the page's first byte, or `None` where it lies beyond 2^64.
    #[must_use]
    #[inline]
    pub const fn addr(self) -> Option<VirtAddr> {
        match self.0.checked_mul(PAGE_SIZE as u64) {
            Some(raw) => Some(VirtAddr(raw)),
            None => None,
        }
    }
}

impl Order {
    /// A base page.
    pub const BASE: Self = Self(0);

    /// Returns how many base pages a page of this order has, or `None` where that does not fit.
    #[must_use]
    #[inline]
    pub const fn pages(self) -> Option<u32> {
        1u32.checked_shl(self.0 as u32)
    }
}

/// The place of one page-table entry: a page of an address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Site {
    /// The address space.
    pub space: SpaceId,
    /// The page within it.
    pub page: Vpn,
}

impl Site {
    /// Names page `page` of `space`.
    #[must_use]
    #[inline]
    pub const fn new(space: SpaceId, page: Vpn) -> Self {
        Self { space, page }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_number_beyond_the_last_address_has_no_address() {
        assert_eq!(Pfn::new(u64::MAX).addr(), None);
        assert_eq!(Pfn::new(2).addr(), Some(PhysAddr::new(8192)));
        assert_eq!(PhysAddr::new(8191).pfn(), Pfn::new(1));
        assert_eq!(Vpn::new(u64::MAX).addr(), None);
        assert_eq!(Vpn::new(2).addr(), Some(VirtAddr::new(8192)));
        assert_eq!(VirtAddr::new(8191).vpn(), Vpn::new(1));
    }

    #[test]
    fn only_the_first_byte_of_a_page_is_aligned() {
        for (raw, aligned) in [
            (0, true),
            (1, false),
            (2048, false),
            (4096, true),
            (4097, false),
            (12288, true),
        ] {
            assert_eq!(PhysAddr::new(raw).is_page_aligned(), aligned, "{raw}");
            assert_eq!(VirtAddr::new(raw).is_page_aligned(), aligned, "{raw}");
        }
    }

    #[test]
    fn a_frame_number_is_an_index_as_long_as_it_fits() {
        assert_eq!(Pfn::new(5).index(), Some(5));
        assert_eq!(Pfn::new(u64::MAX).index(), usize::try_from(u64::MAX).ok());
    }

    #[test]
    fn arithmetic_that_leaves_the_range_is_none() {
        assert_eq!(Pfn::new(u64::MAX).checked_add(1), None);
        assert_eq!(Vpn::new(0).checked_sub(1), None);
        assert_eq!(Order::new(40).pages(), None);
        assert_eq!(Order::BASE.pages(), Some(1));
    }
}

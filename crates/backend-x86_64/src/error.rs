//! Why a mapping was not made, changed or removed.

use mm_types::{Pfn, PhysAddr, Pte, Site, SpaceId, VirtAddr, VmaError};

/// The caller's mistake, or memory ran out; nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// The frame's address is not a multiple of the page size.
    #[error("physical address {0:?} is not the first byte of a frame")]
    MisalignedFrame(PhysAddr),
    /// The virtual address is not a multiple of the page size.
    #[error("virtual address {0:?} is not the first byte of a page")]
    MisalignedPage(VirtAddr),
    /// The frame has no page descriptor, or is not mapped for the kernel.
    #[error("frame {0:?} is outside the page map")]
    FrameOutOfRange(Pfn),
    /// The frame is free: nobody holds a reference.
    #[error("frame {0:?} is free")]
    FrameFree(Pfn),
    /// The page belongs to something else, or to another index, and could not be found again where it was to be mapped.
    #[error("frame {0:?} belongs to another mapping or index")]
    NotOfThisArea(Pfn),
    /// The address has bits above the translated ones that are not copies of the highest.
    #[error("virtual address {0:?} is not canonical")]
    NonCanonical(VirtAddr),
    /// The address is in the kernel's half.
    #[error("virtual address {0:?} is not in the user half")]
    KernelHalf(VirtAddr),
    /// Something is there; `None` where it is a word that is not this crate's.
    #[error("something is mapped at {site:?}: {found:?}")]
    AlreadyMapped {
        /// Where.
        site: Site,
        /// What.
        found: Option<Pte>,
    },
    /// Nothing is there.
    #[error("nothing is mapped at {0:?}")]
    NotMapped(Site),
    /// No area covers the site.
    #[error("no area covers {0:?}")]
    NoArea(Site),
    /// The range reaches beyond the user half.
    #[error("{pages} pages from {start:?} on leave the user half")]
    RangeTooLong {
        /// Its first byte.
        start: VirtAddr,
        /// Its length.
        pages: u64,
    },
    /// A range was to be moved onto a part of itself (Linux: `mremap` says EINVAL).
    #[error("the range at {from:?} and its new place at {to:?} overlap")]
    RangesOverlap {
        /// The range's first byte.
        from: VirtAddr,
        /// The new place's.
        to: VirtAddr,
    },
    /// A large page is mapped around the site.
    #[error("a large page is mapped around {0:?}")]
    LargePage(Site),
    /// There is no frame for a page table.
    #[error("no frame for a page table")]
    NoTable,
    /// The allocator gave a frame for a table that is in use, or that has no descriptor.
    #[error("frame {0:?} cannot be a page table")]
    BadTable(Pfn),
    /// No space has this number.
    #[error("space {0:?} does not exist")]
    NoSpace(SpaceId),
    /// All spaces are in use.
    #[error("no address space is left")]
    SpacesFull,
    /// The areas refused.
    #[error(transparent)]
    Area(#[from] VmaError),
    /// There is no room for another anon-vma.
    #[error("no anon-vma is left")]
    AnonVmasFull,
}

//! Virtual memory areas: which pages of an address space map which pages of what.
//!
//! A VMA answers the two questions of the reverse map: at which [`Site`] does a page with this index appear
//! ([`Vma::site`]), and which index does this site have ([`Vma::index`])? Both are pure and total: what lies outside the
//! area is `None`.

use crate::{AnonVmaId, MappingId, Rules, Site, SpaceId, Vpn};

/// The number of one VMA.
///
/// A [`VmaTable`](crate::VmaTable) hands out numbers with a generation, so that the id of a VMA that is gone names
/// nothing, rather than the next VMA in its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct VmaId {
    number: u32,
    generation: u32,
}

impl VmaId {
    /// Names a VMA of a kernel that numbers its own.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self { number, generation: 0 }
    }

    /// Returns the number, without its generation.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.number
    }

    pub(crate) const fn with_generation(number: u32, generation: u32) -> Self {
        Self { number, generation }
    }
}

bitflags::bitflags! {
    /// The flags of a VMA (Linux: `VM_*`, with the bits of 2.6.17 where it had them).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct VmaFlags: u32 {
        /// Its pages may be read.
        const READ = 0x1;
        /// Its pages may be written.
        const WRITE = 0x2;
        /// Its pages may be executed.
        const EXEC = 0x4;
        /// Writes are seen by every mapper.
        const SHARED = 0x8;
        /// `mprotect` may allow reads.
        const MAYREAD = 0x10;
        /// `mprotect` may allow writes; with SHARED clear, the area is copied on write.
        const MAYWRITE = 0x20;
        /// `mprotect` may allow execution.
        const MAYEXEC = 0x40;
        /// It grows towards lower addresses (a stack).
        const GROWSDOWN = 0x100;
        /// Frames without descriptors are mapped; its entries name no page.
        const PFNMAP = 0x400;
        /// Writes are reported to user space first (today's `VM_UFFD_WP`).
        const UFFD_WP = 0x1000;
        /// Its pages stay in memory (`mlock`).
        const LOCKED = 0x2000;
        /// It maps a device's registers.
        const IO = 0x4000;
        /// A fork does not copy it.
        const DONTCOPY = 0x2_0000;
        /// Its pages are a driver's (gone in 3.7).
        const RESERVED = 0x8_0000;
        /// It maps huge pages of hugetlbfs.
        const HUGETLB = 0x40_0000;
        /// Its pages are in an order of their own (`remap_file_pages`, gone in 4.0): no index can be computed.
        const NONLINEAR = 0x80_0000;
        /// Writes are being tracked (3.11, `VM_SOFTDIRTY`).
        const SOFTDIRTY = 0x800_0000;
    }
}

/// What the pages of a VMA come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Backing {
    /// Zero-filled memory.
    #[default]
    Anon,
    /// A file's page cache. Pages written in a private mapping are anonymous all the same.
    File(MappingId),
}

/// One virtual memory area (Linux: `struct vm_area_struct`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Vma {
    /// Its number; a [`VmaTable`](crate::VmaTable) sets it.
    pub id: VmaId,
    /// The address space it is in.
    pub space: SpaceId,
    /// Its first page.
    pub start: Vpn,
    /// The page after its last.
    pub end: Vpn,
    /// What may be done with it.
    pub flags: VmaFlags,
    /// What its pages come from.
    pub backing: Backing,
    /// The index of its first page. Anonymous areas start with their page number, and keep it when `mremap` moves them.
    pub pgoff: usize,
    /// The list its anonymous pages find it by; `None` before the first of them.
    pub anon_vma: Option<AnonVmaId>,
}

/// Why a VMA is not possible there; nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VmaError {
    /// It would have no page.
    #[error("the area has no page")]
    Empty,
    /// Its last index does not fit a word.
    #[error("the index of the last page does not fit")]
    IndexTooLarge,
    /// It would cover pages of another.
    #[error("the area overlaps area {0:?}")]
    Overlap(VmaId),
    /// A split names a page that is not inside it, or its first.
    #[error("page {0:?} is not inside the area")]
    NotInside(Vpn),
    /// There is no slot left.
    #[error("no slot is left for {0} more areas")]
    Full(usize),
    /// No VMA has this id, any more.
    #[error("area {0:?} does not exist")]
    Gone(VmaId),
}

impl Vma {
    /// Makes an anonymous area of the pages `start..end`, with the page number as its index.
    #[must_use]
    pub fn anon(space: SpaceId, start: Vpn, end: Vpn, flags: VmaFlags) -> Self {
        // An address space has at most 2^52 pages; where usize is narrower the index wraps, as Linux's unsigned long does.
        let pgoff = usize::try_from(start.raw() & usize::MAX as u64).unwrap_or(0);
        Self {
            space,
            start,
            end,
            flags,
            pgoff,
            ..Self::default()
        }
    }

    /// Makes an area of the pages `start..end` that maps a file from its page `pgoff` on.
    #[must_use]
    pub fn file(space: SpaceId, start: Vpn, end: Vpn, flags: VmaFlags, mapping: MappingId, pgoff: usize) -> Self {
        Self {
            space,
            start,
            end,
            flags,
            pgoff,
            backing: Backing::File(mapping),
            ..Self::default()
        }
    }

    /// Returns how many pages it has, or `None` where that does not fit or it ends before it starts.
    #[must_use]
    pub fn len(&self) -> Option<usize> {
        self.end
            .raw()
            .checked_sub(self.start.raw())
            .and_then(|n| usize::try_from(n).ok())
    }

    /// True where it has no page.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start >= self.end
    }

    /// Checks that it has a page and that all its indices fit.
    ///
    /// # Errors
    /// [`VmaError::Empty`] or [`VmaError::IndexTooLarge`].
    pub fn check(&self) -> Result<(), VmaError> {
        if self.is_empty() {
            return Err(VmaError::Empty);
        }
        self.len()
            .and_then(|len| self.pgoff.checked_add(len))
            .map(drop)
            .ok_or(VmaError::IndexTooLarge)
    }

    /// True where `page` of its space lies inside.
    #[must_use]
    pub fn contains(&self, page: Vpn) -> bool {
        self.start <= page && page < self.end
    }

    /// True where it and `start..end` of `space` have a page in common.
    #[must_use]
    pub fn overlaps(&self, space: SpaceId, start: Vpn, end: Vpn) -> bool {
        self.space == space && self.start < end && start < self.end
    }

    /// Returns where the page with `index` appears (Linux: `vma_address`).
    ///
    /// `None` where it is outside, and for every index of a nonlinear area: there it could be anywhere.
    #[must_use]
    pub fn site(&self, index: usize) -> Option<Site> {
        if self.flags.contains(VmaFlags::NONLINEAR) {
            return None;
        }
        let offset = u64::try_from(index.checked_sub(self.pgoff)?).ok()?;
        let page = self.start.checked_add(offset).filter(|page| *page < self.end)?;
        Some(Site::new(self.space, page))
    }

    /// Returns the index of `page` (Linux: `linear_page_index`), or `None` where it is outside.
    ///
    /// In a nonlinear area it is the index the page would have if it were linear.
    #[must_use]
    pub fn index(&self, page: Vpn) -> Option<usize> {
        if !self.contains(page) {
            return None;
        }
        let offset = page.raw().checked_sub(self.start.raw())?;
        self.pgoff.checked_add(usize::try_from(offset).ok()?)
    }

    /// True where a write to a page of it makes a copy (Linux: `is_cow_mapping`).
    #[must_use]
    pub const fn is_cow(&self) -> bool {
        self.flags
            .intersection(VmaFlags::SHARED.union(VmaFlags::MAYWRITE))
            .bits()
            == VmaFlags::MAYWRITE.bits()
    }

    /// True where its pages may be collected for migration (Linux: `vma_migratable`; 2.6.21 no longer refused LOCKED).
    #[must_use]
    pub const fn is_migratable(&self, rules: Rules) -> bool {
        let always = VmaFlags::IO.union(VmaFlags::HUGETLB).union(VmaFlags::PFNMAP);
        let refused = match rules {
            Rules::Linux2617 => always.union(VmaFlags::LOCKED).union(VmaFlags::RESERVED),
            Rules::Modern => always,
        };
        !self.flags.intersects(refused)
    }

    /// Returns the two parts of it before and from `page`, both with the id of the whole.
    ///
    /// Every page keeps its index.
    ///
    /// # Errors
    /// [`VmaError::NotInside`] where one part would be empty.
    pub fn split(&self, page: Vpn) -> Result<(Self, Self), VmaError> {
        let pgoff = self
            .index(page)
            .filter(|_| page != self.start)
            .ok_or(VmaError::NotInside(page))?;
        Ok((
            Self { end: page, ..*self },
            Self {
                start: page,
                pgoff,
                ..*self
            },
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPACE: SpaceId = SpaceId::new(1);

    fn vma(start: u64, end: u64, pgoff: usize) -> Vma {
        let flags = VmaFlags::READ | VmaFlags::MAYWRITE;
        Vma::file(SPACE, Vpn::new(start), Vpn::new(end), flags, MappingId::new(0), pgoff)
    }

    #[test]
    fn site_and_index_are_each_others_inverse_and_end_at_the_borders() {
        let area = vma(10, 14, 100);
        for page in 0..30 {
            let index = area.index(Vpn::new(page));
            assert_eq!(index.is_some(), (10..14).contains(&page));
            if let Some(index) = index {
                assert_eq!(area.site(index), Some(Site::new(SPACE, Vpn::new(page))));
            }
        }
        for index in [0, 99, 104, usize::MAX] {
            assert_eq!(area.site(index), None, "{index}");
        }
    }

    #[test]
    fn an_area_at_the_end_of_the_number_range_computes_no_wrapped_site() {
        let area = vma(u64::MAX - 2, u64::MAX, 0);
        assert!(area.site(1).is_some());
        assert_eq!(area.site(2), None);
        assert_eq!(area.site(5), None);
        assert_eq!(vma(0, 4, usize::MAX - 3).check(), Err(VmaError::IndexTooLarge));
        assert_eq!(vma(4, 4, 0).check(), Err(VmaError::Empty));
        assert_eq!(vma(5, 4, 0).check(), Err(VmaError::Empty));
    }

    #[test]
    fn a_nonlinear_area_has_indices_but_no_sites() {
        let mut area = vma(10, 14, 100);
        area.flags |= VmaFlags::NONLINEAR | VmaFlags::SHARED;
        assert_eq!(area.index(Vpn::new(11)), Some(101));
        assert_eq!(area.site(101), None);
    }

    #[test]
    fn an_area_has_the_flags_that_it_is_made_with() {
        let flags = VmaFlags::READ | VmaFlags::MAYWRITE;
        assert_eq!(Vma::anon(SPACE, Vpn::new(10), Vpn::new(14), flags).flags, flags);
        assert_eq!(vma(10, 14, 100).flags, flags);
    }

    #[test]
    fn a_moved_anonymous_area_still_finds_its_pages() {
        let area = Vma::anon(SPACE, Vpn::new(10), Vpn::new(14), VmaFlags::WRITE);
        let index = area.index(Vpn::new(12)).unwrap();
        assert_eq!(index, 12);
        let moved = Vma {
            start: Vpn::new(90),
            end: Vpn::new(94),
            ..area
        };
        assert_eq!(moved.site(index), Some(Site::new(SPACE, Vpn::new(92))));
    }

    #[test]
    fn only_private_areas_that_may_be_written_are_copied_on_write() {
        for (flags, cow) in [
            (VmaFlags::MAYWRITE, true),
            (VmaFlags::MAYWRITE | VmaFlags::READ, true),
            (VmaFlags::MAYWRITE | VmaFlags::SHARED, false),
            (VmaFlags::SHARED, false),
            (VmaFlags::READ, false),
        ] {
            assert_eq!(
                Vma {
                    flags,
                    ..Vma::default()
                }
                .is_cow(),
                cow,
                "{flags:?}"
            );
        }
    }

    #[test]
    fn locked_and_reserved_areas_are_refused_in_2006_only() {
        for (flag, in_2006, modern) in [
            (VmaFlags::LOCKED, false, true),
            (VmaFlags::RESERVED, false, true),
            (VmaFlags::IO, false, false),
            (VmaFlags::HUGETLB, false, false),
            (VmaFlags::PFNMAP, false, false),
            (VmaFlags::NONLINEAR, true, true),
        ] {
            let area = Vma {
                flags: flag | VmaFlags::READ,
                ..Vma::default()
            };
            assert_eq!(area.is_migratable(Rules::Linux2617), in_2006, "{flag:?}");
            assert_eq!(area.is_migratable(Rules::Modern), modern, "{flag:?}");
        }
    }

    #[test]
    fn a_split_leaves_every_page_its_index() {
        let area = vma(10, 14, 100);
        for at in 0..20 {
            let parts = area.split(Vpn::new(at));
            assert_eq!(parts.is_ok(), (11..14).contains(&at), "{at}");
            let Ok((head, tail)) = parts else { continue };
            assert_eq!((head.end, tail.start), (Vpn::new(at), Vpn::new(at)));
            for page in (10..14).map(Vpn::new) {
                assert_eq!(head.index(page).or(tail.index(page)), area.index(page));
                assert_ne!(head.contains(page), tail.contains(page));
            }
        }
    }
}

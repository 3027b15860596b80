//! Four levels or five, and which addresses they translate.

use mm_types::{PAGE_SHIFT, Pfn, PhysAddr, VirtAddr, Vpn};

use crate::MapError;

pub(crate) const INDEX_BITS: u32 = 9;

/// How many levels the tables have; one answer for the whole machine (`CR4.LA57`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Paging {
    /// 48 bits of virtual address.
    #[default]
    Four,
    /// 57 bits.
    Five,
}

impl Paging {
    /// Returns the number of levels; the last is 0, the root's is this less one.
    #[must_use]
    pub const fn levels(self) -> u32 {
        match self {
            Self::Four => 4,
            Self::Five => 5,
        }
    }

    /// Returns how many bits of an address are translated.
    #[must_use]
    pub const fn virt_bits(self) -> u32 {
        match self {
            Self::Four => 48,
            Self::Five => 57,
        }
    }

    /// Returns the first page after the user half.
    #[must_use]
    pub const fn user_end(self) -> Vpn {
        match self {
            Self::Four => Vpn::new(1 << (47 - PAGE_SHIFT)),
            Self::Five => Vpn::new(1 << (56 - PAGE_SHIFT)),
        }
    }

    /// True where the untranslated bits are copies of the highest translated one (SDM vol. 1, 3.3.7.1).
    #[must_use]
    pub const fn is_canonical(self, addr: VirtAddr) -> bool {
        let sign = addr.raw() >> self.virt_bits().wrapping_sub(1);
        sign == 0 || sign == u64::MAX >> self.virt_bits().wrapping_sub(1)
    }

    /// Returns the user page that starts at `addr`.
    ///
    /// # Errors
    /// [`MapError`] where the address is misaligned, not canonical or the kernel's.
    pub fn user_page(self, addr: VirtAddr) -> Result<Vpn, MapError> {
        if !self.is_canonical(addr) {
            return Err(MapError::NonCanonical(addr));
        }
        if !addr.is_page_aligned() {
            return Err(MapError::MisalignedPage(addr));
        }
        if addr.vpn() >= self.user_end() {
            return Err(MapError::KernelHalf(addr));
        }
        Ok(addr.vpn())
    }

    /// Returns the first page of a range of user pages, and the page after it.
    ///
    /// # Errors
    /// As [`Self::user_page`], and [`MapError::RangeTooLong`].
    pub fn user_range(self, start: VirtAddr, pages: u64) -> Result<(Vpn, Vpn), MapError> {
        let first = self.user_page(start)?;
        let end = first.checked_add(pages).filter(|end| *end <= self.user_end());
        Ok((first, end.ok_or(MapError::RangeTooLong { start, pages })?))
    }

    /// Returns the slot of `page` in its table of `level`.
    pub(crate) fn index(self, page: Vpn, level: u32) -> usize {
        let shifted = page.raw() >> level.wrapping_mul(INDEX_BITS);
        usize::try_from(shifted & 0x1ff).unwrap_or(0)
    }

    /// Returns the first page that the slot after `page`'s in its table of `level` translates; `None` where it does not fit.
    pub(crate) fn next_slot(page: Vpn, level: u32) -> Option<Vpn> {
        let size = 1u64.checked_shl(level.checked_mul(INDEX_BITS)?)?;
        let start = page.raw() & !size.wrapping_sub(1);
        start.checked_add(size).map(Vpn::new)
    }
}

/// Returns the frame at `addr`.
///
/// # Errors
/// [`MapError::MisalignedFrame`].
pub(crate) fn frame_at(addr: PhysAddr) -> Result<Pfn, MapError> {
    if addr.is_page_aligned() {
        Ok(addr.pfn())
    } else {
        Err(MapError::MisalignedFrame(addr))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_between_the_halves_is_not_canonical() {
        for (paging, last) in [(Paging::Four, 0x7fff_ffff_ffff), (Paging::Five, 0xff_ffff_ffff_ffff)] {
            assert!(paging.is_canonical(VirtAddr::new(last)));
            assert!(!paging.is_canonical(VirtAddr::new(last + 1)));
            assert!(!paging.is_canonical(VirtAddr::new(!last - 1)));
            assert!(paging.is_canonical(VirtAddr::new(!last)));
            assert!(paging.is_canonical(VirtAddr::new(u64::MAX)));
            let page = VirtAddr::new(last & !0xfff);
            assert_eq!(paging.user_page(page), Ok(page.vpn()));
            assert_eq!(
                paging.user_page(VirtAddr::new(last)),
                Err(MapError::MisalignedPage(VirtAddr::new(last)))
            );
            let kernel = VirtAddr::new(!last);
            assert_eq!(paging.user_page(kernel), Err(MapError::KernelHalf(kernel)));
        }
    }

    #[test]
    fn a_range_may_end_where_the_user_half_does() {
        let last = VirtAddr::new(0x7fff_ffff_f000);
        assert!(Paging::Four.user_range(last, 1).is_ok());
        let too_long = MapError::RangeTooLong { start: last, pages: 2 };
        assert_eq!(Paging::Four.user_range(last, 2), Err(too_long));
        let pages = u64::MAX;
        assert!(Paging::Four.user_range(last, pages).is_err());
    }

    #[test]
    fn slots_follow_each_other() {
        assert_eq!(Paging::next_slot(Vpn::new(511), 0), Some(Vpn::new(512)));
        assert_eq!(Paging::next_slot(Vpn::new(511), 1), Some(Vpn::new(512)));
        assert_eq!(Paging::next_slot(Vpn::new(512), 1), Some(Vpn::new(1024)));
        assert_eq!(Paging::Four.index(Vpn::new(512 * 3 + 7), 1), 3);
    }
}

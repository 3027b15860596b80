//! The page map: where the descriptor of a frame is.

use crate::{Page, Pfn};

/// The page map: the descriptors of a range of frames (Linux: `mem_map`).
#[derive(Clone, Copy, Debug)]
pub struct PageMap<'s> {
    base: Pfn,
    pages: &'s [Page],
}

impl<'s> PageMap<'s> {
    /// Makes a map whose first descriptor is that of frame `base`.
    #[must_use]
    #[inline]
    pub const fn new(base: Pfn, pages: &'s [Page]) -> Self {
        Self { base, pages }
    }

    /// Returns the descriptor of `pfn` (Linux: `pfn_to_page`), or `None` for a frame outside the map.
    #[must_use]
    #[inline]
    pub fn page(&self, pfn: Pfn) -> Option<&'s Page> {
        self.pages.get(
            pfn.raw()
                .checked_sub(self.base.raw())
                .and_then(|n| usize::try_from(n).ok())?,
        )
    }

    /// Returns the descriptor that a list link of this map names.
    #[inline]
    pub(crate) fn at(&self, slot: u32) -> Option<&'s Page> {
        self.pages.get(usize::try_from(slot).ok()?)
    }

    /// Returns the link number of `pfn`, or `None` for a frame outside the map.
    #[inline]
    pub(crate) fn slot(&self, pfn: Pfn) -> Option<u32> {
        let n = pfn.raw().checked_sub(self.base.raw())?;
        (n < self.pages.len() as u64).then_some(())?;
        u32::try_from(n).ok()
    }

    /// Returns the frame of a link number.
    #[inline]
    pub(crate) fn pfn_at(&self, slot: u32) -> Option<Pfn> {
        self.base.checked_add(u64::from(slot))
    }

    /// Returns the first frame.
    #[must_use]
    #[inline]
    pub const fn base(&self) -> Pfn {
        self.base
    }

    /// Returns how many frames there are.
    #[must_use]
    #[inline]
    pub const fn len(&self) -> usize {
        self.pages.len()
    }

    /// True for a map of no frames.
    #[must_use]
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_outside_the_map_has_no_descriptor() {
        let pages = [(); 4].map(|_nothing| Page::new());
        let map = PageMap::new(Pfn::new(100), &pages);
        assert!(map.page(Pfn::new(99)).is_none());
        assert!(map.page(Pfn::new(103)).is_some());
        assert!(map.page(Pfn::new(104)).is_none());
        assert!(map.page(Pfn::new(u64::MAX)).is_none());
        let slots = [99, 100, 103, 104].map(|pfn| map.slot(Pfn::new(pfn)));
        assert_eq!(slots, [None, Some(0), Some(3), None], "nor a link");
    }

    #[test]
    fn a_map_of_no_frames_is_empty_and_others_have_a_length() {
        let pages = [Page::new()];
        let more = [(); 3].map(|()| Page::new());
        assert_eq!(
            [&pages[..], &more].map(|pages| PageMap::new(Pfn::new(100), pages).len()),
            [1, 3]
        );
        assert!(PageMap::new(Pfn::new(100), &[]).is_empty());
        assert!(!PageMap::new(Pfn::new(100), &pages).is_empty());
    }
}

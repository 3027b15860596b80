//! Lists of pages linked by index through the page map: no allocation, one link per page.
//!
//! A list has a number, and a page's link holds the number of the list it is on, so that a page can be on one list at
//! most (I1): pushing a page that is on a list, or removing one from a list it is not on, is refused and changes nothing.
//! A list's owner serialises its operations (the lock is the backend's).

use crate::sync::Ordering;
use crate::{PageMap, Pfn};

/// The number of a list; 0 is "on no list".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListId(u32);

impl ListId {
    /// Names list `n`. Lists that are in use over one page map at the same time have different numbers.
    #[must_use]
    #[inline]
    pub const fn new(n: core::num::NonZeroU32) -> Self {
        Self(n.get())
    }

    #[inline]
    pub(crate) const fn fixed(n: u32) -> Self {
        Self(n)
    }
}

/// Why a list would not do it; nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// The frame is outside the page map.
    #[error("frame {0:?} is outside the page map")]
    NoSuchFrame(Pfn),
    /// The page is on a list already.
    #[error("frame {0:?} is on a list already")]
    OnAList(Pfn),
    /// The page is not on this list.
    #[error("frame {0:?} is not on this list")]
    NotOnThisList(Pfn),
}

// Ends of a list: no slot of a map has this number, because a map with that many frames has no link for it.
const END: u32 = u32::MAX;

/// A doubly linked list of pages.
///
/// A page is on it once at most, so that `len` is never more than there are frames.
#[derive(Debug)]
pub struct PageList {
    id: ListId,
    first: u32,
    last: u32,
    len: usize,
}

impl PageList {
    /// Makes an empty list with number `id`.
    #[must_use]
    #[inline]
    pub const fn new(id: ListId) -> Self {
        Self {
            id,
            first: END,
            last: END,
            len: 0,
        }
    }

    /// Returns how many pages are on the list.
    #[must_use]
    #[inline]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// True where no page is on the list.
    #[must_use]
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// True where `pfn` is on this list; one relaxed load.
    #[must_use]
    #[inline]
    pub fn contains(&self, map: PageMap<'_>, pfn: Pfn) -> bool {
        map.page(pfn)
            .is_some_and(|page| page.link.list.load(Ordering::Relaxed) == self.id.0)
    }

    /// Appends `pfn`.
    ///
    /// # Errors
    /// [`ListError`] where it is outside the map, or on a list.
    #[inline]
    pub fn push_back(&mut self, map: PageMap<'_>, pfn: Pfn) -> Result<(), ListError> {
        let (slot, link) = self.claim(map, pfn)?;
        link.next.store(END, Ordering::Relaxed);
        link.prev.store(self.last, Ordering::Relaxed);
        match map.at(self.last) {
            Some(last) => last.link.next.store(slot, Ordering::Relaxed),
            None => self.first = slot,
        }
        self.last = slot;
        self.len = self.len.wrapping_add(1);
        Ok(())
    }

    /// Puts `pfn` before the first.
    ///
    /// # Errors
    /// [`ListError`] where it is outside the map, or on a list.
    #[inline]
    pub fn push_front(&mut self, map: PageMap<'_>, pfn: Pfn) -> Result<(), ListError> {
        let (slot, link) = self.claim(map, pfn)?;
        link.prev.store(END, Ordering::Relaxed);
        link.next.store(self.first, Ordering::Relaxed);
        match map.at(self.first) {
            Some(first) => first.link.prev.store(slot, Ordering::Relaxed),
            None => self.last = slot,
        }
        self.first = slot;
        self.len = self.len.wrapping_add(1);
        Ok(())
    }

    fn claim<'s>(&self, map: PageMap<'s>, pfn: Pfn) -> Result<(u32, &'s crate::page::Link), ListError> {
        let none = ListError::NoSuchFrame(pfn);
        let slot = map.slot(pfn).filter(|slot| *slot != END).ok_or(none)?;
        let link = &map.at(slot).ok_or(none)?.link;
        // A page off every list belongs to whoever holds its isolation, so a look is enough: nobody else links it meanwhile.
        if link.list.load(Ordering::Acquire) != 0 {
            return Err(ListError::OnAList(pfn));
        }
        link.list.store(self.id.0, Ordering::Relaxed);
        Ok((slot, link))
    }

    /// Takes the first page off.
    #[inline]
    pub fn pop_front(&mut self, map: PageMap<'_>) -> Option<Pfn> {
        let slot = self.first;
        let link = self.own(map, slot)?;
        let next = link.next.load(Ordering::Relaxed);
        match map.at(next) {
            Some(page) => page.link.prev.store(END, Ordering::Relaxed),
            None => self.last = END,
        }
        self.first = next;
        self.release(link);
        map.pfn_at(slot)
    }

    /// Takes the last page off.
    #[inline]
    pub fn pop_back(&mut self, map: PageMap<'_>) -> Option<Pfn> {
        let slot = self.last;
        let link = self.own(map, slot)?;
        let prev = link.prev.load(Ordering::Relaxed);
        match map.at(prev) {
            Some(page) => page.link.next.store(END, Ordering::Relaxed),
            None => self.first = END,
        }
        self.last = prev;
        self.release(link);
        map.pfn_at(slot)
    }

    /// Returns the link of a page at one end of the list.
    fn own<'s>(&self, map: PageMap<'s>, slot: u32) -> Option<&'s crate::page::Link> {
        let link = &map.at(slot)?.link;
        (link.list.load(Ordering::Relaxed) == self.id.0).then_some(link)
    }

    /// The page with this link is on no list any more.
    fn release(&mut self, link: &crate::page::Link) {
        link.list.store(0, Ordering::Release);
        // It was on this one.
        self.len = self.len.wrapping_sub(1);
    }

    /// Takes `pfn` off, wherever it stands.
    ///
    /// # Errors
    /// [`ListError`] where it is outside the map, or not on this list.
    #[inline]
    pub fn remove(&mut self, map: PageMap<'_>, pfn: Pfn) -> Result<(), ListError> {
        let link = &map.page(pfn).ok_or(ListError::NoSuchFrame(pfn))?.link;
        if link.list.load(Ordering::Relaxed) != self.id.0 {
            return Err(ListError::NotOnThisList(pfn));
        }
        let (prev, next) = (link.prev.load(Ordering::Relaxed), link.next.load(Ordering::Relaxed));
        match map.at(prev) {
            Some(page) => page.link.next.store(next, Ordering::Relaxed),
            None => self.first = next,
        }
        match map.at(next) {
            Some(page) => page.link.prev.store(prev, Ordering::Relaxed),
            None => self.last = prev,
        }
        self.release(link);
        Ok(())
    }

    /// Puts all of `other` before the first of this list, in its order; `other` is empty afterwards.
    #[inline]
    pub fn splice_front(&mut self, map: PageMap<'_>, other: &mut Self) {
        while let Some(pfn) = other.pop_back(map) {
            let pushed = self.push_front(map, pfn);
            debug_assert!(pushed.is_ok(), "a page just taken off a list is on none");
        }
    }

    /// Visits the pages from first to last.
    #[inline]
    pub fn iter<'m>(&self, map: PageMap<'m>) -> impl Iterator<Item = Pfn> + use<'m> {
        let mut at = self.first;
        let mut left = self.len;
        core::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let pfn = map.pfn_at(at)?;
            at = map.at(at)?.link.next.load(Ordering::Relaxed);
            Some(pfn)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Page;
    use std::vec::Vec;

    fn pages(n: usize) -> Vec<Page> {
        (0..n).map(|_| Page::new()).collect()
    }

    #[test]
    fn a_page_is_on_one_list_at_most() {
        let store = pages(4);
        let map = PageMap::new(Pfn::new(10), &store);
        let (mut a, mut b) = (PageList::new(ListId::fixed(1)), PageList::new(ListId::fixed(2)));
        a.push_back(map, Pfn::new(11)).unwrap();
        assert_eq!(b.push_back(map, Pfn::new(11)), Err(ListError::OnAList(Pfn::new(11))));
        assert_eq!(b.remove(map, Pfn::new(11)), Err(ListError::NotOnThisList(Pfn::new(11))));
        assert_eq!(
            a.push_back(map, Pfn::new(14)),
            Err(ListError::NoSuchFrame(Pfn::new(14)))
        );
        assert!(a.contains(map, Pfn::new(11)) && !b.contains(map, Pfn::new(11)));
        assert_eq!((a.len(), b.len()), (1, 0));
    }

    #[test]
    fn order_is_kept_at_both_ends_and_through_splices() {
        let store = pages(8);
        let map = PageMap::new(Pfn::new(0), &store);
        let (mut a, mut b) = (PageList::new(ListId::fixed(1)), PageList::new(ListId::fixed(2)));
        for n in 0..3 {
            a.push_back(map, Pfn::new(n)).unwrap();
        }
        for n in 3..6 {
            b.push_back(map, Pfn::new(n)).unwrap();
        }
        b.remove(map, Pfn::new(4)).unwrap();
        a.splice_front(map, &mut b);
        let order: Vec<u64> = a.iter(map).map(Pfn::raw).collect();
        assert_eq!(order, [3, 5, 0, 1, 2]);
        assert!(b.is_empty());
        assert_eq!(a.pop_back(map), Some(Pfn::new(2)));
        assert_eq!(a.pop_front(map), Some(Pfn::new(3)));
        a.push_back(map, Pfn::new(3)).unwrap();
        let order: Vec<u64> = a.iter(map).map(Pfn::raw).collect();
        assert_eq!(order, [5, 0, 1, 3]);
    }

    #[test]
    fn a_list_is_empty_before_its_first_page_and_after_its_last() {
        let store = pages(1);
        let map = PageMap::new(Pfn::new(10), &store);
        let mut list = PageList::new(ListId::fixed(1));
        assert!(list.is_empty());
        list.push_back(map, Pfn::new(10)).unwrap();
        assert!(!list.is_empty());
        list.pop_front(map);
        assert!(list.is_empty());
    }
}

//! Lists of pages: the caller's, in the caller's memory.

use mm_types::{PageList, PageMap};

use crate::{Isolated, PageRef};

/// A list of pages: what the core needs of a caller's.
///
/// Pushing does not fail and order is kept; that is all, and `push_back`, `pop_front` and `len` are all a kernel writes. Implemented for lists linked by index through the page map
/// ([`MapList`], no allocation) and, with feature `alloc`, for `VecDeque`.
pub trait List<T> {
    /// Appends.
    fn push_back(&mut self, item: T);
    /// Takes the first.
    fn pop_front(&mut self) -> Option<T>;
    /// Returns how many there are.
    fn len(&self) -> usize;
    /// Takes the last. Provided for lists that are linked one way, in time linear in the length.
    fn pop_back(&mut self) -> Option<T> {
        for _ in 1..self.len() {
            if let Some(item) = self.pop_front() {
                self.push_back(item);
            }
        }
        self.pop_front()
    }
    /// Puts all of `other` before the first, in its order; `other` is empty afterwards. Provided, in time linear in the length.
    fn splice_front(&mut self, other: &mut Self)
    where
        Self: Sized,
    {
        while let Some(item) = self.pop_front() {
            other.push_back(item);
        }
        core::mem::swap(self, other);
    }
    /// True where there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(feature = "alloc")]
impl<T> List<T> for alloc::collections::VecDeque<T> {
    fn push_back(&mut self, item: T) {
        Self::push_back(self, item);
    }

    fn pop_front(&mut self) -> Option<T> {
        Self::pop_front(self)
    }

    fn pop_back(&mut self) -> Option<T> {
        Self::pop_back(self)
    }

    fn splice_front(&mut self, other: &mut Self) {
        other.append(self);
        core::mem::swap(self, other);
    }

    fn len(&self) -> usize {
        Self::len(self)
    }
}

/// At most one page, for the one-page call.
impl<T> List<T> for Option<T> {
    fn push_back(&mut self, item: T) {
        debug_assert!(self.is_none(), "a list of one holds one");
        *self = Some(item);
    }

    fn pop_front(&mut self) -> Option<T> {
        self.take()
    }

    fn pop_back(&mut self) -> Option<T> {
        self.take()
    }

    fn splice_front(&mut self, other: &mut Self) {
        if let Some(item) = other.take() {
            self.push_back(item);
        }
    }

    fn len(&self) -> usize {
        usize::from(self.is_some())
    }
}

/// A list linked by index through the page map: no memory of its own (Linux: `list_head` through `page->lru`).
#[derive(Debug)]
pub struct MapList<'m> {
    map: PageMap<'m>,
    list: PageList,
}

impl<'m> MapList<'m> {
    /// Makes an empty list over `map`.
    #[must_use]
    pub const fn new(map: PageMap<'m>, list: PageList) -> Self {
        Self { map, list }
    }

    /// Visits the frames on the list, first to last.
    pub fn iter(&self) -> impl Iterator<Item = mm_types::Pfn> + use<'m> {
        self.list.iter(self.map)
    }

    fn append(&mut self, page: &PageRef) {
        let pushed = self.list.push_back(self.map, page.pfn());
        debug_assert!(pushed.is_ok(), "a page off its list was on another: {pushed:?}");
    }
}

impl List<PageRef> for MapList<'_> {
    fn push_back(&mut self, item: PageRef) {
        self.append(&item);
    }

    fn pop_front(&mut self) -> Option<PageRef> {
        self.list.pop_front(self.map).map(PageRef::counted)
    }

    fn pop_back(&mut self) -> Option<PageRef> {
        self.list.pop_back(self.map).map(PageRef::counted)
    }

    fn splice_front(&mut self, other: &mut Self) {
        self.list.splice_front(self.map, &mut other.list);
    }

    fn len(&self) -> usize {
        self.list.len()
    }
}

impl List<Isolated<PageRef>> for MapList<'_> {
    fn push_back(&mut self, item: Isolated<PageRef>) {
        self.append(item.page());
    }

    fn pop_front(&mut self) -> Option<Isolated<PageRef>> {
        List::<PageRef>::pop_front(self).map(Isolated::from_isolated)
    }

    fn pop_back(&mut self) -> Option<Isolated<PageRef>> {
        List::<PageRef>::pop_back(self).map(Isolated::from_isolated)
    }

    fn splice_front(&mut self, other: &mut Self) {
        List::<PageRef>::splice_front(self, other);
    }

    fn len(&self) -> usize {
        self.list.len()
    }
}

#[cfg(test)]
mod tests {
    use super::List;
    use alloc::collections::VecDeque;
    use std::vec::Vec;

    /// What a kernel writes, and no more.
    #[derive(Default)]
    struct Least(Vec<u8>);

    impl List<u8> for Least {
        fn push_back(&mut self, item: u8) {
            self.0.push(item);
        }

        fn pop_front(&mut self) -> Option<u8> {
            (!self.0.is_empty()).then(|| self.0.remove(0))
        }

        fn len(&self) -> usize {
            self.0.len()
        }
    }

    fn of<L: List<u8> + Default>(items: core::ops::Range<u8>) -> L {
        let mut list = L::default();
        items.for_each(|item| list.push_back(item));
        list
    }

    fn emptied<L: List<u8>>(mut list: L) -> Vec<u8> {
        let all: Vec<u8> = core::iter::from_fn(|| list.pop_front()).collect();
        assert!(list.is_empty());
        all
    }

    fn takes_the_last_and_splices_in_order<L: List<u8> + Default>(most: u8) {
        assert!(L::default().is_empty() && L::default().pop_back().is_none());
        for n in 0..=most {
            let mut list: L = of(0..n);
            assert_eq!((list.len(), list.is_empty()), (usize::from(n), n == 0));
            assert_eq!(list.pop_back(), n.checked_sub(1));
            assert_eq!(emptied(list), (0..n.saturating_sub(1)).collect::<Vec<_>>());
            for before in 0..=most - n {
                let (mut list, mut other): (L, L) = (of(before..before + n), of(0..before));
                list.splice_front(&mut other);
                assert!(other.is_empty());
                assert_eq!(emptied(list), (0..before + n).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn every_list_takes_the_last_and_splices_in_order() {
        takes_the_last_and_splices_in_order::<Least>(4);
        takes_the_last_and_splices_in_order::<VecDeque<u8>>(4);
        takes_the_last_and_splices_in_order::<Option<u8>>(1);
    }

    use super::MapList;
    use crate::{Isolated, PageRef};
    use core::num::NonZeroU32;
    use mm_types::{ListId, Page, PageList, PageMap, Pfn};

    /// A list through a page map takes and gives pages as any other does, isolated ones too.
    fn is_a_list<T: core::fmt::Debug>(wrap: impl Fn(PageRef) -> T, pfn: impl Fn(&T) -> Pfn)
    where
        for<'m> MapList<'m>: List<T>,
    {
        let pages: [Page; 6] = core::array::from_fn(|_| Page::new());
        let map = PageMap::new(Pfn::new(0x10), &pages);
        let page = |n: u64| {
            let pfn = Pfn::new(0x10 + n);
            PageRef::allocate(map, pfn).map(&wrap).unwrap()
        };
        let mut list = MapList::new(map, PageList::new(ListId::new(NonZeroU32::MIN)));
        let mut front = MapList::new(map, PageList::new(ListId::new(NonZeroU32::MAX)));
        assert_eq!(
            (list.len(), list.pop_back().is_none(), list.pop_front().is_none()),
            (0, true, true)
        );
        (2..6).for_each(|n| list.push_back(page(n)));
        (0..2).for_each(|n| front.push_back(page(n)));
        list.splice_front(&mut front);
        assert_eq!((list.len(), front.len()), (6, 0));
        let last = list.pop_back().unwrap();
        let first = list.pop_front().unwrap();
        assert_eq!((pfn(&first), pfn(&last)), (Pfn::new(0x10), Pfn::new(0x15)));
        let order: Vec<u64> = list.iter().map(Pfn::raw).collect();
        assert_eq!(order, [0x11, 0x12, 0x13, 0x14]);
        assert_eq!(List::<T>::len(&list), 4);
    }

    #[test]
    fn a_list_through_the_page_map_takes_from_both_ends_and_splices_in_order() {
        is_a_list(|page| page, PageRef::pfn);
        is_a_list(Isolated::from_isolated, |page: &Isolated<PageRef>| page.page().pfn());
    }
}

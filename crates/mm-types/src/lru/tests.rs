//! Isolation, put-back, staging and draining, against the plain ledger.

use super::*;
use std::vec::Vec;

const NODE: NodeId = NodeId::new(3);

fn pages(n: usize) -> Vec<Page> {
    (0..n).map(|_| Page::new()).collect()
}

fn nothing_freed(pfn: Pfn) {
    panic!("{pfn:?} was freed");
}

// A page in use by one holder, on the list its flags say.
fn listed(lru: &mut Lru, map: PageMap<'_>, n: u64, flags: PageFlags) -> Pfn {
    let pfn = Pfn::new(n);
    let page = map.page(pfn).unwrap();
    assert!(page.allocate());
    page.flags().edit(flags, PageFlags::empty());
    lru.add_new(map, pfn, nothing_freed).unwrap();
    lru.drain(map, nothing_freed);
    pfn
}

// I1: LRU is set exactly for pages on an LRU list; every staged page has a reference.
fn check(lru: &Lru, map: PageMap<'_>) {
    for n in 0..map.len() as u64 {
        let pfn = Pfn::new(n);
        let page = map.page(pfn).unwrap();
        let flags = page.flags().load();
        assert_eq!(
            flags.contains(PageFlags::LRU),
            lru.contains(map, pfn),
            "{pfn:?} {flags}"
        );
        match lru.list_of(map, pfn) {
            Some(LruList::Active) => assert!(flags.contains(PageFlags::ACTIVE)),
            Some(LruList::Inactive) => assert!(!flags.contains(PageFlags::ACTIVE)),
            Some(LruList::Unevictable) => assert!(flags.contains(PageFlags::UNEVICTABLE)),
            Some(LruList::StagedActive | LruList::StagedInactive) => {
                assert!(page.count() > 0 && !flags.contains(PageFlags::ACTIVE));
            }
            None => {}
        }
    }
}

#[test]
fn isolation_takes_one_reference_and_leaves_active_set() {
    let store = pages(2);
    let map = PageMap::new(Pfn::new(0), &store);
    let mut lru = Lru::new(NODE);
    for flags in [PageFlags::empty(), PageFlags::ACTIVE, PageFlags::UNEVICTABLE] {
        let pfn = listed(&mut lru, map, 0, flags);
        let page = map.page(pfn).unwrap();
        assert_eq!(page.count(), 1, "the list holds no reference");
        assert_eq!(lru.isolate(map, pfn), Ok(()));
        assert_eq!(page.count(), 2);
        assert_eq!(page.flags().load(), flags, "all but LRU");
        assert_eq!(lru.isolate(map, pfn), Err(Refusal::NotOnLru), "twice");
        assert_eq!(page.count(), 2, "a refusal takes nothing");
        assert!(lru.is_empty());
        lru.release(map, pfn, nothing_freed);
        lru.release(map, pfn, |_| {});
    }
}

#[test]
fn a_staged_page_cannot_be_isolated_before_the_drain() {
    let store = pages(1);
    let map = PageMap::new(Pfn::new(0), &store);
    let mut lru = Lru::new(NODE);
    let page = map.page(Pfn::new(0)).unwrap();
    assert!(page.allocate());
    lru.add_new(map, Pfn::new(0), nothing_freed).unwrap();
    assert_eq!(page.count(), 2, "staging holds one");
    assert_eq!(lru.isolate(map, Pfn::new(0)), Err(Refusal::NotOnLru));
    assert_eq!(
        lru.add_new(map, Pfn::new(0), nothing_freed),
        Err(ListError::OnAList(Pfn::new(0))),
        "staged twice"
    );
    assert_eq!(page.count(), 2);
    lru.drain(map, nothing_freed);
    assert_eq!(page.count(), 1);
    assert_eq!(lru.isolate(map, Pfn::new(0)), Ok(()));
}

#[test]
fn a_page_whose_last_reference_is_gone_is_not_isolated() {
    let store = pages(1);
    let map = PageMap::new(Pfn::new(0), &store);
    let mut lru = Lru::new(NODE);
    let pfn = listed(&mut lru, map, 0, PageFlags::ACTIVE);
    let page = map.page(pfn).unwrap();
    assert!(
        page.put(),
        "dropped without the lock: the flag and the link are still there"
    );
    assert_eq!(lru.isolate(map, pfn), Err(Refusal::NotOnLru));
    assert_eq!(page.count(), 0);
    assert!(lru.forget(map, pfn));
    assert!(!lru.forget(map, pfn), "it is off already");
    assert_eq!(page.check_free(), Ok(()));
}

#[test]
fn a_moved_page_is_freed_when_staging_drains_not_before() {
    let store = pages(1);
    let map = PageMap::new(Pfn::new(0), &store);
    let mut lru = Lru::new(NODE);
    let pfn = listed(&mut lru, map, 0, PageFlags::ACTIVE);
    lru.isolate(map, pfn).unwrap();
    lru.release(map, pfn, nothing_freed);
    let mut freed = Vec::new();
    lru.putback(map, pfn, |pfn| freed.push(pfn)).unwrap();
    assert!(freed.is_empty());
    assert_eq!((map.page(pfn).unwrap().count(), lru.staged()), (1, 1));
    lru.drain(map, |pfn| freed.push(pfn));
    assert_eq!(freed, [pfn]);
    assert!(lru.is_empty());
    assert_eq!(map.page(pfn).unwrap().check_free(), Ok(()));
    assert!(map.page(pfn).unwrap().allocate());
}

#[test]
fn the_fourteenth_page_drains_the_staging_and_goes_with_it() {
    let store = pages(16);
    let map = PageMap::new(Pfn::new(0), &store);
    let mut lru = Lru::new(NODE);
    let mut freed = Vec::new();
    for n in 0..16 {
        assert!(map.page(Pfn::new(n)).unwrap().allocate());
        lru.putback(map, Pfn::new(n), |pfn| freed.push(pfn.raw())).unwrap();
        check(&lru, map);
        assert_eq!(freed.len(), if n < 13 { 0 } else { 14 }, "after page {n}");
    }
    // The last of the fourteen is freed by the drop of the caller's reference: at the drain it still had two.
    assert_eq!(freed, (0..14).collect::<Vec<_>>());
    assert_eq!(lru.staged(), 2);
}

#[test]
fn active_and_inactive_pages_have_their_own_staging() {
    let store = pages(16);
    let map = PageMap::new(Pfn::new(0), &store);
    let mut lru = Lru::new(NODE);
    for n in 0..16 {
        let page = map.page(Pfn::new(n)).unwrap();
        assert!(page.allocate());
        page.flags().edit(
            if n % 2 == 0 {
                PageFlags::ACTIVE
            } else {
                PageFlags::empty()
            },
            PageFlags::empty(),
        );
        lru.add_new(map, Pfn::new(n), nothing_freed).unwrap();
    }
    assert_eq!((lru.len(), lru.staged()), (0, 16));
    lru.drain(map, nothing_freed);
    check(&lru, map);
    assert_eq!(
        (lru.list(LruList::Active).len(), lru.list(LruList::Inactive).len()),
        (8, 8)
    );
    assert_eq!(
        lru.list(LruList::Active).iter(map).next(),
        Some(Pfn::new(14)),
        "newest first"
    );
}

#[test]
fn a_page_on_the_callers_list_is_not_put_back() {
    let store = pages(1);
    let map = PageMap::new(Pfn::new(0), &store);
    let (mut lru, mut from) = (Lru::new(NODE), PageList::new(ListId::fixed(1)));
    let pfn = listed(&mut lru, map, 0, PageFlags::ACTIVE);
    lru.isolate(map, pfn).unwrap();
    from.push_back(map, pfn).unwrap();
    assert_eq!(lru.putback(map, pfn, nothing_freed), Err(ListError::OnAList(pfn)));
    assert_eq!(
        lru.putback_direct(map, pfn, nothing_freed),
        Err(ListError::OnAList(pfn))
    );
    assert_eq!(map.page(pfn).unwrap().count(), 2);
    assert_eq!(map.page(pfn).unwrap().flags().load(), PageFlags::ACTIVE);
    assert_eq!(from.pop_front(map), Some(pfn));
    lru.putback(map, pfn, nothing_freed).unwrap();
}

#[test]
fn putting_back_directly_frees_at_once_or_lists_at_once() {
    let store = pages(1);
    let map = PageMap::new(Pfn::new(0), &store);
    let mut lru = Lru::new(NODE);
    for flags in [PageFlags::empty(), PageFlags::ACTIVE, PageFlags::UNEVICTABLE] {
        let pfn = listed(&mut lru, map, 0, flags);
        lru.isolate(map, pfn).unwrap();
        lru.putback_direct(map, pfn, nothing_freed).unwrap();
        assert_eq!(map.page(pfn).unwrap().flags().load(), flags | PageFlags::LRU);
        check(&lru, map);
        lru.isolate(map, pfn).unwrap();
        lru.release(map, pfn, nothing_freed);
        let mut freed = Vec::new();
        lru.putback_direct(map, pfn, |pfn| freed.push(pfn)).unwrap();
        assert_eq!(freed, [pfn]);
        assert_eq!(map.page(pfn).unwrap().check_free(), Ok(()));
        assert!(lru.is_empty());
    }
}

#[test]
fn a_page_of_another_node_is_not_on_this_lru() {
    let store = pages(1);
    let map = PageMap::new(Pfn::new(0), &store);
    let mut here = Lru::new(NodeId::new(u16::MAX));
    let pfn = listed(&mut here, map, 0, PageFlags::empty());
    assert!(here.contains(map, pfn));
    for node in [0, 1, u16::MAX - 1] {
        let mut there = Lru::new(NodeId::new(node));
        assert!(!there.contains(map, pfn), "node {node}");
        assert_eq!(there.isolate(map, pfn), Err(Refusal::NotOnLru), "node {node}");
    }
}

// Every sequence of five operations on two pages, against the plain ledger: holders = references.
#[test]
fn no_short_sequence_of_operations_loses_a_page_or_a_reference() {
    const OPS: usize = 6;
    const STEPS: u32 = 5;
    for sequence in (0..(2 * OPS).pow(STEPS)).step_by(crate::EVERY) {
        let store = pages(2);
        let map = PageMap::new(Pfn::new(0), &store);
        let mut lru = Lru::new(NODE);
        // Per page: references held by users, and by isolation.
        let mut users = [0u32; 2];
        let mut isolated = [false; 2];
        let mut rest = sequence;
        for _ in 0..STEPS {
            let (n, op) = (rest % 2, rest / 2 % OPS);
            rest /= 2 * OPS;
            let pfn = Pfn::new(n as u64);
            let page = map.page(pfn).unwrap();
            let mut freed = [false; 2];
            let mut free = |pfn: Pfn| freed[pfn.raw() as usize] = true;
            match op {
                0 if page.allocate() => {
                    users[n] = 1;
                    page.flags().edit(
                        if n == 0 { PageFlags::ACTIVE } else { PageFlags::empty() },
                        PageFlags::empty(),
                    );
                    lru.add_new(map, pfn, &mut free).unwrap();
                }
                1 => {
                    let expected = page.flags().load().contains(PageFlags::LRU);
                    assert_eq!(lru.isolate(map, pfn).is_ok(), expected);
                    isolated[n] |= expected;
                }
                2 if isolated[n] => {
                    isolated[n] = false;
                    lru.putback(map, pfn, &mut free).unwrap();
                }
                3 if isolated[n] => {
                    isolated[n] = false;
                    lru.putback_direct(map, pfn, &mut free).unwrap();
                }
                4 => lru.drain(map, &mut free),
                5 if users[n] > 0 => {
                    users[n] -= 1;
                    lru.release(map, pfn, &mut free);
                }
                _ => {}
            }
            check(&lru, map);
            for n in 0..2 {
                let page = &store[n];
                let staged = matches!(
                    lru.list_of(map, Pfn::new(n as u64)),
                    Some(LruList::StagedActive | LruList::StagedInactive)
                );
                assert_eq!(
                    page.count(),
                    users[n] + u32::from(isolated[n]) + u32::from(staged),
                    "{sequence}"
                );
                assert_eq!(freed[n], freed[n] && page.count() == 0);
                if freed[n] {
                    assert_eq!(page.check_free(), Ok(()));
                }
            }
        }
    }
}

#[test]
fn an_lru_is_empty_when_neither_a_list_nor_staging_has_a_page() {
    let store = pages(16);
    let map = PageMap::new(Pfn::new(0), &store);
    let mut lru = Lru::new(NODE);
    assert!(lru.is_empty());
    assert!(map.page(Pfn::new(0)).unwrap().allocate());
    lru.add_new(map, Pfn::new(0), nothing_freed).unwrap();
    assert_eq!((lru.len(), lru.staged(), lru.is_empty()), (0, 1, false));
    lru.drain(map, nothing_freed);
    assert_eq!((lru.len(), lru.staged(), lru.is_empty()), (1, 0, false));
}

// Marked accessed, or mlocked, between the staging and the drain: the list decides, and the flags follow it (I1).
#[test]
fn flags_that_a_staged_page_gained_do_not_outlive_its_arrival() {
    let store = pages(1);
    let map = PageMap::new(Pfn::new(0), &store);
    let page = map.page(Pfn::new(0)).unwrap();
    let gained = PageFlags::ACTIVE | PageFlags::UNEVICTABLE;
    for (staged, arrived) in [
        (PageFlags::empty(), PageFlags::LRU),
        (PageFlags::ACTIVE, PageFlags::LRU | PageFlags::ACTIVE),
    ] {
        let mut lru = Lru::new(NODE);
        assert!(page.allocate());
        page.flags().edit(staged, PageFlags::empty());
        lru.add_new(map, Pfn::new(0), nothing_freed).unwrap();
        page.flags().edit(gained, PageFlags::empty());
        lru.drain(map, nothing_freed);
        assert_eq!(page.flags().load(), arrived);
        check(&lru, map);
        lru.release(map, Pfn::new(0), |_| {});
    }
    let mut lru = Lru::new(NODE);
    assert!(page.allocate());
    page.get();
    page.flags().edit(gained, PageFlags::empty());
    lru.putback(map, Pfn::new(0), nothing_freed).unwrap();
    assert_eq!(page.flags().load(), PageFlags::LRU | PageFlags::UNEVICTABLE);
}

#[test]
fn a_list_of_somebody_else_is_none_of_an_lrus() {
    let pages = pages(1);
    let map = PageMap::new(Pfn::new(0), &pages);
    let page = Pfn::new(0);
    let lrus = [0, 1, u16::MAX].map(|node| Lru::new(NodeId::new(node)));
    for n in [1, 2, 8, 12, 1 << 19, Lru::FIRST_LIST - 1] {
        let mut others = PageList::new(ListId::fixed(n));
        others.push_back(map, page).unwrap();
        assert!(lrus.iter().all(|lru| lru.list_of(map, page).is_none()), "list {n}");
        others.remove(map, page).unwrap();
    }
}

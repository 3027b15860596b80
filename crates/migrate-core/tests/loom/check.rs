//! What must hold when everybody is done.

use mm_types::{LruList, PageFlags, Pfn, Pte, SpaceId};

use crate::kernel::{PAGES, SLOTS, SPACES, at, lock};
use crate::scenario::{Actor, FAULTER, INITIAL, OTHER, STORED};
use crate::traces::{Told, check_threads};
use crate::world::{Saw, World};

/// Frames, sites and threads that a search has.
const ROOM: usize = 8;

impl World {
    /// What must hold when everybody is done.
    pub(crate) fn check(&self, moved: &[(Pfn, Pfn)], saw: &[Saw], told: &[Told]) {
        let (kernel, scenario) = (&self.kernel, self.scenario);
        let tables: Vec<[Pte; PAGES]> = (0..SPACES as u32)
            .map(|n| kernel.table(SpaceId::new(n)).entries)
            .collect();
        let entries = || tables.iter().flatten();
        assert!(!entries().any(|pte| pte.is_migration()), "I6: {tables:?}");
        for (number, page) in kernel.pages.iter().enumerate() {
            let pfn = Pfn::new(number as u64);
            let mapped = u32::try_from(entries().filter(|pte| pte.maps(pfn)).count()).expect("a small machine");
            let reserved = self.reserve.0.iter().any(|frame| frame.get() == Some(pfn));
            let held = u32::from(scenario.file && (0..SLOTS).any(|index| kernel.cached(index) == Some(pfn)))
                + u32::from(reserved);
            assert_eq!(page.mapcount(), mapped, "I4: map count of {pfn:?}");
            assert_eq!(page.count(), mapped + held, "I5: references of {pfn:?}");
            assert_eq!((page.pins(), page.entries_out(0)), (0, 0), "{pfn:?}");
            let busy = PageFlags::LOCKED | PageFlags::WAITERS;
            assert!(!page.flags().load().intersects(busy), "I23: {:?}", page.flags());
            // What came from the LRU is back there, and what a page moved to goes there; nothing that is free is on any list.
            let (on, flag) = (kernel.listed(pfn), page.flags().load().contains(PageFlags::LRU));
            let arrived = moved.iter().any(|(_, new)| *new == pfn);
            let listed = (scenario.lru || arrived) && page.count() > 0;
            assert_eq!(on.is_some_and(LruList::is_lru), listed, "I2: {pfn:?} is on {on:?}");
            assert_eq!((on.is_some(), flag), (listed, listed), "I1: {pfn:?} is on {on:?}");
        }
        check_threads(told, ROOM).unwrap_or_else(|broken| panic!("{broken}"));
        for (old, new) in moved {
            assert!(
                !entries().any(|pte| pte.maps(*old)),
                "I7: {old:?} moved to {new:?} and is mapped"
            );
        }
        for (cpu, tlb) in kernel.tlbs.iter().enumerate() {
            for (space, held) in lock(tlb).0.iter().enumerate() {
                for (page, held) in held.iter().enumerate() {
                    let Some(held) = held else { continue };
                    let pte = tables[space][page];
                    let true_now = pte.maps(held.pfn) && (pte.writable() || !held.write);
                    assert!(
                        true_now,
                        "I33: CPU {cpu} holds {held:?} of m{space}+{page}, which is {pte:?}"
                    );
                }
            }
        }
        self.check_contents(&tables, saw);
    }

    fn check_contents(&self, tables: &[[Pte; PAGES]], saw: &[Saw]) {
        let kernel = &self.kernel;
        let forked = self.scenario.has(Actor::Fork);
        for (space, table) in tables.iter().enumerate() {
            for (page, pte) in table.iter().enumerate() {
                let Some(pfn) = pte.pfn() else { continue };
                for (word, initial) in INITIAL.iter().enumerate() {
                    let value = kernel.word(pfn, word).get();
                    let mut expected = *initial;
                    let mut stored = false;
                    for saw in saw {
                        if let Saw::Word(at, last) = saw {
                            if *at == word && self.owns(word, space, page) {
                                (expected, stored) = (*last, true);
                            }
                        }
                    }
                    let copied_before = forked && space == 1 && word < FAULTER && value == STORED[word];
                    assert!(
                        value == expected || copied_before,
                        "I9: word {word} of m{space}+{page} is {value}, not {expected}"
                    );
                    if stored && expected != *initial {
                        let dirty = tables.iter().flatten().any(|other| other.maps(pfn) && other.dirty());
                        let dirty = dirty || kernel.page_of(pfn).flags().load().contains(PageFlags::DIRTY);
                        assert!(dirty, "I11: {pfn:?} was written");
                    }
                }
            }
        }
    }

    /// Whether what is stored in `word` by the actor whose it is must be seen at this page.
    fn owns(&self, word: usize, space: usize, page: usize) -> bool {
        let forked = self.scenario.has(Actor::Fork);
        // What was moved to another address is the first page.
        let page = if self.scenario.has(Actor::Remap) && page == 2 {
            0
        } else {
            page
        };
        let of_home = |word| at(self.scenario.home(word)).1 == page || self.scenario.pages == 1;
        match word {
            OTHER if forked => space == 1 && page == 0,
            OTHER => page == 0 || self.scenario.pages == 1,
            _ if forked => space == 0 && of_home(word),
            _ => of_home(word),
        }
    }
}

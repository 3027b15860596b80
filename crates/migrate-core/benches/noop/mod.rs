//! A backend that does nothing but what the core's contract costs: entries in an array, no contents, no TLB.
//!
//! Shared by the benchmarks, the test that nothing is allocated, and the programs whose instructions are compared and counted.

#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "each of the files that include this uses a part of it"
)]

pub(crate) mod bare;

use core::cell::RefCell;
use core::num::NonZeroU32;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use core::time::Duration;
use std::time::Instant;

use migrate_core::{
    Args, Cache, CopyError, Edited, Entry, Frames, Isolated, LINUX_2_6_17, LockedPage, Lru as _, MODERN, MapList,
    NewPages, PageRef, Profile, Rmap, Slot, Tally, UsesPageMap, Visit, get_for_ledger, isolate_lru_page, migrate_pages,
    unmap_for_ledger,
};
use mm_types::trace::Observer;
use mm_types::{
    AnonVmaId, ListId, Lru, Mapping, MigrationEntry, MigrationFlags, MigrationKind, Mode, NodeId, Page, PageList,
    PageMap, Pfn, Pte, PteFlags, Reason, Site, Sleep, SpaceId, Vpn, ledger,
};

/// Sleeping, for a backend in which nobody ever has to.
#[derive(Debug)]
pub(crate) struct NoSleep;

impl Sleep for NoSleep {
    fn wait(&self, _word: &AtomicU32, _seen: u32) {}
    fn wake_all(&self, _word: &AtomicU32) {}
}

/// The backend: `2 n` frames, of which the first `n` start in use, and as many entries for each page.
pub(crate) struct Noop {
    pages: Vec<Page>,
    /// Those of page 0, those of page 1, ...
    ptes: Vec<AtomicU64>,
    mappings: usize,
    lru: RefCell<Lru>,
}

// A word as plain as can be: the frame from bit 16 up, below it the entry's own flags, in bit 0 that it is present, and in bits
// 1 and 2 otherwise which kind of migration entry. What real formats cost is counted by itself.
#[inline(always)]
fn encode(pte: Pte) -> u64 {
    match pte {
        Pte::Present { pfn, flags } => pfn.raw() << 16 | u64::from(flags.bits()) << 3 | 1,
        Pte::Migration(entry) => {
            let kind = match entry.kind() {
                MigrationKind::Read => 1,
                MigrationKind::ReadExclusive => 2,
                MigrationKind::Write => 3,
            };
            entry.pfn().raw() << 16 | u64::from(entry.flags().bits()) << 3 | kind << 1
        }
        _ => 0,
    }
}

#[inline(always)]
fn decode(word: u64) -> Pte {
    let (pfn, flags) = (Pfn::new(word >> 16), (word >> 3) as u8);
    if word & 1 == 1 {
        return Pte::present(pfn, PteFlags::from_bits_retain(flags.into()));
    }
    let entry = match word >> 1 & 3 {
        1 => MigrationEntry::readable(pfn),
        2 => MigrationEntry::readable_exclusive(pfn),
        3 => MigrationEntry::writable(pfn),
        _ => return Pte::None,
    };
    Pte::Migration(entry.with_flags(MigrationFlags::from_bits_retain(flags)))
}

impl Noop {
    /// Makes a backend of `n` pages on the LRU, each mapped once, and as many free frames.
    pub(crate) fn new(n: usize) -> Self {
        Self::mapped(n, 1)
    }

    /// Makes a backend of `n` pages on the LRU, each mapped at so many sites, and as many free frames.
    pub(crate) fn mapped(n: usize, mappings: usize) -> Self {
        let noop = Self {
            pages: (0..2 * n).map(|_| Page::new()).collect(),
            ptes: (0..n * mappings).map(|_| AtomicU64::new(0)).collect(),
            mappings,
            lru: RefCell::new(Lru::new(NodeId::new(0))),
        };
        let map = noop.page_map();
        for (index, words) in noop.ptes.chunks(mappings).enumerate() {
            let page = PageRef::allocate(map, Pfn::new(index as u64)).expect("the frame is free");
            let descriptor = map.page(page.pfn()).expect("the frame is in the map");
            descriptor.set_index(index);
            descriptor.set_mapping(Mapping::Anon(AnonVmaId::new(0)));
            let pte = Pte::present(page.pfn(), PteFlags::WRITE);
            for word in words {
                get_for_ledger(map, &ledger(Pte::None, pte));
                word.store(encode(pte), Ordering::Relaxed);
            }
            noop.putback(page);
        }
        noop.lru.borrow_mut().drain(map, |_| ());
        noop
    }

    /// How many pages there are.
    pub(crate) fn len(&self) -> usize {
        self.pages.len() / 2
    }

    /// An empty list; lists in use at one time have different numbers.
    pub(crate) fn list(&self, number: u32) -> MapList<'_> {
        let id = ListId::new(NonZeroU32::new(number).expect("0 is no list"));
        MapList::new(self.page_map(), PageList::new(id))
    }

    /// The entries of page `index`.
    #[inline]
    fn entries_of(&self, index: usize) -> &[AtomicU64] {
        let first = index * self.mappings;
        self.ptes.get(first..first + self.mappings).unwrap_or_default()
    }

    /// The frame that page `index` is in.
    pub(crate) fn frame_of(&self, index: usize) -> Pfn {
        decode(self.entries_of(index)[0].load(Ordering::Relaxed))
            .pfn()
            .expect("every page is mapped")
    }
}

impl UsesPageMap for Noop {
    type Sleep = NoSleep;

    fn page_map(&self) -> PageMap<'_> {
        PageMap::new(Pfn::new(0), &self.pages)
    }

    fn sleeper(&self) -> &NoSleep {
        &NoSleep
    }

    fn with_lru<R>(&self, f: impl FnOnce(&mut Lru) -> R) -> R {
        f(&mut self.lru.borrow_mut())
    }

    fn copy_frame(&self, _from: Pfn, _to: Pfn) -> Result<(), CopyError> {
        Ok(())
    }

    fn free_frame(&self, _pfn: Pfn) {}
}

struct NoopEntry<'n> {
    noop: &'n Noop,
    word: &'n AtomicU64,
    /// The page's, and how many of its entries come before this one.
    index: usize,
    nth: usize,
}

impl Entry for NoopEntry<'_> {
    fn site(&self) -> Site {
        Site::new(SpaceId::new(self.nth as u32), Vpn::new(self.index as u64))
    }

    #[inline(always)]
    fn read(&self) -> Pte {
        decode(self.word.load(Ordering::Acquire))
    }

    #[inline(always)]
    fn update(&mut self, edit: &dyn Fn(Pte) -> Option<Pte>) -> Option<Edited> {
        let word = self.word;
        let before = decode(word.load(Ordering::Acquire));
        let after = edit(before)?;
        let counts = ledger(before, after);
        get_for_ledger(self.noop.page_map(), &counts);
        word.store(encode(after), Ordering::Release);
        // There are no translations to wait for.
        if let Some(page) = unmap_for_ledger(self.noop.page_map(), &counts) {
            self.noop.put(page);
        }
        Some(Edited { before, after })
    }
}

impl Rmap for Noop {
    type Gather = ();

    fn gather(&self) {}

    #[inline(always)]
    fn walk(&self, page: &LockedPage, _gather: &mut (), visit: &mut Visit<'_>) {
        let Some(page) = self.page_map().page(page.pfn()) else {
            return;
        };
        let index = page.index();
        for (nth, word) in self.entries_of(index).iter().enumerate() {
            let mut entry = NoopEntry {
                noop: self,
                word,
                index,
                nth,
            };
            if visit(&mut entry).is_break() {
                return;
            }
        }
    }

    fn flush(&self, _gather: ()) {}

    fn flush_pending(&self, _space: SpaceId) {}

    fn is_mapped(&self, page: &LockedPage) -> bool {
        self.page_map().page(page.pfn()).is_some_and(|page| page.mapcount() > 0)
    }
}

impl Cache for Noop {}

/// Isolates the pages at `order` and provides as many new ones; returns the lists of a run.
pub(crate) fn prepare<'n>(noop: &'n Noop, order: &[usize]) -> (MapList<'n>, MapList<'n>) {
    let (mut from, mut news) = (noop.list(11), noop.list(12));
    let map = noop.page_map();
    noop.lru.borrow_mut().drain(map, |_| ());
    let half = noop.len() as u64;
    for index in order {
        let pfn = noop.frame_of(*index);
        let page = noop.get(pfn).expect("the page is mapped");
        let isolated = isolate_lru_page(noop, &page, ()).expect("the page is on the LRU");
        noop.put(page);
        push::<Isolated<PageRef>>(&mut from, isolated);
        // The twin frame is free: pages go to the other half and back.
        let twin = Pfn::new((pfn.raw() + half) % (2 * half));
        push::<PageRef>(&mut news, PageRef::allocate(map, twin).expect("the twin is free"));
    }
    // New pages are taken from the tail: turn the list round so that the order of frames is that of pages.
    let mut turned = noop.list(13);
    while let Some(page) = migrate_core::List::<PageRef>::pop_back(&mut news) {
        push::<PageRef>(&mut turned, page);
    }
    (from, turned)
}

fn push<T>(list: &mut impl migrate_core::List<T>, item: T) {
    list.push_back(item);
}

/// Moves everything on `from` to `news`; the old pages are freed.
#[expect(clippy::too_many_arguments, reason = "the parts of a run, one by one")]
pub(crate) fn run<'n, O: Observer>(
    noop: &Noop,
    from: &mut MapList<'n>,
    news: &mut MapList<'n>,
    failed: &mut MapList<'n>,
    slots: &mut [Slot<Noop>],
    profile: &Profile,
    mode: Mode,
    observer: O,
) -> Tally {
    let args = Args::<Noop, _, _, _> {
        from,
        target: NewPages(news),
        moved: None,
        failed,
        slots,
        profile,
        mode,
        reason: Reason::Compaction,
        outcome: &mut |_, _| (),
        observer,
    };
    migrate_pages(noop, args).expect("slots were lent")
}

/// Moves the pages in this order by today's rules, and times the run alone: neither the isolation nor the new pages.
pub(crate) fn timed(noop: &Noop, order: &[usize], slots: &mut [Slot<Noop>]) -> (Duration, Tally) {
    let (mut from, mut news) = prepare(noop, order);
    let mut failed = noop.list(14);
    let begun = Instant::now();
    let tally = run(noop, &mut from, &mut news, &mut failed, slots, &MODERN, Mode::Async, ());
    (begun.elapsed(), tally)
}

/// A fixed permutation: the same disorder in every run.
pub(crate) fn shuffled(n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for at in (1..n).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        order.swap(at, (state % (at as u64 + 1)) as usize);
    }
    order
}

/// Moves 4,096 pages to other frames and back, once in each profile, and says so.
pub(crate) fn move_there_and_back<O: Observer>(observer: O) {
    let noop = Noop::new(4096);
    let order: Vec<usize> = (0..4096).collect();
    let mut slots: Vec<Slot<Noop>> = (0..512).map(|_| Slot::new()).collect();
    for profile in [&LINUX_2_6_17, &MODERN] {
        let (mut from, mut news) = prepare(&noop, &order);
        let mut failed = noop.list(14);
        let tally = run(
            &noop,
            &mut from,
            &mut news,
            &mut failed,
            &mut slots,
            profile,
            Mode::Async,
            observer,
        );
        println!(
            "{}: {} pages moved to frames like {:?}",
            profile.rules,
            tally.moved,
            noop.frame_of(0)
        );
    }
}

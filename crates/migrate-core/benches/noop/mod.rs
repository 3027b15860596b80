//! A backend that does nothing but what the core's contract costs: one entry per page, no contents, no TLB.
//!
//! Shared by the benchmark, the test that nothing is allocated, and the program whose instructions are counted.

#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "each of the files that include this uses a part of it"
)]

use core::cell::RefCell;
use core::num::NonZeroU32;
use core::ops::ControlFlow;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use migrate_core::{
    Args, Cache, CopyError, Edited, Entry, Frames, Isolated, LockedPage, Lru as _, MapList, NewPages, PageRef, Profile,
    Rmap, Slot, Tally, UsesPageMap, Visit, get_for_ledger, isolate_lru_page, migrate_pages, unmap_for_ledger,
};
use mm_types::trace::Observer;
use mm_types::{
    AnonVmaId, EntryFormat, ListId, Lru, Mapping, Mode, NodeId, Page, PageList, PageMap, Pfn, Pte, PteFlags, Reason,
    Site, Sleep, SpaceId, Vpn, ledger,
};

/// Sleeping, for a backend in which nobody ever has to.
#[derive(Debug)]
pub(crate) struct NoSleep;

impl Sleep for NoSleep {
    fn wait(&self, _word: &AtomicU32, _seen: u32) {}
    fn wake_all(&self, _word: &AtomicU32) {}
}

/// The backend: `2 n` frames, of which the first `n` start in use, and one entry for each page.
pub(crate) struct Noop {
    pages: Vec<Page>,
    ptes: Vec<AtomicU64>,
    lru: RefCell<Lru>,
}

// Present entries: bit 0, write in bit 1, dirty and young lost; migration entries as the kernel writes them.
fn encode(pte: Pte) -> u64 {
    match pte {
        Pte::Present { pfn, flags } => 1 | u64::from(flags.bits()) << 1 | pfn.raw() << 16,
        other => other
            .non_present()
            .and_then(|entry| EntryFormat::X86_64.encode(entry).ok())
            .unwrap_or(0),
    }
}

fn decode(word: u64) -> Pte {
    if word & 1 == 1 {
        let flags = PteFlags::from_bits_truncate((word >> 1 & 0x7fff) as u16);
        return Pte::present(Pfn::new(word >> 16), flags);
    }
    EntryFormat::X86_64.decode(word).map_or(Pte::None, Pte::from)
}

impl Noop {
    /// Makes a backend of `n` mapped pages on the LRU, and as many free frames.
    pub(crate) fn new(n: usize) -> Self {
        let noop = Self {
            pages: (0..2 * n).map(|_| Page::new()).collect(),
            ptes: (0..n).map(|_| AtomicU64::new(0)).collect(),
            lru: RefCell::new(Lru::new(NodeId::new(0))),
        };
        let map = noop.page_map();
        for (index, word) in noop.ptes.iter().enumerate() {
            let page = PageRef::allocate(map, Pfn::new(index as u64)).expect("the frame is free");
            let descriptor = map.page(page.pfn()).expect("the frame is in the map");
            descriptor.set_index(index);
            descriptor.set_mapping(Mapping::Anon(AnonVmaId::new(0)));
            let pte = Pte::present(page.pfn(), PteFlags::WRITE);
            get_for_ledger(map, &ledger(Pte::None, pte));
            word.store(encode(pte), Ordering::Relaxed);
            noop.putback(page);
        }
        noop.lru.borrow_mut().drain(map, |_| ());
        noop
    }

    /// An empty list; lists in use at one time have different numbers.
    pub(crate) fn list(&self, number: u32) -> MapList<'_> {
        let id = ListId::new(NonZeroU32::new(number).expect("0 is no list"));
        MapList::new(self.page_map(), PageList::new(id))
    }

    /// The frame that page `index` is in.
    pub(crate) fn frame_of(&self, index: usize) -> Pfn {
        decode(self.ptes[index].load(Ordering::Relaxed))
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
    index: usize,
}

impl Entry for NoopEntry<'_> {
    fn site(&self) -> Site {
        Site::new(SpaceId::new(0), Vpn::new(self.index as u64))
    }

    fn read(&self) -> Pte {
        decode(self.noop.ptes[self.index].load(Ordering::Acquire))
    }

    fn update(&mut self, edit: &dyn Fn(Pte) -> Option<Pte>) -> Option<Edited> {
        let word = &self.noop.ptes[self.index];
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

    fn walk(&self, page: &LockedPage, _gather: &mut (), visit: &mut Visit<'_>) {
        let Some(page) = self.page_map().page(page.pfn()) else {
            return;
        };
        let mut entry = NoopEntry {
            noop: self,
            index: page.index(),
        };
        let (ControlFlow::Continue(()) | ControlFlow::Break(())) = visit(&mut entry);
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
    let half = noop.ptes.len() as u64;
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

/// Moves 4,096 pages to other frames and back, once in each profile, and says so.
pub(crate) fn move_there_and_back<O: Observer>(observer: O) {
    let noop = Noop::new(4096);
    let order: Vec<usize> = (0..4096).collect();
    let mut slots: Vec<Slot<Noop>> = (0..512).map(|_| Slot::new()).collect();
    for profile in [&migrate_core::LINUX_2_6_17, &migrate_core::MODERN] {
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

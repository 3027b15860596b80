//! A kernel without a `struct page`, on the page map, as an outside author might begin it: it writes how frames are copied and freed,
//! and its page table.
//!
//! It has one CPU and no TLB, one space, and anonymous pages only.

use core::cell::{Cell, RefCell};
use core::sync::atomic::AtomicU32;

use migrate_core::{
    Cache, CopyError, Edited, Entry, Frames, LINUX_2_6_17, LockedPage, Lru, MODERN, OnePage, PageRef, Profile, Rmap,
    UsesPageMap, Visit, get_for_ledger, isolate_lru_page, migrate_page, putback_lru_pages, unmap_for_ledger,
};
use mm_types::{
    AnonVmaId, Lru as LruLists, Mapping, Mode, NodeId, Page, PageFlags, PageMap, Pfn, Pte, PteFlags, Reason, Refusal,
    Site, Sleep, SpaceId, Vpn, ledger,
};

const FRAMES: usize = 8;

struct Small {
    pages: [Page; FRAMES],
    contents: [Cell<u64>; FRAMES],
    free: RefCell<Vec<Pfn>>,
    lru: RefCell<LruLists>,
    table: [Cell<Pte>; FRAMES],
}

impl Small {
    fn boot() -> Self {
        Self {
            pages: core::array::from_fn(|_| Page::new()),
            contents: core::array::from_fn(|_| Cell::new(0)),
            free: RefCell::new((0..FRAMES as u64).rev().map(Pfn::new).collect()),
            lru: RefCell::new(LruLists::new(NodeId::new(0))),
            table: core::array::from_fn(|_| Cell::new(Pte::None)),
        }
    }

    fn allocate(&self) -> Option<PageRef> {
        let pfn = self.free.borrow_mut().pop()?;
        PageRef::allocate(self.page_map(), pfn)
    }
}

struct OneCpu;

impl Sleep for OneCpu {
    fn wait(&self, _word: &AtomicU32, _seen: u32) {
        panic!("the one CPU would wait for itself")
    }

    fn wake_all(&self, _word: &AtomicU32) {}
}

impl UsesPageMap for Small {
    type Sleep = OneCpu;

    fn page_map(&self) -> PageMap<'_> {
        PageMap::new(Pfn::new(0), &self.pages)
    }

    fn sleeper(&self) -> &OneCpu {
        &OneCpu
    }

    fn with_lru<R>(&self, f: impl FnOnce(&mut LruLists) -> R) -> R {
        f(&mut self.lru.borrow_mut())
    }

    fn copy_frame(&self, from: Pfn, to: Pfn) -> Result<(), CopyError> {
        let word = |pfn: Pfn| pfn.index().and_then(|n| self.contents.get(n)).ok_or(CopyError);
        word(to)?.set(word(from)?.get());
        Ok(())
    }

    fn free_frame(&self, pfn: Pfn) {
        self.free.borrow_mut().push(pfn);
    }
}

/// An entry, under its lock, which on one CPU is nothing; and what its edits leave for the flush.
struct TableEntry<'s>(&'s Small, Vpn, &'s mut Vec<PageRef>);

impl Entry for TableEntry<'_> {
    fn site(&self) -> Site {
        Site::new(SpaceId::new(0), self.1)
    }

    fn read(&self) -> Pte {
        self.0.table[self.1.raw() as usize].get()
    }

    fn update(&mut self, edit: &dyn Fn(Pte) -> Option<Pte>) -> Option<Edited> {
        let before = self.read();
        let after = edit(before)?;
        let change = ledger(before, after);
        get_for_ledger(self.0.page_map(), &change);
        // Where a CPU sets bits of its own accord: a compare-exchange, and `edit` again if it fails.
        self.0.table[self.1.raw() as usize].set(after);
        self.2.extend(unmap_for_ledger(self.0.page_map(), &change));
        Some(Edited { before, after })
    }
}

impl Rmap for Small {
    type Gather = Vec<PageRef>;

    fn gather(&self) -> Vec<PageRef> {
        Vec::new()
    }

    fn walk(&self, page: &LockedPage, gather: &mut Vec<PageRef>, visit: &mut Visit<'_>) {
        if let Some(descriptor) = self.page_map().page(page.pfn()) {
            let _ = visit(&mut TableEntry(self, Vpn::new(descriptor.index() as u64), gather));
        }
    }

    fn flush(&self, gather: Vec<PageRef>) {
        // Every CPU drops its translations here. Only then the references go.
        gather.into_iter().for_each(|page| self.put(page));
    }

    fn flush_pending(&self, _space: SpaceId) {}

    fn is_mapped(&self, page: &LockedPage) -> bool {
        self.table.iter().any(|entry| entry.get().maps(page.pfn()))
    }
}

impl Cache for Small {}

/// Maps a new page, as the fault handler does: whom it belongs to, where, and that its contents are valid; then the entry, whose
/// reference stays, and the LRU.
fn fault_in(kernel: &Small, at: Vpn, value: u64) -> Option<Pfn> {
    let page = kernel.allocate()?;
    let pfn = page.pfn();
    let descriptor = kernel.page_map().page(pfn)?;
    descriptor.set_mapping(Mapping::Anon(AnonVmaId::new(0)));
    descriptor.set_index(at.raw() as usize);
    descriptor.flags().edit(PageFlags::UPTODATE, PageFlags::empty());
    kernel.contents[pfn.index()?].set(value);
    let flags = PteFlags::WRITE | PteFlags::EXCLUSIVE;
    let mut gather = kernel.gather();
    TableEntry(kernel, at, &mut gather).update(&|_| Some(Pte::present(pfn, flags)));
    kernel.flush(gather);
    kernel.putback(page);
    Some(pfn)
}

/// Moves the page in frame `pfn`; returns why it stayed, if it did.
fn move_one(kernel: &Small, pfn: Pfn, profile: &Profile) -> Result<(), Refusal> {
    // Pages that are still staged are on no list yet.
    kernel.drain();
    let page = kernel.get(pfn).ok_or(Refusal::NotOnLru)?;
    let isolated = isolate_lru_page(kernel, &page, ());
    kernel.put(page);
    let (isolated, new) = (isolated?, kernel.allocate());
    let Some(new) = new else {
        putback_lru_pages(kernel, &mut Some(isolated), ());
        return Err(Refusal::NoTarget);
    };
    let done = migrate_page(kernel, isolated, new, profile, Mode::Sync, Reason::Compaction, ());
    let (page, unused, why) = match done.expect("lists and slot are the call's own") {
        OnePage::Moved { old } => (old, None, Ok(())),
        OnePage::Freed { old, unused } => (old, Some(unused), Ok(())),
        OnePage::Stayed { page, unused, refusal } => (page, unused, Err(refusal)),
    };
    unused.into_iter().for_each(|page| kernel.put(page));
    putback_lru_pages(kernel, &mut Some(page), ());
    kernel.drain();
    why
}

#[test]
fn a_page_moves_and_its_old_frame_is_free() {
    for profile in [&LINUX_2_6_17, &MODERN] {
        let kernel = Small::boot();
        let at = Vpn::new(3);
        let old = fault_in(&kernel, at, 7).unwrap();
        assert_eq!(move_one(&kernel, old, profile), Ok(()));
        let new = kernel.table[3].get().pfn().unwrap();
        assert_ne!(new, old);
        assert!(kernel.table[3].get().writable());
        assert_eq!(kernel.contents[new.index().unwrap()].get(), 7);
        assert!(kernel.get(old).is_none(), "the old frame is free");
        assert_eq!(kernel.free.borrow().len(), FRAMES - 1);
    }
}

#[test]
fn a_page_that_somebody_holds_stays_and_says_so() {
    for profile in [&LINUX_2_6_17, &MODERN] {
        let kernel = Small::boot();
        let old = fault_in(&kernel, Vpn::new(3), 7).unwrap();
        kernel.drain();
        let holder = kernel.get(old).unwrap();
        let held = Err(Refusal::ExtraReference { expected: 1, found: 2 });
        assert_eq!(move_one(&kernel, old, profile), held);
        assert!(kernel.table[3].get().maps(old));
        kernel.put(holder);
        assert_eq!(kernel.free.borrow().len(), FRAMES - 1);
        assert_eq!(move_one(&kernel, old, profile), Ok(()));
    }
}

#[test]
fn a_frame_that_holds_no_page_is_on_no_list() {
    let kernel = Small::boot();
    let page = kernel.allocate().unwrap();
    let pfn = page.pfn();
    assert_eq!(move_one(&kernel, pfn, &MODERN), Err(Refusal::NotOnLru), "in use");
    kernel.put(page);
    assert_eq!(move_one(&kernel, pfn, &MODERN), Err(Refusal::NotOnLru), "free");
    assert_eq!(kernel.free.borrow().len(), FRAMES);
}

//! A toy kernel as an outside author might write it: its own `struct page`, its own intrusive list, arrays, no allocator. It
//! implements the seam in under 200 lines and migrates in both profiles.
//!
//! It has one CPU and no TLB, anonymous pages only, and finds a page's entries as Linux finds anonymous ones: at the page's
//! index in every space.

#[path = "kernel_shape/fixture.rs"]
mod fixture;

use core::cell::Cell;

use migrate_core as mc;
use migrate_core::{Edited, Frames, Isolated, List, Pair, Visit};
use mm_types::{CountMismatch, Mapping, PageFlags, Pfn, Pte, Refusal, Site, SpaceId, Vpn, ledger};

// kernel begins
/// What the kernel knows of a frame.
#[derive(Default)]
struct Page {
    count: Cell<u32>,
    flags: Cell<PageFlags>,
    owner: Cell<Mapping>,
    index: Cell<usize>,
    next: Cell<Option<usize>>,
    contents: Cell<u64>,
}

/// One CPU, so many frames, so many spaces of so many pages.
struct Toy<const FRAMES: usize, const SPACES: usize, const PAGES: usize> {
    pages: [Page; FRAMES],
    tables: [[Cell<Pte>; PAGES]; SPACES],
    shared: [[Cell<bool>; PAGES]; SPACES],
}

/// A counted reference, and the same with the page lock.
struct Ref(usize);
struct Locked(Ref);

/// A page-table entry under its lock, which on one CPU is nothing.
struct Slot<'k, const F: usize, const S: usize, const P: usize>(&'k Toy<F, S, P>, Site);

impl<const F: usize, const S: usize, const P: usize> Toy<F, S, P> {
    fn pte(&self, site: Site) -> &Cell<Pte> {
        &self.tables[site.space.raw() as usize][site.page.raw() as usize]
    }

    fn hold(&self, page: usize) -> Ref {
        self.pages[page].count.set(self.pages[page].count.get() + 1);
        Ref(page)
    }

    fn edit(&self, page: usize, set: PageFlags, clear: PageFlags) -> PageFlags {
        let flags = &self.pages[page].flags;
        flags.replace((flags.get() | set) - clear)
    }
}

impl<const F: usize, const S: usize, const P: usize> Frames for Toy<F, S, P> {
    type Page = Ref;
    type Locked = Locked;

    fn pfn(&self, page: &Ref) -> Pfn {
        Pfn::new(page.0 as u64)
    }
    fn page<'l>(&self, locked: &'l Locked) -> &'l Ref {
        &locked.0
    }
    fn count(&self, page: &Ref) -> u32 {
        self.pages[page.0].count.get()
    }
    fn get(&self, pfn: Pfn) -> Option<Ref> {
        let page = pfn
            .index()
            .filter(|page| *page < F && self.pages[*page].count.get() > 0)?;
        Some(self.hold(page))
    }
    fn put(&self, page: Ref) {
        let count = &self.pages[page.0].count;
        count.set(count.get() - 1);
    }
    fn try_lock(&self, page: Ref) -> Result<Locked, Ref> {
        let before = self.edit(page.0, PageFlags::LOCKED, PageFlags::empty());
        let busy = before.contains(PageFlags::LOCKED);
        if busy { Err(page) } else { Ok(Locked(page)) }
    }
    fn unlock(&self, locked: Locked) -> Ref {
        self.edit(locked.0.0, PageFlags::empty(), PageFlags::LOCKED);
        locked.0
    }
    fn flags(&self, page: &Ref) -> PageFlags {
        self.pages[page.0].flags.get()
    }
    fn edit_flags(&self, locked: &Locked, set: PageFlags, clear: PageFlags) -> PageFlags {
        self.edit(locked.0.0, set, clear)
    }
    fn mapping(&self, page: &Ref) -> Mapping {
        self.pages[page.0].owner.get()
    }
    fn adopt(&self, new: &Locked, old: &Locked) {
        let (new, old) = (&self.pages[new.0.0], &self.pages[old.0.0]);
        new.owner.set(old.owner.get());
        new.index.set(old.index.get());
    }
    fn disown(&self, locked: &Locked) {
        self.pages[locked.0.0].owner.take();
    }
    fn freeze(&self, locked: &Locked, expected: u32) -> Result<(), CountMismatch> {
        let count = &self.pages[locked.0.0].count;
        let found = count.get();
        let frozen = (found == expected).then(|| count.set(0));
        frozen.ok_or(CountMismatch { expected, found })
    }
    fn unfreeze(&self, locked: &Locked, count: u32) {
        self.pages[locked.0.0].count.set(count);
    }
    fn copy(&self, pair: Pair<'_, Locked>) -> Result<(), mc::CopyError> {
        let (old, new) = (&self.pages[pair.old().0.0], &self.pages[pair.new_page().0.0]);
        new.contents.set(old.contents.get());
        Ok(())
    }
}

impl<const F: usize, const S: usize, const P: usize> mc::Entry for Slot<'_, F, S, P> {
    fn site(&self) -> Site {
        self.1
    }
    fn read(&self) -> Pte {
        self.0.pte(self.1).get()
    }
    fn update(&mut self, edit: &dyn Fn(Pte) -> Option<Pte>) -> Option<Edited> {
        let before = self.read();
        let after = edit(before)?;
        let change = ledger(before, after);
        if let Some(pfn) = change.get.and_then(Pfn::index) {
            self.0.hold(pfn);
        }
        self.0.pte(self.1).set(after);
        if let Some(pfn) = change.put.and_then(Pfn::index) {
            self.0.put(Ref(pfn));
        }
        Some(Edited { before, after })
    }
    fn vma(&self) -> mc::EntryVma {
        let mut vma = mc::EntryVma::PLAIN;
        vma.shared = self.0.shared[self.1.space.raw() as usize][self.1.page.raw() as usize].get();
        vma
    }
}

impl<const F: usize, const S: usize, const P: usize> mc::Rmap for Toy<F, S, P> {
    type Gather = ();

    fn gather(&self) {}
    fn walk(&self, page: &Locked, _gather: &mut (), visit: &mut Visit<'_>) {
        let page = Vpn::new(self.pages[page.0.0].index.get() as u64);
        let mut sites = (0..S as u32).map(|space| Site::new(SpaceId::new(space), page));
        let _ = sites.try_for_each(|site| visit(&mut Slot(self, site)));
    }
    fn flush(&self, _gather: ()) {}
    fn flush_pending(&self, _space: SpaceId) {}
    fn is_mapped(&self, page: &Locked) -> bool {
        let (pfn, index) = (self.pfn(&page.0), self.pages[page.0.0].index.get());
        self.tables.iter().any(|table| table[index].get().maps(pfn))
    }
}

impl<const F: usize, const S: usize, const P: usize> mc::Cache for Toy<F, S, P> {}

impl<const F: usize, const S: usize, const P: usize> mc::Lru for Toy<F, S, P> {
    fn isolate(&self, page: &Ref) -> Result<Ref, Refusal> {
        let before = self.edit(page.0, PageFlags::empty(), PageFlags::LRU);
        let isolated = before.contains(PageFlags::LRU).then(|| self.hold(page.0));
        isolated.ok_or(Refusal::NotOnLru)
    }
    fn putback(&self, page: Ref) {
        self.edit(page.0, PageFlags::LRU, PageFlags::empty());
        self.put(page);
    }
}

impl<const F: usize, const S: usize, const P: usize> mc::Wait for Toy<F, S, P> {
    fn lock(&self, page: Ref) -> Locked {
        self.try_lock(page)
            .unwrap_or_else(|_| panic!("the one CPU would wait for itself"))
    }
    fn wait_writeback(&self, _page: &Locked) {}
}

/// Pages linked through their descriptors.
struct Chain<'k> {
    pages: &'k [Page],
    first: Option<usize>,
    last: Option<usize>,
    len: usize,
}

impl List<Isolated<Ref>> for Chain<'_> {
    fn push_back(&mut self, item: Isolated<Ref>) {
        let page = item.into_page().0;
        match self.last.replace(page) {
            Some(last) if self.len > 0 => self.pages[last].next.set(Some(page)),
            _ => self.first = Some(page),
        }
        self.len += 1;
    }
    fn pop_front(&mut self) -> Option<Isolated<Ref>> {
        let page = self.first?;
        self.first = self.pages[page].next.take();
        self.len -= 1;
        Some(Isolated::from_isolated(Ref(page)))
    }
    fn len(&self) -> usize {
        self.len
    }
}
// kernel ends

use fixture::{Board, Kernel, PAGES, SOURCE, TARGET};
use mc::fixture::Fixture;
use mc::{Args, FromFn, LINUX_2_6_17, MODERN, Profile, Tally};
use mm_types::{Mode, Outcome, Reason};

/// Lines between the markers, blank ones and comments too.
fn lines_of_the_kernel() -> usize {
    let mut source = include_str!("kernel_shape.rs").lines();
    source.by_ref().find(|line| *line == "// kernel begins");
    source.take_while(|line| *line != "// kernel ends").count()
}

#[test]
fn a_kernel_says_what_it_must_in_under_200_lines() {
    let lines = lines_of_the_kernel();
    assert!((50..200).contains(&lines), "{lines} lines");
}

fn chain(kernel: &Kernel) -> Chain<'_> {
    Chain {
        pages: &kernel.pages,
        first: None,
        last: None,
        len: 0,
    }
}

fn site(space: u32, page: u64) -> Site {
    Site::new(SpaceId::new(space), Vpn::new(page))
}

/// A page with a value, mapped at the same place in three spaces.
fn shared_page(board: &Board, page: u64, value: u64) -> Result<Pfn, mc::fixture::FixtureError> {
    let pfn = board.map_anon(site(0, page), true)?;
    board.share(pfn, site(1, page), true)?;
    board.share(pfn, site(2, page), false)?;
    board.write(site(0, page), value)?;
    Ok(pfn)
}

/// Everything there is to know about the kernel's memory, dirtiness of entries and pages in one (I21).
fn whole(kernel: &Kernel) -> String {
    let mut text = String::new();
    for (number, page) in kernel.pages.iter().enumerate() {
        let pfn = Pfn::new(number as u64);
        let dirty = kernel
            .tables
            .as_flattened()
            .iter()
            .any(|pte| pte.get().maps(pfn) && pte.get().dirty());
        let flags = page.flags.get() | if dirty { PageFlags::DIRTY } else { PageFlags::empty() };
        if page.count.get() > 0 {
            let (count, index, owner) = (page.count.get(), page.index.get(), page.owner.get());
            text += &format!(
                "{number}: {count} {index} {owner:?} {flags:?} {}\n",
                page.contents.get()
            );
        }
    }
    for (n, pte) in kernel.tables.as_flattened().iter().enumerate() {
        if let Pte::Present { pfn, flags } = pte.get() {
            text += &format!(
                "{}+{}: {pfn:?} {}\n",
                n / PAGES,
                n % PAGES,
                flags.contains(mm_types::PteFlags::WRITE)
            );
        }
    }
    text
}

/// One run over `pages`, with lists linked through the kernel's own descriptors; putback follows.
fn migrate(kernel: &Kernel, pages: &[Pfn], profile: &Profile, mode: Mode) -> (Tally, Option<Outcome>) {
    let (mut from, mut moved, mut failed) = (chain(kernel), chain(kernel), chain(kernel));
    for pfn in pages {
        let page = kernel.get(*pfn).unwrap();
        from.push_back(mc::isolate_lru_page(kernel, &page, ()).unwrap());
        kernel.put(page);
    }
    let mut last = None;
    let mut slots = [const { mc::Slot::new() }; 2];
    let args = Args {
        from: &mut from,
        target: FromFn {
            take: |_: &Ref| kernel.allocate(SOURCE..SOURCE + TARGET).ok_or(Refusal::NoTarget),
            give_back: |page| kernel.put(page),
        },
        moved: Some(&mut moved),
        failed: &mut failed,
        slots: &mut slots,
        profile,
        mode,
        reason: Reason::Compaction,
        outcome: &mut |_, outcome| last = Some(outcome),
        observer: (),
    };
    let tally = match profile.blocks(mode) {
        true => mc::migrate_pages(kernel, args),
        false => mc::migrate_pages_nowait(kernel, args),
    };
    for list in [&mut from, &mut moved, &mut failed] {
        mc::putback_lru_pages(kernel, list, ());
    }
    (tally.unwrap(), last)
}

#[test]
fn pages_mapped_by_three_spaces_move_in_both_profiles() {
    for profile in [&LINUX_2_6_17, &MODERN] {
        let board = Board::new();
        let pages: Vec<Pfn> = (0..5).map(|n| shared_page(&board, n, 100 + n).unwrap()).collect();
        let (tally, _) = migrate(&board.kernel, &pages, profile, Mode::Sync);
        assert_eq!((tally.moved, tally.left()), (5, 0), "{}", profile.rules);
        for (n, old) in (0..5).zip(&pages) {
            for space in 0..3 {
                let now = board.page_at(site(space, n)).unwrap();
                assert!(now.index().unwrap() >= SOURCE, "{now:?} is on the target node");
                assert_eq!(board.read(site(space, n)), Ok(100 + n));
                assert_eq!(
                    board.entry(site(space, n)).writable(),
                    space != 2,
                    "permission as it was"
                );
            }
            assert!(board.kernel.get(*old).is_none(), "the old frame is free");
        }
        board.check().unwrap();
    }
}

#[test]
fn a_page_somebody_holds_is_refused_and_is_as_it_was() {
    for profile in [&LINUX_2_6_17, &MODERN] {
        let board = Board::new();
        let pfn = shared_page(&board, 1, 7).unwrap();
        let before = whole(&board.kernel);
        let holder = board.kernel.get(pfn).unwrap();
        let (tally, last) = migrate(&board.kernel, &[pfn], profile, Mode::Sync);
        assert_eq!((tally.moved, tally.retry), (0, 1), "{}", profile.rules);
        assert_eq!(
            last,
            Some(Outcome::Refused(Refusal::ExtraReference { expected: 1, found: 2 }))
        );
        board.kernel.put(holder);
        assert_eq!(whole(&board.kernel), before);
        board.check().unwrap();
    }
}

#[test]
fn a_page_locked_by_another_is_refused_and_is_as_it_was() {
    let board = Board::new();
    let pfn = shared_page(&board, 1, 7).unwrap();
    let before = whole(&board.kernel);
    let holder = board.kernel.try_lock(board.kernel.get(pfn).unwrap()).ok().unwrap();
    let (tally, last) = migrate(&board.kernel, &[pfn], &MODERN, Mode::Async);
    assert_eq!((tally.moved, tally.retry), (0, 1));
    assert_eq!(last, Some(Outcome::Refused(Refusal::LockBusy)));
    board.kernel.put(board.kernel.unlock(holder));
    assert_eq!(whole(&board.kernel), before);
    board.check().unwrap();
}

migrate_core::conformance!(Board::new, not_applicable: 282);

//! A kernel small enough for every interleaving: loom is just another backend.
//!
//! What several threads race on is a loom object: page descriptors (through `mm_types::sync`), the lock of each page table, the
//! TLB of each CPU, the cache slot, the list of areas. Contents of frames are loom cells, which are no scheduling points: loom
//! panics where two threads touch one, at least one of them storing, and neither happens before the other. So a store through a
//! stale translation is found in every order in which it is not ordered with the copy, not only where it falls into the middle.
//!
//! A CPU's TLB is behind a lock that stands for "between two instructions": an access holds it, and a flush takes each in turn, as
//! an interrupt that the CPU takes at the next boundary.

use core::cell::RefCell;
use std::sync::Arc;

use loom::cell::Cell;
use loom::sync::{Mutex, MutexGuard, RwLock};
use loom::thread::ThreadId;
use migrate_core::{
    Cache, CopyError, Edited, Entry, EntryVma, Faults, Frames, LockedPage, PageRef, Pair, Profile, Rmap, SlotChanged,
    UsesPageMap, Visit, get_for_ledger, unmap_for_ledger,
};
use mm_types::sync::AtomicU32;
use mm_types::trace::{Event, Observer, Recorder};
use mm_types::{Lru, LruList, Mapping, NodeId, Page, PageFlags, PageMap, Pfn, Pte, Site, Sleep, SpaceId, Vpn, ledger};

use crate::sleepers::Sleepers;
use crate::traces::Told;

/// Pages of a space.
pub(crate) const PAGES: usize = 3;
/// Pages of the file.
pub(crate) const SLOTS: usize = 2;
/// Spaces: a parent and a child, or two that share a file.
pub(crate) const SPACES: usize = 2;
/// Words of a frame: one for each actor that stores.
pub(crate) const WORDS: usize = 4;
/// What a frame holds that nobody may read.
pub(crate) const POISON: u64 = 0xdead;

/// Some pages of a space that a walk visits: an area as the reverse map knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Area {
    pub(crate) site: Site,
    pub(crate) index: usize,
    pub(crate) pages: usize,
}

impl Area {
    fn site_of(&self, index: usize) -> Option<Site> {
        let page = index.checked_sub(self.index).filter(|page| *page < self.pages)?;
        Some(Site::new(self.site.space, Vpn::new(self.site.page.raw() + page as u64)))
    }
}

/// A page table; behind the entry lock.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) entries: [Pte; PAGES],
    /// The area at this page is there, and may be written.
    pub(crate) mapped: [bool; PAGES],
    pub(crate) may_write: bool,
}

/// A translation that a CPU holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Translation {
    pub(crate) pfn: Pfn,
    pub(crate) write: bool,
}

/// The TLB of one CPU: what was put in stays until it is flushed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tlb(pub(crate) [[Option<Translation>; PAGES]; SPACES]);

impl Tlb {
    pub(crate) fn slot(&mut self, site: Site) -> &mut Option<Translation> {
        let (space, page) = at(site);
        &mut self.0[space][page]
    }
}

pub(crate) struct Space {
    pub(crate) table: Mutex<Table>,
    /// Held for reading by faults and for writing by what changes areas (Linux: `mmap_sem`).
    pub(crate) mmap_sem: RwLock<()>,
}

pub(crate) struct Kernel {
    pub(crate) profile: &'static Profile,
    pub(crate) pages: Vec<Page>,
    pub(crate) words: Vec<[Cell<u64>; WORDS]>,
    pub(crate) spaces: [Space; SPACES],
    pub(crate) tlbs: Vec<Mutex<Tlb>>,
    /// In the order in which walks visit them.
    pub(crate) areas: Mutex<Vec<Area>>,
    /// The page cache: the slots of the one file, behind the tree lock.
    pub(crate) slots: Mutex<[Option<Pfn>; SLOTS]>,
    pub(crate) file: bool,
    lru: Mutex<Lru>,
    sleepers: Sleepers,
    /// What has happened, and which thread told of each event.
    trace: Arc<Recorder>,
    tellers: std::sync::Mutex<Vec<ThreadId>>,
    /// Who had to sleep.
    slept: std::sync::Mutex<Vec<ThreadId>>,
}

/// Hears the events of a kernel.
#[derive(Clone, Copy)]
pub(crate) struct Hears<'k>(&'k Kernel);

impl Observer for Hears<'_> {
    const ENABLED: bool = true;

    fn event(self, event: Event) {
        beside(&self.0.tellers).push(loom::thread::current().id());
        (&*self.0.trace).event(event);
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("loom's locks are not poisoned")
}

/// Locks what is beside the search: no lock of loom's, so that telling is no step of it.
fn beside<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

pub(crate) fn at(site: Site) -> (usize, usize) {
    (site.space.raw() as usize, site.page.raw() as usize)
}

pub(crate) fn site(space: u32, page: u64) -> Site {
    Site::new(SpaceId::new(space), Vpn::new(page))
}

impl Kernel {
    pub(crate) fn new(profile: &'static Profile, frames: usize, cpus: usize, file: bool, trace: Arc<Recorder>) -> Self {
        let space = || Space {
            table: Mutex::new(Table {
                entries: [Pte::None; PAGES],
                mapped: [true; PAGES],
                may_write: true,
            }),
            mmap_sem: RwLock::new(()),
        };
        Self {
            profile,
            pages: (0..frames).map(|_| Page::new()).collect(),
            words: (0..frames).map(|_| [(); WORDS].map(|()| Cell::new(POISON))).collect(),
            spaces: [space(), space()],
            tlbs: (0..cpus).map(|_| Mutex::new(Tlb::default())).collect(),
            areas: Mutex::new(Vec::new()),
            slots: Mutex::new([None; SLOTS]),
            file,
            lru: Mutex::new(Lru::new(NodeId::new(0))),
            sleepers: Sleepers::new(),
            trace,
            tellers: std::sync::Mutex::default(),
            slept: std::sync::Mutex::default(),
        }
    }

    /// Who hears of what happens here.
    pub(crate) const fn obs(&self) -> Hears<'_> {
        Hears(self)
    }

    /// True where a thread, or any at all, found a page locked that it wanted, or an entry in flight, and went to sleep.
    pub(crate) fn has_slept(&self, thread: Option<ThreadId>) -> bool {
        let slept = beside(&self.slept);
        thread.map_or(!slept.is_empty(), |thread| slept.contains(&thread))
    }

    /// What was told, the threads numbered as they first spoke.
    pub(crate) fn told(&self) -> Vec<Told> {
        let mut threads: Vec<ThreadId> = Vec::new();
        let number = |teller: &ThreadId| {
            threads.iter().position(|known| known == teller).unwrap_or_else(|| {
                threads.push(*teller);
                threads.len() - 1
            })
        };
        beside(&self.tellers)
            .iter()
            .map(number)
            .zip(self.trace.events())
            .collect()
    }

    pub(crate) fn page_of(&self, pfn: Pfn) -> &Page {
        &self.pages[pfn.raw() as usize]
    }

    pub(crate) fn word(&self, pfn: Pfn, word: usize) -> &Cell<u64> {
        &self.words[pfn.raw() as usize][word]
    }

    pub(crate) fn table(&self, space: SpaceId) -> MutexGuard<'_, Table> {
        lock(&self.spaces[space.raw() as usize].table)
    }

    /// Holds one entry.
    pub(crate) fn with_entry<R>(&self, site: Site, gather: &mut Gather, f: impl FnOnce(&mut Held<'_, '_>) -> R) -> R {
        let (table, gather) = (RefCell::new(self.table(site.space)), RefCell::new(gather));
        f(&mut Held {
            kernel: self,
            table: &table,
            gather: &gather,
            site,
        })
    }

    /// Maps a page where `edit` says so, and tells of it while the entry is held, so that what is told is in order; false where it
    /// does not.
    pub(crate) fn map(&self, site: Site, gather: &mut Gather, edit: impl Fn(Pte) -> Option<Pte>) -> bool {
        self.with_entry(site, gather, |entry| {
            let edited = entry.update(&edit);
            if let Some(Edited { after, .. }) = edited {
                self.obs().note(|| Event::Map { site, after });
            }
            edited.is_some()
        })
    }

    /// Holds two entries, of one space or of two.
    pub(crate) fn with_entries(
        &self,
        from: Site,
        to: Site,
        gather: &mut Gather,
        f: impl FnOnce(&mut Held<'_, '_>, &mut Held<'_, '_>),
    ) {
        let (table, gather) = (RefCell::new(self.table(from.space)), RefCell::new(gather));
        let other = (to.space != from.space).then(|| RefCell::new(self.table(to.space)));
        let held = |site, table| Held {
            kernel: self,
            table,
            gather: &gather,
            site,
        };
        f(&mut held(from, &table), &mut held(to, other.as_ref().unwrap_or(&table)));
    }

    /// Interrupts each CPU in turn; what `stale` says is forgotten.
    fn interrupt(&self, stale: impl Fn(&mut Tlb)) {
        for tlb in &self.tlbs {
            stale(&mut lock(tlb));
        }
    }

    /// No CPU holds a translation of `area` that `forbidden` names (I33). For calls that take something away to say when they are
    /// done: what a batch in progress left pending is theirs to flush (B22).
    pub(crate) fn assert_flushed(&self, area: Area, forbidden: impl Fn(Translation) -> bool) {
        let (space, first) = at(area.site);
        for (cpu, tlb) in self.tlbs.iter().enumerate() {
            for held in lock(tlb).0[space][first..first + area.pages].iter().flatten() {
                assert!(!forbidden(*held), "I33: CPU {cpu} still holds {held:?} of {area:?}");
            }
        }
    }

    /// Sleeps while a page that a lookup found frozen is: a migration freezes it under the page lock. No reference is needed, for a
    /// descriptor is never unmapped, and none can be had.
    pub(crate) fn wait_frozen(&self, pfn: Pfn) {
        let flags = self.page_of(pfn).flags();
        match flags.announce_wait(PageFlags::LOCKED) {
            Some(seen) => self.wait(flags.word(), seen),
            // What it saw is older than what is there.
            None => mm_types::spin_loop(),
        }
    }

    /// The list that a page is on, of those that the LRU has.
    pub(crate) fn listed(&self, pfn: Pfn) -> Option<LruList> {
        lock(&self.lru).list_of(self.page_map(), pfn)
    }

    /// What a slot of the cache holds at this moment.
    pub(crate) fn cached(&self, index: usize) -> Option<Pfn> {
        lock(&self.slots)[index]
    }

    /// The slot that is a page's, where it is in it.
    fn slot_of(&self, pfn: Pfn) -> Option<usize> {
        lock(&self.slots).iter().position(|slot| *slot == Some(pfn))
    }
}

impl Sleep for Kernel {
    fn wait(&self, word: &AtomicU32, seen: u32) {
        beside(&self.slept).push(loom::thread::current().id());
        self.sleepers.wait(word, seen);
    }

    fn wake_all(&self, word: &AtomicU32) {
        self.sleepers.wake_all(word);
    }
}

impl UsesPageMap for Kernel {
    type Sleep = Self;

    fn page_map(&self) -> PageMap<'_> {
        PageMap::new(Pfn::new(0), &self.pages)
    }

    fn sleeper(&self) -> &Self {
        self
    }

    fn with_lru<R>(&self, f: impl FnOnce(&mut Lru) -> R) -> R {
        f(&mut lock(&self.lru))
    }

    fn copy_frame(&self, from: Pfn, to: Pfn) -> Result<(), CopyError> {
        for word in 0..WORDS {
            self.word(to, word).set(self.word(from, word).get());
        }
        Ok(())
    }

    fn free_frame(&self, pfn: Pfn) {
        self.page_of(pfn).set_mapping(Mapping::None);
        assert_eq!(self.page_of(pfn).check_free(), Ok(()), "I20");
        for word in 0..WORDS {
            self.word(pfn, word).set(POISON);
        }
    }
}

/// What edits of entries leave to do at the next flush.
#[derive(Debug, Default)]
#[must_use = "translations that are gathered and not flushed stay stale"]
pub(crate) struct Gather {
    sites: Vec<Site>,
    /// References of entries that are gone.
    pages: Vec<PageRef>,
}

/// An entry under its table's lock.
pub(crate) struct Held<'h, 'k> {
    kernel: &'k Kernel,
    table: &'h RefCell<MutexGuard<'k, Table>>,
    gather: &'h RefCell<&'h mut Gather>,
    site: Site,
}

impl Entry for Held<'_, '_> {
    fn site(&self) -> Site {
        self.site
    }

    fn read(&self) -> Pte {
        self.table.borrow().entries[at(self.site).1]
    }

    fn update(&mut self, edit: &dyn Fn(Pte) -> Option<Pte>) -> Option<Edited> {
        let before = self.read();
        let after = edit(before)?;
        let (map, counts) = (self.kernel.page_map(), ledger(before, after));
        get_for_ledger(map, &counts);
        self.table.borrow_mut().entries[at(self.site).1] = after;
        let mut gather = self.gather.borrow_mut();
        gather.pages.extend(unmap_for_ledger(map, &counts));
        if before.is_present() {
            gather.sites.push(self.site);
        }
        Some(Edited { before, after })
    }

    fn vma(&self) -> EntryVma {
        EntryVma {
            may_write: self.table.borrow().may_write,
            shared: self.kernel.file,
            ..EntryVma::PLAIN
        }
    }
}

impl Rmap for Kernel {
    type Gather = Gather;

    fn gather(&self) -> Gather {
        Gather::default()
    }

    fn walk(&self, page: &LockedPage, gather: &mut Gather, visit: &mut Visit<'_>) {
        let page = self.page_of(page.pfn());
        if page.mapping() == Mapping::None {
            return;
        }
        let index = page.index();
        // Held for the whole walk, so that no area comes or goes between two entries.
        for area in lock(&self.areas).iter() {
            let Some(site) = area.site_of(index) else { continue };
            if self.with_entry(site, gather, |entry| visit(entry)).is_break() {
                return;
            }
        }
    }

    fn flush(&self, gather: Gather) {
        if !gather.sites.is_empty() {
            self.interrupt(|tlb| gather.sites.iter().for_each(|site| *tlb.slot(*site) = None));
        }
        gather.pages.into_iter().for_each(|page| self.put(page));
    }

    fn flush_pending(&self, space: SpaceId) {
        // The whole space: that needs no record of what is pending, which would be one more thing to race on.
        self.interrupt(|tlb| tlb.0[space.raw() as usize] = [None; PAGES]);
    }

    fn is_mapped(&self, page: &LockedPage) -> bool {
        self.page_of(page.pfn()).mapcount() > 0
    }
}

impl Cache for Kernel {
    fn slots(&self, page: &LockedPage) -> u32 {
        u32::from(self.file && self.slot_of(page.pfn()).is_some())
    }

    fn switch(&self, pair: Pair<'_, LockedPage>) -> Result<u32, SlotChanged> {
        if !self.file {
            return Ok(0);
        }
        let (old, new) = (pair.old().pfn(), pair.new_page().pfn());
        let mut slots = lock(&self.slots);
        let Some(slot) = slots.iter_mut().find(|slot| **slot == Some(old)) else {
            return Err(SlotChanged);
        };
        self.page_of(new).get();
        *slot = Some(new);
        Ok(1)
    }
}

impl Faults for Kernel {
    fn wait_on(&self, site: Site, look: &mut dyn FnMut(Pte) -> Option<Pfn>) {
        let sleep = {
            let table = self.table(site.space);
            look(table.entries[at(site).1]).map(|pfn| {
                let seen = self.page_of(pfn).flags().announce_wait(PageFlags::LOCKED);
                (pfn, seen.expect("I3: an entry names a page that nobody has locked"))
            })
        };
        if let Some((pfn, seen)) = sleep {
            self.wait(self.page_of(pfn).flags().word(), seen);
        }
    }
}

/// Takes a reference to what a present entry maps, under its lock (Linux: `get_page`).
pub(crate) fn hold(kernel: &Kernel, pfn: Pfn) -> PageRef {
    kernel.page_of(pfn).get();
    PageRef::counted(pfn)
}

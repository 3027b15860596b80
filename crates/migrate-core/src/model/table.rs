//! Page tables, and entries held under their lock.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::cell::RefCell;

use mm_types::museum::{self, Bug};
use mm_types::{EntryFormat, NonPresent, PageFlags, Pfn, Pte, Rules, Site, SwapEntry, Vpn, ledger};

use super::Model;
use super::lock::{Guard, Lock, RwSem};
use crate::{Edited, Entry, EntryVma, PageRef, UsesPageMap, get_for_ledger, unmap_for_ledger};

/// An address space: one page table under one lock.
#[derive(Debug, Default)]
pub(super) struct Space {
    /// Held by a fault for reading, and for writing by whatever changes VMAs (Linux: `mmap_sem`).
    pub(super) mmap: RwSem,
    pub(super) table: Lock<Table>,
}

#[derive(Debug, Default)]
pub(super) struct Table {
    entries: BTreeMap<Vpn, Pte>,
    pub(super) rss: i64,
    pub(super) swapents: i64,
}

impl Table {
    pub(super) fn get(&self, page: Vpn) -> Pte {
        self.entries.get(&page).copied().unwrap_or_default()
    }

    pub(super) fn set(&mut self, page: Vpn, pte: Pte) {
        if pte.is_none() {
            self.entries.remove(&page);
        } else {
            self.entries.insert(page, pte);
        }
    }

    pub(super) fn range(&self, start: Vpn, end: Vpn) -> impl Iterator<Item = (Vpn, Pte)> + '_ {
        self.entries.range(start..end).map(|(page, pte)| (*page, *pte))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Vpn, Pte)> + '_ {
        self.entries.iter().map(|(page, pte)| (*page, *pte))
    }
}

/// What edits of entries leave to do at the next flush.
#[derive(Debug, Default)]
#[must_use = "translations that are gathered and not flushed stay stale"]
pub struct Gather {
    /// Translations to invalidate.
    pub(super) sites: Vec<Site>,
    /// References of entries that are gone, to drop when no CPU can reach their pages any more.
    pub(super) unmapped: Vec<PageRef>,
    /// Swap slots that may be cached for nobody now.
    pub(super) swap: Vec<SwapEntry>,
}

/// An entry, its table's lock held by whoever holds the guard that it shares.
pub(super) struct HeldEntry<'h, 'm> {
    pub(super) model: &'m Model,
    pub(super) table: &'h RefCell<Guard<'m, Table>>,
    pub(super) gather: &'h RefCell<Gather>,
    pub(super) site: Site,
    pub(super) vma: EntryVma,
}

impl Entry for HeldEntry<'_, '_> {
    fn site(&self) -> Site {
        self.site
    }

    fn read(&self) -> Pte {
        self.table.borrow().get(self.site.page)
    }

    fn update(&mut self, edit: &dyn Fn(Pte) -> Option<Pte>) -> Option<Edited> {
        let (mut table, mut gather) = (self.table.borrow_mut(), self.gather.borrow_mut());
        let before = table.get(self.site.page);
        let after = edit(before)?;
        debug_assert_eq!(edit(before), Some(after), "an edit that is not pure");
        let (map, counts) = (self.model.page_map(), ledger(before, after));
        // A swap-cache page that lost a mapping may be cached for nobody now; its slot is read while it surely is alive.
        let cached = counts
            .put
            .filter(|pfn| self.model.page(*pfn).flags().load().contains(PageFlags::SWAPCACHE));
        gather.swap.extend(cached.map(|pfn| self.model.slot_of(pfn)));
        if let Some(pfn) = counts.get {
            // Of two who map a page first, or unmap it last, one is: the others wait for the lock.
            let mut caches = self.model.caches.lock();
            get_for_ledger(map, &counts);
            if self.model.page(pfn).mapcount() == 1 {
                caches.count_mapped(self.model, pfn, 1);
            }
        }
        if let Some(slot) = counts.swap_dup {
            self.model.caches.lock().swap.dup(slot);
        }
        table.set(self.site.page, self.model.read_back(after));
        table.rss += i64::from(counts.rss);
        table.swapents += i64::from(counts.swapents);
        if let Some(slot) = counts.swap_free {
            self.model.caches.lock().swap.free(slot);
            gather.swap.push(slot);
        }
        if let Some(pfn) = counts.put {
            let mut caches = self.model.caches.lock();
            gather.unmapped.extend(unmap_for_ledger(map, &counts));
            if self.model.page(pfn).mapcount() == 0 {
                caches.count_mapped(self.model, pfn, -1);
            }
        }
        let spared = museum::has(Bug::B21) && after.is_migration() && !before.writable();
        if before.is_present() && !spared {
            gather.sites.push(self.site);
            self.model.tlbs.edited(self.site);
        }
        Some(Edited { before, after })
    }

    fn vma(&self) -> EntryVma {
        self.vma
    }
}

/// A gather lent to held entries; what they gathered is the owner's again when it ends, also where a visit panics.
struct Lent<'g> {
    owner: &'g mut Gather,
    shared: RefCell<Gather>,
}

impl<'g> Lent<'g> {
    fn new(owner: &'g mut Gather) -> Self {
        let shared = RefCell::new(core::mem::take(owner));
        Self { owner, shared }
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        *self.owner = core::mem::take(self.shared.get_mut());
    }
}

impl Model {
    /// Holds one entry.
    pub(super) fn with_entry<R>(
        &self,
        site: Site,
        vma: EntryVma,
        gather: &mut Gather,
        f: impl FnOnce(&mut dyn Entry) -> R,
    ) -> R {
        let table = RefCell::new(self.table(site));
        let lent = Lent::new(gather);
        f(&mut HeldEntry {
            model: self,
            table: &table,
            gather: &lent.shared,
            site,
            vma,
        })
    }

    /// Holds two entries, of one space or of two.
    pub(super) fn with_entries<R>(
        &self,
        (first, second): (Site, Site),
        vma: EntryVma,
        gather: &mut Gather,
        f: impl FnOnce(&mut dyn Entry, &mut dyn Entry) -> R,
    ) -> R {
        let table = RefCell::new(self.table(first));
        let other = (second.space != first.space).then(|| RefCell::new(self.table(second)));
        let lent = Lent::new(gather);
        let held = |site, table| HeldEntry {
            model: self,
            table,
            gather: &lent.shared,
            site,
            vma,
        };
        let (mut first, mut second) = (held(first, &table), held(second, other.as_ref().unwrap_or(&table)));
        f(&mut first, &mut second)
    }

    /// Returns what the word that stands for `pte` in a page table reads back as: a swap type is all that tells a page in swap from
    /// one in flight.
    fn read_back(&self, pte: Pte) -> Pte {
        let Pte::Swap { entry, flags } = pte else { return pte };
        let format = match self.config.profile.rules {
            Rules::Linux2617 => &EntryFormat::X86_64_2_6_17,
            Rules::Modern => &EntryFormat::X86_64,
        };
        let Ok(word) = format.encode(NonPresent::Swap { entry, flags }) else {
            return pte;
        };
        // What is neither is a device's memory or a marker, and nothing that a program could use.
        let read = format
            .decode(word)
            .unwrap_or(NonPresent::Poison(Pfn::new(entry.offset())));
        read.into()
    }

    pub(super) fn table(&self, site: Site) -> Guard<'_, Table> {
        self.space(site.space).table.lock()
    }

    /// Returns the entry at `site`, without waiting or faulting.
    #[must_use]
    pub fn pte(&self, site: Site) -> Pte {
        self.table(site).get(site.page)
    }
}

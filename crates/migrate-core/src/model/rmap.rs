//! The reverse map, the TLBs, and sleeping on an entry.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use mm_types::museum::{self, Bug};
use mm_types::{ActorId, Backing, Mapping, PageFlags, Pfn, Pte, Site, Sleep, SpaceId, Vma, VmaFlags};

use super::Model;
use super::lock::Lock;
use super::table::Gather;
use crate::{EntryVma, Faults, Frames, LockedPage, Rmap, Visit};

/// A translation that a CPU holds. A store needs `write`: the entry was writable, and its dirty bit is set already, since a CPU
/// sets it in memory before it stores (Intel SDM vol. 3, 4.8 and 4.10.2.2).
#[derive(Clone, Copy, Debug)]
pub(super) struct Translation {
    pub(super) pfn: Pfn,
    pub(super) write: bool,
}

/// The TLB of each CPU: whatever was put in stays until it is flushed.
#[derive(Debug)]
pub(super) struct Tlbs {
    pub(super) cpus: Box<[Lock<BTreeMap<Site, Translation>>]>,
    /// Edits that are not flushed yet: how many of each site.
    pub(super) pending: Lock<BTreeMap<Site, u32>>,
}

impl Tlbs {
    pub(super) fn new(cpus: usize) -> Self {
        Self {
            cpus: (0..cpus).map(|_| Lock::default()).collect(),
            pending: Lock::default(),
        }
    }

    /// The TLB that `actor` runs with.
    pub(super) fn of(&self, actor: ActorId) -> &Lock<BTreeMap<Site, Translation>> {
        &self.cpus[actor.raw() as usize % self.cpus.len()]
    }

    /// Interrupts one CPU after another; each drops the translations between two of its instructions.
    fn invalidate(&self, sites: &[Site]) {
        if sites.is_empty() {
            return;
        }
        for cpu in &self.cpus {
            let mut tlb = cpu.lock();
            for site in sites {
                tlb.remove(site);
            }
        }
    }

    /// An entry was edited, under its lock: who looks at it next knows that a flush is owed.
    pub(super) fn edited(&self, site: Site) {
        *self.pending.lock().entry(site).or_default() += 1;
    }

    /// The flush for so many edits is over on all CPUs. Not before: somebody who finds nothing pending relies on it.
    fn flushed(&self, sites: &[Site]) {
        if sites.is_empty() {
            return;
        }
        let mut pending = self.pending.lock();
        for site in sites {
            let edits = pending.get_mut(site).expect("an edit that was counted");
            *edits -= 1;
            if *edits == 0 {
                pending.remove(site);
            }
        }
    }

    pub(super) fn are_free(&self) -> bool {
        self.pending.is_free() && self.cpus.iter().all(Lock::is_free)
    }
}

/// True where pages of `mapping` are found through `vma`.
pub(super) fn belongs(vma: &Vma, mapping: Mapping) -> bool {
    match mapping {
        Mapping::None => false,
        Mapping::Anon(id) => vma.anon_vma == Some(id),
        Mapping::File(id) => vma.backing == Backing::File(id),
    }
}

pub(super) fn entry_vma(vma: &Vma) -> EntryVma {
    EntryVma {
        locked: vma.flags.contains(VmaFlags::LOCKED),
        may_write: vma.flags.contains(VmaFlags::WRITE),
        shared: vma.flags.contains(VmaFlags::SHARED),
        nonlinear: None,
    }
}

impl Rmap for Model {
    type Gather = Gather;

    fn gather(&self) -> Gather {
        Gather::default()
    }

    fn walk(&self, page: &LockedPage, gather: &mut Gather, visit: &mut Visit<'_>) {
        let (mapping, index) = (self.page(page.pfn()).mapping(), self.page(page.pfn()).index());
        // Held for the whole walk, so that no VMA comes or goes between two of its entries.
        let vmas = self.vmas.lock();
        let early;
        let list = if museum::has(Bug::B75) {
            early = vmas.list.clone();
            drop(vmas);
            &early
        } else {
            &vmas.list
        };
        for vma in list.iter().filter(|vma| belongs(vma, mapping)) {
            let Some(site) = vma.site(index) else { continue };
            if self.with_entry(site, entry_vma(vma), gather, &mut *visit).is_break() {
                return;
            }
        }
    }

    fn flush(&self, gather: Gather) {
        self.tlbs.invalidate(&gather.sites);
        self.tlbs.flushed(&gather.sites);
        gather.unmapped.into_iter().for_each(|page| self.put(page));
        gather.swap.iter().for_each(|slot| self.drop_unused_swap_cache(*slot));
    }

    fn flush_pending(&self, space: SpaceId) {
        // The edits stay pending: whoever made them flushes them too, and may not have begun.
        let of_space: Vec<Site> = {
            let pending = self.tlbs.pending.lock();
            pending.keys().filter(|site| site.space == space).copied().collect()
        };
        self.tlbs.invalidate(&of_space);
    }

    fn is_mapped(&self, page: &LockedPage) -> bool {
        self.page(page.pfn()).mapcount() > 0
    }

    fn walk_nonlinear(&self, page: &LockedPage, gather: &mut Gather, visit: &mut Visit<'_>) {
        let Mapping::File(_) = self.page(page.pfn()).mapping() else {
            return;
        };
        let mapping = self.page(page.pfn()).mapping();
        let vmas = self.vmas.lock();
        let nonlinear = |vma: &&Vma| vma.flags.contains(VmaFlags::NONLINEAR) && belongs(vma, mapping);
        for vma in vmas.list.iter().filter(nonlinear) {
            for (site, pte) in self.entries_of(vma) {
                let Pte::Present { pfn, .. } = pte else { continue };
                let offset = Some(self.page(pfn).index() as u64);
                let vma = EntryVma {
                    nonlinear: offset,
                    ..entry_vma(vma)
                };
                if self.with_entry(site, vma, gather, &mut *visit).is_break() {
                    return;
                }
            }
        }
    }
}

impl Model {
    /// Sleeps on a page without having said so under the lock of the entry that names it (B32).
    fn wait_without_the_entry_lock(&self, named: Option<Pfn>) {
        let Some(pfn) = named else { return };
        self.page(pfn).flags().edit(PageFlags::WAITERS, PageFlags::empty());
        if let Some(seen) = self.page(pfn).flags().announce_wait(PageFlags::LOCKED) {
            Sleep::wait(self, self.page(pfn).flags().word(), seen);
        }
    }
}

impl Faults for Model {
    fn wait_on(&self, site: Site, look: &mut dyn FnMut(Pte) -> Option<Pfn>) {
        let sleep = {
            let table = self.table(site);
            if museum::has(Bug::B32) {
                let named = look(table.get(site.page));
                drop(table);
                return self.wait_without_the_entry_lock(named);
            }
            // Announced before the entry lock opens: the migrator restores the entry first and unlocks the page after.
            look(table.get(site.page))
                .and_then(|pfn| Some((pfn, self.page(pfn).flags().announce_wait(PageFlags::LOCKED)?)))
        };
        if let Some((pfn, seen)) = sleep {
            Sleep::wait(self, self.page(pfn).flags().word(), seen);
        }
    }
}

//! What a CPU does: it looks in its TLB, then in the page table, and then asks the kernel.

use alloc::sync::Arc;
use alloc::vec::Vec;

use mm_types::museum::{self, Bug};
use mm_types::trace::{Event, Observer};
use mm_types::{
    ActorId, AnonVmaId, Backing, EntryStyle, Mapping, PageFlags, Pfn, Pte, PteFlags, Site, SwapEntry, SwapPteFlags,
    Vma, VmaFlags,
};

use super::Model;
use super::cache::Found;
use super::rmap::{Translation, entry_vma};
use super::swap::SwappedIn;
use crate::fixture::Recording;
use crate::page_map::wait_while;
use crate::{Frames, LockedPage, PageRef, Rmap, Wait, migration_entry_wait};

/// A load or a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Loads the page's word.
    Read,
    /// Stores the page's word.
    Write(u64),
}

/// What became of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It went through, and loaded or stored this word.
    Done(u64),
    /// A migration entry is there: the thread has to wait for its page.
    MustWait(Site),
    /// The page is locked by somebody else, or frozen: the thread has to wait for this page.
    Busy(Pfn),
    /// No VMA, or one that does not allow it (Linux: SIGSEGV).
    Segv,
    /// Beyond the end of the file, or a bad frame (Linux: SIGBUS).
    Bus,
    /// No memory.
    OutOfMemory,
}

impl Model {
    /// Lets `actor` access `site` on the CPU of its number, faults included, up to where it would sleep.
    ///
    /// A translation in that CPU's TLB is used without a look at the page table, stale or not: that is what flushes are for.
    pub fn access<O: Observer>(&self, actor: ActorId, site: Site, op: Op, observer: O) -> Access {
        // Every round but the last brings the entry nearer to what the access needs, unless somebody else changed it meanwhile.
        for _ in 0..if cfg!(shuttle) { 1000 } else { 4 } {
            if let Some(word) = self.instruction(actor, site, op) {
                return Access::Done(word);
            }
            observer.note(|| Event::Fault {
                actor,
                site,
                write: op != Op::Read,
            });
            if let Err(stuck) = self.fault(site, op != Op::Read, observer) {
                return stuck;
            }
        }
        panic!("the fault at {site:?} does not end: {:?}", self.pte(site));
    }

    /// As [`Model::access`], and waits where it has to.
    ///
    /// # Panics
    /// Where nothing queued with [`Model::on_sleep`] ends the wait.
    pub fn access_wait<O: Observer>(&self, actor: ActorId, site: Site, op: Op, observer: O) -> Access {
        loop {
            match self.access(actor, site, op, observer) {
                Access::MustWait(site) => migration_entry_wait(self, self.config.profile, site, actor, observer),
                Access::Busy(pfn) => match self.get(pfn) {
                    Some(page) => {
                        let page = self.lock(page);
                        let page = self.unlock(page);
                        self.put(page);
                    }
                    // Frozen, and so locked by whoever froze it.
                    None => wait_while(self, pfn, PageFlags::LOCKED),
                },
                done => return done,
            }
        }
    }

    /// Lets a thread of its own access `site`; where it has to sleep it goes on when the page's lock opens, from within the
    /// unlock. False where it sleeps. What it came to is in [`Model::take_finished`].
    pub fn access_in_thread(&self, actor: ActorId, site: Site, op: Op, recording: &Arc<Recording>) -> bool {
        let access = self.access(actor, site, op, &**recording);
        let (pfn, in_flight) = match access {
            Access::MustWait(_) => (self.pte(site).pfn(), true),
            Access::Busy(pfn) => (Some(pfn), false),
            _ => (None, false),
        };
        // What `migration_entry_wait` does, cut in two at the sleep: one thread runs the model, so the second half is a closure.
        let Some(pfn) = pfn.filter(|pfn| self.page(*pfn).flags().announce_wait(PageFlags::LOCKED).is_some()) else {
            self.finished.lock().push((actor, site, access));
            return true;
        };
        let held = if in_flight && self.config.profile.waiter_holds_a_reference() {
            self.get(pfn)
        } else {
            None
        };
        if in_flight {
            (&**recording).note(|| Event::Wait { actor, site, pfn });
        }
        let recording = Arc::clone(recording);
        self.on_wake(pfn, move |model: &Self| {
            if let Some(page) = held {
                model.put(page);
            }
            if in_flight {
                (&*recording).note(|| Event::Wake { actor, site });
            }
            model.access_in_thread(actor, site, op, &recording);
        });
        false
    }

    /// Returns what threads came to since this was last asked, in the order in which they did.
    #[must_use]
    pub fn take_finished(&self) -> Vec<(ActorId, Site, Access)> {
        core::mem::take(&mut *self.finished.lock())
    }

    /// Runs one load or store, as the hardware does: through the TLB or the page table, up to memory; `None` is a page fault.
    ///
    /// The TLB is held all the while. Another CPU's flush is an interrupt, and a CPU takes it between two instructions: one that
    /// was translated before the flush has reached memory when the flush is over.
    fn instruction(&self, actor: ActorId, site: Site, op: Op) -> Option<u64> {
        let write = op != Op::Read;
        let mut tlb = self.tlbs.of(actor).lock();
        let held = tlb.get(&site).copied().filter(|held| held.write || !write);
        let pfn = match held {
            Some(held) => held.pfn,
            None => {
                let found = self.walk_table(site, write)?;
                tlb.insert(site, found);
                found.pfn
            }
        };
        Some(self.memory.lock().access(pfn, op))
    }

    /// Returns the translation that the hardware finds in the page table, setting accessed and dirty bits as it goes.
    fn walk_table(&self, site: Site, write: bool) -> Option<Translation> {
        let mut table = self.table(site);
        let pte = table.get(site.page);
        let Pte::Present { pfn, flags } = pte else { return None };
        if write && !pte.writable() {
            return None;
        }
        let dirty = if write { PteFlags::DIRTY } else { PteFlags::empty() };
        let flags = flags | PteFlags::YOUNG | dirty;
        table.set(site.page, Pte::present(pfn, flags));
        let write = pte.writable() && flags.contains(PteFlags::DIRTY);
        Some(Translation { pfn, write })
    }

    pub(super) fn fault<O: Observer>(&self, site: Site, write: bool, observer: O) -> Result<(), Access> {
        let _mmap = self.space(site.space).mmap.read();
        let vma = self.vma_at(site).ok_or(Access::Segv)?;
        if write && !vma.flags.contains(VmaFlags::WRITE) {
            return Err(Access::Segv);
        }
        let pte = self.pte(site);
        match pte {
            Pte::Present { pfn, flags } if write => self.write_fault(&vma, site, pfn, flags, observer),
            Pte::Present { .. } => Ok(()),
            Pte::Migration(_) if museum::has(Bug::B41) => Err(Access::Bus),
            Pte::Migration(_) => Err(Access::MustWait(site)),
            Pte::Poison(_) => Err(Access::Bus),
            Pte::Swap { entry, flags } => self.swap_fault(&vma, site, (entry, flags), write, observer),
            Pte::File { offset } => {
                let index = usize::try_from(offset).map_err(|_| Access::Bus)?;
                self.file_fault(&vma, site, index, write, observer)
            }
            Pte::None => match (vma.backing, vma.index(site.page)) {
                (Backing::Anon, _) => self.anon_fault(&vma, site, write, observer).map(drop),
                (Backing::File(_), Some(index)) => self.file_fault(&vma, site, index, write, observer),
                (Backing::File(_), None) => Err(Access::Bus),
            },
        }
    }

    /// Stores `to` at `site` where the entry is still `from` but for what the hardware sets; flushes; false where it changed.
    pub(super) fn install<O: Observer>(&self, vma: &Vma, site: Site, from: Pte, to: Pte, observer: O) -> bool {
        let same = |now: Pte| match (now, from) {
            (Pte::Present { pfn: now, .. }, Pte::Present { pfn: from, .. }) => now == from,
            _ => now == from,
        };
        let mut gather = self.gather();
        let edited = self.with_entry(site, entry_vma(vma), &mut gather, |entry| {
            let edited = entry.update(&|now| same(now).then_some(to));
            // While it is held: who changes it next tells of it later.
            if edited.is_some() {
                observer.note(|| Event::Map { site, after: to });
            }
            edited.is_some()
        });
        self.flush(gather);
        edited
    }

    /// The bits of a fresh mapping of an anonymous page that nobody else has.
    pub(super) fn anon_flags(&self, write: bool, dirty: bool) -> PteFlags {
        let mut flags = PteFlags::empty();
        flags.set(PteFlags::WRITE, write);
        flags.set(PteFlags::DIRTY, dirty);
        flags.set(PteFlags::EXCLUSIVE, self.config.profile.entries == EntryStyle::Lossless);
        flags
    }

    /// Makes a page anonymous memory of the VMA at `site`: up to date, with `word` in it, on the LRU.
    pub(super) fn new_anon(&self, anon_vma: AnonVmaId, index: usize, word: u64) -> Option<PageRef> {
        let page = self.allocate_any()?;
        self.set_word(page.pfn(), word);
        self.make_anon(page.pfn(), anon_vma, index);
        self.add_to_lru(page.pfn());
        Some(page)
    }

    /// Makes a page whose contents are there anonymous memory of a VMA.
    pub(super) fn make_anon(&self, pfn: Pfn, anon_vma: AnonVmaId, index: usize) {
        let desc = self.page(pfn);
        desc.set_mapping(Mapping::Anon(anon_vma));
        desc.set_index(index);
        desc.flags().edit(PageFlags::UPTODATE, PageFlags::empty());
    }

    /// Demand zero. The page is the VMA's alone, so it is mapped with all that the VMA allows.
    pub(super) fn anon_fault<O: Observer>(
        &self,
        vma: &Vma,
        site: Site,
        write: bool,
        observer: O,
    ) -> Result<Pfn, Access> {
        let index = vma.index(site.page).ok_or(Access::Segv)?;
        let page = self
            .new_anon(self.anon_vma(site), index, 0)
            .ok_or(Access::OutOfMemory)?;
        let flags = self.anon_flags(vma.flags.contains(VmaFlags::WRITE), write);
        let pfn = page.pfn();
        self.install(vma, site, Pte::None, Pte::present(pfn, flags), observer);
        self.put(page);
        Ok(pfn)
    }

    /// Gives a private mapping its own copy of what is at `site` now.
    fn copy_on_write<O: Observer>(
        &self,
        vma: &Vma,
        site: Site,
        from: Pte,
        word: u64,
        observer: O,
    ) -> Result<(), Access> {
        let index = vma.index(site.page).ok_or(Access::Segv)?;
        let page = self
            .new_anon(self.anon_vma(site), index, word)
            .ok_or(Access::OutOfMemory)?;
        // Before the entry goes, whose dirty bit may be the last to know that the page was stored to. The caller's reference keeps
        // the page from being another's, and from moving.
        if let Some(old) = from.pfn().filter(|_| from.is_present() && from.dirty()) {
            self.dirty_page(old);
        }
        self.install(
            vma,
            site,
            from,
            Pte::present(page.pfn(), self.anon_flags(true, true)),
            observer,
        );
        self.put(page);
        Ok(())
    }

    /// A store through an entry that does not allow it, in a VMA that does (Linux: `do_wp_page`).
    pub(super) fn write_fault<O: Observer>(
        &self,
        vma: &Vma,
        site: Site,
        pfn: Pfn,
        flags: PteFlags,
        observer: O,
    ) -> Result<(), Access> {
        let from = Pte::present(pfn, flags);
        let reuse = PteFlags::WRITE | PteFlags::DIRTY | PteFlags::YOUNG;
        let shared = vma.flags.contains(VmaFlags::SHARED);
        if shared || flags.contains(PteFlags::EXCLUSIVE) {
            self.install(vma, site, from, Pte::present(pfn, flags | reuse), observer);
            return Ok(());
        }
        let Some(page) = self.page_mapped_at(site, pfn) else {
            return Ok(());
        };
        let page = match self.try_lock(page) {
            Ok(locked) => {
                // Under the page lock no other mapping of it can be hidden in a migration entry.
                let only = self.is_only_user(&locked);
                if only {
                    let mine = self.anon_flags(true, true) | flags | PteFlags::YOUNG;
                    self.install(vma, site, from, Pte::present(pfn, mine), observer);
                }
                let page = self.unlock(locked);
                if only {
                    self.put(page);
                    return Ok(());
                }
                page
            }
            Err(page) => page,
        };
        let copied = self.copy_on_write(vma, site, from, self.word(pfn), observer);
        self.put(page);
        copied
    }

    /// Takes a reference to the page that `site` maps, if it still is `pfn`: under the entry's lock, so that the entry's reference
    /// keeps it alive meanwhile. Later the frame may be somebody else's, and be copied as if it were this page.
    fn page_mapped_at(&self, site: Site, pfn: Pfn) -> Option<PageRef> {
        let table = self.table(site);
        table.get(site.page).maps(pfn).then(|| {
            self.page(pfn).get();
            PageRef::counted(pfn)
        })
    }

    /// True where an anonymous page has one mapping and no slot in swap with users (2.6.17 `can_share_swap_page`); takes it out of
    /// the swap cache then.
    fn is_only_user(&self, page: &LockedPage) -> bool {
        let desc = self.page(page.pfn());
        let cached = desc.flags().load().contains(PageFlags::SWAPCACHE);
        let elsewhere = if cached {
            self.caches.lock().swap.users(self.slot_of(page.pfn()))
        } else {
            0
        };
        let only = desc.mapping().is_anon() && desc.mapcount() + elsewhere == 1;
        if only && cached {
            self.delete_from_swap_cache(page);
        }
        only
    }

    /// A page of a file, from the page cache or from storage. Mapped under the page lock, so never one that is in flight.
    pub(super) fn file_fault<O: Observer>(
        &self,
        vma: &Vma,
        site: Site,
        index: usize,
        write: bool,
        observer: O,
    ) -> Result<(), Access> {
        let Backing::File(file) = vma.backing else {
            return Err(Access::Segv);
        };
        // Whoever maps something here meanwhile, perhaps a private copy of this page, wins.
        let from = self.pte(site);
        if !matches!(from, Pte::None | Pte::File { .. }) {
            return Ok(());
        }
        let page = match self.find_or_read(file, index) {
            Found::Page(page) => page,
            Found::Frozen(pfn) => return Err(Access::Busy(pfn)),
            Found::Beyond => return Err(Access::Bus),
            Found::NoMemory => return Err(Access::OutOfMemory),
        };
        let pfn = page.pfn();
        let page = self.try_lock(page).map_err(|page| {
            self.put(page);
            Access::Busy(pfn)
        })?;
        // Looked up before it was locked: it may have moved meanwhile, or have been cut off.
        if !self.is_cached(pfn, file, index) {
            let page = self.unlock(page);
            self.put(page);
            return Ok(());
        }
        let shared = vma.flags.contains(VmaFlags::SHARED);
        let done = if write && !shared {
            self.copy_on_write(vma, site, from, self.word(pfn), observer)
        } else {
            let mut flags = PteFlags::empty();
            flags.set(PteFlags::WRITE, shared && vma.flags.contains(VmaFlags::WRITE));
            flags.set(PteFlags::DIRTY, write);
            self.install(vma, site, from, Pte::present(pfn, flags), observer);
            Ok(())
        };
        let page = self.unlock(page);
        self.put(page);
        done
    }

    /// A page in swap (Linux: `do_swap_page`): through the swap cache, which keeps it until a store takes it out.
    fn swap_fault<O: Observer>(
        &self,
        vma: &Vma,
        site: Site,
        (slot, marks): (SwapEntry, SwapPteFlags),
        write: bool,
        observer: O,
    ) -> Result<(), Access> {
        let index = vma.index(site.page).ok_or(Access::Segv)?;
        let page = match self.find_or_swap_in(slot, || (self.anon_vma(site), index)) {
            SwappedIn::Locked(page) => page,
            SwappedIn::Found(page) => {
                let pfn = page.pfn();
                self.try_lock(page).map_err(|page| {
                    self.put(page);
                    Access::Busy(pfn)
                })?
            }
            SwappedIn::Frozen(pfn) => return Err(Access::Busy(pfn)),
            SwappedIn::Gone => return Ok(()),
            SwappedIn::NoMemory => return Err(Access::OutOfMemory),
        };
        let pfn = page.pfn();
        // Looked up before it was locked: reclaim may have taken it out of the swap cache meanwhile, or a migration replaced it.
        if !self.caches_slot(&page, slot) {
            let page = self.unlock(page);
            self.put(page);
            return Ok(());
        }
        let exclusive = marks.contains(SwapPteFlags::EXCLUSIVE);
        let mut flags = PteFlags::empty();
        flags.set(PteFlags::EXCLUSIVE, exclusive);
        flags.set(PteFlags::SOFT_DIRTY, marks.contains(SwapPteFlags::SOFT_DIRTY));
        flags.set(PteFlags::UFFD_WP, marks.contains(SwapPteFlags::UFFD_WP));
        let from = Pte::Swap {
            entry: slot,
            flags: marks,
        };
        self.install(vma, site, from, Pte::present(pfn, flags), observer);
        if write && self.is_only_user(&page) {
            let mine = self.anon_flags(true, true) | flags;
            self.install(vma, site, Pte::present(pfn, flags), Pte::present(pfn, mine), observer);
        }
        let page = self.unlock(page);
        self.put(page);
        Ok(())
    }
}

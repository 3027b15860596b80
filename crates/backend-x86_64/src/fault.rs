//! The page fault: demand zero, copy on write, and waiting for a page in flight.

use migrate_core::{Frames, PageRef, migration_entry_wait};
use mm_types::trace::{Event, Observer};
use mm_types::{ActorId, EntryStyle, Mapping, PageFlags, Pfn, Pte, PteFlags, Site, SpaceId, VirtAddr, Vma, VmaFlags};

use crate::{Barrier, HwBits, Kernel, MapError, Platform};

/// What a fault came to; the access runs again in every case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Faulted {
    /// A page of zeros was mapped.
    Zeroed,
    /// The space got its own copy of the page.
    Copied,
    /// The page was the space's own; it may be written now.
    Reused,
    /// The page was in flight, and may have arrived.
    Waited,
    /// Nothing was to be done: another thread did it, or the CPU used an old translation that allowed less.
    Spurious,
}

/// Why an access cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// No area is there, or it does not allow the access (Linux: SIGSEGV).
    #[error("the access is not allowed")]
    NotAllowed,
    /// The page had a memory error (Linux: SIGBUS).
    #[error("the page had a memory error")]
    Poisoned,
    /// The tables or areas refused; memory ran out, mostly.
    #[error(transparent)]
    Map(#[from] MapError),
    /// There is no frame for a page.
    #[error("no frame for a page")]
    OutOfMemory,
}

impl<P: Platform> Kernel<'_, P> {
    /// Handles a page fault of `actor` at `addr` (Linux: `handle_mm_fault`). `error` is the CPU's error code: bit 1 a store, bit 4 an
    /// instruction fetch (SDM vol. 3, 4.7).
    ///
    /// Called with no lock held; sleeps where the page is in flight. The access is to be run again.
    ///
    /// # Errors
    /// [`FaultError`]: the access cannot go on.
    pub fn page_fault<O: Observer>(
        &self,
        space: SpaceId,
        addr: VirtAddr,
        error: u32,
        actor: ActorId,
        observer: O,
    ) -> Result<Faulted, FaultError> {
        let (write, fetch) = (error & 1 << 1 != 0, error & 1 << 4 != 0);
        let site = Site::new(space, addr.vpn());
        observer.note(|| Event::Fault { actor, site, write });
        let vma = self.area(site).map_err(|_| FaultError::NotAllowed)?;
        let wanted = match (write, fetch) {
            (true, _) => VmaFlags::WRITE,
            (false, true) => VmaFlags::EXEC,
            (false, false) => VmaFlags::READ | VmaFlags::WRITE | VmaFlags::EXEC,
        };
        if !vma.flags.intersects(wanted) {
            return Err(FaultError::NotAllowed);
        }
        let word = self.word(site);
        match word.decode() {
            Some(Pte::None) => self.demand_zero(&vma, site, write, observer),
            Some(Pte::Migration(_)) => {
                migration_entry_wait(self, self.profile(), site, actor, observer);
                Ok(Faulted::Waited)
            }
            Some(Pte::Present { pfn, flags }) if write && !word.hw_bits().contains(HwBits::WRITE) => {
                self.write_fault(&vma, site, (pfn, flags), observer)
            }
            Some(Pte::Present { .. }) => Ok(Faulted::Spurious),
            Some(Pte::Poison(_)) => Err(FaultError::Poisoned),
            Some(Pte::Swap { .. } | Pte::File { .. }) | None => Err(FaultError::NotAllowed),
        }
    }

    // The bits of a mapping of an anonymous page that nobody else has.
    fn own(&self, write: bool, dirty: bool) -> PteFlags {
        let mut flags = PteFlags::empty();
        flags.set(PteFlags::WRITE, write);
        flags.set(PteFlags::DIRTY, dirty);
        flags.set(PteFlags::EXCLUSIVE, self.profile().entries == EntryStyle::Lossless);
        flags
    }

    // A page of the area's, that nobody knows yet.
    fn new_anon(&self, vma: &Vma, site: Site, fill: impl FnOnce(Pfn) -> bool) -> Result<PageRef, FaultError> {
        let anon_vma = self.areas().lock().anon_vma(site)?;
        let index = vma.index(site.page).ok_or(FaultError::NotAllowed)?;
        let page = self.allocate().ok_or(FaultError::OutOfMemory)?;
        let desc = self.map().page(page.pfn()).filter(|_| fill(page.pfn()));
        let Some(desc) = desc else {
            self.put(page);
            return Err(FaultError::Poisoned);
        };
        desc.set_mapping(Mapping::Anon(anon_vma));
        desc.set_index(index);
        desc.flags().edit(PageFlags::UPTODATE, PageFlags::empty());
        Ok(page)
    }

    fn demand_zero<O: Observer>(&self, vma: &Vma, site: Site, write: bool, observer: O) -> Result<Faulted, FaultError> {
        let page = self.new_anon(vma, site, |pfn| {
            self.zero(pfn);
            true
        })?;
        // The page is the area's alone, so it is mapped with all that the area allows.
        let to = Pte::present(page.pfn(), self.own(vma.flags.contains(VmaFlags::WRITE), write));
        self.finish(vma, site, page, Pte::is_none, to, Faulted::Zeroed, observer)
    }

    #[expect(clippy::too_many_arguments, reason = "the two ends of one fault")]
    fn finish<O: Observer>(
        &self,
        vma: &Vma,
        site: Site,
        page: PageRef,
        same: impl Fn(Pte) -> bool,
        to: Pte,
        done: Faulted,
        observer: O,
    ) -> Result<Faulted, FaultError> {
        let installed = self.install(vma, site, same, |_| to, observer);
        if installed == Ok(true) {
            self.add_to_lru(&page);
        }
        self.put(page);
        Ok(if installed? { done } else { Faulted::Spurious })
    }

    /// A store through an entry that does not allow it, in an area that does (Linux: `do_wp_page`).
    fn write_fault<O: Observer>(
        &self,
        vma: &Vma,
        site: Site,
        (pfn, flags): (Pfn, PteFlags),
        observer: O,
    ) -> Result<Faulted, FaultError> {
        let reuse = |more: PteFlags| {
            let writable = PteFlags::WRITE | PteFlags::DIRTY | PteFlags::YOUNG | more;
            self.install(
                vma,
                site,
                |now| now.maps(pfn),
                |now| Pte::present(pfn, now.flags().difference(PteFlags::UFFD_WP) | writable),
                observer,
            )
        };
        let reused = |installed: bool| if installed { Faulted::Reused } else { Faulted::Spurious };
        if vma.flags.contains(VmaFlags::SHARED) || flags.contains(PteFlags::EXCLUSIVE) {
            return Ok(reused(reuse(PteFlags::empty())?));
        }
        let downgrades = self.space(site.space)?.downgrades();
        // Busy: freed or frozen since the look; the entry says what is true by the next fault.
        let Some(page) = self.get(pfn) else {
            return Ok(Faulted::Spurious);
        };
        let page = match self.try_lock(page) {
            Ok(locked) => {
                // Under the page lock no other mapping of it can be hidden in a migration entry.
                let only = self.map().page(pfn).is_some_and(|page| page.mapcount() == 1);
                let installed = only.then(|| reuse(self.own(true, true)));
                let page = self.unlock(locked);
                if let Some(installed) = installed {
                    self.put(page);
                    return Ok(reused(installed?));
                }
                page
            }
            Err(page) => page,
        };
        let copied = self.copy_on_write(vma, site, pfn, downgrades, observer);
        self.put(page);
        copied
    }

    fn copy_on_write<O: Observer>(
        &self,
        vma: &Vma,
        site: Site,
        old: Pfn,
        downgrades: u32,
        observer: O,
    ) -> Result<Faulted, FaultError> {
        // A fork that write-protected the entry may not have flushed yet: another thread of this space would go on writing to the
        // old page while it is copied.
        self.flush_pending_for(site.space, Barrier::BeforeCopy);
        let space = self.space(site.space)?;
        let page = self.new_anon(vma, site, |new| self.copy_contents(old, new).is_ok())?;
        let to = Pte::present(page.pfn(), self.own(true, true) | PteFlags::YOUNG);
        // Where the entry was given write permission and lost it again meanwhile, that flush says nothing any more.
        let same = |now: Pte| {
            let read_only = !now.flags().contains(PteFlags::WRITE);
            now.maps(old) && read_only && space.downgrades() == downgrades
        };
        self.finish(vma, site, page, same, to, Faulted::Copied, observer)
    }
}

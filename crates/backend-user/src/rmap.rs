//! Entries and walks: the reverse map behind the seam.

use core::ops::ControlFlow;
use core::sync::atomic::Ordering;

use migrate_core::{Edited, Entry, EntryVma, LockedPage, Rmap, UsesPageMap, Visit, get_for_ledger, unmap_for_ledger};
use mm_types::museum::{self, Bug};
use mm_types::{Page, Pfn, Pte, PteFlags, Refusal, Site, SpaceId, Vma, VmaFlags, ledger};

use crate::areas::Areas;
use crate::kernel::{Kernel, Readable};
use crate::mm::{Mm, State};
use crate::sys::copy;

/// Spaces that have something on their `todo` because of one batch.
///
/// What there is to do is noted in the space itself, so that anybody may do it earlier; here is only where to look. No
/// allocation: with more spaces than fit, all are looked at.
#[derive(Debug)]
pub struct Gather {
    spaces: [SpaceId; Self::ROOM],
    len: usize,
    all: bool,
    /// The page walked now, and the frame it is to have.
    ahead: Option<(Pfn, Pfn)>,
    /// Entries that this batch has put into flight, at most: each may need two mappings more.
    sites: usize,
}

impl Gather {
    const ROOM: usize = 16;

    const fn new() -> Self {
        Self {
            spaces: [SpaceId::new(0); Self::ROOM],
            len: 0,
            all: false,
            ahead: None,
            sites: 0,
        }
    }

    fn add(&mut self, space: SpaceId) {
        let known = self.spaces.get(..self.len).unwrap_or_default();
        if self.all || known.last() == Some(&space) || known.contains(&space) {
            return;
        }
        match self.spaces.get_mut(self.len) {
            Some(slot) => {
                *slot = space;
                self.len += 1;
            }
            None => self.all = true,
        }
    }
}

/// What a walk knows of the page beyond its counts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Walked {
    /// Sites replaced so far: they are no longer in the map count.
    replaced: u32,
    /// It has several sites, none may write, and none will while the page is locked.
    read_only: bool,
    /// The frame it is to have.
    ahead: Option<Pfn>,
}

/// One entry, under its table's lock.
#[derive(Debug)]
pub(crate) struct Slot<'s> {
    pub(crate) kernel: &'s Kernel,
    pub(crate) space: &'s Mm,
    pub(crate) state: &'s mut State,
    pub(crate) page: usize,
    pub(crate) vma: EntryVma,
    /// Frames whose last reference went: to be freed when the lock is open.
    pub(crate) walked: Walked,
}

/// Returns what an area says about its entries.
pub(crate) fn entry_vma(vma: &Vma, page: usize) -> EntryVma {
    let nonlinear = vma.flags.contains(VmaFlags::NONLINEAR);
    let page = mm_types::Vpn::new(page as u64);
    EntryVma {
        locked: vma.flags.contains(VmaFlags::LOCKED),
        may_write: vma.flags.contains(VmaFlags::WRITE),
        shared: vma.flags.contains(VmaFlags::SHARED),
        nonlinear: nonlinear.then(|| vma.index(page).unwrap_or(0) as u64),
    }
}

impl<'s> Slot<'s> {
    /// Takes an entry in hand whose table is locked.
    pub(crate) fn new(kernel: &'s Kernel, space: &'s Mm, state: &'s mut State, page: usize, vma: &Vma) -> Self {
        Self {
            kernel,
            space,
            state,
            page,
            vma: entry_vma(vma, page),
            walked: Walked::default(),
        }
    }

    /// True where the page may be read while it is copied: nobody can write it, or it has only this site (another site,
    /// remapped first, would write what this one does not see).
    fn readable(&self, pfn: Pfn, writable: bool) -> bool {
        let kernel = self.kernel;
        if kernel.runs_2006.load(Ordering::Relaxed) != 0 {
            return false;
        }
        let sites = kernel.page(pfn).map_or(u32::MAX, Page::mapcount);
        let alone = sites.saturating_add(self.walked.replaced) <= 1 || museum::has(Bug::ProtRead);
        match kernel.options.readable {
            Readable::Never => false,
            Readable::NobodyWrites => self.walked.read_only || (alone && !writable),
            Readable::OneSite => self.walked.read_only || alone,
        }
    }
}

impl Kernel {
    fn flush_space(&self, space: &Mm) {
        let mut state = space.lock();
        // What could not be mapped for want of mappings stays on `todo`: the access faults, and is mapped when there are some.
        let _ = space.settle(self, &mut state);
    }
}

impl Entry for Slot<'_> {
    fn site(&self) -> Site {
        self.space.site(self.page)
    }

    fn read(&self) -> Pte {
        self.space.read(self.page)
    }

    fn update(&mut self, edit: &dyn Fn(Pte) -> Option<Pte>) -> Option<Edited> {
        // Entries are replaced under the lock that is held, and no hardware writes them: once is enough.
        let before = self.read();
        let after = edit(before)?;
        let map = self.kernel.page_map();
        let counts = ledger(before, after);
        let hide = match before {
            Pte::Present { pfn, .. } if after.is_migration() => !self.readable(pfn, before.writable()),
            _ => true,
        };
        get_for_ledger(map, &counts);
        self.space.store(self.page, after);
        self.state.owed.extend(unmap_for_ledger(map, &counts));
        self.state.resident = self.state.resident.saturating_add_signed(counts.rss.into());
        if before != after {
            let installed = before.is_present() && after.is_migration();
            self.walked.replaced += u32::from(installed);
            let ahead = self.walked.ahead.filter(|_| installed);
            self.state.in_flight(self.page, hide, ahead);
        }
        Some(Edited { before, after })
    }

    fn vma(&self) -> EntryVma {
        self.vma
    }
}

impl Kernel {
    /// Visits every entry that maps or names the page, each under its table's lock.
    fn walk_sites(&self, pfn: Pfn, nonlinear: bool, gather: &mut Gather, visit: &mut Visit<'_>) {
        let areas = self.areas();
        let mut walked = Walked {
            replaced: 0,
            read_only: self.page(pfn).is_some_and(|page| page.mapcount() > 1) && self.nobody_writes(&areas, pfn),
            ahead: gather.ahead.and_then(|(old, new)| (old == pfn).then_some(new)),
        };
        areas.sites(self.page_map(), pfn, |space, vma, page| {
            if space.read(page).is_none() || nonlinear != vma.flags.contains(VmaFlags::NONLINEAR) {
                return true;
            }
            let mut state = space.lock();
            let mut slot = Slot {
                kernel: self,
                space,
                state: &mut state,
                page,
                vma: entry_vma(vma, page),
                walked,
            };
            let go_on = visit(&mut slot) == ControlFlow::Continue(());
            walked = slot.walked;
            gather.add(space.id);
            go_on
        });
    }
}

impl Kernel {
    /// True where no present entry of the locked page may write. None gains that while the page is locked.
    fn nobody_writes(&self, areas: &Areas, pfn: Pfn) -> bool {
        let mut read_only = true;
        areas.sites(self.page_map(), pfn, |space, _, page| {
            let pte = space.read(page);
            read_only = !(pte.maps(pfn) && pte.flags().contains(PteFlags::WRITE));
            read_only
        });
        read_only
    }
}

impl Rmap for Kernel {
    type Gather = Gather;

    fn gather(&self) -> Gather {
        Gather::new()
    }

    fn walk(&self, page: &LockedPage, gather: &mut Gather, visit: &mut Visit<'_>) {
        self.walk_sites(page.pfn(), false, gather, visit);
    }

    fn flush(&self, gather: Gather) {
        copy::done();
        if gather.all {
            let spaces: Vec<_> = self.areas().spaces().cloned().collect();
            for space in spaces {
                self.flush_space(&space);
            }
            return;
        }
        for id in gather.spaces.get(..gather.len).unwrap_or_default() {
            let space = self.areas().space(*id).cloned();
            // A space that is gone took its mappings with it.
            if let Some(space) = space {
                self.flush_space(&space);
            }
        }
    }

    fn flush_pending(&self, space: SpaceId) {
        let space = self.areas().space(space).cloned();
        if let Some(space) = space {
            self.flush_space(&space);
        }
    }

    fn reserve(&self, page: &LockedPage, new: Option<&LockedPage>, gather: &mut Gather) -> Result<(), Refusal> {
        // Places of the second engine are never mappings of their own.
        if self.private.as_deref().is_some_and(|private| private.has(page.pfn())) {
            return Ok(());
        }
        let sites = self.page(page.pfn()).map_or(0, Page::mapcount) as usize;
        if !self.has_room(gather.sites + sites) {
            return Err(Refusal::MappingLimit);
        }
        gather.sites += sites;
        // Where translations are made at once, there is nothing to gain: they are made with the mapping.
        let new = new.filter(|_| !self.options.populate);
        gather.ahead = new.map(|new| (page.pfn(), new.pfn()));
        Ok(())
    }

    fn is_mapped(&self, page: &LockedPage) -> bool {
        self.page(page.pfn()).is_some_and(|page| page.mapcount() != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Machine, Prot, Sharing};
    use migrate_core::{Frames as _, Lru as _, PageRef};

    #[test]
    fn a_page_that_programs_still_reach_is_not_free_until_the_flush() {
        let machine = Machine::builder().frames_per_node(64).build().unwrap();
        let space = machine.space(8).unwrap();
        let area = space.map_anonymous(1, Prot::ReadWrite, Sharing::Private).unwrap();
        area.page(0)[7].store(5, Ordering::Relaxed);
        let kernel = &space.inner.machine.kernel;
        kernel.drain();
        let pfn = space.entry(area.first).pfn().unwrap();
        let count = || kernel.page(pfn).unwrap().count();
        let isolated = kernel.isolate(&PageRef::counted(pfn)).unwrap();
        let locked = kernel.try_lock(isolated).unwrap();
        let mut gather = kernel.gather();
        kernel.walk(&locked, &mut gather, &mut |entry: &mut dyn Entry| {
            assert!(entry.update(&|pte| pte.maps(pfn).then_some(Pte::None)).is_some());
            ControlFlow::Continue(())
        });
        // Every other holder goes.
        kernel.put(kernel.unlock(locked));
        assert_eq!(count(), 1, "the entry's reference");
        assert_eq!(area.page(0)[7].load(Ordering::Relaxed), 5, "the range shows the frame");
        kernel.flush(gather);
        assert_eq!(count(), 0);
        area.page(0)[7].store(6, Ordering::Relaxed);
        assert_ne!(space.entry(area.first), Pte::None, "a fault brought another page");
    }
}

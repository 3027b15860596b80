//! Entries and walks: the reverse map behind the seam.

use core::ops::ControlFlow;
use core::sync::atomic::Ordering;

use migrate_core::{Edited, Entry, EntryVma, LockedPage, Rmap, UsesPageMap, Visit, get_for_ledger, put_for_ledger};
use mm_types::{Pfn, Pte, PteFlags, Refusal, Site, SpaceId, Vma, VmaFlags, ledger};

use crate::kernel::Kernel;
use crate::mm::{Mm, State};

/// Spaces that have something on their `todo` because of one batch.
///
/// What there is to do is noted in the space itself, so that anybody may do it earlier; here is only where to look. No
/// allocation: with more spaces than fit, all are looked at.
#[derive(Debug)]
pub struct Gather {
    spaces: [SpaceId; Self::ROOM],
    len: usize,
    all: bool,
}

impl Gather {
    const ROOM: usize = 16;

    const fn new() -> Self {
        Self {
            spaces: [SpaceId::new(0); Self::ROOM],
            len: 0,
            all: false,
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

/// Sites of one page replaced so far in a walk: what the page's counts no longer show.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Replaced {
    sites: u32,
    writers: u32,
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
    pub(crate) owed: &'s mut Vec<Pfn>,
    pub(crate) replaced: Replaced,
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

impl Slot<'_> {
    /// True where the page may be read while it is copied: nobody can write it, or it has only this site (another site,
    /// remapped first, would write what this one does not see).
    fn readable(&self, pfn: Pfn) -> bool {
        let kernel = self.kernel;
        if !kernel.options.readable || kernel.runs_2006.load(Ordering::Relaxed) != 0 {
            return false;
        }
        let sites = kernel.page(pfn).map_or(u32::MAX, mm_types::Page::mapcount);
        let writers = kernel.writers(pfn).map_or(u32::MAX, |n| n.load(Ordering::Relaxed));
        sites.saturating_add(self.replaced.sites) <= 1 || writers.saturating_add(self.replaced.writers) == 0
    }

    /// Counts entries that may write, and those in flight.
    fn account(&mut self, before: Pte, after: Pte) {
        let writes = |pte: Pte| pte.pfn().filter(|_| pte.flags().contains(PteFlags::WRITE));
        let (from, to) = (writes(before), writes(after));
        if from != to {
            if let Some(count) = to.and_then(|pfn| self.kernel.writers(pfn)) {
                count.fetch_add(1, Ordering::Relaxed);
            }
            if let Some(count) = from.and_then(|pfn| self.kernel.writers(pfn)) {
                count.fetch_sub(1, Ordering::Relaxed);
            }
        }
        let flying = isize::from(after.is_migration()) - isize::from(before.is_migration());
        if flying != 0 {
            self.kernel.in_flight(flying);
        }
    }
}

impl Kernel {
    /// Returns how many present entries of a frame may write.
    pub(crate) fn writers(&self, pfn: Pfn) -> Option<&core::sync::atomic::AtomicU32> {
        self.writers.get(pfn.index()?)
    }

    /// Frees frames whose last reference went under an entry lock.
    pub(crate) fn free_owed(&self, owed: &mut Vec<Pfn>) {
        for pfn in owed.drain(..) {
            migrate_core::free_unused(self, pfn);
        }
    }

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
            Pte::Present { pfn, .. } if after.is_migration() => !self.readable(pfn),
            _ => true,
        };
        get_for_ledger(map, &counts);
        self.space.store(self.page, after);
        self.account(before, after);
        self.owed.extend(put_for_ledger(map, &counts));
        self.state.resident = self.state.resident.saturating_add_signed(counts.rss.into());
        if after.is_migration() {
            self.replaced.sites += u32::from(before.is_present());
            self.replaced.writers += u32::from(before.flags().contains(PteFlags::WRITE));
        }
        if before != after {
            self.state.unsettled(self.page, hide);
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
        let mut owed = Vec::new();
        let mut replaced = Replaced::default();
        let areas = self.areas();
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
                owed: &mut owed,
                replaced,
            };
            let go_on = visit(&mut slot) == ControlFlow::Continue(());
            replaced = slot.replaced;
            gather.add(space.id);
            go_on
        });
        drop(areas);
        // The walker holds a reference, so the page walked is not among them.
        self.free_owed(&mut owed);
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

    fn reserve(&self, page: &LockedPage, _new: Option<&LockedPage>, _gather: &mut Gather) -> Result<(), Refusal> {
        let sites = self.page(page.pfn()).map_or(0, mm_types::Page::mapcount);
        if self.has_room(sites as usize) {
            Ok(())
        } else {
            Err(Refusal::MappingLimit)
        }
    }

    fn is_mapped(&self, page: &LockedPage) -> bool {
        self.page(page.pfn()).is_some_and(|page| page.mapcount() != 0)
    }
}

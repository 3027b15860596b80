//! The reverse map, the flush, and sleeping on an entry: the part of the seam that is about page tables.

use core::ops::ControlFlow;

use migrate_core::{Cache, Faults, Frames, LockedPage, Rmap, Visit, free_unused};
use mm_types::{PageFlags, Pfn, Pte, Site, SpaceId};

use crate::gather::{Gather, Stale};
use crate::held::Around;
use crate::{Barrier, Kernel, Platform};

impl<P: Platform> Rmap for Kernel<'_, P> {
    type Gather = Gather;

    fn gather(&self) -> Gather {
        Gather::new()
    }

    fn walk(&self, page: &LockedPage, gather: &mut Gather, visit: &mut Visit<'_>) {
        let Some(page) = self.map().page(page.pfn()) else {
            return;
        };
        // Held for the whole walk, so that no area comes or goes, and none moves its entries, between two of them.
        let areas = self.areas().lock();
        areas.visit(page.mapping(), page.index(), |site, vma| {
            let seen = self.with_entry(&areas, site, Around::from(vma).held(), gather, |entry| visit(entry));
            !matches!(seen, Ok(Some(ControlFlow::Break(()))))
        });
    }

    fn flush(&self, mut gather: Gather) {
        self.flush_gather(&mut gather, Barrier::Migrate);
    }

    fn flush_pending(&self, space: SpaceId) {
        self.flush_pending_for(space, Barrier::AtEnd);
    }

    fn is_mapped(&self, page: &LockedPage) -> bool {
        self.map().page(page.pfn()).is_some_and(|page| page.mapcount() > 0)
    }
}

impl<P: Platform> Kernel<'_, P> {
    /// Invalidates, and then drops the references to pages that no CPU can reach any more.
    pub(crate) fn flush_gather(&self, gather: &mut Gather, why: Barrier) {
        gather.invalidate(self.pending(), |stale| self.shoot(stale, why));
        while let Some(page) = gather.pop_owed() {
            self.put(page);
        }
        while let Some(pfn) = gather.unused.pop(self.map()) {
            free_unused(self, pfn);
        }
    }

    /// Invalidates what somebody edited in `space` and did not flush yet.
    pub(crate) fn flush_pending_for(&self, space: SpaceId, why: Barrier) {
        if self.pending().is_pending(space) {
            self.shoot(Stale::Space(space), why);
        }
    }

    fn shoot(&self, stale: Stale<'_>, why: Barrier) {
        if !why.is_missing() {
            self.platform().shootdown(stale);
        }
    }
}

/// Anonymous memory only: no slots, no buffers, no writing.
impl<P: Platform> Cache for Kernel<'_, P> {}

impl<P: Platform> Faults for Kernel<'_, P> {
    fn wait_on(&self, site: Site, look: &mut dyn FnMut(Pte) -> Option<Pfn>) {
        let mut announce = |pte| {
            let page = self.map().page(look(pte)?)?;
            // Announced before the entry's lock opens: the migrator restores the entry first and unlocks the page after.
            Some((page, page.flags().announce_wait(PageFlags::LOCKED)?))
        };
        let held = self.look_at(site, |word| announce(word.decode().unwrap_or_default()));
        let sleep = match held {
            Ok(Some(sleep)) => sleep,
            Ok(None) | Err(_) => announce(Pte::None),
        };
        if let Some((page, seen)) = sleep {
            self.platform().wait(page.flags().word(), seen);
        }
    }
}

//! What edits of entries leave to do: translations to invalidate, and references to drop when that is done.
//!
//! A gather keeps up to [`Gather::PAGES`] places. Beyond that invalidating whole spaces is cheaper than invalidating page by
//! page (Linux: `tlb_single_page_flush_ceiling`, 33), so it keeps the spaces only; beyond [`Gather::SPACES`] of them it asks
//! for everything.
//!
//! A space is *pending* from a gather's first edit in it until that gather's flush, because other CPUs may still write through
//! old translations: see [`Rmap::flush_pending`](migrate_core::Rmap::flush_pending). The mark is set under the entry's lock, so
//! whoever sees the edited entry sees it.
//!
//! An entry that is gone leaves its reference to the gather, because a CPU may still reach the page (Linux: `mmu_gather`). The
//! last reference to a page is no longer anybody's to find, so the page waits on a list through its descriptor. A page that
//! others hold too can be in several gathers at a time, and no descriptor has room for that: up to [`Gather::OWED`] such
//! references are written down, and who may gather more flushes in between ([`Gather::has_room`]).

use core::sync::atomic::{AtomicU32, Ordering};

use migrate_core::PageRef;
use mm_types::{Page, PageMap, Pfn, Site, SpaceId, Vpn};

use crate::Space;

/// What no CPU may use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stale<'g> {
    /// The translations of these pages, in ascending order.
    Pages(SpaceId, &'g [Vpn]),
    /// Every translation of the space, and what is cached on the way to one (paging-structure caches): tables may be gone.
    Space(SpaceId),
    /// Every translation of every space.
    Everything,
}

/// Frames without references, to be freed once no translation can reach them, linked through their descriptors' private words.
#[derive(Debug, Default)]
pub(crate) struct Unused(Option<Pfn>);

impl Unused {
    pub(crate) fn push(&mut self, map: PageMap<'_>, pfn: Pfn) {
        let Some(page) = map.page(pfn) else { return };
        let next = self.0.map_or(0, |pfn| pfn.raw().wrapping_add(1));
        page.set_private(usize::try_from(next).unwrap_or(0));
        self.0 = Some(pfn);
    }

    pub(crate) fn pop(&mut self, map: PageMap<'_>) -> Option<Pfn> {
        let pfn = self.0?;
        let page = map.page(pfn)?;
        self.0 = page.private().checked_sub(1).map(|next| Pfn::new(next as u64));
        page.set_private(0);
        Some(pfn)
    }
}

/// Edits that were made and not flushed.
#[derive(Debug)]
#[must_use = "translations that are gathered and not flushed stay stale"]
pub struct Gather {
    sites: [Site; Self::PAGES],
    len: usize,
    spaces: [SpaceId; Self::SPACES],
    spaces_len: usize,
    reach: Reach,
    owed: [Pfn; Self::OWED],
    owed_len: usize,
    pub(crate) unused: Unused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Pages,
    Spaces,
    Everything,
}

impl Gather {
    /// Places that are invalidated one by one (Linux: 33).
    pub const PAGES: usize = 33;
    /// Spaces that are invalidated one by one.
    pub const SPACES: usize = 8;
    /// References to pages that others hold too.
    pub const OWED: usize = 64;

    pub(crate) fn new() -> Self {
        Self {
            sites: [Site::default(); Self::PAGES],
            len: 0,
            spaces: [SpaceId::default(); Self::SPACES],
            spaces_len: 0,
            reach: Reach::Pages,
            owed: [Pfn::new(0); Self::OWED],
            owed_len: 0,
            unused: Unused::default(),
        }
    }

    /// True where one more entry may leave a reference.
    pub(crate) const fn has_room(&self) -> bool {
        self.owed_len < Self::OWED
    }

    /// Takes the reference of an entry that is gone, until the flush.
    pub(crate) fn owe(&mut self, map: PageMap<'_>, page: &PageRef) {
        if map.page(page.pfn()).is_some_and(Page::put_last) {
            self.unused.push(map, page.pfn());
        } else if let Some(slot) = self.owed.get_mut(self.owed_len) {
            *slot = page.pfn();
            self.owed_len = self.owed_len.saturating_add(1);
        } else {
            // A page that is never freed is better than one that is free and written to.
            debug_assert!(false, "nobody looked whether there is room for another reference");
        }
    }

    /// Returns a reference that may be dropped, once everything was invalidated.
    pub(crate) fn pop_owed(&mut self) -> Option<PageRef> {
        self.owed_len = self.owed_len.checked_sub(1)?;
        self.owed.get(self.owed_len).copied().map(PageRef::counted)
    }

    /// True where nothing is to be invalidated; references may still wait to be dropped.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.spaces_len == 0
    }

    fn spaces(&self) -> &[SpaceId] {
        self.spaces.get(..self.spaces_len).unwrap_or_default()
    }

    /// Takes note of a stale translation; under the lock of its entry.
    pub(crate) fn note(&mut self, pending: Pending<'_>, site: Site) {
        self.note_space(pending, site.space);
        if self.reach != Reach::Pages {
            return;
        }
        match self.sites.get_mut(self.len) {
            Some(slot) => {
                *slot = site;
                self.len = self.len.saturating_add(1);
            }
            None => self.reach = Reach::Spaces,
        }
    }

    /// Takes note of tables that are gone.
    pub(crate) fn note_tables(&mut self, pending: Pending<'_>, space: SpaceId) {
        self.note_space(pending, space);
        if self.reach == Reach::Pages {
            self.reach = Reach::Spaces;
        }
    }

    fn note_space(&mut self, pending: Pending<'_>, space: SpaceId) {
        if self.reach == Reach::Everything || self.spaces().contains(&space) {
            return;
        }
        match self.spaces.get_mut(self.spaces_len) {
            Some(slot) => {
                *slot = space;
                self.spaces_len = self.spaces_len.saturating_add(1);
                pending.begin(space);
            }
            None => {
                self.reach = Reach::Everything;
                pending.everywhere.fetch_add(1, Ordering::AcqRel);
            }
        }
    }

    /// Invalidates what was gathered, then takes the marks away.
    pub(crate) fn invalidate(&mut self, pending: Pending<'_>, mut shootdown: impl FnMut(Stale<'_>)) {
        match self.reach {
            Reach::Pages => self.each_page(pending, &mut shootdown),
            Reach::Spaces => self.spaces().iter().for_each(|space| shootdown(Stale::Space(*space))),
            Reach::Everything => {
                shootdown(Stale::Everything);
                pending.everywhere.fetch_sub(1, Ordering::AcqRel);
            }
        }
        self.spaces().iter().for_each(|space| pending.end(*space));
        (self.len, self.spaces_len, self.reach) = (0, 0, Reach::Pages);
    }

    fn each_page(&mut self, pending: Pending<'_>, shootdown: &mut impl FnMut(Stale<'_>)) {
        let Some(sites) = self.sites.get_mut(..self.len) else {
            return;
        };
        sites.sort_unstable();
        let mut pages = [Vpn::default(); Self::PAGES];
        for of_space in sites.chunk_by(|a, b| a.space == b.space) {
            let Some(space) = of_space.first().map(|site| site.space) else {
                continue;
            };
            // Somebody else's edit may be the other half of ours: an `mremap` brought a page to where we took it away from, and
            // what is stale at its old place is not flushed yet.
            if pending.is_pending_for_others(space) {
                shootdown(Stale::Space(space));
                continue;
            }
            let mut len = 0usize;
            for one in of_space.chunk_by(|a, b| a.page == b.page) {
                if let (Some(slot), Some(site)) = (pages.get_mut(len), one.first()) {
                    *slot = site.page;
                    len = len.saturating_add(1);
                }
            }
            shootdown(Stale::Pages(space, pages.get(..len).unwrap_or_default()));
        }
    }
}

/// Where pending flushes are marked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending<'k> {
    pub(crate) spaces: &'k [Space],
    pub(crate) everywhere: &'k AtomicU32,
}

impl Pending<'_> {
    fn space(&self, id: SpaceId) -> Option<&Space> {
        self.spaces.get(usize::try_from(id.raw()).ok()?)
    }

    fn begin(&self, id: SpaceId) {
        if let Some(space) = self.space(id) {
            space.begin_pending();
        }
    }

    fn end(&self, id: SpaceId) {
        if let Some(space) = self.space(id) {
            space.end_pending();
        }
    }

    // Asked by a gather that has `id` pending itself, and not everything.
    fn is_pending_for_others(&self, id: SpaceId) -> bool {
        self.everywhere.load(Ordering::Acquire) != 0 || self.space(id).is_some_and(|space| space.pending() > 1)
    }

    pub(crate) fn is_pending(&self, id: SpaceId) -> bool {
        self.everywhere.load(Ordering::Acquire) != 0 || self.space(id).is_some_and(Space::is_pending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn run(sites: impl IntoIterator<Item = (u32, u64)>) -> Vec<(Option<u32>, Vec<u64>)> {
        let (spaces, everywhere) = ([const { Space::new() }; 10], AtomicU32::new(0));
        let pending = Pending {
            spaces: &spaces,
            everywhere: &everywhere,
        };
        let mut gather = Gather::new();
        for (space, page) in sites {
            let site = Site::new(SpaceId::new(space), Vpn::new(page));
            gather.note(pending, site);
            assert!(pending.is_pending(site.space), "marked from the first edit on");
        }
        let mut done = Vec::new();
        gather.invalidate(pending, |stale| {
            done.push(match stale {
                Stale::Pages(space, pages) => (Some(space.raw()), pages.iter().map(|page| page.raw()).collect()),
                Stale::Space(space) => (Some(space.raw()), Vec::new()),
                Stale::Everything => (None, Vec::new()),
            });
        });
        assert!(gather.is_empty());
        assert!(
            (0..10).all(|space| !pending.is_pending(SpaceId::new(space))),
            "and until the flush"
        );
        done
    }

    #[test]
    fn few_pages_are_named_one_by_one_space_by_space() {
        assert_eq!(run([]), []);
        let two = run([(2, 9), (1, 7), (2, 3), (2, 9)]);
        assert_eq!(two, [(Some(1), Vec::from([7])), (Some(2), Vec::from([3, 9]))]);
    }

    #[test]
    fn the_thirty_fourth_page_makes_it_the_whole_space() {
        assert_eq!(run((0..33).map(|page| (0, page))), [(Some(0), (0..33).collect())]);
        assert_eq!(run((0..34).map(|page| (0, page))), [(Some(0), Vec::new())]);
    }

    #[test]
    fn the_ninth_space_makes_it_everything() {
        assert_eq!(run((0..8).map(|space| (space, 1))).len(), 8);
        assert_eq!(run((0..9).map(|space| (space, 1))), [(None, Vec::new())]);
    }
}

//! The LRU lists of one node, and the staging that pages pass on their way there.
//!
//! Being on an LRU list holds *no* reference: whoever drops a page's last reference takes it off the list
//! ([`Lru::forget`]) before the frame goes back to the allocator. A *staged* page is on no LRU list yet, has
//! [`PageFlags::LRU`] clear, and is held by one reference of the staging's own. Linux stages in arrays of 14 (pagevecs);
//! here staging is a list of at most 14, so that a staged page's one link says where it is (I1).
//!
//! All of it runs under one lock, Linux's `lru_lock`, which is the caller's; nothing here sleeps. A `freed` callback
//! gets each frame whose last reference was dropped: it is off every list, LRU and ACTIVE are clear, its count is 0. It
//! runs under the lock, so it may not come back to this `Lru`, and may not sleep.

use crate::museum::{self, Bug};
use crate::{ListError, ListId, NodeId, Page, PageFlags, PageList, PageMap, Pfn, Refusal};

/// One of the lists of an [`Lru`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LruList {
    /// Pages in use lately.
    Active,
    /// Pages that reclaim looks at first.
    Inactive,
    /// Pages that reclaim does not look at (2.6.28).
    Unevictable,
    /// On the way to the active list; each page is held by one reference.
    StagedActive,
    /// On the way to the inactive list; each page is held by one reference.
    StagedInactive,
}

impl LruList {
    /// Every list, in declaration order.
    pub const ALL: &'static [Self] = &[
        Self::Active,
        Self::Inactive,
        Self::Unevictable,
        Self::StagedActive,
        Self::StagedInactive,
    ];

    /// True for the lists that [`PageFlags::LRU`] stands for.
    #[must_use]
    #[inline]
    pub const fn is_lru(self) -> bool {
        matches!(self, Self::Active | Self::Inactive | Self::Unevictable)
    }
}

/// The LRU lists of one node (Linux: in `struct zone`, and the pagevecs of `mm/swap.c`).
#[derive(Debug)]
pub struct Lru {
    active: PageList,
    inactive: PageList,
    unevictable: PageList,
    staged_active: PageList,
    staged_inactive: PageList,
}

impl Lru {
    /// Pages that staging holds before it drains by itself (Linux: `PAGEVEC_SIZE`).
    pub const STAGING: usize = 14;

    /// The first list number that belongs to the `Lru`s; other lists over the same page map stay below it.
    pub const FIRST_LIST: u32 = 1 << 31;

    /// Makes the empty lists of `node`. At most one `Lru` of a node is in use over one page map.
    #[must_use]
    #[inline]
    pub const fn new(node: NodeId) -> Self {
        // A node number has 16 bits and a node has five lists: the sum stays below 2^32.
        let first = Self::FIRST_LIST | ((node.raw() as u32) << 3);
        Self {
            active: PageList::new(ListId::fixed(first)),
            inactive: PageList::new(ListId::fixed(first | 1)),
            unevictable: PageList::new(ListId::fixed(first | 2)),
            staged_active: PageList::new(ListId::fixed(first | 3)),
            staged_inactive: PageList::new(ListId::fixed(first | 4)),
        }
    }

    /// Returns one of the lists, to count or to visit its pages.
    #[must_use]
    #[inline]
    pub const fn list(&self, list: LruList) -> &PageList {
        match list {
            LruList::Active => &self.active,
            LruList::Inactive => &self.inactive,
            LruList::Unevictable => &self.unevictable,
            LruList::StagedActive => &self.staged_active,
            LruList::StagedInactive => &self.staged_inactive,
        }
    }

    const fn list_mut(&mut self, list: LruList) -> &mut PageList {
        match list {
            LruList::Active => &mut self.active,
            LruList::Inactive => &mut self.inactive,
            LruList::Unevictable => &mut self.unevictable,
            LruList::StagedActive => &mut self.staged_active,
            LruList::StagedInactive => &mut self.staged_inactive,
        }
    }

    /// Returns which of the lists `pfn` is on, or `None` where it is on none of this node's.
    #[must_use]
    #[inline]
    pub fn list_of(&self, map: PageMap<'_>, pfn: Pfn) -> Option<LruList> {
        LruList::ALL
            .iter()
            .copied()
            .find(|list| self.list(*list).contains(map, pfn))
    }

    /// True where `pfn` is on the active, inactive or unevictable list: staged does not count.
    #[must_use]
    #[inline]
    pub fn contains(&self, map: PageMap<'_>, pfn: Pfn) -> bool {
        self.list_of(map, pfn).is_some_and(LruList::is_lru)
    }

    /// Returns how many pages are on the active, inactive and unevictable lists.
    #[must_use]
    #[inline]
    pub const fn len(&self) -> usize {
        self.active
            .len()
            .saturating_add(self.inactive.len())
            .saturating_add(self.unevictable.len())
    }

    /// True where neither an LRU list nor staging has a page.
    #[must_use]
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0 && self.staged() == 0
    }

    /// Returns how many pages are staged.
    #[must_use]
    #[inline]
    pub const fn staged(&self) -> usize {
        self.staged_active.len().saturating_add(self.staged_inactive.len())
    }

    /// Takes `pfn` off its LRU list and gives the caller one reference (Linux: `isolate_lru_page`).
    ///
    /// Afterwards LRU is clear, ACTIVE and UNEVICTABLE are as they were, and the page's link is free for a list of the
    /// caller's. A test of the flag before the lock is taken is the caller's; what counts
    /// here is the link, which the flag follows (I1).
    ///
    /// # Errors
    /// [`Refusal::NotOnLru`] (`EBUSY`) where the page is on none of the lists, is staged, or its last reference is gone
    /// and only the flag is left (closed in 2.6.23 by get-unless-zero). Nothing changed.
    #[inline]
    pub fn isolate(&mut self, map: PageMap<'_>, pfn: Pfn) -> Result<(), Refusal> {
        let page = map.page(pfn).ok_or(Refusal::NotOnLru)?;
        let on = self
            .list_of(map, pfn)
            .filter(|list| list.is_lru())
            .ok_or(Refusal::NotOnLru)?;
        // Whoever dropped the last reference waits for our lock to take the page off the list; it is theirs to free.
        if museum::has(Bug::B35) {
            page.get();
        } else if !page.get_unless_zero() {
            return Err(Refusal::NotOnLru);
        }
        page.flags().edit(PageFlags::empty(), PageFlags::LRU);
        let removed = self.list_mut(on).remove(map, pfn);
        debug_assert!(removed.is_ok(), "the list was looked up under the same lock");
        Ok(())
    }

    /// Stages an isolated page and takes the caller's reference (2.6.17 `move_to_lru`).
    ///
    /// ACTIVE decides for which list it is staged and is cleared until the page arrives there. An unevictable page is
    /// not staged: it goes to its list at once (2.6.28). A page that only the isolation held is freed when staging drains.
    ///
    /// # Errors
    /// [`ListError`] where the page is outside the map, or on a list, the caller's own among them. Nothing changed, and
    /// the reference is still the caller's.
    #[inline]
    pub fn putback(&mut self, map: PageMap<'_>, pfn: Pfn, mut freed: impl FnMut(Pfn)) -> Result<(), ListError> {
        // The caller's reference becomes staging's: 2.6.17 took one and dropped the other.
        if self.stage(map, pfn, &mut freed)? {
            self.release(map, pfn, freed);
        }
        Ok(())
    }

    /// Stages a page that is new to the LRU (Linux: `lru_cache_add`, `lru_cache_add_active`).
    ///
    /// ACTIVE decides which of the two, as in [`putback`](Self::putback). The caller's references stay the caller's.
    ///
    /// # Errors
    /// [`ListError`] where the page is outside the map, or on a list. Nothing changed.
    #[inline]
    pub fn add_new(&mut self, map: PageMap<'_>, pfn: Pfn, mut freed: impl FnMut(Pfn)) -> Result<(), ListError> {
        let page = map.page(pfn).ok_or(ListError::NoSuchFrame(pfn))?;
        page.get();
        let staged = self.stage(map, pfn, &mut freed);
        if staged != Ok(false) {
            self.release(map, pfn, freed);
        }
        staged.map(drop)
    }

    /// Stages a page and takes a reference of the caller's for it; true where the page went to its list at once and the
    /// reference is left over.
    fn stage(&mut self, map: PageMap<'_>, pfn: Pfn, freed: &mut impl FnMut(Pfn)) -> Result<bool, ListError> {
        let page = map.page(pfn).ok_or(ListError::NoSuchFrame(pfn))?;
        let flags = page.flags().load();
        if flags.contains(PageFlags::UNEVICTABLE) {
            return self.arrive(map, pfn, page, LruList::Unevictable).map(|()| true);
        }
        let (stage, onto) = if flags.contains(PageFlags::ACTIVE) {
            (LruList::StagedActive, LruList::Active)
        } else {
            (LruList::StagedInactive, LruList::Inactive)
        };
        self.list_mut(stage).push_back(map, pfn)?;
        page.flags().edit(PageFlags::empty(), PageFlags::ACTIVE);
        if self.list(stage).len() >= Self::STAGING {
            self.drain_one(map, stage, onto, freed);
        }
        Ok(false)
    }

    /// Puts an isolated page back without staging: freed at once where only the isolation held it, else on its list.
    ///
    /// What a system does that does not want successfully moved pages to wait for a drain (today's `folio_put` of the
    /// source). Takes the caller's reference.
    ///
    /// # Errors
    /// [`ListError`] where the page is outside the map, or on a list. Nothing changed, and the reference is still the
    /// caller's.
    #[inline]
    pub fn putback_direct(&mut self, map: PageMap<'_>, pfn: Pfn, freed: impl FnMut(Pfn)) -> Result<(), ListError> {
        let page = map.page(pfn).ok_or(ListError::NoSuchFrame(pfn))?;
        let flags = page.flags().load();
        let onto = if flags.contains(PageFlags::UNEVICTABLE) {
            LruList::Unevictable
        } else if flags.contains(PageFlags::ACTIVE) {
            LruList::Active
        } else {
            LruList::Inactive
        };
        // Listed before the reference is dropped, as in a drain; where it is the last, the page comes off again.
        self.arrive(map, pfn, page, onto)?;
        self.dropped(map, pfn, page.put(), freed);
        Ok(())
    }

    /// Moves every staged page to its list and drops staging's references (Linux: `lru_add_drain`).
    ///
    /// A page that nobody else holds is freed here. Isolation refuses staged pages, so a migration drains first
    /// (`migrate_prep`).
    #[inline]
    pub fn drain(&mut self, map: PageMap<'_>, mut freed: impl FnMut(Pfn)) {
        self.drain_one(map, LruList::StagedActive, LruList::Active, &mut freed);
        self.drain_one(map, LruList::StagedInactive, LruList::Inactive, &mut freed);
    }

    fn drain_one(&mut self, map: PageMap<'_>, stage: LruList, onto: LruList, mut freed: impl FnMut(Pfn)) {
        while let Some(pfn) = self.list_mut(stage).pop_front(map) {
            let Some(page) = map.page(pfn) else { continue };
            let arrived = self.arrive(map, pfn, page, onto);
            debug_assert!(arrived.is_ok(), "a page just taken off a list is on none");
            // Only now: were the reference dropped first, another user's last put could free the page before it is listed.
            self.release(map, pfn, &mut freed);
        }
    }

    // Newest first, as Linux adds to the head; reclaim takes from the tail.
    fn arrive(&mut self, map: PageMap<'_>, pfn: Pfn, page: &Page, onto: LruList) -> Result<(), ListError> {
        let (list, own) = match onto {
            LruList::Active => (&mut self.active, PageFlags::ACTIVE),
            LruList::Unevictable => (&mut self.unevictable, PageFlags::UNEVICTABLE),
            LruList::Inactive | LruList::StagedActive | LruList::StagedInactive => {
                (&mut self.inactive, PageFlags::empty())
            }
        };
        list.push_front(map, pfn)?;
        let others = PageFlags::ACTIVE.union(PageFlags::UNEVICTABLE).difference(own);
        page.flags().edit(PageFlags::LRU.union(own), others);
        Ok(())
    }

    /// Drops one reference, and where it was the last takes the page off its list and hands it to `freed` (Linux: `put_page`).
    #[inline]
    pub fn release(&mut self, map: PageMap<'_>, pfn: Pfn, freed: impl FnMut(Pfn)) {
        let last = map.page(pfn).is_some_and(Page::put);
        self.dropped(map, pfn, last, freed);
    }

    fn dropped(&mut self, map: PageMap<'_>, pfn: Pfn, last: bool, mut freed: impl FnMut(Pfn)) {
        if last {
            self.forget(map, pfn);
            freed(pfn);
        }
    }

    /// Takes a page whose last reference is gone off its LRU list (Linux: `__page_cache_release`); true where it was on one.
    ///
    /// For who dropped the reference without this lock. LRU, ACTIVE and UNEVICTABLE are clear afterwards, listed or not.
    /// A staged page is left alone: staging holds a reference, so its last one cannot be gone.
    #[inline]
    pub fn forget(&mut self, map: PageMap<'_>, pfn: Pfn) -> bool {
        let Some(page) = map.page(pfn).filter(|page| page.count() == 0) else {
            debug_assert!(false, "I5: a page that is still referenced was to be forgotten");
            return false;
        };
        page.flags().edit(
            PageFlags::empty(),
            PageFlags::LRU | PageFlags::ACTIVE | PageFlags::UNEVICTABLE,
        );
        let on = self.list_of(map, pfn).filter(|list| list.is_lru());
        on.is_some_and(|list| self.list_mut(list).remove(map, pfn).is_ok())
    }
}

#[cfg(test)]
mod tests;

//! Swap slots and the swap cache: swap files without end, the first of type 0.

use alloc::collections::BTreeMap;
use core::ops::ControlFlow;

use mm_types::trace::{Event, Observer};
use mm_types::{AnonVmaId, PageFlags, Pfn, Rules, SWAP_TYPE_BITS, SwapEntry, SwapLayout, SwapType, SwapTypeError};

use super::Model;
use super::cache::Caches;
use crate::{Frames, LockedPage, Lru, PageRef, Rmap, SlotChanged};

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SwapSlot {
    /// Entries of page tables that name the slot.
    pub(super) users: u32,
    pub(super) cached: Option<Pfn>,
    pub(super) word: u64,
}

#[derive(Debug, Default)]
pub(super) struct Swap {
    pub(super) slots: BTreeMap<SwapEntry, SwapSlot>,
    next: u64,
    /// The swap file that was activated last: new slots are its.
    ty: SwapType,
}

impl Swap {
    pub(super) fn dup(&mut self, slot: SwapEntry) {
        self.slots.get_mut(&slot).expect("a slot in use").users += 1;
    }

    pub(super) fn free(&mut self, slot: SwapEntry) {
        let at = self.slots.get_mut(&slot).expect("a slot in use");
        at.users -= 1;
        if at.users == 0 && at.cached.is_none() {
            self.slots.remove(&slot);
        }
    }

    pub(super) fn lookup(&self, slot: SwapEntry) -> Option<Pfn> {
        self.slots.get(&slot)?.cached
    }

    pub(super) fn users(&self, slot: SwapEntry) -> u32 {
        self.slots.get(&slot).map_or(0, |at| at.users)
    }

    pub(super) fn word(&self, slot: SwapEntry) -> u64 {
        self.slots[&slot].word
    }

    pub(super) fn store(&mut self, slot: SwapEntry, word: u64) {
        self.slots.get_mut(&slot).expect("a slot in use").word = word;
    }

    pub(super) fn switch(&mut self, slot: SwapEntry, old: Pfn, new: Pfn) -> Result<(), SlotChanged> {
        let at = self
            .slots
            .get_mut(&slot)
            .filter(|at| at.cached == Some(old))
            .ok_or(SlotChanged)?;
        at.cached = Some(new);
        Ok(())
    }
}

/// What became of a look into the swap cache.
pub(super) enum SwappedIn {
    /// Read from its slot, and still locked.
    Locked(LockedPage),
    /// In the cache already.
    Found(PageRef),
    /// In the cache, and frozen by a migration: look again.
    Frozen(Pfn),
    /// The slot was freed meanwhile: its entry is something else by now.
    Gone,
    /// No memory.
    NoMemory,
}

/// The private word of a page that caches a slot.
pub(super) fn word_of(slot: SwapEntry) -> usize {
    let word = slot.offset() << SWAP_TYPE_BITS | u64::from(slot.ty().raw());
    usize::try_from(word).expect("a small model")
}

impl Model {
    /// Returns which swap types its page tables give to swap files.
    #[must_use]
    pub fn swap_layout(&self) -> &'static SwapLayout {
        match self.config.profile.rules {
            Rules::Linux2617 => &SwapLayout::LINUX_2_6_17,
            Rules::Modern => &SwapLayout::MODERN,
        }
    }

    /// Activates a swap file of type `ty` (Linux: `swapon`); pages that go to swap from now on go there.
    ///
    /// # Errors
    /// [`SwapTypeError`] where the type stands for something else.
    pub fn swapon(&self, ty: SwapType) -> Result<(), SwapTypeError> {
        self.swap_layout().activate(ty)?;
        self.caches.lock().swap.ty = ty;
        Ok(())
    }

    /// Finds the page that caches a slot, or reads it in (2.6.17 `read_swap_cache_async`).
    ///
    /// A reference is taken under the cache's lock, before anybody can take the page out of the cache. A page that is read is
    /// locked before anybody can find it: nobody maps or moves one that has no contents yet. Of two who read at once, one wins.
    pub(super) fn find_or_swap_in(&self, slot: SwapEntry, belongs: impl FnOnce() -> (AnonVmaId, usize)) -> SwappedIn {
        let found = |caches: &Caches| match caches.swap.slots.get(&slot) {
            None => Some(SwappedIn::Gone),
            Some(SwapSlot { cached: Some(pfn), .. }) => {
                Some(self.get(*pfn).map_or(SwappedIn::Frozen(*pfn), SwappedIn::Found))
            }
            Some(SwapSlot { cached: None, .. }) => None,
        };
        if let Some(found) = found(&self.caches.lock()) {
            return found;
        }
        let Some(page) = self.allocate_any() else {
            return SwappedIn::NoMemory;
        };
        let (anon_vma, index) = belongs();
        let page = self.try_lock(page).expect("a page that nobody else knows");
        let pfn = page.pfn();
        let lost = {
            let mut caches = self.caches.lock();
            let lost = found(&caches);
            if lost.is_none() {
                self.set_word(pfn, caches.swap.word(slot));
                self.make_anon(pfn, anon_vma, index);
                self.cache_slot(&mut caches, pfn, slot);
            }
            lost
        };
        if let Some(found) = lost {
            let page = self.unlock(page);
            self.put(page);
            return found;
        }
        self.add_to_lru(pfn);
        SwappedIn::Locked(page)
    }

    /// True where a locked page is the one that caches `slot`.
    pub(super) fn caches_slot(&self, page: &LockedPage, slot: SwapEntry) -> bool {
        self.caches.lock().swap.lookup(slot) == Some(page.pfn())
    }

    fn cache_slot(&self, caches: &mut Caches, pfn: Pfn, slot: SwapEntry) {
        caches.swap.slots.get_mut(&slot).expect("a slot in use").cached = Some(pfn);
        caches.counts_of(self, pfn).swap_cached += 1;
        self.page(pfn).get();
        self.page(pfn).set_private(word_of(slot));
        self.page(pfn).flags().edit(PageFlags::SWAPCACHE, PageFlags::empty());
    }

    /// Returns the slot of a page in the swap cache: its private word.
    pub(super) fn slot_of(&self, pfn: Pfn) -> SwapEntry {
        let word = self.page(pfn).private() as u64;
        let ty = SwapType::all().nth(word as usize % usize::from(SwapType::COUNT));
        SwapEntry::new(ty.unwrap_or_default(), word >> SWAP_TYPE_BITS).expect("a word that add_to_swap_cache stored")
    }

    /// Puts a locked page into the swap cache, with a new slot; the cache takes a reference of its own.
    fn add_to_swap_cache(&self, pfn: Pfn) -> SwapEntry {
        let mut caches = self.caches.lock();
        let offset = caches.swap.next;
        caches.swap.next += 1;
        let slot = SwapEntry::new(caches.swap.ty, offset).expect("a small model");
        caches.swap.slots.insert(slot, SwapSlot::default());
        self.cache_slot(&mut caches, pfn, slot);
        slot
    }

    /// Takes a page out of the swap cache; it is dirty from now on, because no slot has its contents. Locked.
    pub(super) fn delete_from_swap_cache(&self, page: &LockedPage) {
        let pfn = page.pfn();
        let slot = self.slot_of(pfn);
        {
            let mut caches = self.caches.lock();
            let at = caches.swap.slots.get_mut(&slot).expect("a slot in use");
            at.cached = None;
            if at.users == 0 {
                caches.swap.slots.remove(&slot);
            }
            caches.counts_of(self, pfn).swap_cached -= 1;
        }
        self.page(pfn).set_private(0);
        self.page(pfn).flags().edit(PageFlags::DIRTY, PageFlags::SWAPCACHE);
        self.put(PageRef::counted(pfn));
    }

    /// Empties a slot's cache where neither an entry names the slot nor maps the page (Linux: `remove_exclusive_swap_page`).
    pub(super) fn drop_unused_swap_cache(&self, slot: SwapEntry) {
        let cached = {
            let caches = self.caches.lock();
            caches.swap.lookup(slot).filter(|_| caches.swap.users(slot) == 0)
        };
        let Some(page) = cached.and_then(|pfn| self.get(pfn)) else {
            return;
        };
        // A page in flight is locked: its migration entries are users that nobody counts.
        let page = match self.try_lock(page) {
            Ok(locked) => {
                // Looked up before it was locked.
                let unused = {
                    let caches = self.caches.lock();
                    caches.swap.lookup(slot) == Some(locked.pfn()) && caches.swap.users(slot) == 0
                };
                if unused && self.page(locked.pfn()).mapcount() == 0 {
                    self.delete_from_swap_cache(&locked);
                }
                self.unlock(locked)
            }
            Err(page) => page,
        };
        self.put(page);
    }

    /// Puts an anonymous page into the swap cache, with a slot of its own; `None` where it is locked, or in it already.
    pub fn swap_cache(&self, pfn: Pfn) -> Option<SwapEntry> {
        let page = self.try_lock(self.get(pfn)?).map_err(|page| self.put(page)).ok()?;
        let anon = self.page(pfn).mapping().is_anon() && !self.page(pfn).flags().load().contains(PageFlags::SWAPCACHE);
        let slot = anon.then(|| self.add_to_swap_cache(pfn));
        if slot.is_some() {
            self.page(pfn).flags().edit(PageFlags::DIRTY, PageFlags::empty());
        }
        let page = self.unlock(page);
        self.put(page);
        slot
    }

    /// Writes an anonymous page to swap and frees its frame, as reclaim does; false where somebody else uses it. A page that is
    /// not freed stays in the swap cache.
    pub fn swap_out(&self, pfn: Pfn) -> bool {
        self.reclaim(pfn, ())
    }

    /// As [`Model::swap_out`], and tells of each entry that it clears.
    pub fn reclaim<O: Observer>(&self, pfn: Pfn, observer: O) -> bool {
        // A staged page has a reference more.
        self.drain();
        self.swap_cache(pfn);
        let Some(Ok(page)) = self
            .get(pfn)
            .map(|page| self.try_lock(page).map_err(|page| self.put(page)))
        else {
            return false;
        };
        if !self.page(pfn).flags().load().contains(PageFlags::SWAPCACHE) {
            let page = self.unlock(page);
            self.put(page);
            return false;
        }
        let slot = self.slot_of(pfn);
        let mut gather = self.gather();
        self.walk(&page, &mut gather, &mut |entry| {
            if let Some(edited) = entry.update(&|pte| pte.install_swap(pfn, slot)) {
                let (site, before) = (entry.site(), edited.before);
                observer.note(|| Event::Zap { site, before });
            }
            ControlFlow::Continue(())
        });
        self.flush(gather);
        self.begin_writeback(pfn);
        self.end_writeback(pfn);
        // Two references: the cache's and ours.
        let free = self.page(pfn).mapcount() == 0 && self.page(pfn).count() == 2;
        if free {
            self.delete_from_swap_cache(&page);
            // Clean after all: the slot that has users has the contents.
            self.page(pfn).flags().edit(PageFlags::empty(), PageFlags::DIRTY);
        }
        let page = self.unlock(page);
        self.put(page);
        free
    }
}

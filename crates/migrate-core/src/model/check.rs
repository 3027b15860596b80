//! The model, as [`Inspect`] shows it: every list, table, slot and translation, for the checks of the invariants.
//!
//! Each visit copies what it shows first, so that no lock is held while a check looks at something else.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Range;

use mm_types::{Invariant, Mapping, MappingId, PageFlags, Pfn, Pte, Site, SpaceId, Vma};

use super::cache::NodeCounts;
use super::rmap::belongs;
use super::swap::word_of;
use super::{Model, POISON};
use crate::UsesPageMap;
use crate::invariants::{
    CacheSlotState, EntryState, FrameState, Held, Inspect, SpaceState, SwapSlotState, TranslationState, Violation,
    check_always, check_at_rest,
};

impl Model {
    /// Checks everything, at a moment when no migration is in progress.
    ///
    /// Each frame in `held` is one reference that the caller has: isolated pages, new pages that were not used, and others. Pins
    /// are counted without being named.
    ///
    /// # Errors
    /// What an operation noticed earlier, or the first thing that does not hold.
    pub fn check(&self, held: &[Pfn]) -> Result<(), Violation> {
        check_at_rest(
            self,
            &Held {
                references: held,
                ..Held::default()
            },
        )
    }

    /// True where nobody holds a lock that is not held across sleeps.
    pub(super) fn spinlocks_are_free(&self) -> bool {
        self.spaces.iter().all(|space| space.table.is_free())
            && self.vmas.is_free()
            && self.caches.is_free()
            && self.lru.is_free()
            && self.tlbs.are_free()
            && self.memory.is_free()
    }

    /// Checks what holds at every moment, a migration in progress or not.
    ///
    /// # Errors
    /// As [`Model::check`].
    pub fn check_always(&self) -> Result<(), Violation> {
        check_always(self)
    }
}

impl Inspect for Model {
    fn frame_numbers(&self) -> Range<u64> {
        let first = self.config.base.raw();
        first..first + self.pages.len() as u64
    }

    fn frame(&self, pfn: Pfn) -> Option<FrameState> {
        let mut frame = FrameState::of(self, pfn)?;
        if frame.flags.contains(PageFlags::PRIVATE) {
            frame.dirty_parts = self.caches.lock().dirty_parts(pfn);
        }
        Some(frame)
    }

    fn spaces(&self, see: &mut dyn FnMut(SpaceState)) {
        let alive = self.vmas.lock().spaces;
        for (space, id) in self.spaces.iter().zip(0..alive) {
            let (rss, swapents) = {
                let table = space.table.lock();
                (table.rss, table.swapents)
            };
            let space = SpaceId::new(id);
            see(SpaceState { space, rss, swapents });
        }
    }

    fn entries(&self, space: SpaceId, see: &mut dyn FnMut(EntryState)) {
        let mut vmas: Vec<Vma> = {
            let vmas = self.vmas.lock();
            vmas.list.iter().filter(|vma| vma.space == space).copied().collect()
        };
        vmas.sort_unstable_by_key(|vma| vma.start);
        let entries: Vec<(Site, Pte)> = {
            let table = self.space(space).table.lock();
            table.iter().map(|(page, pte)| (Site::new(space, page), pte)).collect()
        };
        let mut vmas = vmas.iter().peekable();
        for (site, pte) in entries {
            while vmas.next_if(|vma| vma.end <= site.page).is_some() {}
            let area = vmas.peek().copied().filter(|vma| vma.contains(site.page));
            let page = pte.pfn().and_then(|pfn| self.page_map().page(pfn));
            let belongs = area.zip(page).is_some_and(|(vma, page)| belongs(vma, page.mapping()));
            see(EntryState::of(site, pte, area, belongs, page));
        }
    }

    fn free_frames(&self, see: &mut dyn FnMut(Pfn)) {
        let free: Vec<Pfn> = self.memory.lock().free_frames().collect();
        free.into_iter().for_each(see);
    }

    fn cache_slots(&self, see: &mut dyn FnMut(CacheSlotState)) {
        let slots: Vec<_> = {
            let caches = self.caches.lock();
            let files = caches.files.iter().zip(0..);
            let slots = files.flat_map(|(file, n)| {
                let of_file = file.slots.iter();
                of_file.map(move |(index, (pfn, tags))| (n, *index, *pfn, *tags, file.stored(*index)))
            });
            slots.collect()
        };
        for (n, index, pfn, tags, stored) in slots {
            see(CacheSlotState {
                file: MappingId::new(n),
                index,
                pfn,
                tags: Some(tags),
                stored: Some(stored == Some(self.word(pfn))),
            });
        }
    }

    fn swap_slots(&self, see: &mut dyn FnMut(SwapSlotState)) {
        let slots: Vec<_> = {
            let caches = self.caches.lock();
            let slots = caches.swap.slots.iter().map(|(slot, at)| (*slot, *at));
            slots.collect()
        };
        for (slot, at) in slots {
            see(SwapSlotState {
                slot,
                users: at.users,
                cached: at.cached,
                private: word_of(slot),
                stored: at.cached.map(|pfn| at.word == self.word(pfn)),
            });
        }
    }

    fn translations(&self, see: &mut dyn FnMut(TranslationState)) {
        for (tlb, cpu) in self.tlbs.cpus.iter().zip(0..) {
            let held: Vec<_> = tlb.lock().iter().map(|(site, held)| (*site, *held)).collect();
            for (site, held) in held {
                see(TranslationState {
                    cpu,
                    site,
                    pfn: held.pfn,
                    write: held.write,
                });
            }
        }
    }

    fn pending(&self, see: &mut dyn FnMut(Site)) {
        let pending: Vec<Site> = self.tlbs.pending.lock().keys().copied().collect();
        pending.into_iter().for_each(see);
    }

    fn word(&self, pfn: Pfn) -> Option<u64> {
        Some(Self::word(self, pfn))
    }

    fn free_word(&self) -> Option<u64> {
        Some(POISON)
    }

    fn root(&self, pfn: Pfn) -> Option<u64> {
        let Mapping::Anon(id) = self.page_map().page(pfn)?.mapping() else {
            return None;
        };
        let generation = self.vmas.lock().generation(id);
        Some(u64::from(generation) << u32::BITS | u64::from(id.raw()))
    }

    fn holds_spinlock(&self) -> bool {
        // Where threads are real, it may be another that holds one.
        cfg!(not(shuttle)) && !self.spinlocks_are_free()
    }

    fn recount(&self) -> Result<(), Violation> {
        let caches = self.caches.lock();
        let mut counted: BTreeMap<_, NodeCounts> = BTreeMap::new();
        for (page, pfn) in self.pages.iter().zip((self.config.base.raw()..).map(Pfn::new)) {
            let counts = counted.entry(self.node_of(pfn)).or_default();
            counts.anon += i64::from(page.mapping().is_anon() && page.mapcount() > 0);
            counts.swap_cached += i64::from(page.flags().load().contains(PageFlags::SWAPCACHE));
        }
        for (pfn, _) in caches.files.iter().flat_map(|file| file.slots.values()) {
            let counts = counted.entry(self.node_of(*pfn)).or_default();
            counts.pages += 1;
            counts.dirty += i64::from(self.page(*pfn).flags().load().contains(PageFlags::DIRTY));
        }
        counted.retain(|_, counts| *counts != NodeCounts::default());
        let mut kept = caches.counts.clone();
        kept.retain(|_, counts| *counts != NodeCounts::default());
        if kept == counted {
            return Ok(());
        }
        Err(Violation::new(
            Invariant::DirtyCounted,
            format_args!("pages by node: {kept:?}, but counted {counted:?}"),
        ))
    }

    fn noticed(&self) -> Option<Violation> {
        self.violations.lock().first().cloned()
    }
}

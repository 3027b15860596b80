//! What a backend can be asked, so that it can be counted anew.

use core::ops::Range;

use mm_types::{
    LruList, Mapping, MappingId, Page, PageFlags, Pfn, Pte, Site, SlotTags, SpaceId, SwapEntry, Vma, VmaFlags,
};

use super::Violation;
use crate::UsesPageMap;

/// A frame's descriptor, and the list it is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct FrameState {
    /// References; 0 is free or frozen.
    pub count: u32,
    /// Mappings, as the page counts them.
    pub mapcount: u32,
    /// Pins for direct access; each is a reference too.
    pub pins: u32,
    /// Flags.
    pub flags: PageFlags,
    /// What it belongs to.
    pub mapping: Mapping,
    /// Page number within that.
    pub index: usize,
    /// The private word.
    pub private: usize,
    /// The LRU list or staging array that has it.
    pub list: Option<LruList>,
    /// Migration entries that name it, as the core counts them; `None` where nobody does.
    pub entries_out: Option<u32>,
    /// Which parts of it are dirty, a bit for each; 0 where it has no parts.
    pub dirty_parts: u32,
}

impl FrameState {
    /// Reads a page of a page map; `None` where the map has no such frame.
    pub fn of<K: UsesPageMap>(kernel: &K, pfn: Pfn) -> Option<Self> {
        let map = kernel.page_map();
        let page: &Page = map.page(pfn)?;
        Some(Self {
            count: page.count(),
            mapcount: page.mapcount(),
            pins: page.pins(),
            flags: page.flags().load(),
            mapping: page.mapping(),
            index: page.index(),
            private: page.private(),
            list: kernel.with_lru(|lru| lru.list_of(map, pfn)),
            entries_out: cfg!(debug_assertions).then(|| page.entries_out(0)),
            dirty_parts: 0,
        })
    }

    /// True where the page is active, or will be when staging drains.
    #[must_use]
    pub const fn is_active(&self) -> bool {
        self.flags.contains(PageFlags::ACTIVE) || matches!(self.list, Some(LruList::Active | LruList::StagedActive))
    }

    /// True where one reference is staging's.
    #[must_use]
    pub const fn is_staged(&self) -> bool {
        matches!(self.list, Some(list) if !list.is_lru())
    }
}

/// What a space counts of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpaceState {
    /// The space.
    pub space: SpaceId,
    /// Resident pages, those in flight among them.
    pub rss: i64,
    /// Entries that name swap slots.
    pub swapents: i64,
}

/// An entry that is not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryState {
    /// Where.
    pub site: Site,
    /// What is there.
    pub pte: Pte,
    /// The flags of the area around it; `None` where there is no area.
    pub area: Option<VmaFlags>,
    /// The reverse map of the page that it names leads here.
    pub reached: bool,
}

impl EntryState {
    /// Describes an entry by its area and its page: linear areas are reached by the page's index.
    #[must_use]
    pub fn of(site: Site, pte: Pte, area: Option<&Vma>, belongs: bool, page: Option<&Page>) -> Self {
        let linear = |vma: &Vma, page: &Page| vma.site(page.index()) == Some(site);
        let reached = match (area, page) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(vma), Some(page)) => belongs && (vma.flags.contains(VmaFlags::NONLINEAR) || linear(vma, page)),
        };
        Self {
            site,
            pte,
            area: area.map(|vma| vma.flags),
            reached,
        }
    }
}

/// A slot of the page cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheSlotState {
    /// The file.
    pub file: MappingId,
    /// The page number in it.
    pub index: usize,
    /// The page.
    pub pfn: Pfn,
    /// The slot's tags; `None` where the backend keeps none.
    pub tags: Option<SlotTags>,
    /// Storage has what the page has; `None` where that cannot be told.
    pub stored: Option<bool>,
}

/// A slot of a swap file that is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwapSlotState {
    /// The slot.
    pub slot: SwapEntry,
    /// Entries of page tables that name it, as the slot counts them.
    pub users: u32,
    /// The page that caches it.
    pub cached: Option<Pfn>,
    /// The private word of a page that caches it.
    pub private: usize,
    /// The slot has what the page that caches it has; `None` where that cannot be told.
    pub stored: Option<bool>,
}

/// A translation that a CPU holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TranslationState {
    /// The CPU.
    pub cpu: u32,
    /// Of what.
    pub site: Site,
    /// To where.
    pub pfn: Pfn,
    /// Stores go through it.
    pub write: bool,
}

/// What somebody outside the backend holds while it is counted: one reference for each frame named.
#[derive(Clone, Copy, Debug, Default)]
pub struct Held<'h> {
    /// Isolated pages.
    pub isolated: &'h [Pfn],
    /// Whatever else: new pages that were not used, page locks, lookups. Pins are counted without being named.
    pub references: &'h [Pfn],
}

/// A backend that can be counted anew.
///
/// Nothing changes while it is asked. What a backend does not have (swap, a cache, translations that can be looked at) it need
/// not mention: the provided methods say that there is none.
pub trait Inspect {
    /// Returns the numbers of the frames: the first, and the one after the last. [`Inspect::frame`] says which of them exist.
    fn frame_numbers(&self) -> Range<u64>;

    /// Returns the state of a frame; `None` where there is no such frame, or migration has nothing to do with it (reserved, a page
    /// table).
    fn frame(&self, pfn: Pfn) -> Option<FrameState>;

    /// Visits every space that is alive.
    fn spaces(&self, see: &mut dyn FnMut(SpaceState));

    /// Visits every entry of `space` that is not empty, in the order of addresses.
    fn entries(&self, space: SpaceId, see: &mut dyn FnMut(EntryState));

    /// Visits every frame that the allocator could give out.
    fn free_frames(&self, see: &mut dyn FnMut(Pfn));

    /// Visits every slot of the page cache that has a page.
    fn cache_slots(&self, see: &mut dyn FnMut(CacheSlotState)) {
        let _ = see;
    }

    /// Visits every swap slot in use.
    fn swap_slots(&self, see: &mut dyn FnMut(SwapSlotState)) {
        let _ = see;
    }

    /// Visits every translation that a CPU holds.
    fn translations(&self, see: &mut dyn FnMut(TranslationState)) {
        let _ = see;
    }

    /// Visits every site whose entry was edited and whose translations are not flushed yet.
    fn pending(&self, see: &mut dyn FnMut(Site)) {
        let _ = see;
    }

    /// Returns a number for the root of a page's reverse map that no other root has, nor ever had: one that was freed and is used
    /// again is another. `None` where the page has none that could be freed, or where that cannot be told.
    fn root(&self, pfn: Pfn) -> Option<u64> {
        let _ = pfn;
        None
    }

    /// True where whoever asks holds a lock with which nobody may sleep; false where that cannot be told.
    fn holds_spinlock(&self) -> bool {
        false
    }

    /// Returns what a frame holds, or a word that stands for it; `None` where that cannot be told.
    fn word(&self, pfn: Pfn) -> Option<u64> {
        let _ = pfn;
        None
    }

    /// Returns what a frame holds while it is free; `None` where it is not cleared.
    fn free_word(&self) -> Option<u64> {
        None
    }

    /// Counts again what only the backend counts (Linux: a node's statistics), while no migration is in progress.
    ///
    /// # Errors
    /// What is not as counted.
    fn recount(&self) -> Result<(), Violation> {
        Ok(())
    }

    /// Returns what an operation noticed by itself.
    fn noticed(&self) -> Option<Violation> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says of itself what each must, which is that it has nothing.
    struct Least;

    impl Inspect for Least {
        fn frame_numbers(&self) -> Range<u64> {
            0..0
        }

        fn frame(&self, _: Pfn) -> Option<FrameState> {
            None
        }

        fn spaces(&self, _: &mut dyn FnMut(SpaceState)) {}

        fn entries(&self, _: SpaceId, _: &mut dyn FnMut(EntryState)) {}

        fn free_frames(&self, _: &mut dyn FnMut(Pfn)) {}
    }

    #[test]
    fn who_says_no_more_than_he_must_has_no_caches_no_contents_and_noticed_nothing() {
        Least.cache_slots(&mut |slot| panic!("{slot:?}"));
        Least.swap_slots(&mut |slot| panic!("{slot:?}"));
        Least.translations(&mut |translation| panic!("{translation:?}"));
        Least.pending(&mut |site| panic!("{site:?}"));
        assert_eq!((Least.word(Pfn::new(0)), Least.free_word()), (None, None));
        assert_eq!((Least.root(Pfn::new(0)), Least.holds_spinlock()), (None, false));
        assert_eq!((Least.recount(), Least.noticed()), (Ok(()), None));
    }

    #[test]
    fn a_page_is_active_by_its_flag_or_by_its_list() {
        let of = |flags, list| FrameState {
            flags,
            list,
            ..FrameState::default()
        };
        for (flags, list, active, staged) in [
            (PageFlags::empty(), None, false, false),
            (PageFlags::ACTIVE, None, true, false),
            (PageFlags::empty(), Some(LruList::Inactive), false, false),
            (PageFlags::empty(), Some(LruList::Active), true, false),
            (PageFlags::empty(), Some(LruList::StagedInactive), false, true),
            (PageFlags::empty(), Some(LruList::StagedActive), true, true),
        ] {
            let frame = of(flags, list);
            assert_eq!((frame.is_active(), frame.is_staged()), (active, staged), "{frame:?}");
        }
    }
}

//! The whole state of a backend at one moment, to be compared with another.

use alloc::vec::Vec;
use core::ops::Range;

use mm_types::{Pfn, Pte, Site, SpaceId};

use super::inspect::{CacheSlotState, EntryState, FrameState, Inspect, SpaceState, SwapSlotState, TranslationState};

/// What [`Inspect`] showed. It can be inspected itself, so that a check bites on it as on the backend.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// The first frame's number.
    pub first: u64,
    /// Each frame; `None` where there is none.
    pub frames: Vec<Option<FrameState>>,
    /// What each frame holds.
    pub words: Vec<Option<u64>>,
    /// What stands in a free frame.
    pub free_word: Option<u64>,
    /// Free frames.
    pub free: Vec<Pfn>,
    /// Spaces.
    pub spaces: Vec<SpaceState>,
    /// Entries, by space and address.
    pub entries: Vec<EntryState>,
    /// Slots of the page cache.
    pub cache_slots: Vec<CacheSlotState>,
    /// Slots of swap files.
    pub swap_slots: Vec<SwapSlotState>,
    /// Translations.
    pub translations: Vec<TranslationState>,
    /// Sites edited and not flushed.
    pub pending: Vec<Site>,
}

impl Snapshot {
    /// Writes down what `backend` shows.
    #[must_use]
    pub fn of<B: Inspect + ?Sized>(backend: &B) -> Self {
        let numbers = backend.frame_numbers();
        let mut snapshot = Self {
            first: numbers.start,
            free_word: backend.free_word(),
            ..Self::default()
        };
        for pfn in numbers.map(Pfn::new) {
            snapshot.frames.push(backend.frame(pfn));
            snapshot.words.push(backend.word(pfn));
        }
        backend.free_frames(&mut |pfn| snapshot.free.push(pfn));
        backend.spaces(&mut |space| snapshot.spaces.push(space));
        for space in &snapshot.spaces {
            backend.entries(space.space, &mut |entry| snapshot.entries.push(entry));
        }
        snapshot.entries.sort_by_key(|entry| entry.site);
        backend.cache_slots(&mut |slot| snapshot.cache_slots.push(slot));
        backend.swap_slots(&mut |slot| snapshot.swap_slots.push(slot));
        backend.translations(&mut |held| snapshot.translations.push(held));
        backend.pending(&mut |site| snapshot.pending.push(site));
        snapshot
    }

    fn at(&self, pfn: Pfn) -> Option<usize> {
        usize::try_from(pfn.raw().checked_sub(self.first)?).ok()
    }

    /// Returns the state of a frame, to change it.
    pub fn frame_mut(&mut self, pfn: Pfn) -> Option<&mut FrameState> {
        let at = self.at(pfn)?;
        self.frames.get_mut(at)?.as_mut()
    }

    /// Returns the entry at `site`, an empty one where none is named.
    #[must_use]
    pub fn pte(&self, site: Site) -> Pte {
        self.entry(site).map_or(Pte::None, |entry| entry.pte)
    }

    /// Returns the entry at `site` with its facts.
    #[must_use]
    pub fn entry(&self, site: Site) -> Option<&EntryState> {
        let at = self.entries.binary_search_by_key(&site, |entry| entry.site).ok()?;
        self.entries.get(at)
    }

    /// Returns the entry at `site`, to change it.
    pub fn entry_mut(&mut self, site: Site) -> Option<&mut EntryState> {
        let at = self.entries.binary_search_by_key(&site, |entry| entry.site).ok()?;
        self.entries.get_mut(at)
    }

    /// True where the page or an entry that maps it is dirty.
    #[must_use]
    pub fn is_dirty(&self, pfn: Pfn) -> bool {
        let by_page = self
            .frame(pfn)
            .is_some_and(|frame| frame.flags.contains(mm_types::PageFlags::DIRTY));
        by_page
            || self
                .entries
                .iter()
                .any(|entry| entry.pte.maps(pfn) && entry.pte.dirty())
    }

    /// True where storage surely has what the page has.
    #[must_use]
    pub fn is_stored(&self, pfn: Pfn) -> bool {
        let in_file = self
            .cache_slots
            .iter()
            .any(|slot| slot.pfn == pfn && slot.stored == Some(true));
        let in_swap = |slot: &SwapSlotState| slot.cached == Some(pfn) && slot.stored == Some(true);
        in_file || self.swap_slots.iter().any(in_swap)
    }
}

impl Inspect for Snapshot {
    fn frame_numbers(&self) -> Range<u64> {
        self.first..self.first.saturating_add(self.frames.len() as u64)
    }

    fn frame(&self, pfn: Pfn) -> Option<FrameState> {
        *self.frames.get(self.at(pfn)?)?
    }

    fn spaces(&self, see: &mut dyn FnMut(SpaceState)) {
        self.spaces.iter().copied().for_each(see);
    }

    fn entries(&self, space: SpaceId, see: &mut dyn FnMut(EntryState)) {
        let of_space = self.entries.iter().filter(|entry| entry.site.space == space);
        of_space.copied().for_each(see);
    }

    fn free_frames(&self, see: &mut dyn FnMut(Pfn)) {
        self.free.iter().copied().for_each(see);
    }

    fn cache_slots(&self, see: &mut dyn FnMut(CacheSlotState)) {
        self.cache_slots.iter().copied().for_each(see);
    }

    fn swap_slots(&self, see: &mut dyn FnMut(SwapSlotState)) {
        self.swap_slots.iter().copied().for_each(see);
    }

    fn translations(&self, see: &mut dyn FnMut(TranslationState)) {
        self.translations.iter().copied().for_each(see);
    }

    fn pending(&self, see: &mut dyn FnMut(Site)) {
        self.pending.iter().copied().for_each(see);
    }

    fn word(&self, pfn: Pfn) -> Option<u64> {
        *self.words.get(self.at(pfn)?)?
    }

    fn free_word(&self) -> Option<u64> {
        self.free_word
    }
}

//! The page cache: for a file and an index, the page that holds the contents.
//!
//! A page may fill several neighbouring slots (a large page does); they all change together or not at all (I18). Each
//! slot holds one reference on its page: the caller takes it before [`PageCache::insert`] and drops it after a removal.
//! Tags belong to the slot, not to the page, and so survive a switch to another page.
//!
//! The lock that serialises the operations is the caller's (Linux: `tree_lock`, today the xarray's). Lookups take it
//! too, and then get-unless-zero on what they found: a page whose count is 0 is being switched, look it up again.
//! Nothing here sleeps.

use crate::{MappingId, Pfn};

bitflags::bitflags! {
    /// What is known of a slot (Linux: the tags of the radix tree).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct SlotTags: u8 {
        /// The page is dirty (Linux: `PAGECACHE_TAG_DIRTY`).
        const DIRTY = 1;
        /// The page is being written back (Linux: `PAGECACHE_TAG_WRITEBACK`).
        const WRITEBACK = 2;
        /// A sync that started earlier still has to write the page (Linux: `PAGECACHE_TAG_TOWRITE`, 2.6.36).
        const TOWRITE = 4;
    }
}

/// Storage for one slot of the page cache.
#[derive(Clone, Copy, Debug, Default)]
pub struct CacheSlot {
    mapping: MappingId,
    index: usize,
    pfn: Pfn,
    tags: SlotTags,
}

/// Why the page cache would not do it; nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CacheError {
    /// The slot holds a page already.
    #[error("the slot holds frame {0:?} already")]
    Occupied(Pfn),
    /// There is no storage left.
    #[error("no slot is left")]
    Full,
    /// The slot does not hold the page: somebody truncated, replaced or moved it.
    #[error("the slot does not hold frame {expected:?} but {found:?}")]
    SlotChanged {
        /// The page that should have been there.
        expected: Pfn,
        /// The page that is.
        found: Option<Pfn>,
    },
    /// The page fills another number of slots.
    #[error("the page fills {found} slots, expected {expected}")]
    SlotCount {
        /// What the caller stated.
        expected: u32,
        /// What was there.
        found: u32,
    },
}

/// The slots of every file (Linux: the `page_tree` of each `address_space`).
#[derive(Debug)]
pub struct PageCache<'s> {
    // The first `len` are in use, in the order of mapping and index.
    slots: &'s mut [CacheSlot],
    len: usize,
}

impl<'s> PageCache<'s> {
    /// Makes an empty page cache with room for `slots.len()` slots.
    #[must_use]
    pub const fn new(slots: &'s mut [CacheSlot]) -> Self {
        Self { slots, len: 0 }
    }

    /// Returns how many slots are in use, in all files.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// True where no slot is in use.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn used(&self) -> &[CacheSlot] {
        self.slots.get(..self.len).unwrap_or_default()
    }

    // Where the slot is, or where it would have to be.
    fn position(&self, mapping: MappingId, index: usize) -> Result<usize, usize> {
        self.used()
            .binary_search_by_key(&(mapping, index), |slot| (slot.mapping, slot.index))
    }

    fn slot(&self, mapping: MappingId, index: usize) -> Option<&CacheSlot> {
        self.position(mapping, index).ok().and_then(|at| self.slots.get(at))
    }

    /// Returns the page at `index` of `mapping` (Linux: `radix_tree_lookup`). Takes no reference.
    #[must_use]
    pub fn lookup(&self, mapping: MappingId, index: usize) -> Option<Pfn> {
        self.slot(mapping, index).map(|slot| slot.pfn)
    }

    /// Puts a page into the empty slot at `index` (Linux: `add_to_page_cache`). The slot takes one reference of the caller's.
    ///
    /// # Errors
    /// [`CacheError::Occupied`] or [`CacheError::Full`].
    pub fn insert(&mut self, mapping: MappingId, index: usize, pfn: Pfn) -> Result<(), CacheError> {
        let at = match self.position(mapping, index) {
            Ok(at) => {
                return Err(self
                    .slots
                    .get(at)
                    .map_or(CacheError::Full, |slot| CacheError::Occupied(slot.pfn)));
            }
            Err(at) => at,
        };
        let moved = self.slots.get_mut(at..=self.len).ok_or(CacheError::Full)?;
        moved.rotate_right(1);
        if let Some(slot) = moved.first_mut() {
            *slot = CacheSlot {
                mapping,
                index,
                pfn,
                tags: SlotTags::empty(),
            };
        }
        self.len = self.len.saturating_add(1);
        Ok(())
    }

    /// Empties the slot at `index` and returns its page; the slot's reference is the caller's to drop.
    pub fn remove(&mut self, mapping: MappingId, index: usize) -> Option<Pfn> {
        let at = self.position(mapping, index).ok()?;
        let moved = self.slots.get_mut(at..self.len)?;
        let pfn = moved.first()?.pfn;
        moved.rotate_left(1);
        self.len = self.len.saturating_sub(1);
        Some(pfn)
    }

    // The run of neighbouring slots that hold the page found at `at`.
    fn run(&self, at: usize) -> (usize, usize) {
        let same = |a: &CacheSlot, b: &CacheSlot| {
            (a.mapping, a.pfn) == (b.mapping, b.pfn) && a.index.checked_add(1) == Some(b.index)
        };
        let used = self.used();
        let joined = |pair: &&[CacheSlot]| matches!(pair, [a, b] if same(a, b));
        let before = used
            .get(..=at)
            .unwrap_or_default()
            .windows(2)
            .rev()
            .take_while(joined)
            .count();
        let after = used.get(at..).unwrap_or_default().windows(2).take_while(joined).count();
        (at.saturating_sub(before), at.saturating_add(after).saturating_add(1))
    }

    /// Returns how many slots the page at `index` fills: itself and its neighbours on both sides; 0 where the slot is empty or
    /// holds another page.
    #[must_use]
    pub fn slots_of(&self, mapping: MappingId, index: usize, pfn: Pfn) -> u32 {
        let Some(at) = self
            .position(mapping, index)
            .ok()
            .filter(|_| self.lookup(mapping, index) == Some(pfn))
        else {
            return 0;
        };
        let (first, end) = self.run(at);
        u32::try_from(end.saturating_sub(first)).unwrap_or(u32::MAX)
    }

    /// Replaces `old` by `new` in the slot at `index` and all its neighbours that hold `old` (2.6.17 `migrate_page_move_mapping`).
    ///
    /// All `expected` slots change, or none. Tags stay. The caller holds both page locks, has frozen `old`, and has
    /// given `new` one reference for each slot; those of `old` are the caller's to drop.
    ///
    /// # Errors
    /// [`CacheError::SlotChanged`] where the slot does not hold `old`; [`CacheError::SlotCount`] where it fills another
    /// number of slots than stated.
    pub fn switch(
        &mut self,
        mapping: MappingId,
        index: usize,
        old: Pfn,
        new: Pfn,
        expected: u32,
    ) -> Result<(), CacheError> {
        let found = self.lookup(mapping, index);
        let changed = CacheError::SlotChanged { expected: old, found };
        let at = self
            .position(mapping, index)
            .ok()
            .filter(|_| found == Some(old))
            .ok_or(changed)?;
        let (first, end) = self.run(at);
        let count = u32::try_from(end.saturating_sub(first)).unwrap_or(u32::MAX);
        if count != expected {
            return Err(CacheError::SlotCount { expected, found: count });
        }
        let run = self.slots.get_mut(first..end).ok_or(changed)?;
        run.iter_mut().for_each(|slot| slot.pfn = new);
        Ok(())
    }

    /// Returns the tags of a slot; none where it is empty.
    #[must_use]
    pub fn tags(&self, mapping: MappingId, index: usize) -> SlotTags {
        self.slot(mapping, index).map_or(SlotTags::empty(), |slot| slot.tags)
    }

    /// Sets `set`, then clears `clear`; false where the slot is empty.
    pub fn edit_tags(&mut self, mapping: MappingId, index: usize, set: SlotTags, clear: SlotTags) -> bool {
        let at = self.position(mapping, index).ok();
        at.and_then(|at| self.slots.get_mut(at))
            .map(|slot| slot.tags = slot.tags.union(set).difference(clear))
            .is_some()
    }

    /// Visits the slots of `mapping` from `index` on, in order: index, page, tags.
    pub fn iter_from(&self, mapping: MappingId, index: usize) -> impl Iterator<Item = (usize, Pfn, SlotTags)> {
        let at = self.position(mapping, index).unwrap_or_else(|at| at);
        let rest = self
            .used()
            .iter()
            .skip(at)
            .take_while(move |slot| slot.mapping == mapping);
        rest.map(|slot| (slot.index, slot.pfn, slot.tags))
    }

    /// Visits the slots of `mapping` that have any of `tags`, in order.
    pub fn iter_tagged(&self, mapping: MappingId, tags: SlotTags) -> impl Iterator<Item = (usize, Pfn, SlotTags)> {
        self.iter_from(mapping, 0)
            .filter(move |(_, _, found)| found.intersects(tags))
    }

    /// Empties every slot of `mapping` from `index` on, and tells `removed` each index and page (Linux: `truncate_inode_pages`).
    ///
    /// Each slot's reference is the caller's to drop. Linux locks every page first, which is why a page that migrates is
    /// truncated only afterwards: a caller that needs it visits with [`iter_from`](Self::iter_from) and removes one by one.
    pub fn truncate(&mut self, mapping: MappingId, index: usize, mut removed: impl FnMut(usize, Pfn)) {
        let first = self.position(mapping, index).unwrap_or_else(|at| at);
        let count = self
            .iter_from(mapping, index)
            .inspect(|(index, pfn, _)| removed(*index, *pfn))
            .count();
        if let Some(moved) = self.slots.get_mut(first..self.len) {
            moved.rotate_left(count);
        }
        self.len = self.len.saturating_sub(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::vec::Vec;

    const FILE: MappingId = MappingId::new(1);
    const OTHER: MappingId = MappingId::new(2);

    fn pfn(n: u64) -> Pfn {
        Pfn::new(n)
    }

    #[test]
    fn a_switch_changes_all_slots_of_a_page_or_none() {
        let mut slots = [CacheSlot::default(); 8];
        let mut cache = PageCache::new(&mut slots);
        for index in 4..8 {
            cache.insert(FILE, index, pfn(50)).unwrap();
        }
        cache.insert(FILE, 3, pfn(49)).unwrap();
        cache.insert(FILE, 9, pfn(50)).unwrap();
        cache.insert(OTHER, 8, pfn(50)).unwrap();
        for index in 4..8 {
            assert_eq!(cache.slots_of(FILE, index, pfn(50)), 4, "from {index}");
        }
        let count = CacheError::SlotCount { expected: 3, found: 4 };
        assert_eq!(cache.switch(FILE, 4, pfn(50), pfn(60), 3), Err(count));
        assert!((4..8).all(|index| cache.lookup(FILE, index) == Some(pfn(50))));
        assert_eq!(cache.switch(FILE, 6, pfn(50), pfn(60), 4), Ok(()));
        assert!((4..8).all(|index| cache.lookup(FILE, index) == Some(pfn(60))));
        assert_eq!(cache.lookup(FILE, 3), Some(pfn(49)));
        assert_eq!(cache.lookup(FILE, 9), Some(pfn(50)), "not a neighbour");
        assert_eq!(cache.lookup(OTHER, 8), Some(pfn(50)), "not the file");
    }

    #[test]
    fn the_slot_of_the_next_file_is_no_neighbour() {
        let mut slots = [CacheSlot::default(); 2];
        let mut cache = PageCache::new(&mut slots);
        cache.insert(FILE, 1, pfn(50)).unwrap();
        cache.insert(OTHER, 2, pfn(50)).unwrap();
        assert_eq!(
            (cache.slots_of(FILE, 1, pfn(50)), cache.slots_of(OTHER, 2, pfn(50))),
            (1, 1)
        );
    }

    #[test]
    fn a_switch_of_a_slot_that_changed_says_what_is_there() {
        let mut slots = [CacheSlot::default(); 2];
        let mut cache = PageCache::new(&mut slots);
        let changed = |found| {
            Err(CacheError::SlotChanged {
                expected: pfn(5),
                found,
            })
        };
        assert_eq!(cache.switch(FILE, 0, pfn(5), pfn(6), 1), changed(None));
        cache.insert(FILE, 0, pfn(7)).unwrap();
        assert_eq!(cache.switch(FILE, 0, pfn(5), pfn(6), 1), changed(Some(pfn(7))));
        assert_eq!(cache.lookup(FILE, 0), Some(pfn(7)));
        assert_eq!(cache.slots_of(FILE, 0, pfn(5)), 0);
    }

    #[test]
    fn tags_stay_with_the_slot_through_a_switch_and_go_with_it() {
        let mut slots = [CacheSlot::default(); 2];
        let mut cache = PageCache::new(&mut slots);
        assert!(!cache.edit_tags(FILE, 0, SlotTags::DIRTY, SlotTags::empty()), "no slot");
        cache.insert(FILE, 0, pfn(5)).unwrap();
        cache.insert(FILE, 1, pfn(8)).unwrap();
        assert!(cache.edit_tags(FILE, 0, SlotTags::DIRTY | SlotTags::WRITEBACK, SlotTags::empty()));
        assert!(cache.edit_tags(FILE, 0, SlotTags::empty(), SlotTags::WRITEBACK));
        cache.switch(FILE, 0, pfn(5), pfn(6), 1).unwrap();
        assert_eq!(cache.tags(FILE, 0), SlotTags::DIRTY);
        let dirty: Vec<_> = cache.iter_tagged(FILE, SlotTags::DIRTY).collect();
        assert_eq!(dirty, [(0, pfn(6), SlotTags::DIRTY)]);
        assert_eq!(cache.remove(FILE, 0), Some(pfn(6)));
        cache.insert(FILE, 0, pfn(9)).unwrap();
        assert_eq!(cache.tags(FILE, 0), SlotTags::empty());
    }

    #[test]
    fn a_slot_is_filled_once_and_storage_ends() {
        let mut slots = [CacheSlot::default(); 1];
        let mut cache = PageCache::new(&mut slots);
        cache.insert(FILE, 3, pfn(5)).unwrap();
        assert_eq!(cache.insert(FILE, 3, pfn(6)), Err(CacheError::Occupied(pfn(5))));
        assert_eq!(cache.insert(FILE, 2, pfn(6)), Err(CacheError::Full));
        assert_eq!(cache.insert(FILE, 4, pfn(6)), Err(CacheError::Full));
        assert_eq!(cache.lookup(FILE, 3), Some(pfn(5)));
    }

    #[test]
    fn truncation_takes_the_rest_of_one_file_only() {
        for from in 0..6 {
            let mut slots = [CacheSlot::default(); 8];
            let mut cache = PageCache::new(&mut slots);
            for index in [4, 0, 2] {
                cache.insert(FILE, index, pfn(10 + index as u64)).unwrap();
                cache.insert(OTHER, index, pfn(20 + index as u64)).unwrap();
                if index != 4 {
                    cache.insert(MappingId::new(0), index, pfn(30)).unwrap();
                }
            }
            let mut gone = Vec::new();
            cache.truncate(FILE, from, |index, _| gone.push(index));
            let expected: Vec<_> = [0, 2, 4].into_iter().filter(|index| *index >= from).collect();
            assert_eq!(gone, expected);
            assert_eq!(cache.iter_from(FILE, 0).count(), 3 - gone.len());
            assert_eq!(cache.iter_from(FILE, from).count(), 0);
            assert_eq!(cache.iter_from(OTHER, 0).count(), 3);
            assert_eq!(cache.iter_from(MappingId::new(0), 0).count(), 2);
            assert_eq!(cache.len(), 8 - gone.len());
        }
    }

    // Every sequence of five operations over four slots, against an ordered map.
    #[test]
    fn every_short_sequence_agrees_with_an_ordered_map() {
        for sequence in (0..12usize.pow(5)).step_by(crate::EVERY) {
            let mut slots = [CacheSlot::default(); 3];
            let mut cache = PageCache::new(&mut slots);
            let mut plain = BTreeMap::new();
            let mut rest = sequence;
            for step in 0..5u64 {
                let (n, op) = (rest % 4, rest / 4 % 3);
                rest /= 12;
                let (mapping, index) = (MappingId::new(n as u32 / 2), n % 2);
                let key = (mapping, index);
                match op {
                    0 => {
                        let possible = plain.len() < 3 && !plain.contains_key(&key);
                        assert_eq!(cache.insert(mapping, index, pfn(step)).is_ok(), possible);
                        if possible {
                            plain.insert(key, pfn(step));
                        }
                    }
                    1 => assert_eq!(cache.remove(mapping, index), plain.remove(&key)),
                    _ => {
                        let old = plain.get(&key).copied().unwrap_or(pfn(99));
                        let switched = cache.switch(mapping, index, old, pfn(step), 1);
                        assert_eq!(switched.is_ok(), plain.contains_key(&key));
                        plain.entry(key).and_modify(|held| *held = pfn(step));
                    }
                }
                for n in 0..4 {
                    let key = (MappingId::new(n / 2), n as usize % 2);
                    assert_eq!(cache.lookup(key.0, key.1), plain.get(&key).copied(), "{sequence}");
                }
                assert_eq!(cache.len(), plain.len());
            }
        }
    }

    #[test]
    fn a_cache_is_empty_until_a_slot_is_filled() {
        let mut slots = [CacheSlot::default(); 2];
        let mut cache = PageCache::new(&mut slots);
        assert!(cache.is_empty());
        cache.insert(FILE, 0, pfn(1)).unwrap();
        assert!(!cache.is_empty());
        cache.remove(FILE, 0);
        assert!(cache.is_empty());
    }
}

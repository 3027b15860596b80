//! Swap slots, who uses them, and the pages that cache them.
//!
//! A slot's count is one for each page-table entry that names it, plus one while the swap cache has a page for it. A slot
//! is in use while its count is not 0. A migration moves the cached page and leaves slot and count alone (I28).
//!
//! Which types may be swap files is the layout's to say: migration borrows types from the top, and a swap file there
//! would be taken for pages in flight. The check is made when a file is added, and again for every entry.
//!
//! The lock that serialises the operations is the caller's (Linux: `swap_lock`, and the swapper space's `tree_lock`).
//! Nothing here sleeps.

use crate::{Pfn, SwapEntry, SwapLayout, SwapType, SwapTypeError};

/// Storage for one swap slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SwapSlot {
    count: u32,
    page: Option<Pfn>,
}

impl SwapSlot {
    /// Returns the users, the swap cache among them.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Returns the page-table entries that name the slot: the users without the swap cache (Linux: `page_swapcount`).
    #[must_use]
    pub const fn entries(&self) -> u32 {
        self.count.saturating_sub(self.page.is_some() as u32)
    }

    /// Returns the page that caches it.
    #[must_use]
    pub const fn page(&self) -> Option<Pfn> {
        self.page
    }
}

/// Why swap would not do it; nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SwapError {
    /// The type is no swap file's in this layout.
    #[error(transparent)]
    Type(#[from] SwapTypeError),
    /// The type has a swap file already.
    #[error("swap type {0} has a swap file already")]
    TypeTaken(SwapType),
    /// The type has no swap file, or the offset is beyond its end.
    #[error("swap slot {0} does not exist")]
    NoSuchSlot(SwapEntry),
    /// Nobody uses the slot.
    #[error("swap slot {0} is not in use")]
    NotInUse(SwapEntry),
    /// The slot has as many users as can be counted.
    #[error("swap slot {0} has too many users")]
    TooManyUsers(SwapEntry),
    /// No slot is free, or there is no storage for another swap file.
    #[error("no swap slot is free")]
    Full,
    /// Another page caches the slot (Linux: `EEXIST`).
    #[error("frame {0:?} caches the swap slot already")]
    Cached(Pfn),
    /// The swap cache does not hold the page that was expected there.
    #[error("the swap cache does not hold frame {expected:?} but {found:?}")]
    SlotChanged {
        /// The page that should have been there.
        expected: Pfn,
        /// The page that is.
        found: Option<Pfn>,
    },
}

#[derive(Clone, Copy, Debug)]
struct Area {
    first: usize,
    len: usize,
}

/// All swap files and the swap cache over them (Linux: `swap_info` and `swapper_space`).
#[derive(Debug)]
pub struct SwapCache<'s> {
    layout: SwapLayout,
    areas: [Option<Area>; SwapType::COUNT as usize],
    slots: &'s mut [SwapSlot],
    // Slots that belong to a swap file.
    given: usize,
}

impl<'s> SwapCache<'s> {
    /// Makes a swap cache without swap files, with room for `slots.len()` pages of swap in all. What the slots held is forgotten.
    #[must_use]
    pub fn new(layout: SwapLayout, slots: &'s mut [SwapSlot]) -> Self {
        slots.fill(SwapSlot::default());
        Self {
            layout,
            areas: [None; SwapType::COUNT as usize],
            slots,
            given: 0,
        }
    }

    /// Returns the layout that says which types are swap files.
    #[must_use]
    pub const fn layout(&self) -> &SwapLayout {
        &self.layout
    }

    fn check_type(&self, ty: SwapType) -> Result<(), SwapError> {
        Ok(self.layout.activate(ty)?)
    }

    /// Adds a swap file of `pages` pages as type `ty` (Linux: `swapon`).
    ///
    /// # Errors
    /// [`SwapError::Type`] for a type the layout uses for something else, [`SwapError::TypeTaken`], [`SwapError::Full`].
    pub fn swapon(&mut self, ty: SwapType, pages: usize) -> Result<(), SwapError> {
        self.check_type(ty)?;
        let end = self
            .given
            .checked_add(pages)
            .filter(|end| *end <= self.slots.len())
            .ok_or(SwapError::Full)?;
        let area = self.areas.get_mut(usize::from(ty.raw())).ok_or(SwapError::Full)?;
        if area.is_some() {
            return Err(SwapError::TypeTaken(ty));
        }
        *area = Some(Area {
            first: self.given,
            len: pages,
        });
        self.given = end;
        Ok(())
    }

    fn area(&self, ty: SwapType) -> Option<Area> {
        self.areas.get(usize::from(ty.raw())).copied().flatten()
    }

    fn slot_mut(&mut self, entry: SwapEntry) -> Result<&mut SwapSlot, SwapError> {
        self.check_type(entry.ty())?;
        let area = self.area(entry.ty());
        let offset = usize::try_from(entry.offset()).ok();
        let at = area.zip(offset).filter(|(area, offset)| *offset < area.len);
        let at = at.and_then(|(area, offset)| area.first.checked_add(offset));
        at.and_then(|at| self.slots.get_mut(at))
            .ok_or(SwapError::NoSuchSlot(entry))
    }

    // A slot that is in use: everything but allocation wants one.
    fn used_mut(&mut self, entry: SwapEntry) -> Result<&mut SwapSlot, SwapError> {
        let slot = self.slot_mut(entry)?;
        if slot.count == 0 {
            Err(SwapError::NotInUse(entry))
        } else {
            Ok(slot)
        }
    }

    /// Returns the state of a slot, or `None` where there is no such slot.
    #[must_use]
    pub fn slot(&self, entry: SwapEntry) -> Option<SwapSlot> {
        let area = self.area(entry.ty())?;
        let offset = usize::try_from(entry.offset())
            .ok()
            .filter(|offset| *offset < area.len)?;
        self.slots.get(area.first.checked_add(offset)?).copied()
    }

    /// Takes the first free slot (Linux: `get_swap_page`). Its one user is the caller.
    ///
    /// # Errors
    /// [`SwapError::Full`].
    pub fn alloc(&mut self) -> Result<SwapEntry, SwapError> {
        let free = self.iter().find(|(_, slot)| slot.count == 0).map(|(entry, _)| entry);
        let entry = free.ok_or(SwapError::Full)?;
        self.slot_mut(entry)?.count = 1;
        Ok(entry)
    }

    /// Counts one more user of a slot in use (Linux: `swap_duplicate`).
    ///
    /// # Errors
    /// [`SwapError`]; a migration entry's type among the reasons, because such an entry has no slot.
    pub fn dup(&mut self, entry: SwapEntry) -> Result<(), SwapError> {
        let slot = self.used_mut(entry)?;
        slot.count = slot.count.checked_add(1).ok_or(SwapError::TooManyUsers(entry))?;
        Ok(())
    }

    /// Counts one user less; true where the slot is free now (Linux: `swap_free`).
    ///
    /// The swap cache's own count goes with [`delete`](Self::delete) only.
    ///
    /// # Errors
    /// [`SwapError`] where there is no such slot, or no such user.
    pub fn free(&mut self, entry: SwapEntry) -> Result<bool, SwapError> {
        let slot = self.used_mut(entry)?;
        if slot.entries() == 0 {
            return Err(SwapError::NotInUse(entry));
        }
        slot.count = slot.count.saturating_sub(1);
        Ok(slot.count == 0)
    }

    /// Returns the page that caches a slot (Linux: `lookup_swap_cache`). Takes no reference.
    #[must_use]
    pub fn lookup(&self, entry: SwapEntry) -> Option<Pfn> {
        self.slot(entry)?.page
    }

    /// Makes `pfn` the page that caches a slot in use, and counts the cache as a user (Linux: `add_to_swap_cache`).
    ///
    /// The cache holds one reference on the page, which the caller took for it; it also sets SWAPCACHE and `private`.
    ///
    /// # Errors
    /// [`SwapError`] where the slot is not in use (`ENOENT`) or cached already (`EEXIST`).
    pub fn insert(&mut self, entry: SwapEntry, pfn: Pfn) -> Result<(), SwapError> {
        let slot = self.used_mut(entry)?;
        if let Some(other) = slot.page {
            return Err(SwapError::Cached(other));
        }
        slot.count = slot.count.checked_add(1).ok_or(SwapError::TooManyUsers(entry))?;
        slot.page = Some(pfn);
        Ok(())
    }

    /// Takes `pfn` out of the swap cache; true where the slot is free now (Linux: `delete_from_swap_cache`).
    ///
    /// The cache's reference on the page is the caller's to drop.
    ///
    /// # Errors
    /// [`SwapError::SlotChanged`] where another page or none caches it; else as [`dup`](Self::dup).
    pub fn delete(&mut self, entry: SwapEntry, pfn: Pfn) -> Result<bool, SwapError> {
        let slot = self.used_mut(entry)?;
        if slot.page != Some(pfn) {
            return Err(SwapError::SlotChanged {
                expected: pfn,
                found: slot.page,
            });
        }
        slot.page = None;
        slot.count = slot.count.saturating_sub(1);
        Ok(slot.count == 0)
    }

    /// Replaces the page that caches a slot; slot and count stay. The caller has frozen `old`, and moves the reference.
    ///
    /// # Errors
    /// [`SwapError::SlotChanged`] where another page or none caches it; else as [`dup`](Self::dup).
    pub fn switch(&mut self, entry: SwapEntry, old: Pfn, new: Pfn) -> Result<(), SwapError> {
        let slot = self.used_mut(entry)?;
        if slot.page != Some(old) {
            return Err(SwapError::SlotChanged {
                expected: old,
                found: slot.page,
            });
        }
        slot.page = Some(new);
        Ok(())
    }

    /// Visits every slot of every swap file, by type and offset: to recount users against page tables.
    pub fn iter(&self) -> impl Iterator<Item = (SwapEntry, SwapSlot)> {
        SwapType::all()
            .filter_map(|ty| Some((ty, self.area(ty)?)))
            .flat_map(|(ty, area)| {
                let slots = self.slots.iter().skip(area.first).take(area.len);
                slots
                    .zip(0..)
                    .filter_map(move |(slot, offset)| Some((SwapEntry::new(ty, offset)?, *slot)))
            })
    }

    /// Returns how many slots are in use.
    #[must_use]
    pub fn used(&self) -> usize {
        self.iter().filter(|(_, slot)| slot.count != 0).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: SwapLayout = SwapLayout::LINUX_2_6_17;

    fn ty(n: u8) -> SwapType {
        SwapType::new(n).unwrap()
    }

    fn entry(n: u8, offset: u64) -> SwapEntry {
        SwapEntry::new(ty(n), offset).unwrap()
    }

    fn pfn(n: u64) -> Pfn {
        Pfn::new(n)
    }

    #[test]
    fn no_layout_lets_a_swap_file_have_a_special_type() {
        for layout in [SwapLayout::LINUX_2_6_17_NO_MIGRATION, LAYOUT, SwapLayout::MODERN] {
            for ty in SwapType::all() {
                let mut slots = [SwapSlot::default(); 1];
                let mut swap = SwapCache::new(layout, &mut slots);
                let possible = ty.raw() < layout.swap_files();
                let refused = SwapError::Type(SwapTypeError {
                    ty,
                    swap_files: layout.swap_files(),
                });
                assert_eq!(swap.swapon(ty, 1), if possible { Ok(()) } else { Err(refused) });
                let special = SwapEntry::new(ty, 0).unwrap();
                if !possible {
                    assert_eq!(swap.dup(special), Err(refused), "an entry of such a type has no slot");
                    assert_eq!(swap.free(special), Err(refused));
                    assert_eq!(swap.insert(special, pfn(1)), Err(refused));
                    assert_eq!(swap.lookup(special), None);
                }
            }
        }
    }

    #[test]
    fn slots_of_two_files_do_not_meet_and_end_where_the_file_ends() {
        let mut slots = [SwapSlot::default(); 5];
        let mut swap = SwapCache::new(LAYOUT, &mut slots);
        swap.swapon(ty(3), 2).unwrap();
        swap.swapon(ty(1), 2).unwrap();
        assert_eq!(swap.swapon(ty(3), 1), Err(SwapError::TypeTaken(ty(3))));
        assert_eq!(swap.swapon(ty(4), 2), Err(SwapError::Full));
        assert_eq!(swap.swapon(ty(4), usize::MAX), Err(SwapError::Full));
        for expected in [entry(1, 0), entry(1, 1), entry(3, 0), entry(3, 1)] {
            assert_eq!(swap.alloc(), Ok(expected));
        }
        assert_eq!(swap.alloc(), Err(SwapError::Full));
        assert_eq!(swap.dup(entry(1, 2)), Err(SwapError::NoSuchSlot(entry(1, 2))));
        assert_eq!(swap.dup(entry(0, 0)), Err(SwapError::NoSuchSlot(entry(0, 0))));
        assert_eq!(swap.slot(entry(1, 2)), None);
        assert_eq!(swap.free(entry(1, 1)), Ok(true));
        assert_eq!(swap.alloc(), Ok(entry(1, 1)));
    }

    #[test]
    fn a_page_that_moves_leaves_its_slot_and_the_count_alone() {
        let mut slots = [SwapSlot::default(); 1];
        let mut swap = SwapCache::new(LAYOUT, &mut slots);
        swap.swapon(ty(0), 1).unwrap();
        let slot = swap.alloc().unwrap();
        swap.insert(slot, pfn(7)).unwrap();
        swap.dup(slot).unwrap();
        let before = swap.slot(slot).unwrap();
        assert_eq!((before.count(), before.entries()), (3, 2));
        let changed = |expected| SwapError::SlotChanged {
            expected,
            found: Some(pfn(7)),
        };
        assert_eq!(swap.switch(slot, pfn(8), pfn(9)), Err(changed(pfn(8))));
        assert_eq!(swap.switch(slot, pfn(7), pfn(9)), Ok(()));
        let after = swap.slot(slot).unwrap();
        assert_eq!((after.count(), after.page()), (before.count(), Some(pfn(9))));
        assert_eq!(
            swap.delete(slot, pfn(7)),
            Err(SwapError::SlotChanged {
                expected: pfn(7),
                found: Some(pfn(9))
            })
        );
    }

    #[test]
    fn the_caches_own_count_is_not_for_entries_to_drop() {
        let mut slots = [SwapSlot::default(); 1];
        let mut swap = SwapCache::new(LAYOUT, &mut slots);
        swap.swapon(ty(0), 1).unwrap();
        let slot = swap.alloc().unwrap();
        swap.insert(slot, pfn(7)).unwrap();
        assert_eq!(swap.insert(slot, pfn(8)), Err(SwapError::Cached(pfn(7))));
        assert_eq!(swap.free(slot), Ok(false));
        assert_eq!(swap.free(slot), Err(SwapError::NotInUse(slot)));
        assert_eq!(swap.lookup(slot), Some(pfn(7)));
        assert_eq!(swap.delete(slot, pfn(7)), Ok(true));
        assert_eq!(swap.insert(slot, pfn(7)), Err(SwapError::NotInUse(slot)));
        assert_eq!(swap.used(), 0);
    }

    // Every sequence of six operations on one slot, against a count of users and a page.
    #[test]
    fn every_short_sequence_keeps_the_count_balanced() {
        for sequence in (0..6usize.pow(6)).step_by(crate::EVERY) {
            let mut slots = [SwapSlot::default(); 1];
            let mut swap = SwapCache::new(LAYOUT, &mut slots);
            swap.swapon(ty(0), 1).unwrap();
            let slot = entry(0, 0);
            let (mut entries, mut page) = (0u32, None);
            let mut rest = sequence;
            for _ in 0..6 {
                let used = entries > 0 || page.is_some();
                match rest % 6 {
                    0 => {
                        assert_eq!(swap.alloc().is_ok(), !used);
                        entries += u32::from(!used);
                    }
                    1 => {
                        assert_eq!(swap.dup(slot).is_ok(), used);
                        entries += u32::from(used);
                    }
                    2 => {
                        let expected = (entries > 0).then_some(entries == 1 && page.is_none());
                        assert_eq!(swap.free(slot).ok(), expected);
                        entries = entries.saturating_sub(1);
                    }
                    3 => {
                        assert_eq!(swap.insert(slot, pfn(1)).is_ok(), used && page.is_none());
                        page = page.or(used.then_some(pfn(1)));
                    }
                    4 => {
                        assert_eq!(swap.switch(slot, pfn(1), pfn(2)).is_ok(), page == Some(pfn(1)));
                        page = page.map(|_| pfn(2));
                    }
                    _ => {
                        let there = page == Some(pfn(2));
                        assert_eq!(swap.delete(slot, pfn(2)).ok(), there.then_some(entries == 0));
                        page = page.filter(|_| !there);
                    }
                }
                rest /= 6;
                let state = swap.slot(slot).unwrap();
                assert_eq!((state.entries(), state.page()), (entries, page), "{sequence}");
                assert_eq!(state.count(), entries + u32::from(page.is_some()));
            }
        }
    }

    #[test]
    fn the_slots_in_use_are_counted() {
        let mut slots = [SwapSlot::default(); 4];
        let mut swap = SwapCache::new(LAYOUT, &mut slots);
        swap.swapon(ty(0), 4).unwrap();
        assert_eq!(swap.used(), 0);
        let taken = [(); 2].map(|()| swap.alloc().unwrap());
        assert_eq!(swap.used(), 2);
        swap.free(taken[0]).unwrap();
        assert_eq!(swap.used(), 1);
    }
}

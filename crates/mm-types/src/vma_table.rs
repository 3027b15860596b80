//! The VMAs of all address spaces, in storage the caller lends.
//!
//! Two orders are kept. By address, for the fault side: which VMA covers this page? By age, for the reverse map of
//! files: a VMA is visited after every VMA that was there before it. A walk that restores entries depends on the second.
//! Fork makes the child's VMA before it copies entries into it, from a parent that is older; a walk that visited the child
//! first would find nothing there, then clear the parent, and leave the child an entry that nobody restores.
//!
//! The lock that serialises the operations is the caller's (Linux: `mmap_sem` for one space, `i_mmap_lock` for the
//! walk by file). Nothing here sleeps.

use crate::{AnonVmaId, Backing, MappingId, Site, SpaceId, Vma, VmaError, VmaFlags, VmaId, Vpn};

/// Storage for one VMA.
#[derive(Clone, Copy, Debug, Default)]
pub struct VmaSlot {
    vma: Option<Vma>,
    generation: u32,
    // The nth slot holds which slot has the nth VMA, by address and by age.
    by_address: u32,
    by_age: u32,
}

/// What a removal did to the table, in the order it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VmaChange {
    /// An area became two; the second is new, and belongs on the first's anon-vma, after it.
    Split {
        /// The part that kept the id.
        head: VmaId,
        /// The part with a new id.
        tail: VmaId,
    },
    /// An area is gone; its id names nothing any more.
    Removed(Vma),
}

/// All VMAs (Linux: the `mmap` list and `mm_rb` tree of each `mm_struct`, and `i_mmap` of each file).
#[derive(Debug)]
pub struct VmaTable<'s> {
    slots: &'s mut [VmaSlot],
    len: usize,
}

type Order = fn(&mut VmaSlot) -> &mut u32;
const BY_ADDRESS: Order = |slot| &mut slot.by_address;
const BY_AGE: Order = |slot| &mut slot.by_age;

impl<'s> VmaTable<'s> {
    /// Makes an empty table with room for `slots.len()` VMAs. What the slots held is forgotten.
    #[must_use]
    pub fn new(slots: &'s mut [VmaSlot]) -> Self {
        slots.fill(VmaSlot::default());
        Self { slots, len: 0 }
    }

    /// Returns how many VMAs there are, in all spaces.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// True where there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns how many VMAs still fit.
    #[must_use]
    pub const fn room(&self) -> usize {
        self.slots.len().saturating_sub(self.len)
    }

    fn in_slot(&self, slot: u32) -> Option<&Vma> {
        self.slots.get(usize::try_from(slot).ok()?)?.vma.as_ref()
    }

    fn used(&self) -> &[VmaSlot] {
        self.slots.get(..self.len).unwrap_or_default()
    }

    /// Returns the VMA `id`, or `None` where it is gone.
    #[must_use]
    pub fn get(&self, id: VmaId) -> Option<&Vma> {
        self.in_slot(id.number()).filter(|vma| vma.id == id)
    }

    fn get_mut(&mut self, id: VmaId) -> Result<&mut Vma, VmaError> {
        let slot = usize::try_from(id.number())
            .ok()
            .and_then(|slot| self.slots.get_mut(slot));
        slot.and_then(|slot| slot.vma.as_mut())
            .filter(|vma| vma.id == id)
            .ok_or(VmaError::Gone(id))
    }

    // How many VMAs end at or before `page` of `space`, or are in an earlier space.
    fn position(&self, space: SpaceId, page: Vpn) -> usize {
        self.used().partition_point(|slot| {
            self.in_slot(slot.by_address)
                .is_some_and(|vma| (vma.space, vma.end) <= (space, page))
        })
    }

    fn areas_from(&self, at: usize) -> impl Iterator<Item = &Vma> {
        self.used()
            .iter()
            .skip(at)
            .filter_map(|slot| self.in_slot(slot.by_address))
    }

    /// Returns the VMA that covers `site`.
    #[must_use]
    pub fn find(&self, site: Site) -> Option<&Vma> {
        self.at_or_after(site).filter(|vma| vma.contains(site.page))
    }

    /// Returns the first VMA of the space that ends after `site` (Linux: `find_vma`); it need not cover it.
    #[must_use]
    pub fn at_or_after(&self, site: Site) -> Option<&Vma> {
        let at = self.position(site.space, site.page);
        self.areas_from(at).next().filter(|vma| vma.space == site.space)
    }

    /// Visits the VMAs of `space` by address.
    pub fn space(&self, space: SpaceId) -> impl Iterator<Item = &Vma> {
        let at = self.position(space, Vpn::new(0));
        self.areas_from(at).take_while(move |vma| vma.space == space)
    }

    /// Visits the VMAs of every space that map the file `mapping`, oldest first, nonlinear ones included.
    ///
    /// Which of them map a given page is [`Vma::site`]'s to say.
    pub fn of_file(&self, mapping: MappingId) -> impl Iterator<Item = &Vma> {
        let areas = self.used().iter().filter_map(|slot| self.in_slot(slot.by_age));
        areas.filter(move |vma| vma.backing == Backing::File(mapping))
    }

    /// Adds `vma` as the youngest; returns the id it got (its own `id` is ignored).
    ///
    /// # Errors
    /// [`VmaError`] where it is empty, overlaps another, or there is no slot.
    pub fn insert(&mut self, vma: Vma) -> Result<VmaId, VmaError> {
        vma.check()?;
        let next = self.at_or_after(Site::new(vma.space, vma.start));
        if let Some(other) = next.filter(|other| other.overlaps(vma.space, vma.start, vma.end)) {
            return Err(VmaError::Overlap(other.id));
        }
        self.place(vma, self.len)
    }

    fn place(&mut self, vma: Vma, age: usize) -> Result<VmaId, VmaError> {
        let address = self.position(vma.space, vma.start);
        let free = self.slots.iter_mut().enumerate().find(|(_, slot)| slot.vma.is_none());
        let (number, slot) = free
            .and_then(|(n, slot)| Some((u32::try_from(n).ok()?, slot)))
            .ok_or(VmaError::Full(1))?;
        let id = VmaId::with_generation(number, slot.generation);
        slot.vma = Some(Vma { id, ..vma });
        self.shift_in(BY_ADDRESS, address, number);
        self.shift_in(BY_AGE, age, number);
        self.len = self.len.saturating_add(1);
        Ok(id)
    }

    fn shift_in(&mut self, order: Order, at: usize, number: u32) {
        let mut carried = number;
        for slot in self.slots.iter_mut().take(self.len.saturating_add(1)).skip(at) {
            core::mem::swap(order(slot), &mut carried);
        }
    }

    fn shift_out(&mut self, order: Order, number: u32) {
        let Some(used) = self.slots.get_mut(..self.len) else {
            return;
        };
        let mut carried = 0;
        for slot in used.iter_mut().rev() {
            core::mem::swap(order(slot), &mut carried);
            if carried == number {
                return;
            }
        }
    }

    /// Removes the VMA `id`; the id names nothing afterwards. Returns the VMA.
    ///
    /// # Errors
    /// [`VmaError::Gone`].
    pub fn remove(&mut self, id: VmaId) -> Result<Vma, VmaError> {
        let vma = *self.get_mut(id)?;
        self.shift_out(BY_ADDRESS, id.number());
        self.shift_out(BY_AGE, id.number());
        if let Some(slot) = usize::try_from(id.number())
            .ok()
            .and_then(|slot| self.slots.get_mut(slot))
        {
            slot.vma = None;
            slot.generation = slot.generation.wrapping_add(1);
        }
        self.len = self.len.saturating_sub(1);
        Ok(vma)
    }

    /// Splits the VMA `id` before `page` (Linux: `split_vma`); returns the id of the second part, which is as old as the first.
    ///
    /// # Errors
    /// [`VmaError`] where it is gone, `page` is not inside it or is its first, or there is no slot.
    pub fn split(&mut self, id: VmaId, page: Vpn) -> Result<VmaId, VmaError> {
        let (head, tail) = self.get(id).ok_or(VmaError::Gone(id))?.split(page)?;
        if self.room() == 0 {
            return Err(VmaError::Full(1));
        }
        let age = self
            .used()
            .iter()
            .position(|slot| slot.by_age == id.number())
            .unwrap_or(self.len);
        *self.get_mut(id)? = head;
        self.place(tail, age.saturating_add(1))
    }

    /// Removes the pages `start..end` of `space` from its VMAs, splitting those that stand out (Linux: `do_munmap`).
    ///
    /// Tells `changed` what it did. Entries must be gone before, or be taken care of there.
    ///
    /// # Errors
    /// [`VmaError::Full`] where the splits need more slots than there are. Nothing changed.
    pub fn remove_range(
        &mut self,
        space: SpaceId,
        start: Vpn,
        end: Vpn,
        mut changed: impl FnMut(VmaChange),
    ) -> Result<(), VmaError> {
        if start >= end {
            return Ok(());
        }
        let stands_out = |page| {
            let vma = self.find(Site::new(space, page))?;
            (vma.start != page).then_some(vma.id)
        };
        let splits = [stands_out(start), stands_out(end)].iter().flatten().count();
        if splits > self.room() {
            return Err(VmaError::Full(splits));
        }
        for page in [start, end] {
            // Looked up again: the second split may be in the part that the first one made.
            let Some(head) = self
                .find(Site::new(space, page))
                .filter(|vma| vma.start != page)
                .map(|vma| vma.id)
            else {
                continue;
            };
            let tail = self.split(head, page)?;
            changed(VmaChange::Split { head, tail });
        }
        while let Some(id) = self
            .at_or_after(Site::new(space, start))
            .filter(|vma| vma.start < end)
            .map(|vma| vma.id)
        {
            changed(VmaChange::Removed(self.remove(id)?));
        }
        Ok(())
    }

    /// Replaces the flags of a VMA, as `mprotect`, `mlock` and `remap_file_pages` do.
    ///
    /// # Errors
    /// [`VmaError::Gone`].
    pub fn set_flags(&mut self, id: VmaId, flags: VmaFlags) -> Result<(), VmaError> {
        self.get_mut(id).map(|vma| vma.flags = flags)
    }

    /// Tells a VMA which anon-vma it is linked to (Linux: `anon_vma_prepare`).
    ///
    /// # Errors
    /// [`VmaError::Gone`].
    pub fn set_anon_vma(&mut self, id: VmaId, anon_vma: Option<AnonVmaId>) -> Result<(), VmaError> {
        self.get_mut(id).map(|vma| vma.anon_vma = anon_vma)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    const A: SpaceId = SpaceId::new(1);
    const B: SpaceId = SpaceId::new(0);
    const FILE: MappingId = MappingId::new(9);

    fn area(space: SpaceId, start: u64, end: u64) -> Vma {
        Vma::file(
            space,
            Vpn::new(start),
            Vpn::new(end),
            VmaFlags::READ,
            FILE,
            start as usize + 100,
        )
    }

    fn ranges(table: &VmaTable<'_>, space: SpaceId) -> Vec<(u64, u64)> {
        table.space(space).map(|vma| (vma.start.raw(), vma.end.raw())).collect()
    }

    #[test]
    fn areas_are_found_by_page_and_never_in_the_wrong_space() {
        let mut slots = [VmaSlot::default(); 4];
        let mut table = VmaTable::new(&mut slots);
        let high = table.insert(area(A, 20, 24)).unwrap();
        let low = table.insert(area(A, 10, 14)).unwrap();
        let other = table.insert(area(B, 12, 22)).unwrap();
        let at = |page| Site::new(A, Vpn::new(page));
        assert_eq!(table.find(at(10)).map(|vma| vma.id), Some(low));
        assert_eq!(table.find(at(14)), None);
        assert_eq!(table.at_or_after(at(14)).map(|vma| vma.id), Some(high));
        assert_eq!(table.at_or_after(at(24)), None);
        assert_eq!(table.find(Site::new(B, Vpn::new(14))).map(|vma| vma.id), Some(other));
        assert_eq!(
            table.at_or_after(Site::new(B, Vpn::new(22))),
            None,
            "the next area is another space's"
        );
        assert_eq!(ranges(&table, A), [(10, 14), (20, 24)]);
    }

    #[test]
    fn overlapping_and_surplus_areas_are_refused() {
        let mut slots = [VmaSlot::default(); 2];
        let mut table = VmaTable::new(&mut slots);
        let id = table.insert(area(A, 10, 14)).unwrap();
        for (start, end) in [(9, 11), (10, 14), (11, 12), (13, 15), (0, 99)] {
            assert_eq!(
                table.insert(area(A, start, end)),
                Err(VmaError::Overlap(id)),
                "{start}..{end}"
            );
        }
        assert_eq!(table.insert(area(A, 5, 5)), Err(VmaError::Empty));
        table.insert(area(A, 14, 15)).unwrap();
        assert_eq!(table.insert(area(A, 0, 10)), Err(VmaError::Full(1)));
        assert_eq!(table.len(), 2);
    }

    #[test]
    fn the_id_of_a_removed_area_does_not_name_the_next_one_in_its_slot() {
        let mut slots = [VmaSlot::default(); 1];
        let mut table = VmaTable::new(&mut slots);
        let first = table.insert(area(A, 10, 14)).unwrap();
        table.remove(first).unwrap();
        let second = table.insert(area(A, 10, 14)).unwrap();
        assert_eq!(first.number(), second.number());
        assert_eq!(table.get(first), None);
        assert_eq!(table.remove(first), Err(VmaError::Gone(first)));
        assert_eq!(table.set_flags(first, VmaFlags::LOCKED), Err(VmaError::Gone(first)));
        assert_eq!(table.get(second).map(|vma| vma.flags), Some(VmaFlags::READ));
    }

    #[test]
    fn a_file_is_walked_oldest_first_whatever_the_addresses_and_slots() {
        let mut slots = [VmaSlot::default(); 4];
        let mut table = VmaTable::new(&mut slots);
        let gone = table.insert(area(A, 0, 1)).unwrap();
        let parent = table.insert(area(A, 10, 14)).unwrap();
        table.remove(gone).unwrap();
        // The child's space and slot come before the parent's.
        let child = table.insert(area(B, 10, 14)).unwrap();
        let tail = table.split(parent, Vpn::new(12)).unwrap();
        let order: Vec<_> = table.of_file(FILE).map(|vma| vma.id).collect();
        assert_eq!(order, [parent, tail, child]);
        assert_eq!(table.of_file(MappingId::new(8)).count(), 0);
    }

    #[test]
    fn a_removal_without_room_for_its_splits_changes_nothing() {
        let mut slots = [VmaSlot::default(); 2];
        let mut table = VmaTable::new(&mut slots);
        table.insert(area(A, 10, 20)).unwrap();
        let refused = table.remove_range(A, Vpn::new(12), Vpn::new(14), |change| panic!("{change:?}"));
        assert_eq!(refused, Err(VmaError::Full(2)));
        assert_eq!(ranges(&table, A), [(10, 20)]);
        table.remove_range(A, Vpn::new(12), Vpn::new(30), |_| {}).unwrap();
        assert_eq!(ranges(&table, A), [(10, 12)]);
    }

    // All ranges over three areas, against page sets.
    #[test]
    fn every_removed_range_leaves_exactly_the_other_pages_with_their_indices() {
        // In Miri every third start, with each end.
        const STEP: usize = if cfg!(miri) { 3 } else { 1 };
        let (first, second, third) = (area(A, 2, 5), area(A, 5, 8), area(A, 10, 12));
        for start in (0..14u64).step_by(STEP) {
            for end in 0..14u64 {
                let mut slots = [VmaSlot::default(); 8];
                let mut table = VmaTable::new(&mut slots);
                for vma in [second, first, third, area(B, 0, 14)] {
                    table.insert(vma).unwrap();
                }
                let (mut splits, mut removed) = (0, 0);
                table
                    .remove_range(A, Vpn::new(start), Vpn::new(end), |change| match change {
                        VmaChange::Split { head, tail } => {
                            assert_ne!(head, tail);
                            splits += 1;
                        }
                        VmaChange::Removed(vma) => {
                            assert!(start <= vma.start.raw() && vma.end.raw() <= end, "{vma:?}");
                            removed += 1;
                        }
                    })
                    .unwrap();
                assert_eq!(table.len(), 4 + splits - removed);
                for page in 0..14 {
                    let before = [first, second, third].iter().find_map(|vma| vma.index(Vpn::new(page)));
                    let inside = start <= page && page < end;
                    let found = table
                        .find(Site::new(A, Vpn::new(page)))
                        .and_then(|vma| vma.index(Vpn::new(page)));
                    assert_eq!(found, before.filter(|_| !inside), "page {page} of {start}..{end}");
                }
                assert_eq!(ranges(&table, B), [(0, 14)]);
                assert_eq!(table.of_file(FILE).count(), table.len(), "both orders know every area");
            }
        }
    }

    #[test]
    fn a_vma_is_told_its_anon_vma_and_a_gone_one_is_not() {
        let mut slots = [VmaSlot::default(); 2];
        let mut table = VmaTable::new(&mut slots);
        assert!(table.is_empty());
        let id = table.insert(area(A, 1, 2)).unwrap();
        assert!(!table.is_empty());
        let anon_vma = Some(AnonVmaId::new(3));
        table.set_anon_vma(id, anon_vma).unwrap();
        assert_eq!(table.get(id).unwrap().anon_vma, anon_vma);
        table.remove(id).unwrap();
        assert_eq!(table.set_anon_vma(id, None), Err(VmaError::Gone(id)));
        assert!(table.is_empty());
    }
}

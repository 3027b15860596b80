//! Anon-vmas: for an anonymous page, the VMAs that may map it, in the order they came.
//!
//! The order is a promise: a fork's child is linked after its parent ([`AnonVmas::link_after`]), and a walk visits in
//! that order. Otherwise a walk that restores entries could visit the child, find nothing, let fork copy the parent's
//! entry into it, and restore the parent: the child would keep an entry that nobody ever restores.
//!
//! An anon-vma goes when its last VMA is unlinked *and* nobody pins it. A migration pins it from the first walk to the
//! second, because it removes every mapping in between. An id carries a generation: the id of one that is gone is
//! [`AnonVmaError::Gone`], not somebody else's list (I26).
//!
//! The lock that serialises the operations is the caller's (Linux: `anon_vma->lock`). Nothing here sleeps.

use crate::{AnonVmaId, VmaId};

// An id is a slot and a generation. It has 30 bits, so that a mapping word of 32 bits has room for its own mark.
const SLOT_BITS: u32 = 16;
const SLOT_MASK: u32 = (1 << SLOT_BITS) - 1;
const GENERATION_MASK: u32 = (1 << 14) - 1;

/// Storage for one anon-vma.
#[derive(Clone, Copy, Debug, Default)]
pub struct AnonVma {
    generation: u32,
    in_use: bool,
    pins: u32,
    first: Option<u32>,
    last: Option<u32>,
}

/// Storage for one VMA's place on an anon-vma.
#[derive(Clone, Copy, Debug, Default)]
pub struct AnonVmaLink {
    vma: Option<VmaId>,
    next: Option<u32>,
}

/// Why an anon-vma would not do it; nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnonVmaError {
    /// No anon-vma has this id, any more.
    #[error("anon-vma {0:?} does not exist")]
    Gone(AnonVmaId),
    /// There is no room for another anon-vma, or for another link.
    #[error("no slot is left")]
    Full,
    /// The VMA is linked already.
    #[error("area {0:?} is linked already")]
    Linked(VmaId),
    /// The VMA is not linked: as a parent, it must be before its child.
    #[error("area {0:?} is not linked")]
    NotLinked(VmaId),
    /// A pin was taken away that nobody held.
    #[error("the anon-vma is not pinned")]
    NotPinned,
}

/// All anon-vmas.
#[derive(Debug)]
pub struct AnonVmas<'s> {
    roots: &'s mut [AnonVma],
    links: &'s mut [AnonVmaLink],
}

impl<'s> AnonVmas<'s> {
    /// Makes a table with room for `roots.len()` anon-vmas, at most 2^16, and `links.len()` links in all. What the slots held is forgotten.
    #[must_use]
    pub fn new(roots: &'s mut [AnonVma], links: &'s mut [AnonVmaLink]) -> Self {
        roots.fill(AnonVma::default());
        links.fill(AnonVmaLink::default());
        Self { roots, links }
    }

    fn root(&self, id: AnonVmaId) -> Result<&AnonVma, AnonVmaError> {
        let slot = usize::try_from(id.raw() & SLOT_MASK).ok();
        let root = slot.and_then(|slot| self.roots.get(slot));
        root.filter(|root| root.in_use && root.generation == id.raw() >> SLOT_BITS)
            .ok_or(AnonVmaError::Gone(id))
    }

    fn root_mut(&mut self, id: AnonVmaId) -> Result<&mut AnonVma, AnonVmaError> {
        let slot = usize::try_from(id.raw() & SLOT_MASK).ok();
        let root = slot.and_then(|slot| self.roots.get_mut(slot));
        root.filter(|root| root.in_use && root.generation == id.raw() >> SLOT_BITS)
            .ok_or(AnonVmaError::Gone(id))
    }

    fn link_at(&self, at: u32) -> Option<&AnonVmaLink> {
        self.links.get(usize::try_from(at).ok()?)
    }

    fn link_at_mut(&mut self, at: u32) -> Option<&mut AnonVmaLink> {
        self.links.get_mut(usize::try_from(at).ok()?)
    }

    fn free_link(&self) -> Result<u32, AnonVmaError> {
        let free = self.links.iter().position(|link| link.vma.is_none());
        free.and_then(|at| u32::try_from(at).ok()).ok_or(AnonVmaError::Full)
    }

    /// Makes an anon-vma with `vma` as its first area (Linux: `anon_vma_prepare`).
    ///
    /// # Errors
    /// [`AnonVmaError::Full`].
    pub fn create(&mut self, vma: VmaId) -> Result<AnonVmaId, AnonVmaError> {
        self.free_link()?;
        let roots = self.roots.iter_mut().zip(0..=SLOT_MASK);
        let (root, slot) = roots
            .into_iter()
            .find(|(root, _)| !root.in_use)
            .ok_or(AnonVmaError::Full)?;
        *root = AnonVma {
            generation: root.generation,
            in_use: true,
            ..AnonVma::default()
        };
        let id = AnonVmaId::new(root.generation << SLOT_BITS | slot);
        self.append(id, vma)?;
        Ok(id)
    }

    fn append(&mut self, id: AnonVmaId, vma: VmaId) -> Result<(), AnonVmaError> {
        let at = self.free_link()?;
        let root = self.root_mut(id)?;
        let before = root.last.replace(at);
        root.first = root.first.or(Some(at));
        if let Some(link) = before.and_then(|before| self.link_at_mut(before)) {
            link.next = Some(at);
        }
        if let Some(link) = self.link_at_mut(at) {
            *link = AnonVmaLink {
                vma: Some(vma),
                next: None,
            };
        }
        Ok(())
    }

    /// Links an area that no linked area is the parent of (Linux: a neighbour's anon-vma is used again).
    ///
    /// # Errors
    /// [`AnonVmaError`] where the anon-vma is gone, the area is linked, or there is no slot.
    pub fn link(&mut self, id: AnonVmaId, vma: VmaId) -> Result<(), AnonVmaError> {
        if self.iter(id)?.any(|linked| linked == vma) {
            return Err(AnonVmaError::Linked(vma));
        }
        self.append(id, vma)
    }

    /// Links an area made from `parent`, by fork, split or move, after it (Linux: `__anon_vma_link`, to the tail since 2.6.18).
    ///
    /// Called before the first entry is copied or moved to the child.
    ///
    /// # Errors
    /// [`AnonVmaError::NotLinked`] where the parent is not there; else as [`link`](Self::link).
    pub fn link_after(&mut self, id: AnonVmaId, parent: VmaId, child: VmaId) -> Result<(), AnonVmaError> {
        if !self.iter(id)?.any(|linked| linked == parent) {
            return Err(AnonVmaError::NotLinked(parent));
        }
        self.link(id, child)
    }

    /// Unlinks an area; true where that ended the anon-vma: it had no other area and no pin (Linux: `anon_vma_unlink`).
    ///
    /// # Errors
    /// [`AnonVmaError`] where the anon-vma is gone, or the area is not linked.
    pub fn unlink(&mut self, id: AnonVmaId, vma: VmaId) -> Result<bool, AnonVmaError> {
        let mut before = None;
        let mut at = self.root(id)?.first;
        while let Some(here) = at {
            let link = *self.link_at(here).ok_or(AnonVmaError::NotLinked(vma))?;
            if link.vma != Some(vma) {
                before = at;
                at = link.next;
                continue;
            }
            match before.and_then(|before| self.link_at_mut(before)) {
                Some(before) => before.next = link.next,
                None => self.root_mut(id)?.first = link.next,
            }
            if let Some(link) = self.link_at_mut(here) {
                *link = AnonVmaLink::default();
            }
            let root = self.root_mut(id)?;
            if root.last == at {
                root.last = before;
            }
            return Ok(root.end_if_unused());
        }
        Err(AnonVmaError::NotLinked(vma))
    }

    /// Keeps the anon-vma alive without an area, until [`unpin`](Self::unpin) (Linux: `get_anon_vma`, 2.6.33).
    ///
    /// # Errors
    /// [`AnonVmaError::Gone`].
    pub fn pin(&mut self, id: AnonVmaId) -> Result<(), AnonVmaError> {
        let root = self.root_mut(id)?;
        root.pins = root.pins.checked_add(1).ok_or(AnonVmaError::Full)?;
        Ok(())
    }

    /// Takes one pin away; true where that ended the anon-vma (Linux: `put_anon_vma`).
    ///
    /// # Errors
    /// [`AnonVmaError`] where it is gone, or not pinned.
    pub fn unpin(&mut self, id: AnonVmaId) -> Result<bool, AnonVmaError> {
        let root = self.root_mut(id)?;
        root.pins = root.pins.checked_sub(1).ok_or(AnonVmaError::NotPinned)?;
        Ok(root.end_if_unused())
    }

    /// Visits the areas in the order they were linked.
    ///
    /// # Errors
    /// [`AnonVmaError::Gone`]: the caller kept an id beyond the last area, without a pin.
    pub fn iter(&self, id: AnonVmaId) -> Result<impl Iterator<Item = VmaId> + '_, AnonVmaError> {
        let mut at = self.root(id)?.first;
        Ok(core::iter::from_fn(move || {
            let link = self.link_at(at?)?;
            at = link.next;
            link.vma
        }))
    }

    /// Returns how many anon-vmas there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.roots.iter().filter(|root| root.in_use).count()
    }

    /// True where there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl AnonVma {
    fn end_if_unused(&mut self) -> bool {
        let unused = self.first.is_none() && self.pins == 0;
        if unused {
            self.in_use = false;
            self.generation = self.generation.wrapping_add(1) & GENERATION_MASK;
        }
        unused
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Mapping;
    use std::vec::Vec;

    fn vma(n: u32) -> VmaId {
        VmaId::new(n)
    }

    fn order(table: &AnonVmas<'_>, id: AnonVmaId) -> Vec<u32> {
        table.iter(id).unwrap().map(VmaId::number).collect()
    }

    #[test]
    fn children_come_after_their_parents_whichever_link_was_free() {
        let (mut roots, mut links) = ([AnonVma::default(); 2], [AnonVmaLink::default(); 4]);
        let mut table = AnonVmas::new(&mut roots, &mut links);
        let id = table.create(vma(1)).unwrap();
        table.link(id, vma(2)).unwrap();
        assert_eq!(table.unlink(id, vma(1)), Ok(false));
        // The first link is free again, and the child still comes last.
        table.link_after(id, vma(2), vma(3)).unwrap();
        table.link_after(id, vma(3), vma(4)).unwrap();
        assert_eq!(order(&table, id), [2, 3, 4]);
    }

    #[test]
    fn a_child_is_not_linked_before_its_parent_and_nobody_twice() {
        let (mut roots, mut links) = ([AnonVma::default(); 1], [AnonVmaLink::default(); 3]);
        let mut table = AnonVmas::new(&mut roots, &mut links);
        let id = table.create(vma(1)).unwrap();
        assert_eq!(
            table.link_after(id, vma(2), vma(3)),
            Err(AnonVmaError::NotLinked(vma(2)))
        );
        assert_eq!(table.link(id, vma(1)), Err(AnonVmaError::Linked(vma(1))));
        assert_eq!(table.link_after(id, vma(1), vma(1)), Err(AnonVmaError::Linked(vma(1))));
        assert_eq!(table.unlink(id, vma(7)), Err(AnonVmaError::NotLinked(vma(7))));
        assert_eq!(order(&table, id), [1]);
    }

    #[test]
    fn a_full_table_says_so_and_keeps_nothing_half_made() {
        let (mut roots, mut links) = ([AnonVma::default(); 2], [AnonVmaLink::default(); 1]);
        let mut table = AnonVmas::new(&mut roots, &mut links);
        let id = table.create(vma(1)).unwrap();
        assert_eq!(table.create(vma(2)), Err(AnonVmaError::Full));
        assert_eq!(table.link(id, vma(2)), Err(AnonVmaError::Full));
        assert_eq!(table.len(), 1);
        assert_eq!(table.unlink(id, vma(1)), Ok(true));
        assert!(table.create(vma(2)).is_ok());
    }

    #[test]
    fn the_id_of_an_ended_anon_vma_does_not_reach_the_next_one() {
        let (mut roots, mut links) = ([AnonVma::default(); 1], [AnonVmaLink::default(); 1]);
        let mut table = AnonVmas::new(&mut roots, &mut links);
        let first = table.create(vma(1)).unwrap();
        assert_eq!(table.unlink(first, vma(1)), Ok(true));
        let second = table.create(vma(2)).unwrap();
        assert_ne!(first, second);
        assert!(matches!(table.iter(first).map(Iterator::count), Err(AnonVmaError::Gone(gone)) if gone == first));
        assert_eq!(table.pin(first), Err(AnonVmaError::Gone(first)));
        assert_eq!(order(&table, second), [2]);
    }

    #[test]
    fn a_pin_keeps_it_through_the_loss_of_its_last_area() {
        let (mut roots, mut links) = ([AnonVma::default(); 1], [AnonVmaLink::default(); 1]);
        let mut table = AnonVmas::new(&mut roots, &mut links);
        let id = table.create(vma(1)).unwrap();
        table.pin(id).unwrap();
        assert_eq!(table.unlink(id, vma(1)), Ok(false));
        assert_eq!(order(&table, id), [0; 0]);
        assert_eq!(table.create(vma(2)), Err(AnonVmaError::Full), "the slot is not reused");
        assert_eq!(table.unpin(id), Ok(true));
        assert_eq!(table.unpin(id), Err(AnonVmaError::Gone(id)));
        let next = table.create(vma(2)).unwrap();
        assert_eq!(table.unpin(next), Err(AnonVmaError::NotPinned));
    }

    #[test]
    fn every_generation_has_an_id_of_its_own_that_survives_a_mapping_word() {
        let (mut roots, mut links) = ([AnonVma::default(); 1], [AnonVmaLink::default(); 1]);
        let mut table = AnonVmas::new(&mut roots, &mut links);
        let page = crate::Page::new();
        let mut seen = std::collections::BTreeSet::new();
        for _ in (0..=GENERATION_MASK).step_by(crate::EVERY) {
            let id = table.create(vma(1)).unwrap();
            assert!(id.raw() < 1 << 30);
            assert!(seen.insert(id.raw()), "{id:?} was given before");
            page.set_mapping(Mapping::Anon(id));
            assert_eq!(page.mapping(), Mapping::Anon(id));
            table.unlink(id, vma(1)).unwrap();
        }
    }

    // Every sequence of six links and unlinks of three areas, against a plain vector.
    #[test]
    fn every_short_sequence_keeps_the_order_of_a_plain_list() {
        for sequence in (0..6usize.pow(6)).step_by(crate::EVERY) {
            let (mut roots, mut links) = ([AnonVma::default(); 1], [AnonVmaLink::default(); 4]);
            let mut table = AnonVmas::new(&mut roots, &mut links);
            let id = table.create(vma(9)).unwrap();
            let mut plain = std::vec![9];
            let mut rest = sequence;
            for _ in 0..6 {
                let (n, add) = ((rest % 3) as u32, rest / 3 % 2 == 0);
                rest /= 6;
                let there = plain.contains(&n);
                if add {
                    assert_eq!(table.link_after(id, vma(9), vma(n)).is_ok(), !there);
                    if !there {
                        plain.push(n);
                    }
                } else {
                    assert_eq!(table.unlink(id, vma(n)).is_ok(), there);
                    plain.retain(|linked| *linked != n);
                }
                assert_eq!(order(&table, id), plain, "{sequence}");
            }
        }
    }

    #[test]
    fn those_in_use_are_counted_and_an_ended_one_is_not() {
        let (mut roots, mut links) = ([AnonVma::default(); 3], [AnonVmaLink::default(); 3]);
        let mut table = AnonVmas::new(&mut roots, &mut links);
        assert!(table.is_empty());
        let ids = [1, 2].map(|n| table.create(vma(n)).unwrap());
        assert_eq!((table.len(), table.is_empty()), (2, false));
        for (id, n) in ids.into_iter().zip([1, 2]) {
            assert_eq!(table.unlink(id, vma(n)), Ok(true));
        }
        assert_eq!((table.len(), table.is_empty()), (0, true));
    }
}

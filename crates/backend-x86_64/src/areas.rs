//! The areas of all spaces and their anon-vmas, under one lock: who may map a page, and what may be done at an address.
//!
//! Chosen over a list of mappings for each page: it costs nothing per mapping, fork adds one link for each area and not one for
//! each page, and `mremap` keeps a page's index, so that the page need not be touched (Linux chose the same in 2.6.7).

use mm_types::{
    AnonVma, AnonVmaId, AnonVmaLink, AnonVmas, Backing, Mapping, Site, SpaceId, Vma, VmaId, VmaSlot, VmaTable, Vpn,
};

use crate::MapError;
use crate::tables::LastLeaf;

/// The areas and their anon-vmas.
///
/// # Invariants
/// There are at least as many links and anon-vmas as areas, and an area is on one anon-vma at most, the one that it names: so
/// linking an area never fails for want of room.
#[derive(Debug)]
pub(crate) struct Areas<'s> {
    pub(crate) vmas: VmaTable<'s>,
    anon: AnonVmas<'s>,
    pub(crate) last_leaf: LastLeaf,
}

impl<'s> Areas<'s> {
    pub(crate) fn new(vmas: &'s mut [VmaSlot], roots: &'s mut [AnonVma], links: &'s mut [AnonVmaLink]) -> Self {
        // INVARIANT: areas beyond the number of links or anon-vmas are not used.
        let room = vmas.len().min(roots.len()).min(links.len());
        let (vmas, _) = vmas.split_at_mut_checked(room).unwrap_or_default();
        Self {
            vmas: VmaTable::new(vmas),
            anon: AnonVmas::new(roots, links),
            last_leaf: LastLeaf::default(),
        }
    }

    pub(crate) fn find(&self, site: Site) -> Result<Vma, MapError> {
        self.vmas.find(site).copied().ok_or(MapError::NoArea(site))
    }

    /// Returns the anon-vma of the area at `site`, made where there is none yet (Linux: `anon_vma_prepare`).
    pub(crate) fn anon_vma(&mut self, site: Site) -> Result<AnonVmaId, MapError> {
        let vma = self.find(site)?;
        if let Some(id) = vma.anon_vma {
            return Ok(id);
        }
        let id = self.anon.create(vma.id).map_err(|_| MapError::AnonVmasFull)?;
        self.vmas.set_anon_vma(vma.id, Some(id))?;
        Ok(id)
    }

    /// Adds an area made from `parent`, by fork or by a move, after it in every walk.
    pub(crate) fn add_after(&mut self, parent: VmaId, vma: Vma) -> Result<VmaId, MapError> {
        let id = self.vmas.insert(vma)?;
        self.link_after(parent, id);
        Ok(id)
    }

    /// Puts an area on the anon-vma `id`, last; for one that maps a page of another area.
    pub(crate) fn join(&mut self, vma: VmaId, id: AnonVmaId) -> Result<(), MapError> {
        self.anon.link(id, vma).map_err(|_| MapError::AnonVmasFull)?;
        self.vmas.set_anon_vma(vma, Some(id))?;
        Ok(())
    }

    fn link_after(&mut self, parent: VmaId, child: VmaId) {
        let anon_vma = self.vmas.get(child).and_then(|vma| vma.anon_vma);
        if let Some(id) = anon_vma {
            let linked = self.anon.link_after(id, parent, child);
            debug_assert!(linked.is_ok(), "there is a link for every area: {linked:?}");
        }
    }

    /// Makes `start` and `end` edges of areas.
    ///
    /// # Errors
    /// [`MapError::Area`] where there is no slot for the parts; an edge may have been made.
    pub(crate) fn cut(&mut self, space: SpaceId, start: Vpn, end: Vpn) -> Result<(), MapError> {
        for edge in [start, end] {
            let inside = self.vmas.find(Site::new(space, edge)).filter(|vma| vma.start != edge);
            let Some(head) = inside.map(|vma| vma.id) else { continue };
            let tail = self.vmas.split(head, edge)?;
            self.link_after(head, tail);
        }
        Ok(())
    }

    /// Returns the first area that ends after `from` and begins before `end`.
    pub(crate) fn next(&self, space: SpaceId, from: Vpn, end: Vpn) -> Option<Vma> {
        self.vmas
            .at_or_after(Site::new(space, from))
            .filter(|vma| vma.start < end)
            .copied()
    }

    /// Removes an area and takes it off its anon-vma.
    pub(crate) fn remove(&mut self, id: VmaId) {
        let Ok(vma) = self.vmas.remove(id) else { return };
        if let Some(anon) = vma.anon_vma {
            let unlinked = self.anon.unlink(anon, id);
            debug_assert!(unlinked.is_ok(), "an area is on the list it names: {unlinked:?}");
        }
    }

    /// Visits the places where a page of `mapping` with `index` may be mapped, parents before children, until `visit` says stop.
    pub(crate) fn visit(&self, mapping: Mapping, index: usize, mut visit: impl FnMut(Site, &Vma) -> bool) {
        let mut at = |vma: &Vma| vma.site(index).is_none_or(|site| visit(site, vma));
        match mapping {
            Mapping::None => {}
            Mapping::Anon(id) => {
                // Gone: the last area was removed, and its entries before it.
                let Ok(areas) = self.anon.iter(id) else { return };
                for vma in areas.filter_map(|id| self.vmas.get(id)) {
                    if !at(vma) {
                        return;
                    }
                }
            }
            Mapping::File(file) => {
                for vma in self.vmas.of_file(file).filter(|vma| vma.backing == Backing::File(file)) {
                    if !at(vma) {
                        return;
                    }
                }
            }
        }
    }
}

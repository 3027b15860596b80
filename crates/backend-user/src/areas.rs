//! The areas of all spaces, and which spaces there are: what finds a page's entries, and what says what an access may do.
//!
//! Behind one lock (Linux: `mmap_sem`, `anon_vma->lock` and `i_mmap_lock`). Walks and faults share it; whoever adds, removes or
//! changes areas has it alone. Taken before a table lock, after a page lock.

use std::sync::Arc;

use mm_types::{
    AnonVma, AnonVmaLink, AnonVmas, Mapping, MappingId, PageMap, Pfn, Site, SpaceId, Vma, VmaChange, VmaError,
    VmaFlags, VmaSlot, VmaTable, Vpn,
};

use crate::error::MachineError;
use crate::file::Cached;
use crate::lent::Lent;
use crate::mm::Mm;

/// Room for reverse-map roots and their links.
#[derive(Debug)]
pub(crate) struct AnonRoom {
    roots: Vec<AnonVma>,
    links: Vec<AnonVmaLink>,
}

/// Areas, reverse-map roots, spaces and files.
#[derive(Debug)]
pub(crate) struct Areas {
    pub(crate) vmas: Lent<VmaTable<'static>, Vec<VmaSlot>>,
    pub(crate) anon: Lent<AnonVmas<'static>, AnonRoom>,
    spaces: Vec<Option<Arc<Mm>>>,
    pub(crate) files: Vec<Option<Arc<Cached>>>,
}

impl Areas {
    /// Makes room for `areas` areas.
    pub(crate) fn new(areas: usize) -> Self {
        let room = AnonRoom {
            roots: vec![AnonVma::default(); areas.min(1 << 16)],
            links: vec![AnonVmaLink::default(); areas],
        };
        Self {
            vmas: Lent::new(vec![VmaSlot::default(); areas], |slots| VmaTable::new(slots)),
            anon: Lent::new(room, |room| AnonVmas::new(&mut room.roots, &mut room.links)),
            spaces: Vec::new(),
            files: Vec::new(),
        }
    }

    /// Returns the number that the next space gets.
    pub(crate) fn next_space(&self) -> SpaceId {
        SpaceId::new(u32::try_from(self.spaces.len()).unwrap_or(u32::MAX))
    }

    /// Enters a space under the number it was made with.
    pub(crate) fn enter(&mut self, space: Arc<Mm>) {
        debug_assert_eq!(space.id, self.next_space());
        self.spaces.push(Some(space));
    }

    /// Forgets a space; its number is not used again.
    pub(crate) fn leave(&mut self, id: SpaceId) {
        if let Some(slot) = self.spaces.get_mut(id.raw() as usize) {
            *slot = None;
        }
    }

    /// Returns a space.
    pub(crate) fn space(&self, id: SpaceId) -> Option<&Arc<Mm>> {
        self.spaces.get(id.raw() as usize)?.as_ref()
    }

    /// Visits all spaces.
    pub(crate) fn spaces(&self) -> impl Iterator<Item = &Arc<Mm>> {
        self.spaces.iter().flatten()
    }

    /// Returns a file.
    pub(crate) fn file(&self, id: MappingId) -> Option<&Arc<Cached>> {
        self.files.get(id.raw() as usize)?.as_ref()
    }

    /// Enters a new area, with a reverse-map root for the anonymous pages it may get.
    pub(crate) fn add(&mut self, vma: Vma) -> Result<Vma, MachineError> {
        let id = self.vmas.insert(vma)?;
        match self.anon.create(id) {
            Ok(root) => self.vmas.set_anon_vma(id, Some(root))?,
            Err(e) => {
                self.vmas.remove(id)?;
                return Err(e.into());
            }
        }
        self.vmas.get(id).copied().ok_or(VmaError::Gone(id).into())
    }

    /// Enters an area made from `parent`, after it in every walk: a restorer that has passed the parent by must still find the
    /// child's copy (B1).
    pub(crate) fn add_child(&mut self, parent: &Vma, child: Vma) -> Result<Vma, MachineError> {
        let id = self.vmas.insert(Vma {
            anon_vma: parent.anon_vma,
            ..child
        })?;
        if let Some(root) = parent.anon_vma {
            if let Err(e) = self.anon.link_after(root, parent.id, id) {
                self.vmas.remove(id)?;
                return Err(e.into());
            }
        }
        self.vmas.get(id).copied().ok_or(VmaError::Gone(id).into())
    }

    /// Removes the pages `start..end` of a space from its areas. The entries are gone already.
    pub(crate) fn remove(&mut self, space: SpaceId, start: Vpn, end: Vpn) -> Result<(), MachineError> {
        let mut changes = Vec::new();
        self.vmas
            .remove_range(space, start, end, |change| changes.push(change))?;
        for change in changes {
            match change {
                VmaChange::Split { head, tail } => self.linked_tail(head, tail)?,
                VmaChange::Removed(vma) => {
                    if let Some(root) = vma.anon_vma {
                        let _ = self.anon.unlink(root, vma.id);
                    }
                }
            }
        }
        Ok(())
    }

    /// Changes the flags of the pages `start..end`, which one area covers, splitting it where they are a part.
    pub(crate) fn set_flags(
        &mut self,
        space: SpaceId,
        start: Vpn,
        end: Vpn,
        flags: impl Fn(VmaFlags) -> VmaFlags,
    ) -> Result<(), MachineError> {
        for page in [start, end] {
            let inside = self.vmas.find(Site::new(space, page)).filter(|vma| vma.start != page);
            if let Some(head) = inside.map(|vma| vma.id) {
                let tail = self.vmas.split(head, page)?;
                self.linked_tail(head, tail)?;
            }
        }
        let within = |vma: &&Vma| vma.start < end && start < vma.end;
        let ids: Vec<_> = self
            .vmas
            .space(space)
            .filter(within)
            .map(|vma| (vma.id, vma.flags))
            .collect();
        for (id, old) in ids {
            self.vmas.set_flags(id, flags(old))?;
        }
        Ok(())
    }

    fn linked_tail(&mut self, head: mm_types::VmaId, tail: mm_types::VmaId) -> Result<(), MachineError> {
        let root = self.vmas.get(tail).and_then(|vma| vma.anon_vma);
        root.map_or(Ok(()), |root| {
            self.anon.link_after(root, head, tail).map_err(Into::into)
        })
    }

    /// Visits every place where the page may be mapped, or named in a migration entry, parents before children.
    pub(crate) fn sites(&self, map: PageMap<'_>, pfn: Pfn, mut visit: impl FnMut(&Arc<Mm>, &Vma, usize) -> bool) {
        let Some(page) = map.page(pfn) else { return };
        let index = page.index();
        let mut at = |vma: &Vma| {
            let site = vma.site(index);
            let space = site.and_then(|site| Some((self.space(site.space)?, site.page.raw() as usize)));
            space.is_none_or(|(space, page)| visit(space, vma, page))
        };
        match page.mapping() {
            Mapping::None => {}
            // The root is gone when the last area is: then there is no entry either.
            Mapping::Anon(root) => {
                let Ok(areas) = self.anon.iter(root) else { return };
                let _ = areas.filter_map(|id| self.vmas.get(id)).all(&mut at);
            }
            Mapping::File(file) => {
                let _ = self.vmas.of_file(file).all(&mut at);
            }
        }
    }
}

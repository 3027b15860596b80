//! The VMAs of all spaces, in one list.

use alloc::vec::Vec;

use mm_types::{AnonVmaId, Pte, Site, SpaceId, Vma, VmaError, VmaFlags, Vpn};

use super::Model;
use super::table::Space;

/// All VMAs, in the order a walk visits them: one made from another (by fork, by a cut, by a move) comes after it, or a walk
/// could pass the new one by before its entries are there and leave them behind (B1).
#[derive(Debug, Default)]
pub(super) struct Vmas {
    pub(super) list: Vec<Vma>,
    pub(super) spaces: u32,
    next_anon: u32,
}

impl Vmas {
    /// Makes `start` and `end` edges of VMAs; what is cut off stands right after what it was cut from.
    pub(super) fn cut(&mut self, space: SpaceId, start: Vpn, end: Vpn) {
        for edge in [start, end] {
            let inside = |vma: &Vma| vma.space == space && vma.contains(edge);
            let Some(at) = self.list.iter().position(inside) else {
                continue;
            };
            if let Ok((first, second)) = self.list[at].split(edge) {
                self.list[at] = first;
                self.list.insert(at + 1, second);
            }
        }
    }

    /// The VMAs of a range that was cut out.
    pub(super) fn range(&mut self, space: SpaceId, start: Vpn, end: Vpn) -> impl Iterator<Item = &mut Vma> {
        self.list.iter_mut().filter(move |vma| vma.overlaps(space, start, end))
    }
}

impl Model {
    /// Makes an address space.
    ///
    /// # Panics
    /// Where the model has no room for one more.
    pub fn new_space(&self) -> SpaceId {
        let mut vmas = self.vmas.lock();
        let id = vmas.spaces;
        assert!((id as usize) < self.spaces.len(), "the model was made for fewer spaces");
        vmas.spaces += 1;
        SpaceId::new(id)
    }

    pub(super) fn space(&self, space: SpaceId) -> &Space {
        &self.spaces[usize::try_from(space.raw()).expect("a small model")]
    }

    /// Returns how many pages of a space are resident, pages in flight among them, and how many are in swap.
    #[must_use]
    pub fn rss(&self, space: SpaceId) -> (i64, i64) {
        let table = self.space(space).table.lock();
        (table.rss, table.swapents)
    }

    /// Maps a VMA (Linux: `mmap`). [`VmaFlags`] are its own; private areas that may be written want MAYWRITE.
    ///
    /// # Errors
    /// [`VmaError::Overlap`], and as [`Vma::check`].
    pub fn mmap(&self, vma: Vma) -> Result<(), VmaError> {
        vma.check()?;
        let _mmap = self.space(vma.space).mmap.write();
        let mut vmas = self.vmas.lock();
        match vmas
            .list
            .iter()
            .find(|other| other.overlaps(vma.space, vma.start, vma.end))
        {
            Some(other) => Err(VmaError::Overlap(other.id)),
            None => {
                vmas.list.push(vma);
                Ok(())
            }
        }
    }

    /// Maps `pages` pages of anonymous private memory at `site`, writable.
    ///
    /// # Panics
    /// Where something is mapped there.
    pub fn map_anon(&self, site: Site, pages: u64) {
        let flags = VmaFlags::READ | VmaFlags::WRITE | VmaFlags::MAYREAD | VmaFlags::MAYWRITE;
        let end = Vpn::new(site.page.raw() + pages);
        self.mmap(Vma::anon(site.space, site.page, end, flags))
            .expect("an empty range");
    }

    /// Maps `pages` pages of a file from `index` on at `site`, writable; privately (copy-on-write) or shared.
    ///
    /// # Panics
    /// Where something is mapped there.
    pub fn map_file(&self, site: Site, pages: u64, file: mm_types::MappingId, index: usize, shared: bool) {
        let mut flags = VmaFlags::READ | VmaFlags::WRITE | VmaFlags::MAYREAD | VmaFlags::MAYWRITE;
        flags.set(VmaFlags::SHARED, shared);
        let end = Vpn::new(site.page.raw() + pages);
        self.mmap(Vma::file(site.space, site.page, end, flags, file, index))
            .expect("an empty range");
    }

    /// Returns the VMA around `site`.
    #[must_use]
    pub fn vma_at(&self, site: Site) -> Option<Vma> {
        self.vmas
            .lock()
            .list
            .iter()
            .find(|vma| vma.space == site.space && vma.contains(site.page))
            .copied()
    }

    /// The anon-vma of the VMA at `site`, made where there is none yet (Linux: `anon_vma_prepare`).
    pub(super) fn anon_vma(&self, site: Site) -> AnonVmaId {
        let mut vmas = self.vmas.lock();
        let next = AnonVmaId::new(vmas.next_anon);
        let vma = vmas
            .list
            .iter_mut()
            .find(|vma| vma.space == site.space && vma.contains(site.page));
        let vma = vma.expect("a fault has a VMA");
        let id = *vma.anon_vma.get_or_insert(next);
        if id == next {
            vmas.next_anon += 1;
        }
        id
    }

    /// The entries of a VMA that are not empty.
    pub(super) fn entries_of(&self, vma: &Vma) -> Vec<(Site, Pte)> {
        let table = self.space(vma.space).table.lock();
        table
            .range(vma.start, vma.end)
            .map(|(page, pte)| (Site::new(vma.space, page), pte))
            .collect()
    }
}

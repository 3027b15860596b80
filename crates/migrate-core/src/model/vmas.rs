//! The VMAs of all spaces, in one list.

use alloc::vec::Vec;

use mm_types::{AnonVmaId, Mapping, Page, PageFlags, Pte, Site, SpaceId, Vma, VmaError, VmaFlags, Vpn};

use super::Model;
use super::table::Space;

/// All VMAs, in the order a walk visits them: one made from another (by fork, by a cut, by a move) comes after it, or a walk
/// could pass the new one by before its entries are there and leave them behind (B1).
#[derive(Debug, Default)]
pub(super) struct Vmas {
    pub(super) list: Vec<Vma>,
    pub(super) spaces: u32,
    roots: Vec<Root>,
}

/// An anon-vma; its number is its place. What is freed is used again as what it was, an anon-vma (Linux: a slab that is
/// `SLAB_TYPESAFE_BY_RCU`): who kept the number walks somebody else's areas, and nothing traps.
///
/// Who is linked is read off the list of areas and who holds it off the page locks, where `mm_types::AnonVmas`, the kernels' own,
/// is told of both: a link or a pin that was forgotten there has nothing here to be forgotten with it.
#[derive(Clone, Copy, Debug, Default)]
struct Root {
    in_use: bool,
    /// How often it was freed.
    generation: u32,
}

impl Vmas {
    /// Frees each anon-vma that no VMA has (any more), unless it is `held`.
    pub(super) fn free_roots(&mut self, held: impl Fn(AnonVmaId) -> bool) {
        for (root, id) in self.roots.iter_mut().zip((0..).map(AnonVmaId::new)) {
            let is_linked = || self.list.iter().any(|vma| vma.anon_vma == Some(id));
            if root.in_use && !is_linked() && !held(id) {
                root.in_use = false;
                root.generation += 1;
            }
        }
    }

    /// Makes an anon-vma, of one that was freed where there is one.
    fn new_root(&mut self) -> AnonVmaId {
        let free = self.roots.iter().position(|root| !root.in_use);
        let at = free.unwrap_or_else(|| {
            self.roots.push(Root::default());
            self.roots.len() - 1
        });
        self.roots[at].in_use = true;
        AnonVmaId::new(u32::try_from(at).expect("a small model"))
    }

    /// How often the anon-vma was freed; 0 for one that never was there.
    pub(super) fn generation(&self, id: AnonVmaId) -> u32 {
        let at = usize::try_from(id.raw()).ok();
        at.and_then(|at| self.roots.get(at)).map_or(0, |root| root.generation)
    }

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
        let around = |vma: &Vma| vma.space == site.space && vma.contains(site.page);
        let at = vmas.list.iter().position(around).expect("a fault has a VMA");
        if let Some(id) = vmas.list[at].anon_vma {
            return id;
        }
        // Some may have been held when their last VMA went, and not be any more.
        vmas.free_roots(|id| self.is_held(id));
        let id = vmas.new_root();
        vmas.list[at].anon_vma = Some(id);
        id
    }

    /// True where a locked page leads to the anon-vma. Nothing else of a page does that keeps it: a page that is mapped has a VMA,
    /// and of one that is neither mapped nor locked nobody looks for mappings.
    pub(super) fn is_held(&self, id: AnonVmaId) -> bool {
        let leads =
            |page: &Page| page.mapping() == Mapping::Anon(id) && page.flags().load().contains(PageFlags::LOCKED);
        self.pages.iter().any(leads)
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

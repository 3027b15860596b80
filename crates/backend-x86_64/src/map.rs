//! How pages come to be mapped: areas, frames of the caller's, sharing, and what a fault installs.
//!
//! Each runs under the areas' lock from its look to its edit; its flush comes after the lock, before it returns.

use migrate_core::{Entry, Frames, PageRef, UsesPageMap};
use mm_types::trace::{Event, Observer};
use mm_types::{Mapping, PageFlags, Pfn, PhysAddr, Pte, PteFlags, Site, SpaceId, VirtAddr, Vma, VmaFlags, VmaId};

use crate::areas::Areas;
use crate::gather::Gather;
use crate::held::Around;
use crate::ops::after;
use crate::paging::frame_at;
use crate::{Barrier, HwEntry, Kernel, MapError, Platform};

impl<P: Platform> Kernel<'_, P> {
    /// Maps an area of anonymous memory (Linux: `mmap`); its pages come by faults.
    ///
    /// Private areas that may ever be written have [`VmaFlags::MAYWRITE`], shared ones [`VmaFlags::SHARED`].
    ///
    /// # Errors
    /// [`MapError`] where the range is not one of user pages, overlaps another area, or there is no room.
    pub fn map_area(&self, space: SpaceId, start: VirtAddr, pages: u64, flags: VmaFlags) -> Result<VmaId, MapError> {
        let (start, end) = self.paging().user_range(start, pages)?;
        self.space(space)?;
        Ok(self.areas().lock().vmas.insert(Vma::anon(space, start, end, flags))?)
    }

    /// Returns the area around `site`.
    ///
    /// # Errors
    /// [`MapError::NoArea`].
    pub fn area(&self, site: Site) -> Result<Vma, MapError> {
        self.areas().lock().find(site)
    }

    /// Maps a frame of the caller's at an address inside an area, where nothing is mapped (Linux: `vm_insert_page`).
    ///
    /// The caller holds a reference to the page, and keeps it; the mapping takes its own. A page that belongs to nothing becomes
    /// anonymous memory of the area, up to date; one that does must be found again at this place: it is of the same anon-vma and
    /// index. The entry allows no more than the area. The page is not put on the LRU.
    ///
    /// # Errors
    /// [`MapError`] for a misaligned, unknown or free frame, a misaligned or foreign address, a place that is not empty, a page
    /// of something else, and where memory ran out. Nothing is mapped then.
    pub fn map_frame(
        &self,
        space: SpaceId,
        at: VirtAddr,
        frame: PhysAddr,
        flags: PteFlags,
    ) -> Result<HwEntry, MapError> {
        let pfn = frame_at(frame)?;
        let site = Site::new(space, self.paging().user_page(at)?);
        self.space(space)?;
        let out_of_range = MapError::FrameOutOfRange(pfn);
        HwEntry::table(pfn).ok_or(out_of_range)?;
        self.words(pfn).ok_or(out_of_range)?;
        let page = self.map().page(pfn).ok_or(out_of_range)?;
        if page.flags().load().contains(PageFlags::RESERVED) {
            return Err(MapError::NotOfThisArea(pfn));
        }
        let held = PageRef::get(self.map(), pfn).ok_or(MapError::FrameFree(pfn))?;
        let mut gather = Gather::new();
        let mapped = (|| {
            let mut areas = self.areas().lock();
            let vma = areas.find(site)?;
            let mapping = Mapping::Anon(areas.anon_vma(site)?);
            let index = vma.index(site.page).ok_or(MapError::NoArea(site))?;
            match page.mapping() {
                Mapping::None => {
                    page.set_index(index);
                    page.set_mapping(mapping);
                    page.flags().edit(PageFlags::UPTODATE, PageFlags::empty());
                }
                its if its == mapping && page.index() == index => {}
                _ => return Err(MapError::NotOfThisArea(pfn)),
            }
            let mut allowed = flags;
            allowed.set(
                PteFlags::WRITE,
                flags.contains(PteFlags::WRITE) && vma.flags.contains(VmaFlags::WRITE),
            );
            let to = Pte::present(pfn, allowed);
            self.with_new_entry(&areas, site, Around::from(&vma), &mut gather, |entry| {
                match entry.update(&|pte| pte.is_none().then_some(to)) {
                    Some(_) => Ok(entry.word()),
                    None => Err(MapError::AlreadyMapped {
                        site,
                        found: entry.word().decode(),
                    }),
                }
            })?
        })();
        self.flush_gather(&mut gather, Barrier::Map);
        self.put(held);
        mapped
    }

    /// Maps the page at `from` at the empty page `to` too, in an area of one page; both share it from now on: a store by one is
    /// seen by the other, and a fork does not part them.
    ///
    /// # Errors
    /// [`MapError`] where nothing present is at `from`, the page is copy-on-write with somebody, something is at `to`, or memory
    /// or room ran out.
    pub fn share(&self, from: Site, space: SpaceId, to: VirtAddr, write: bool) -> Result<(), MapError> {
        let (start, end) = self.paging().user_range(to, 1)?;
        self.space(space)?;
        let mut gather = Gather::new();
        let pfn = {
            let mut areas = self.areas().lock();
            let taken = self.share_in(&mut areas, from, &mut gather);
            taken.and_then(|pfn| {
                let page = self.map().page(pfn).ok_or(MapError::FrameOutOfRange(pfn))?;
                let Mapping::Anon(anon_vma) = page.mapping() else {
                    return Err(MapError::NotOfThisArea(pfn));
                };
                let mut flags = VmaFlags::READ | VmaFlags::SHARED | VmaFlags::MAYREAD | VmaFlags::MAYWRITE;
                flags.set(VmaFlags::WRITE, write);
                let vma = Vma {
                    pgoff: page.index(),
                    ..Vma::anon(space, start, end, flags)
                };
                let id = areas.vmas.insert(vma)?;
                let joined = areas.join(id, anon_vma);
                if joined.is_err() {
                    areas.remove(id);
                }
                joined.map(|()| pfn)
            })
        };
        self.flush_gather(&mut gather, Barrier::Map);
        let mut flags = PteFlags::empty();
        flags.set(PteFlags::WRITE, write);
        let frame = pfn.and_then(|pfn| pfn.addr().ok_or(MapError::FrameOutOfRange(pfn)))?;
        self.map_frame(space, to, frame, flags).map(drop)
    }

    // Makes the area of one page around `from` a shared one; returns the page.
    fn share_in(&self, areas: &mut Areas<'_>, from: Site, gather: &mut Gather) -> Result<Pfn, MapError> {
        let vma = areas.find(from)?;
        let is_shared = vma.flags.contains(VmaFlags::SHARED);
        // Nobody has it alone any more.
        let edited = self.with_entry(areas, from, Around::from(&vma), gather, |entry| {
            entry.update(&|pte| match pte {
                Pte::Present { pfn, flags } => {
                    let alone = self.map().page(pfn).is_some_and(|page| page.mapcount() == 1);
                    (is_shared || alone).then(|| Pte::present(pfn, flags.difference(PteFlags::EXCLUSIVE)))
                }
                _ => None,
            })
        })?;
        let pfn = edited.flatten().and_then(|edited| edited.after.pfn());
        let pfn = pfn.ok_or(MapError::NotMapped(from))?;
        areas.cut(from.space, from.page, after(from.page))?;
        let vma = areas.find(from)?;
        areas.vmas.set_flags(vma.id, vma.flags | VmaFlags::SHARED)?;
        Ok(pfn)
    }

    /// Stores `to` at `site` where the area is still `vma` and `same` accepts what is there; flushes before it returns. False
    /// where something changed: the access runs again.
    pub(crate) fn install<O: Observer>(
        &self,
        vma: &Vma,
        site: Site,
        same: impl Fn(Pte) -> bool,
        to: impl Fn(Pte) -> Pte,
        observer: O,
    ) -> Result<bool, MapError> {
        let mut gather = Gather::new();
        let edited = {
            let areas = self.areas().lock();
            if !unchanged(&areas, vma) {
                return Ok(false);
            }
            self.with_new_entry(&areas, site, Around::from(vma), &mut gather, |entry| {
                entry.update(&|now| same(now).then(|| to(now)))
            })?
        };
        if let Some(edited) = edited {
            observer.note(|| Event::Map {
                site,
                after: edited.after,
            });
        }
        self.flush_gather(&mut gather, Barrier::Fault);
        Ok(edited.is_some())
    }

    /// Puts a page on the LRU, staged, with a reference of the staging's own (Linux: `lru_cache_add`).
    ///
    /// The caller holds a reference, and keeps it.
    pub fn add_to_lru(&self, page: &PageRef) {
        let map = self.map();
        let added = self.with_lru(|lru| lru.add_new(map, page.pfn(), |pfn| self.free_frame(pfn)));
        debug_assert!(added.is_ok(), "{added:?}");
    }

    /// Takes a frame from the platform, with one reference; `None` where there is none.
    pub fn allocate(&self) -> Option<PageRef> {
        let pfn = self.platform().take(crate::Purpose::Page)?;
        let page = PageRef::allocate(self.map(), pfn);
        debug_assert!(page.is_some(), "the allocator gave a frame in use: {pfn:?}");
        page
    }
}

fn unchanged(areas: &Areas<'_>, vma: &Vma) -> bool {
    // An anon-vma may have been made by another fault.
    areas.vmas.get(vma.id).is_some_and(|now| {
        let now = Vma {
            anon_vma: vma.anon_vma.or(now.anon_vma),
            ..*now
        };
        now == Vma {
            anon_vma: now.anon_vma,
            ..*vma
        }
    })
}

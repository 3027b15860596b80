//! What the machine shows to the checks of the invariants ([`migrate_core::invariants`]), at a moment when no migration is in
//! progress.

use core::ops::Range;

use migrate_core::UsesPageMap;
use migrate_core::invariants::{CacheSlotState, EntryState, FrameState, Held, Inspect, SpaceState, check_at_rest};
use mm_types::{Pfn, Site, SpaceId, Vma};

use crate::kernel::{Kernel, lock};

impl Kernel {
    /// Recounts references, mappings, residence, lists, free frames and slots, and compares every range with its table; the first
    /// difference, in words.
    pub(crate) fn recount(&self) -> Result<(), String> {
        check_at_rest(self, &Held::default()).map_err(|violation| violation.to_string())?;
        let areas = self.areas();
        areas.spaces().try_for_each(|mm| mm.lock().check(mm))
    }

    /// True where the reverse map of `pfn` leads to `site`.
    fn reaches(&self, pfn: Pfn, site: Site) -> bool {
        let mut reached = false;
        self.areas().sites(self.page_map(), pfn, |mm, _, page| {
            reached |= mm.site(page) == site;
            !reached
        });
        reached
    }
}

impl Inspect for Kernel {
    fn frame_numbers(&self) -> Range<u64> {
        0..self.page_map().len() as u64
    }

    fn frame(&self, pfn: Pfn) -> Option<FrameState> {
        FrameState::of(self, pfn)
    }

    fn spaces(&self, see: &mut dyn FnMut(SpaceState)) {
        let spaces: Vec<_> = self.areas().spaces().cloned().collect();
        for mm in spaces {
            let rss = i64::try_from(mm.lock().resident).unwrap_or(i64::MAX);
            see(SpaceState {
                space: mm.id,
                rss,
                swapents: 0,
            });
        }
    }

    fn entries(&self, space: SpaceId, see: &mut dyn FnMut(EntryState)) {
        let Some(mm) = self.areas().space(space).cloned() else {
            return;
        };
        for page in 0..mm.pages() {
            let (site, pte) = (mm.site(page), mm.read(page));
            if pte.is_none() {
                continue;
            }
            let area = self.areas().vmas.find(site).map(|vma: &Vma| vma.flags);
            see(EntryState {
                site,
                pte,
                area,
                reached: pte.pfn().is_none_or(|pfn| self.reaches(pfn, site)),
            });
        }
    }

    fn free_frames(&self, see: &mut dyn FnMut(Pfn)) {
        self.each_free(see);
    }

    fn cache_slots(&self, see: &mut dyn FnMut(CacheSlotState)) {
        let files: Vec<_> = self.areas().files.iter().flatten().map(|file| file.id).collect();
        let slots: Vec<_> = {
            let cache = lock(&self.cache);
            let of_file = |file| cache.iter_from(file, 0).map(move |slot| (file, slot));
            files.into_iter().flat_map(of_file).collect()
        };
        for (file, (index, pfn, _)) in slots {
            see(CacheSlotState {
                file,
                index,
                pfn,
                // Nobody here looks for dirty pages by tag, and what a real file has is the system's business.
                tags: None,
                stored: None,
            });
        }
    }
}

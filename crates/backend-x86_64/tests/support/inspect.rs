//! What the host's kernel shows to the checks of the invariants.

use core::ops::Range;

use migrate_core::UsesPageMap;
use migrate_core::invariants::{EntryState, FrameState, Inspect, SpaceState, TranslationState};
use mm_types::{Mapping, PageFlags, Pfn, Site, SpaceId, Vpn};

use super::{BASE, Host};

/// A kernel, its frames, and the first pages of each of its spaces.
pub(crate) struct Shown<'k, 's> {
    pub(crate) kernel: &'k Host<'s>,
    pub(crate) spaces: u32,
    /// Pages of each space that are looked at, from 0.
    pub(crate) pages: u64,
}

impl Inspect for Shown<'_, '_> {
    fn frame_numbers(&self) -> Range<u64> {
        BASE.raw()..BASE.raw() + self.kernel.page_map().len() as u64
    }

    fn frame(&self, pfn: Pfn) -> Option<FrameState> {
        // Page tables are nobody's pages.
        FrameState::of(self.kernel, pfn).filter(|frame| !frame.flags.contains(PageFlags::RESERVED))
    }

    fn spaces(&self, see: &mut dyn FnMut(SpaceState)) {
        for space in (0..self.spaces).map(SpaceId::new) {
            if let Ok(alive) = self.kernel.space(space) {
                see(SpaceState {
                    space,
                    rss: i64::try_from(alive.rss()).unwrap(),
                    swapents: 0,
                });
            }
        }
    }

    fn entries(&self, space: SpaceId, see: &mut dyn FnMut(EntryState)) {
        for site in (0..self.pages).map(|page| Site::new(space, Vpn::new(page))) {
            let pte = self.kernel.entry(site);
            if pte.is_none() {
                continue;
            }
            let area = self.kernel.area(site).ok();
            let page = pte.pfn().and_then(|pfn| self.kernel.page_map().page(pfn));
            let belongs = area.zip(page).is_some_and(|(vma, page)| match page.mapping() {
                Mapping::Anon(root) => vma.anon_vma == Some(root),
                Mapping::File(_) | Mapping::None => false,
            });
            see(EntryState::of(site, pte, area.as_ref(), belongs, page));
        }
    }

    fn free_frames(&self, see: &mut dyn FnMut(Pfn)) {
        self.kernel.platform().free_frames().into_iter().for_each(see);
    }

    fn translations(&self, see: &mut dyn FnMut(TranslationState)) {
        self.kernel.platform().translations().into_iter().for_each(see);
    }

    fn pending(&self, see: &mut dyn FnMut(Site)) {
        // Which pages a gather has not flushed only the gather knows: any that a CPU still holds.
        let owes = |space: SpaceId| self.kernel.space(space).is_ok_and(|space| space.is_pending());
        let owing = (0..self.spaces).map(SpaceId::new).filter(|space| owes(*space));
        owing.for_each(|space| see(Site::new(space, Vpn::new(0))));
        let held = self.kernel.platform().translations().into_iter().map(|held| held.site);
        held.filter(|site| owes(site.space)).for_each(see);
    }

    fn word(&self, pfn: Pfn) -> Option<u64> {
        Some(
            self.kernel
                .platform()
                .data(pfn, 0)
                .load(core::sync::atomic::Ordering::Acquire),
        )
    }
}

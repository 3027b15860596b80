//! What can be seen of a page, and what is to be seen of it.

use alloc::format;
use alloc::vec::Vec;
use core::ops::ControlFlow;

use mm_types::{Mapping, PageFlags, Pfn, Pte, PteFlags, Site};

use super::super::contract as promise;
use super::super::verdict::{Done, Halt, hold, same};
use super::{Bench, Mapped};
use crate::fixture::{Fixture, PageOf};
use crate::{Frames, Rmap};

/// All that can be seen of a page from outside, but for the frame; dirtiness of entries and page in one (I21).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Looks {
    entries: Vec<(Site, PteFlags)>,
    count: u32,
    dirty: bool,
    flags: PageFlags,
    mapping: Mapping,
}

impl Looks {
    pub(in super::super) const fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// As it looks once it was written to storage.
    pub(in super::super) const fn clean(&mut self) {
        self.dirty = false;
    }
}

impl<F: Fixture> Bench<F> {
    /// The sites that a walk of `page` shows to map `pfn`.
    pub(in super::super) fn sites(&self, page: Pfn, pfn: Pfn) -> Result<Vec<Site>, Halt> {
        self.with_lock(page, |backend, locked| {
            let (mut gather, mut sites) = (backend.gather(), Vec::new());
            backend.walk(locked, &mut gather, &mut |entry| {
                sites.extend(entry.read().maps(pfn).then(|| entry.site()));
                ControlFlow::Continue(())
            });
            backend.flush(gather);
            sites
        })
    }

    pub(in super::super) fn entry(&self, site: Site) -> Pte {
        self.fixture.inner().entry(site)
    }

    pub(in super::super) fn count(&self, pfn: Pfn) -> Result<u32, Halt> {
        Ok(self.with(pfn, |backend, page| backend.count(page))?.saturating_sub(1))
    }

    pub(in super::super) fn flags(&self, pfn: Pfn) -> Result<PageFlags, Halt> {
        self.with(pfn, |backend, page| backend.flags(page))
    }

    /// True where the page or an entry at one of `sites` is dirty.
    pub(in super::super) fn dirty(&self, pfn: Pfn, sites: &[Site]) -> Result<bool, Halt> {
        let entries = sites
            .iter()
            .any(|site| self.entry(*site).maps(pfn) && self.entry(*site).dirty());
        Ok(entries || self.flags(pfn)?.contains(PageFlags::DIRTY))
    }

    /// What is to be compared with what there was before: accessed bits are the hardware's to set, and WAITERS a hint.
    pub(in super::super) fn looks(&self, pfn: Pfn, sites: &[Site]) -> Result<Looks, Halt> {
        let mut entries = Vec::new();
        for site in sites {
            let pte = self.entry(*site);
            hold(promise::MAPPED, pte.maps(pfn), || {
                format!("{site:?} has {pte:?}, and not {pfn:?}")
            })?;
            let shown = PteFlags::YOUNG | PteFlags::DIRTY | PteFlags::SOFT_DIRTY;
            entries.push((*site, pte.flags().difference(shown)));
        }
        let hint = PageFlags::DIRTY | PageFlags::WAITERS | PageFlags::REFERENCED | PageFlags::ACTIVE;
        Ok(Looks {
            entries,
            count: self.count(pfn)?,
            dirty: self.dirty(pfn, sites)?,
            flags: self.flags(pfn)?.difference(hint),
            mapping: self.with(pfn, |backend, page| backend.mapping(page))?,
        })
    }

    /// Every site of the page maps `pfn`, and sees what was last written.
    pub(in super::super) fn is_at(&self, page: &Mapped, pfn: Pfn) -> Done {
        for site in &page.sites {
            let pte = self.entry(*site);
            hold(promise::WALK, !pte.is_migration(), || {
                format!("{site:?} still has {pte:?}")
            })?;
            hold(promise::EDIT_FRAME, pte.maps(pfn), || {
                format!("{site:?} has {pte:?}, where it must map {pfn:?}")
            })?;
        }
        self.sees(page)
    }

    /// Every site of the page sees what was last written.
    pub(in super::super) fn sees(&self, page: &Mapped) -> Done {
        for site in &page.sites {
            let saw = self.read(*site)?;
            hold(promise::COPY, saw == page.value, || {
                format!("{site:?} sees {saw:#x}, and {:#x} was written", page.value)
            })?;
        }
        Ok(())
    }

    /// The page is as a new one must be: one reference, no flag except perhaps that of waiters, no mapping.
    pub(in super::super) fn pristine(&self, page: &PageOf<F>, whose: promise::Contract) -> Done {
        let (backend, pfn) = (self.backend(), self.backend().pfn(page));
        let flags = backend.flags(page).difference(PageFlags::WAITERS);
        same(
            whose,
            &format!("references of the new page {pfn:?}"),
            backend.count(page),
            1,
        )?;
        same(
            whose,
            &format!("flags of the new page {pfn:?}"),
            flags,
            PageFlags::empty(),
        )?;
        same(
            whose,
            &format!("mapping of the new page {pfn:?}"),
            backend.mapping(page),
            Mapping::None,
        )
    }
}

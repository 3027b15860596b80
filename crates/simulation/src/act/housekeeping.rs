//! What the kernel does by itself: swap, dirty pages, writeback; and memory that fails.

use migrate_core::Frames;
use mm_types::trace::{Event, Observer};
use mm_types::{Mapping, PageFlags, Pfn, SwapType};

use super::{Answer, DONE};
use crate::step::{CORRUPT, Step};
use crate::world::{World, pick};

impl World {
    /// Makes a call of the kernel's own.
    pub(super) fn keep_house<O: Observer>(&self, step: &Step, observer: O) -> Answer {
        let model = &self.model;
        match *step {
            Step::SwapOut { at } => {
                let pfn = self.anon_frame(at)?;
                self.note("swap_out", || self.name(pfn));
                let before = self.sites_that_map(pfn);
                model.swap_out(pfn);
                self.touch(before.iter().map(|(site, _)| *site));
                // Reclaim tells nobody; the checker of traces wants to know who does not map the page any more.
                for (site, before) in before.into_iter().filter(|(site, pte)| model.pte(*site) != *pte) {
                    observer.note(|| Event::Zap { site, before });
                }
            }
            Step::SwapCache { at } => {
                let pfn = self.anon_frame(at)?;
                self.note("swapcache", || self.name(pfn));
                model.swap_cache(pfn);
            }
            Step::Dirty { at } => {
                let pfn = self.frame(at)?;
                // Who dirties a page without its lock found it in an entry or in the cache, and it is not frozen.
                if self.is_locked_by_a_run(pfn) {
                    return None;
                }
                self.note("dirty", || self.name(pfn));
                model.dirty_page(pfn);
            }
            Step::DirtyBuffer { at, nth } => {
                let pfn = self.frame_with_buffers(at)?;
                if self.is_locked_by_a_run(pfn) {
                    return None;
                }
                self.note("dirty_buffer", || format!("{nth} of {}", self.name(pfn)));
                model.dirty_buffer(pfn, nth.into());
            }
            Step::SwapOn { ty } => {
                let ty = SwapType::new(ty)?;
                self.note("swapon", || ty.to_string());
                // Refused or not: what is in swap is read back.
                let _ = model.swapon(ty);
            }
            Step::WriteBack { at } => {
                let pfn = self.frame(at).filter(|pfn| self.can_be_written(*pfn))?;
                if self.is_locked_by_a_run(pfn) {
                    return None;
                }
                self.note("write_back", || self.name(pfn));
                model.write_back(pfn);
            }
            Step::BeginWriteback { at } => {
                let pfn = self.frame(at).filter(|pfn| self.can_be_written(*pfn))?;
                if let Some(Ok(locked)) = model.get(pfn).map(|page| self.try_lock(page)) {
                    self.note("begin_writeback", || self.name(pfn));
                    model.begin_writeback(pfn);
                    let page = model.unlock(locked);
                    model.put(page);
                }
            }
            Step::EndWriteback { nth } => {
                let pfn = pick(&self.held().written(model), nth)?;
                self.note("end_writeback", || self.name(pfn));
                model.end_writeback(pfn);
            }
            Step::Corrupt { at } => {
                let present = |site, _: &_| self.model.pte(site).is_present();
                let site = self.find_site(at, present)?;
                let pfn = model.pte(site).pfn()?;
                self.note(CORRUPT, || self.name(pfn));
                model.set_word(pfn, !model.word(pfn));
                self.touch([site]);
            }
            _ => return None,
        }
        DONE
    }

    fn anon_frame(&self, at: u32) -> Option<Pfn> {
        self.frame(at).filter(|pfn| self.model.page(*pfn).mapping().is_anon())
    }

    fn can_be_written(&self, pfn: Pfn) -> bool {
        let file = matches!(self.model.page(pfn).mapping(), Mapping::File(_));
        file && !self.flags(pfn).contains(PageFlags::WRITEBACK)
    }
}

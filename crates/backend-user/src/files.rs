//! Files, as a program holds them.

use core::ops::ControlFlow;
use core::sync::atomic::Ordering;
use std::sync::Arc;

use migrate_core::{Entry, Frames, LockedPage, PageRef, Rmap, Wait, end_page_writeback};
use mm_types::{Mapping, PAGE_SIZE, PageFlags, Pte, PteFlags, Vpn};

use crate::error::MachineError;
use crate::file::Cached;
use crate::kernel::{Kernel, lock};
use crate::machine::Inner;

/// A file whose pages are cached by a machine, and move like others. Cheap to clone.
#[derive(Clone, Debug)]
pub struct MappedFile {
    pub(crate) machine: Arc<Inner>,
    pub(crate) cached: Arc<Cached>,
}

impl MappedFile {
    pub(crate) fn new(machine: &Arc<Inner>, cached: Arc<Cached>) -> Self {
        Self {
            machine: machine.clone(),
            cached,
        }
    }

    /// Returns how many pages it has; the last one may be partly beyond its end, and reads as zero there.
    #[must_use]
    pub fn pages(&self) -> usize {
        self.cached.pages()
    }

    /// Returns how many of its pages are in memory.
    #[must_use]
    pub fn resident(&self) -> usize {
        lock(&self.machine.kernel.cache).iter_from(self.cached.id, 0).count()
    }

    /// Writes every page back that was written to since it was read, or since the last time; returns how many.
    ///
    /// Pages may move and be written meanwhile: what is stored after a page was looked at is written back by the next call.
    ///
    /// # Errors
    /// What the file answers. The page that could not be written is dirty still, and so are those after it.
    pub fn sync(&self) -> Result<usize, MachineError> {
        let kernel = &self.machine.kernel;
        let failed = |error| self.cached.failed(error);
        let len = self.cached.file.metadata().map_err(failed)?.len();
        let indices: Vec<usize> = lock(&kernel.cache)
            .iter_from(self.cached.id, 0)
            .map(|(n, ..)| n)
            .collect();
        let mut written = 0;
        for index in indices {
            let Some(page) = kernel.cached(self.cached.id, index) else {
                continue;
            };
            let page = kernel.lock(page);
            // Cut off while we waited for the lock.
            let ours = kernel.mapping(kernel.page_ref(&page)) == Mapping::File(self.cached.id);
            if !ours || !kernel.clean(&page) {
                kernel.put(kernel.unlock(page));
                continue;
            }
            kernel.edit_flags(&page, PageFlags::WRITEBACK, PageFlags::empty());
            let page = kernel.unlock(page);
            let there = usize::try_from(len)
                .unwrap_or(usize::MAX)
                .saturating_sub(index * PAGE_SIZE);
            let done = match kernel.frame(page.pfn()) {
                Some((node, frame)) => node.write_to(frame, &self.cached.file, index, there.min(PAGE_SIZE)),
                None => Ok(()),
            };
            if let (Some(descriptor), true) = (kernel.page(page.pfn()), done.is_err()) {
                descriptor.flags().edit(PageFlags::DIRTY, PageFlags::empty());
            }
            end_page_writeback(&**kernel, page.pfn());
            kernel.put(page);
            done.map_err(failed)?;
            written += 1;
        }
        Ok(written)
    }

    /// Cuts the file's pages off from page `pages` on: their mappings go, and an access there is refused from now on.
    ///
    /// The file itself is shortened where it was opened for writing. Pages in flight are waited for.
    ///
    /// # Errors
    /// What shortening the file answers; nothing was changed then.
    pub fn truncate(&self, pages: usize) -> Result<(), MachineError> {
        let kernel = &self.machine.kernel;
        let before = self.pages();
        if pages >= before {
            return Ok(());
        }
        if self.cached.writable {
            let len = (pages as u64).saturating_mul(PAGE_SIZE as u64);
            self.cached.file.set_len(len).map_err(|e| self.cached.failed(e))?;
        }
        // First the size, then the mappings, then the pages: a fault that was under way maps a page before its mappings are
        // removed, or finds it beyond the end.
        self.cached.pages.store(pages, Ordering::Release);
        kernel.zap_file(&self.cached, |index| index >= pages)?;
        loop {
            let next = lock(&kernel.cache)
                .iter_from(self.cached.id, pages)
                .map(|(n, ..)| n)
                .next();
            let Some(index) = next else { break };
            let Some(page) = kernel.cached(self.cached.id, index) else {
                continue;
            };
            // A page that migrates is cut off when it has arrived.
            let page = kernel.lock(page);
            kernel.cut_off(&self.cached, index, page);
        }
        // A migration that was under way has mapped its page again: now nothing is in flight, and nothing comes back.
        kernel.zap_file(&self.cached, |index| index >= pages)
    }
}

impl Kernel {
    pub(crate) fn page_ref<'l>(&self, page: &'l LockedPage) -> &'l PageRef {
        Frames::page(self, page)
    }

    /// Makes a locked page clean before it is written: its entries are write-protected, so that the next store is noticed
    /// (`page_mkclean`). False where nobody had written it.
    fn clean(&self, page: &LockedPage) -> bool {
        let pfn = page.pfn();
        let mut dirty = false;
        let pinned = self.page(pfn).is_some_and(|page| page.pins() > 0);
        let mut gather = self.gather();
        self.walk(page, &mut gather, &mut |entry: &mut dyn Entry| {
            let edited = entry.update(&|pte| match pte {
                Pte::Present { pfn: at, flags } if at == pfn && flags.intersects(PteFlags::WRITE | PteFlags::DIRTY) => {
                    // A pinned page may be written by a system call at any time, without a fault: it stays writable.
                    let taken = if pinned {
                        PteFlags::empty()
                    } else {
                        PteFlags::WRITE | PteFlags::DIRTY
                    };
                    Some(Pte::present(pfn, flags - taken))
                }
                _ => None,
            });
            dirty |= edited.is_some();
            ControlFlow::Continue(())
        });
        // No store through an old translation may come after the flag is cleared.
        self.flush(gather);
        let flags = self.edit_flags(page, PageFlags::empty(), PageFlags::DIRTY);
        dirty || flags.contains(PageFlags::DIRTY)
    }

    /// Removes every mapping of the file's pages that are `gone`, private copies too (2.6.17 `unmap_mapping_range`).
    pub(crate) fn zap_file(&self, file: &Cached, gone: impl Fn(usize) -> bool) -> Result<(), MachineError> {
        let areas = self.areas();
        let vmas: Vec<_> = areas.vmas.of_file(file.id).copied().collect();
        drop(areas);
        for vma in vmas {
            let Some(mm) = self.areas().space(vma.space).cloned() else {
                continue;
            };
            let readers = self.readers(&mm);
            let areas = self.areas_mut();
            let mut state = mm.lock();
            // Gone, or changed, since it was looked up: whoever changed it unmapped it, or split it in two that are both visited.
            let now = areas.vmas.get(vma.id).copied().unwrap_or_default();
            for page in (now.start.raw()..now.end.raw()).map(Vpn::new) {
                if now.index(page).is_some_and(&gone) {
                    let page = page.raw() as usize;
                    self.zap(&readers, &mm, &mut state, page..page + 1);
                }
            }
            let settled = mm.settle(self, &mut state);
            drop(state);
            drop(areas);
            readers.finish();
            settled?;
        }
        Ok(())
    }

    /// Takes a locked page out of its file (2.6.17 `truncate_complete_page`).
    pub(crate) fn cut_off(&self, file: &Cached, index: usize, page: LockedPage) {
        let mut cache = lock(&self.cache);
        let there = cache.lookup(file.id, index) == Some(page.pfn());
        if there {
            let removed = cache.remove(file.id, index);
            debug_assert_eq!(removed, Some(page.pfn()));
        }
        drop(cache);
        if there {
            self.edit_flags(&page, PageFlags::empty(), PageFlags::DIRTY);
            self.disown(&page);
        }
        let page = self.unlock(page);
        if there {
            // The slot's reference.
            self.put(PageRef::counted(page.pfn()));
        }
        self.put(page);
    }
}

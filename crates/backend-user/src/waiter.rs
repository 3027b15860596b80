//! The kernel as a waiting thread may use it: from a signal handler, for one space.
//!
//! It has what `migration_entry_wait` needs. Dropping a last reference frees a page, which takes locks: that is handed to the
//! fault server. What a waiter never does answers as an empty kernel would.

use migrate_core::{CopyError, Faults, Frames, LockedPage, PageRef, Pair, Rmap, UsesPageMap, Visit};
use mm_types::{CountMismatch, Mapping, PageFlags, Pfn, Pte, Site, SpaceId};

use crate::kernel::Kernel;
use crate::mm::Mm;
use crate::server::FREE_FRAME;
use crate::sys::server::Request;

/// One space, seen from a fault handler.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiter<'k> {
    pub(crate) kernel: &'k Kernel,
    pub(crate) space: &'k Mm,
}

impl Faults for Waiter<'_> {
    fn wait_on(&self, site: Site, look: &mut dyn FnMut(Pte) -> Option<Pfn>) {
        let page = usize::try_from(site.page.raw()).unwrap_or(usize::MAX);
        wait_on(self.kernel, self.space, page, look);
    }
}

/// Waits for the page that an entry names, without the table lock.
///
/// A migration entry is gone before its page's lock opens. So: the wait is announced on the lock first, then the entry is
/// read again. If it still is what it was, the lock was held at that moment, and opening it wakes us.
fn wait_on(kernel: &Kernel, space: &Mm, page: usize, look: &mut dyn FnMut(Pte) -> Option<Pfn>) {
    let seen = space.word(page);
    let pte = crate::word::decode(seen);
    let named = pte.migration().and_then(|entry| kernel.page(entry.pfn()));
    let Some(named) = named else {
        // Nothing to wait for; `look` may want to know.
        let _ = look(pte);
        return;
    };
    let Some(word) = named.flags().announce_wait(PageFlags::LOCKED) else {
        return;
    };
    if space.word(page) == seen && look(pte).is_some() {
        kernel.sleep(named, word);
    }
}

impl Faults for Kernel {
    fn wait_on(&self, site: Site, look: &mut dyn FnMut(Pte) -> Option<Pfn>) {
        let space = self.areas().space(site.space).cloned();
        let page = usize::try_from(site.page.raw()).unwrap_or(usize::MAX);
        match space {
            Some(space) => wait_on(self, &space, page, look),
            None => drop(look(Pte::None)),
        }
    }
}

impl Frames for Waiter<'_> {
    type Page = PageRef;
    type Locked = LockedPage;

    fn pfn(&self, page: &PageRef) -> Pfn {
        page.pfn()
    }

    fn page<'l>(&self, locked: &'l LockedPage) -> &'l PageRef {
        self.kernel.page_ref(locked)
    }

    fn count(&self, page: &PageRef) -> u32 {
        self.kernel.count(page)
    }

    fn get(&self, pfn: Pfn) -> Option<PageRef> {
        PageRef::get(self.kernel.page_map(), pfn)
    }

    fn put(&self, page: PageRef) {
        let last = self.kernel.page(page.pfn()).is_some_and(mm_types::Page::put);
        if last {
            // With the server gone the machine is too, and its memory with it.
            let _ = self.kernel.desk.get().map(|desk| {
                desk.ask(Request {
                    space: FREE_FRAME,
                    addr: page.pfn().index().unwrap_or(usize::MAX),
                    write: false,
                })
            });
        }
    }

    fn try_lock(&self, page: PageRef) -> Result<LockedPage, PageRef> {
        Err(page)
    }

    fn unlock(&self, locked: LockedPage) -> PageRef {
        self.kernel.unlock(locked)
    }

    fn flags(&self, page: &PageRef) -> PageFlags {
        self.kernel.flags(page)
    }

    fn edit_flags(&self, locked: &LockedPage, set: PageFlags, clear: PageFlags) -> PageFlags {
        self.kernel.edit_flags(locked, set, clear)
    }

    fn mapping(&self, page: &PageRef) -> Mapping {
        self.kernel.mapping(page)
    }

    fn adopt(&self, _new: &LockedPage, _old: &LockedPage) {}

    fn disown(&self, _locked: &LockedPage) {}

    fn freeze(&self, _locked: &LockedPage, expected: u32) -> Result<(), CountMismatch> {
        Err(CountMismatch { expected, found: 0 })
    }

    fn unfreeze(&self, _locked: &LockedPage, _count: u32) {}

    fn copy(&self, _pair: Pair<'_, LockedPage>) -> Result<(), CopyError> {
        Err(CopyError)
    }
}

impl Rmap for Waiter<'_> {
    type Gather = ();

    fn gather(&self) {}

    fn walk(&self, _page: &LockedPage, _gather: &mut (), _visit: &mut Visit<'_>) {}

    fn flush(&self, _gather: ()) {}

    fn flush_pending(&self, _space: SpaceId) {}

    fn is_mapped(&self, _page: &LockedPage) -> bool {
        false
    }
}

//! Which pages were used since the last look: for tiering.
//!
//! No hardware sets an accessed bit for us. A watched space shows only pages that were used since the last look, and hides the
//! others: the first use of each is a fault, which marks the entry young and shows the page. A look collects the young ones and
//! hides them again, a run of pages by one system call.

use mm_types::{Pte, PteFlags, Vma, Vpn};

use crate::kernel::Kernel;
use crate::mm::{Mm, State};
use crate::rmap::Slot;
use crate::spaces::Space;

impl Space {
    /// Returns the pages used since the last call, in order; the first call begins to watch, and returns none.
    ///
    /// Pages that are pinned count as used. A page that was moved under 2006 rules has forgotten that it was used.
    pub fn touched(&self) -> Vec<Vpn> {
        let kernel = &self.inner.machine.kernel;
        let mm = self.mm();
        let mut touched = Vec::new();
        let mut state = mm.lock();
        let begun = !core::mem::replace(&mut state.tracking, true);
        for page in 0..mm.pages() {
            let Pte::Present { pfn, flags } = mm.read(page) else {
                continue;
            };
            if begun {
                state.unsettled(page, true);
            }
            let pinned = kernel.page(pfn).is_some_and(|page| page.pins() > 0);
            if pinned && begun {
                kernel.show(mm, &mut state, page);
            }
            if !flags.contains(PteFlags::YOUNG) || begun {
                continue;
            }
            touched.push(Vpn::new(page as u64));
            if !pinned {
                let mut slot = Slot::new(kernel, mm, &mut state, page, &Vma::default());
                let old = Pte::present(pfn, flags - PteFlags::YOUNG);
                let _ = migrate_core::Entry::update(&mut slot, &|_| Some(old));
            }
        }
        // What could not be hidden for want of mappings counts as not used, and is looked at again.
        let _ = mm.settle(kernel, &mut state);
        touched
    }

    /// Stops watching: nothing is hidden any more.
    pub fn stop_watching(&self) {
        let mm = self.mm();
        let mut state = mm.lock();
        state.tracking = false;
        for page in (0..mm.pages()).filter(|page| mm.read(*page).is_present()) {
            state.unsettled(page, true);
        }
        let _ = mm.settle(&self.inner.machine.kernel, &mut state);
    }
}

impl Kernel {
    /// Marks an entry as used and shows its page. The table is locked.
    pub(crate) fn show(&self, mm: &Mm, state: &mut State, page: usize) {
        let mut slot = Slot::new(self, mm, state, page, &Vma::default());
        let _ = migrate_core::Entry::update(&mut slot, &|pte| match pte {
            Pte::Present { pfn, flags } => Some(Pte::present(pfn, flags | PteFlags::YOUNG)),
            _ => None,
        });
        let _ = mm.settle(self, state);
    }
}

//! What a CPU does: one access is one instruction, and a fault asks the kernel.

use loom::cell::Cell;
use migrate_core::{Frames, PageRef, Rmap, Wait, migration_entry_wait};
use mm_types::trace::{Event, Observer};
use mm_types::{ActorId, Mapping, Pfn, Pte, PteFlags, Site};

use crate::kernel::{Kernel, Translation, WORDS, at, hold, lock};
use crate::scenario::COLD;

/// A load or a store of one word of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Load,
    Store(u64),
}

/// A thread of a program on a CPU of its own, with a frame in reserve for its copy on write.
pub(crate) struct Cpu<'k> {
    pub(crate) kernel: &'k Kernel,
    pub(crate) number: usize,
    pub(crate) reserve: &'k Reserve,
}

/// Frames taken in advance, one for each actor.
pub(crate) struct Reserve(pub(crate) Vec<Cell<Option<Pfn>>>);

impl Cpu<'_> {
    pub(crate) fn id(&self) -> ActorId {
        ActorId::new(u32::try_from(self.number).expect("a small machine"))
    }

    /// Runs one access, faults included; `None` where the program gets a signal.
    pub(crate) fn access(&self, site: Site, word: usize, op: Op) -> Option<u64> {
        let write = op != Op::Load;
        loop {
            let pte = match self.instruction(site, word, op) {
                Ok(value) => return Some(value),
                Err(pte) => pte,
            };
            let kernel = self.kernel;
            kernel.obs().note(|| Event::Fault {
                actor: self.id(),
                site,
                write,
            });
            let again = match pte {
                Pte::Migration(_) => {
                    migration_entry_wait(kernel, kernel.profile, site, self.id(), kernel.obs());
                    true
                }
                Pte::Present { .. } => self.write_fault(site),
                Pte::None => self.file_fault(site),
                other => panic!("nobody installs {other:?}"),
            };
            if !again {
                return None;
            }
        }
    }

    /// What the hardware does: a translation from the TLB, stale or not, else from the table, whose accessed and dirty bits it sets.
    fn instruction(&self, site: Site, word: usize, op: Op) -> Result<u64, Pte> {
        let (kernel, write) = (self.kernel, op != Op::Load);
        let mut tlb = lock(&kernel.tlbs[self.number]);
        let held = tlb.slot(site).filter(|held| held.write || !write);
        let pfn = match held {
            Some(held) => held.pfn,
            None => {
                let mut table = kernel.table(site.space);
                let entry = &mut table.entries[at(site).1];
                let Pte::Present { pfn, flags } = *entry else {
                    return Err(*entry);
                };
                if write && !entry.writable() {
                    return Err(*entry);
                }
                let dirty = if write { PteFlags::DIRTY } else { PteFlags::empty() };
                *entry = Pte::present(pfn, flags | PteFlags::YOUNG | dirty);
                *tlb.slot(site) = Some(Translation { pfn, write });
                pfn
            }
        };
        let cell = kernel.word(pfn, word);
        if let Op::Store(value) = op {
            cell.set(value);
        }
        Ok(cell.get())
    }

    /// A store through an entry that does not allow it (Linux: `do_wp_page`). False where the program gets a signal.
    fn write_fault(&self, site: Site) -> bool {
        let kernel = self.kernel;
        let _mm = kernel.spaces[at(site).0].mmap_sem.read().expect("not poisoned");
        let old = {
            let table = kernel.table(site.space);
            if !table.may_write {
                return false;
            }
            match table.entries[at(site).1] {
                pte @ Pte::Present { pfn, .. } if !pte.writable() => hold(kernel, pfn),
                _ => return true,
            }
        };
        self.copy_on_write(site, &old);
        kernel.put(old);
        true
    }

    fn copy_on_write(&self, site: Site, old: &PageRef) {
        let kernel = self.kernel;
        let reserve = &self.reserve.0[self.number];
        let new = reserve.get().expect("one copy on write for each actor");
        for word in 0..WORDS {
            kernel.word(new, word).set(kernel.word(old.pfn(), word).get());
        }
        kernel.page_of(new).set_mapping(kernel.page_of(old.pfn()).mapping());
        let mut gather = kernel.gather();
        let mine = Pte::present(new, PteFlags::WRITE | PteFlags::DIRTY | PteFlags::YOUNG);
        let mapped = kernel.map(site, &mut gather, |pte| {
            (pte.maps(old.pfn()) && !pte.writable()).then_some(mine)
        });
        kernel.flush(gather);
        if mapped {
            reserve.set(None);
            kernel.put(PageRef::counted(new));
        } else {
            // It is in flight, or somebody else was faster: kept for the next time.
            kernel.page_of(new).set_mapping(Mapping::None);
        }
    }

    /// A page of a file comes from the page cache (Linux: `filemap_fault`): mapped under its lock. False beyond the end of the file,
    /// and where no area is.
    fn file_fault(&self, site: Site) -> bool {
        let kernel = self.kernel;
        let _mm = kernel.spaces[at(site).0].mmap_sem.read().expect("not poisoned");
        if !kernel.file || !kernel.table(site.space).mapped[at(site).1] {
            return kernel.table(site.space).mapped[at(site).1];
        }
        let index = index_of(site);
        let Some(pfn) = kernel.cached(index) else { return false };
        let Some(page) = kernel.get(pfn) else {
            kernel.wait_frozen(pfn);
            return true;
        };
        let page = kernel.lock(page);
        if kernel.cached(index) == Some(pfn) {
            let mut gather = kernel.gather();
            kernel.map(site, &mut gather, |pte| {
                pte.is_none().then_some(Pte::present(pfn, PteFlags::WRITE))
            });
            kernel.flush(gather);
        }
        kernel.put(kernel.unlock(page));
        true
    }
}

/// The page of the file that an area shows at `site`.
fn index_of(site: Site) -> usize {
    if site == COLD { 0 } else { at(site).1 }
}

//! What a CPU does: it keeps translations that are stale until a shootdown, and walks the tables where it has none.

use core::sync::atomic::Ordering;
use std::collections::BTreeMap;
use std::sync::MutexGuard;

use backend_x86_64::{HwBits, HwEntry, Shootdown, Stale};
use migrate_core::invariants::TranslationState;
use mm_types::{Pfn, Site, SpaceId, Vpn};

use super::machine::Machine;

// What a CPU keeps of an entry: it may store through it where the entry was writable, and dirty by then.
#[derive(Clone, Copy)]
struct Translation {
    pfn: Pfn,
    write: bool,
}

#[derive(Clone, Default)]
pub(super) struct Tlb {
    pages: BTreeMap<(SpaceId, Vpn), Translation>,
    // The paging-structure cache: where the table of entries for 512 pages is (SDM vol. 3, 4.10.3).
    tables: BTreeMap<(SpaceId, u64), Pfn>,
}

/// What an access does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Load,
    Store(u64),
    Add(u64),
}

impl Shootdown for Machine {
    fn shootdown(&self, stale: Stale<'_>) {
        self.shootdowns.fetch_add(1, Ordering::Relaxed);
        if self.deaf.load(Ordering::Relaxed) {
            return;
        }
        let delay = self.delayed.lock().unwrap().take();
        if let Some((begun, go_on)) = delay {
            begun.send(()).unwrap();
            // An error: whoever delayed it has panicked.
            let _ = go_on.recv();
        }
        for tlb in &self.tlbs {
            // A CPU acknowledges between two accesses.
            let mut tlb = tlb.lock().unwrap();
            tlb.pages.retain(|(at, page), _| match stale {
                Stale::Pages(space, pages) => *at != space || pages.binary_search(page).is_err(),
                Stale::Space(space) => *at != space,
                Stale::Everything => false,
            });
            // INVLPG drops the whole paging-structure cache of the space, whichever page it names.
            tlb.tables.retain(|(at, _), _| match stale {
                Stale::Pages(space, _) | Stale::Space(space) => *at != space,
                Stale::Everything => false,
            });
        }
    }
}

impl Machine {
    fn tlb(&self, cpu: usize) -> MutexGuard<'_, Tlb> {
        self.tlbs[cpu].lock().unwrap()
    }

    /// What every CPU holds.
    pub(crate) fn translations(&self) -> Vec<TranslationState> {
        let tlbs = self.tlbs.iter().zip(0..);
        let held = tlbs.flat_map(|(tlb, cpu)| {
            let pages = tlb.lock().unwrap().pages.clone();
            pages.into_iter().map(move |((space, page), held)| TranslationState {
                cpu,
                site: Site::new(space, page),
                pfn: held.pfn,
                write: held.write,
            })
        });
        held.collect()
    }

    /// What every CPU holds is what the tables say.
    pub(crate) fn stale(&self, entry: impl Fn(Site) -> HwEntry) -> Option<Site> {
        let tlbs = self.tlbs.iter().map(|tlb| tlb.lock().unwrap().pages.clone());
        let all: Vec<_> = tlbs.flatten().collect();
        let stale = all.into_iter().find(|((space, page), held)| {
            let word = entry(Site::new(*space, *page));
            let allows = word.is_present() && word.frame() == held.pfn;
            !allows || held.write && !word.hw_bits().contains(HwBits::WRITE | HwBits::DIRTY)
        });
        stale.map(|((space, page), _)| Site::new(space, page))
    }

    /// One access to word `word` of a page by a CPU in user mode: its TLB, then the tables. Returns what was there.
    ///
    /// # Errors
    /// The error code of a page fault.
    pub(crate) fn access(
        &self,
        cpu: usize,
        root: Pfn,
        space: SpaceId,
        page: Vpn,
        word: usize,
        op: Op,
    ) -> Result<u64, u32> {
        // Held for the whole access: a shootdown is acknowledged between two instructions.
        let mut tlb = self.tlb(cpu);
        let write = op != Op::Load;
        let held = tlb
            .pages
            .get(&(space, page))
            .filter(|held| held.write || !write)
            .copied();
        let found = match held {
            Some(held) => held,
            None => {
                // A CPU drops its translation where it faults, and walks again.
                tlb.pages.remove(&(space, page));
                let found = self.walk(&mut tlb.tables, root, (space, page), write)?;
                tlb.pages.insert((space, page), found);
                found
            }
        };
        let data = self.data(found.pfn, word);
        Ok(match op {
            Op::Load => data.load(Ordering::Acquire),
            Op::Store(value) => data.swap(value, Ordering::AcqRel),
            Op::Add(value) => data.fetch_add(value, Ordering::AcqRel),
        })
    }

    /// What the CPU's walker does (SDM vol. 3, 4.5 and 4.8).
    fn walk(
        &self,
        tables: &mut BTreeMap<(SpaceId, u64), Pfn>,
        root: Pfn,
        (space, page): (SpaceId, Vpn),
        write: bool,
    ) -> Result<Translation, u32> {
        let code = 1 << 2 | u32::from(write) << 1;
        let cached = tables.get(&(space, page.raw() >> 9)).copied();
        let mut table = cached.unwrap_or(root);
        let levels = cached.map_or(self.paging.levels(), |_| 1);
        for level in (0..levels).rev() {
            let index = (page.raw() >> (9 * level)) & 0x1ff;
            let slot = self.data(table, index as usize);
            let mut seen = slot.load(Ordering::Acquire);
            loop {
                let entry = HwEntry::from_bits(seen);
                let bits = entry.hw_bits();
                if !entry.is_present() {
                    return Err(code);
                }
                if !bits.contains(HwBits::USER) || write && !bits.contains(HwBits::WRITE) {
                    return Err(code | 1);
                }
                let mut marks = HwBits::ACCESSED;
                marks.set(HwBits::DIRTY, write && level == 0);
                if bits.contains(marks) {
                    break;
                }
                match slot.compare_exchange(seen, seen | marks.bits(), Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => seen |= marks.bits(),
                    Err(now) => seen = now,
                }
            }
            let entry = HwEntry::from_bits(seen);
            if level == 0 {
                return Ok(Translation {
                    pfn: entry.frame(),
                    write: entry.hw_bits().contains(HwBits::WRITE | HwBits::DIRTY),
                });
            }
            table = entry.frame();
            if level == 1 {
                tables.insert((space, page.raw() >> 9), table);
            }
        }
        unreachable!("the last level returns")
    }
}

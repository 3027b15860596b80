//! Counting everything anew, at a moment when no migration is in progress: the invariants that a kernel can check by itself.

use std::collections::HashMap;

use migrate_core::UsesPageMap;
use mm_types::{LruList, PageFlags, Pfn};

use crate::kernel::{Kernel, lock};

/// What tables and caches say of one frame.
#[derive(Default)]
struct Seen {
    mapped: u32,
    cached: u32,
}

impl Kernel {
    /// Recounts references, mappings, residence, lists, free frames and the ranges; the first difference, in words.
    pub(crate) fn recount(&self) -> Result<(), String> {
        let mut seen: HashMap<Pfn, Seen> = HashMap::new();
        let areas = self.areas();
        for mm in areas.spaces() {
            let state = mm.lock();
            let mut resident = 0;
            for page in 0..mm.pages() {
                let pte = mm.read(page);
                if pte.is_migration() {
                    return Err(format!("I6: a migration entry is left at {:?}", mm.site(page)));
                }
                if let Some(pfn) = pte.pfn().filter(|_| pte.is_present()) {
                    seen.entry(pfn).or_default().mapped += 1;
                    resident += 1;
                }
            }
            if state.resident != resident {
                return Err(format!(
                    "I27: {:?} counts {} pages, has {resident}",
                    mm.id, state.resident
                ));
            }
            state.check(mm)?;
        }
        let files: Vec<_> = areas.files.iter().flatten().map(|file| file.id).collect();
        drop(areas);
        let cache = lock(&self.cache);
        for file in files {
            for (_, pfn, _) in cache.iter_from(file, 0) {
                seen.entry(pfn).or_default().cached += 1;
            }
        }
        drop(cache);
        let map = self.page_map();
        let mut used = 0;
        for pfn in (0..map.len() as u64).map(Pfn::new) {
            let Some(page) = map.page(pfn) else { continue };
            let found = seen.remove(&pfn).unwrap_or_default();
            let (count, flags) = (page.count(), page.flags().load());
            used += usize::from(count != 0);
            if flags.contains(PageFlags::LOCKED) || page.entries_out(0) != 0 {
                return Err(format!("I3: {pfn:?} is locked, or in flight"));
            }
            if page.mapcount() != found.mapped {
                return Err(format!(
                    "I4: {pfn:?} counts {} mappings, has {}",
                    page.mapcount(),
                    found.mapped
                ));
            }
            let list = self.with_lru(|lru| lru.list_of(map, pfn));
            let staged = u32::from(list.is_some_and(|list| !list.is_lru()));
            if count != found.mapped + found.cached + page.pins() + staged {
                return Err(format!("I5: {pfn:?} has {count} references"));
            }
            if flags.contains(PageFlags::LRU) != list.is_some_and(LruList::is_lru) {
                return Err(format!("I1: {pfn:?} is on {list:?}, flags {flags}"));
            }
        }
        let nodes = u16::try_from(self.nodes.len()).unwrap_or(u16::MAX);
        let free: usize = (0..nodes).map(|node| self.free_on(mm_types::NodeId::new(node))).sum();
        if free + used == map.len() {
            Ok(())
        } else {
            Err(format!("I20: {used} frames in use, {free} free, of {}", map.len()))
        }
    }
}

//! The invariants that a kernel can recount: every reference by who holds it, every mapping, every list.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use core::fmt::Display;

use mm_types::{LruList, Mapping, PageFlags, Pfn, Pte, SlotTags};

use super::cache::NodeCounts;
use super::{Model, POISON};
use crate::UsesPageMap;

/// What does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{invariant}: {what}")]
pub struct Violation {
    /// The invariant's number.
    pub invariant: &'static str,
    /// What was found.
    pub what: String,
}

impl Violation {
    pub(super) fn new(invariant: &'static str, what: impl Display) -> Self {
        Self {
            invariant,
            what: what.to_string(),
        }
    }
}

/// What page tables say of one frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    mapped: u32,
    in_flight: u32,
    /// References of caches, staging and private data.
    held: u32,
}

fn hold(invariant: &'static str, holds: bool, what: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds {
        Ok(())
    } else {
        Err(Violation {
            invariant,
            what: what(),
        })
    }
}

fn same<T: PartialEq + core::fmt::Debug>(
    invariant: &'static str,
    found: T,
    counted: T,
    of: impl FnOnce() -> String,
) -> Result<(), Violation> {
    hold(invariant, found == counted, || {
        format!("{}: {found:?}, but counted {counted:?}", of())
    })
}

impl Model {
    /// Checks everything, at a moment when no migration is in progress.
    ///
    /// Each frame in `held` is one reference that the caller has: isolated pages, new pages that were not used, and others. Pins
    /// are counted without being named.
    ///
    /// # Errors
    /// What an operation noticed earlier, or the first thing that does not hold.
    pub fn check(&self, held: &[Pfn]) -> Result<(), Violation> {
        self.check_always()?;
        self.check_tags()?;
        self.check_counts()?;
        let seen = self.count()?;
        for (pfn, seen) in &seen {
            same("I6", seen.in_flight, 0, || format!("migration entries of {pfn:?}"))?;
        }
        hold("I33", self.tlbs.pending.lock().is_empty(), || {
            "translations were edited and never flushed".into()
        })?;
        let free = self.memory.lock().free_frames();
        for (page, n) in self.pages.iter().zip(0..) {
            let pfn = Pfn::new(self.config.base.raw() + n);
            let seen = seen.get(&pfn).copied().unwrap_or_default();
            let mine = held.iter().filter(|at| **at == pfn).count();
            let counted = seen.mapped + seen.held + page.pins() + u32::try_from(mine).unwrap_or(u32::MAX);
            same("I5", page.count(), counted, || format!("references of {pfn:?}"))?;
            same("I20", free.contains(&pfn), counted == 0, || format!("{pfn:?} is free"))?;
            if free.contains(&pfn) {
                hold("I33", self.word(pfn) == POISON, || {
                    format!("{pfn:?} was written while it was free")
                })?;
                same("I25", page.flags().load(), PageFlags::empty(), || {
                    format!("flags of {pfn:?}, which is free")
                })?;
            }
            let on_lru = self.with_lru(|lru| lru.contains(self.page_map(), pfn));
            same("I1", page.flags().load().contains(PageFlags::LRU), on_lru, || {
                format!("{pfn:?} is on the LRU")
            })?;
        }
        Ok(())
    }

    /// Checks what holds at every moment, a migration in progress or not.
    ///
    /// # Errors
    /// As [`Model::check`].
    pub fn check_always(&self) -> Result<(), Violation> {
        if let Some(violation) = self.violations.lock().first() {
            return Err(violation.clone());
        }
        for (pfn, seen) in self.count()? {
            let page = self.page(pfn);
            same("I4", page.mapcount(), seen.mapped, || format!("mappings of {pfn:?}"))?;
            let locked = page.flags().load().contains(PageFlags::LOCKED);
            hold("I3", seen.in_flight == 0 || locked, || {
                format!("{pfn:?} is in flight and not locked")
            })?;
            if cfg!(debug_assertions) {
                same("I6", page.entries_out(0), seen.in_flight, || {
                    format!("entries out of {pfn:?}")
                })?;
            }
        }
        self.check_caches()?;
        for cpu in &self.tlbs.cpus {
            for (site, held) in cpu.lock().iter() {
                let pte = self.pte(*site);
                let good = pte.maps(held.pfn) && (pte.writable() || !held.write);
                hold("I33", good || self.tlbs.pending.lock().contains_key(site), || {
                    format!("a stale translation at {site:?}: {held:?}")
                })?;
            }
        }
        Ok(())
    }

    /// Counts what names each frame, and checks each space's sums on the way.
    fn count(&self) -> Result<BTreeMap<Pfn, Seen>, Violation> {
        let mut seen: BTreeMap<Pfn, Seen> = BTreeMap::new();
        let mut slots = BTreeMap::new();
        for (space, n) in self.spaces.iter().zip(0u32..) {
            let (mut rss, mut swapents) = (0, 0);
            let table = space.table.lock();
            for (_, pte) in table.iter() {
                match pte {
                    Pte::Present { pfn, .. } => seen.entry(pfn).or_default().mapped += 1,
                    Pte::Migration(entry) => seen.entry(entry.pfn()).or_default().in_flight += 1,
                    Pte::Swap { entry, .. } => {
                        *slots.entry(entry).or_insert(0) += 1;
                        swapents += 1;
                    }
                    Pte::None | Pte::File { .. } | Pte::Poison(_) => {}
                }
                rss += i64::from(pte.is_present() || pte.is_migration());
            }
            same("I27", (table.rss, table.swapents), (rss, swapents), || {
                format!("resident and in swap in space {n}")
            })?;
        }
        let caches = self.caches.lock();
        for (slot, at) in &caches.swap.slots {
            let counted = slots.remove(slot).unwrap_or(0);
            same("I28", at.users, counted, || format!("users of swap slot {slot}"))?;
            if let Some(pfn) = at.cached {
                seen.entry(pfn).or_default().held += 1;
            }
        }
        hold("I28", slots.is_empty(), || {
            format!("entries name swap slots that are free: {slots:?}")
        })?;
        for (pfn, _) in caches.files.iter().flat_map(|file| file.slots.values()) {
            seen.entry(*pfn).or_default().held += 1;
        }
        let map = self.page_map();
        self.with_lru(|lru| {
            for list in [LruList::StagedActive, LruList::StagedInactive] {
                lru.list(list)
                    .iter(map)
                    .for_each(|pfn| seen.entry(pfn).or_default().held += 1);
            }
        });
        for (page, n) in self.pages.iter().zip(0..) {
            if page.flags().load().contains(PageFlags::PRIVATE) {
                seen.entry(Pfn::new(self.config.base.raw() + n)).or_default().held += 1;
            }
        }
        Ok(seen)
    }

    /// Who is dirty is tagged so (I12); between the switch and the hand-over of flags only the tag is there.
    fn check_tags(&self) -> Result<(), Violation> {
        let caches = self.caches.lock();
        for (pfn, tags) in caches.files.iter().flat_map(|file| file.slots.values()) {
            let dirty = self.page(*pfn).flags().load().contains(PageFlags::DIRTY);
            same("I12", tags.contains(SlotTags::DIRTY), dirty, || {
                format!("{pfn:?} is tagged dirty")
            })?;
        }
        Ok(())
    }

    /// Each node's counts of its page-cache pages are what a recount finds (I12).
    fn check_counts(&self) -> Result<(), Violation> {
        let caches = self.caches.lock();
        let mut counted: BTreeMap<_, NodeCounts> = BTreeMap::new();
        for (pfn, _) in caches.files.iter().flat_map(|file| file.slots.values()) {
            let counts = counted.entry(self.node_of(*pfn)).or_default();
            counts.pages += 1;
            counts.dirty += i64::from(self.page(*pfn).flags().load().contains(PageFlags::DIRTY));
        }
        for (node, counts) in &caches.counts {
            let found = counted.remove(node).unwrap_or_default();
            same("I12", *counts, found, || format!("page-cache pages of {node:?}"))?;
        }
        same("I12", counted.len(), 0, || "nodes that nobody counts".into())
    }

    /// Every slot holds one page, and that page knows it (I18).
    fn check_caches(&self) -> Result<(), Violation> {
        let caches = self.caches.lock();
        for (file, n) in caches.files.iter().zip(0..) {
            for (index, (pfn, _)) in &file.slots {
                let page = self.page(*pfn);
                let here = page.mapping() == Mapping::File(mm_types::MappingId::new(n)) && page.index() == *index;
                hold("I18", here, || {
                    format!("slot {index} of file {n} holds {pfn:?}, which is elsewhere")
                })?;
            }
        }
        for (slot, at) in &caches.swap.slots {
            let Some(pfn) = at.cached else { continue };
            let cached = self.page(pfn).flags().load().contains(PageFlags::SWAPCACHE);
            hold("I18", cached && self.slot_of(pfn) == *slot, || {
                format!("swap slot {slot} holds {pfn:?}, which is elsewhere")
            })?;
        }
        Ok(())
    }
}

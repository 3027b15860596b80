//! Counting anew what names each frame: entries, slots, free lists; with what can be told of each on the way.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use mm_types::Invariant as I;
use mm_types::{Mapping, MigrationKind, PageFlags, Pfn, Pte, PteFlags, Site, SwapEntry, VmaFlags};

use super::inspect::{EntryState, FrameState, Inspect};
use super::{Violation, hold, same};

/// What names one frame.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub(super) mapped: u32,
    pub(super) in_flight: u32,
    pub(super) cached: u32,
    pub(super) free: u32,
    /// An entry that maps it is dirty.
    pub(super) dirty: bool,
    /// A private area may store to it.
    pub(super) stored_privately: Option<Site>,
    pub(super) exclusive: Option<Site>,
    /// An entry that the page's reverse map does not lead to.
    pub(super) unreached: Option<Site>,
    /// An entry that allows what its area does not.
    pub(super) widened: Option<Site>,
    /// Its contents are nowhere else.
    pub(super) unsaved: bool,
}

impl Seen {
    pub(super) const fn users(&self) -> u32 {
        self.mapped.saturating_add(self.in_flight)
    }

    /// How often entries and slots name the frame.
    pub(super) const fn named(&self) -> u32 {
        self.users().saturating_add(self.cached)
    }
}

/// Everything counted.
pub(super) struct Count {
    first: u64,
    seen: Vec<Seen>,
    // Names of frames that do not exist.
    nowhere: Vec<Pfn>,
}

impl Count {
    pub(super) fn of<B: Inspect + ?Sized>(backend: &B) -> Result<Self, Violation> {
        let numbers = backend.frame_numbers();
        let frames = usize::try_from(numbers.end.saturating_sub(numbers.start)).unwrap_or(0);
        let mut count = Self {
            first: numbers.start,
            seen: vec![Seen::default(); frames],
            nowhere: Vec::new(),
        };
        let users = count.entries(backend)?;
        count.caches(backend, users)?;
        backend.free_frames(&mut |pfn| count.edit(pfn, |seen| seen.free = seen.free.saturating_add(1)));
        hold(I::NotFreedInUse, count.nowhere.is_empty(), || {
            format!(
                "entries, slots or free lists name frames that do not exist: {:?}",
                count.nowhere
            )
        })?;
        Ok(count)
    }

    fn edit(&mut self, pfn: Pfn, edit: impl FnOnce(&mut Seen)) {
        let at = pfn
            .raw()
            .checked_sub(self.first)
            .and_then(|at| usize::try_from(at).ok());
        match at.and_then(|at| self.seen.get_mut(at)) {
            Some(seen) => edit(seen),
            None => self.nowhere.push(pfn),
        }
    }

    /// Counts entries, and returns how many name each swap slot.
    fn entries<B: Inspect + ?Sized>(&mut self, backend: &B) -> Result<BTreeMap<SwapEntry, u32>, Violation> {
        let mut users = BTreeMap::new();
        let mut wrong = Ok(());
        backend.spaces(&mut |space| {
            let (mut rss, mut swapents) = (0i64, 0i64);
            backend.entries(space.space, &mut |entry| {
                rss = rss.saturating_add(i64::from(entry.pte.is_present() || entry.pte.is_migration()));
                if let Pte::Swap { entry: slot, .. } = entry.pte {
                    let users: &mut u32 = users.entry(slot).or_default();
                    *users = users.saturating_add(1);
                    swapents = swapents.saturating_add(1);
                }
                self.entry(&entry);
            });
            if wrong.is_ok() {
                wrong = same(I::Resident, (space.rss, space.swapents), (rss, swapents), || {
                    format!("resident and in swap in {:?}", space.space)
                });
            }
        });
        wrong.map(|()| users)
    }

    fn entry(&mut self, entry: &EntryState) {
        let Some(pfn) = entry
            .pte
            .pfn()
            .filter(|_| entry.pte.is_present() || entry.pte.is_migration())
        else {
            return;
        };
        let private = !entry.area.is_some_and(|area| area.contains(VmaFlags::SHARED));
        let kind = entry.pte.migration().map(|entry| entry.kind());
        let stores = entry.pte.writable() || kind == Some(MigrationKind::Write);
        let alone = entry.pte.flags().contains(PteFlags::EXCLUSIVE) || kind == Some(MigrationKind::ReadExclusive);
        self.edit(pfn, |seen| {
            if entry.pte.is_present() {
                seen.mapped = seen.mapped.saturating_add(1);
            } else {
                seen.in_flight = seen.in_flight.saturating_add(1);
            }
            seen.dirty |= entry.pte.is_present() && entry.pte.dirty();
            if stores && private {
                seen.stored_privately = Some(entry.site);
            }
            if alone {
                seen.exclusive = Some(entry.site);
            }
            if !entry.reached {
                seen.unreached = Some(entry.site);
            }
            if stores && entry.area.is_some_and(|area| !area.contains(VmaFlags::WRITE)) {
                seen.widened = Some(entry.site);
            }
        });
    }

    fn caches<B: Inspect + ?Sized>(
        &mut self,
        backend: &B,
        mut users: BTreeMap<SwapEntry, u32>,
    ) -> Result<(), Violation> {
        let mut wrong = Ok(());
        backend.cache_slots(&mut |slot| {
            self.edit(slot.pfn, |seen| {
                seen.cached = seen.cached.saturating_add(1);
                seen.unsaved |= slot.stored == Some(false);
            });
            let page = backend.frame(slot.pfn).unwrap_or_default();
            let here = page.mapping == Mapping::File(slot.file) && page.index == slot.index;
            if wrong.is_ok() {
                wrong = hold(I::OnePageInSlot, here, || {
                    format!(
                        "slot {} of {:?} holds {:?}, which is elsewhere",
                        slot.index, slot.file, slot.pfn
                    )
                });
            }
        });
        backend.swap_slots(&mut |slot| {
            let counted = users.remove(&slot.slot).unwrap_or(0);
            if wrong.is_ok() {
                wrong = same(I::SwapSlots, slot.users, counted, || {
                    format!("users of swap slot {}", slot.slot)
                });
            }
            let Some(pfn) = slot.cached else { return };
            self.edit(pfn, |seen| {
                seen.cached = seen.cached.saturating_add(1);
                seen.unsaved |= slot.stored == Some(false);
            });
            let page = backend.frame(pfn).unwrap_or_default();
            let here = page.flags.contains(PageFlags::SWAPCACHE) && page.private == slot.private;
            if wrong.is_ok() {
                wrong = hold(I::OnePageInSlot, here, || {
                    format!("swap slot {} holds {pfn:?}, which is elsewhere", slot.slot)
                });
            }
        });
        wrong?;
        hold(I::SwapSlots, users.is_empty(), || {
            format!("entries name swap slots that are free: {users:?}")
        })
    }

    pub(super) fn each<'c, B: Inspect + ?Sized>(
        &'c self,
        backend: &'c B,
        which: impl Fn(&Seen) -> bool,
    ) -> impl Iterator<Item = (Pfn, &'c Seen, FrameState)> {
        let numbered = (self.first..).map(Pfn::new).zip(&self.seen);
        let numbered = numbered.filter(move |(_, seen)| which(seen));
        numbered.filter_map(|(pfn, seen)| Some((pfn, seen, backend.frame(pfn)?)))
    }
}

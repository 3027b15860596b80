//! Checks of one moment: what names each frame is counted anew, and held against what the backend counts.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use mm_types::Invariant as I;
use mm_types::{Mapping, MigrationKind, Page, PageFlags, Pfn, Pte, PteFlags, Site, SlotTags, SwapEntry, VmaFlags};

use super::inspect::{EntryState, FrameState, Held, Inspect};
use super::{Violation, hold, same};

/// What names one frame.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    mapped: u32,
    in_flight: u32,
    cached: u32,
    free: u32,
    /// An entry that maps it is dirty.
    dirty: bool,
    /// A private area may store to it.
    stored_privately: Option<Site>,
    exclusive: Option<Site>,
    /// An entry that the page's reverse map does not lead to.
    unreached: Option<Site>,
    /// Its contents are nowhere else.
    unsaved: bool,
}

impl Seen {
    const fn users(&self) -> u32 {
        self.mapped.saturating_add(self.in_flight)
    }

    /// How often entries and slots name the frame.
    const fn named(&self) -> u32 {
        self.users().saturating_add(self.cached)
    }
}

/// Everything counted.
struct Count {
    first: u64,
    seen: Vec<Seen>,
    // Names of frames that do not exist.
    nowhere: Vec<Pfn>,
}

impl Count {
    fn of<B: Inspect + ?Sized>(backend: &B) -> Result<Self, Violation> {
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
                if wrong.is_ok() {
                    wrong = permitted(&entry);
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
            let here = page.flags.contains(PageFlags::SWAPCACHE) && page.private as u64 == slot.slot.offset();
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

    fn each<'c, B: Inspect + ?Sized>(
        &'c self,
        backend: &'c B,
        which: impl Fn(&Seen) -> bool,
    ) -> impl Iterator<Item = (Pfn, &'c Seen, FrameState)> {
        let numbered = (self.first..).map(Pfn::new).zip(&self.seen);
        let numbered = numbered.filter(move |(_, seen)| which(seen));
        numbered.filter_map(|(pfn, seen)| Some((pfn, seen, backend.frame(pfn)?)))
    }

    /// What holds of each frame at any moment. Frames that are free and named by nobody are left to [`Count::at_rest`]: most of
    /// them are, and they do not change.
    fn always<B: Inspect + ?Sized>(&self, backend: &B) -> Result<(), Violation> {
        self.each(backend, |seen| seen.free != 1 || seen.named() != 0)
            .try_for_each(|(pfn, seen, page)| always(pfn, seen, &page))
    }

    /// What holds besides when no migration is in progress.
    fn at_rest<B: Inspect + ?Sized>(&self, backend: &B, held: &Held<'_>) -> Result<(), Violation> {
        let mine = tally(held.references);
        let isolated = tally(held.isolated);
        for (pfn, seen, page) in self.each(backend, |_| true) {
            always(pfn, seen, &page)?;
            same(I::NoEntryLeft, seen.in_flight, 0, || {
                format!("migration entries of {pfn:?}")
            })?;
            let (mine, isolations) = (of(&mine, pfn), of(&isolated, pfn));
            hold(I::Isolation, isolations == 0 || page.list.is_none(), || {
                format!("{pfn:?} is isolated, and on {:?}", page.list)
            })?;
            let counted = holders(seen, &page).saturating_add(mine).saturating_add(isolations);
            let missing = counted.saturating_sub(page.count);
            hold(
                I::Isolation,
                isolations == 0 || missing == 0 || missing > isolations,
                || format!("{pfn:?} is isolated, and nobody counted the reference"),
            )?;
            same(I::References, page.count, counted, || format!("references of {pfn:?}"))?;
            let locked = page.flags.contains(PageFlags::LOCKED);
            hold(I::WaitersWake, !locked || counted > 0 && mine > 0, || {
                format!("{pfn:?} is locked, and nobody is there to unlock it")
            })?;
            same(I::OnlyForward, seen.free != 0, counted == 0, || {
                format!("{pfn:?} is free")
            })?;
            if seen.free != 0 {
                let bare = page.mapping == Mapping::None && !page.flags.intersects(Page::NOT_FREEABLE);
                hold(I::OnlyForward, bare, || format!("{pfn:?} is free: {page:?}"))?;
                let (word, free) = (backend.word(pfn), backend.free_word());
                hold(I::NoStaleTranslation, free.is_none() || word == free, || {
                    format!("{pfn:?} was written while it was free")
                })?;
            }
            let cached = matches!(page.mapping, Mapping::File(_)) || page.flags.contains(PageFlags::SWAPCACHE);
            hold(I::OnePageInSlot, !cached || locked || seen.cached == 1, || {
                format!("{pfn:?} says it is cached, and {} slots hold it", seen.cached)
            })?;
        }
        let mut wrong = Ok(());
        backend.cache_slots(&mut |slot| {
            let Some(tags) = slot.tags.filter(|_| wrong.is_ok()) else {
                return;
            };
            let page = backend.frame(slot.pfn).unwrap_or_default();
            wrong = same(
                I::DirtyCounted,
                tags.contains(SlotTags::DIRTY),
                page.flags.contains(PageFlags::DIRTY),
                || format!("{:?} is tagged dirty", slot.pfn),
            );
        });
        wrong
    }
}

/// What holds of a frame at any moment.
fn always(pfn: Pfn, seen: &Seen, page: &FrameState) -> Result<(), Violation> {
    let named = seen.named();
    hold(I::NotFreedInUse, seen.free == 0 || named == 0, || {
        format!("{pfn:?} is free, and named {named} times")
    })?;
    let lists = seen.free.saturating_add(u32::from(page.list.is_some()));
    hold(I::OneList, lists <= 1, || {
        format!(
            "{pfn:?} is on {lists} lists: {:?}, and {} times free",
            page.list, seen.free
        )
    })?;
    let on_lru = page.list.is_some_and(mm_types::LruList::is_lru);
    same(I::OneList, page.flags.contains(PageFlags::LRU), on_lru, || {
        format!("{pfn:?} is on the LRU")
    })?;
    same(I::MapCount, page.mapcount, seen.mapped, || {
        format!("mappings of {pfn:?}")
    })?;
    let locked = page.flags.contains(PageFlags::LOCKED);
    hold(I::EntryNamesLocked, seen.in_flight == 0 || locked, || {
        format!("{pfn:?} is in flight and not locked")
    })?;
    if let Some(out) = page.entries_out {
        same(I::NoEntryLeft, out, seen.in_flight, || {
            format!("entries out of {pfn:?}")
        })?;
    }
    // A frozen page has its references put aside.
    let (counted, frozen) = (holders(seen, page), page.count == 0 && locked);
    hold(I::References, frozen || page.count >= counted, || {
        format!("references of {pfn:?}: {}, but {counted} holders", page.count)
    })?;
    // Between the switch and the copy of 2006 the new page is in the slot, and the old one is what is dirty. A page that is
    // not up to date has nothing that could be lost.
    let empty = locked || !page.flags.contains(PageFlags::UPTODATE);
    let dirty = page.flags.contains(PageFlags::DIRTY) || seen.dirty || empty;
    hold(I::DirtyConserved, !seen.unsaved || dirty, || {
        format!("{pfn:?} was not written back and nobody remembers that it is dirty")
    })?;
    let shared = seen.users() != 1 || !page.mapping.is_anon();
    if let Some(site) = seen.stored_privately.filter(|_| shared && !locked) {
        return Err(Violation::new(
            I::ForkIsReadOnly,
            format_args!("{site:?} may store to {pfn:?}, which others see"),
        ));
    }
    if let Some(site) = seen.exclusive.filter(|_| shared && !locked) {
        return Err(Violation::new(
            I::MarksKept,
            format_args!("{site:?} is exclusive, and {pfn:?} has {} users", seen.users()),
        ));
    }
    if let Some(site) = seen.unreached.filter(|_| !locked) {
        return Err(Violation::new(
            I::RootPinned,
            format_args!("the reverse map of {pfn:?} does not lead to {site:?}"),
        ));
    }
    Ok(())
}

/// The references that a frame must have besides what others hold.
fn holders(seen: &Seen, page: &FrameState) -> u32 {
    let own = u32::from(page.is_staged()).saturating_add(u32::from(page.flags.contains(PageFlags::PRIVATE)));
    seen.mapped
        .saturating_add(seen.cached)
        .saturating_add(page.pins)
        .saturating_add(own)
}

/// How often each frame is named.
fn tally(pfns: &[Pfn]) -> BTreeMap<Pfn, u32> {
    let mut tally: BTreeMap<Pfn, u32> = BTreeMap::new();
    for pfn in pfns {
        let n = tally.entry(*pfn).or_default();
        *n = n.saturating_add(1);
    }
    tally
}

fn of(tally: &BTreeMap<Pfn, u32>, pfn: Pfn) -> u32 {
    tally.get(&pfn).copied().unwrap_or(0)
}

/// What an entry allows, its area allows.
fn permitted(entry: &EntryState) -> Result<(), Violation> {
    let write = entry.pte.migration().is_some_and(|entry| entry.is_write()) || entry.pte.writable();
    let allowed = entry.area.is_none_or(|area| area.contains(VmaFlags::WRITE));
    hold(I::WriteNotWidened, !write || allowed, || {
        format!("{:?} is {}, and its area may not be written", entry.site, entry.pte)
    })
}

/// Every translation that a CPU holds is one that the tables give, or will be flushed (I33).
fn translations<B: Inspect + ?Sized>(backend: &B) -> Result<(), Violation> {
    let mut held = Vec::new();
    backend.translations(&mut |translation| held.push(translation));
    if held.is_empty() {
        return Ok(());
    }
    let mut pending = BTreeSet::new();
    backend.pending(&mut |site| {
        pending.insert(site);
    });
    held.sort_by_key(|held| held.site);
    let mut wrong = Ok(());
    backend.spaces(&mut |space| {
        let mut left = held.iter().filter(|held| held.site.space == space.space).peekable();
        let mut stale = |held: &super::TranslationState, pte: Pte| {
            // A CPU that stores through what it holds does not look whether the entry is dirty: it was by then.
            let good = pte.maps(held.pfn) && (pte.writable() && pte.dirty() || !held.write);
            if wrong.is_ok() {
                wrong = hold(I::NoStaleTranslation, good || pending.contains(&held.site), || {
                    format!("a stale translation at {:?}: {held:?}", held.site)
                });
            }
        };
        backend.entries(space.space, &mut |entry| {
            while let Some(held) = left.next_if(|held| held.site <= entry.site) {
                let pte = if held.site == entry.site { entry.pte } else { Pte::None };
                stale(held, pte);
            }
        });
        left.for_each(|held| stale(held, Pte::None));
    });
    wrong
}

/// Checks what holds at every moment at which nobody holds a lock that covers a change, a migration in progress or not.
///
/// # Errors
/// What an operation noticed earlier, or the first thing that does not hold.
pub fn check_always<B: Inspect + ?Sized>(backend: &B) -> Result<(), Violation> {
    count(backend)?.always(backend)
}

/// Counts; what the count and the translations show at any moment holds.
fn count<B: Inspect + ?Sized>(backend: &B) -> Result<Count, Violation> {
    if let Some(violation) = backend.noticed() {
        return Err(violation);
    }
    let count = Count::of(backend)?;
    translations(backend)?;
    Ok(count)
}

/// Checks everything that one moment shows, when no migration is in progress and others hold what is in `held`.
///
/// # Errors
/// As [`check_always`].
pub fn check_at_rest<B: Inspect + ?Sized>(backend: &B, held: &Held<'_>) -> Result<(), Violation> {
    let count = count(backend)?;
    let mut pending = None;
    backend.pending(&mut |site| pending = Some(site));
    if let Some(site) = pending {
        let what = format_args!("{site:?} was edited and never flushed");
        return Err(Violation::new(I::NoStaleTranslation, what));
    }
    count.at_rest(backend, held)
}

/// Checks that a load from each of the sites, through the entry that is there now, gives the word that was stored last (I9).
/// Sites that are not mapped are left out: they show nothing until a fault.
///
/// # Errors
/// The first site that shows something else.
pub fn check_contents<B: Inspect + ?Sized>(
    backend: &B,
    pte: impl Fn(Site) -> Pte,
    stored: impl IntoIterator<Item = (Site, Option<u64>)>,
) -> Result<(), Violation> {
    for (site, word) in stored {
        let entry = pte(site);
        let Some(pfn) = entry.pfn().filter(|_| entry.is_present()) else {
            continue;
        };
        let found = backend.word(pfn);
        hold(I::Contents, found == word, || {
            format!("{site:?} shows {found:#x?}, and should show {word:#x?}: {entry}")
        })?;
    }
    Ok(())
}

//! Checks of one moment: what names each frame is counted anew, and held against what the backend counts.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::vec::Vec;

use mm_types::Invariant as I;
use mm_types::{LruList, Mapping, Page, PageFlags, Pfn, Pte, Site, SlotTags};

use super::count::{Count, Seen};
use super::inspect::{FrameState, Held, Inspect, TranslationState};
use super::{Violation, hold, same};

impl Count {
    /// Checks each frame. Those that are free and named by nobody are left to [`Count::at_rest`]: most of
    /// them are, and they do not change.
    fn in_use<B: Inspect + ?Sized>(
        &self,
        backend: &B,
        check: impl Fn(Pfn, &Seen, &FrameState) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        self.each(backend, |seen| seen.free != 1 || seen.named() != 0)
            .try_for_each(|(pfn, seen, page)| check(pfn, seen, &page))
    }

    /// What holds besides when no migration is in progress.
    fn at_rest<B: Inspect + ?Sized>(&self, backend: &B, held: &Held<'_>) -> Result<(), Violation> {
        let mine = tally(held.references);
        let isolated = tally(held.isolated);
        for (pfn, seen, page) in self.each(backend, |_| true) {
            between(pfn, seen, &page)?;
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
            hold(I::WaitersWake, !locked || mine > 0, || {
                format!("{pfn:?} is locked, and nobody is there to unlock it")
            })?;
            same(I::OnlyForward, seen.free != 0, counted == 0, || {
                format!("{pfn:?} is free")
            })?;
            if seen.free != 0 {
                let bare = page.mapping == Mapping::None && !page.flags.intersects(Page::NOT_FREEABLE);
                hold(I::OnlyForward, bare, || format!("{pfn:?} is free: {page:?}"))?;
                hold(I::NotFreedInUse, !page.flags.contains(PageFlags::WAITERS), || {
                    format!("{pfn:?} is free, and somebody waits for it")
                })?;
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
    let on_lru = page.list.is_some_and(LruList::is_lru);
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
    // Who has switched has handed its mapping on, and its entries are reached through the new page.
    let handed_on = locked && page.mapping == Mapping::None;
    if let Some(site) = seen.unreached.filter(|_| !handed_on) {
        return Err(Violation::new(
            I::RootPinned,
            format_args!("the reverse map of {pfn:?} does not lead to {site:?}"),
        ));
    }
    Ok(())
}

/// What holds of a frame besides while no call of a program is in the middle of something: between changing an area and its entries,
/// or between clearing an entry and marking its page.
fn between(pfn: Pfn, seen: &Seen, page: &FrameState) -> Result<(), Violation> {
    always(pfn, seen, page)?;
    let locked = page.flags.contains(PageFlags::LOCKED);
    // Between the switch and the copy of 2006 the new page is in the slot, and the old one is what is dirty. A page that is
    // not up to date has nothing that could be lost.
    let empty = locked || !page.flags.contains(PageFlags::UPTODATE);
    let dirty = page.flags.contains(PageFlags::DIRTY) || seen.dirty || empty;
    hold(I::DirtyConserved, !seen.unsaved || dirty, || {
        format!("{pfn:?} was not written back and nobody remembers that it is dirty")
    })?;
    match seen.widened {
        Some(site) => Err(Violation::new(
            I::WriteNotWidened,
            format_args!("{site:?} may store to {pfn:?}, and its area may not be written"),
        )),
        None => Ok(()),
    }
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
        let mut stale = |held: &TranslationState, pte: Pte| {
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
    count(backend)?.in_use(backend, always)
}

/// Checks what holds besides when no call of a program is in the middle of something, a migration in progress or not: its areas
/// and their entries agree (I14), and what it wrote is remembered as dirty (I11).
///
/// # Errors
/// As [`check_always`].
pub fn check_between_calls<B: Inspect + ?Sized>(backend: &B) -> Result<(), Violation> {
    count(backend)?.in_use(backend, between)
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
        return Err(Violation::new(
            I::NoStaleTranslation,
            format_args!("{site:?} was edited and never flushed"),
        ));
    }
    backend.recount()?;
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

//! Checks that nothing changed: where there was nothing to do, and after a way there and back.

use alloc::collections::BTreeMap;
use alloc::format;

use mm_types::Invariant as I;
use mm_types::{EntryStyle, Mapping, PageFlags, Pfn, Pte, PteFlags, Rules, VmaFlags};

use super::inspect::{FrameState, Inspect};
use super::{Snapshot, Violation, hold, same};

/// Checks that a run which had nothing to do did nothing (I38): its pages were where they were asked to be.
///
/// # Errors
/// The first thing that differs.
pub fn check_unmoved(before: &Snapshot, after: &Snapshot) -> Result<(), Violation> {
    for (was, now) in before.entries.iter().zip(&after.entries) {
        same(I::Idempotent, now, was, || format!("entry at {:?}", was.site))?;
    }
    for ((was, now), n) in before.frames.iter().zip(&after.frames).zip(before.first..) {
        let still = |frame: &Option<FrameState>| {
            let frame = (*frame)?;
            // A page that was isolated and put back is on its list again, perhaps by way of the staging arrays.
            let flags = frame.flags.difference(PageFlags::LRU | PageFlags::ACTIVE);
            let listed = frame.list.is_some();
            Some((
                flags,
                frame.mapping,
                frame.index,
                frame.mapcount,
                frame.is_active(),
                listed,
            ))
        };
        same(I::Idempotent, still(now), still(was), || format!("{:?}", Pfn::new(n)))?;
    }
    same(I::Idempotent, &after.words, &before.words, || "contents".into())?;
    same(I::Idempotent, shape(after), shape(before), || {
        "entries, spaces, slots, free frames".into()
    })
}

/// How many there are of everything.
fn shape(snapshot: &Snapshot) -> [usize; 5] {
    [
        snapshot.entries.len(),
        snapshot.spaces.len(),
        snapshot.cache_slots.len(),
        snapshot.swap_slots.len(),
        snapshot.free.len(),
    ]
}

/// What of a page is the same after a way there and back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lasting {
    mapping: Mapping,
    index: usize,
    flags: PageFlags,
    active: bool,
    word: Option<u64>,
}

impl Lasting {
    fn of(snapshot: &Snapshot, pfn: Pfn, rules: Rules) -> Option<Self> {
        let page = snapshot.frame(pfn)?;
        let mut lasting = PageFlags::REFERENCED
            | PageFlags::UPTODATE
            | PageFlags::CHECKED
            | PageFlags::MAPPEDTODISK
            | PageFlags::SWAPCACHE
            | PageFlags::PRIVATE;
        lasting.set(
            PageFlags::WORKINGSET | PageFlags::YOUNG | PageFlags::IDLE | PageFlags::SWAPBACKED,
            rules == Rules::Modern,
        );
        Some(Self {
            mapping: page.mapping,
            index: page.index,
            flags: page.flags & lasting,
            active: page.is_active(),
            word: snapshot.word(pfn),
        })
    }
}

/// Checks that pages which moved away and back are as they were, but for their frames (I39): the same entries with the same
/// permissions and marks, the same contents, the same pages in the same slots.
///
/// Under the rules of 2006 young is lost, and mappings of pages in the swap cache come back by a fault: that is left out.
///
/// # Errors
/// The first thing that differs.
pub fn check_round_trip(before: &Snapshot, after: &Snapshot, style: EntryStyle, rules: Rules) -> Result<(), Violation> {
    let mut frames: BTreeMap<Pfn, Pfn> = BTreeMap::new();
    let mut pair = |was: Pfn, now: Pfn| {
        let known = *frames.entry(was).or_insert(now);
        hold(I::RoundTrip, known == now, || {
            format!("{was:?} became {known:?} and {now:?}")
        })
    };
    let kept = match style {
        EntryStyle::Lossless => PteFlags::all().difference(PteFlags::DIRTY),
        EntryStyle::Lossy => PteFlags::WRITE,
    };
    for was in &before.entries {
        let now = after.pte(was.site);
        let said = || format!("{:?} was {} and is {now}", was.site, was.pte);
        match (was.pte, now) {
            (Pte::Present { pfn: a, flags: old }, Pte::Present { pfn: b, flags: new }) => {
                // An entry of a nonlinear area is aged first, and goes in a later pass, if there is one.
                let aged = if was.area.is_some_and(|area| area.contains(VmaFlags::NONLINEAR)) {
                    PteFlags::YOUNG
                } else {
                    PteFlags::empty()
                };
                let kept = kept.difference(aged);
                let gained = new.difference(old) & aged;
                hold(I::RoundTrip, old & kept == new & kept && gained.is_empty(), said)?;
                pair(a, b)?;
            }
            (Pte::Present { .. }, Pte::Swap { .. } | Pte::File { .. }) if rules == Rules::Linux2617 => {}
            (Pte::Present { .. }, Pte::File { .. }) => {}
            _ => hold(I::RoundTrip, was.pte == now, said)?,
        }
    }
    for (was, now) in before.cache_slots.iter().zip(&after.cache_slots) {
        same(I::RoundTrip, (now.file, now.index), (was.file, was.index), || {
            "slots".into()
        })?;
        pair(was.pfn, now.pfn)?;
    }
    for (was, now) in before.swap_slots.iter().zip(&after.swap_slots) {
        same(I::RoundTrip, now.slot, was.slot, || "swap slots".into())?;
        if let (Some(was), Some(now)) = (was.cached, now.cached) {
            pair(was, now)?;
        }
    }
    same(I::RoundTrip, shape(after), shape(before), || {
        "entries, spaces, slots, free frames".into()
    })?;
    for (was, now) in frames {
        let (is, was_then) = (Lasting::of(after, now, rules), Lasting::of(before, was, rules));
        same(I::RoundTrip, is, was_then, || format!("{now:?}, which was {was:?}"))?;
        let dirty = !before.is_dirty(was) || after.is_dirty(now) || after.is_stored(now);
        hold(I::RoundTrip, dirty, || {
            format!("{now:?} is clean, and was {was:?}, which was dirty")
        })?;
    }
    Ok(())
}

//! Checks of what a run changed: a snapshot from before it, one from after it, and what it said of each page.
//!
//! They hold where nobody else did anything between the two moments. To programs a run is nothing at all, so whatever differs
//! beyond the frames of the pages that moved is wrong, but for what the profile is exempt from.

use alloc::collections::BTreeMap;
use alloc::format;

use mm_types::Invariant as I;
use mm_types::{EntryStyle, Mapping, Outcome, Page, PageFlags, Pfn, Pte, PteFlags, Refusal, Rules, VmaFlags};

use super::inspect::{EntryState, FrameState, Inspect};
use super::{Snapshot, Violation, hold, same};
use crate::{Profile, SwapCacheEntries};

/// What a run was, and what it said of each page at last.
#[derive(Clone, Copy, Debug)]
pub struct Ran<'r> {
    /// Whose rules it followed.
    pub profile: &'r Profile,
    /// Each page and its outcome; only final ones count.
    pub outcomes: &'r [(Pfn, Outcome)],
}

impl Ran<'_> {
    fn last(&self) -> BTreeMap<Pfn, Outcome> {
        let ended = self.outcomes.iter().filter(|(_, outcome)| outcome.is_final());
        ended.copied().collect()
    }
}

/// Checks entries, pages and slots: [`check_entries`], [`check_pages`] and [`check_others`].
///
/// # Errors
/// The first thing that does not hold.
pub fn check_run(before: &Snapshot, after: &Snapshot, ran: &Ran<'_>) -> Result<(), Violation> {
    check_entries(before, after, ran)?;
    check_pages(before, after, ran)?;
    check_others(before, after, ran)
}

/// Checks that every entry maps its page where it is now, allows what it allowed and remembers what it remembered
/// (I7, I8, I14, I16, I17, I21, I36).
///
/// # Errors
/// The first entry that does not.
pub fn check_entries(before: &Snapshot, after: &Snapshot, ran: &Ran<'_>) -> Result<(), Violation> {
    let last = ran.last();
    for was in &before.entries {
        let now = after.pte(was.site);
        let pfn = was.pte.pfn().filter(|_| was.pte.is_present());
        match pfn.and_then(|pfn| Some((pfn, last.get(&pfn)?))) {
            Some((pfn, outcome)) => entry(before, after, ran.profile, (was, now), pfn, *outcome)?,
            None => hold(I::MappedAsBefore, now == was.pte, || {
                format!(
                    "{:?} was {} and is {now}, and its page was not moved",
                    was.site, was.pte
                )
            })?,
        }
    }
    let new = after.entries.iter().find(|entry| before.entry(entry.site).is_none());
    match new {
        Some(entry) => Err(Violation::new(
            I::MappedAsBefore,
            format_args!("{:?} was empty and is {}", entry.site, entry.pte),
        )),
        None => Ok(()),
    }
}

/// One entry of a page that was tried.
fn entry(
    before: &Snapshot,
    after: &Snapshot,
    profile: &Profile,
    (was, now): (&EntryState, Pte),
    pfn: Pfn,
    outcome: Outcome,
) -> Result<(), Violation> {
    let said = || {
        format!(
            "{:?} was {} and is {now}, and the page ended as {outcome:?}",
            was.site, was.pte
        )
    };
    let nonlinear = was.area.is_some_and(|area| area.contains(VmaFlags::NONLINEAR));
    let Pte::Present { pfn: at, flags } = now else {
        let cached = before
            .frame(pfn)
            .is_some_and(|page| page.flags.contains(PageFlags::SWAPCACHE));
        let exempt = match now {
            Pte::Swap { .. } => cached && profile.swap_cache == SwapCacheEntries::Swap,
            Pte::File { .. } => nonlinear,
            _ => false,
        };
        return hold(I::MappedAsBefore, exempt, said);
    };
    match outcome {
        Outcome::Moved { to } => hold(I::RestoresRightFrame, at == to, said)?,
        Outcome::Refused(Refusal::CopiedTooLate) => {
            // The old page is not mapped any more: its contents could not be read, and the new page says so.
            let page = after.frame(at).unwrap_or_default();
            let told = page.flags.contains(PageFlags::ERROR) && !page.flags.contains(PageFlags::UPTODATE);
            hold(I::CopyErrorReported, at != pfn && told, said)?;
        }
        Outcome::Freed | Outcome::Refused(_) | Outcome::Retry(_) => hold(I::RestoresRightFrame, at == pfn, said)?,
    }
    let old = was.pte.flags();
    let gained = |flag: PteFlags| flags.contains(flag) && !old.contains(flag);
    hold(I::WriteNotWidened, !gained(PteFlags::WRITE), said)?;
    let stayed = at == pfn;
    let as_before = if stayed { I::FailureRestores } else { I::MappedAsBefore };
    hold(as_before, flags.contains(old & PteFlags::WRITE), said)?;
    let marks = PteFlags::EXCLUSIVE | PteFlags::SOFT_DIRTY | PteFlags::UFFD_WP;
    let kept = match profile.entries {
        EntryStyle::Lossless => marks,
        EntryStyle::Lossy => PteFlags::empty(),
    };
    // A writable mapping of a private page is exclusive, also where the system's own entries do not say so.
    let sure = if old.contains(PteFlags::WRITE) {
        PteFlags::EXCLUSIVE
    } else {
        PteFlags::empty()
    };
    let good = flags.contains(old & kept) && (old | sure).contains(flags & marks);
    hold(I::MarksKept, good, said)?;
    let young = match (profile.entries, stayed) {
        // It was aged, and was to go in a later pass.
        (_, true) if nonlinear => !gained(PteFlags::YOUNG),
        (EntryStyle::Lossless, _) => flags.contains(PteFlags::YOUNG) == old.contains(PteFlags::YOUNG),
        (EntryStyle::Lossy, true) => !gained(PteFlags::YOUNG),
        (EntryStyle::Lossy, false) => !flags.contains(PteFlags::YOUNG),
    };
    hold(I::YoungAsProfile, young, said)
}

/// Checks the frames and slots of every page that was tried (I9, I11, I13, I17, I18, I20, I21, I28).
///
/// # Errors
/// The first page that is not as it should be.
pub fn check_pages(before: &Snapshot, after: &Snapshot, ran: &Ran<'_>) -> Result<(), Violation> {
    let last = ran.last();
    for (pfn, outcome) in &last {
        let (Some(was), Some(now)) = (before.frame(*pfn), after.frame(*pfn)) else {
            continue;
        };
        match outcome {
            Outcome::Moved { to } => {
                let reused = last.values().any(|other| *other == Outcome::Moved { to: *pfn });
                arrived(before, after, ran.profile.rules, *pfn, *to)?;
                hold(I::OnlyForward, reused || is_bare(&now), || {
                    format!("{pfn:?} moved to {to:?}, and is {now:?}")
                })?;
            }
            Outcome::Freed | Outcome::Refused(Refusal::CopiedTooLate) => {}
            Outcome::Refused(refusal) | Outcome::Retry(refusal) => {
                stayed(before, after, *pfn, *refusal)?;
                same(I::Contents, after.word(*pfn), before.word(*pfn), || {
                    format!("contents of {pfn:?}")
                })?;
                hold(I::FailureRestores, settings(&was) == settings(&now), || {
                    format!("{pfn:?} stayed, was {was:?} and is {now:?}")
                })?;
            }
        }
    }
    Ok(())
}

/// Checks that pages in use which the run was not given are what they were, their dirtiness included (I9, I21).
///
/// Stronger than the other two: nobody but the run may have done anything, not even because the run slept for him.
///
/// # Errors
/// The first page that changed.
pub fn check_others(before: &Snapshot, after: &Snapshot, ran: &Ran<'_>) -> Result<(), Violation> {
    let last = ran.last();
    let tried = |pfn: &Pfn| last.contains_key(pfn);
    for (was, pfn) in before.frames.iter().zip((before.first..).map(Pfn::new)) {
        // New pages were free before.
        let Some(was) = was.filter(|was| was.count > 0 && !tried(&pfn)) else {
            continue;
        };
        let state = |page: &FrameState| {
            let dirty = page.flags.contains(PageFlags::DIRTY);
            (settings(page), page.mapcount, page.pins, dirty, page.dirty_parts)
        };
        let now = after.frame(pfn).unwrap_or_default();
        hold(I::FailureRestores, state(&was) == state(&now), || {
            format!("{pfn:?} was not tried, was {was:?} and is {now:?}")
        })?;
        same(I::Contents, after.word(pfn), before.word(pfn), || {
            format!("contents of {pfn:?}, which was not tried")
        })?;
    }
    Ok(())
}

/// An old page has nothing that the allocator would mind, but for the isolation's reference.
fn is_bare(page: &FrameState) -> bool {
    let left = PageFlags::PRIVATE | PageFlags::SWAPCACHE | PageFlags::ACTIVE | PageFlags::DIRTY;
    let file = matches!(page.mapping, Mapping::File(_));
    page.count <= 1 && page.mapcount == 0 && !file && !page.flags.intersects(left)
}

/// What of a page's settings survives a failure: whose it is, and what is known of it.
fn settings(page: &FrameState) -> (Mapping, usize, PageFlags, bool) {
    let known = PageFlags::UPTODATE
        | PageFlags::ERROR
        | PageFlags::CHECKED
        | PageFlags::MAPPEDTODISK
        | PageFlags::SWAPCACHE
        | PageFlags::SWAPBACKED
        | PageFlags::WORKINGSET
        | PageFlags::HWPOISON
        | PageFlags::RESERVED;
    (page.mapping, page.index, page.flags & known, page.is_active())
}

/// Flags that say how a page was used lately.
fn use_of(page: &FrameState, rules: Rules) -> (PageFlags, bool) {
    let marks = match rules {
        Rules::Linux2617 => PageFlags::REFERENCED,
        Rules::Modern => PageFlags::REFERENCED | PageFlags::WORKINGSET | PageFlags::IDLE | PageFlags::YOUNG,
    };
    (page.flags & marks, page.is_active())
}

/// The new page is what the old one was.
fn arrived(before: &Snapshot, after: &Snapshot, rules: Rules, old: Pfn, new: Pfn) -> Result<(), Violation> {
    let (Some(was), Some(now)) = (before.frame(old), after.frame(new)) else {
        return Err(Violation::new(
            I::RestoresRightFrame,
            format_args!("{old:?} moved to {new:?}, which does not exist"),
        ));
    };
    same(I::Contents, after.word(new), before.word(old), || {
        format!("contents of {new:?}, which was {old:?}")
    })?;
    same(I::YoungAsProfile, use_of(&now, rules), use_of(&was, rules), || {
        format!("marks of use of {new:?}, which was {old:?}")
    })?;
    hold(
        I::DirtyConserved,
        !before.is_dirty(old) || after.is_dirty(new) || after.is_stored(new),
        || format!("{old:?} was dirty and moved to {new:?}, which is clean and not stored"),
    )?;
    parts_stay_dirty(was.dirty_parts, after, new)?;
    // An entry cannot say which part was written.
    let anywhere = before
        .entries
        .iter()
        .any(|entry| entry.pte.maps(old) && entry.pte.dirty());
    hold(
        I::PartsStayClean,
        anywhere || now.dirty_parts & !was.dirty_parts == 0,
        || {
            format!(
                "{new:?} is dirty in parts {:#x}, and {old:?} was in {:#x}",
                now.dirty_parts, was.dirty_parts
            )
        },
    )?;
    for was in before.cache_slots.iter().filter(|slot| slot.pfn == old) {
        let now = after
            .cache_slots
            .iter()
            .find(|slot| (slot.file, slot.index) == (was.file, was.index));
        same(I::OnePageInSlot, now.map(|slot| slot.pfn), Some(new), || {
            format!("page in slot {} of {:?}", was.index, was.file)
        })?;
    }
    for was in before.swap_slots.iter().filter(|slot| slot.cached == Some(old)) {
        let now = after.swap_slots.iter().find(|slot| slot.slot == was.slot);
        same(I::SwapSlots, now.and_then(|slot| slot.cached), Some(new), || {
            format!("page in swap slot {}", was.slot)
        })?;
    }
    Ok(())
}

/// A part that was not written back is dirty still: a page that is dirty in other parts only would be cleaned without it (I11).
fn parts_stay_dirty(parts: u32, after: &Snapshot, pfn: Pfn) -> Result<(), Violation> {
    let now = after.frame(pfn).unwrap_or_default().dirty_parts;
    hold(I::DirtyConserved, parts & !now == 0 || after.is_stored(pfn), || {
        format!("parts {parts:#x} were dirty, and of {pfn:?} {now:#x} are, which is not stored")
    })
}

/// A page that stayed is as dirty as it was, unless it was written meanwhile, and stands where it stood.
fn stayed(before: &Snapshot, after: &Snapshot, pfn: Pfn, refusal: Refusal) -> Result<(), Violation> {
    let written = matches!(refusal, Refusal::WrittenOut) || after.is_stored(pfn);
    hold(
        I::DirtyConserved,
        !before.is_dirty(pfn) || after.is_dirty(pfn) || written,
        || format!("{pfn:?} was dirty, stayed, and is clean"),
    )?;
    if !written {
        parts_stay_dirty(before.frame(pfn).unwrap_or_default().dirty_parts, after, pfn)?;
    }
    let slot = |snapshot: &Snapshot| {
        let in_cache = snapshot.cache_slots.iter().find(|slot| slot.pfn == pfn);
        let in_swap = snapshot.swap_slots.iter().find(|slot| slot.cached == Some(pfn));
        (
            in_cache.map(|slot| (slot.file, slot.index)),
            in_swap.map(|slot| slot.slot),
        )
    };
    same(I::FailureRestores, slot(after), slot(before), || {
        format!("slots of {pfn:?}, which stayed")
    })
}

/// Checks that new pages which the run was offered and did not use are as they were taken from the allocator (I21).
///
/// # Errors
/// The first that is not.
pub fn check_unused<B: Inspect + ?Sized>(after: &B, unused: &[Pfn]) -> Result<(), Violation> {
    for pfn in unused {
        let page = after.frame(*pfn).unwrap_or_default();
        let state = PageFlags::all().difference(PageFlags::WAITERS);
        let pristine = page.count == 1
            && page.mapcount == 0
            && page.mapping == Mapping::None
            && page.list.is_none()
            && !page.flags.intersects(state)
            && !page.flags.intersects(Page::NOT_FREEABLE);
        hold(I::FailureRestores, pristine, || {
            format!("{pfn:?} was not used, and is {page:?}")
        })?;
    }
    Ok(())
}

//! Checks of what a run said: one outcome for each page, counts that add up, pages that must not move, threads that waited.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;

use mm_types::Invariant as I;
use mm_types::trace::Event;
use mm_types::{Outcome, PageFlags, Pfn, Refusal, Rules};

use super::inspect::Inspect;
use super::{Snapshot, Violation, hold, same};
use crate::Tally;

/// Checks that each page given has one final outcome, no other page has any, and the tally is their sum (I29, I37).
///
/// # Errors
/// The first page of which that is not so, or the sums that differ.
pub fn check_outcomes(given: &[Pfn], outcomes: &[(Pfn, Outcome)], tally: &Tally) -> Result<(), Violation> {
    let mut told: BTreeMap<Pfn, Outcome> = BTreeMap::new();
    for (pfn, outcome) in outcomes.iter().filter(|(_, outcome)| outcome.is_final()) {
        hold(I::StatusOnce, given.contains(pfn), || {
            format!("{pfn:?} was not given, and ended as {outcome:?}")
        })?;
        if let Some(other) = told.insert(*pfn, *outcome) {
            return Err(Violation::new(
                I::StatusOnce,
                format_args!("{pfn:?} ended as {other:?} and as {outcome:?}"),
            ));
        }
    }
    let silent = given.iter().find(|pfn| !told.contains_key(pfn));
    hold(I::OneOutcome, silent.is_none(), || format!("{silent:?} has no outcome"))?;
    let of = |which: fn(&Outcome) -> bool| told.values().filter(|outcome| which(outcome)).count();
    let moved = of(|outcome| matches!(outcome, Outcome::Moved { .. }));
    let freed = of(|outcome| *outcome == Outcome::Freed);
    let left = told.len().saturating_sub(moved).saturating_sub(freed);
    let counted = (tally.moved as usize, tally.freed as usize, tally.left() as usize);
    same(I::OneOutcome, counted, (moved, freed, left), || {
        "moved, freed and left".into()
    })
}

/// Checks that of `offered` new pages `unused` are left, and every other one became somebody's page (I30).
///
/// # Errors
/// How many are missing.
pub fn check_targets(offered: usize, unused: usize, outcomes: &[(Pfn, Outcome)]) -> Result<(), Violation> {
    let uses = |outcome: &Outcome| {
        matches!(
            outcome,
            Outcome::Moved { .. } | Outcome::Refused(Refusal::CopiedTooLate)
        )
    };
    let used = outcomes.iter().filter(|(_, outcome)| uses(outcome)).count();
    same(I::Bounded, unused.saturating_add(used), offered, || {
        format!("new pages: {used} used, {unused} left")
    })
}

/// Checks that no page moved which must not (I35): pinned, reserved or known to be bad when the run began, and all the while.
///
/// # Errors
/// The first that did, or was refused for a reason that is not its own.
pub fn check_must_stay(before: &Snapshot, outcomes: &[(Pfn, Outcome)]) -> Result<(), Violation> {
    let never = PageFlags::RESERVED | PageFlags::HWPOISON;
    for (pfn, outcome) in outcomes.iter().filter(|(_, outcome)| outcome.is_final()) {
        let Some(page) = before.frame(*pfn) else { continue };
        let must = page.pins > 0 || page.flags.intersects(never);
        let left = matches!(outcome, Outcome::Refused(_) | Outcome::Retry(_));
        hold(I::MustStay, !must || left, || {
            format!("{pfn:?} ended as {outcome:?}, and was {page:?}")
        })?;
        // Whoever looks at a page that is not pinned and finds a pin tells a wrong reason.
        let pinned = matches!(outcome, Outcome::Refused(Refusal::Pinned { .. }));
        hold(I::MustStay, !pinned || page.pins > 0, || {
            format!("{pfn:?} was refused as pinned, and is not")
        })?;
    }
    Ok(())
}

/// Checks that under today's rules no page was refused for references that only waiting threads can have (I24).
///
/// `others` says how many references besides the expected ones somebody held of a page while the run tried it.
///
/// # Errors
/// The first page that was.
pub fn check_waiters(
    rules: Rules,
    events: impl IntoIterator<Item = Event>,
    others: impl Fn(Pfn) -> u32,
) -> Result<(), Violation> {
    if I::WaitingIsFree.exemption(rules).is_some() {
        return Ok(());
    }
    let mut waited: BTreeSet<Pfn> = BTreeSet::new();
    for event in events {
        match event {
            Event::Wait { pfn, .. } => drop(waited.insert(pfn)),
            Event::Refuse {
                pfn,
                refusal: Refusal::ExtraReference { expected, found },
                ..
            } if waited.contains(&pfn) => {
                let known = expected.saturating_add(others(pfn));
                hold(I::WaitingIsFree, found <= known, || {
                    format!("{pfn:?} has {found} references, {known} are known, and threads waited for it")
                })?;
            }
            _ => {}
        }
    }
    Ok(())
}

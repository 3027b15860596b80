//! What must hold of a run in which something failed.

use std::collections::BTreeSet;

use migrate_core::invariants::{
    Snapshot as State, Violation, check_must_stay, check_outcomes as check_tally, check_waiters,
};
use migrate_core::model::{Access, Op};
use migrate_core::{Effect, Failure, Injection, PageRef, Profile, Tally};
use mm_types::trace::Event;
use mm_types::{Mapping, Outcome, PageFlags, Pfn, Refusal};

use super::run::{Config, Expected, Lists, Ran, WAITER, pfns};
use super::snapshot::Snapshot;
use super::stage::{Kind, Listed, Stage};

fn words(outcome: Option<Outcome>) -> (&'static str, &'static str) {
    match outcome {
        None => ("no outcome", ""),
        Some(Outcome::Moved { .. }) => ("moved", ""),
        Some(Outcome::Freed) => ("freed", ""),
        Some(Outcome::Retry(refusal)) => ("retry", refusal.word()),
        Some(Outcome::Refused(refusal)) => ("refused", refusal.word()),
    }
}

/// One outcome for each page, and the list that goes with it, in order; each new page used or given back (I1, I29, I30).
pub(crate) fn check_lists(
    ran: &Ran,
    stage: &Stage,
    listed: &[Pfn],
    lists: &Lists,
    given: &BTreeSet<Pfn>,
) -> Result<(), String> {
    let [from, moved, failed] = [&lists.from, &lists.moved, &lists.failed].map(pfns);
    let mut used = BTreeSet::new();
    let mut on = [Vec::new(), Vec::new(), Vec::new()];
    for (n, page) in stage.pages.iter().enumerate() {
        let outcomes: Vec<_> = ran.told[n].iter().filter(|outcome| outcome.is_final()).collect();
        let [outcome] = outcomes.as_slice() else {
            return Err(format!("{:?} has the outcomes {:?} (I29)", page.kind, ran.told[n]));
        };
        if !listed.contains(&page.pfn) {
            continue;
        }
        let list = match outcome {
            Outcome::Moved { to } => {
                used.insert(*to);
                1
            }
            Outcome::Freed => 1,
            Outcome::Refused(refusal) | Outcome::Retry(refusal) if refusal.is_transient() => 0,
            Outcome::Refused(_) | Outcome::Retry(_) => 2,
        };
        on[list].push(page.pfn);
    }
    // `from` is in its old order; the others are in the order of their ends.
    let sorted = |mut list: Vec<Pfn>| {
        list.sort();
        list
    };
    let expected = [on[0].clone(), sorted(on[1].clone()), sorted(on[2].clone())];
    let found = [from, sorted(moved), sorted(failed)];
    if expected != found {
        return Err(format!(
            "from, moved and failed should be {expected:x?} and are {found:x?} (I1)"
        ));
    }
    let left: BTreeSet<Pfn> = lists.news.iter().map(PageRef::pfn).collect();
    if left.len() != lists.news.len() {
        return Err(format!("a new page was given back twice: {:x?} (I30)", lists.news));
    }
    // Where the contents were lost after the switch, the new page is in use, and nobody was told which it is.
    let lost = (0..stage.pages.len())
        .filter(|n| ran.last(*n) == Some(Outcome::Refused(Refusal::CopiedTooLate)))
        .count();
    let gone: BTreeSet<Pfn> = given.difference(&left).copied().collect();
    if !left.is_subset(given) || !used.is_subset(&gone) || gone.len() != used.len() + lost {
        return Err(format!(
            "given {given:x?}, used {used:x?}, {lost} lost, left {left:x?} (I30)"
        ));
    }
    for pfn in left {
        let page = stage.model.page(pfn);
        let state = (
            page.count(),
            page.mapcount(),
            page.flags().load(),
            page.mapping(),
            page.private(),
        );
        if state != (1, 0, PageFlags::empty(), Mapping::None, 0) {
            return Err(format!("an unused new page is not as it was: {state:?} (I21)"));
        }
    }
    Ok(())
}

/// The counts are the sums of what was told (I37), no page moved that must not (I35), and none stayed for threads that only
/// waited (I24).
pub(crate) fn check_said(
    ran: &Ran,
    stage: &Stage,
    config: Config,
    given: &[Pfn],
    tally: &Tally,
    then: &State,
    events: &[Event],
) -> Result<(), String> {
    let pages = || {
        stage
            .pages
            .iter()
            .zip(0..)
            .filter(|(page, _)| given.contains(&page.pfn))
    };
    let told: Vec<(Pfn, Outcome)> = pages()
        .flat_map(|(page, n)| ran.told[n].iter().map(|outcome| (page.pfn, *outcome)))
        .collect();
    // What was injected is no truth about the page.
    let lied = |refusal: Refusal| -> BTreeSet<Pfn> {
        let about = |n: usize| ran.effects_on(n, config).any(|effect| effect.is(refusal));
        pages().filter(|(_, n)| about(*n)).map(|(page, _)| page.pfn).collect()
    };
    let pinned = lied(Refusal::Pinned { pins: 1 });
    let truly: Vec<_> = told.iter().filter(|(pfn, _)| !pinned.contains(pfn)).copied().collect();
    let (extra, held) = (lied(Refusal::ExtraReference { expected: 1, found: 2 }), stage.held());
    let others = |pfn| match extra.contains(&pfn) {
        true => u32::MAX,
        false => held.iter().filter(|held| **held == pfn).count() as u32,
    };
    let said = check_tally(given, &told, tally)
        .and_then(|()| check_must_stay(then, &truly))
        .and_then(|()| check_waiters(config.profile.rules, events.iter().copied(), others));
    said.map_err(|violation: Violation| format!("what the run said: {violation}"))
}

/// Everything adds up with the pages on their lists, and each is what it was, or is it elsewhere.
pub(crate) fn check_pages(
    ran: &Ran,
    stage: &Stage,
    isolated: &Snapshot,
    lists: &Lists,
    profile: &Profile,
) -> Result<(), String> {
    let mut held = stage.held();
    for list in [&lists.from, &lists.moved, &lists.failed] {
        held.extend(pfns(list));
    }
    held.extend(lists.news.iter().map(PageRef::pfn));
    stage
        .model
        .check(&held)
        .map_err(|violation| format!("after the run: {violation}"))?;
    compare(ran, stage, isolated, profile, |_, refusal| refusal != Refusal::NotOnLru)
}

/// As before, with every page back on the LRU; and what programs see.
pub(crate) fn check_again(ran: &Ran, stage: &Stage, before: &Snapshot, profile: &Profile) -> Result<(), String> {
    let checked = stage.model.check(&stage.held());
    checked.map_err(|violation| format!("after putting back: {violation}"))?;
    // A page whose users had freed it, or of which only private data were left that an attempt released, is gone now.
    let gone = |kind| matches!(kind, Kind::Freed | Kind::Truncated);
    compare(ran, stage, before, profile, |page, _| {
        !gone(page.kind) || stage.model.page(page.pfn).count() > 0
    })?;
    for (n, page) in stage.pages.iter().enumerate() {
        let Some(value) = page.value else { continue };
        if ran.last(n) == Some(Outcome::Refused(Refusal::CopiedTooLate)) {
            continue;
        }
        for site in &page.sites {
            let seen = stage.model.access(WAITER, *site, Op::Read, ());
            if seen != Access::Done(value) {
                return Err(format!("{:?} holds {value}, and a load sees {seen:?} (I9)", page.kind));
            }
        }
    }
    let checked = stage.model.check(&stage.held());
    checked.map_err(|violation| format!("after its users came: {violation}"))
}

fn compare(
    ran: &Ran,
    stage: &Stage,
    then: &Snapshot,
    profile: &Profile,
    of: impl Fn(&Listed, Refusal) -> bool,
) -> Result<(), String> {
    let now = Snapshot::take(stage);
    for (n, page) in stage.pages.iter().enumerate() {
        match ran.last(n) {
            Some(Outcome::Moved { to }) => then.moved(stage, page, to, profile)?,
            Some(Outcome::Refused(Refusal::CopiedTooLate) | Outcome::Freed) | None => {}
            Some(Outcome::Refused(refusal) | Outcome::Retry(refusal)) if of(page, refusal) => {
                then.same(&now, page, ran.is_dirtied(n), profile)?;
            }
            Some(Outcome::Refused(_) | Outcome::Retry(_)) => {}
        }
    }
    Ok(())
}

/// Each page is refused for its own reasons, or for what was injected into it, and for nothing else.
pub(crate) fn check_outcomes(ran: &Ran, stage: &Stage, config: Config, expected: &Expected<'_>) -> Result<(), String> {
    let clean = expected.clean;
    let out_of_targets = |injection: &Injection| injection.failure == Failure::NoTarget;
    // Today a run that finds no new page ends, for all pages that it has not come to.
    let all_stop = config.profile.new_page_first && ran.hits.iter().any(|(_, injection)| out_of_targets(injection));
    for (n, page) in stage.pages.iter().enumerate() {
        let effects: Vec<Effect> = ran.effects_on(n, config).collect();
        let wrong = |what: &str| {
            Err(format!(
                "{:?}: {what}: told {:?}, without failures {:?}, failed {:?}",
                page.kind,
                ran.told[n],
                clean.told[n],
                ran.failures_of(n).collect::<Vec<_>>(),
            ))
        };
        if effects.iter().any(|effect| matches!(effect, Effect::Impossible(_))) {
            return wrong("it is impossible here");
        }
        for refusal in ran.refusals(n) {
            let own = clean.was_refused_by(n, refusal);
            let injected = effects.iter().any(|effect| effect.is(refusal));
            let stopped = all_stop && refusal == Refusal::NoTarget;
            if !(own || injected || stopped) {
                return wrong("refused for the wrong reason");
            }
        }
        let (last, clean_last) = (ran.last(n), clean.last(n));
        if words(last) == words(clean_last) || (all_stop && last == Some(Outcome::Refused(Refusal::NoTarget))) {
            continue;
        }
        // Only a page that met a failure may end otherwise, and only by staying.
        let Some(Outcome::Refused(refusal)) = last else {
            return wrong("it ends otherwise");
        };
        // What was dirtied once is dirty, and stays where nothing is written out.
        let lasts = refusal == Refusal::Dirty && ran.is_dirtied(n);
        let goes = matches!(clean_last, Some(Outcome::Moved { .. } | Outcome::Freed)) && !lasts;
        if !ran.is_hit(n) || (expected.once && goes && refusal.is_transient() && refusal != Refusal::NotOnLru) {
            return wrong("it should have gone on");
        }
    }
    Ok(())
}

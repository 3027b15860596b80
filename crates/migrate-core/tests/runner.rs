//! What the scenario runner says of scenarios that are wrong, and what is left of runs whose steps fail.

use core::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;

use migrate_core::fixture::{Fixture, FixtureError, Recording, Replay, ScenarioError, run_scenario};
use migrate_core::model::ModelFixture;
use migrate_core::{
    Args, Edge, Frames, Hooked, HookedTarget, LINUX_2_6_17, MODERN, NewPages, Profile, Slot, Verdict, isolate_lru_page,
    migrate_pages, migrate_prep, putback_lru_pages,
};
use mm_types::scenario::{Mover, Sharing};
use mm_types::trace::{check_events, text_of};
use mm_types::{Mode, Outcome, Pfn, Reason, Site, Vpn};

fn error(profile: &'static Profile, steps: &str) -> ScenarioError {
    let text = format!("scenario v1\nspace m0\nmap p0 m0+0x3 anon rw\n{steps}\n");
    run_scenario(&mut ModelFixture::default(), &text, Some(profile)).expect_err("the scenario is wrong")
}

#[test]
fn an_expectation_that_does_not_hold_is_told_with_what_was_found() {
    let wrong = error(&MODERN, "migrate p0\nexpect refused p0 pinned");
    assert_eq!(wrong.to_string(), "line 5: expected refused p0 pinned, found moved p0");
    let wrong = error(&MODERN, "write m0+0x3 0x2a\nexpect read m0+0x3 0x2b");
    assert_eq!(wrong.to_string(), "line 5: expected 0x2b, found 0x2a");
    let wrong = error(&MODERN, "get p0\nmigrate p0\nexpect moved p0");
    let found = "line 6: expected moved p0, found refused p0 extra_reference expected=1 found=2";
    assert_eq!(wrong.to_string(), found);
}

#[test]
fn a_run_that_would_sleep_for_ever_is_told_and_ends() {
    let wrong = error(&LINUX_2_6_17, "lock p0\nmigrate p0");
    assert!(matches!(wrong, ScenarioError::Asleep { line: 5, .. }), "{wrong}");
}

#[test]
fn a_step_at_an_edge_that_never_comes_is_told() {
    let wrong = error(&MODERN, "at wait: get p0\nmigrate p0");
    assert_eq!(wrong.to_string(), "line 4: the run has no wait");
    let wrong = error(&MODERN, "at copy: get p0");
    assert!(wrong.to_string().starts_with("line 4: no run follows"), "{wrong}");
}

#[test]
fn names_that_stand_for_nothing_are_told() {
    assert_eq!(error(&MODERN, "migrate p1").to_string(), "line 4: there is no p1");
    assert_eq!(error(&MODERN, "touch m1+0x3").to_string(), "line 4: there is no m1");
    assert_eq!(error(&MODERN, "unlock p0").to_string(), "line 4: nobody locked p0");
    let wrong = error(&MODERN, "touch m0+0x4");
    assert!(
        matches!(
            wrong,
            ScenarioError::Step {
                error: FixtureError::Killed(_),
                ..
            }
        ),
        "{wrong}"
    );
}

#[test]
fn an_access_in_the_middle_that_would_sleep_is_told() {
    let wrong = error(&MODERN, "at copy: touch m0+0x3\nmigrate p0");
    assert!(wrong.to_string().contains("the access would sleep"), "{wrong}");
}

#[test]
fn what_a_scenario_leaves_locked_and_held_is_given_back() {
    let text = "scenario v1\nspace m0\nmap p0..p3 m0+0x3 anon rw\nlock p0\nget p1\npin p2\nisolate p3\n";
    let done = run_scenario(&mut ModelFixture::default(), text, None);
    assert!(matches!(done, Ok(Replay::Ran(_))), "{done:?}");
}

/// Pages of every kind in two spaces, dirty and clean, with values.
fn pages(fixture: &ModelFixture) -> Result<Vec<(Pfn, Site, u64)>, FixtureError> {
    let (space, plain) = (fixture.space()?, fixture.file(8, Mover::Plain)?);
    let (buffers, fallback) = (fixture.file(8, Mover::Buffers)?, fixture.file(8, Mover::Fallback)?);
    let mut sites = Vec::new();
    for n in 0..8 {
        let site = Site::new(space, Vpn::new(0x10 + n));
        match n {
            0 | 1 => fixture.map_anon(site, true)?,
            2 => fixture.map_file(plain, n, site, true, Sharing::Shared)?,
            3 | 4 => fixture.map_file(buffers, n, site, true, Sharing::Shared)?,
            5 => fixture.map_file(fallback, n, site, false, Sharing::Shared)?,
            6 => fixture.map_file(fallback, n, site, true, Sharing::Shared)?,
            _ => fixture.map_file(plain, n, site, true, Sharing::Private)?,
        };
        if n != 5 {
            fixture.write(site, 100 + n)?;
        }
        sites.push(site);
    }
    let swapped = fixture.page_at(sites[1]).unwrap();
    fixture.swap_cache(swapped)?;
    fixture.fork(space)?;
    sites
        .into_iter()
        .map(|site| Ok((fixture.page_at(site).unwrap(), site, fixture.read(site)?)))
        .collect()
}

/// One run in which the steps that `fails` picks fail, of those that can; returns how many can.
fn run(profile: &'static Profile, mode: Mode, batch: usize, fails: impl Fn(usize) -> bool) -> usize {
    let mut fixture = ModelFixture::default();
    let recording = Arc::new(Recording::with_capacity(1 << 12));
    fixture.begin(profile, Arc::clone(&recording));
    let (backend, pages) = (fixture.backend(), pages(&fixture).unwrap());
    migrate_prep(backend);
    let (steps, busy) = (Cell::new(0), Cell::new(false));
    let hook = |edge: Edge| {
        if !edge.can_fail() {
            return Verdict::Go;
        }
        let n = steps.replace(steps.get() + 1);
        // A run that may wait for a buffer waits as long as it is busy.
        let waited = busy.replace(matches!(edge, Edge::TryLockBuffers(_)));
        if fails(n) && !waited {
            Verdict::Fail
        } else {
            Verdict::Go
        }
    };
    let hooked = Hooked::new(backend, &hook);
    let (mut from, mut moved, mut failed) = (VecDeque::new(), VecDeque::new(), VecDeque::new());
    for (pfn, ..) in &pages {
        let page = backend.get(*pfn).unwrap();
        from.push_back(isolate_lru_page(backend, &page, &*recording).unwrap());
        backend.put(page);
    }
    let mut news: VecDeque<_> = pages.iter().map(|_| fixture.new_page().unwrap()).collect();
    let mut slots: Vec<_> = (0..batch).map(|_| Slot::new()).collect();
    let mut last = 0;
    let mut too_late = Vec::new();
    let args = Args {
        from: &mut from,
        target: HookedTarget(NewPages(&mut news)),
        moved: Some(&mut moved),
        failed: &mut failed,
        slots: &mut slots,
        profile,
        mode,
        reason: Reason::Compaction,
        outcome: &mut |page, outcome| {
            last += usize::from(outcome.is_final());
            if let Outcome::Refused(mm_types::Refusal::CopiedTooLate) = outcome {
                too_late.push(backend.pfn(page));
            }
        },
        observer: &*recording,
    };
    let tally = migrate_pages(&hooked, args).unwrap();
    assert_eq!(last, pages.len(), "every page has one outcome");
    assert_eq!(moved.len() + failed.len() + from.len(), pages.len());
    assert_eq!((tally.moved + tally.freed) as usize, moved.len());
    for list in [&mut from, &mut moved, &mut failed] {
        putback_lru_pages(backend, list, &*recording);
    }
    news.into_iter().for_each(|page| backend.put(page));
    let events: Vec<_> = recording.events().collect();
    check_events(&events).unwrap_or_else(|error| panic!("{error}\n{}", text_of(events)));
    fixture
        .check()
        .unwrap_or_else(|violation| panic!("{violation}\n{}", recording.text()));
    for (old, site, value) in &pages {
        if !too_late.contains(old) {
            assert_eq!(fixture.read(*site), Ok(*value), "{site:?}");
        }
    }
    fixture.check().unwrap();
    steps.get()
}

#[test]
fn whatever_step_fails_nothing_is_lost_and_nothing_is_left() {
    for (profile, mode, batch) in [
        (&LINUX_2_6_17, Mode::Sync, 1),
        (&MODERN, Mode::Async, 8),
        (&MODERN, Mode::SyncLight, 3),
        (&MODERN, Mode::Sync, 8),
    ] {
        let steps = run(profile, mode, batch, |_| false);
        assert!(steps > 30, "{steps}");
        for n in 0..steps {
            run(profile, mode, batch, |step| step == n);
            // From there on nothing works any more.
            run(profile, mode, batch, |step| step >= n);
        }
    }
}

#[test]
fn steps_that_fail_in_any_pattern_leave_nothing() {
    for seed in 1..100u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let pattern: Vec<bool> = (0..512)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state % 5 == 0
            })
            .collect();
        let (profile, mode) = [
            (&LINUX_2_6_17, Mode::Sync),
            (&MODERN, Mode::Async),
            (&MODERN, Mode::Sync),
        ][seed as usize % 3];
        println!("seed {seed}");
        run(profile, mode, 1 + seed as usize % 8, |n| pattern[n % pattern.len()]);
    }
}

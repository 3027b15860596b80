//! What the scenario runner says of scenarios that are wrong.

use migrate_core::fixture::{Fixture, FixtureError, Replay, ScenarioError, run_scenario};
use migrate_core::model::ModelFixture;
use migrate_core::{Frames, LINUX_2_6_17, MODERN, Profile};
use mm_types::PageFlags;
use mm_types::trace::Event;

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
    let mut fixture = ModelFixture::default();
    let report = match run_scenario(&mut fixture, text, None) {
        Ok(Replay::Ran(report)) => report,
        other => panic!("{other:?}"),
    };
    let mapped = report.events.iter().filter_map(|event| match event {
        Event::Map { after, .. } => after.pfn(),
        _ => None,
    });
    let backend = fixture.backend();
    let left: Vec<_> = mapped
        .map(|pfn| {
            let page = backend.get(pfn).expect("it is mapped");
            // Not counting the one reference that this takes.
            let held = (backend.count(&page) - 1, backend.pins(&page));
            let flags = backend.flags(&page) & (PageFlags::LOCKED | PageFlags::LRU);
            backend.put(page);
            (held, flags)
        })
        .collect();
    assert_eq!(left, [((1, 0), PageFlags::LRU); 4]);
}

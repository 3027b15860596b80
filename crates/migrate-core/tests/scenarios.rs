//! Canonical scenarios on the model, each in both profiles where it exists in both, as text that a person can read.
//!
//! Every trace also goes through the checker, and the model recounts itself at the end: approving a wrong snapshot is not enough.

use std::collections::BTreeSet;
use std::path::Path;

use migrate_core::conformance::{Recorded, readable, scenarios};
use migrate_core::fixture::{Replay, Report, run_scenario};
use migrate_core::invariants::check_waiters;
use migrate_core::model::ModelFixture;
use mm_types::Rules;
use mm_types::trace::check_text;

/// The name of a scenario's snapshot.
fn name(scenario: &Recorded) -> String {
    let word = match scenario.profile.rules {
        Rules::Linux2617 => "linux",
        Rules::Modern => "modern",
    };
    format!("{}.{word}", scenario.name)
}

fn run(scenario: &Recorded) -> Report {
    match run_scenario(&mut ModelFixture::default(), scenario.text, Some(scenario.profile)) {
        Ok(Replay::Ran(report)) => report,
        Ok(Replay::NotApplicable { lacks }) => panic!("{}: the model lacks {lacks}", name(scenario)),
        Err(error) => panic!("{}: {error}", name(scenario)),
    }
}

#[test]
fn each_scenario_leaves_the_trace_it_always_left() {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        for scenario in scenarios() {
            let report = run(scenario);
            check_text(&report.trace()).unwrap_or_else(|error| panic!("{}: {error}", name(scenario)));
            // No scenario has a thread that waits and somebody who holds the page besides.
            check_waiters(report.rules, report.events.iter().copied(), |_| 0)
                .unwrap_or_else(|violation| panic!("{}: {violation}", name(scenario)));
            insta::assert_snapshot!(name(scenario), readable(scenario.text, &report).unwrap());
            assert_eq!(scenario.trace(), report.trace(), "{}", name(scenario));
        }
    });
}

#[test]
fn a_scenario_leaves_the_same_trace_every_time() {
    for scenario in scenarios() {
        assert_eq!(run(scenario).trace(), run(scenario).trace(), "{}", name(scenario));
    }
}

/// What stands in a folder of the tests, without the ending.
fn stems(folder: &str, ending: &str) -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
    let names = folder
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .filter_map(|name| name.strip_suffix(ending).map(str::to_owned))
        .collect()
}

#[test]
fn every_scenario_and_every_snapshot_is_one_of_the_kits() {
    let listed: BTreeSet<String> = scenarios().iter().map(name).collect();
    assert_eq!(listed.len(), scenarios().len(), "a scenario is listed twice");
    assert_eq!(stems("snapshots", ".snap"), listed);
    let texts = scenarios().iter().map(|scenario| {
        // One that exists in one profile names it, in the text and in the file's name.
        if scenario.text.contains("\nprofile ") {
            name(scenario)
        } else {
            scenario.name.to_owned()
        }
    });
    assert_eq!(stems("scenarios", ".scn"), texts.collect());
}

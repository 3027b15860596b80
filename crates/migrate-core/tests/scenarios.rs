//! Canonical scenarios on the model, each in both profiles where it exists in both, as text that a person can read.
//!
//! Every trace also goes through the checker, and the model recounts itself at the end: approving a wrong snapshot is not enough.

mod support;

use migrate_core::fixture::{Replay, Report, run_scenario};
use migrate_core::invariants::check_waiters;
use migrate_core::model::ModelFixture;
use mm_types::trace::{Lines, Stepper, check_text};

fn run(case: &support::Case) -> Report {
    match run_scenario(&mut ModelFixture::default(), &case.text, Some(case.profile)) {
        Ok(Replay::Ran(report)) => report,
        Ok(Replay::NotApplicable { lacks }) => panic!("{}: the model lacks {lacks}", case.name),
        Err(error) => panic!("{}: {error}", case.name),
    }
}

/// What the scenario says, what happened, and where the pages ended.
fn readable(case: &support::Case, report: &Report) -> String {
    let trace = report.trace();
    let mut text = String::new();
    let mut stepper = Stepper::new(report.rules);
    for line in Lines::new(&trace).unwrap() {
        text += &format!("{}\n", stepper.number(line.unwrap()));
    }
    for run in &report.runs {
        text += &format!("{run}\n");
    }
    let said: Vec<&str> = case.text.lines().filter(|line| line.starts_with('#')).collect();
    format!("{}\n{text}", said.join("\n"))
}

#[test]
fn each_scenario_leaves_the_trace_it_always_left() {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        for case in support::cases() {
            let report = run(&case);
            check_text(&report.trace()).unwrap_or_else(|error| panic!("{}: {error}", case.name));
            // No scenario has a thread that waits and somebody who holds the page besides.
            check_waiters(report.rules, report.events.iter().copied(), |_| 0)
                .unwrap_or_else(|violation| panic!("{}: {violation}", case.name));
            insta::assert_snapshot!(case.name.clone(), readable(&case, &report));
        }
    });
}

#[test]
fn a_scenario_leaves_the_same_trace_every_time() {
    for case in support::cases() {
        assert_eq!(run(&case).trace(), run(&case).trace(), "{}", case.name);
    }
}

//! What the stepper's page is made of: each event leads to the checks that it is held against, and the traces are what they seem.

use std::collections::BTreeSet;
use std::path::Path;

use docs_gen::stepper::{checks, traces};
use mm_types::trace::{CheckError, Lines, Rule, check_text};
use trace_tools::rules_of;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap()
}

#[test]
fn each_rule_of_an_event_is_checked_where_the_page_says_so() {
    let checks = checks(root()).unwrap();
    let mut met = BTreeSet::new();
    for trace in traces().unwrap() {
        let Ok(lines) = Lines::new(&trace.text) else { continue };
        for line in lines.map_while(Result::ok) {
            let debug = format!("{:?}", line.event);
            let kind: String = debug.chars().take_while(|letter| letter.is_alphanumeric()).collect();
            let found: BTreeSet<_> = checks[&kind].checks.iter().map(|check| check.rule).collect();
            let said: BTreeSet<_> = rules_of(&line.event).iter().map(|rule| rule.id()).collect();
            // Found are also checks in what several functions share, of which one event cannot break all.
            // And a reader's flush cannot break the rule that asks for it.
            if kind == "FlushPending" {
                assert!(found.is_empty() && checks[&kind].function.is_some());
                continue;
            }
            assert!(found.is_superset(&said), "{kind}: {said:?} are not all in {found:?}");
            met.insert(kind);
        }
    }
    assert!(met.len() > 20, "{met:?}");
}

#[test]
fn a_check_is_found_on_its_line() {
    let checks = checks(root()).unwrap();
    let all: BTreeSet<_> = checks
        .values()
        .flat_map(|held| &held.checks)
        .map(|check| check.rule)
        .collect();
    assert_eq!(all.len(), Rule::ALL.len(), "{all:?}");
    for check in checks.values().flat_map(|held| &held.checks) {
        let text = std::fs::read_to_string(root().join(&check.at.file)).unwrap();
        let lines: Vec<_> = text.lines().skip(check.at.line - 1).take(3).collect();
        assert!(lines.join("\n").contains(&format!("\"{}\"", check.what)), "{check:?}");
        assert_eq!(lines[0].trim(), check.at.code);
    }
    let stale: Vec<_> = checks["Copy"]
        .checks
        .iter()
        .filter(|check| check.rule == "I33")
        .map(|check| check.what.as_str())
        .collect();
    assert!(stale.contains(&"no barrier between unmapping and copying"), "{stale:?}");
}

#[test]
fn the_traces_are_right_but_for_those_that_are_not() {
    let traces = traces().unwrap();
    let names: BTreeSet<_> = traces.iter().map(|trace| trace.name.as_str()).collect();
    assert_eq!(names.len(), traces.len());
    for trace in &traces {
        let wrong = trace.group == "Wrong on purpose";
        match check_text(&trace.text) {
            Ok(_) => assert!(!wrong, "{}", trace.name),
            Err(CheckError::Violation(_) | CheckError::Parse(_)) => assert!(wrong, "{}", trace.name),
            Err(CheckError::Full(full)) => panic!("{}: {full}", trace.name),
        }
        assert!(!trace.about.is_empty(), "{}", trace.name);
    }
    for word in ["refuse p0 ", "migration_entry_wait ", "copy_pte "] {
        assert!(
            traces.iter().any(|trace| trace.text.contains(word)),
            "no trace shows {word}"
        );
    }
}

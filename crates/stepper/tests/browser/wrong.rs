//! Traces that are none, and traces that break a rule.

use crate::page::{Page, trace_file};
use crate::text_of;

#[test]
fn what_is_no_trace_is_told_with_line_and_column() {
    let mut page = Page::open("");
    let mut long = b"trace v1\nisolate p0 f0\n".to_vec();
    long.extend(vec![b'x'; 10 << 20]);
    long.push(b'\n');
    for (name, bytes, expected, steps) in [
        (
            "malformed",
            b"trace v1\nisolate p0 f0\nlock p0 f0 f1\n".as_slice(),
            "Line 3, column 12: the line should end here.",
            1,
        ),
        (
            "unknown-word",
            b"trace v1\nisolate p0 f0\nfrobnicate p0\n",
            "Line 3, column 1: unknown word",
            1,
        ),
        (
            "truncated",
            b"trace v1\nisolate p0 f0\nlock p0 f",
            "Line 3, column 10: the last line is cut off",
            1,
        ),
        (
            "another-version",
            b"trace v2\nisolate p0 f0\n",
            "Line 1, column 1: expected the version line \"trace v1\"",
            0,
        ),
        ("empty", b"", "Line 1, column 1: expected the version line", 0),
        (
            "not-utf8",
            b"trace v1\nisolate p0 f0\nlock \xff\xfe\n",
            "Line 3, column 6: not UTF-8",
            1,
        ),
        ("ten-megabytes", &long, "Line 3, column 1: unknown word", 1),
        (
            "markup",
            b"trace v1\n<img src=x onerror=alert(1)>\n",
            "Line 2, column 1: unknown word",
            0,
        ),
    ] {
        let file = trace_file(&format!("{name}.trace"), bytes);
        page.pick(&file);
        let said = page.shown("#problem");
        assert!(said.starts_with("This is not a trace\n"), "{name}: {said}");
        assert!(said.contains(expected), "{name}: {expected:?} is not in {said}");
        assert!(said.len() < 1000, "{name}: {} bytes are said", said.len());
        // What comes before the place is a trace, and can be seen.
        assert_eq!(page.steps(), steps, "{name}");
        page.press("End");
        assert_eq!(page.step(), steps, "{name}");
    }
    assert_eq!(page.0.eval("document.querySelectorAll('img').length"), 0);
    // The place is pointed at.
    let file = trace_file("malformed.trace", b"trace v1\nisolate p0 f0\nlock p0 f0 f1\n");
    page.pick(&file);
    assert_eq!(
        page.0.text("document.querySelector('#problem-line').textContent"),
        "lock p0 f0 f1\n           ^"
    );
    // And the next trace is a new beginning.
    let file = trace_file("right.trace", text_of("pinned.modern").as_bytes());
    page.pick(&file);
    assert_eq!(page.shown("#problem"), "");
}

#[test]
fn a_trace_that_breaks_a_rule_names_it_and_is_stepped_through_up_to_it() {
    let mut page = Page::open("#trace=flush_left_out");
    let text = text_of("flush_left_out");
    let copy = text.lines().position(|line| line.starts_with("copy ")).unwrap();
    let said = page.shown("#problem");
    assert!(said.starts_with("This trace breaks a rule\n"), "{said}");
    let place = format!("Line {}, column 1: I33 (no stale translation is left", copy + 1);
    assert!(said.contains(&place), "{place:?} is not in {said}");
    for step in 1..copy {
        page.press("ArrowRight");
        assert_eq!(page.step(), step);
        assert!(!page.shown("#now-body").contains("Here a rule breaks"));
    }
    // The translation that should have been flushed is in view, step by step.
    assert!(page.shown(".panel.tlbs").contains("the flush"));
    page.press("ArrowRight");
    let card = page.shown("#now-body");
    assert!(card.contains("Here a rule breaks") && card.contains("I33"), "{card}");
    assert!(card.contains("no barrier between unmapping and copying"), "{card}");
    assert!(page.event().starts_with("copy "));
    assert_eq!(
        page.0
            .eval("document.querySelectorAll('#events .row.bad:not([hidden])').length"),
        1
    );
    page.press("ArrowRight");
    assert!(
        page.shown("#now-body")
            .contains(&format!("After the violation on line {}", copy + 1))
    );
    page.press("Home");
    page.0.click("#problem-go");
    assert_eq!(page.step(), copy);
}

#[test]
fn a_trace_that_ends_too_early_breaks_a_rule_at_its_end() {
    let mut page = Page::open("#trace=wake_left_out");
    let said = page.shown("#problem");
    assert!(
        said.contains("I23") && said.contains("a thread waits and never wakes"),
        "{said}"
    );
    page.0.click("#problem-go");
    assert_eq!(page.step(), page.steps());
    assert!(page.shown("#now-body").contains("Here the trace ends too early"));
    assert!(page.shown(".panel.waiters").contains("waits for the lock"));
}

#[test]
fn an_old_bug_is_shown_at_the_step_where_its_invariant_breaks() {
    let mut page = Page::open("");
    let mut shown = 0;
    for exhibit in docs_gen::exhibits::EXHIBITS {
        page.visit(&format!("#trace=bug {}", exhibit.id).replace(' ', "+"));
        let bug = exhibit.catalogued().unwrap();
        assert!(page.shown("#about").starts_with(bug.scenario), "{}", exhibit.id);
        let docs_gen::exhibits::Finding::Line(violation) = exhibit.finding().unwrap() else {
            assert!(page.shown("#about").contains("The recount says: "), "{}", exhibit.id);
            continue;
        };
        let place = format!("Line {}, column 1: {} (", violation.line, bug.breaks.id());
        let said = page.shown("#problem");
        assert!(
            said.contains(&place) && said.contains(violation.what),
            "{}: {said}",
            exhibit.id
        );
        page.0.click("#problem-go");
        let card = page.shown("#now-body");
        assert!(card.contains(violation.what), "{}: {card}", exhibit.id);
        shown += 1;
    }
    assert_eq!(shown, 3, "bugs that break a rule of their trace");
}

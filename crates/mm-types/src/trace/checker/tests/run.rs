//! Runs and outcomes.

use std::format;
use std::string::String;

use super::{MODERN, OLD, broken, broken_by, check, replaced, with, without};
use crate::Invariant::*;

#[test]
fn i29_each_page_has_one_outcome_and_the_counts_add_up() {
    assert_eq!(replaced(OLD, "succeeded=1", "succeeded=2"), OneOutcome);
    assert_eq!(replaced(MODERN, "left=1", "left=0"), OneOutcome);
    assert_eq!(without(OLD, "moved p0 f0 new=f1"), OneOutcome);
    assert_eq!(
        replaced(OLD, "moved p0 f0 new=f1\n", "moved p0 f0 new=f1\nfreed p0 f0\n"),
        OnlyForward
    );
    let twice = "refuse p1 f1 reason=lock_busy";
    assert_eq!(
        broken(&with(MODERN, twice, "mm_migrate_pages succeeded=1 failed=0 left=1")).rule,
        OneOutcome
    );
}

#[test]
fn i30_passes_and_new_pages_are_bounded() {
    let passes = |rules: &str, last: u32| {
        let mut text = format!("trace v1\nmm_migrate_pages_start profile={rules} mode=sync reason=damon\n");
        for number in 0..=last {
            text += &format!("pass number={number}\n");
        }
        text + "mm_migrate_pages succeeded=0 failed=0 left=0\n"
    };
    assert!(check(&passes("linux-2.6.17", 10)).is_ok());
    assert_eq!(broken(&passes("linux-2.6.17", 11)).rule, Bounded);
    assert!(check(&passes("modern", 9)).is_ok());
    assert_eq!(broken(&passes("modern", 10)).rule, Bounded);
    assert_eq!(replaced(OLD, "pass number=0", "pass number=1"), Bounded);
    assert_eq!(without(MODERN, "unlock f3\ngive_back f3"), WaitersWake);
    assert_eq!(without(MODERN, "give_back f3"), Bounded);
    assert_eq!(
        replaced(MODERN, "new_page p1 f1 new=f3", "new_page p1 f1 new=f2"),
        Bounded
    );
    // One that was given back leaves room for another.
    let another = "new_page p1 f1 new=f4\nunlock f4\ngive_back f4";
    assert_eq!(
        check(&with(MODERN, another, "unlock p1 f1")).map(|checked| checked.succeeded),
        Ok(1)
    );
    let retries = std::vec!["retry p1 f1 reason=lock_busy"; 20].join("\n");
    assert_eq!(broken(&with(MODERN, &retries, "unlock f3")).rule, Bounded);
}

#[test]
fn i29_a_page_refused_in_one_run_is_tried_anew_in_the_next() {
    let run = |retries: usize| {
        let retries = "retry p0 f0 reason=lock_busy\n".repeat(retries);
        format!(
            "mm_migrate_pages_start profile=modern mode=sync reason=damon\nlock p0 f0\nunlock p0 f0\n\
             {retries}refuse p0 f0 reason=lock_busy\nmm_migrate_pages succeeded=0 failed=0 left=1\n"
        )
    };
    let checked = check(&format!("trace v1\nisolate p0 f0\n{}{}", run(20), run(20)));
    assert_eq!(checked.map(|checked| checked.runs), Ok(2));
    let within = run(0).replace("mm_migrate_pages succ", "lock p0 f0\nmm_migrate_pages succ");
    assert_eq!(broken_by(&format!("trace v1\n{within}"), "lock f0"), OneOutcome);
}

#[test]
fn i30_attempts_are_as_many_as_the_profile_makes() {
    for (rules, most) in [("linux-2.6.17", 11), ("modern", 20)] {
        let text = |retries: usize| {
            let retries = "retry p0 f0 reason=lock_busy\n".repeat(retries);
            format!(
                "trace v1\nmm_migrate_pages_start profile={rules} mode=sync reason=damon\n{retries}\
                 refuse p0 f0 reason=lock_busy\nmm_migrate_pages succeeded=0 failed=0 left=1\n"
            )
        };
        assert_eq!(check(&text(most)).map(|_| ()), Ok(()), "{rules}");
        assert_eq!(broken(&text(most + 1)).rule, Bounded, "{rules}");
    }
}

#[test]
fn i30_todays_passes_begin_anew_and_again_where_pages_go_one_by_one() {
    let run = |rules: &str, passes: &[u32]| {
        let passes: String = passes.iter().map(|number| format!("pass number={number}\n")).collect();
        check(&format!(
            "trace v1\nmm_migrate_pages_start profile={rules} mode=sync reason=damon\n{passes}\
             mm_migrate_pages succeeded=0 failed=0 left=0\n"
        ))
        .is_ok()
    };
    for (passes, modern, of_2006) in [
        (&[0, 1, 2, 3, 4][..], true, true),
        (&[0, 1, 0, 1, 2], true, false),
        (&[0, 3, 4, 5], true, false),
        (&[0, 1, 3, 0, 3], true, false),
        (&[0, 0], true, false),
        (&[0, 2], false, false),
        (&[0, 4], false, false),
        (&[0, 1, 1], false, false),
        (&[1], false, false),
    ] {
        assert_eq!(run("modern", passes), modern, "{passes:?}");
        assert_eq!(run("linux-2.6.17", passes), of_2006, "{passes:?}");
    }
}

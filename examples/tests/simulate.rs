//! The simulator as a person would run it: what it prints, that it notices, and that what it prints plays the same again.

use core::sync::atomic::AtomicBool;
use std::process::{Command, Output};

use examples::simulate::{args, run};

fn simulate(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_simulate"))
        .args(args)
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What stands behind `key=` in the line that scripts look for.
fn figure(text: &str, key: &str) -> String {
    let line = text.lines().find(|line| line.starts_with("proof: simulate ")).unwrap();
    let word = line
        .split(' ')
        .find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    word.unwrap_or_else(|| panic!("no {key} in {line}")).to_owned()
}

#[test]
fn worlds_go_by_and_everything_is_counted() {
    let output = simulate(&[
        "--pages",
        "2000",
        "--calls",
        "400",
        "--threads",
        "2",
        "--quiet",
        "--seed",
        "7",
    ]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(output.stderr.is_empty());
    let number = |key| figure(&text, key).parse::<u64>().unwrap();
    assert!(number("pages") >= 2000 && number("calls") > 0 && number("checks") > number("calls"));
    assert!(
        number("failures") > 0 && number("middle") > 0 && number("everything") > 0,
        "{text}"
    );
    assert_eq!((figure(&text, "seed"), number("wrong")), ("0x7".to_owned(), 0));
}

#[test]
fn a_simulation_that_was_cut_off_is_not_good() {
    for (goal, word) in [
        ("--pages=1e9", "pages:1000000000"),
        ("--seconds=1000", "seconds:1000"),
        ("--replay=1", "one-world"),
    ] {
        let Ok(asked) = args::simulation(["simulate", goal, "--quiet"].map(Into::into)) else {
            panic!("{goal}")
        };
        let report = run(&asked, &AtomicBool::new(true));
        let text = report.to_string();
        assert!(!report.is_good() && report.interrupted, "{text}");
        assert_eq!(
            (figure(&text, "goal"), figure(&text, "reached")),
            (word.to_owned(), "0".to_owned())
        );
        assert!(text.contains("WRONG: it ended before its goal"), "{text}");
    }
}

#[test]
fn a_world_is_the_same_each_time() {
    let play = || {
        let text = stdout(&simulate(&["--replay", "0x123", "--calls", "300", "--quiet"]));
        let end = text.find("\n\n").unwrap();
        text[..end].to_owned()
    };
    assert_eq!(play(), play());
}

#[test]
fn what_went_wrong_is_played_again_by_the_command_that_is_printed() {
    let output = simulate(&[
        "--pages",
        "1000",
        "--threads",
        "1",
        "--calls",
        "200",
        "--corrupt",
        "120",
        "--quiet",
    ]);
    let text = stdout(&output);
    assert_eq!(
        (output.status.code(), figure(&text, "wrong")),
        (Some(1), "1".to_owned()),
        "{text}"
    );
    let what = |text: &str, before: &str| {
        let line = text.lines().find(|line| line.starts_with(before)).unwrap();
        line.to_owned()
    };
    let commands: Vec<Vec<String>> = text
        .lines()
        .filter_map(|line| line.strip_prefix("replay: ci/simulate "))
        .map(|args| args.split(' ').map(str::to_owned).collect())
        .collect();
    let [found, short] = &commands[..] else {
        panic!("{text}")
    };
    let again = |args: &[String]| {
        let output = simulate(&args.iter().map(String::as_str).chain(["--quiet"]).collect::<Vec<_>>());
        assert_eq!(output.status.code(), Some(1));
        stdout(&output)
    };
    assert_eq!(what(&again(found), "WRONG"), what(&text, "WRONG"));
    let shorter = what(&text, "shorter").replace("shorter, wrong", "WRONG");
    assert_eq!(what(&again(short), "WRONG"), shorter);
    // No call that is left can go: without any of them nothing is wrong. The last is the one at which the page is changed.
    let only = short.iter().position(|arg| arg == "--only").unwrap() + 1;
    let calls: Vec<&str> = short[only].split(',').collect();
    // A page is mapped, somebody stores to it, and it is changed: four calls at most.
    assert!(calls.len() <= 4, "{short:?}");
    for left_out in &calls[..calls.len() - 1] {
        let kept: Vec<&str> = calls.iter().filter(|call| *call != left_out).copied().collect();
        let mut args = short.clone();
        args[only] = kept.join(",");
        let output = simulate(&args.iter().map(String::as_str).chain(["--quiet"]).collect::<Vec<_>>());
        assert_eq!(
            figure(&stdout(&output), "wrong"),
            "0",
            "without call {left_out}: {args:?}"
        );
    }
}

#[test]
fn a_page_that_was_to_be_changed_and_was_not_is_a_failure() {
    // There is no call of this number; before the first call nothing is mapped.
    for corrupt in ["41", "1"] {
        let output = simulate(&["--replay", "7", "--calls", "40", "--corrupt", corrupt, "--quiet"]);
        let text = stdout(&output);
        assert_eq!(
            (output.status.code(), figure(&text, "wrong")),
            (Some(1), "0".to_owned()),
            "{text}"
        );
        assert!(text.contains("WRONG: no page was changed: call"), "{text}");
    }
}

#[test]
fn a_changed_page_is_noticed_at_once_whenever_everything_is_looked_at() {
    for seed in ["6", "105", "114"] {
        let text = stdout(&simulate(&[
            "--replay",
            seed,
            "--calls",
            "300",
            "--corrupt",
            "300",
            "--quiet",
        ]));
        assert_eq!(figure(&text, "wrong"), "1", "seed {seed}: {text}");
        assert!(text.contains("WRONG at call 300: "), "{text}");
    }
}

#[test]
fn worlds_in_which_no_page_moves_are_a_failure() {
    let output = simulate(&["--seconds", "1", "--threads", "1", "--calls", "2", "--quiet"]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("WRONG: no page moved"), "{text}");
}

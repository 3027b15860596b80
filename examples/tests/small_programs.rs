//! The small programs, each with its one idea.

use std::process::{Command, Output};

use mm_types::Refusal;

fn run(program: &str, args: &[&str]) -> Output {
    Command::new(program).args(args).output().unwrap()
}

#[track_caller]
fn text(output: &Output) -> String {
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn one_page_prints_the_steps_of_both_documents_by_number() {
    let program = env!("CARGO_BIN_EXE_one_page");
    let modern = text(&run(program, &[]));
    assert!(modern.contains("[    4] set_migration_pte p0 f0"), "{modern}");
    let old = text(&run(program, &["linux-2.6.17"]));
    for step in [
        "[   A1] isolate",
        "[    1] lock",
        "[    5] set_migration_pte",
        "[   12] copy",
        "[   16] remove_migration_pte",
        "[   20] putback",
    ] {
        assert!(old.contains(step), "{step} in {old}");
    }
}

#[test]
fn refusals_names_every_reason_or_says_why_not() {
    let text = text(&run(env!("CARGO_BIN_EXE_refusals"), &[]));
    for refusal in Refusal::EXAMPLES {
        let word = refusal.word();
        let at = text.find(&format!("\n{word}\n")).unwrap_or_else(|| panic!("{word}"));
        let part = text.get(at + 1..).unwrap().split("\n\n").next().unwrap();
        let told = part.contains("holder ") && part.contains("advice ");
        assert!(told || part.contains("not reachable: "), "{part}");
    }
}

#[test]
fn a_watched_fault_sleeps_and_wakes_on_the_new_page() {
    let text = text(&run(env!("CARGO_BIN_EXE_watch_a_fault"), &[]));
    let at = |word: &str| text.find(word).unwrap_or_else(|| panic!("{word} in {text}"));
    for order in [
        ["set_migration_pte", "copy p0", "remove_migration_pte"],
        ["set_migration_pte", "migration_entry_wait t1", "wake t1"],
        ["remove_migration_pte", "wake t1", "slept in the fault"],
    ] {
        assert!(order.map(at).is_sorted(), "{order:?} in {text}");
    }
}

#[test]
fn arguments_that_make_no_sense_are_one_line_and_exit_code_2() {
    for program in [
        env!("CARGO_BIN_EXE_one_page"),
        env!("CARGO_BIN_EXE_refusals"),
        env!("CARGO_BIN_EXE_watch_a_fault"),
    ] {
        let output = run(program, &["nonsense"]);
        let line = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            (output.status.code(), line.lines().count()),
            (Some(2), 1),
            "{program}: {line}"
        );
    }
}

use std::format;
use std::string::{String, ToString};

use super::{Judged, Wrong, is_kernels, judge, judge_within};

const REAL: &[u8] = include_bytes!("../../tests/tools/fixtures/linux-6.18.ftrace");

/// Lines of one task, in the kernel's columns.
fn text(events: &[&str]) -> String {
    let lines = events
        .iter()
        .zip(1..)
        .map(|(event, at)| format!("            bash-17706   [000] ...1.     3.{at:06}: {event}\n"));
    format!("# tracer: nop\n#\n{}", lines.collect::<String>())
}

fn verdict(events: &[&str]) -> String {
    match judge(text(events).as_bytes()) {
        Ok(judged) => format!("{judged:?}"),
        Err(wrong) => wrong.to_string(),
    }
}

fn accepted(events: &[&str]) -> Judged {
    judge(text(events).as_bytes()).unwrap_or_else(|wrong| panic!("{wrong}"))
}

const START: &str = "mm_migrate_pages_start: mode=MIGRATE_SYNC reason=compaction";
const END: &str = "mm_migrate_pages: nr_succeeded=1 nr_failed=0 nr_thp_succeeded=0 nr_thp_failed=0 nr_thp_split=0 nr_split=0 mode=MIGRATE_SYNC reason=compaction";
// Frame 0x101c1f, and where it goes.
const SET: &str = "set_migration_pte: addr=7f8c631d2000, pte=e7ffffffdfc7c000 order=0";
const BACK: &str = "remove_migration_pte: addr=7f8c631d2000, pte=800000050fc04005 order=0";
const STAYED: &str = "remove_migration_pte: addr=7f8c631d2000, pte=8000000101c1f005 order=0";

#[test]
fn a_recording_of_linux_6_18_is_accepted() {
    let judged = judge(REAL).unwrap();
    let expected = Judged {
        events: 48,
        runs: 4,
        pairs: 20,
        moved: 7,
        succeeded: 31 + 448 + 480 + 160,
        failed: 33,
        ..Judged::default()
    };
    assert_eq!(judged, expected);
    assert!(is_kernels(REAL));
    assert!(!is_kernels(b"trace v1\nlock f0\n") && !is_kernels(b"") && !is_kernels(b"\n\n"));
}

#[test]
fn no_line_of_a_recording_can_be_left_out() {
    let text = str::from_utf8(REAL).unwrap();
    let lines: std::vec::Vec<&str> = text.split_inclusive('\n').collect();
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| !line.starts_with('#')) {
        // The recording may have begun within a run.
        if line.contains("mm_migrate_pages_start") && at == 12 {
            continue;
        }
        let without: String = lines
            .iter()
            .enumerate()
            .filter(|(n, _)| *n != at)
            .map(|(_, line)| *line)
            .collect();
        // The last run's end may have come after the recording's.
        if at + 1 == lines.len() {
            assert_eq!(judge(without.as_bytes()).map(|judged| judged.runs), Ok(3));
            continue;
        }
        // An entry that others copied may have come by a fork: then the address is the same, and the frame.
        assert!(
            matches!(judge(without.as_bytes()), Err(Wrong::Broken(_))),
            "without line {}: {line}",
            at + 1
        );
    }
}

#[test]
fn an_entry_comes_back_once() {
    assert_eq!(accepted(&[START, SET, BACK, END]).moved, 1);
    assert!(verdict(&[START, SET, END]).starts_with("line 5: I6 "));
    assert!(verdict(&[START, BACK, END]).starts_with("line 4: I6 "));
    assert!(verdict(&[START, SET, END]).contains("replaced in line 4 has not come back"));
    // A fork in flight copies the entry, and both come back on one frame.
    assert_eq!(accepted(&[START, SET, BACK, BACK, END]).copied, 1);
    assert!(verdict(&[START, SET, BACK, STAYED, END]).starts_with("line 6: I6 "));
    // What was in flight before the first line, and after the last.
    assert_eq!(accepted(&[BACK, END, START, SET]).before, 1);
    assert_eq!(accepted(&[BACK, END, START, SET]).after, 1);
}

#[test]
fn of_others_addresses_it_is_not_known_that_an_entry_must_come_back() {
    let here = 0x7f8c_631d_2000..=0x7f8c_631d_2fff;
    let elsewhere = 0..=0x7f8c_631d_1fff;
    let within = |events: &[&str], within| judge_within(text(events).as_bytes(), within).map(|judged| judged.elsewhere);
    assert_eq!(within(&[START, SET, END], &elsewhere), Ok(1));
    assert_eq!(within(&[START, BACK, END], &elsewhere), Ok(1));
    assert_eq!(within(&[START, SET, BACK, END], &here), Ok(0));
    assert!(within(&[START, SET, END], &here).is_err());
    assert!(within(&[START, BACK, END], &here).is_err());
    // Everything else is held against the rules wherever it is.
    let none = END.replace("nr_succeeded=1", "nr_succeeded=0");
    assert!(within(&[START, SET, BACK, &none], &elsewhere).is_err());
}

#[test]
fn all_entries_of_a_page_come_back_on_one_frame() {
    let other = |event: &str| event.replace("7f8c631d2000", "7f0000000000");
    let (set, back, stayed) = (other(SET), other(BACK), other(STAYED));
    assert_eq!(accepted(&[START, SET, &set, BACK, &back, END]).moved, 1);
    let broken = verdict(&[START, SET, &set, BACK, &stayed, END]);
    assert!(broken.starts_with("line 7: I7 "), "{broken}");
    // Another attempt binds nobody to the first.
    assert_eq!(accepted(&[START, SET, STAYED, SET, BACK, END]).moved, 1);
}

#[test]
fn the_counts_of_a_run_cover_the_entries() {
    let stayed = END.replace("nr_succeeded=1 nr_failed=0", "nr_succeeded=0 nr_failed=1");
    let none = END.replace("nr_succeeded=1", "nr_succeeded=0");
    assert_eq!(accepted(&[START, SET, STAYED, &stayed]).failed, 1);
    assert!(verdict(&[START, SET, BACK, &stayed]).starts_with("line 6: I29 "));
    assert!(verdict(&[START, SET, STAYED, &none]).starts_with("line 6: I29 "));
    // The pieces of a page that was split count by themselves.
    assert!(judge(text(&[START, SET, STAYED, &none.replace("nr_split=0", "nr_split=1")]).as_bytes()).is_ok());
    // A folio of four pages moves whole.
    let four = |event: &str| event.replace("order=0", "order=2");
    assert!(verdict(&[START, &four(SET), &four(BACK), END]).contains("entries of 4 pages came back on another frame"));
    assert!(
        judge(
            text(&[
                START,
                &four(SET),
                &four(BACK),
                &END.replace("nr_succeeded=1", "nr_succeeded=4")
            ])
            .as_bytes()
        )
        .is_ok()
    );
}

#[test]
fn runs_begin_and_end_in_turn_each_task_for_itself() {
    assert!(verdict(&[START, START]).starts_with("line 4: order "));
    assert!(verdict(&[START, END, END]).starts_with("line 5: order "));
    let other = END.replace("reason=compaction", "reason=damon");
    assert!(verdict(&[START, &other]).contains("the run began in line 3 as mode=MIGRATE_SYNC reason=compaction"));
    let two = text(&[START, SET])
        + &text(&[START, SET, BACK, END])
            .replace("17706", "2")
            .replace("# tracer: nop\n#\n", "");
    let judged = judge((two + &text(&[BACK, END])).as_bytes()).unwrap();
    assert_eq!((judged.runs, judged.pairs), (2, 2));
    // A huge page is split outside of a run, by migration entries too.
    assert_eq!(accepted(&[SET, STAYED, START, END]).pairs, 1);
    assert!(verdict(&[START, END, SET, START]).starts_with("line 6: I6 "));
}

#[test]
fn words_of_another_machine_are_paired_and_not_read() {
    // arm64: the type of the entry is in low bits.
    let set = SET.replace("e7ffffffdfc7c000", "101c1f740");
    let judged = accepted(&[START, &set, BACK, END]);
    assert_eq!((judged.pairs, judged.moved), (1, 0));
    assert!(verdict(&[START, &set, END]).starts_with("line 5: I6 "));
}

#[test]
fn the_columns_of_trace_cmd_and_of_older_kernels_are_read() {
    let report = "cpus=2
  kworker/u4:2-events-123   [001]  3.000001: mm_migrate_pages_start: mode=MIGRATE_ASYNC reason=numa_misplaced
  kworker/u4:2-events-123   [001]  3.000002: sched_switch:         prev_comm=a [120] R ==> b:7 [120]
 kworker/u4:2-events-123   (    123) [001] d..1. 3.000003: mm_migrate_pages:     nr_succeeded=0 nr_failed=2 mode=MIGRATE_ASYNC reason=numa_misplaced
";
    let judged = judge(report.as_bytes()).unwrap();
    assert_eq!((judged.events, judged.runs, judged.failed), (2, 1, 2));
}

#[test]
fn a_line_that_cannot_be_read_is_told_with_its_column() {
    let wrong = |line: &str| match judge(format!("{line}\n").as_bytes()) {
        Err(Wrong::Unreadable(wrong)) => wrong.to_string(),
        other => panic!("{line}: {other:?}"),
    };
    assert!(wrong("hello").starts_with("line 1, column 1: expected an event"));
    assert!(wrong("a-1 [000] ..... nothing").starts_with("line 1, column 17: expected a time"));
    assert!(wrong("a-1 [000] 1.0: nothing").starts_with("line 1, column 16: expected the name"));
    assert_eq!(
        wrong("a-1 [000] 1.0: set_migration_pte: addr=zz, pte=0 order=0"),
        "line 1, column 40: expected a hexadecimal number"
    );
    assert_eq!(
        wrong("a-1 [000] 1.0: set_migration_pte: pte=0"),
        "line 1, column 35: expected addr="
    );
    assert_eq!(
        wrong("a-1 [000] 1.0: set_migration_pte: addr=0, pte=0 order=64"),
        "line 1, column 55: number out of range: expected log2 of a count of pages"
    );
    assert_eq!(
        wrong("a-1 [000] 1.0: mm_migrate_pages_start: mode=? reason=x"),
        "line 1, column 45: expected a word"
    );
    assert_eq!(
        wrong("a-1 [000] 1.0: set_migration_pte: addr=0, pte=0 order=0 more"),
        "line 1, column 57: the line should end here"
    );
    // What a later kernel adds is let be.
    let added = "a-1 [000] 1.0: mm_migrate_pages_start: mode=MIGRATE_SYNC reason=x nid=3\n";
    assert!(judge(added.as_bytes()).is_ok());
}

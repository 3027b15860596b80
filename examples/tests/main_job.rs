//! The main job, short: pages move, nothing is lost, and the report says so.

mod support;

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use mm_types::Refusal;
use mm_types::trace::{Line, Lines, ParseError, check_text};
use serde_json::Value;
use support::{Temp, migrate, number, object, run, stderr};

const KEYS: [&str; 16] = [
    "moved",
    "refused",
    "retried",
    "lost_writes",
    "wrong_reads",
    "ns_per_page",
    "memcpy_ns_per_page",
    "ratio",
    "blocked",
    "stall_p50_us",
    "stall_p99_us",
    "stall_max_us",
    "peak_mappings",
    "seed",
    "profile",
    "batch",
];

/// What every run must show, whatever was asked for.
#[track_caller]
fn good(output: &std::process::Output) -> Value {
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}{}",
        stderr(output),
        String::from_utf8_lossy(&output.stdout)
    );
    let object = object(output);
    for key in KEYS {
        assert!(!object[key].is_null(), "{key} in {object}");
    }
    assert_eq!(
        (number(&object, "lost_writes"), number(&object, "wrong_reads")),
        (0.0, 0.0),
        "{object}"
    );
    assert!(
        number(&object, "moved") > 0.0 && number(&object, "ns_per_page") > 0.0,
        "{object}"
    );
    assert!(
        number(&object, "words_written") > 0.0 && number(&object, "words_read") > 0.0,
        "{object}"
    );
    assert!(
        number(&object, "stall_p50_us") <= number(&object, "stall_p99_us"),
        "{object}"
    );
    assert!(
        number(&object, "stall_p99_us") <= number(&object, "stall_max_us"),
        "{object}"
    );
    let known: Vec<_> = Refusal::EXAMPLES.iter().map(|refusal| refusal.word()).collect();
    for rule in object["refused"].as_object().unwrap().keys() {
        assert!(known.contains(&rule.as_str()), "{rule}");
    }
    object
}

/// Pages of a file of `bytes` bytes and `anon` bytes of memory.
fn pages(anon: u64, bytes: u64) -> f64 {
    (anon / 4096 + bytes.div_ceil(4096)) as f64
}

#[test]
fn without_a_file_it_moves_its_own_executable_there_and_back() {
    let output = run(&["--size", "8M", "--rounds", "2", "--json"]);
    let object = good(&output);
    let own = std::fs::metadata(env!("CARGO_BIN_EXE_migrate")).unwrap().len();
    let refused: f64 = object["refused"]
        .as_object()
        .unwrap()
        .values()
        .map(|n| n.as_f64().unwrap())
        .sum();
    assert_eq!(
        number(&object, "moved") + refused + number(&object, "freed"),
        4.0 * pages(8 << 20, own),
        "{object}"
    );
    assert_eq!(
        (&object["profile"], number(&object, "batch")),
        (&"modern".into(), 512.0)
    );
    assert_eq!(number(&object, "rounds"), 2.0);
}

#[test]
fn the_rules_of_2006_move_pages_too_and_lose_none() {
    let file = file("rules-of-2006", 300_001);
    let output = run(&[
        file.arg(),
        "--size",
        "1M",
        "--rounds",
        "1",
        "--json",
        "--profile",
        "linux-2.6.17",
    ]);
    let object = good(&output);
    assert_eq!(object["profile"], "linux-2.6.17");
}

#[test]
fn every_mode_and_a_batch_of_one_are_as_good() {
    let file = file("modes", 100_000);
    for mode in ["async", "sync-light", "sync"] {
        let args = [
            file.arg(),
            "--size",
            "512K",
            "--rounds",
            "1",
            "--json",
            "--quiet",
            "--mode",
            mode,
            "--batch",
            "1",
        ];
        let output = run(&args);
        assert!(output.stderr.is_empty(), "{}", stderr(&output));
        assert_eq!(number(&good(&output), "batch"), 1.0);
    }
}

#[test]
fn many_threads_many_mappings_and_a_file_of_one_byte() {
    let file = file("one-byte", 1);
    let args = [
        file.arg(),
        "--size",
        "300K",
        "--rounds",
        "2",
        "--json",
        "--threads",
        "7",
        "--mappings",
        "9",
        "--seed",
        "77",
    ];
    let object = good(&run(&args));
    assert_eq!((number(&object, "seed"), number(&object, "threads")), (77.0, 7.0));
}

#[test]
fn it_ends_by_time_and_prints_a_report_that_one_can_read() {
    let file = file("by-time", 50_000);
    let output = run(&[file.arg(), "--size", "1M", "--seconds", "0.3", "--quiet"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    for word in [
        "moved",
        "stayed",
        "tried again",
        "a plain copy",
        "blocked",
        "peak mappings",
        "lost writes    0",
        "wrong reads    0",
    ] {
        assert!(text.contains(word), "{word} in {text}");
    }
}

#[test]
fn the_trace_is_canonical_text() {
    let (file, trace) = (file("traced", 5000), Temp::new("trace"));
    let args = [
        file.arg(),
        "--size",
        "64K",
        "--rounds",
        "1",
        "--json",
        "--trace",
        trace.arg(),
    ];
    let object = good(&run(&args));
    let text = std::fs::read_to_string(&trace.0).unwrap();
    let lines: Result<Vec<Line>, ParseError> = Lines::new(&text).unwrap().collect();
    let lines = lines.unwrap();
    assert_eq!(lines.len() as f64, number(&object["trace"], "events"));
    assert!(lines.iter().any(|line| line.event.word() == "set_migration_pte"));
    assert_eq!(object["trace"]["error"], Value::Null);
}

#[test]
fn a_trace_that_lost_its_beginning_begins_with_a_whole_run_and_is_accepted_by_the_checker() {
    let (file, trace) = (file("long", 5000), Temp::new("long-trace"));
    let args = [
        file.arg(),
        "--size",
        "24M",
        "--rounds",
        "1",
        "--json",
        "--trace",
        trace.arg(),
    ];
    let object = good(&run(&args));
    assert!(number(&object["trace"], "dropped") > 0.0, "{object}");
    assert!(number(&object["trace"], "events") > 0.0, "{object}");
    check_text(&std::fs::read_to_string(&trace.0).unwrap()).unwrap();
}

#[test]
fn interrupted_it_stops_between_batches_and_reports() {
    let file = file("interrupted", 50_000);
    let mut child = migrate()
        .args([file.arg(), "--size", "2M", "--seconds", "600", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The first line of progress: pages are moving.
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    assert!(first.contains("moved"), "{first}");
    let pid = i32::try_from(child.id()).unwrap();
    // SAFETY: the child is ours and has not been waited for, so that the number is its own.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGINT) }, 0);
    std::thread::spawn(move || lines.count());
    let object = good(&child.wait_with_output().unwrap());
    assert_eq!(object["interrupted"], true);
}

#[test]
fn a_reader_that_goes_away_is_no_disaster() {
    let file = file("sigpipe", 5000);
    let mut child = migrate()
        .args([file.arg(), "--size", "64K", "--rounds", "1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(!stderr(&output).contains("panicked"), "{}", stderr(&output));
}

/// A file of `bytes` bytes that do not repeat from page to page.
fn file(name: &str, bytes: u32) -> Temp {
    let file = Temp::new(name);
    let contents: Vec<u8> = (0..bytes).map(|i| (i ^ (i >> 8) ^ (i >> 13)) as u8).collect();
    std::fs::write(&file.0, contents).unwrap();
    file
}

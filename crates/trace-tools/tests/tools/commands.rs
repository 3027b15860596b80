//! The program as a person calls it: exit codes, one line for a mistake, standard input, a reader that goes away.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use crate::{long, support};

/// Calls the program with that on its standard input.
fn call(args: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_trace"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // The program may end before it has read all.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("ended by a signal")
}

fn out(output: &Output) -> &str {
    str::from_utf8(&output.stdout).unwrap()
}

/// The one line that a mistake gets.
fn mistake(output: &Output) -> &str {
    let text = str::from_utf8(&output.stderr).unwrap();
    assert_eq!(code(output), 2, "{text}");
    assert!(output.stdout.is_empty(), "a mistake has no answer");
    assert_eq!(text.lines().count(), 1, "{text}");
    text.trim_end().strip_prefix("trace: ").unwrap()
}

fn file(name: &str, text: impl AsRef<[u8]>) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, text).unwrap();
    path
}

const KERNELS: &[u8] = include_bytes!("fixtures/linux-6.18.ftrace");

#[test]
fn a_snapshot_is_read_below_its_header() {
    let trace = support::trace("batch_of_eight.modern");
    let snapshot = file(
        "header.snap",
        format!("---\nsource: tests/mine.rs\nexpression: trace\n---\n{trace}"),
    );
    let output = call(&["check", snapshot.to_str().unwrap()], b"");
    assert_eq!(code(&output), 0);
    let told = format!(
        "{}, below its header: no rule is broken; events=125",
        snapshot.display()
    );
    assert!(out(&output).starts_with(&told), "{}", out(&output));
    let wrong = call(&["check"], b"---\nsource: tests/mine.rs\n---\ntrace v1\nlock q9\n");
    assert_eq!(
        mistake(&wrong),
        "standard input, below its header: line 2, column 6: expected a frame such as f0"
    );
    let open = call(&["check"], b"---\nsource: tests/mine.rs\ntrace v1\n");
    assert_eq!(
        mistake(&open),
        "standard input: line 1, column 1: expected the version line \"trace v1\""
    );
}

#[test]
fn a_sound_trace_is_0_a_broken_one_1_and_no_trace_2() {
    let sound = support::trace("batch_of_eight.modern");
    let output = call(&["check"], sound.as_bytes());
    assert_eq!(code(&output), 0);
    assert_eq!(
        out(&output),
        "standard input: no rule is broken; events=125 runs=1 succeeded=8\n"
    );

    let unflushed: String = sound
        .split_inclusive('\n')
        .filter(|line| !line.starts_with("flush "))
        .collect();
    let path = file("unflushed.trace", &unflushed);
    let output = call(&["check", path.to_str().unwrap()], b"");
    assert_eq!(code(&output), 1);
    assert!(
        out(&output).contains("unflushed.trace: line 44: I33 "),
        "{}",
        out(&output)
    );
    assert_eq!(out(&output).lines().count(), 1);

    let cut = &sound.as_bytes()[..200];
    assert_eq!(
        mistake(&call(&["check", "-"], cut)),
        "standard input: line 6, column 16: the last line is cut off: no newline ends it"
    );
}

#[test]
fn the_kernels_text_is_told_by_its_first_line_or_by_the_option() {
    let output = call(&["check"], KERNELS);
    assert_eq!(code(&output), 0);
    assert!(out(&output).contains(" runs=4 pairs=20 "), "{}", out(&output));
    let bare: Vec<u8> = KERNELS
        .split_inclusive(|byte| *byte == b'\n')
        .skip(12)
        .flatten()
        .copied()
        .collect();
    assert_eq!(call(&["check"], &bare).stdout, output.stdout);
    assert_eq!(call(&["check", "--kernel"], &bare).stdout, output.stdout);
    let trace = support::trace("mlocked.linux");
    assert!(
        mistake(&call(&["check", "--kernel"], trace.as_bytes()))
            .starts_with("standard input: line 1, column 1: expected an event")
    );
    assert!(mistake(&call(&["explain", "p0"], KERNELS)).contains("the kernel's own trace"));
    let ours = ["check", "--within", "7ff47a1fa000-7ff47a1fafff"];
    assert_eq!(call(&ours, KERNELS).stdout, output.stdout);
    assert!(mistake(&call(&ours, trace.as_bytes())).contains("--within is for the kernel's trace"));
    for wrong in ["7f", "7f-", "2-1", "0-0x1", "-1-2"] {
        assert!(mistake(&call(&["check", &format!("--within={wrong}")], KERNELS)).contains("give the first address"));
    }
    let text = str::from_utf8(KERNELS).unwrap();
    let lost = text.replacen(
        "remove_migration_pte: addr=7fa79de03000",
        "remove_migration_pte: addr=7fa79de04000",
        1,
    );
    let output = call(&["check"], lost.as_bytes());
    assert_eq!(code(&output), 1);
    assert!(
        out(&output).starts_with("standard input: line 48: I6 "),
        "{}",
        out(&output)
    );
}

#[test]
fn traces_that_differ_are_1() {
    let a = file("a.trace", support::trace("fork_in_the_middle.linux"));
    let a = a.to_str().unwrap();
    let b = support::trace("protect_in_the_middle.linux");
    assert_eq!(code(&call(&["diff", a, a], b"")), 0);
    let output = call(&["diff", a, "-"], b.as_bytes());
    assert_eq!(code(&output), 1);
    assert!(out(&output).contains("\nA, line "), "{}", out(&output));
    assert_eq!(
        mistake(&call(&["diff", "-", "-"], b"")),
        "standard input can be one of the traces, not both"
    );
}

#[test]
fn a_persons_mistakes_get_one_line_and_2() {
    let trace = support::trace("mlocked.linux");
    assert!(mistake(&call(&["check", "no such file"], b"")).starts_with("no such file: No such file"));
    assert!(mistake(&call(&["check", env!("CARGO_MANIFEST_DIR")], b"")).contains("directory"));
    assert!(mistake(&call(&["explain", "nobody"], b"")).contains("\"nobody\" is no page: give a content such as p0"));
    assert_eq!(
        mistake(&call(&["explain", "p9"], trace.as_bytes())),
        "standard input: the trace says nothing of that page"
    );
    assert!(
        mistake(&call(&["convert", "--to", "csv"], b"")).contains("possible values: ftrace, perfetto, heat, folded")
    );
    assert!(mistake(&call(&["convert"], b"")).contains("--to"));
    assert!(mistake(&call(&[], b"")).contains("subcommand"));
    assert!(mistake(&call(&["convert", "--to", "heat", "--columns", "0"], b"")).contains("--columns"));
    let nowhere = ["convert", "--to", "heat", "-o", "/no such directory/map"];
    assert!(mistake(&call(&nowhere, trace.as_bytes())).starts_with("/no such directory/map: "));
}

#[test]
fn help_and_version_are_answers() {
    for args in [["--help"].as_slice(), &["--version"], &["convert", "--help"]] {
        let output = call(args, b"");
        assert_eq!(code(&output), 0);
        assert!(!output.stdout.is_empty() && output.stderr.is_empty());
    }
}

#[test]
fn what_is_converted_goes_to_a_file_or_to_standard_output() {
    let trace = support::trace("batch_of_eight.linux");
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("batch.perfetto");
    let output = call(
        &["convert", "--to", "perfetto", "--output", path.to_str().unwrap()],
        trace.as_bytes(),
    );
    assert_eq!((code(&output), output.stdout.len()), (0, 0));
    let output = call(&["convert", "--to", "perfetto"], trace.as_bytes());
    assert_eq!(output.stdout, fs::read(path).unwrap());
}

#[test]
fn a_reader_that_goes_away_is_no_mistake() {
    let long = long::text(&long::long(20_000));
    let path = file("long.trace", long);
    let mut child = Command::new(env!("CARGO_BIN_EXE_trace"))
        .args(["convert", "--to", "ftrace", path.to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(code(&output), 0);
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

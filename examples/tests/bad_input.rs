//! Whatever is wrong with the input: one clear line, exit code 2, nothing else.

mod support;

use support::{Temp, migrate, run, stderr};

#[track_caller]
fn refused(args: &[&str], words: &str) {
    let output = run(args);
    let line = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {line}");
    assert_eq!(line.lines().count(), 1, "{args:?}: {line}");
    assert!(
        line.starts_with("migrate: ") && line.contains(words),
        "{args:?}: {line}"
    );
    assert!(!line.contains("panicked") && !line.contains("os error"), "{line}");
    assert!(output.stdout.is_empty(), "{args:?}");
}

#[test]
fn a_file_that_cannot_be_mapped() {
    refused(&["/no/such/file"], "no such file or directory");
    refused(&["/"], "a directory");
    refused(&["/dev/zero"], "not a regular file");
    let empty = Temp::new("empty");
    std::fs::write(&empty.0, "").unwrap();
    refused(&[empty.arg()], "empty");
    refused(&[&format!("{}/below", empty.arg())], "not a directory");
    refused(&["a\nb"], "a\\nb");
}

#[test]
fn a_file_that_may_not_be_read() {
    use std::os::unix::fs::PermissionsExt;
    let secret = Temp::new("secret");
    std::fs::write(&secret.0, "x").unwrap();
    std::fs::set_permissions(&secret.0, std::fs::Permissions::from_mode(0o0)).unwrap();
    // Whoever is root may read everything; then there is nothing to see here.
    if std::fs::File::open(&secret.0).is_err() {
        refused(&[secret.arg()], "permission denied");
    }
}

#[test]
fn sizes_that_make_no_sense() {
    refused(&["--size", "0"], "--size 0");
    refused(&["--size", "0M"], "--size 0");
    refused(&["--size", "lots"], "lots");
    refused(&["--size", "-5M"], "-5");
    refused(&["--size", "90T"], "available");
    refused(&["--size", "99999999T"], "larger than any memory");
}

#[test]
fn counts_of_nothing_and_of_too_much() {
    for option in ["--threads", "--batch", "--mappings", "--rounds", "--seconds"] {
        refused(&[option, "0"], &format!("{option} 0"));
        refused(&[option, "many"], "many");
    }
    refused(&["--threads", "1000000"], "at most");
    refused(&["--batch", "1000000"], "at most 512");
    refused(&["--mappings", "1000000"], "at most");
    refused(&["--seconds", "inf"], "--seconds");
}

#[test]
fn words_that_nobody_knows() {
    refused(&["--mode", "turbo"], "async, sync-light, sync");
    refused(&["--profile", "linux-7"], "linux-2.6.17, modern");
    refused(&["--frobnicate"], "--frobnicate");
    refused(&["one", "two"], "two");
    refused(&["--seed", "dandelion"], "dandelion");
}

#[test]
fn options_that_contradict_each_other() {
    refused(&["--seconds", "1", "--rounds", "1"], "cannot be used with");
    refused(&["--seed"], "--seed");
    refused(&["--json", "--json"], "--json");
}

#[test]
fn a_trace_that_cannot_be_written() {
    refused(
        &["--size", "4K", "--trace", "/no/such/directory/trace"],
        "no such file or directory",
    );
    refused(&["--size", "4K", "--trace", "/"], "is a directory");
    let file = Temp::new("both");
    std::fs::write(&file.0, "contents").unwrap();
    refused(&[file.arg(), "--size", "4K", "--trace", file.arg()], "is FILE itself");
    assert_eq!(std::fs::read(&file.0).unwrap(), b"contents");
}

#[test]
fn bytes_that_are_no_text() {
    use std::os::unix::ffi::OsStrExt;
    let output = migrate()
        .arg(std::ffi::OsStr::from_bytes(b"--mode=\xff"))
        .output()
        .unwrap();
    assert_eq!(
        (output.status.code(), stderr(&output).lines().count()),
        (Some(2), 1),
        "{}",
        stderr(&output)
    );
}

#[test]
fn help_and_version_are_no_mistakes() {
    for option in ["--help", "--version"] {
        let output = run(&[option]);
        assert_eq!(output.status.code(), Some(0));
        assert!(!output.stdout.is_empty() && output.stderr.is_empty());
    }
}

#[test]
fn the_other_programs_refuse_in_one_line_too() {
    for (program, exe) in [
        ("simulate", env!("CARGO_BIN_EXE_simulate")),
        ("storm", env!("CARGO_BIN_EXE_storm")),
    ] {
        for args in [
            &["--pages", "0"][..],
            &["--pages", "some"],
            &["--seconds", "0"],
            &["--frobnicate"],
        ] {
            let output = std::process::Command::new(exe).args(args).output().unwrap();
            let line = stderr(&output);
            assert_eq!(output.status.code(), Some(2), "{args:?}: {line}");
            assert_eq!(line.lines().count(), 1, "{args:?}: {line}");
            assert!(
                line.starts_with(&format!("{program}: ")) && line.contains(args[0]),
                "{args:?}: {line}"
            );
            assert!(output.stdout.is_empty(), "{args:?}");
        }
    }
}

//! The small kernel on an emulated machine. What boots it is ignored here and run by `ci/boot`, which gets the emulator.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use examples::boot::line::Values;
use examples::boot::machine::{self, Accelerator, Machine, Ran};
use examples::boot::report::{Kit, Storm};
use examples::boot::{Cli, KIT_CPUS, same_trace};

fn boot(cfgs: &[&str], cpus: u8, more: &[&'static str], line: &str) -> Ran {
    let qemu = machine::find_qemu().unwrap();
    let machine = Machine {
        kernel: machine::build(cfgs).unwrap(),
        cpus,
        accelerator: Accelerator::Tcg,
        more: more.to_vec(),
    };
    machine.run(&qemu, line, |_| ()).unwrap()
}

/// The trace lines and the runs of a snapshot, as the kernel prints them.
fn of_a_snapshot(name: &str) -> String {
    let folder = examples::boot::root().join("crates/migrate-core/tests/snapshots");
    let text = fs::read_to_string(folder.join(format!("{name}.snap"))).unwrap();
    let (_, body) = text.split_once("\n---\n").expect("a header of insta's");
    let lines = body.lines().filter(|line| !line.starts_with('#'));
    // A trace line has the number of its step before it, in eight columns.
    let line = |line: &str| match line.strip_prefix("run:") {
        Some(run) => format!("# run:{run}\n"),
        None => format!("{}\n", line.get(8..).unwrap_or_default()),
    };
    lines.map(line).collect()
}

#[test]
#[ignore = "boots a machine: ci/boot runs it"]
fn no_case_of_the_conformance_kit_fails_at_boot() {
    let ran = boot(&[], KIT_CPUS, &[], "mode=kit");
    let kit = Kit::new(&ran);
    assert!(kit.is_good(), "{kit:?}");
    let of = |word| kit.counts.number(word).unwrap();
    assert_eq!(ran.said("case").count() as u64, of("passed") + of("not_applicable"));
    assert!(of("passed") >= 400, "only {} cases were applicable", of("passed"));
}

#[test]
#[ignore = "boots a machine: ci/boot runs it"]
fn each_scenario_leaves_the_trace_of_its_snapshot() {
    let ran = boot(&[], 2, &[], "mode=scenarios");
    assert_eq!(ran.failure, None, "{}", ran.lines.join("\n"));
    let traces = same_trace::traces(&ran);
    assert!(traces.len() >= 30, "only {} scenarios ran", traces.len());
    for (name, trace) in traces {
        let trace = trace.strip_prefix("trace v1\n").expect("a trace of this version");
        assert_eq!(trace, of_a_snapshot(&name), "{name}");
    }
}

fn storms(migrations: u64) {
    let cli = Cli {
        migrations,
        profile: None,
        cpus: 2,
        accel: Accelerator::Tcg,
        json: true,
        quiet: true,
    };
    let report = examples::boot::run(&cli, &|_| ()).unwrap();
    assert!(report.is_good(), "{}", report.text());
    assert_eq!(report.storms.len(), 2);
    for storm in &report.storms {
        let of = |word| storm.counts.number(word).unwrap();
        assert!(of("moved") >= migrations, "{}", report.text());
        // It was a storm: programs wrote, read, forked, met pages in flight, and had to be interrupted for flushes.
        for word in ["words_written", "words_read", "forks", "copied", "interrupts"] {
            assert!(of(word) > 0, "no {word}\n{}", report.text());
        }
    }
}

#[test]
#[ignore = "boots a machine: ci/boot runs it"]
fn no_write_is_lost_and_no_read_is_wrong_while_pages_of_two_cpus_move() {
    storms(50_000);
}

#[test]
#[ignore = "takes minutes: ci/boot long runs it"]
fn no_write_is_lost_in_a_million_migrations() {
    storms(1_000_000);
}

// CPUs take turns, by a clock of instructions: the same every time.
const IN_TURNS: &[&str] = &["-accel", "tcg,thread=single", "-icount", "shift=4,sleep=off"];

fn failed(ran: &Ran) -> BTreeSet<String> {
    let lines = ran.said("flush");
    let failed = lines.filter_map(|line| {
        let (name, rest) = line.split_once(' ')?;
        (Values::new(rest).number("failed") != Some(0)).then(|| name.to_owned())
    });
    failed.collect()
}

#[test]
#[ignore = "boots a machine: ci/boot runs it"]
fn the_build_with_every_flush_passes_each_scenario_a_thousand_times() {
    for (more, profile) in [(IN_TURNS, "linux"), (IN_TURNS, "modern"), (&[], "modern")] {
        let ran = boot(&[], 4, more, &format!("mode=flushes times=1000 profile={profile}"));
        assert_eq!(ran.failure, None, "{}", ran.lines.join("\n"));
        let passed = ran.said("flush").filter(|line| line.ends_with("times=1000 failed=0"));
        assert_eq!(passed.count(), 11, "{}", ran.lines.join("\n"));
    }
}

/// Each flush, and the scenarios that see that it is missing.
///
/// The first names are what the flush is for. `at_end` and `before_copy` also need the flushes that they stop other CPUs at; what is
/// left out in the kernel is left out for every reason to invalidate.
const MISSING: &[(&str, &[&str])] = &[
    (
        "migrate",
        &[
            "migrate_here",
            "migrate_elsewhere",
            "batch_here",
            "batch_elsewhere",
            "at_end",
        ],
    ),
    ("fork", &["fork", "before_copy"]),
    ("protect", &["protect"]),
    ("unmap", &["unmap"]),
    ("move", &["move"]),
    ("fault", &["fault", "before_copy"]),
    ("before_copy", &["before_copy"]),
    ("at_end", &["at_end"]),
    (
        "local_pages",
        &["migrate_here", "migrate_elsewhere", "fork", "protect", "unmap", "move"],
    ),
    (
        "local_space",
        &["batch_here", "batch_elsewhere", "before_copy", "at_end"],
    ),
    ("other_cpus", &["migrate_elsewhere", "batch_elsewhere", "fault"]),
];

#[test]
#[ignore = "boots a machine: ci/boot runs it"]
fn the_build_without_a_flush_fails_the_scenarios_of_that_flush_and_no_other() {
    let whole = boot(&["flush_mutants"], 4, IN_TURNS, "mode=flushes times=10");
    assert_eq!(
        whole.failure, None,
        "with nothing left out it is like any other: {:?}",
        whole.lines
    );
    for (flush, scenarios) in MISSING {
        let ran = boot(
            &["flush_mutants"],
            4,
            IN_TURNS,
            &format!("mode=flushes times=10 missing={flush}"),
        );
        let expected: BTreeSet<String> = scenarios.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(failed(&ran), expected, "without {flush}: {}", ran.lines.join("\n"));
        for line in ran.said("flush").filter(|line| !line.ends_with("failed=0")) {
            assert!(
                line.ends_with("times=10 failed=10"),
                "without {flush} only now and then: {line}"
            );
        }
    }
}

/// The CPUs of this storm take turns by a clock of instructions, so that its first wrong word comes at the same page each time (below
/// the 200th, with QEMU 7.2). With threads it took from 64 to 33,311 pages, and once more than 500,000: nothing a test may
/// wait for.
const WRONG_BY_THEN: u64 = 20_000;

#[test]
#[ignore = "boots a machine: ci/boot runs it"]
fn a_storm_without_the_flush_of_migrations_goes_wrong_and_says_so() {
    for profile in ["linux", "modern"] {
        let line = format!("mode=storm until=wrong migrations={WRONG_BY_THEN} missing=migrate profile={profile}");
        let ran = boot(&["flush_mutants"], 2, IN_TURNS, &line);
        let storm = Storm::new(&ran);
        // What a program writes through an old translation may hit anything: the machine need not come to its end. But the words
        // that were wrong come first.
        assert!(!storm.is_good() && !storm.examples.is_empty(), "{:?}", ran.lines);
        let of = |word| storm.counts.number(word).unwrap_or(0);
        let ended = storm.counts.number("moved").is_some();
        assert!(!ended || of("lost_writes") + of("wrong_reads") > 0, "{storm:?}");
    }
}

#[test]
#[ignore = "boots a machine: ci/boot runs it"]
fn a_build_that_was_not_made_for_it_leaves_no_flush_out() {
    let ran = boot(&[], 4, &[], "mode=flushes missing=fork");
    let failure = ran.failure.as_deref().expect("it refuses");
    assert!(failure.contains("cannot be left out"), "{failure}");
    assert_eq!(ran.said("flush").count(), 0);
}

#[test]
fn without_the_emulator_one_line_says_how_to_get_it() {
    let output = Command::new(env!("CARGO_BIN_EXE_boot"))
        .env("PATH", "/nowhere")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("apt-get install qemu-system-x86"), "{said}");
    assert!(output.stdout.is_empty());
}

#[test]
fn a_mistake_on_the_command_line_is_one_line() {
    for args in [
        ["--cpus", "1"],
        ["--accel", "hvf"],
        ["--migrations", "many"],
        ["--profile", "2.4"],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_boot")).args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert_eq!(String::from_utf8(output.stderr).unwrap().lines().count(), 1, "{args:?}");
    }
}

#[test]
fn the_kernels_seam_is_all_in_one_file_of_under_300_lines() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("kernel/src");
    let seam = fs::read_to_string(folder.join("seam.rs")).unwrap();
    let lines = seam.lines().count();
    assert!((100..300).contains(&lines), "{lines} lines");
    for of in ["FrameMapping", "FrameSource", "Shootdown", "Sleep"] {
        let line = format!("impl {of} for Machine");
        assert!(seam.contains(&line), "{line}");
        for other in fs::read_dir(&folder).unwrap() {
            let path = other.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            assert!(
                path.ends_with("seam.rs") || !text.contains(&line),
                "{line} in {}",
                path.display()
            );
        }
    }
}

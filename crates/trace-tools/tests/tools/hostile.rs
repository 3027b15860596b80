//! Texts that are no traces, or broken ones: each tool answers or says line and column, and none stops.
//!
//! | variable | is |
//! |---|---|
//! | `HOSTILE_SEED` | the first case's seed, decimal or `0x…`; 0 where it is not set. The next case has the next seed |
//! | `HOSTILE_CASES` | how many cases; 3000 where it is not set |

use core::panic::AssertUnwindSafe;
use std::panic::catch_unwind;

use migrate_core::conformance::scenarios;
use mm_types::trace::check_events;
use mm_types::{Pfn, Site};
use proptest::prelude::RngCore;
use proptest::test_runner::TestRng;
use simulation::rng;
use trace_tools::convert::{Grid, folded, ftrace, heat, perfetto};
use trace_tools::explain::Asked;
use trace_tools::kernel::{Wrong, judge};
use trace_tools::stats::Stats;
use trace_tools::{Replay, Unreadable, diff, explain, parse};

const KERNELS: &[u8] = include_bytes!("fixtures/linux-6.18.ftrace");

/// A place within the text, or just behind its end.
fn placed(bytes: &[u8], wrong: &Unreadable) {
    let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    assert!((1..=lines.len().max(1)).contains(&wrong.line), "{wrong}");
    let line = lines.get(wrong.line - 1).copied().unwrap_or_default();
    assert!(
        (1..=line.len() + 2).contains(&wrong.column),
        "{wrong}, of {}",
        line.len()
    );
    assert!(!wrong.what.is_empty() && wrong.what.len() < 200, "{wrong}");
}

/// Everything there is, on one text.
fn all(bytes: &[u8], other: &[u8]) {
    match judge(bytes) {
        Err(Wrong::Unreadable(wrong)) => placed(bytes, &wrong),
        Err(Wrong::Broken(broken)) => assert!(broken.line >= 1 && !broken.what.is_empty()),
        Ok(judged) => assert!(judged.pairs + judged.runs <= judged.events),
    }
    drop(Stats::of_kernels(bytes));
    let lines = match parse(bytes) {
        Ok(lines) => lines,
        Err(wrong) => return placed(bytes, &wrong),
    };
    let events: Vec<_> = lines.iter().map(|line| line.event).collect();
    if let Err(error) = check_events(&events) {
        assert!(!error.to_string().is_empty());
    }
    assert_eq!(diff(&lines, &lines), None);
    if let Ok(other) = parse(other) {
        if let Some(difference) = diff(&lines, &other) {
            assert!(difference.to_string().lines().count() >= 3);
        }
        assert_eq!(diff(&other, &lines).is_some(), diff(&lines, &other).is_some());
    }
    for asked in [
        Asked::Page(0),
        Asked::Page(1),
        Asked::Frame(Pfn::new(1)),
        Asked::Site(Site::default()),
    ] {
        if let Some(told) = explain(&lines, asked) {
            assert!(told.to_string().lines().count() >= 2);
        }
    }
    let stats = Stats::of(&lines);
    assert_eq!(
        stats
            .iter()
            .find(|(name, _)| *name == "trace_events")
            .map_or(0, |(_, n)| n),
        lines.len() as u64
    );
    let kernels = ftrace(&lines);
    assert!(
        !matches!(judge(kernels.as_bytes()), Err(Wrong::Unreadable(_))),
        "{kernels}"
    );
    assert!(heat(&lines, Grid::default()).contains("# resolution: "));
    drop(folded(&lines));
    assert!(!perfetto(&lines).is_empty());
    let mut replay = Replay::new(lines);
    replay.go_to(usize::MAX);
    replay.go_to(0);
    assert_eq!(replay.state().frames().count(), 0);
}

fn below(rng: &mut TestRng, n: usize) -> usize {
    // A bias of one in a billion decides nothing here.
    (rng.next_u64() % n.max(1) as u64) as usize
}

/// One change: a byte, a piece of the text itself somewhere else, a piece less, the end less.
fn change(rng: &mut TestRng, bytes: &mut Vec<u8>) {
    const PIECES: &[&[u8]] = &[
        b"4294967295",
        b"4294967296",
        b"18446744073709551616",
        b"-1",
        b"0x",
        b"\xff",
        b"\xf0\x9f",
        b"\0",
        b"\r",
        b"\n",
        b"\n\n",
        b" ",
        b"=",
        b"@f0",
        b"+",
        b"p0",
        b"f0",
        b"m0",
        b"t0",
        b"now=",
        b"[",
        b"]",
        b"[000]",
        b"-",
        b":",
        b",",
        b"trace v1\n",
        b"trace v2\n",
        b"CPU:0 [LOST 7 EVENTS]\n",
        "\u{661}".as_bytes(),
        "\u{2028}".as_bytes(),
    ];
    let at = below(rng, bytes.len() + 1);
    match below(rng, 7) {
        0 if at < bytes.len() => bytes[at] = rng.next_u32() as u8,
        1 => bytes.truncate(at),
        2 => {
            let end = (at + below(rng, 40)).min(bytes.len());
            bytes.drain(at..end);
        }
        3 => {
            let from = below(rng, bytes.len() + 1);
            let until = (from + below(rng, 80)).min(bytes.len());
            let piece = bytes[from..until].to_vec();
            bytes.splice(at..at, piece);
        }
        // A whole line twice, gone, or in another place: what can still be read, and breaks rules.
        4 | 5 => {
            let mut lines: Vec<Vec<u8>> = bytes
                .split_inclusive(|byte| *byte == b'\n')
                .map(<[u8]>::to_vec)
                .collect();
            if lines.len() > 2 {
                let from = 1 + below(rng, lines.len() - 1);
                let line = lines[from].clone();
                if below(rng, 2) == 0 {
                    lines.remove(from);
                }
                if below(rng, 3) > 0 {
                    let to = 1 + below(rng, lines.len() - 1).min(lines.len() - 1);
                    lines.insert(to, line);
                }
                *bytes = lines.concat();
            }
        }
        _ => {
            let piece = PIECES[below(rng, PIECES.len())];
            bytes.splice(at..at, piece.iter().copied());
        }
    }
}

fn case(seed: u64, pool: &[Vec<u8>]) {
    let mut rng = rng(seed);
    let mut bytes = if below(&mut rng, 12) == 0 {
        let mut bytes = vec![0; below(&mut rng, 400)];
        rng.fill_bytes(&mut bytes);
        // Every other time behind a version line, so that it is read at all.
        if below(&mut rng, 2) == 0 {
            bytes.splice(0..0, b"trace v1\n".iter().copied());
        }
        bytes
    } else {
        pool[below(&mut rng, pool.len())].clone()
    };
    for _ in 0..1 + below(&mut rng, 6) {
        change(&mut rng, &mut bytes);
    }
    all(&bytes, &pool[below(&mut rng, pool.len())]);
}

fn number(variable: &str, otherwise: u64) -> u64 {
    let Ok(text) = std::env::var(variable) else {
        return otherwise;
    };
    let number = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    number.unwrap_or_else(|_| panic!("{variable}={text} is no number"))
}

#[test]
fn changed_traces_and_random_bytes_stop_no_tool() {
    let mut pool: Vec<Vec<u8>> = scenarios()
        .iter()
        .map(|scenario| scenario.trace().into_bytes())
        .collect();
    let kernels: Vec<Vec<u8>> = pool
        .iter()
        .map(|trace| ftrace(&parse(trace).unwrap()).into_bytes())
        .collect();
    pool.extend(kernels);
    pool.push(KERNELS.to_vec());
    for sound in &pool {
        all(sound, KERNELS);
    }
    let (seed, cases) = (number("HOSTILE_SEED", 0), number("HOSTILE_CASES", 3000));
    for seed in (0..cases).map(|n| seed.wrapping_add(n)) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| case(seed, &pool))) {
            println!("replay: HOSTILE_SEED={seed:#x} HOSTILE_CASES=1 cargo test -p trace-tools --test tools hostile");
            std::panic::resume_unwind(panic);
        }
    }
    println!("seeds {seed:#x} and the {cases} from there on");
}

/// The error of a text that is no trace.
fn error(bytes: impl AsRef<[u8]>) -> String {
    let wrong = parse(bytes.as_ref()).unwrap_err();
    placed(bytes.as_ref(), &wrong);
    wrong.to_string()
}

fn kernels_error(bytes: impl AsRef<[u8]>) -> String {
    match judge(bytes.as_ref()) {
        Err(Wrong::Unreadable(wrong)) => {
            placed(bytes.as_ref(), &wrong);
            wrong.to_string()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn ten_megabytes_in_one_line_are_one_error() {
    const TEN: usize = 10 << 20;
    for filling in ["x", "lock f0 ", "p0=", "[0]", "9", "é"] {
        let long = filling.repeat(TEN / filling.len());
        assert!(
            error(format!("trace v1\n{long}\n")).starts_with("line 2, column "),
            "{filling}"
        );
        assert!(
            error(format!("trace v1\nlock f0\nfreeze f0 {long}\n"))
                .starts_with("line 3, column 11: expected expected=")
        );
        assert!(error(format!("{long}\n")).starts_with("line 1, column 1: expected the version line"));
        let kernels = format!("# tracer: nop\nbash-1 [000] ..... 1.0: set_migration_pte: addr={long}\n");
        assert!(kernels_error(kernels).starts_with("line 2, column "), "{filling}");
        assert!(
            kernels_error(format!("# tracer: nop\n{long}\n")).starts_with("line 2, column 1: "),
            "{filling}"
        );
    }
    assert!(
        error(format!("trace v1\nlock f{}\n", "9".repeat(TEN))).starts_with("line 2, column 7: number out of range")
    );
}

#[test]
fn the_wrong_version_an_unknown_event_and_bytes_that_are_no_text_are_told_with_their_place() {
    assert_eq!(
        error("trace v2\nlock f0\n"),
        "line 1, column 1: expected the version line \"trace v1\""
    );
    assert_eq!(
        error("trace v1\nlock f0\nteleport f0\n"),
        "line 3, column 1: unknown word; expected the word of an event such as lock"
    );
    assert_eq!(error(b"trace v1\nlock f\xc0\xaf\n"), "line 2, column 7: not UTF-8");
    assert_eq!(
        error("trace v1\nlock f0"),
        "line 2, column 8: the last line is cut off: no newline ends it"
    );
    assert_eq!(kernels_error(b"# tracer: nop\n\xff\n"), "line 2, column 1: not UTF-8");
    let lost = "# tracer: nop\nCPU:1 [LOST 12 EVENTS]\n";
    assert!(kernels_error(lost).starts_with("line 2, column 1: the kernel lost events here"));
}

#[test]
fn many_of_everything_is_no_more_work_than_it_should_be() {
    // Each of these would take hours where a loop was within a loop; nothing here looks at a clock.
    let n = 5_000;
    let text = |line: &dyn Fn(usize) -> String| (0..n).map(line).collect::<String>();
    for body in [
        text(&|i| format!("migration_entry_wait t{} p{i} f{i} site=m{i}+{i:#x}\n", i + 1)),
        text(&|i| format!("fault t{} site=m{i}+{i:#x} access=read\n", i + 1)),
        text(&|i| format!("map_pte p0 f{i} site=m0+{i:#x} now=rw\n")),
        text(&|i| {
            format!(
                "retry p0 f0 reason={}\n",
                if i % 2 == 0 { "lock_busy" } else { "writeback" }
            )
        }),
        text(&|i| format!("refuse p{i} f{i} reason=no_target\n")),
        text(&|_| {
            "mm_migrate_pages_start profile=modern mode=sync reason=damon\nmm_migrate_pages succeeded=0 failed=0 left=0\n".into()
        }),
        text(&|i| format!("isolate p{} f{i}\n", u32::MAX - i as u32)),
    ] {
        let trace = format!("trace v1\n{body}");
        all(trace.as_bytes(), KERNELS);
    }
    let kernels = text(&|i| format!("a-{i} [000] 1.0: set_migration_pte: addr={i:x}, pte=e7ffffffdfc7c000 order=0\n"));
    all(kernels.as_bytes(), KERNELS);
    let one = text(&|i| format!("a-1 [000] 1.0: set_migration_pte: addr=1000, pte=e7ffffffdfc{i:05x} order=9\n"));
    all(one.as_bytes(), KERNELS);
}

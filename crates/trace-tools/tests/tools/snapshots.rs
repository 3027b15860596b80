//! What each subcommand says of the shared scenarios.

use core::fmt::Write;

use crate::long;
use crate::support::{self, name};
use migrate_core::conformance::scenarios;
use mm_types::trace::{Line, check_text};
use trace_tools::convert::{Grid, folded, ftrace, heat};
use trace_tools::explain::{Asked, End};
use trace_tools::kernel::judge;
use trace_tools::stats::Stats;
use trace_tools::{diff, explain, parse};

fn lines(name: &str) -> Vec<Line> {
    parse(support::trace(name).as_bytes()).unwrap()
}

#[test]
fn explanations() {
    let mut text = String::new();
    for (name, page) in [
        ("extra_reference_dropped.modern", "p0"),
        ("extra_reference.linux", "p0"),
        ("file_dirty_written_out.linux", "p0"),
        ("under_writeback.modern", "p0"),
        ("new_pages_run_out.linux", "p2"),
        ("mlocked.linux", "m0+0x3"),
        ("freed_meanwhile.modern", "p0"),
        ("copy_fails.linux", "p0"),
        ("locked_by_another_async.modern", "p0"),
        ("three_spaces.modern", "f0"),
    ] {
        let asked: Asked = page.parse().unwrap();
        let _ = writeln!(text, "# {name}, {page}\n{}", explain(&lines(name), asked).unwrap());
    }
    insta::assert_snapshot!(text);
}

#[test]
fn every_page_of_every_scenario_is_explained_as_it_ended() {
    for scenario in scenarios() {
        let lines = parse(scenario.trace().as_bytes()).unwrap();
        let run = scenario
            .readable()
            .lines()
            .find(|line| line.starts_with("run: "))
            .unwrap();
        let list = |key: &str| -> Vec<u32> {
            let words = run.split(' ').filter_map(|word| word.strip_prefix(key));
            let pages = words.flat_map(|list| list.split(',').filter_map(|page| page.strip_prefix('p')));
            pages.map(|page| page.parse().unwrap()).collect()
        };
        // Where a page was isolated by nobody, no run had it.
        for page in list("moved=") {
            let end = explain(&lines, Asked::Page(page)).unwrap().end();
            assert!(
                matches!(end, Some(End::Moved(_) | End::Freed)),
                "{} p{page}: {end:?}",
                name(scenario)
            );
        }
        for page in list("failed=").into_iter().chain(list("from=")) {
            let told = explain(&lines, Asked::Page(page)).unwrap();
            let stayed = matches!(told.end(), Some(End::Refused { last: true, .. }) | None);
            assert!(stayed, "{} p{page}: {told}", name(scenario));
        }
    }
}

#[test]
fn differences() {
    let mut text = String::new();
    let flushed = lines("batch_of_eight.modern");
    let unflushed: Vec<Line> = flushed
        .iter()
        .filter(|line| line.event.word() != "flush")
        .copied()
        .collect();
    let mut swapped = flushed.clone();
    let at = swapped.iter().position(|line| line.event.word() == "copy").unwrap();
    swapped.swap(at, at + 1);
    for (what, a, b) in [
        (
            "the same scenario by the rules of 2006 and of today",
            lines("file_clean.linux"),
            lines("file_clean.modern"),
        ),
        (
            "somebody drops a reference, or does not",
            lines("extra_reference_dropped.modern"),
            lines("extra_reference.modern"),
        ),
        ("without barriers", flushed.clone(), unflushed),
        ("two steps the other way round", flushed, swapped),
    ] {
        let _ = writeln!(text, "# {what}\n{}", diff(&a, &b).unwrap());
    }
    insta::assert_snapshot!(text);
}

#[test]
fn a_trace_means_what_it_means_whatever_its_ids_are() {
    let long = long::long(4000);
    let per_scenario: Vec<Line> = scenarios()
        .iter()
        .flat_map(|s| parse(s.trace().as_bytes()).unwrap())
        .collect();
    for (renamed, plain) in long.iter().zip(&per_scenario).take(400) {
        assert_eq!(renamed.event.word(), plain.event.word());
    }
    // The second round of the same scenario has other ids throughout.
    let batch = lines("batch_of_eight.modern");
    let again = long
        .windows(batch.len())
        .filter(|window| window.iter().zip(&batch).all(|(a, b)| a.event.word() == b.event.word()))
        .find(|window| *window != batch.as_slice())
        .unwrap();
    assert_eq!(diff(&batch, again), None);
    assert_eq!(diff(&[], &[]), None);
}

#[test]
fn counters() {
    let mut text = String::new();
    for name in ["fault_in_the_middle.linux", "pinned.modern"] {
        let _ = writeln!(text, "# {name}\n{}", Stats::of(&lines(name)));
    }
    let kernels = Stats::of_kernels(include_bytes!("fixtures/linux-6.18.ftrace")).unwrap();
    let _ = writeln!(text, "# the kernel's\n{kernels}");
    insta::assert_snapshot!(text);
}

#[test]
fn conversions_to_text() {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "# ftrace, three_spaces.modern\n{}",
        ftrace(&lines("three_spaces.modern"))
    );
    let grid = Grid { columns: 20, rows: 12 };
    let _ = writeln!(
        text,
        "# heat, batch_of_eight.linux\n{}",
        heat(&lines("batch_of_eight.linux"), grid)
    );
    let _ = writeln!(
        text,
        "# heat, batch_of_eight.modern\n{}",
        heat(&lines("batch_of_eight.modern"), grid)
    );
    let _ = writeln!(
        text,
        "# folded, fault_in_the_middle.modern\n{}",
        folded(&lines("fault_in_the_middle.modern"))
    );
    insta::assert_snapshot!(text);
}

/// What the kernel's events can not show: an entry that is unmapped or moved in flight has no event of its own, and no kernel
/// that has these events copies after the switch.
const NOT_THE_KERNELS: &[&str] = &[
    "copy_fails.linux",
    "remap_in_the_middle.linux",
    "remap_in_the_middle.modern",
    "truncated_in_the_middle.linux",
    "truncated_in_the_middle.modern",
    "unmap_in_the_middle.linux",
    "unmap_in_the_middle.modern",
];

#[test]
fn what_the_kernel_would_have_traced_is_accepted_as_the_kernels() {
    let mut refused = Vec::new();
    for scenario in scenarios() {
        let trace = scenario.trace();
        let checked = check_text(&trace).unwrap();
        let text = ftrace(&parse(trace.as_bytes()).unwrap());
        match judge(text.as_bytes()) {
            Ok(judged) => {
                assert_eq!(judged.runs, checked.runs, "{}", name(scenario));
                assert_eq!(judged.succeeded, u64::from(checked.succeeded), "{}", name(scenario));
                assert_eq!((judged.before, judged.after), (0, 0));
            }
            Err(_) => refused.push(name(scenario)),
        }
    }
    refused.sort();
    assert_eq!(refused, NOT_THE_KERNELS);
}

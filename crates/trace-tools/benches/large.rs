//! How long a trace of a hundred thousand events takes: parsed, checked, compared, explained, converted.
//!
//! Prints the best of a few times for each; asserts nothing about them.

#[path = "../tests/tools/long.rs"]
mod long;

use core::hint::black_box;
use core::time::Duration;
use std::time::Instant;

use migrate_core::conformance::scenarios;
use mm_types::trace::check_events;
use trace_tools::convert::{Grid, folded, ftrace, heat, perfetto};
use trace_tools::explain::Asked;
use trace_tools::kernel::judge;
use trace_tools::stats::Stats;
use trace_tools::{Replay, diff, explain, parse};

const EVENTS: usize = 100_000;
const TIMES: usize = 3;

fn time<T>(what: &str, mut work: impl FnMut() -> T) -> Duration {
    let best = (0..TIMES)
        .map(|_| {
            let began = Instant::now();
            black_box(work());
            began.elapsed()
        })
        .min()
        .unwrap_or_default();
    println!("{what:32} {:8.1} ms", best.as_secs_f64() * 1000.0);
    best
}

fn main() {
    let made = long::long(EVENTS);
    let text = long::text(&made);
    println!("{} events, {} bytes; the best of {TIMES}", made.len(), text.len());
    let lines = parse(text.as_bytes()).unwrap();
    let events: Vec<_> = lines.iter().map(|line| line.event).collect();
    // Not every scenario is one that the kernel's events can show: this one is.
    let batch = scenarios()
        .iter()
        .find(|scenario| scenario.name == "batch_of_eight")
        .unwrap();
    // The kernel tells of a fifth of its events.
    let kernels = ftrace(&long::repeat(&[batch.trace()], 5 * EVENTS));
    println!("{} lines of the kernel's", kernels.lines().count());
    let mut all = Duration::ZERO;
    all += time("parse", || parse(text.as_bytes()).unwrap());
    all += time("check", || check_events(&events).unwrap());
    all += time("convert --to ftrace", || ftrace(&lines));
    all += time("convert --to perfetto", || perfetto(&lines));
    all += time("convert --to heat", || heat(&lines, Grid::default()));
    all += time("convert --to folded", || folded(&lines));
    println!(
        "{:32} {:8.1} ms",
        "parse, check, all conversions",
        all.as_secs_f64() * 1000.0
    );
    time("diff, with itself", || diff(&lines, &lines));
    time("explain p0", || explain(&lines, Asked::Page(0)));
    time("stats", || Stats::of(&lines));
    time("the kernel's text: judge", || judge(kernels.as_bytes()).unwrap());
    time("replay: made", || Replay::new(lines.clone()));
    let mut replay = Replay::new(lines.clone());
    time("replay: to the end and back", || {
        replay.go_to(usize::MAX);
        replay.go_to(0);
    });
}

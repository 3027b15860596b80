//! What a page costs in the core, beside the bare loop of the same atomic operations on the same descriptors, in the same run.
//!
//! ```sh
//! cargo bench -p migrate-core --bench floor              # every size that memory allows
//! cargo bench -p migrate-core --bench floor -- 65536     # no more pages than these
//! ```
//!
//! Rounds are interleaved, the bare loop and the core in turn; what is printed is the median, the smallest and the largest, the
//! ratio of the medians, and that of the smallest, which is what is left where other programs are running. Instructions are those
//! that `ci/instructions` has recorded.

mod noop;

use core::hint::black_box;
use std::time::Instant;

use migrate_core::Slot;
use mm_types::Page;
use noop::bare::{bare, list, moves};
use noop::{Noop, prepare, shuffled, timed};

const BATCH: usize = 512;
const ROUNDS: usize = 15;
const SIZES: &[usize] = &[512, 1 << 12, 1 << 16, 1 << 20, 1 << 24];
const MAPPINGS: &[usize] = &[1, 2, 4, 8, 16];
/// A round of few pages moves them more than once, or it would be over before the clock ticks.
const AT_LEAST: usize = 1 << 14;

/// Nanoseconds for each page or entry, of each round.
struct Cost(Vec<f64>);

impl Cost {
    fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    }

    fn least(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    fn text(&self) -> String {
        let least = self.least();
        let most = self.0.iter().copied().fold(0.0, f64::max);
        format!("{:6.1} ({least:.1} to {most:.1})", self.median())
    }
}

/// The bare loop's cost of a page, and the core's.
fn measure(noop: &Noop, order: &[usize], rounds: usize) -> (Cost, Cost) {
    let mut slots: Vec<Slot<Noop>> = (0..BATCH).map(|_| Slot::new()).collect();
    let (mut floor, mut core) = (Vec::new(), Vec::new());
    let repeat = AT_LEAST.div_ceil(order.len());
    let pages = (repeat * order.len()) as f64;
    for _ in 0..rounds {
        let mut spent = 0.0;
        for _ in 0..repeat {
            let (from, news) = prepare(noop, order);
            let moves = moves(from, news);
            let start = Instant::now();
            let sound = bare(noop, &moves);
            spent += start.elapsed().as_secs_f64();
            assert!(black_box(sound), "the bare loop left out a page");
            list(noop, &moves);
        }
        floor.push(spent * 1e9 / pages);
        spent = 0.0;
        for _ in 0..repeat {
            let (took, tally) = timed(noop, order, &mut slots);
            spent += took.as_secs_f64();
            assert_eq!(black_box(tally).moved as usize, order.len());
        }
        core.push(spent * 1e9 / pages);
    }
    (Cost(floor), Cost(core))
}

fn row(what: &str, pages: usize, (floor, core): &(Cost, Cost)) {
    println!(
        "{pages:>9}  {what:<10}  {:<26}  {:<26}  {:>5.2}  {:>8.2}",
        floor.text(),
        core.text(),
        core.median() / floor.median(),
        core.least() / floor.least()
    );
}

/// What `ci/instructions` counted of a case, for each page.
fn recorded(case: &str) -> &'static str {
    let counts = include_str!("../../../ci/instructions.counts");
    let row = |line: &'static str| {
        line.split_whitespace()
            .next()
            .filter(|name| *name == case)
            .and(Some(line))
    };
    let row = counts.lines().find_map(row);
    row.and_then(|line| line.split_whitespace().nth(1))
        .unwrap_or("unrecorded")
}

/// True where memory has room for so many pages: their descriptors twice over, their entries, and what the program keeps of them.
fn fits(pages: usize) -> bool {
    let needed = pages * (2 * size_of::<Page>() + 8 + 2 * size_of::<usize>() + size_of::<noop::bare::Move>());
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib: Option<usize> = available.and_then(|text| text.trim().strip_suffix(" kB")?.parse().ok());
    kib.is_none_or(|kib| needed / 1024 < kib / 10 * 9)
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Started by `cargo test`, it shows that it works.
    let whole = arguments.iter().any(|argument| argument == "--bench");
    let most = arguments.iter().find_map(|argument| argument.parse().ok());
    let (most, rounds) = if whole {
        (most.unwrap_or(usize::MAX), ROUNDS)
    } else {
        (BATCH, 1)
    };

    println!("nanoseconds a page: median of {rounds} interleaved rounds (smallest to largest); batches of {BATCH}\n");
    println!("    pages  order       bare loop                   core                        ratio  smallest");
    let mut medians = Vec::new();
    for &pages in SIZES.iter().filter(|pages| **pages <= most) {
        if !fits(pages) {
            println!("{pages:>9}  left out: memory has no room for the descriptors of twice as many frames");
            continue;
        }
        let noop = Noop::new(pages);
        let sequential = measure(&noop, &(0..pages).collect::<Vec<_>>(), rounds);
        row("sequential", pages, &sequential);
        row("random", pages, &measure(&noop, &shuffled(pages), rounds));
        medians.push(sequential.1.median());
    }
    let (least, largest) = medians
        .iter()
        .fold((f64::INFINITY, 0.0_f64), |(a, b), m| (a.min(*m), b.max(*m)));
    println!("\nsequential order, dearest size to cheapest: {:.2}", largest / least);
    println!(
        "instructions a page, as recorded: bare loop {}, core {}",
        recorded("bare"),
        recorded("moved")
    );

    println!("\n mappings              bare loop                   core                        ratio  smallest");
    let pages = most.min(1 << 14);
    let order: Vec<usize> = (0..pages).collect();
    let mut costs = Vec::new();
    for &mappings in MAPPINGS {
        let cost = measure(&Noop::mapped(pages, mappings), &order, rounds);
        row("", mappings, &cost);
        costs.push((cost.0.median(), cost.1.median()));
    }
    if let (Some(one), Some(last)) = (costs.first(), costs.last()) {
        let more = (MAPPINGS[MAPPINGS.len() - 1] - 1) as f64;
        println!(
            "\neach further mapping: bare loop {:.1} ns, core {:.1} ns",
            (last.0 - one.0) / more,
            (last.1 - one.1) / more
        );
    }
}

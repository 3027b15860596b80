//! Do neighbouring pages stay in neighbouring frames? All pages of an area move from node to node and back, in an order that is
//! drawn anew for every round: `cargo bench -p backend-user --bench runs -- [PAGES [ROUNDS [SEED]]]`.
//!
//! A run is as many neighbouring pages as lie in neighbouring frames of one node: one mapping, which one system call moves. What is
//! printed is which share of the pages lies in runs of which length, before the first round and after some of them; and what a page
//! costs to move in order afterwards, beside what it cost before.

use backend_user::{Area, Machine, MachineError, Migrate, Pages, Prot, Sharing};
use mm_types::{NodeId, Pfn, Site};

/// The lengths at which a class of runs begins.
const CLASSES: [usize; 5] = [1, 2, 8, 64, 512];

/// Returns the lengths of the area's runs, in order.
fn runs(area: &Area) -> Vec<usize> {
    let space = area.space();
    let frames: Vec<Option<Pfn>> = area
        .sites()
        .map(|site| space.entry(site.page.raw() as usize).pfn())
        .collect();
    let follows = |pair: &[Option<Pfn>]| matches!(pair, [Some(a), Some(b)] if a.raw() + 1 == b.raw());
    let mut runs = vec![1];
    for pair in frames.windows(2) {
        match runs.last_mut() {
            Some(run) if follows(pair) => *run += 1,
            _ => runs.push(1),
        }
    }
    runs
}

fn print(round: usize, area: &Area, machine: &Machine) {
    let runs = runs(area);
    let ends = CLASSES.iter().skip(1).copied().chain([usize::MAX]);
    let shares = CLASSES.iter().zip(ends).map(|(first, end)| {
        let pages: usize = runs.iter().filter(|run| (*first..end).contains(run)).sum();
        format!("{:6.1} %", 100.0 * pages as f64 / area.pages() as f64)
    });
    println!(
        "{round:5} {} {:7} {:7} {:8}",
        shares.collect::<Vec<_>>().join(" "),
        runs.len(),
        runs.iter().max().copied().unwrap_or(0),
        machine.stats().mappings
    );
}

/// Moves all pages in order, to the other node and back; returns nanoseconds a page.
fn in_order(machine: &Machine, area: &Area) -> Result<f64, MachineError> {
    let (mut ns, mut moved) = (0.0, 0);
    for round in 0..6u16 {
        let report = machine.migrate(Migrate::new(area, NodeId::new(1 - round % 2)).stall_budget(None))?;
        // The first two take the memory.
        if round >= 2 {
            ns += report.wall.as_nanos() as f64;
            moved += report.moved;
        }
    }
    Ok(ns / moved.max(1) as f64)
}

fn shuffle(sites: &mut [Site], state: &mut u64) {
    for n in (1..sites.len()).rev() {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        sites.swap(n, (*state % (n as u64 + 1)) as usize);
    }
}

fn main() -> Result<(), MachineError> {
    let given: Vec<usize> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    let given = |n: usize, default| given.get(n).copied().unwrap_or(default);
    let (pages, rounds, seed) = (given(0, 16_384).max(1), given(1, 100), given(2, 1).max(1));
    let machine = Machine::builder().frames_per_node(pages + 1024).build()?;
    let area = machine
        .space(pages)?
        .map_anonymous(pages, Prot::ReadWrite, Sharing::Private)?;
    area.populate()?;
    println!("{pages} pages, {rounds} rounds in random order, seed {seed}");
    let before = in_order(&machine, &area)?;
    println!("round    in 1     2-7    8-63  64-511    512-     runs longest mappings");
    print(0, &area, &machine);
    let mut sites: Vec<Site> = area.sites().collect();
    let mut state = seed as u64;
    for round in 1..=rounds {
        shuffle(&mut sites, &mut state);
        let to = NodeId::new(u16::from(round % 2 == 1));
        let report = machine.migrate(Migrate::new(Pages::Sites(&sites), to).stall_budget(None))?;
        assert_eq!(report.moved, pages as u64, "{report:?}");
        if [1, 10, 100, rounds].contains(&round) {
            print(round, &area, &machine);
        }
    }
    let after = in_order(&machine, &area)?;
    println!(
        "a page in order: {before:.0} ns before, {after:.0} ns after, ratio {:.2}",
        after / before
    );
    Ok(())
}

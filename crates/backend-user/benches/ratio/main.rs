//! What a page costs to move, on each engine, beside what the same pages cost to copy, in processor time of the thread that does it,
//! while another thread writes to them: `cargo bench -p backend-user --bench ratio -- [PAGES [BATCH [WRITERS [ROUNDS]]]] [ENGINE]`.
//! A batch of 0 is three of them: 512, 64 and 1.
//!
//! Processor time, so that other work on the machine does not show; the engines and the copy take turns, so that its clock does not
//! either. A ratio is the median of the rounds', with the least and the greatest. The second one counts with the move what
//! processor time the writers spent on faults: theirs beyond what their visits cost while nothing moves. Stalls are as the
//! engine saw them, and the longest visit as a writer did. `bare` is the least that each engine's pages take ([`bare`]), while the
//! writers write to other memory of the process: what it costs to take translations away from a processor that runs.

mod bare;

use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use core::time::Duration;
use std::time::Instant;

use backend_user::sys::clock::processor_time;
use backend_user::{Area, Engine, Machine, Migrate, Prot, Sharing};
use mm_types::{NodeId, PAGE_SIZE};

/// What the writers are to do, and what they have done.
#[derive(Default)]
struct Writing {
    /// Whose pages, by number.
    turn: AtomicUsize,
    /// Turns begun; a writer that has seen the last one says so.
    turns: AtomicUsize,
    seen: AtomicUsize,
    stop: AtomicBool,
    visits: AtomicU64,
    busy: AtomicU64,
    longest: AtomicU64,
}

impl Writing {
    /// Lets all writers go on with the pages of `turn`, and waits until they do.
    fn begin(&self, turn: usize, writers: usize) {
        self.turn.store(turn, Ordering::SeqCst);
        self.seen.store(0, Ordering::SeqCst);
        self.turns.fetch_add(1, Ordering::SeqCst);
        while self.seen.load(Ordering::SeqCst) < writers {
            std::thread::yield_now();
        }
        for count in [&self.visits, &self.busy, &self.longest] {
            count.store(0, Ordering::SeqCst);
        }
    }

    /// Returns what the writers did since: visits, and nanoseconds of processor time.
    fn so_far(&self) -> (f64, f64) {
        let visits = self.visits.load(Ordering::SeqCst) as f64;
        (visits, self.busy.load(Ordering::SeqCst) as f64)
    }

    fn write(&self, areas: &[Area], writer: usize) {
        let mut state = 0x9e37_79b9_7f4a_7c15 + writer as u64;
        let (mut turns, mut begun) = (0, processor_time());
        while !self.stop.load(Ordering::Relaxed) {
            let now = self.turns.load(Ordering::SeqCst);
            if now != turns {
                turns = now;
                self.seen.fetch_add(1, Ordering::SeqCst);
            }
            let area = &areas[self.turn.load(Ordering::Relaxed)];
            let (mut longest, mut before) = (0, Instant::now());
            for _ in 0..VISITS {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let page = area.page((state % area.pages() as u64) as usize);
                for line in 0..8 {
                    page[line * 64 + writer].fetch_add(1, Ordering::Relaxed);
                }
                let after = Instant::now();
                longest = (after - before).as_nanos().max(longest);
                before = after;
            }
            let spent = processor_time();
            self.visits.fetch_add(VISITS, Ordering::Relaxed);
            self.busy
                .fetch_add((spent - begun).as_nanos() as u64, Ordering::Relaxed);
            self.longest.fetch_max(longest as u64, Ordering::Relaxed);
            begun = spent;
        }
    }
}

/// Ends the writing, also where a move fails: the scope waits for the writers.
struct End<'w>(&'w Writing);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

/// Visits between two looks at the clock of the processor.
const VISITS: u64 = 64;

/// One engine's machine, and what its rounds came to.
struct Subject {
    name: &'static str,
    machine: Machine,
    bare_ns: Vec<f64>,
    bare_ratios: Vec<f64>,
    ratios: Vec<f64>,
    with_faults: Vec<f64>,
    move_ns: Vec<f64>,
    fault_ns: Vec<f64>,
    longest: u64,
    stayed: u64,
}

/// Returns the median, the least and the greatest.
fn spread(mut of: Vec<f64>) -> (f64, f64, f64) {
    of.sort_by(f64::total_cmp);
    let at = |n: usize| of.get(n).copied().unwrap_or(f64::NAN);
    (at(of.len() / 2), at(0), at(of.len().saturating_sub(1)))
}

fn copy(from: &[u8], to: &mut [u8]) {
    for (to, from) in to.chunks_mut(PAGE_SIZE).zip(from.chunks(PAGE_SIZE)) {
        to.copy_from_slice(from);
    }
}

fn main() {
    let given: Vec<usize> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    let given = |n: usize, default| given.get(n).copied().unwrap_or(default);
    let (pages, batch, writers, rounds) = (given(0, 32_768), given(1, 0), given(2, 1), given(3, 7));
    let batches = if batch == 0 { vec![512, 64, 1] } else { vec![batch] };
    let (mut subjects, mut areas, mut bares) = (Vec::new(), Vec::new(), Vec::new());
    let only: Option<Engine> = std::env::args().skip(1).find_map(|arg| arg.parse().ok());
    for engine in [Engine::Shared, Engine::Private] {
        if only.is_some_and(|only| only != engine) {
            continue;
        }
        let name = engine.word();
        let machine = Machine::builder().frames_per_node(pages + 1024).engine(engine).build();
        let machine = match machine {
            Ok(machine) => machine,
            Err(why) => {
                println!("{name}: not applicable: {why}");
                continue;
            }
        };
        println!("{name}: {}", machine.engine());
        let space = machine.space(pages).expect("a space");
        let area = space
            .map_anonymous(pages, Prot::ReadWrite, Sharing::Private)
            .expect("an area");
        area.populate().expect("memory");
        areas.push(area);
        subjects.push((name, machine));
        bares.push(bare::of(engine, pages).expect("what the engine has too"));
    }
    let (mut from, mut to) = (vec![1u8; pages * PAGE_SIZE], vec![2u8; pages * PAGE_SIZE]);
    let writing = Writing::default();
    std::thread::scope(|s| {
        for writer in 0..writers {
            let (writing, areas) = (&writing, &areas);
            s.spawn(move || writing.write(areas, writer));
        }
        let end = End(&writing);
        for batch in batches {
            let mut of_batch: Vec<_> = subjects
                .iter()
                .map(|(name, machine)| Subject {
                    name,
                    machine: machine.clone(),
                    bare_ns: Vec::new(),
                    bare_ratios: Vec::new(),
                    ratios: Vec::new(),
                    with_faults: Vec::new(),
                    move_ns: Vec::new(),
                    fault_ns: Vec::new(),
                    longest: 0,
                    stayed: 0,
                })
                .collect();
            let mut copies = Vec::new();
            // The first two rounds take the memory, and show what a visit costs when nothing moves.
            for round in 0..rounds + 2 {
                let begun = processor_time();
                copy(&from, &mut to);
                let copy_ns = (processor_time() - begun).as_nanos() as f64 / pages as f64;
                core::mem::swap(&mut from, &mut to);
                for (turn, subject) in of_batch.iter_mut().enumerate() {
                    // How long the writers take for a visit of these pages while nothing moves.
                    writing.begin(turn, writers);
                    copy(&from, &mut to);
                    let (visits, busy) = writing.so_far();
                    let calm = if visits > 0.0 { busy / visits } else { 0.0 };
                    if round == 2 {
                        subject.machine.forget_stalls();
                    }
                    writing.begin(turn, writers);
                    let node = NodeId::new(u16::from(round % 2 == 0));
                    let begun = processor_time();
                    let report = subject
                        .machine
                        .migrate(Migrate::new(&areas[turn], node).batch(batch).stall_budget(None))
                        .expect("a node");
                    let moving = (processor_time() - begun).as_nanos() as f64;
                    let (visits, busy) = writing.so_far();
                    if round < 2 {
                        continue;
                    }
                    let moved = report.moved.max(1) as f64;
                    let fault_ns = ((busy - visits * calm) / moved).max(0.0);
                    subject.move_ns.push(moving / moved);
                    subject.fault_ns.push(fault_ns);
                    subject.ratios.push(moving / moved / copy_ns);
                    subject.with_faults.push((moving / moved + fault_ns) / copy_ns);
                    subject.longest = subject.longest.max(writing.longest.load(Ordering::Relaxed));
                    subject.stayed += report.refused();
                }
                if round >= 2 {
                    copies.push(copy_ns);
                }
                for (subject, bare) in of_batch.iter_mut().zip(&mut bares) {
                    bare.touch();
                    let begun = processor_time();
                    bare.go(batch).expect("what the engine does too");
                    let bare_ns = (processor_time() - begun).as_nanos() as f64 / pages as f64;
                    if round >= 2 {
                        subject.bare_ns.push(bare_ns);
                        subject.bare_ratios.push(bare_ns / copy_ns);
                    }
                }
            }
            let (copy_ns, least, _) = spread(copies);
            println!("{pages} pages, batches of {batch}, {writers} writers, {rounds} rounds");
            println!("  copy     {copy_ns:6.0} ns a page, at least {least:.0}");
            for subject in of_batch {
                print_one(subject);
            }
        }
        drop(end);
    });
    for (name, machine) in &subjects {
        println!("{name}: {:?}", machine.stats());
    }
}

fn print_one(subject: Subject) {
    let (ratio, least, greatest) = spread(subject.ratios);
    let (with_faults, ..) = spread(subject.with_faults);
    let ((move_ns, least_ns, _), (fault_ns, ..)) = (spread(subject.move_ns), spread(subject.fault_ns));
    let stalls = subject.machine.stats().stalls;
    println!(
        "  {:8} {move_ns:6.0} ns a page to move, at least {least_ns:.0}: ratio {ratio:.2} ({least:.2} to {greatest:.2}); {fault_ns:5.0} ns of writers' \
         faults: {with_faults:.2}; {} stayed",
        subject.name, subject.stayed
    );
    let (ratio, least, greatest) = spread(subject.bare_ratios);
    let (bare_ns, ..) = spread(subject.bare_ns);
    println!("    bare   {bare_ns:6.0} ns a page: ratio {ratio:.2} ({least:.2} to {greatest:.2})");
    println!(
        "           {} stalls: half {:?}, 99 of 100 {:?}, worst {:?}; a writer's longest visit {:?}",
        stalls.count,
        stalls.p50,
        stalls.p99,
        stalls.worst,
        Duration::from_nanos(subject.longest)
    );
}

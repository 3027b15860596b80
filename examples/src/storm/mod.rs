//! Storms: a program that uses its memory in every way there is, while all of it moves from node to node and back.
//!
//! Workers write and check anonymous memory and compare a file with its contents ([`crate::workers`]). An operator does to the
//! machine what a busy system does: copies spaces, changes protections, maps, moves and unmaps areas, writes, syncs and truncates
//! files, pins pages, watches their use; all that it has it checks word by word (`operator.rs`). This thread moves everything that is
//! on a node to the other one, by both profiles' rules and in any mode and batch.
//!
//! What the operator and the migrator do depends on the seed; how the threads meet is the machine's affair.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use backend_user::{Area, Engine, Machine, MachineError, MappedFile, Migrate, Pages, Prot, Sharing, Space, Stats};
use migrate_core::{LINUX_2_6_17, MODERN};
use mm_types::{Mode, NodeId, Outcome, PAGE_SIZE};

use crate::progress::Gauge;
use crate::random::Random;
use crate::refused::Refused;
use crate::workers::{Findings, Memory, Worker};
use operator::{Operator, Times};

pub mod args;
mod operator;
mod report;

pub use report::Report;

/// Pages of anonymous memory.
const ANON: usize = 768;
/// Pages of the file that is read.
const FILE: usize = 192;
/// Frames of each of the two nodes: room for all of it, for copies of it, and for a batch's new pages.
const FRAMES: usize = 6144;
/// Spaces that map the file.
const VIEWS: usize = 3;

/// A storm that can be started.
#[derive(Clone, Debug, PartialEq)]
pub struct Storm {
    /// Ends when so many pages have moved.
    pub pages: Option<u64>,
    /// Ends after this time.
    pub time: Option<Duration>,
    /// Threads that write and read.
    pub threads: usize,
    /// What is done depends on it.
    pub seed: u64,
    /// Which engine moves private pages.
    pub engine: Engine,
    /// Report only.
    pub quiet: bool,
}

impl Storm {
    /// How far it is, from 0 to 1; it is over at 1.
    fn share(&self, moved: u64, elapsed: Duration) -> f64 {
        let of = |part: f64, all: f64| part / all.max(f64::MIN_POSITIVE);
        let pages = self.pages.map_or(0.0, |pages| of(moved as f64, pages as f64));
        let time = self
            .time
            .map_or(0.0, |time| of(elapsed.as_secs_f64(), time.as_secs_f64()));
        pages.max(time)
    }
}

/// Looks whether the system has the second engine.
///
/// # Errors
/// Why it has not.
pub fn second_engine() -> Result<(), String> {
    let builder = Machine::builder().nodes(2).frames_per_node(FRAMES);
    let built = builder.engine(Engine::Private).build();
    built.map(drop).map_err(|error| error.to_string())
}

/// A directory of files that are gone at its end.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, String> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("storm-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The machine and what workers use.
struct Mapped {
    machine: Machine,
    home: Space,
    anon: Area,
    file: MappedFile,
    views: Vec<Area>,
}

impl Mapped {
    fn new(file: &Path, engine: Engine) -> Result<Self, MachineError> {
        let builder = Machine::builder().nodes(2).frames_per_node(FRAMES);
        let machine = builder.engine(engine).build()?;
        let file = machine.open(file)?;
        let home = machine.space(ANON + FILE)?;
        let anon = home.map_anonymous(ANON, Prot::ReadWrite, Sharing::Private)?;
        let mut spaces = vec![home.clone()];
        for _ in 1..VIEWS {
            spaces.push(machine.space(FILE)?);
        }
        let views: Result<_, _> = spaces
            .iter()
            .map(|space| space.map_file(&file, 0, FILE, Prot::Read, Sharing::Shared))
            .collect();
        Ok(Self {
            views: views?,
            machine,
            home,
            anon,
            file,
        })
    }

    /// Counts everything anew; then gives all memory back and looks whether it is all there.
    fn end(self) -> Result<(Stats, usize), String> {
        self.machine.check()?;
        let stats = self.machine.stats();
        let Self {
            machine,
            home,
            anon,
            file,
            views,
        } = self;
        drop((views, anon, home));
        file.truncate(0).map_err(|error| error.to_string())?;
        machine.check()?;
        let left = [0, 1].map(|node| machine.pages_on(NodeId::new(node))).iter().sum();
        Ok((stats, left))
    }
}

/// What the migrator did.
#[derive(Debug, Default)]
struct Moves {
    /// By the rules of 2006, and by today's.
    moved: [u64; 2],
    calls: u64,
    freed: u64,
    refused: Refused,
}

impl Moves {
    fn all(&self) -> u64 {
        self.moved.iter().sum()
    }
}

/// Lets it blow until there is enough, or until `stop`.
///
/// # Errors
/// Why it could not be started. What goes wrong later is in the report.
pub fn run(storm: &Storm, stop: &AtomicBool) -> Result<Report, String> {
    let scratch = Scratch::new()?;
    let mut bytes = Random::new(storm.seed, 1);
    let contents: Vec<u8> = (0..FILE * PAGE_SIZE / 8)
        .flat_map(|_| bytes.next().to_ne_bytes())
        .collect();
    let path = scratch.0.join("file");
    fs::write(&path, &contents).map_err(|error| format!("{}: {error}", path.display()))?;
    let mapped = Mapped::new(&path, storm.engine).map_err(|error| error.to_string())?;
    let engine = mapped.machine.engine();
    let findings = Findings::default();
    let memory = Memory {
        anon: mapped.anon.words(),
        views: mapped.views.iter().map(Area::words).collect(),
        contents: &contents,
    };
    let (ready, ended) = (Barrier::new(storm.threads + 2), AtomicBool::new(false));
    let mut moves = Moves::default();
    let mut failure = None;
    let begun = Instant::now();
    let times = thread::scope(|scope| {
        let (ready, ended, findings, mapped, scratch) = (&ready, &ended, &findings, &mapped, &scratch);
        for number in 0..storm.threads {
            let mut worker = Worker::new(memory.clone(), findings, storm.seed, number, storm.threads);
            scope.spawn(move || {
                worker.prepare(stop);
                ready.wait();
                worker.run(ended);
                worker.finish();
            });
        }
        let operator = scope.spawn(move || {
            ready.wait();
            let home = (&mapped.home, &mapped.anon);
            let operator = Operator::new(&mapped.machine, home, &scratch.0, findings, storm.seed);
            operator.and_then(|mut operator| operator.work(ended))
        });
        ready.wait();
        mapped.machine.forget_stalls();
        if let Err(error) = migrate(storm, mapped, stop, &mut moves) {
            failure = Some(format!("a migration: {error}"));
        }
        ended.store(true, Ordering::Relaxed);
        // Workers end by themselves; a panic of one is passed on by the scope.
        match operator.join() {
            Ok(Ok(times)) => times,
            Ok(Err(error)) => {
                failure.get_or_insert(format!("the operator: {error}"));
                Times::default()
            }
            Err(_) => {
                failure.get_or_insert("the operator panicked".to_owned());
                Times::default()
            }
        }
    });
    let elapsed = begun.elapsed();
    let reached = storm.share(moves.all(), elapsed) >= 1.0;
    drop(memory);
    let (stats, left) = match mapped.end() {
        Ok((stats, left)) => (Some(stats), left),
        Err(violation) => {
            failure.get_or_insert(violation);
            (None, 0)
        }
    };
    if left > 0 {
        failure.get_or_insert(format!("{left} frames are not free at the end"));
    }
    Ok(Report {
        storm: storm.clone(),
        engine,
        elapsed,
        moved: moves.moved,
        calls: moves.calls,
        freed: moves.freed,
        refused: moves.refused,
        times,
        words_written: findings.words_written(),
        words_read: findings.words_read(),
        lost_writes: findings.lost_writes(),
        wrong_reads: findings.wrong_reads(),
        examples: findings.examples(),
        mappings: stats.map(|stats| (stats.peak_mappings as u64, stats.mapping_limit as u64)),
        blocked: stats.map_or(0, |stats| stats.stalls.count),
        reached,
        interrupted: stop.load(Ordering::Relaxed),
        failure,
    })
}

/// Moves whatever is on one node to the other one, again and again.
fn migrate(storm: &Storm, mapped: &Mapped, stop: &AtomicBool, moves: &mut Moves) -> Result<(), MachineError> {
    let mut random = Random::new(storm.seed, 2);
    let gauge = Gauge::new(storm.quiet);
    let begun = Instant::now();
    let mut shown = Instant::now();
    let mut to = 1;
    while !stop.load(Ordering::Relaxed) && storm.share(moves.all(), begun.elapsed()) < 1.0 {
        // By the rules of 2006 a page moves alone, and so takes longer.
        let profile = usize::from(random.below(4) > 0);
        let mode = [Mode::Async, Mode::SyncLight, Mode::Sync][random.below(3)];
        let batch = [1, 16, 512, 512][random.below(4)];
        let nodes = [NodeId::new(1 - to), NodeId::new(to)];
        // The node's pages come in the order of frames, an area's in the order of addresses.
        let pages = match random.below(4) {
            0 => Pages::Area(&mapped.anon),
            1 => Pages::Area(&mapped.views[random.below(VIEWS)]),
            _ => Pages::Node(nodes[0]),
        };
        let mut outcome = |_, outcome: Outcome| match outcome {
            Outcome::Moved { .. } => moves.moved[profile] += 1,
            Outcome::Freed => moves.freed += 1,
            Outcome::Refused(refusal) => moves.refused.add(refusal),
            Outcome::Retry(_) => {}
        };
        let request = Migrate::new(pages, nodes[1])
            .profile([&LINUX_2_6_17, &MODERN][profile])
            .mode(mode)
            .batch(batch)
            .stop(stop)
            .outcome(&mut outcome);
        mapped.machine.migrate(request)?;
        moves.calls += 1;
        to = 1 - to;
        if gauge.is_due(shown.elapsed()) {
            shown = Instant::now();
            let (moved, seconds) = (moves.all(), begun.elapsed().as_secs_f64());
            let rate = moved as f64 / seconds.max(1e-6);
            let line = format!(
                "{moved} pages moved, {rate:.0} pages/s, {} stayed",
                moves.refused.total()
            );
            gauge.show(line, storm.share(moved, begun.elapsed()));
        }
    }
    gauge.finish();
    Ok(())
}

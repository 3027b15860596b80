//! Rounds: every engine and size of a batch in turn, each beside a plain copy of as many pages.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use docs_gen::performance::{Cost, LeftOut, Loaded, Row, Spread, Waits};

use crate::median::median;
use crate::reference::Reference;

use super::accessor::{Phase, Phases, Told, Visits, sum, visit};
use super::args::Comparison;
use super::clock::Took;
use super::engine::{Engine, Went};
use super::main_job;

/// Rounds that take the memory: both nodes of an engine are touched, and do not count.
pub const WARM_UP: usize = 2;

/// The name of the plain copy in the table.
pub const COPY: &str = "plain copy";

/// Why there is no pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoPair {
    /// The engine cannot move its pages now.
    Cannot(String),
    /// It did, and something was lost.
    Wrong(String),
}

impl From<NoPair> for String {
    fn from((NoPair::Cannot(why) | NoPair::Wrong(why)): NoPair) -> Self {
        why
    }
}

/// A plain copy and a move, one after the other.
#[derive(Debug)]
pub struct Pair {
    copied: Took,
    pages: usize,
    went: Went,
    /// Of the time that the move took, how much the thread had a processor.
    share: f64,
    phases: Phases,
}

/// Has `engine` move its pages, and copies as many, while `writers` threads write to the memory that moves.
///
/// # Errors
/// The engine cannot, or a store was lost.
pub fn pair(
    engine: &dyn Engine,
    batch: usize,
    writers: usize,
    reference: &mut Reference,
    order: [Phase; 2],
    seed: u64,
) -> Result<Pair, NoPair> {
    let memory = if writers > 0 { engine.memory() } else { Vec::new() };
    let pages = engine.pages();
    let before = sum(&memory);
    let told = Told::default();
    let mut pair = Pair {
        copied: Took::default(),
        pages,
        went: Went::default(),
        share: 1.0,
        phases: Phases::default(),
    };
    let mut failed = None;
    thread::scope(|scope| {
        let threads = if memory.is_empty() { 0 } else { writers };
        let writers: Vec<_> = (0..threads as u64)
            .map(|n| {
                let (memory, told) = (&memory, &told);
                scope.spawn(move || visit(memory, told, seed ^ n))
            })
            .collect();
        told.wait_for(threads);
        for phase in order {
            told.begin(phase);
            if phase == Phase::Copying {
                (pair.copied, _) = Took::by(|| reference.copy(0, pages));
            } else {
                let (took, went) = Took::by(|| engine.go(batch));
                pair.share = took.share();
                match went {
                    Ok(went) => pair.went = went,
                    Err(error) => failed = Some(error),
                }
            }
            told.begin(Phase::Between);
        }
        told.begin(Phase::Over);
        for writer in writers {
            match writer.join() {
                Ok(phases) => {
                    for (all, visits) in pair.phases.iter_mut().zip(phases) {
                        all.add(visits);
                    }
                }
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    reference.turn();
    check(&memory, before, &pair.phases).map_err(|error| NoPair::Wrong(format!("{}: {error}", engine.name())))?;
    match failed {
        Some(error) => Err(NoPair::Cannot(error)),
        None if pair.went.moved == 0 => Err(NoPair::Cannot(format!("no page moved, {} stayed", pair.went.stayed))),
        None => Ok(pair),
    }
}

/// What was added to the memory is there: nothing was lost.
fn check(memory: &[&[AtomicU64]], before: u64, phases: &Phases) -> Result<(), String> {
    let added: u64 = phases.iter().map(|visits| visits.stores).sum();
    let found = sum(memory).wrapping_sub(before);
    if found == added {
        Ok(())
    } else {
        Err(format!("{added} stores were made and {found} are there"))
    }
}

impl Pair {
    /// Returns nanoseconds a page moved, without the time in which something else had the processor: of the time that the engine
    /// says it took, as much as of the whole.
    #[must_use]
    pub fn ns(&self) -> f64 {
        self.went.took.as_nanos() as f64 * self.share / self.went.moved.max(1) as f64
    }

    /// Returns nanoseconds a page copied, likewise.
    #[must_use]
    pub fn copy_ns(&self) -> f64 {
        self.copied.own().as_nanos() as f64 / self.pages.max(1) as f64
    }

    /// Returns how much longer the copy took than it would have on a machine that does nothing else.
    fn disturbed(&self) -> f64 {
        1.0 / self.copied.share().max(1e-9)
    }

    fn visits(&self, phase: Phase) -> Option<&Visits> {
        self.phases.get(phase as usize).filter(|visits| !visits.took.is_empty())
    }

    /// Returns the processor time that writers spent beyond that of their visits while pages were copied, in nanoseconds a page moved.
    fn faults(&self) -> Option<f64> {
        let (copying, moving) = (self.visits(Phase::Copying)?.each()?, self.visits(Phase::Moving)?);
        let usual = copying * moving.took.len() as f64;
        let more = moving.processor.as_nanos() as f64 - usual;
        Some(more.max(0.0) / self.went.moved.max(1) as f64)
    }

    /// Returns what no visit takes that does not wait: twice what 99 of 100 take while pages are copied.
    fn limit(&self) -> Option<u32> {
        let mut took = self.visits(Phase::Copying)?.took.clone();
        let at = took.len() * 99 / 100;
        let (_, limit, _) = took.select_nth_unstable(at);
        Some(limit.saturating_mul(2))
    }
}

/// The median and the ends; `None` where there is nothing.
#[must_use]
pub fn spread(values: impl Iterator<Item = f64>) -> Option<Spread> {
    let values: Vec<f64> = values.collect();
    let (least, most) = (
        values.iter().copied().reduce(f64::min)?,
        values.iter().copied().reduce(f64::max)?,
    );
    median(&values).map(|median| Spread { median, least, most })
}

/// Visits that waited, in all rounds.
#[derive(Clone, Debug, Default)]
struct Waited {
    visits: u64,
    limit: u32,
    took: Vec<u32>,
}

impl Waited {
    fn add(&mut self, visits: &Visits, limit: u32) {
        self.visits += visits.took.len() as u64;
        self.limit = self.limit.max(limit);
        self.took.extend(visits.took.iter().filter(|took| **took > limit));
    }

    fn waits(mut self) -> Waits {
        self.took.sort_unstable();
        let at = |share: usize| {
            let last = self.took.len().saturating_sub(1);
            f64::from(self.took.get(last * share / 100).copied().unwrap_or(0))
        };
        Waits {
            visits: self.visits,
            waited: self.took.len() as u64,
            limit: f64::from(self.limit),
            p50: at(50),
            p99: at(99),
            worst: at(100),
        }
    }
}

/// What is known of one pair.
#[derive(Clone, Copy, Debug)]
struct Sample {
    ns: f64,
    copy_ns: f64,
    faults: Option<f64>,
}

/// The cost that a row shows; none where it could be measured in fewer than half of the rounds: those would not be representative.
fn cost(samples: &[Sample], rounds: usize) -> Option<Cost> {
    if samples.len() < rounds.div_ceil(2) {
        return None;
    }
    Some(Cost {
        ns: spread(samples.iter().map(|sample| sample.ns))?,
        ratio: spread(samples.iter().map(|sample| sample.ns / sample.copy_ns))?,
    })
}

/// One row that is being measured.
#[derive(Debug)]
struct Measured {
    engine: usize,
    batch: usize,
    alone: Vec<Sample>,
    loaded: Vec<Sample>,
    waited: Waited,
    moved: Vec<f64>,
    stayed: u64,
    /// Why it could not, each time it could not.
    cannot: Vec<String>,
}

impl Measured {
    fn new(engine: usize, batch: usize) -> Self {
        Self {
            engine,
            batch,
            alone: Vec::new(),
            loaded: Vec::new(),
            waited: Waited::default(),
            moved: Vec::new(),
            stayed: 0,
            cannot: Vec::new(),
        }
    }

    fn add(&mut self, pair: &Pair, writers: usize) {
        let sample = Sample {
            ns: pair.ns(),
            copy_ns: pair.copy_ns(),
            faults: pair.faults(),
        };
        self.moved.push(pair.went.moved as f64);
        self.stayed += pair.went.stayed;
        match (pair.visits(Phase::Moving), pair.limit()) {
            (Some(moving), Some(limit)) => {
                self.waited.add(moving, limit);
                self.loaded.push(sample);
            }
            // Writers that made no visit say nothing of what it costs beside writers, nor of what it costs alone.
            _ if writers > 0 => {}
            _ => self.alone.push(sample),
        }
    }

    fn row(self, engine: String, rounds: usize) -> Row {
        let samples = || self.loaded.iter();
        let faults = spread(samples().filter_map(|sample| sample.faults));
        let with_faults = spread(samples().filter_map(|sample| Some((sample.ns + sample.faults?) / sample.copy_ns)));
        let loaded = cost(&self.loaded, rounds).map(|cost| Loaded {
            cost,
            faults,
            with_faults,
            waits: self.waited.waits(),
        });
        Row {
            engine,
            batch: u32::try_from(self.batch).ok(),
            moved: median(&self.moved).unwrap_or(0.0) as u64,
            stayed: self.stayed,
            alone: cost(&self.alone, rounds),
            loaded,
        }
    }
}

/// The plain copies, which stand in every pair.
#[derive(Debug, Default)]
struct Copies {
    alone: Vec<f64>,
    loaded: Vec<f64>,
    waited: Waited,
    disturbed: Vec<f64>,
}

impl Copies {
    fn add(&mut self, pair: &Pair, writers: usize) {
        self.disturbed.push(pair.disturbed());
        match (pair.visits(Phase::Copying), pair.limit()) {
            (Some(copying), Some(limit)) => {
                self.waited.add(copying, limit);
                self.loaded.push(pair.copy_ns());
            }
            _ if writers > 0 => {}
            _ => self.alone.push(pair.copy_ns()),
        }
    }

    fn row(self, pages: usize) -> Row {
        let one = Spread {
            median: 1.0,
            least: 1.0,
            most: 1.0,
        };
        let cost = |ns: &[f64]| spread(ns.iter().copied()).map(|ns| Cost { ns, ratio: one });
        let loaded = cost(&self.loaded).map(|cost| Loaded {
            cost,
            faults: None,
            with_faults: None,
            waits: self.waited.waits(),
        });
        Row {
            engine: COPY.to_owned(),
            batch: None,
            moved: pages as u64,
            stayed: 0,
            alone: cost(&self.alone),
            loaded,
        }
    }
}

/// All rows, while they are measured.
#[expect(missing_debug_implementations, reason = "engines cannot be shown")]
pub struct Rounds<'c> {
    asked: &'c Comparison,
    engines: Vec<Box<dyn Engine>>,
    rows: Vec<Measured>,
    copies: Copies,
    reference: Reference,
    main_job: main_job::Runs,
}

impl<'c> Rounds<'c> {
    /// Makes the rows of all engines.
    ///
    /// # Errors
    /// There is no memory for plain copies.
    pub fn new(asked: &'c Comparison, engines: Vec<Box<dyn Engine>>) -> Result<Self, String> {
        let mut rows = Vec::new();
        for (n, engine) in engines.iter().enumerate() {
            let batches = engine.batches(&asked.batches);
            rows.extend(batches.into_iter().map(|batch| Measured::new(n, batch)));
        }
        Ok(Self {
            asked,
            rows,
            engines,
            copies: Copies::default(),
            reference: Reference::new(asked.pages).map_err(|error| error.to_string())?,
            main_job: main_job::Runs::new(asked),
        })
    }

    /// Measures every row once; the first [`WARM_UP`] rounds do not count.
    ///
    /// # Errors
    /// Something was lost, or it was interrupted.
    pub fn round(&mut self, round: usize, stop: &AtomicBool) -> Result<(), String> {
        let counts = round >= WARM_UP;
        let order = if round.is_multiple_of(2) {
            [Phase::Copying, Phase::Moving]
        } else {
            [Phase::Moving, Phase::Copying]
        };
        for (n, row) in self.rows.iter_mut().enumerate() {
            // Nobody's second time where there are no writers.
            let loads = if self.asked.writers > 0 {
                &[0, self.asked.writers][..]
            } else {
                &[0]
            };
            for &writers in loads {
                if stop.load(Ordering::Relaxed) {
                    return Err("interrupted".to_owned());
                }
                let Some(engine) = self.engines.get_mut(row.engine) else {
                    continue;
                };
                let ready = engine.prepare();
                if writers > 0 && engine.memory().is_empty() {
                    continue;
                }
                let seed = (round * 1000 + n) as u64;
                let went = ready.map_err(NoPair::Cannot);
                let went =
                    went.and_then(|()| pair(engine.as_ref(), row.batch, writers, &mut self.reference, order, seed));
                match went {
                    Ok(pair) if counts => {
                        row.add(&pair, writers);
                        self.copies.add(&pair, writers);
                    }
                    Err(NoPair::Cannot(why)) if counts => row.cannot.push(why),
                    Err(NoPair::Wrong(why)) => return Err(why),
                    Ok(_) | Err(NoPair::Cannot(_)) => {}
                }
            }
        }
        if counts {
            self.main_job.round(stop)?;
        }
        Ok(())
    }

    /// Returns the rows, how much the machine was disturbed, and what is not among them.
    #[must_use]
    pub fn finish(self) -> (Vec<Row>, f64, Vec<LeftOut>) {
        let disturbed = median(&self.copies.disturbed).unwrap_or(1.0);
        let mut rows = vec![self.copies.row(self.asked.pages)];
        let mut not_measured = Vec::new();
        for row in self.rows {
            let name = self
                .engines
                .get(row.engine)
                .map_or(String::new(), |engine| engine.name().to_owned());
            if let Some(why) = row.cannot.first() {
                not_measured.push(LeftOut {
                    what: format!("{name}, batches of {}, {} times", row.batch, row.cannot.len()),
                    why: why.clone(),
                });
            }
            let row = row.row(name, self.asked.rounds);
            if row.alone.is_some() || row.loaded.is_some() {
                rows.push(row);
            }
        }
        match self.main_job.rows() {
            Ok(main) => rows.extend(main),
            Err(left) => not_measured.push(left),
        }
        (rows, disturbed, not_measured)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fewer_than_half_of_the_rounds_have_measured_has_no_cost() {
        let sample = |ns| Sample {
            ns,
            copy_ns: 2.0,
            faults: None,
        };
        let samples: Vec<_> = [8.0, 2.0, 4.0, 6.0].map(sample).to_vec();
        let shown = |n: usize, rounds| cost(&samples[..n], rounds);
        assert_eq!(shown(3, 7), None);
        assert_eq!(shown(0, 1), None);
        assert_eq!(shown(4, 7).map(|cost| cost.ratio.least), Some(1.0));
        assert_eq!(shown(1, 1).map(|cost| cost.ns.median), Some(8.0));
    }
}

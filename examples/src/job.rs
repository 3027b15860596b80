//! The main job: a program whose pages move while it runs.
//!
//! One machine of two nodes. Its first space has the anonymous memory; FILE is mapped in it and in the other spaces. Workers write
//! and read all of it; this thread moves everything to the other node, part by part, and copies as many pages plainly after each
//! part, so that both are measured under the same load.

use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::io::Write as _;
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::Instant;

use backend_user::{Area, Machine, MachineError, Migrate, Prot, Recording, Sharing, Space};
use migrate_core::{LINUX_2_6_17, MODERN, Profile};
use mm_types::trace::{Event, text_of};
use mm_types::{NodeId, Outcome, Reason, Rules, Site};

use crate::args::{Job, MAX_BATCH, TraceFile, Until};
use crate::progress::{self, Live, Scene};
use crate::reference::Reference;
use crate::report::{Report, Stalls, Traced};
use crate::tally::Counts;
use crate::workers::{Findings, Memory, Worker};

/// Pages moved between two looks at the clock, and copied in one go: many batches, because each call looks at the process's mappings.
const PART: usize = 16384;

/// Pages moved between two updates of the count that is shown.
const TELL: u64 = 256;

/// Frames of a node beyond those that pages need: a batch's targets are taken before its sources are free.
const SLACK: usize = 2 * MAX_BATCH;

/// Events that a trace keeps.
const EVENTS: usize = 1 << 17;

/// Nodes of the machine.
const NODES: [NodeId; 2] = [NodeId::new(0), NodeId::new(1)];

/// Returns the profile of `rules`.
#[must_use]
pub const fn profile(rules: Rules) -> &'static Profile {
    match rules {
        Rules::Linux2617 => &LINUX_2_6_17,
        Rules::Modern => &MODERN,
    }
}

/// The machine and what is mapped.
struct Mapped {
    machine: Machine,
    /// Kept: a space that is gone takes its areas along.
    _spaces: Vec<Space>,
    anon: Area,
    views: Vec<Area>,
    trace: Option<Arc<Recording>>,
}

impl Mapped {
    fn new(job: &Job) -> Result<Self, MachineError> {
        let frames = job.pages() + SLACK;
        let trace = job.trace.is_some().then(|| Arc::new(Recording::with_capacity(EVENTS)));
        let mut builder = Machine::builder().nodes(2).frames_per_node(frames).engine(job.engine);
        if let Some(trace) = &trace {
            builder = builder.trace(Arc::clone(trace));
        }
        let machine = builder.build()?;
        let file = machine.open(&job.file)?;
        let first = machine.space(job.pages())?;
        let anon = first.map_anonymous(job.anon_pages, Prot::ReadWrite, Sharing::Private)?;
        let mut spaces = vec![first];
        for _ in 1..job.mappings {
            spaces.push(machine.space(job.file_pages())?);
        }
        let views: Result<_, _> = spaces
            .iter()
            .map(|space| space.map_file(&file, 0, job.file_pages(), Prot::Read, Sharing::Shared))
            .collect();
        Ok(Self {
            machine,
            anon,
            views: views?,
            _spaces: spaces,
            trace,
        })
    }

    /// Every page once: those of the file by the first space that maps it.
    fn sites(&self) -> Vec<Site> {
        self.anon
            .sites()
            .chain(self.views.iter().take(1).flat_map(Area::sites))
            .collect()
    }
}

impl Scene for Mapped {
    fn pages(&self) -> usize {
        self.anon.pages() + self.views.first().map_or(0, Area::pages)
    }

    fn node_of(&self, page: usize) -> Option<usize> {
        let beyond = page.checked_sub(self.anon.pages());
        let (area, page) = beyond.map_or(Some((&self.anon, page)), |page| Some((self.views.first()?, page)))?;
        let at = usize::try_from(area.first().raw()).ok()?;
        let pfn = area.space().entry(at + page).pfn()?;
        Some(usize::from(self.machine.node_of(pfn).raw()))
    }

    fn stalls(&self) -> Stalls {
        let stalls = self.machine.stats().stalls;
        let us = |time: Duration| time.as_secs_f64() * 1e6;
        Stalls {
            count: stalls.count,
            p50_us: us(stalls.p50),
            p99_us: us(stalls.p99),
            max_us: us(stalls.worst),
        }
    }
}

/// Runs the job to its end, or until `stop`.
///
/// # Errors
/// Why it could not be started. What goes wrong later is in the report.
pub fn run(job: Job, stop: &AtomicBool) -> Result<Report, String> {
    let mapped = Mapped::new(&job).map_err(|error| error.to_string())?;
    let mut reference = Reference::new(job.pages()).map_err(|error| error.to_string())?;
    let live = Live::default();
    let findings = Findings::default();
    let memory = Memory {
        anon: mapped.anon.words(),
        views: mapped.views.iter().map(Area::words).collect(),
        contents: &job.contents,
    };
    let ready = Barrier::new(job.threads + 1);
    let ended = AtomicBool::new(false);
    let (showing, end) = mpsc::channel();
    let mut migrator = Migrator::new(&job, &mapped, &live, stop);
    let panicked = thread::scope(|scope| {
        let style = progress::style(job.quiet);
        let (live, until, scene) = (&live, job.until, &mapped);
        scope.spawn(move || progress::show(style, live, until, scene, end));
        let workers: Vec<_> = (0..job.threads)
            .map(|number| {
                let mut worker = Worker::new(memory.clone(), &findings, job.seed, number, job.threads);
                let (ready, ended) = (&ready, &ended);
                scope.spawn(move || {
                    worker.prepare(stop);
                    ready.wait();
                    worker.run(ended);
                    worker.finish();
                })
            })
            .collect();
        ready.wait();
        // What was blocked by the first touch of a page was not blocked by a migration.
        mapped.machine.forget_stalls();
        live.started.store(true, Ordering::Relaxed);
        migrator.work(&mut reference);
        ended.store(true, Ordering::Relaxed);
        let panicked = workers.into_iter().filter_map(|worker| worker.join().err()).count();
        drop(showing);
        panicked
    });
    if panicked > 0 {
        migrator
            .failure
            .get_or_insert(format!("{panicked} of the threads panicked"));
    }
    let report = migrator.report(&findings);
    let traced = job.trace.map(|file| write_trace(file, mapped.trace.as_deref()));
    Ok(Report { traced, ..report })
}

/// Moves pages, and knows what became of them.
struct Migrator<'j> {
    job: &'j Job,
    mapped: &'j Mapped,
    live: &'j Live,
    stop: &'j AtomicBool,
    sites: Vec<Site>,
    counts: Counts,
    elapsed: Duration,
    rounds: u32,
    failure: Option<String>,
}

impl<'j> Migrator<'j> {
    fn new(job: &'j Job, mapped: &'j Mapped, live: &'j Live, stop: &'j AtomicBool) -> Self {
        Self {
            job,
            mapped,
            live,
            stop,
            sites: mapped.sites(),
            counts: Counts::default(),
            elapsed: Duration::ZERO,
            rounds: 0,
            failure: None,
        }
    }

    /// Rounds until the job's end; each is everything to node 1, and everything back.
    fn work(&mut self, reference: &mut Reference) {
        let begun = Instant::now();
        'rounds: while self.job.until != Until::Rounds(self.rounds) {
            for to in [1, 0] {
                for first in (0..self.sites.len()).step_by(PART) {
                    if self.is_over(begun) {
                        break 'rounds;
                    }
                    if let Err(error) = self.part(first, to, reference) {
                        self.failure = Some(error);
                        break 'rounds;
                    }
                }
                self.counts.end_trip();
                self.live.trips.fetch_add(1, Ordering::Relaxed);
                reference.turn();
            }
            self.rounds += 1;
        }
        self.elapsed = begun.elapsed();
    }

    fn is_over(&self, begun: Instant) -> bool {
        let late = match self.job.until {
            Until::Elapsed(time) => begun.elapsed() >= time,
            Until::Rounds(_) => false,
        };
        late || self.stop.load(Ordering::Relaxed)
    }

    /// Moves the part from site `first` on to node `to`, then copies as many pages plainly.
    fn part(&mut self, first: usize, to: usize, reference: &Reference) -> Result<(), String> {
        let sites = self
            .sites
            .get(first..self.sites.len().min(first + PART))
            .unwrap_or_default();
        let to = NODES.get(to).copied().unwrap_or_default();
        let (counts, live) = (&mut self.counts, self.live);
        let mut outcome = |_, outcome: Outcome| {
            if let Outcome::Refused(_) = outcome {
                live.refused.fetch_add(1, Ordering::Relaxed);
            }
            counts.outcome(outcome);
            if counts.moved % TELL == 0 {
                live.moved.store(counts.moved, Ordering::Relaxed);
            }
        };
        let request = Migrate::new(sites, to)
            .profile(profile(self.job.rules))
            .mode(self.job.mode)
            .reason(Reason::SyscallOrCpuset)
            .batch(self.job.batch)
            .stall_budget(self.job.stall_budget)
            .stop(self.stop)
            .outcome(&mut outcome);
        let started = Instant::now();
        let report = self.mapped.machine.migrate(request);
        let moving = started.elapsed();
        let report = report.map_err(|error| error.to_string())?;
        self.counts.passes(report.retried);
        let pages = sites.len();
        self.counts.time(moving, pages, reference.copy(first, pages));
        self.live.moved.store(self.counts.moved, Ordering::Relaxed);
        Ok(())
    }
}

impl Migrator<'_> {
    fn report(self, findings: &Findings) -> Report {
        let (ns_per_page, memcpy_ns_per_page) = self.counts.costs();
        let stats = self.mapped.machine.stats();
        let job = self.job;
        Report {
            file: job.file.clone(),
            file_bytes: job.contents.len(),
            anon_pages: job.anon_pages,
            engine: self.mapped.machine.engine(),
            mappings: job.mappings,
            threads: job.threads,
            rules: job.rules,
            mode: job.mode,
            batch: job.batch,
            stall_budget: job.stall_budget,
            seed: job.seed,
            elapsed: self.elapsed,
            rounds: self.rounds,
            interrupted: self.stop.load(Ordering::Relaxed),
            moved: self.counts.moved,
            freed: self.counts.freed,
            refused: self.counts.refused,
            retried: self.counts.retried,
            retried_by_pass: self.counts.retried_by_pass,
            ns_per_page,
            memcpy_ns_per_page,
            stalls: self.mapped.stalls(),
            peak_mappings: stats.peak_mappings as u64,
            mapping_limit: Some(stats.mapping_limit as u64),
            words_written: findings.words_written(),
            words_read: findings.words_read(),
            lost_writes: findings.lost_writes(),
            wrong_reads: findings.wrong_reads(),
            examples: findings.examples(),
            traced: None,
            failure: self.failure,
        }
    }
}

/// Drops what comes before the first whole run, and returns how much that was: a run whose beginning was overwritten makes no
/// sense to whoever replays it.
fn drop_part_of_a_run(events: &mut Vec<Event>) -> usize {
    let end = events.iter().position(|event| matches!(event, Event::End { .. }));
    let after = end.map_or(events.len(), |end| end + 1);
    let next = events
        .iter()
        .skip(after)
        .position(|event| matches!(event, Event::Isolate(_)));
    let cut = next.map_or(events.len(), |next| after + next);
    // A thread that began to wait in the part that is gone goes on in the part that is kept.
    let mut waiting = Vec::new();
    let kept = events.split_off(cut);
    let before = events.len() + kept.len();
    *events = kept
        .into_iter()
        .filter(|event| match *event {
            Event::Wait { actor, .. } => {
                waiting.push(actor);
                true
            }
            Event::Wake { actor, .. } => match waiting.iter().position(|waits| *waits == actor) {
                Some(at) => {
                    waiting.swap_remove(at);
                    true
                }
                None => false,
            },
            _ => true,
        })
        .collect();
    before - events.len()
}

/// Writes what the recording still has; what does not work is part of the report.
fn write_trace(to: TraceFile, recording: Option<&Recording>) -> Traced {
    let (mut events, mut dropped) = recording.map_or((Vec::new(), 0), |r| (r.events().collect(), r.dropped()));
    if dropped > 0 {
        dropped += drop_part_of_a_run(&mut events);
    }
    let count = events.len();
    let text = text_of(events);
    // Only now: whatever was in the file is lost only when there is something to put in its place.
    let mut file = to.file;
    let written = file.set_len(0).or_else(|error| {
        // A terminal or a pipe has no length to set.
        let plain = file.metadata().is_ok_and(|data| data.is_file());
        if plain { Err(error) } else { Ok(()) }
    });
    let written = written.and_then(|()| file.write_all(text.as_bytes()));
    Traced {
        path: to.path,
        events: count,
        dropped,
        error: written.err().map(|error| error.to_string()),
    }
}

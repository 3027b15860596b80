//! The simulator: worlds of many CPUs, spaces and pages, each drawn from a seed of its own and played beside a plain reference.
//!
//! A run is a sequence of worlds, shared out to threads. What happens in a world depends on its seed alone, so whatever goes wrong is
//! seen again by playing one world up to one call; and because calls are plain data, most of them can be left out again.
//!
//! | question | module |
//! |---|---|
//! | what was asked for? | [`args`] |
//! | what happens in one world? | [`play`] |
//! | which calls does a failure need? | [`shrink`] |
//! | what came of it all? | [`report`] |

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use simulation::{Counts, Kind, MOVED};

use crate::console;
use crate::progress::Gauge;
use crate::random::Random;
use args::{Goal, Simulation};
use play::{Failure, Plan};
use report::Report;

pub mod args;
pub mod play;
pub mod report;
pub mod shrink;

/// What all threads have done so far.
#[derive(Debug, Default)]
struct Done {
    counts: Counts,
    worlds: u64,
    failure: Option<(Plan, Failure)>,
    /// Threads that go on.
    working: usize,
}

/// Plays worlds until there is enough, one goes wrong, or `stop`.
#[must_use]
pub fn run(simulation: &Simulation, stop: &AtomicBool) -> Report {
    let begun = Instant::now();
    let done = Mutex::new(Done {
        working: simulation.threads,
        ..Done::default()
    });
    let (next, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let ended = std::sync::Condvar::new();
    thread::scope(|scope| {
        for _ in 0..simulation.threads {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) && !stop.load(Ordering::Relaxed) {
                    let world = next.fetch_add(1, Ordering::Relaxed);
                    let plan = simulation.plan(world);
                    let played = play::play(&plan, stop);
                    let mut done = lock(&done);
                    done.counts.merge(&played.counts);
                    done.worlds += 1;
                    if let Some(failure) = played.failure {
                        done.failure.get_or_insert((plan, failure));
                    }
                    if done.failure.is_some() || simulation.goal.is_reached(moved(&done.counts), begun.elapsed()) {
                        over.store(true, Ordering::Relaxed);
                    }
                }
                lock(&done).working -= 1;
                ended.notify_all();
            });
        }
        let gauge = Gauge::new(simulation.quiet);
        let mut now = lock(&done);
        while now.working > 0 {
            let woken = ended.wait_timeout(now, gauge.every());
            let (woken, timeout) = woken.unwrap_or_else(PoisonError::into_inner);
            now = woken;
            if timeout.timed_out() {
                let share = simulation.goal.share(moved(&now.counts), begun.elapsed());
                gauge.show(progress(&now, begun.elapsed()), share);
            }
        }
        gauge.finish();
    });
    let elapsed = begun.elapsed();
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    let failure = done.failure.map(|(plan, failure)| {
        if !simulation.quiet {
            console::remark("one went wrong: looking for the calls that it takes");
        }
        shrink::shrink(plan, failure, stop)
    });
    let interrupted = stop.load(Ordering::Relaxed);
    let moved = moved(&done.counts);
    Report {
        goal: simulation.goal,
        // One world, cut off, is none.
        reached: simulation.goal.is_reached(moved, elapsed) && !(interrupted && simulation.goal == Goal::OneWorld),
        seed: simulation.seed,
        threads: simulation.threads,
        care: simulation.care,
        worlds: done.worlds,
        counts: done.counts,
        elapsed,
        corrupt: simulation.corrupt,
        interrupted,
        failure,
    }
}

fn lock(done: &Mutex<Done>) -> MutexGuard<'_, Done> {
    done.lock().unwrap_or_else(PoisonError::into_inner)
}

fn moved(counts: &Counts) -> u64 {
    counts.of(Kind::Outcome, MOVED)
}

fn progress(done: &Done, elapsed: Duration) -> String {
    let (moved, calls) = (moved(&done.counts), done.counts.total(Kind::Call));
    let rate = moved as f64 / elapsed.as_secs_f64().max(1e-6);
    format!(
        "{moved} pages moved, {rate:.0} pages/s, {calls} calls, {} worlds",
        done.worlds
    )
}

impl Simulation {
    /// Returns what is played as the `n`th world.
    fn plan(&self, n: u64) -> Plan {
        let seed = self.replay.unwrap_or_else(|| Random::new(self.seed, n).next());
        Plan {
            seed,
            calls: self.calls.clone(),
            care: self.care,
            corrupt: self.corrupt,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pages(pages) => write!(f, "pages:{pages}"),
            Self::Elapsed(time) => write!(f, "seconds:{}", time.as_secs_f64()),
            Self::OneWorld => f.write_str("one-world"),
        }
    }
}

impl Goal {
    fn is_reached(self, moved: u64, elapsed: Duration) -> bool {
        match self {
            Self::Pages(pages) => moved >= pages,
            Self::Elapsed(time) => elapsed >= time,
            Self::OneWorld => true,
        }
    }

    /// How far it is, from 0 to 1.
    fn share(self, moved: u64, elapsed: Duration) -> f64 {
        match self {
            Self::Pages(pages) => moved as f64 / pages.max(1) as f64,
            Self::Elapsed(time) => elapsed.as_secs_f64() / time.as_secs_f64().max(1e-6),
            Self::OneWorld => 0.0,
        }
    }
}

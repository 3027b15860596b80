//! One world, played.

use core::cell::Cell;
use core::sync::atomic::{AtomicBool, Ordering};

use migrate_core::{LINUX_2_6_17, MODERN};
use simulation::{Care, Counts, Size, Step, World, quietly};

use super::args::CALLS;
use crate::random::Random;

/// Which calls of those that a seed gives are made. They are numbered from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Calls {
    /// The first so many.
    First(usize),
    /// These.
    Only(Vec<usize>),
}

impl Calls {
    fn last(&self) -> usize {
        match self {
            Self::First(calls) => *calls,
            Self::Only(calls) => calls.iter().copied().max().unwrap_or(0),
        }
    }

    fn has(&self, call: usize) -> bool {
        match self {
            Self::First(calls) => call <= *calls,
            Self::Only(calls) => calls.contains(&call),
        }
    }
}

/// All that what happens in a world depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The world's own seed.
    pub seed: u64,
    /// What is done of what the seed gives.
    pub calls: Calls,
    /// How much is looked at how often.
    pub care: Care,
    /// After this call, somebody changes a page behind everybody's back.
    pub corrupt: Option<usize>,
}

impl Plan {
    /// Returns the command that plays this again.
    #[must_use]
    pub fn command(&self) -> String {
        let mut command = format!("ci/simulate --replay {:#x} --every {}", self.seed, self.care.every);
        match &self.calls {
            Calls::First(CALLS) => {}
            Calls::First(calls) => command += &format!(" --calls {calls}"),
            Calls::Only(calls) => {
                let calls: Vec<_> = calls.iter().map(usize::to_string).collect();
                command += &format!(" --only {}", calls.join(","));
            }
        }
        if let Some(call) = self.corrupt {
            command += &format!(" --corrupt {call}");
        }
        command
    }

    /// Draws the calls, with their numbers.
    #[must_use]
    pub fn draw(&self) -> Vec<(usize, Step)> {
        let drawn = simulation::Calls::new(Size::LARGE, self.seed).zip(1..=self.calls.last());
        drawn
            .flat_map(|(step, call)| {
                let corrupt = self.corrupt == Some(call);
                let corrupt = corrupt.then_some(Step::Corrupt { at: self.seed as u32 });
                [Some((call, step)), corrupt.map(|step| (call, step))]
            })
            .flatten()
            .filter(|(call, _)| self.calls.has(*call))
            .collect()
    }
}

/// What went wrong.
#[derive(Clone, Debug)]
pub struct Failure {
    /// In or after which call; one more than there are calls where it was at the end, when everybody lets go.
    pub call: usize,
    /// What does not hold.
    pub what: String,
    /// What was done, a line for each call, where that was written down.
    pub story: String,
    /// The trace of the last run whose trace was kept.
    pub trace: String,
}

/// What came of a world.
#[derive(Debug)]
pub struct Played {
    /// What was done.
    pub counts: Counts,
    /// What went wrong, if anything did.
    pub failure: Option<Failure>,
}

/// Plays a world to its end, until something is wrong, or until `stop`.
#[must_use]
pub fn play(plan: &Plan, stop: &AtomicBool) -> Played {
    play_steps(plan, &plan.draw(), stop)
}

/// As [`play`], of calls that were drawn already.
#[must_use]
pub fn play_steps(plan: &Plan, steps: &[(usize, Step)], stop: &AtomicBool) -> Played {
    let mut random = Random::new(plan.seed, 0);
    let profile = if random.below(2) == 0 { &MODERN } else { &LINUX_2_6_17 };
    let writes = u8::try_from(random.below(6)).unwrap_or(0);
    let world = World::sized(Size::LARGE, plan.care, profile, writes);
    let now = Cell::new(0);
    let all = || {
        for (call, step) in steps {
            if stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            now.set(*call);
            world.step(step)?;
        }
        now.set(plan.calls.last() + 1);
        world.end()
    };
    let done = quietly(all);
    let failure = done.err().map(|what| Failure {
        call: now.get(),
        what,
        story: world.story(),
        trace: world.trace(),
    });
    Played {
        counts: world.take_counts(),
        failure,
    }
}

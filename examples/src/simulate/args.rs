//! The simulator's command line.

use core::time::Duration;

use clap::Parser;
use simulation::Care;

use super::play::Calls;
use crate::args::{ArgsError, MAX_THREADS, from_clap, time, within};
use crate::size::{count, number};

/// Pages that move when nobody says how many.
const PAGES: u64 = 10_000_000;
/// Calls of a world.
pub const CALLS: usize = 3000;
/// The most calls of a world.
const MAX_CALLS: usize = 1_000_000;
/// All of the state is looked at after so many calls and steps of runs.
const EVERY: u32 = 256;
/// The checker replays the trace of one run in so many.
const TRACES: u32 = 4;

/// Simulates kernels whose pages move: everything that programs and kernels do, in any order, with failures, against a plain
/// reference.
///
/// Ends with a table of what was done; exits with 0 only when nothing went wrong. What goes wrong is made shorter, and printed with
/// the one command that plays it again.
#[derive(Debug, Parser)]
#[command(name = "simulate", version, disable_help_subcommand = true)]
struct Cli {
    /// Pages to move, in all; also as 1e9 [default: 1e7]
    #[arg(long, value_name = "N", value_parser = count, conflicts_with = "seconds")]
    pages: Option<u64>,
    /// How long to go on, instead of how many pages to move
    #[arg(long, value_name = "S")]
    seconds: Option<f64>,
    /// What everything depends on; decimal, or 0x…
    #[arg(long, value_name = "X", default_value = "1", value_parser = number)]
    seed: u64,
    /// Worlds played at the same time [default: one for each core]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Recounts everything after each so many calls and steps of runs; what was touched is looked at after each
    #[arg(long, value_name = "K", default_value_t = EVERY)]
    every: u32,
    /// Calls of a world
    #[arg(long, value_name = "N", default_value_t = CALLS)]
    calls: usize,
    /// Plays one world only, the one of this seed
    #[arg(long, value_name = "SEED", value_parser = number, conflicts_with_all = ["pages", "seconds", "seed", "threads"])]
    replay: Option<u64>,
    /// Plays these calls of the world only: their numbers, separated by commas
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        requires = "replay",
        conflicts_with = "calls"
    )]
    only: Vec<usize>,
    /// After this call of each world, changes a page behind everybody's back: to see that it is noticed
    #[arg(long, value_name = "CALL")]
    corrupt: Option<usize>,
    /// Print nothing but the report
    #[arg(long)]
    quiet: bool,
}

/// When a simulation ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// When so many pages have moved.
    Pages(u64),
    /// After this time.
    Elapsed(Duration),
    /// After one world.
    OneWorld,
}

/// A simulation that can be started.
#[derive(Clone, Debug)]
pub struct Simulation {
    /// When it ends.
    pub goal: Goal,
    /// Worlds at the same time.
    pub threads: usize,
    /// What the worlds' seeds depend on.
    pub seed: u64,
    /// The one world's seed.
    pub replay: Option<u64>,
    /// Calls of each world.
    pub calls: Calls,
    /// How much is looked at how often.
    pub care: Care,
    /// Whether a page is changed behind everybody's back, and after which call.
    pub corrupt: Option<usize>,
    /// Report only.
    pub quiet: bool,
}

/// Reads the command line, with the program's name first.
///
/// # Errors
/// The first mistake found, or what was asked for instead.
pub fn simulation(args: impl IntoIterator<Item = std::ffi::OsString>) -> Result<Simulation, ArgsError> {
    Cli::try_parse_from(args).map_err(|error| from_clap(&error))?.check()
}

impl Cli {
    fn check(self) -> Result<Simulation, ArgsError> {
        let cores = std::thread::available_parallelism().map_or(1, core::num::NonZero::get);
        let threads = match self.replay {
            Some(_) => 1,
            None => self.threads.unwrap_or_else(|| cores.min(MAX_THREADS)),
        };
        within("--threads", threads, MAX_THREADS)?;
        within("--every", self.every as usize, u32::MAX as usize)?;
        within("--calls", self.calls, MAX_CALLS)?;
        let goal = match (self.replay, self.pages, self.seconds) {
            (Some(_), ..) => Goal::OneWorld,
            (None, _, Some(seconds)) => Goal::Elapsed(time(seconds)?),
            (None, Some(0), None) => return Err("--pages 0: at least 1".into()),
            (None, pages, None) => Goal::Pages(pages.unwrap_or(PAGES)),
        };
        if let Some(call) = self.corrupt {
            within("--corrupt", call, MAX_CALLS)?;
        }
        let calls = if self.only.is_empty() {
            Calls::First(self.calls)
        } else {
            for call in &self.only {
                within("--only", *call, MAX_CALLS)?;
            }
            Calls::Only(self.only)
        };
        let care = Care {
            every: self.every,
            traces: if self.every == 1 { 1 } else { TRACES },
            log: self.replay.is_some(),
            moments: false,
        };
        Ok(Simulation {
            goal,
            threads,
            seed: self.seed,
            replay: self.replay,
            calls,
            care,
            corrupt: self.corrupt,
            quiet: self.quiet,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn try_simulation(args: &str) -> Result<Simulation, String> {
        let args = core::iter::once("simulate").chain(args.split_whitespace());
        simulation(args.map(Into::into)).map_err(|error| match error {
            ArgsError::Asked(text) => panic!("{text}"),
            ArgsError::Mistake(line) => line,
        })
    }

    #[test]
    fn nothing_needs_to_be_said() {
        let simulation = try_simulation("").unwrap();
        assert_eq!(simulation.goal, Goal::Pages(10_000_000));
        assert_eq!(simulation.calls, Calls::First(CALLS));
        assert!(simulation.threads >= 1 && simulation.replay.is_none());
    }

    #[test]
    fn what_is_said_is_done() {
        let goal = |args| try_simulation(args).unwrap().goal;
        assert_eq!(goal("--pages 1e9"), Goal::Pages(1_000_000_000));
        assert_eq!(goal("--pages 12"), Goal::Pages(12));
        assert_eq!(goal("--seconds 1.5"), Goal::Elapsed(Duration::from_millis(1500)));
        let replay = try_simulation("--replay 0xff --only 1,5,7 --every 1").unwrap();
        assert_eq!(
            (replay.replay, replay.goal, replay.threads),
            (Some(255), Goal::OneWorld, 1)
        );
        assert_eq!(replay.calls, Calls::Only(vec![1, 5, 7]));
        assert_eq!(replay.care, Care::FULL);
    }

    #[test]
    fn each_mistake_is_one_line_that_names_what_was_wrong() {
        for (args, words) in [
            ("--pages 0", "--pages 0"),
            ("--pages 1.5", "1e7"),
            ("--pages 1e99", "more than can be counted"),
            ("--pages much", "much"),
            ("--pages 5 --seconds 1", "cannot be used with"),
            ("--seconds 0", "--seconds 0"),
            ("--seconds nan", "NaN"),
            ("--threads 0", "--threads 0"),
            ("--threads 1000", "at most 256"),
            ("--every 0", "--every 0"),
            ("--calls 0", "--calls 0"),
            ("--calls 9000000", "at most"),
            ("--replay x", "x"),
            ("--replay 1 --pages 5", "cannot be used with"),
            ("--only 1,2", "--replay"),
            ("--replay 1 --only 0", "--only 0"),
            ("--replay 1 --only 1,x", "x"),
            ("--corrupt 0", "--corrupt 0"),
            ("--seed 0xgg", "0xgg"),
            ("--colour", "--colour"),
            ("now", "now"),
        ] {
            let line = try_simulation(args).unwrap_err();
            assert!(line.contains(words), "{args}: {line}");
            assert_eq!(crate::console::one_line(&line).lines().count(), 1, "{args}: {line}");
        }
    }
}

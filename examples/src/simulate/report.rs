//! What came of a simulation.

use core::fmt::{self, Write as _};
use core::time::Duration;

use simulation::{CORRUPT, Care, Counts, EVERYTHING, Kind, MOVED, Size, failures_of_a_world};

use super::args::Goal;
use super::shrink::Shrunk;

/// Lines of a trace that are printed.
const LINES: usize = 60;

/// Where so many pages have moved, each way to fail must have been met.
const ENOUGH: u64 = 500_000;

/// Scripts look for lines.
fn in_a_line(what: &str) -> String {
    what.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A simulation that is over.
#[derive(Debug)]
pub struct Report {
    /// When it was to end.
    pub goal: Goal,
    /// It did not end before.
    pub reached: bool,
    /// What the worlds' seeds depended on.
    pub seed: u64,
    /// Worlds played at the same time.
    pub threads: usize,
    /// How much was looked at how often.
    pub care: Care,
    /// Worlds played.
    pub worlds: u64,
    /// What was done.
    pub counts: Counts,
    /// How long it took.
    pub elapsed: Duration,
    /// After this call of each world a page was to be changed behind everybody's back.
    pub corrupt: Option<usize>,
    /// Somebody asked for the end.
    pub interrupted: bool,
    /// What went wrong, if anything did.
    pub failure: Option<Shrunk>,
}

impl Report {
    /// True where nothing went wrong, in all that was asked for.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.failure.is_none() && self.too_little().is_empty() && self.never_failed().is_empty()
    }

    /// Returns what was to happen and did not: who moved nothing, or looked at nothing that was changed, has shown nothing.
    #[must_use]
    pub fn too_little(&self) -> Vec<String> {
        // Where something went wrong nothing else ended it.
        if self.failure.is_some() {
            return Vec::new();
        }
        let mut missing = Vec::new();
        if !self.reached {
            missing.push(format!("it ended before its goal, {}", self.goal));
        } else if self.moved() == 0 && self.goal != Goal::OneWorld {
            missing.push("no page moved: worlds of so few calls make no run".to_owned());
        }
        if let Some(call) = self.corrupt.filter(|_| self.counts.of(Kind::Call, CORRUPT) == 0) {
            missing.push(format!(
                "no page was changed: call {call} is not played, or no page was there after it"
            ));
        }
        missing
    }

    /// Returns the ways to fail that were never met, where so many pages moved that each must have been.
    #[must_use]
    pub fn never_failed(&self) -> Vec<&'static str> {
        let met = |word: &&'static str| self.counts.of(Kind::Fault, word) > 0;
        let all = failures_of_a_world();
        all.filter(|word| self.moved() >= ENOUGH && !met(word)).collect()
    }

    /// Returns how many pages moved.
    #[must_use]
    pub fn moved(&self) -> u64 {
        self.counts.of(Kind::Outcome, MOVED)
    }

    fn rate(&self) -> f64 {
        self.moved() as f64 / self.elapsed.as_secs_f64().max(1e-6)
    }

    /// Returns the line that scripts look for.
    #[must_use]
    pub fn proof(&self) -> String {
        let total = |kind| self.counts.total(kind);
        format!(
            "proof: simulate goal={} reached={} pages={} calls={} middle={} failures={} kinds={}/{} checks={} everything={} every={} seed={:#x} worlds={} \
             threads={} seconds={:.1} rate={:.0} wrong={}",
            self.goal,
            u8::from(self.reached),
            self.moved(),
            total(Kind::Call),
            total(Kind::Middle),
            total(Kind::Fault),
            self.counts.kinds(Kind::Fault),
            failures_of_a_world().count(),
            total(Kind::Check),
            EVERYTHING
                .map(|word| self.counts.of(Kind::Check, word))
                .iter()
                .sum::<u64>(),
            self.care.every,
            self.seed,
            self.worlds,
            self.threads,
            self.elapsed.as_secs_f64(),
            self.rate(),
            u8::from(self.failure.is_some()),
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for kind in Kind::ALL {
            writeln!(f, "{:>13}  {}", self.counts.total(kind), kind.heading())?;
            for (word, n) in self.counts.words(kind) {
                writeln!(f, "{n:>17}  {word}")?;
            }
        }
        writeln!(
            f,
            "\n{} worlds of seed {:#x} on {} threads, {} pages moved in {:.1} s: {:.0} pages/s",
            self.worlds,
            self.seed,
            self.threads,
            self.moved(),
            self.elapsed.as_secs_f64(),
            self.rate(),
        )?;
        writeln!(
            f,
            "what was touched was looked at after each call and before each step of a run, everything at each {}th of these; \
             one trace in {} was replayed",
            self.care.every, self.care.traces,
        )?;
        let Size {
            cpus,
            nodes,
            frames,
            alive,
            span,
            files,
            file_pages,
            ..
        } = Size::LARGE;
        writeln!(
            f,
            "each world: {cpus} CPUs, up to {alive} spaces of {span} pages and {files} files of {file_pages}, {nodes} nodes of \
             {frames} frames"
        )?;
        if self.interrupted {
            writeln!(f, "interrupted: the worlds in progress were not played to their end")?;
        }
        for what in self.too_little() {
            writeln!(f, "WRONG: {what}")?;
        }
        for word in self.never_failed() {
            writeln!(f, "WRONG: no step failed so: {word}")?;
        }
        if let Some(shrunk) = &self.failure {
            shrunk.fmt(f)?;
        }
        f.write_str(&self.proof())
    }
}

impl fmt::Display for Shrunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            found,
            failure,
            short,
            last,
        } = self;
        writeln!(f, "\nWRONG at call {}: {}", failure.call, in_a_line(&failure.what))?;
        writeln!(f, "replay: {}", found.command())?;
        writeln!(f, "\nshorter, wrong at call {}: {}", last.call, in_a_line(&last.what))?;
        writeln!(f, "replay: {}\n\n{}\n", short.command(), last.story)?;
        let lines: Vec<&str> = last.trace.lines().collect();
        let left_out = lines.len().saturating_sub(LINES);
        writeln!(f, "the last run:")?;
        if left_out > 0 {
            writeln!(f, "[{left_out} lines before]")?;
        }
        for line in lines.iter().skip(left_out) {
            writeln!(f, "{line}")?;
        }
        f.write_char('\n')
    }
}

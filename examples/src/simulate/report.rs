//! What came of a simulation.

use core::fmt::{self, Write as _};
use core::time::Duration;

use simulation::{Care, Counts, EVERYTHING, Kind, MOVED, Size};

use super::shrink::Shrunk;

/// Lines of a trace that are printed.
const LINES: usize = 60;

/// A simulation that is over.
#[derive(Debug)]
pub struct Report {
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
    /// Somebody asked for the end.
    pub interrupted: bool,
    /// What went wrong, if anything did.
    pub failure: Option<Shrunk>,
}

impl Report {
    /// True where nothing went wrong.
    #[must_use]
    pub const fn is_good(&self) -> bool {
        self.failure.is_none()
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
            "proof: simulate pages={} calls={} middle={} failures={} checks={} everything={} every={} seed={:#x} worlds={} \
             threads={} seconds={:.1} rate={:.0} wrong={}",
            self.moved(),
            total(Kind::Call),
            total(Kind::Middle),
            total(Kind::Fault),
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
            u8::from(!self.is_good()),
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
        writeln!(f, "\nWRONG at call {}: {}", failure.call, failure.what)?;
        writeln!(f, "replay: {}", found.command())?;
        writeln!(f, "\nshorter, wrong at call {}: {}", last.call, last.what)?;
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

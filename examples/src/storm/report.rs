//! What a storm left behind.

use core::fmt;
use core::time::Duration;

use backend_user::EngineInUse;

use super::Storm;
use super::operator::{self, Times};
use crate::refused::Refused;

/// A storm that is over.
#[derive(Debug)]
pub struct Report {
    /// What was asked for.
    pub storm: Storm,
    /// Which engine moved private pages.
    pub engine: EngineInUse,
    /// How long it took.
    pub elapsed: Duration,
    /// Pages moved by the rules of 2006, and by today's.
    pub moved: [u64; 2],
    /// Migrations made.
    pub calls: u64,
    /// Pages freed meanwhile.
    pub freed: u64,
    /// Pages that stayed.
    pub refused: Refused,
    /// What the operator did, and how often.
    pub times: Times,
    /// Words that workers wrote.
    pub words_written: u64,
    /// Words of the file that workers compared.
    pub words_read: u64,
    /// Words that were not as their writer had left them.
    pub lost_writes: u64,
    /// Words of files that were read wrongly.
    pub wrong_reads: u64,
    /// The first few of both.
    pub examples: Vec<String>,
    /// The most mappings there were, and how many there may be.
    pub mappings: Option<(u64, u64)>,
    /// Accesses that waited for a page in flight.
    pub blocked: u64,
    /// It did not end before its goal.
    pub reached: bool,
    /// Somebody asked for the end.
    pub interrupted: bool,
    /// What else went wrong.
    pub failure: Option<String>,
}

impl Report {
    /// True where nothing went wrong, in all that was asked for.
    #[must_use]
    pub fn is_good(&self) -> bool {
        !self.is_wrong() && self.too_little().is_empty()
    }

    /// True where something was lost, or failed.
    fn is_wrong(&self) -> bool {
        self.lost_writes > 0 || self.wrong_reads > 0 || self.failure.is_some()
    }

    /// Returns what was to happen and did not: a storm that nobody was out in has shown nothing.
    #[must_use]
    pub fn too_little(&self) -> Vec<String> {
        let mut missing = Vec::new();
        let mut happen = |did: bool, what: &str| {
            if !did {
                missing.push(what.to_owned());
            }
        };
        happen(self.reached, &format!("it ended before its goal, {}", self.goal()));
        happen(
            self.moved.iter().all(|moved| *moved > 0),
            "no page moved by one of the two rules",
        );
        happen(self.words_written > 0, "no word was written");
        happen(self.words_read > 0, "no word was read");
        for thing in operator::things(self.engine) {
            happen(self.times.contains_key(thing), &format!("never done: {thing}"));
        }
        if let Some((peak, limit)) = self.mappings {
            happen(peak < limit, "there were as many mappings as there may be");
        }
        missing
    }

    fn goal(&self) -> String {
        match (self.storm.pages, self.storm.time) {
            (Some(pages), _) => format!("pages:{pages}"),
            (None, time) => format!("seconds:{}", time.unwrap_or_default().as_secs_f64()),
        }
    }

    /// Returns how many pages moved.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.moved.iter().sum()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.engine)?;
        let [linux, modern] = self.moved;
        writeln!(
            f,
            "{:>13}  pages moved: {linux} as in 2006, {modern} as today",
            self.pages()
        )?;
        writeln!(
            f,
            "{:>13}  migrations, {} pages freed meanwhile",
            self.calls, self.freed
        )?;
        writeln!(f, "{:>13}  pages stayed", self.refused.total())?;
        for line in self.refused.lines() {
            writeln!(f, "    {line}")?;
        }
        writeln!(f, "{:>13}  things done meanwhile", self.times.values().sum::<u64>())?;
        for (word, n) in &self.times {
            writeln!(f, "{n:>17}  {word}")?;
        }
        writeln!(f, "{:>13}  words written, each looked at before", self.words_written)?;
        writeln!(f, "{:>13}  words read and compared", self.words_read)?;
        writeln!(f, "{:>13}  accesses waited for a page", self.blocked)?;
        if let Some((peak, limit)) = self.mappings {
            writeln!(f, "{peak:>13}  mappings at most, of {limit}")?;
        }
        writeln!(f, "{:>13}  lost writes", self.lost_writes)?;
        writeln!(f, "{:>13}  wrong reads", self.wrong_reads)?;
        for example in &self.examples {
            writeln!(f, "    {example}")?;
        }
        if let Some(failure) = &self.failure {
            writeln!(f, "WRONG: {failure}")?;
        }
        for what in self.too_little() {
            writeln!(f, "WRONG: {what}")?;
        }
        if self.interrupted {
            writeln!(f, "interrupted")?;
        }
        // Where the only thing wrong is that somebody stopped it, there is nothing to see again.
        if self.is_wrong() || !self.is_good() && !self.interrupted {
            let (seed, threads) = (self.storm.seed, self.storm.threads);
            writeln!(
                f,
                "replay: ci/storms --engine {} --seed {seed:#x} --threads {threads} --pages {} \
                 (the same things in the same order; how threads meet is the machine's affair)",
                self.storm.engine,
                self.pages().max(1)
            )?;
        }
        let seconds = self.elapsed.as_secs_f64();
        write!(
            f,
            "proof: storms engine={} goal={} reached={} pages={} linux={linux} modern={modern} operations={} kinds={} words_written={} words_read={} blocked={} \
             peak_mappings={} seed={:#x} threads={} seconds={seconds:.1} rate={:.0} lost={} wrong={} failed={}",
            self.engine.word(),
            self.goal(),
            u8::from(self.reached),
            self.pages(),
            self.times.values().sum::<u64>(),
            operator::things(self.engine)
                .filter(|thing| self.times.contains_key(thing))
                .count(),
            self.words_written,
            self.words_read,
            self.blocked,
            self.mappings.map_or(0, |(peak, _)| peak),
            self.storm.seed,
            self.storm.threads,
            self.pages() as f64 / seconds.max(1e-6),
            self.lost_writes,
            self.wrong_reads,
            u8::from(self.failure.is_some() || !self.too_little().is_empty()),
        )
    }
}

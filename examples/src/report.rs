//! What a job came to: as text for a person, as one JSON object for a program.

use core::fmt::Write as _;
use core::time::Duration;
use std::path::PathBuf;

use backend_user::EngineInUse;
use migrate_core::MAX_PASSES;
use mm_types::{Mode, PAGE_SIZE, Rules};
use serde_json::{Map, Value, json};

use crate::refused::Refused;
use crate::size::Bytes;

/// How long threads were blocked by pages in flight, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stalls {
    /// Accesses that waited.
    pub count: u64,
    /// Half of them waited no longer.
    pub p50_us: f64,
    /// 99 of 100 waited no longer.
    pub p99_us: f64,
    /// None waited longer.
    pub max_us: f64,
}

/// What became of the trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traced {
    /// Where it was written.
    pub path: PathBuf,
    /// Events in it.
    pub events: usize,
    /// Events that there was no room for.
    pub dropped: usize,
    /// What went wrong when it was written.
    pub error: Option<String>,
}

/// A job's end.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The file that was mapped.
    pub file: PathBuf,
    /// Its size in bytes.
    pub file_bytes: usize,
    /// Anonymous pages.
    pub anon_pages: usize,
    /// Which engine moved private pages, and why.
    pub engine: EngineInUse,
    /// Spaces that mapped the file.
    pub mappings: usize,
    /// Writers and readers.
    pub threads: usize,
    /// Whose rules.
    pub rules: Rules,
    /// What the migration could wait for.
    pub mode: Mode,
    /// Pages in flight at once, as asked.
    pub batch: usize,
    /// How long they could be; `None`: as long as it took.
    pub stall_budget: Option<Duration>,
    /// The seed.
    pub seed: u64,
    /// How long pages were moved.
    pub elapsed: Duration,
    /// Whole rounds: everything there and back.
    pub rounds: u32,
    /// True where somebody asked for an early end.
    pub interrupted: bool,
    /// Pages moved.
    pub moved: u64,
    /// Pages freed meanwhile by their users.
    pub freed: u64,
    /// Pages that stayed.
    pub refused: Refused,
    /// Attempts that were tried again, by rule.
    pub retried: Refused,
    /// Attempts that were tried again, by pass.
    pub retried_by_pass: [u64; MAX_PASSES],
    /// Median over the rounds of what a page cost; `None` where no page moved.
    pub ns_per_page: Option<f64>,
    /// The same of the plain copy.
    pub memcpy_ns_per_page: Option<f64>,
    /// Blocked accesses.
    pub stalls: Stalls,
    /// The most mappings the process had.
    pub peak_mappings: u64,
    /// How many it may have.
    pub mapping_limit: Option<u64>,
    /// Words written and looked at again.
    pub words_written: u64,
    /// Words of the file read and compared.
    pub words_read: u64,
    /// Writes that were not found again.
    pub lost_writes: u64,
    /// Words of the file that were not the file's.
    pub wrong_reads: u64,
    /// A few of both, in words.
    pub examples: Vec<String>,
    /// The trace, where one was asked for.
    pub traced: Option<Traced>,
    /// Why the job ended before its time, where it could not go on.
    pub failure: Option<String>,
}

impl Report {
    /// True where nothing was lost, nothing wrong, and the job did what it was asked for.
    #[must_use]
    pub const fn is_good(&self) -> bool {
        self.lost_writes == 0 && self.wrong_reads == 0 && self.failure.is_none()
    }

    /// Returns what a page cost in plain copies of a page.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        match (self.ns_per_page, self.memcpy_ns_per_page) {
            (Some(ns), Some(memcpy)) if memcpy > 0.0 => Some(ns / memcpy),
            _ => None,
        }
    }

    /// Returns how many attempts were tried again.
    #[must_use]
    pub fn retried_total(&self) -> u64 {
        self.retried_by_pass.iter().sum()
    }

    /// Returns the report as one JSON object, in one line.
    #[must_use]
    pub fn json(&self) -> String {
        let count = |refused: &Refused| -> Map<String, Value> {
            let rules = refused.rules();
            rules.map(|(word, rule)| (word.to_owned(), rule.count.into())).collect()
        };
        let holders = |refused: &Refused| -> Map<String, Value> {
            let rules = refused.rules();
            rules
                .map(|(word, rule)| (word.to_owned(), json!(rule.holders)))
                .collect()
        };
        let mut object = json!({
            "file": self.file.display().to_string(),
            "file_bytes": self.file_bytes,
            "anon_bytes": self.anon_pages * PAGE_SIZE,
            "engine": self.engine.word(),
            "mappings": self.mappings,
            "threads": self.threads,
            "profile": self.rules.word(),
            "mode": self.mode.word(),
            "batch": self.batch,
            "stall_budget_us": self.stall_budget.map(|budget| budget.as_micros() as u64),
            "seed": self.seed,
            "seconds": rounded(self.elapsed.as_secs_f64()),
            "rounds": self.rounds,
            "interrupted": self.interrupted,
            "moved": self.moved,
            "freed": self.freed,
            "refused": count(&self.refused),
            "refused_by_holder": holders(&self.refused),
            "retried": self.retried_total(),
            "retried_by_pass": self.retried_by_pass,
            "retried_by_reason": count(&self.retried),
            "ns_per_page": self.ns_per_page.map(rounded),
            "memcpy_ns_per_page": self.memcpy_ns_per_page.map(rounded),
            "ratio": self.ratio().map(rounded),
            "blocked": self.stalls.count,
            "stall_p50_us": rounded(self.stalls.p50_us),
            "stall_p99_us": rounded(self.stalls.p99_us),
            "stall_max_us": rounded(self.stalls.max_us),
            "peak_mappings": self.peak_mappings,
            "mapping_limit": self.mapping_limit,
            "words_written": self.words_written,
            "words_read": self.words_read,
            "lost_writes": self.lost_writes,
            "wrong_reads": self.wrong_reads,
            "examples": self.examples,
            "failure": self.failure,
        });
        if let (Some(traced), Some(object)) = (&self.traced, object.as_object_mut()) {
            let trace = json!({
                "path": traced.path.display().to_string(),
                "events": traced.events,
                "dropped": traced.dropped,
                "error": traced.error,
            });
            object.insert("trace".into(), trace);
        }
        object.to_string()
    }

    /// Returns the report as text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a string does not fail.
        let _ = self.write_text(&mut out);
        out.truncate(out.trim_end().len());
        out
    }

    fn write_text(&self, out: &mut String) -> core::fmt::Result {
        let one_at_a_time = if self.rules == Rules::Linux2617 {
            ", one page at a time"
        } else {
            ""
        };
        let within = match self.stall_budget {
            Some(budget) => format!("stall budget {} µs", budget.as_micros()),
            None => "no stall budget".to_owned(),
        };
        writeln!(
            out,
            "profile {}, mode {}, batch {}{one_at_a_time}, {within}, seed {}; {} threads beside the migrator",
            self.rules, self.mode, self.batch, self.seed, self.threads
        )?;
        writeln!(
            out,
            "{} of anonymous memory, {} of {} in {} spaces",
            Bytes((self.anon_pages * PAGE_SIZE) as u64),
            Bytes(self.file_bytes as u64),
            crate::console::one_line(&self.file.display().to_string()),
            self.mappings
        )?;
        writeln!(out, "{}", self.engine)?;
        let end = if self.interrupted { ", interrupted" } else { "" };
        writeln!(
            out,
            "{} rounds in {:.1} s{end}\n",
            self.rounds,
            self.elapsed.as_secs_f64()
        )?;
        writeln!(out, "moved          {}", self.moved)?;
        if self.freed > 0 {
            writeln!(out, "freed          {}", self.freed)?;
        }
        writeln!(out, "stayed         {}", self.refused.total())?;
        for line in self.refused.lines() {
            writeln!(out, "{line}")?;
        }
        writeln!(out, "tried again    {}", self.retried_total())?;
        if self.retried_total() > 0 {
            let passes = self.retried_by_pass.iter().enumerate().filter(|(_, n)| **n > 0);
            let passes: Vec<_> = passes.map(|(pass, n)| format!("pass {pass}: {n}")).collect();
            writeln!(out, "                {}", passes.join(", "))?;
        }
        for line in self.retried.lines() {
            writeln!(out, "{line}")?;
        }
        match (self.ns_per_page, self.memcpy_ns_per_page, self.ratio()) {
            (Some(ns), Some(memcpy), Some(ratio)) => writeln!(
                out,
                "cost           {ns:.0} ns a page, {ratio:.2} times the {memcpy:.0} ns of a plain copy"
            )?,
            _ => writeln!(out, "cost           not measured: no page moved")?,
        }
        let Stalls {
            count,
            p50_us,
            p99_us,
            max_us,
        } = self.stalls;
        writeln!(
            out,
            "blocked        {count} accesses; p50 {p50_us:.1} us, p99 {p99_us:.1} us, worst {max_us:.1} us"
        )?;
        let limit = self.mapping_limit.map_or(String::new(), |limit| format!(" of {limit}"));
        writeln!(out, "peak mappings  {}{limit}", self.peak_mappings)?;
        writeln!(
            out,
            "lost writes    {} of {} words written",
            self.lost_writes, self.words_written
        )?;
        writeln!(
            out,
            "wrong reads    {} of {} words read",
            self.wrong_reads, self.words_read
        )?;
        for example in &self.examples {
            writeln!(out, "                {example}")?;
        }
        self.write_trace(out)?;
        if let Some(failure) = &self.failure {
            writeln!(out, "failed         {}", crate::console::one_line(failure))?;
        }
        Ok(())
    }

    fn write_trace(&self, out: &mut String) -> core::fmt::Result {
        let Some(traced) = &self.traced else {
            return Ok(());
        };
        let path = crate::console::one_line(&traced.path.display().to_string());
        match &traced.error {
            Some(error) => writeln!(out, "trace          {path}: {error}"),
            None if traced.dropped > 0 => writeln!(
                out,
                "trace          {path}: {} events; {} more had no room and were dropped",
                traced.events, traced.dropped
            ),
            None => writeln!(out, "trace          {path}: {} events, all there were", traced.events),
        }
    }
}

/// Three decimals: more would be noise.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests;

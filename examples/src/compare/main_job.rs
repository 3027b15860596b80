//! The main job beside the rest: it prints a ratio of its own, and the two must agree.

use core::sync::atomic::AtomicBool;
use std::path::PathBuf;
use std::{fs, io};

use docs_gen::performance::{Cost, LeftOut, Loaded, Row, Waits};
use mm_types::PAGE_SIZE;

use crate::args::{self, ArgsError};
use crate::job;
use crate::median::median;
use crate::report::Report;
use crate::words::WORDS;
use crate::workers;

use super::args::{Comparison, processors};
use super::rounds::spread;

/// The name in the table.
pub const NAME: &str = "the main job (migrate), as it says";

/// Of the memory that moves, how much is of a file: little, for the other rows have none.
const FILE_SHARE: usize = 64;

/// There and back twice: the first time takes the memory and does not count.
const ROUNDS: &str = "2";

/// Runs of the main job, some for each size of a batch.
#[derive(Debug)]
pub struct Runs {
    pages: usize,
    batches: Vec<(usize, Vec<Report>)>,
    left_out: Option<String>,
}

impl Runs {
    /// Prepares runs as large as the rest of the comparison.
    #[must_use]
    pub fn new(asked: &Comparison) -> Self {
        let left_out = (processors() < 2).then(|| "one processor: its threads would share it".to_owned());
        let wanted = left_out.is_none() && asked.wants(NAME);
        let batches = asked
            .batches
            .iter()
            .filter(|_| wanted)
            .map(|batch| (*batch, Vec::new()));
        Self {
            pages: asked.pages,
            batches: batches.collect(),
            left_out: left_out.filter(|_| asked.wants(NAME)),
        }
    }

    /// Runs it once for each size of a batch.
    ///
    /// # Errors
    /// It cannot be started, or something was lost.
    pub fn round(&mut self, stop: &AtomicBool) -> Result<(), String> {
        if self.batches.is_empty() {
            return Ok(());
        }
        let file = Scratch::new((self.pages / FILE_SHARE).max(1)).map_err(|error| format!("{NAME}: {error}"))?;
        let Some(name) = file.0.to_str() else {
            return Err(format!(
                "{NAME}: the directory for temporary files has no name that can be written"
            ));
        };
        for (batch, reports) in &mut self.batches {
            let (size, batch) = ((self.pages * PAGE_SIZE).to_string(), batch.to_string());
            let line = [
                "migrate", name, "--size", &size, "--batch", &batch, "--rounds", ROUNDS, "--quiet",
            ];
            let job = args::job(line.map(Into::into)).map_err(|error| match error {
                ArgsError::Asked(text) | ArgsError::Mistake(text) => format!("{NAME}: {text}"),
            })?;
            let report = job::run(job, stop)?;
            if !report.is_good() {
                return Err(format!("{NAME}: {}", report.text()));
            }
            reports.push(report);
        }
        Ok(())
    }

    /// Returns a row for each size of a batch.
    ///
    /// # Errors
    /// Why there are none.
    pub fn rows(self) -> Result<Vec<Row>, LeftOut> {
        match self.left_out {
            Some(why) => Err(LeftOut {
                what: NAME.to_owned(),
                why,
            }),
            None => Ok(self
                .batches
                .iter()
                .filter_map(|(batch, reports)| row(*batch, reports))
                .collect()),
        }
    }
}

/// A file to map, gone at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(pages: usize) -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("compare-{}", std::process::id()));
        let bytes: Vec<u8> = (0..pages * PAGE_SIZE).map(|at| (at % 251) as u8).collect();
        fs::write(&path, bytes)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn row(batch: usize, reports: &[Report]) -> Option<Row> {
    let reports = || reports.iter();
    let cost = Cost {
        ns: spread(reports().filter_map(|report| report.ns_per_page))?,
        ratio: spread(reports().filter_map(Report::ratio))?,
    };
    // It counts words; a visit is a page's.
    let visits = reports().map(|report| {
        let written = report.words_written * workers::writers(report.threads) as u64;
        (written + report.words_read) / WORDS as u64
    });
    let middle = |ns: &dyn Fn(&Report) -> f64| median(&reports().map(ns).collect::<Vec<_>>()).unwrap_or(0.0);
    let waits = Waits {
        visits: visits.sum(),
        waited: reports().map(|report| report.stalls.count).sum(),
        limit: 0.0,
        p50: middle(&|report| report.stalls.p50_us * 1000.0),
        p99: middle(&|report| report.stalls.p99_us * 1000.0),
        worst: reports()
            .map(|report| report.stalls.max_us * 1000.0)
            .fold(0.0, f64::max),
    };
    Some(Row {
        engine: NAME.to_owned(),
        batch: u32::try_from(batch).ok(),
        moved: middle(&|report| report.moved as f64) as u64,
        stayed: reports().map(|report| report.refused.total()).sum(),
        alone: None,
        loaded: Some(Loaded {
            cost,
            faults: None,
            with_faults: None,
            waits,
        }),
    })
}

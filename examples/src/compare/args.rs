//! The comparison's command line.

use std::path::PathBuf;

use clap::Parser;
use mm_types::PAGE_SIZE;

use super::user;
use crate::args::{ArgsError, MAX_BATCH, MAX_THREADS, from_clap, within};
use crate::memory;
use crate::size::{self, Bytes};

/// Measures everything that moves pages beside a plain copy of the same pages: the engine in user space, the core alone, page tables
/// of x86-64, and as root the running kernel's own.
///
/// Prints one table of ratios, and draws it, and costs by pages, mappings and threads, as SVG.
#[derive(Debug, Parser)]
#[command(name = "compare", version, disable_help_subcommand = true)]
pub struct Cli {
    /// Memory that each engine moves: bytes, or with K, M, G
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = size::parse)]
    size: u64,
    /// Rounds that count
    #[arg(long, value_name = "N", default_value_t = 7)]
    rounds: usize,
    /// Pages in flight at once, 1 to 512 each
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [1, 64, 512])]
    batches: Vec<usize>,
    /// Threads that write beside the one that moves pages [default: one less than there are processors]
    #[arg(long, value_name = "N")]
    writers: Option<usize>,
    /// Only the rows whose name has this in it
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Leave out the costs by pages, mappings and threads
    #[arg(long)]
    no_scaling: bool,
    /// The most pages for which the cost by pages is measured; where memory is short, fewer are
    #[arg(long, value_name = "N", default_value_t = 10_000_000)]
    most_pages: usize,
    /// Where the charts go
    #[arg(long, value_name = "DIRECTORY", default_value = "target/compare")]
    charts: PathBuf,
    /// Write the results to this file too, from which docs-gen makes its chapter
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
}

/// What is to be compared.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Pages of each engine.
    pub pages: usize,
    /// Rounds that count.
    pub rounds: usize,
    /// Sizes of a batch.
    pub batches: Vec<usize>,
    /// Threads that write.
    pub writers: usize,
    /// What a row's name must have in it.
    pub only: String,
    /// Measure the costs by pages, mappings and threads.
    pub scaling: bool,
    /// The most pages of these.
    pub most_pages: usize,
    /// Where the charts go.
    pub charts: PathBuf,
    /// Where the results go.
    pub record: Option<PathBuf>,
}

/// Pages of a round that are touched before half are given back to be in the running kernel's way.
const FRAGMENTS: usize = 120_000;

/// What the page tables, the plain copy and the main job take, in times of what each moves: two nodes, two buffers, and nodes and
/// buffers of its own.
const TIMES: u64 = 8;

/// What a size of a batch takes besides, for each engine in user space that is asked for: two nodes.
const TIMES_A_BATCH: u64 = 2;

impl Comparison {
    /// True where a row of this name is asked for.
    #[must_use]
    pub fn wants(&self, name: &str) -> bool {
        name.contains(&self.only)
    }

    /// Returns how many pages are touched to be in the running kernel's way.
    #[must_use]
    pub fn fragments(&self) -> usize {
        self.pages.saturating_mul(2).min(FRAGMENTS)
    }
}

/// Returns how many processors there are.
#[must_use]
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}

/// Reads the command line, with the program's name first.
///
/// # Errors
/// [`ArgsError`]: the first mistake found.
pub fn comparison(args: impl IntoIterator<Item = std::ffi::OsString>) -> Result<Comparison, ArgsError> {
    Cli::try_parse_from(args).map_err(|e| from_clap(&e))?.check()
}

impl Cli {
    fn check(self) -> Result<Comparison, ArgsError> {
        let pages = usize::try_from(self.size.div_ceil(PAGE_SIZE as u64)).unwrap_or(usize::MAX);
        within("--size", pages, usize::MAX)?;
        within("--rounds", self.rounds, 1000)?;
        for batch in &self.batches {
            within("--batches", *batch, MAX_BATCH)?;
        }
        let writers = self.writers.unwrap_or(processors() - 1);
        if writers > MAX_THREADS {
            return Err(format!("--writers {writers}: at most {MAX_THREADS}").into());
        }
        let asked = Comparison {
            pages,
            rounds: self.rounds,
            batches: self.batches,
            writers,
            only: self.only,
            scaling: !self.no_scaling,
            most_pages: self.most_pages,
            charts: self.charts,
            record: self.record,
        };
        let engines = user::engines().into_iter().filter(|(name, _)| asked.wants(name));
        let batches = u64::try_from(asked.batches.len() * engines.count()).unwrap_or(u64::MAX);
        let times = batches.checked_mul(TIMES_A_BATCH).and_then(|n| n.checked_add(TIMES));
        let need = times.and_then(|times| self.size.checked_mul(times));
        match (need, memory::available()) {
            (Some(need), Some(available)) if need <= available => {}
            (Some(_), None) => {}
            (need, available) => {
                let [need, available] =
                    [need, available].map(|bytes| bytes.map_or("?".to_owned(), |n| Bytes(n).to_string()));
                let size = Bytes(self.size);
                return Err(format!("--size {size}: needs {need} of memory, {available} is available").into());
            }
        }
        Ok(asked)
    }
}

//! The main job's command line, and what makes a job that can be started of it.
//!
//! Everything that can be wrong with the input is found here, before a thread runs: each mistake is one line.

use core::sync::atomic::AtomicBool;
use core::time::Duration;
use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;

use backend_user::{Engine, Migrate};
use clap::Parser;
use mm_types::{Mode, PAGE_SIZE, Rules};

use crate::console;
use crate::input::{open_file, open_trace, plain, read_file};
use crate::memory;
use crate::size::{self, Bytes};
use crate::stop;

/// The most threads that can be asked for.
pub const MAX_THREADS: usize = 256;
/// How long pages are in flight where nobody says anything else.
const STALL_BUDGET_US: u32 = Migrate::STALL_BUDGET.as_micros() as u32;

/// The most pages in a batch (the modern profile's).
pub const MAX_BATCH: usize = migrate_core::MODERN.max_batch;
/// The most address spaces that map FILE.
pub const MAX_MAPPINGS: usize = 64;
/// How long a job runs when nobody says.
pub const DEFAULT_SECONDS: f64 = 5.0;

/// Moves the pages of a running program between two emulated nodes, and back, and proves that nothing was lost.
///
/// Writer threads checksum anonymous memory, reader threads compare FILE's pages with FILE, a migrator moves all of it. Ends with a
/// report; exits with 0 only when no write was lost and no read was wrong.
#[derive(Debug, Parser)]
#[command(name = "migrate", version, disable_help_subcommand = true)]
pub struct Cli {
    /// The file whose pages are mapped and verified [default: this program's own executable]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Anonymous memory that is written all the while: bytes, or with K, M, G
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = size::parse)]
    size: u64,
    /// Writers and readers together [default: one less than there are cores, at least 1]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// How long to go on [default: 5]
    #[arg(long, value_name = "S", conflicts_with = "rounds")]
    seconds: Option<f64>,
    /// How many times to move everything there and back, instead of for how long
    #[arg(long, value_name = "R")]
    rounds: Option<u32>,
    /// Pages in flight at once, 1 to 512 (linux-2.6.17 takes one at a time whatever this says)
    #[arg(long, value_name = "N", default_value_t = MAX_BATCH)]
    batch: usize,
    /// How long pages may be in flight, in microseconds: batches are cut to that, and pages stay that take longer; 0 for as long as it takes
    #[arg(long, value_name = "US", default_value_t = STALL_BUDGET_US)]
    stall_budget: u32,
    /// What the migration may wait for: async, sync-light or sync (linux-2.6.17 has one way only)
    #[arg(long, value_name = "MODE", default_value_t = Mode::Sync)]
    mode: Mode,
    /// Whose rules it follows: linux-2.6.17 or modern
    #[arg(long, value_name = "PROFILE", default_value_t = Rules::Modern)]
    profile: Rules,
    /// Which engine moves private pages: shared, private (userfaultfd) or auto
    #[arg(long, value_name = "ENGINE", default_value_t = Engine::Shared)]
    engine: Engine,
    /// Address spaces that map FILE, each all of it
    #[arg(long, value_name = "K", default_value_t = 3)]
    mappings: usize,
    /// What everything random depends on
    #[arg(long, value_name = "X", default_value_t = 1)]
    seed: u64,
    /// Write the canonical trace to this file: the newest events, as many as there is room for
    #[arg(long, value_name = "PATH")]
    trace: Option<PathBuf>,
    /// Print the report as one JSON object
    #[arg(long)]
    json: bool,
    /// Print nothing but the report
    #[arg(long)]
    quiet: bool,
}

/// When a job ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// After this time, at the end of a batch.
    Elapsed(Duration),
    /// After so many rounds: everything there and back.
    Rounds(u32),
}

/// Where the trace goes.
#[derive(Debug)]
pub struct TraceFile {
    /// As it was given.
    pub path: PathBuf,
    /// Open for writing; what was in it is still there.
    pub file: File,
}

/// A job that can be started: everything has been looked at.
#[derive(Debug)]
pub struct Job {
    /// The file to map.
    pub file: PathBuf,
    /// Its contents, read now and by ordinary means: what readers compare with.
    pub contents: Vec<u8>,
    /// Pages of anonymous memory.
    pub anon_pages: usize,
    /// Threads that write and read.
    pub threads: usize,
    /// When to end.
    pub until: Until,
    /// Pages in flight at once.
    pub batch: usize,
    /// How long they may be; `None`: as long as it takes.
    pub stall_budget: Option<Duration>,
    /// What the migration may wait for.
    pub mode: Mode,
    /// Whose rules.
    pub rules: Rules,
    /// Which engine moves private pages.
    pub engine: Engine,
    /// Spaces that map the file.
    pub mappings: usize,
    /// For everything random.
    pub seed: u64,
    /// Where the trace goes.
    pub trace: Option<TraceFile>,
    /// Report as JSON.
    pub json: bool,
    /// Report only.
    pub quiet: bool,
}

impl Job {
    /// Returns the pages of the file.
    #[must_use]
    pub const fn file_pages(&self) -> usize {
        self.contents.len().div_ceil(PAGE_SIZE)
    }

    /// Returns all pages that move.
    #[must_use]
    pub const fn pages(&self) -> usize {
        self.anon_pages + self.file_pages()
    }
}

/// Why there is no job to start.
#[derive(Debug)]
pub enum ArgsError {
    /// Help or the version was asked for; the text to print.
    Asked(String),
    /// A mistake, in one line.
    Mistake(String),
}

impl<S: Into<String>> From<S> for ArgsError {
    fn from(line: S) -> Self {
        Self::Mistake(line.into())
    }
}

/// Makes a program ready to start: what was asked for, and the flag that SIGINT and SIGTERM set.
///
/// # Errors
/// What the program ends with instead; all there is to say has been said.
pub fn ready<T>(program: &str, asked: Result<T, ArgsError>) -> Result<(T, &'static AtomicBool), ExitCode> {
    let asked = match asked {
        Ok(asked) => asked,
        Err(ArgsError::Asked(text)) => {
            console::result(text.trim_end());
            return Err(ExitCode::SUCCESS);
        }
        Err(ArgsError::Mistake(line)) => return Err(console::refuse(program, line)),
    };
    match stop::on_interrupt() {
        Ok(stop) => Ok((asked, stop)),
        Err(error) => Err(console::refuse(program, format_args!("signals: {error}"))),
    }
}

/// Reads the command line, with the program's name first.
///
/// # Errors
/// [`ArgsError`]: the first mistake found.
pub fn job(args: impl IntoIterator<Item = std::ffi::OsString>) -> Result<Job, ArgsError> {
    Cli::try_parse_from(args).map_err(|e| from_clap(&e))?.check()
}

/// Makes one line of what clap says in many: the first paragraph is what is wrong, the rest is how to ask for help.
pub(crate) fn from_clap(error: &clap::Error) -> ArgsError {
    let text = error.to_string();
    if !error.use_stderr() {
        return ArgsError::Asked(text);
    }
    // A value with a line break in it is part of the first paragraph.
    let first = text.split("\n\n").next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    let known = first.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    ArgsError::Mistake(format!("{known} (see --help)"))
}

impl Cli {
    fn check(self) -> Result<Job, ArgsError> {
        let anon_pages = positive_size(self.size)?;
        let threads = self.threads.unwrap_or_else(default_threads);
        within("--threads", threads, MAX_THREADS)?;
        within("--batch", self.batch, MAX_BATCH)?;
        within("--mappings", self.mappings, MAX_MAPPINGS)?;
        let until = until(self.seconds, self.rounds)?;
        let file = match self.file {
            Some(path) => path,
            None => std::env::current_exe().map_err(|e| format!("this program's own executable: {}", plain(&e)))?,
        };
        let mut open = open_file(&file)?;
        let file_bytes = open.1;
        fits(self.size, file_bytes, memory::available())?;
        let contents = read_file(&file, &mut open.0, file_bytes)?;
        let trace = self.trace.map(|path| open_trace(path, &open.0)).transpose()?;
        Ok(Job {
            file,
            contents,
            anon_pages,
            threads,
            until,
            batch: self.batch,
            stall_budget: (self.stall_budget != 0).then(|| Duration::from_micros(self.stall_budget.into())),
            mode: self.mode,
            rules: self.profile,
            engine: self.engine,
            mappings: self.mappings,
            seed: self.seed,
            trace,
            json: self.json,
            quiet: self.quiet,
        })
    }
}

fn positive_size(size: u64) -> Result<usize, ArgsError> {
    if size == 0 {
        return Err("--size 0: there must be memory to move".into());
    }
    let pages = size.div_ceil(PAGE_SIZE as u64);
    usize::try_from(pages).map_err(|_| format!("--size {}: larger than any memory", Bytes(size)).into())
}

pub(crate) fn within(option: &str, value: usize, most: usize) -> Result<(), ArgsError> {
    if value == 0 {
        Err(format!("{option} 0: at least 1").into())
    } else if value > most {
        Err(format!("{option} {value}: at most {most}").into())
    } else {
        Ok(())
    }
}

fn until(seconds: Option<f64>, rounds: Option<u32>) -> Result<Until, ArgsError> {
    match (seconds, rounds) {
        (None, Some(0)) => Err("--rounds 0: at least 1".into()),
        (None, Some(rounds)) => Ok(Until::Rounds(rounds)),
        (seconds, _) => time(seconds.unwrap_or(DEFAULT_SECONDS)).map(Until::Elapsed),
    }
}

pub(crate) fn time(seconds: f64) -> Result<Duration, ArgsError> {
    match Duration::try_from_secs_f64(seconds) {
        Ok(time) if !time.is_zero() => Ok(time),
        _ => Err(format!("--seconds {seconds}: more than 0, and a time one can wait for").into()),
    }
}

/// One migrator, and so many others that no thread is without a core; on a single core there is no such number, and one works.
fn default_threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    cores.saturating_sub(1).clamp(1, MAX_THREADS)
}

fn fits(size: u64, file: u64, available: Option<u64>) -> Result<(), ArgsError> {
    let need = memory::needed(size, file);
    match (need, available) {
        (None, _) => Err(format!("--size {}: larger than any memory", Bytes(size)).into()),
        (Some(need), Some(available)) if need > available => Err(format!(
            "--size {} with a file of {}: needs {} of memory, {} is available",
            Bytes(size),
            Bytes(file),
            Bytes(need),
            Bytes(available)
        )
        .into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn try_job(args: &[&str]) -> Result<Job, String> {
        let args = core::iter::once("migrate").chain(args.iter().copied());
        job(args.map(Into::into)).map_err(|e| match e {
            ArgsError::Asked(text) => panic!("{text}"),
            ArgsError::Mistake(line) => line,
        })
    }

    #[test]
    fn nothing_needs_to_be_said() {
        let job = try_job(&["--size", "4K"]).unwrap();
        assert_eq!(job.file, std::env::current_exe().unwrap());
        assert!(!job.contents.is_empty());
        assert_eq!((job.anon_pages, job.batch, job.rules), (1, 512, Rules::Modern));
        assert_eq!(job.until, Until::Elapsed(Duration::from_secs(5)));
        let cores = std::thread::available_parallelism().unwrap().get();
        assert!(job.threads == 1 || job.threads < cores, "the migrator needs a core too");
    }

    #[test]
    fn what_is_said_is_done() {
        let line = "--size 5000 --threads 3 --rounds 2 --batch 7 --mode async --profile linux-2.6.17 --mappings 5 --seed 9 --json";
        let job = try_job(&line.split(' ').collect::<Vec<_>>()).unwrap();
        assert_eq!((job.anon_pages, job.threads, job.batch, job.mappings), (2, 3, 7, 5));
        assert_eq!(job.until, Until::Rounds(2));
        assert_eq!((job.mode, job.rules, job.seed), (Mode::Async, Rules::Linux2617, 9));
        assert!(job.json && !job.quiet);
    }

    #[test]
    fn every_mistake_is_one_line_that_names_what_was_wrong() {
        for (args, word) in [
            (&["--size", "0"][..], "--size 0"),
            (&["--size", "much"], "much"),
            (&["--size", "99999999999T"], "larger than any memory"),
            (&["--size", "99999T"], "available"),
            (&["--threads", "0"], "--threads 0"),
            (&["--threads", "100000"], "at most 256"),
            (&["--threads", "-1"], "-1"),
            (&["--batch", "0"], "--batch 0"),
            (&["--batch", "513"], "at most 512"),
            (&["--mappings", "0"], "--mappings 0"),
            (&["--rounds", "0"], "--rounds 0"),
            (&["--seconds", "0"], "--seconds 0"),
            (&["--seconds", "nan"], "NaN"),
            (&["--seconds", "1e300"], "--seconds"),
            (&["--seconds=-1"], "-1"),
            (&["--seconds", "1", "--rounds", "1"], "cannot be used with"),
            (&["--mode", "turbo"], "async, sync-light, sync"),
            (&["--profile", "linux-3"], "linux-2.6.17, modern"),
            (&["--engine", "steam"], "shared, private, auto"),
            (&["--seed", "x"], "--seed"),
            (&["--colour"], "--colour"),
            (&["--size"], "--size"),
            (&["/no/such/file"], "no such file"),
            (&["/"], "a directory"),
            (&["/dev/zero"], "not a regular file"),
            (&["one", "two"], "two"),
            (&["a\nb"], "no such file"),
            (&["--mode", "a\nb"], "mode"),
        ] {
            let line = try_job(args).unwrap_err();
            assert!(line.contains(word), "{args:?}: {line}");
            let line = console::one_line(&line);
            assert_eq!(line.lines().count(), 1, "{args:?}: {line}");
            assert!(!line.is_empty() && !line.contains("Usage"), "{args:?}: {line}");
        }
    }

    #[test]
    fn the_trace_never_overwrites_the_file() {
        let path = std::env::temp_dir().join(format!("migrate-trace-{}", std::process::id()));
        std::fs::write(&path, "contents").unwrap();
        let name = path.to_str().unwrap();
        let line = try_job(&[name, "--size", "4K", "--trace", name]).unwrap_err();
        assert!(line.contains("is FILE itself"), "{line}");
        assert_eq!(std::fs::read(&path).unwrap(), b"contents");
        std::fs::remove_file(&path).unwrap();
        let line = try_job(&["--size", "4K", "--trace", "/no/such/dir/trace"]).unwrap_err();
        assert!(line.starts_with("--trace /no/such/dir/trace: no such file"), "{line}");
    }

    #[test]
    fn a_job_must_fit_into_memory() {
        assert!(fits(1 << 20, 1 << 20, Some(1 << 30)).is_ok());
        assert!(fits(1 << 30, 1 << 20, Some(1 << 30)).is_err());
        assert!(fits(1 << 30, 1 << 20, None).is_ok());
        assert!(fits(u64::MAX, 1, None).is_err());
    }
}

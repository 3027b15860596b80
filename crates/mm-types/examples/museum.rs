//! Lets each search look for each bug of the museum that it is said to find, and prints a table. `ci/museum` runs it.
//!
//! ```text
//! museum OUT-DIR SEARCH=TEST-BINARY... [-- [--seeds N] BUG...]
//! ```
//!
//! A search is a test binary that knows of no bug; the environment switches one on in it. A bug is found where each of its
//! searches fails in time, names an invariant that the bug breaks, and marks the step at which it broke; a search is good where it
//! passes with no bug switched on. What the first search printed of a bug goes to `OUT-DIR/BUG.txt`, with the case that it
//! shrunk to and what happened in it.

//!
//! A search that draws may be lucky: with `--seeds N` each looks from N seeds that nobody chose, and what is told is from how many
//! of them it found the bug in time.

use core::time::Duration;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Instant;

use mm_types::Invariant;
use mm_types::museum::{ABSENT, BUGS, Exhibit, Search};

/// A bug is to be found within this time of the processor, whatever else the machine does.
const LIMIT: Duration = Duration::from_secs(10);
/// A search that gets no processor, or hangs, has to end some day.
const PATIENCE: Duration = Duration::from_secs(300);
/// How often it is looked whether the time is up.
const LOOK: Duration = Duration::from_millis(50);

/// How a search ended.
enum Ended {
    Passed,
    /// What it printed of the failure.
    Failed(String),
    OutOfTime,
}

/// Runs one search, on the system with `bug` or on the one without, until it ends or has told of a failure.
fn search(binary: &Path, kind: Search, bug: Option<&Exhibit>, seed: Option<u32>) -> std::io::Result<(Ended, Duration)> {
    let mut command = Command::new(binary);
    if let (Some(seed), Some(variable)) = (seed, kind.seed()) {
        // Cases have the seeds from there on.
        command.env(variable, (u64::from(seed) * 1_000_000).to_string());
    }
    command.arg("--nocapture").args(kind.filter());
    command.env("RUST_BACKTRACE", "0").env_remove("MUSEUM");
    if let Some(bug) = bug {
        command.env("MUSEUM", bug.id);
    }
    let began = Instant::now();
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (printed, lines) = channel();
    let outputs = [child.stdout.take().map(boxed), child.stderr.take().map(boxed)];
    for output in outputs.into_iter().flatten() {
        let printed = printed.clone();
        thread::spawn(move || {
            // Nobody listens any more where enough was said, or the time was up.
            let _ = output
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| printed.send(line));
        });
    }
    drop(printed);

    let (mut said, mut told) = (String::new(), false);
    let mut took = Duration::ZERO;
    let ended = loop {
        took = took.max(processor_time(child.id()));
        match lines.recv_timeout(LOOK) {
            Ok(line) => {
                // A search tells of its first failure from here on.
                if line.contains(" FAILED at ") || line.contains(" panicked at ") {
                    if !told {
                        said.clear();
                    }
                    told = true;
                }
                said.push_str(&line);
                said.push('\n');
                if told && is_last(kind, &line) {
                    break Ended::Failed(said);
                }
            }
            Err(RecvTimeoutError::Disconnected) if child.wait()?.success() => break Ended::Passed,
            Err(RecvTimeoutError::Disconnected) => break Ended::Failed(said),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if (bug.is_some() && took > LIMIT) || began.elapsed() > PATIENCE {
            break Ended::OutOfTime;
        }
    };
    child.kill()?;
    child.wait()?;
    Ok((ended, took))
}

/// Returns how long a process has run in all its threads (proc_pid_stat(5): fields 14 and 15, in hundredths of a second).
fn processor_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name, in parentheses, may have spaces of its own.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks.saturating_mul(10))
}

fn boxed(output: impl Read + Send + 'static) -> Box<dyn BufRead + Send> {
    Box::new(BufReader::new(output))
}

/// True for the line that ends what a search says of a failure.
fn is_last(kind: Search, line: &str) -> bool {
    match kind {
        Search::AnyOrder | Search::AnyOrderIn(_) | Search::Interleavings(_) | Search::Failures => {
            line.starts_with("replay: ")
        }
        Search::Live => line.contains("was read after"),
    }
}

/// How many steps the case has that was printed, or how many turns of threads the schedule: a search says so in a line.
fn steps(said: &str) -> Option<usize> {
    said.lines().find_map(|line| {
        let turns = line.split_once(" turns of threads made ").map(|(_, made)| made);
        line.strip_prefix("steps: ").or(turns)?.parse().ok()
    })
}

/// Lets a search look for a bug; returns what it printed, and how long it took, where it was found.
///
/// A search that draws is given the same seed each time, and searches once. A live process is never twice the same: it tries
/// again for as long as there is time.
fn seek(binary: &Path, kind: Search, bug: &Exhibit, seed: Option<u32>) -> std::io::Result<Option<(String, Duration)>> {
    let mut spent = Duration::ZERO;
    loop {
        let (ended, took) = search(binary, kind, Some(bug), seed)?;
        spent += took;
        match ended {
            Ended::Failed(said) => return Ok((spent <= LIMIT).then_some((said, spent))),
            Ended::Passed if kind == Search::Live && spent < LIMIT => {}
            Ended::Passed | Ended::OutOfTime => return Ok(None),
        }
    }
}

/// The invariant that a search saw broken, by the words that it marked the step with.
///
/// # Errors
/// It says none, or one that the bug does not break, or marks no step though it knows them.
fn broken(kind: Search, bug: &Exhibit, said: &str) -> Result<Invariant, String> {
    let mark = match kind.knows_steps() {
        true => said.lines().find(|line| line.starts_with("! ")),
        false => said.lines().find(|line| is_last(kind, line)),
    };
    let mark = mark.ok_or("no step is marked")?;
    let mut words = mark.split(|c: char| !c.is_ascii_alphanumeric());
    let named = words.find_map(|word| Invariant::ALL.iter().find(|invariant| invariant.id() == word));
    let named = *named.ok_or_else(|| format!("no invariant is named: {mark}"))?;
    if bug.breaks(named) {
        Ok(named)
    } else {
        Err(format!("is one of {}, but: {mark}", bug.breaks.id()))
    }
}

/// Lets each of a bug's searches look for it; returns the longest time that one took, where all found it.
fn show(bug: &Exhibit, binaries: &BTreeMap<&str, PathBuf>, out: &Path) -> std::io::Result<Option<Duration>> {
    let mut slowest = Some(Duration::ZERO);
    for (n, kind) in bug.found_by.iter().enumerate() {
        let name = kind.to_string();
        let fix: String = bug.fix.chars().take(32).collect();
        let found = match binaries.get(kind.test()) {
            Some(binary) => seek(binary, *kind, bug, None)?,
            None => None,
        };
        let Some((said, took)) = found else {
            println!("{:9} {fix:32} {name:50} NOT FOUND", bug.id);
            slowest = None;
            continue;
        };
        let steps = match steps(&said) {
            Some(steps) => steps.to_string(),
            None if !kind.knows_steps() => "live".to_owned(),
            None => "–".to_owned(),
        };
        let broken = broken(*kind, bug, &said);
        let breaks = broken.as_ref().map_or("WRONG", |invariant| invariant.id());
        println!(
            "{:9} {fix:32} {name:50} {breaks:>6} {steps:>5} {:>6.2} s",
            bug.id,
            took.as_secs_f64()
        );
        slowest = slowest.filter(|_| broken.is_ok()).map(|slowest| slowest.max(took));
        if let Err(wrong) = &broken {
            println!("  {wrong}");
        }
        if n > 0 && broken.is_ok() {
            continue;
        }
        let again = match kind {
            // Threads of the machine: nothing is drawn that could be named.
            Search::Live => format!("cargo test --test {kind}"),
            _ => "and what stands after replay:".to_owned(),
        };
        let text = format!(
            "{} (fixed in Linux: {})\n{}\nbreaks {}; found by {} in {} steps and {:.2} s\n\
             to see it again: RUSTFLAGS='--cfg museum' MUSEUM={} {again}\n\n{said}",
            bug.id,
            bug.fix,
            bug.scenario,
            breaks,
            kind,
            steps,
            took.as_secs_f64(),
            bug.id
        );
        fs::write(out.join(format!("{}.txt", bug.id)), text)?;
    }
    Ok(slowest)
}

/// Tells from how many of so many seeds each search that draws finds a bug.
fn rate(bug: &Exhibit, binaries: &BTreeMap<&str, PathBuf>, seeds: u32) -> std::io::Result<()> {
    for kind in bug.found_by.iter().filter(|kind| kind.seed().is_some()) {
        let Some(binary) = binaries.get(kind.test()) else {
            continue;
        };
        let mut found = 0;
        for seed in 1..=seeds {
            let said = seek(binary, *kind, bug, Some(seed))?;
            found += u32::from(said.is_some_and(|(said, _)| broken(*kind, bug, &said).is_ok()));
        }
        println!("{:9} {:50} from {found} of {seeds} seeds", bug.id, kind.to_string());
    }
    Ok(())
}

fn run() -> Result<bool, Box<dyn core::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut args = args.iter().map(String::as_str);
    let out = PathBuf::from(
        args.next()
            .ok_or("usage: museum OUT-DIR SEARCH=TEST-BINARY... [-- [--seeds N] BUG...]")?,
    );
    fs::create_dir_all(&out)?;
    let mut binaries = BTreeMap::new();
    for arg in args.by_ref().take_while(|arg| *arg != "--") {
        let (name, path) = arg
            .split_once('=')
            .ok_or_else(|| format!("{arg}: SEARCH=TEST-BINARY is wanted"))?;
        binaries.insert(name, PathBuf::from(path));
    }
    let mut wanted: Vec<&str> = args.collect();
    let seeds = match wanted.as_slice() {
        ["--seeds", rest @ ..] => {
            let seeds = rest
                .first()
                .and_then(|seeds| seeds.parse().ok())
                .filter(|seeds| *seeds > 0);
            Some(seeds.ok_or("--seeds takes a number of seeds, at least 1, before any bug")?)
        }
        _ => None,
    };
    wanted.drain(..if seeds.is_some() { 2 } else { 0 });
    if let Some(unknown) = wanted.iter().find(|id| !BUGS.iter().any(|bug| bug.id == **id)) {
        return Err(format!("{unknown}: no such bug").into());
    }

    let shown = || BUGS.iter().filter(|bug| wanted.is_empty() || wanted.contains(&bug.id));
    if let Some(seeds) = seeds {
        if !shown().any(|bug| bug.found_by.iter().any(|kind| kind.seed().is_some())) {
            return Err(format!(
                "no search that draws finds {}: there are no seeds to look from",
                wanted.join(", ")
            )
            .into());
        }
        for bug in shown() {
            rate(bug, &binaries, seeds)?;
        }
        return Ok(true);
    }
    println!(
        "{:9} {:32} {:50} {:>6} {:>5} {:>8}",
        "bug", "fixed in Linux", "found by", "breaks", "steps", "time"
    );
    let (mut bugs, mut found, mut slowest) = (0, 0, Duration::ZERO);
    for bug in shown() {
        bugs += 1;
        if let Some(took) = show(bug, &binaries, &out)? {
            found += 1;
            slowest = slowest.max(took);
        }
    }
    let mut fixed = true;
    let mut searches: Vec<Search> = Vec::new();
    for kind in shown().flat_map(|bug| bug.found_by) {
        if !searches.contains(kind) {
            searches.push(*kind);
        }
    }
    for kind in searches {
        let Some(binary) = binaries.get(kind.test()) else {
            continue;
        };
        let (ended, took) = search(binary, kind, None, None)?;
        let verdict = match ended {
            Ended::Passed => "passes",
            Ended::Failed(_) => "FAILS",
            Ended::OutOfTime => "DOES NOT END",
        };
        fixed &= matches!(ended, Ended::Passed);
        println!(
            "{:9} {:32} {:50} {verdict:>12} {:>6.2} s",
            "none",
            "as it is",
            kind.to_string(),
            took.as_secs_f64()
        );
        if let Ended::Failed(said) = ended {
            println!("{said}");
        }
    }
    println!(
        "{} more of Linux's bugs cannot be had here; docs/invariants.md says why",
        ABSENT.len()
    );
    println!(
        "proof: museum bugs={bugs} found={found} slowest={:.2}s fixed={}",
        slowest.as_secs_f64(),
        if fixed { "passes" } else { "FAILS" }
    );
    Ok(found == bugs && fixed)
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("museum: {error}");
            ExitCode::from(2)
        }
    }
}

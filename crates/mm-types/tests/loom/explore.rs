//! The search: counts executions, and says of one that fails what happened in it and how to see it again.

use core::cell::RefCell;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::panic;
use std::path::PathBuf;
use std::sync::{Arc, Once};
use std::time::Instant;

use mm_types::trace::Recorder;

/// Scheduling points an execution may have; more is a thread that spins for ever.
const MAX_BRANCHES: usize = 4_000;

/// What an atomic load may return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    /// Whatever the orderings that are written allow.
    AsWritten,
    /// The newest value.
    InOrder,
}

impl Memory {
    fn word(self) -> &'static str {
        match self {
            Self::AsWritten => "as-written",
            Self::InOrder => "in-order",
        }
    }
}

/// What is being explored on this thread of the test harness.
#[derive(Clone)]
struct Current {
    name: &'static str,
    bound: Option<usize>,
    executions: Arc<AtomicU64>,
    met: Arc<AtomicU64>,
    counts_meetings: Arc<AtomicBool>,
    trace: Arc<Recorder>,
}

thread_local! {
    static CURRENT: RefCell<Option<Current>> = const { RefCell::new(None) };
}

/// The preemption bound to search with: `usual`, unless `LOOM_PROOF_BOUND` asks for another, or for `none`.
fn bound(usual: Option<usize>) -> Option<usize> {
    match std::env::var("LOOM_PROOF_BOUND") {
        Ok(none) if none == "none" => None,
        Ok(number) => Some(number.parse::<u8>().map_or_else(
            |_| panic!("LOOM_PROOF_BOUND={number} is neither a number of preemptions, up to 255, nor none"),
            usize::from,
        )),
        Err(_) => usual,
    }
}

fn words(bound: Option<usize>) -> String {
    bound.map_or_else(|| "none".to_owned(), |bound| bound.to_string())
}

/// Runs `body` in every interleaving of its threads with at most `usual` preemptions, or any number of them, and prints one line.
///
/// `body` says whether its threads met in this execution, where that is something to count.
///
/// # Panics
/// Where they met in none: such a search has looked at threads that run one after the other.
pub(crate) fn explore(
    name: &'static str,
    actors: usize,
    usual: Option<usize>,
    memory: Memory,
    body: impl Fn(&Arc<Recorder>) -> Option<bool> + Send + Sync + 'static,
) {
    tell_what_fails();
    let bound = bound(usual);
    let current = Current {
        name,
        bound,
        executions: Arc::default(),
        met: Arc::default(),
        counts_meetings: Arc::default(),
        trace: Arc::default(),
    };
    CURRENT.set(Some(current.clone()));
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = bound;
    builder.max_branches = MAX_BRANCHES;
    // One file for each search, or the next would go on where the last one stopped.
    builder.checkpoint_file = builder.checkpoint_file.map(|file| {
        let mut file = file.into_os_string();
        file.push(format!(".{name}"));
        PathBuf::from(file)
    });
    mm_types::sync::sequentially_consistent(memory == Memory::InOrder);
    let started = Instant::now();
    let resumed = builder.checkpoint_file.as_ref().is_some_and(|file| file.exists());
    let (time, most) = (builder.max_duration, builder.max_permutations);
    let counted = current.clone();
    builder.check(move || {
        counted.executions.fetch_add(1, Ordering::Relaxed);
        drop(counted.trace.take());
        if let Some(met) = body(&counted.trace) {
            counted.counts_meetings.store(true, Ordering::Relaxed);
            counted.met.fetch_add(met.into(), Ordering::Relaxed);
        }
    });
    CURRENT.set(None);
    let (executions, elapsed) = (current.executions.load(Ordering::Relaxed), started.elapsed());
    // loom's own options can end a search early, or begin it late; such a one proves nothing.
    let cut =
        resumed || time.is_some_and(|time| elapsed >= time) || most.is_some_and(|most| executions + 1 >= most as u64);
    let met = current
        .counts_meetings
        .load(Ordering::Relaxed)
        .then(|| current.met.load(Ordering::Relaxed));
    println!(
        "loom: scenario={name} actors={actors} bound={} memory={} exhaustive={} executions={executions}{} seconds={:.1}",
        words(bound),
        memory.word(),
        if cut { "no" } else { "yes" },
        met.map_or_else(String::new, |met| format!(" met={met}")),
        elapsed.as_secs_f64(),
    );
    assert!(met != Some(0), "{name}: the threads met in no execution");
}

/// Has whatever panics inside a search print the trace so far: before the stacks unwind, for other threads of the model hold
/// things that cannot be dropped once it has stopped.
fn tell_what_fails() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            usual(info);
            if let Some(current) = CURRENT.take() {
                // The stacks of loom's threads are small: the text is made on one of its own.
                let told = std::thread::spawn(move || tell(&current)).join();
                drop(told);
            }
        }));
    });
}

fn tell(current: &Current) {
    let Current {
        name,
        bound,
        executions,
        trace,
        ..
    } = current;
    let nth = executions.load(Ordering::Relaxed);
    let bound = words(*bound);
    eprintln!(
        "loom: scenario={name} bound={bound} FAILED in execution {nth}; what happened in it:\n{}\
         loom: the search is deterministic: `LOOM_PROOF_BOUND={bound} ci/loom {name}` finds it again; \
         `LOOM_CHECKPOINT_FILE=FILE LOOM_CHECKPOINT_INTERVAL=1000 LOOM_PROOF_BOUND={bound} ci/loom {name}`, then the same with 1, then once more, \
         replays this execution alone, with LOOM_LOCATION=1 LOOM_LOG=trace as loom saw it",
        trace.text(),
    );
}

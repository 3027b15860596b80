//! Explores the schedules of a scenario, and tells of the first one that fails: shortest found, with its trace.

use core::cell::{Cell, RefCell};
use core::panic::AssertUnwindSafe;
use std::panic::{catch_unwind, panic_any};
use std::sync::Once;
use std::time::Instant;

use migrate_core::{LINUX_2_6_17, MODERN, Profile};
use mm_types::trace::{Event, text_of};
use mm_types::{Mode, Pfn};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};

use crate::meeting::Meeting;
use crate::schedule::{Again, Choices, Recorded, Turns, current, drawn};
use crate::traces::{Told, check_threads};

/// Steps after which an execution counts as one that does not end.
const LONGEST: usize = 60_000;

/// Priority changes of a schedule that PCT draws, and one.
const PCT_DEPTH: usize = 4;

/// Frames, mapped sites, spaces and threads that a world may have.
const ROOM: usize = 32;

/// Schedules of a scenario that are too few to say that its threads never meet.
const FEW: u64 = 10_000;

/// Executions that making a failing schedule shorter may take.
const SHRINKS: u32 = 5000;

thread_local! {
    /// What the threads of this execution told, and what they marked.
    static TOLD: RefCell<Vec<Told>> = const { RefCell::new(Vec::new()) };
    static MARKS: RefCell<Vec<Meeting>> = const { RefCell::new(Vec::new()) };
    /// The meetings that are counted, and in how many executions each happened.
    static MET: RefCell<Vec<(Meeting, u64)>> = const { RefCell::new(Vec::new()) };
    static QUIET: Cell<bool> = const { Cell::new(false) };
    static WHY: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Whose rules a scenario follows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) name: &'static str,
    pub(crate) profile: &'static Profile,
    pub(crate) mode: Mode,
}

impl Rules {
    const ALL: &'static [Self] = &[
        Self::of("2006", &LINUX_2_6_17, Mode::Sync),
        Self::of("modern-async", &MODERN, Mode::Async),
        Self::of("modern-sync-light", &MODERN, Mode::SyncLight),
        Self::of("modern-sync", &MODERN, Mode::Sync),
    ];

    const fn of(name: &'static str, profile: &'static Profile, mode: Mode) -> Self {
        Self { name, profile, mode }
    }

    /// True for the rules of today.
    pub(crate) fn modern(&self) -> bool {
        self.profile.rules == mm_types::Rules::Modern
    }
}

/// Begins an execution: nothing was told yet.
pub(crate) fn begin() {
    TOLD.with_borrow_mut(Vec::clear);
    MARKS.with_borrow_mut(Vec::clear);
}

/// Writes down an event that the thread that runs now told.
pub(crate) fn record(event: Event) {
    TOLD.with_borrow_mut(|told| told.push((current(), event)));
}

/// Writes down a meeting that no event tells of.
pub(crate) fn mark(meeting: Meeting) {
    MARKS.with_borrow_mut(|marks| marks.push(meeting));
}

/// Looks at what the thread that runs now has told in this execution.
pub(crate) fn told_here<R>(look: impl FnOnce(&mut dyn Iterator<Item = Event>) -> R) -> R {
    let me = current();
    TOLD.with_borrow(|told| look(&mut told.iter().filter(|(who, _)| *who == me).map(|(_, event)| *event)))
}

/// True where a page is isolated now, and where it moved away, as far as was told.
pub(crate) fn is_isolated(pfn: Pfn) -> bool {
    let of_lists = |event: &Event| matches!(event, Event::Isolate(of) | Event::Putback(of) if *of == pfn);
    let last = TOLD.with_borrow(|told| told.iter().rev().map(|(_, event)| *event).find(of_lists));
    matches!(last, Some(Event::Isolate(_)))
}

pub(crate) fn has_moved(pfn: Pfn) -> bool {
    TOLD.with_borrow(|told| {
        told.iter()
            .any(|(_, event)| matches!(event, Event::Moved { old, .. } if *old == pfn))
    })
}

/// Ends an execution: what was told is checked, and the meetings are counted.
///
/// # Errors
/// As [`check_threads`].
pub(crate) fn end() -> Result<(), String> {
    TOLD.with_borrow(|told| {
        MARKS.with_borrow(|marks| {
            MET.with_borrow_mut(|met| {
                for (meeting, executions) in met {
                    *executions += u64::from(meeting.happened(told, marks));
                }
            });
        });
        check_threads(told, ROOM)
    })
}

/// Each meeting, and in how many executions it happened under each of the rules, in their order.
fn words(meetings: &[Meeting], met: &[[u64; Rules::ALL.len()]]) -> String {
    let words = meetings
        .iter()
        .zip(met)
        .map(|(meeting, executions)| format!("{meeting}:{}", executions.map(|n| n.to_string()).join("/")));
    words.collect::<Vec<_>>().join(",")
}

fn number(name: &str, unset: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name} is not a number: {text}")),
        Err(_) => unset,
    }
}

/// Runs `scenario` under every rule and both schedulers, so many schedules in all as `INTERLEAVINGS_SCHEDULES` says, and counts in
/// how many of them its threads met.
///
/// # Panics
/// Where an execution fails, and where one of `meetings` happened in none.
pub(crate) fn explore(name: &str, meetings: &'static [Meeting], scenario: fn(Rules)) {
    // As ci/shuttle has it: one that is empty is none.
    if let Some(text) = std::env::var("INTERLEAVINGS_REPLAY")
        .ok()
        .filter(|text| !text.is_empty())
    {
        return replay(name, scenario, &text);
    }
    let (schedules, seed) = (number("INTERLEAVINGS_SCHEDULES", 2000), number("INTERLEAVINGS_SEED", 1));
    let rules = Rules::ALL.len() as u64;
    let (first, mut all) = (Instant::now(), 0);
    let mut met = vec![[0; Rules::ALL.len()]; meetings.len()];
    // What needs few switches at the right places is found by PCT, and soon.
    for pct in [true, false] {
        let began = Instant::now();
        let mut done = 0;
        let mut met_now = vec![[0; Rules::ALL.len()]; meetings.len()];
        for (n, rules_now) in (0u64..).zip(Rules::ALL) {
            // Each part gets its share, and the first ones what does not divide.
            let (parts, part) = (2 * rules, 2 * n + u64::from(pct));
            let share = usize::try_from(schedules / parts + u64::from(part < schedules % parts)).expect("a count");
            if share == 0 {
                continue;
            }
            // Not a seed of its neighbour's.
            let seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(part);
            let ended = if pct {
                run(
                    move || PctScheduler::new_from_seed(seed, PCT_DEPTH, share),
                    meetings,
                    scenario,
                    *rules_now,
                )
            } else {
                run(move || Turns::new(seed, share), meetings, scenario, *rules_now)
            };
            (done, all) = (done + ended.drawn, all + ended.drawn);
            let of = usize::try_from(n).expect("a count");
            for ((sum, now), (_, executions)) in met.iter_mut().zip(&mut met_now).zip(&ended.met) {
                (sum[of], now[of]) = (sum[of] + executions, now[of] + executions);
            }
            if let Some(failure) = ended.failure {
                let seconds = first.elapsed().as_secs_f64();
                println!(
                    "shuttle: scenario={name} rules={} FAILED at schedule {all}, {seconds:.2} s: {}",
                    rules_now.name, failure.why
                );
                fail(name, scenario, *rules_now, failure)
            }
        }
        let scheduler = if pct { "pct" } else { "random" };
        let seconds = began.elapsed().as_secs_f64();
        println!(
            "shuttle: scenario={name} scheduler={scheduler} schedules={done} met={} seed={seed} seconds={seconds:.1}",
            words(meetings, &met_now)
        );
    }
    let never = meetings
        .iter()
        .zip(&met)
        .find(|(_, executions)| executions.iter().sum::<u64>() == 0);
    if let Some((meeting, _)) = never.filter(|_| all >= FEW) {
        panic!("{name}: in {all} executions the threads never met so: {meeting}");
    }
}

/// Why an execution failed, and the schedule.
struct Failure {
    why: String,
    choices: Choices,
}

impl Failure {
    /// The same failure, as far as words can tell: they differ in numbers.
    fn is_like(&self, other: &Self) -> bool {
        let words = |text: &str| {
            text.chars()
                .filter(|c| !c.is_ascii_hexdigit())
                .take(60)
                .collect::<String>()
        };
        words(&self.why) == words(&other.why)
    }
}

/// What became of a number of schedules.
struct Ended {
    /// How many there were, the one that failed among them.
    drawn: u64,
    failure: Option<Failure>,
    /// In how many of them each meeting happened.
    met: Vec<(Meeting, u64)>,
    /// What the last one told.
    trace: Vec<Event>,
    /// Which threads it let run.
    played: Choices,
}

/// Runs every schedule of a scheduler, or up to the first that fails.
fn run<S: Scheduler + 'static>(
    scheduler: impl FnOnce() -> S + Send + 'static,
    meetings: &'static [Meeting],
    scenario: fn(Rules),
    rules: Rules,
) -> Ended {
    // A thread of its own: where one of an execution's threads panics, the execution is left where it is, and the thread of the
    // system that ran it counts as panicking for ever.
    let runs = std::thread::spawn(move || run_here(scheduler(), meetings, scenario, rules));
    runs.join().expect("panics are caught")
}

fn run_here(scheduler: impl Scheduler + 'static, meetings: &[Meeting], scenario: fn(Rules), rules: Rules) -> Ended {
    speak_unless_quiet();
    let mut config = Config::new();
    config.failure_persistence = FailurePersistence::None;
    config.max_steps = MaxSteps::FailAfter(LONGEST);
    config.silence_warnings = true;
    config.ungraceful_shutdown_config.immediately_return_on_panic = true;
    MET.set(meetings.iter().map(|meeting| (*meeting, 0)).collect());
    QUIET.set(true);
    let ran = catch_unwind(AssertUnwindSafe(|| {
        Runner::new(Recorded(scheduler), config).run(move || scenario(rules))
    }));
    QUIET.set(false);
    let failure = ran.err().map(|panic| {
        // What the thread said; else it is the checker that speaks, of a deadlock or an execution without an end.
        let mut said = WHY.take().or_else(|| words_of(&*panic));
        if let Some(said) = said.as_mut().filter(|said| said.starts_with("deadlock")) {
            said.insert_str(0, "I23: ");
        }
        Failure {
            why: said.unwrap_or_else(|| "a panic without words".into()),
            choices: Choices::last(),
        }
    });
    Ended {
        drawn: drawn(),
        failure,
        met: MET.take(),
        trace: TOLD.take().into_iter().map(|(_, event)| event).collect(),
        played: Choices::last(),
    }
}

fn words_of(panic: &(dyn core::any::Any + Send)) -> Option<String> {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
}

/// Panics of executions are told by whoever catches them; the first one's words are kept, as the checker ends the execution there.
fn speak_unless_quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Shuttle puts its own hook around the one it finds, once, at the first execution.
        Runner::new(RandomScheduler::new_from_seed(0, 1), Config::new()).run(|| {});
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if QUIET.get() {
                let words = words_of(info.payload());
                WHY.with_borrow_mut(|why| *why = why.take().or(words));
            } else {
                loud(info);
            }
        }));
    });
}

/// Makes a failing schedule shorter for as long as it fails the same way: one turn of a thread after another is put together with
/// its next, or with its last, or left out.
fn shrink(mut failure: Failure, scenario: fn(Rules), rules: Rules) -> Failure {
    let mut left = SHRINKS;
    let mut shorter = true;
    while core::mem::take(&mut shorter) {
        let mut at = failure.choices.0.len();
        while at > 0 {
            at -= 1;
            for how in [Choices::later, Choices::sooner, Choices::without] {
                let Some(choices) = how(&failure.choices, at).filter(|_| left > 0) else {
                    continue;
                };
                left -= 1;
                let tried = run(move || Again::new(choices), &[], scenario, rules).failure;
                let better =
                    |tried: &Failure| tried.is_like(&failure) && tried.choices.0.len() < failure.choices.0.len();
                if let Some(tried) = tried.filter(better) {
                    failure = tried;
                    shorter = true;
                    at = at.min(failure.choices.0.len());
                    break;
                }
            }
        }
    }
    failure
}

/// Makes the schedule shorter, prints its trace, and ends the test.
fn fail(name: &str, scenario: fn(Rules), rules: Rules, failure: Failure) -> ! {
    let runs = failure.choices.0.len();
    let short = shrink(failure, scenario, rules);
    println!("{runs} turns of threads made {}", short.choices.0.len());
    tell(name, scenario, rules, &short.choices);
    if std::env::var_os("INTERLEAVINGS_STOP").is_some() {
        std::process::exit(1);
    }
    panic_any(format!("{name}, {}: {}", rules.name, short.why));
}

/// Plays one schedule, prints its events, and returns how it ended, and what was played.
fn tell(name: &str, scenario: fn(Rules), rules: Rules, choices: &Choices) -> (Option<String>, Choices) {
    let again = choices.clone();
    let Ended {
        failure, trace, played, ..
    } = run(move || Again::new(again), &[], scenario, rules);
    let ended = failure.map(|failure| failure.why);
    print!("{}", text_of(trace));
    match ended.as_deref() {
        // The newest event is the step at which it went wrong.
        Some(why) => println!("! {}", why.lines().collect::<Vec<_>>().join(" ")),
        None => println!("nothing failed"),
    }
    println!(
        "replay: INTERLEAVINGS_REPLAY={}:{choices} ci/shuttle {name}",
        rules.name
    );
    (ended, played)
}

fn replay(name: &str, scenario: fn(Rules), text: &str) {
    let (asked, choices) = text
        .split_once(':')
        .unwrap_or_else(|| panic!("INTERLEAVINGS_REPLAY={text} is not RULES:SCHEDULE"));
    let known = || Rules::ALL.iter().map(|rules| rules.name).collect::<Vec<_>>().join(", ");
    let rules = Rules::ALL
        .iter()
        .find(|rules| rules.name == asked)
        .unwrap_or_else(|| panic!("INTERLEAVINGS_REPLAY: no rules '{asked}'; there are: {}", known()));
    let choices: Choices = choices
        .parse()
        .unwrap_or_else(|error| panic!("INTERLEAVINGS_REPLAY: {error}"));
    let (ended, played) = tell(name, scenario, *rules, &choices);
    if let Some(ended) = ended {
        panic!("{name}, {}: {ended}", rules.name);
    }
    // A schedule of other code shows nothing of this.
    if let Some(step) = choices.left_by(&played) {
        panic!(
            "{name}: the schedule cannot be followed from step {step} on: it was another scenario's, or other code's"
        );
    }
}

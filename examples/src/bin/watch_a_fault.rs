//! A reader touches a page in flight, sleeps in the fault, and wakes on the new page. Real threads, real faults: a process
//! plays the kernel.
//!
//! `cargo run -p examples --bin watch_a_fault`

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use backend_user::{Area, Machine, MachineError, Migrate, Prot, Recording, Sharing, set_actor};
use examples::console;
use mm_types::trace::{Event, Lines, Stepper, text_of};
use mm_types::{ActorId, NodeId, Pfn, Rules};

/// The machine waits for so long between the two mappings of the page, so that the reader is in the way and one sees it wait. Nothing
/// depends on it.
const PAUSE: Duration = Duration::from_millis(20);

/// How long to move the page back and forth if the reader is not in the way at once.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the page says, before and after.
const WORD: u64 = 42;

fn main() -> ExitCode {
    if let Some(extra) = std::env::args_os().nth(1) {
        return console::refuse(
            "watch_a_fault",
            format_args!("takes no arguments, not {}", extra.display()),
        );
    }
    match watch() {
        Ok(text) => {
            console::result(text);
            ExitCode::SUCCESS
        }
        Err(error) => {
            console::remark(format_args!("watch_a_fault: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// What the reader saw.
struct Seen {
    reads: u64,
    /// The longest it took to load a word, and the second longest.
    longest: [Duration; 2],
    wrong: u64,
}

/// Moves one page under a reader, back and forth, until the two meet.
fn watch() -> Result<String, String> {
    let recording = Arc::new(Recording::with_capacity(1024));
    let builder = Machine::builder().nodes(2).frames_per_node(8);
    let text = |error: MachineError| error.to_string();
    let machine = builder.trace(Arc::clone(&recording)).build().map_err(text)?;
    let (space, other) = (machine.space(1).map_err(text)?, machine.space(1).map_err(text)?);
    let area = space.map_anonymous(1, Prot::ReadWrite, Sharing::Shared).map_err(text)?;
    let same = space.share(&area, &other, Prot::ReadWrite).map_err(text)?;
    let words = [&area, &same].map(|area| area.words().first());
    let [Some(word), Some(same)] = words else {
        return Err("an area without words".to_owned());
    };
    word.store(WORD, Ordering::Relaxed);
    if same.load(Ordering::Relaxed) != WORD {
        return Err("the two mappings are of different pages".to_owned());
    }
    machine.kernel().pause_between_spaces(PAUSE);

    let (reads, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let (moves, seen) = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            set_actor(ActorId::new(1));
            read([word, same], &reads, &stop)
        });
        let moves = move_until_met(&machine, &area, &recording, &reads);
        stop.store(true, Ordering::Relaxed);
        (moves, reader.join())
    });
    let (moves, frames) = moves?;
    let seen = seen.map_err(|_| "the reader panicked")?;
    if seen.wrong != 0 {
        return Err(format!("{} wrong reads", seen.wrong));
    }
    let trace = text_of(last_run(&recording));
    tell(&trace, &seen, moves, frames)
}

/// Returns how often the page moved, and its frames before and after the last time.
fn move_until_met(
    machine: &Machine,
    area: &Area,
    recording: &Recording,
    reads: &AtomicU64,
) -> Result<(u32, [Pfn; 2]), String> {
    let frame = || area.space().entry(0).pfn().ok_or("the page is not mapped");
    let begun = Instant::now();
    let mut moves = 0;
    while begun.elapsed() < PATIENCE {
        // The reader must be at it.
        let seen = reads.load(Ordering::Relaxed);
        while reads.load(Ordering::Relaxed) == seen && begun.elapsed() < PATIENCE {
            thread::yield_now();
        }
        let before = frame()?;
        let here = machine.node_of(before).raw();
        let report = machine.migrate(Migrate::new(area, NodeId::new(1 - here)));
        let report = report.map_err(|error| error.to_string())?;
        moves += 1;
        let met = last_run(recording)
            .iter()
            .any(|event| matches!(event, Event::Wait { .. }));
        if met && report.moved == 1 {
            return Ok((moves, [before, frame()?]));
        }
    }
    Err("the reader never met the page in flight".to_owned())
}

/// Returns the events since the page was isolated last.
fn last_run(recording: &Recording) -> Vec<Event> {
    let events: Vec<Event> = recording.events().collect();
    let begin = events.iter().rposition(|event| matches!(event, Event::Isolate(_)));
    events.into_iter().skip(begin.unwrap_or(0)).collect()
}

/// Loads the word again and again, through one mapping and through the other, and looks at the clock each time.
fn read(words: [&AtomicU64; 2], reads: &AtomicU64, stop: &AtomicBool) -> Seen {
    let mut seen = Seen {
        reads: 0,
        longest: [Duration::ZERO; 2],
        wrong: 0,
    };
    for word in words.into_iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let begun = Instant::now();
        let found = word.load(Ordering::Relaxed);
        let took = begun.elapsed();
        seen.reads += 1;
        reads.store(seen.reads, Ordering::Relaxed);
        seen.wrong += u64::from(found != WORD);
        let [longest, second] = seen.longest;
        if took > longest {
            seen.longest = [took, longest];
        } else if took > second {
            seen.longest = [longest, took];
        }
    }
    seen
}

fn tell(trace: &str, seen: &Seen, moves: u32, [before, after]: [Pfn; 2]) -> Result<String, String> {
    let mut text = format!(
        "two spaces map a page, and t1 reads it in both again and again; the migrator moves it from node to node,\n\
         waits {} ms between the two, and meets the reader at move {moves}\n\n",
        PAUSE.as_millis()
    );
    let mut stepper = Stepper::new(Rules::Modern);
    for line in Lines::new(trace).map_err(|error| error.to_string())? {
        let line = line.map_err(|error| error.to_string())?;
        let mark = match line.event.word() {
            "fault" | "migration_entry_wait" | "wake" => " <- the reader",
            _ => "",
        };
        text += &format!("{}{mark}\n", stepper.number(line));
    }
    let [slept, other] = seen.longest;
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    text += &format!(
        "\nthe reader slept in the fault: that load took {:.0} us; of its {} loads the next longest took {:.0} us\n",
        us(slept),
        seen.reads,
        us(other)
    );
    text += &format!(
        "it went to sleep on frame {:#x} and woke on frame {:#x}; it read {WORD} every time",
        before.raw(),
        after.raw()
    );
    Ok(text)
}

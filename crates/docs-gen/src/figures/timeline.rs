//! One migration as a timeline: time goes down, and each thing that changes has a lane.

use migrate_core::Profile;
use mm_types::trace::{Event, Line, Numbered};
use mm_types::{Pfn, Pte, Rules, Site};
use trace_tools::Replay;
use trace_tools::replay::{Doing, Frame, List, State};

use super::svg::{Svg, mono_width};
use super::watched::{INDEX, Look, READER, READS, WRITER, WRITES, run};

const ROW: i32 = 22;
const TOP: i32 = 66;
const LANE: i32 = 94;
const OLD: Pfn = Pfn::new(0);
const NEW: Pfn = Pfn::new(1);

/// What a lane shows at one moment: a few words, and how they are drawn.
type Cell = Option<(String, &'static str)>;

/// A lane: its name in two lines, and its cell after each event.
struct Lane {
    name: [String; 2],
    cells: Vec<Cell>,
}

/// Draws the run of a page of a file under `profile`.
pub(super) fn draw(profile: &'static Profile) -> Result<String, String> {
    let watched = run(profile)?;
    let mut replay = Replay::new(watched.lines.clone());
    let before = [WRITER, READER].map(|site| first(&watched.lines, site));
    let mut rows: Vec<Numbered> = Vec::new();
    let mut lanes = lanes();
    let mut looks = watched.looks.iter();
    while replay.forward() {
        let (Some(event), Some(look)) = (replay.event(), looks.next()) else {
            return Err("an event was not looked at".to_owned());
        };
        rows.push(*event);
        let cells = cells(replay.state(), look, before);
        for (lane, cell) in lanes.iter_mut().zip(cells) {
            lane.cells.push(cell);
        }
    }
    Ok(drawn(profile.rules, &rows, &lanes))
}

/// The entry as it was before the run: what the first event that replaces it found.
fn first(lines: &[Line], site: Site) -> Pte {
    let found = lines.iter().find_map(|line| match line.event {
        Event::Unmap { site: at, before, .. } if at == site => Some(before),
        _ => None,
    });
    found.unwrap_or(Pte::None)
}

fn lanes() -> Vec<Lane> {
    let site = |site: Site| format!("m{}+{:#x}", site.space.raw(), site.page.raw());
    let names = [
        ["source".to_owned(), "f0".to_owned()],
        ["destination".to_owned(), "f1".to_owned()],
        ["entry".to_owned(), site(WRITER)],
        ["entry".to_owned(), site(READER)],
        ["page cache".to_owned(), format!("slot {INDEX}")],
        ["TLB of".to_owned(), format!("CPU {}", WRITES.raw())],
        ["TLB of".to_owned(), format!("CPU {}", READS.raw())],
        ["thread".to_owned(), format!("t{}", WRITES.raw())],
    ];
    let lane = |name| Lane {
        name,
        cells: Vec::new(),
    };
    names.into_iter().map(lane).collect()
}

/// All lanes at one moment, in their order.
fn cells(state: &State, look: &Look, before: [Pte; 2]) -> [Cell; 8] {
    let entry = |site, before| shown(state.entry(site).map_or(before, |entry| entry.pte));
    let tlb = |cpu: u32| {
        let held = look.cached.iter().find(|held| held.cpu == cpu)?;
        let word = if held.write { "rw" } else { "ro" };
        Some((
            format!("f{} {word}", held.frame),
            if held.frame == OLD.raw() { "old" } else { "new" },
        ))
    };
    let slot = look.slot.map(|frame| {
        let class = if frame == OLD.raw() { "old" } else { "new" };
        (format!("f{frame}"), class)
    });
    let thread = state.actors().find(|actor| actor.actor == WRITES);
    let thread = thread.and_then(|actor| match actor.doing {
        Doing::Running => None,
        Doing::Faulting { .. } => Some(("faults".to_owned(), "fly")),
        Doing::Waiting { .. } => Some(("sleeps".to_owned(), "fly")),
    });
    [
        state.frame(OLD).and_then(source),
        state.frame(NEW).and_then(destination),
        entry(WRITER, before[0]),
        entry(READER, before[1]),
        slot,
        tlb(WRITES.raw()),
        tlb(READS.raw()),
        thread,
    ]
}

fn source(frame: &Frame) -> Cell {
    let (word, class) = match frame {
        Frame { list: List::Free, .. } => return None,
        Frame { frozen: true, .. } => ("frozen", "fly"),
        Frame {
            switched: true,
            locked: true,
            ..
        } => ("locked, old", "box"),
        Frame { switched: true, .. } => ("old", "box"),
        Frame { locked: true, .. } => ("locked", "old"),
        _ => ("isolated", "old"),
    };
    Some((word.to_owned(), class))
}

fn destination(frame: &Frame) -> Cell {
    let (word, class) = match (frame.locked, frame.arrived, frame.content) {
        (true, true, _) => ("locked", "new"),
        (true, false, Some(_)) => ("copied", "box"),
        (true, false, None) => ("locked", "box"),
        (false, _, _) if frame.list == List::Lru => ("on the LRU", "new"),
        (false, _, _) => ("unlocked", "new"),
    };
    Some((word.to_owned(), class))
}

fn shown(pte: Pte) -> Cell {
    let class = match pte {
        Pte::Migration(_) => "fly",
        Pte::Present { pfn, .. } if pfn == OLD => "old",
        Pte::Present { .. } => "new",
        _ => "box",
    };
    // What is used and what is not is the same in every lane and every run.
    let word = pte.to_string().replace("+young", "");
    Some((word, class))
}

/// The width of the column with the events.
fn left(rows: &[Numbered]) -> i32 {
    rows.iter()
        .map(|row| mono_width(&event(row)) + STEP + 24)
        .max()
        .unwrap_or(0)
}

/// Room for the numbers of steps.
const STEP: i32 = 56;

/// An event in a few words: what the lanes do not show.
fn event(row: &Numbered) -> String {
    let line = &row.line;
    let word = line.event.word();
    match line.event {
        Event::Unmap { site, .. } | Event::Restore { site, .. } => {
            format!("{word} m{}+{:#x}", site.space.raw(), site.page.raw())
        }
        Event::Lock(pfn) | Event::Unlock(pfn) | Event::Putback(pfn) | Event::Isolate(pfn) => {
            format!("{word} f{}", pfn.raw())
        }
        Event::Fault { actor, .. } | Event::Wait { actor, .. } | Event::Wake { actor, .. } => {
            format!("{word} t{}", actor.raw())
        }
        Event::Freeze { expected, .. } => format!("{word} expected={expected}"),
        _ => word.to_owned(),
    }
}

fn step(row: &Numbered) -> String {
    match (row.first, row.last) {
        (Some(first), Some(last)) => format!("{first}–{last}"),
        (Some(first), None) => first.to_owned(),
        (None, _) => String::new(),
    }
}

fn drawn(rules: Rules, rows: &[Numbered], lanes: &[Lane]) -> String {
    let left = left(rows);
    let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX / LANE);
    let (width, height) = (
        left + count(lanes.len()) * LANE + 12,
        TOP + count(rows.len()) * ROW + 44,
    );
    let title = format!("One migration under the rules of {rules}");
    let says = "Time goes down, one event a row. Each lane shows what one thing is after the event: the two frames, the \
                two page-table entries, the slot of the page cache, the translations that two CPUs have cached, and a thread that waits.";
    let mut svg = Svg::new(width, height, &title, says);
    svg.text(12, 44, "head soft", "step");
    svg.text(STEP + 12, 44, "head soft", "event");
    for (n, lane) in lanes.iter().enumerate() {
        let middle = left + count(n) * LANE + LANE / 2;
        svg.text(middle, 26, "ink soft mid", &lane.name[0]);
        svg.text(middle, 44, "head mid", &lane.name[1]);
    }
    for (n, row) in rows.iter().enumerate() {
        let y = TOP + count(n) * ROW;
        svg.line([8, y, width - 8, y], "rule");
        svg.text(STEP, y + 15, "mono soft end", &step(row));
        svg.text(STEP + 12, y + 15, "mono", &event(row));
    }
    for (n, lane) in lanes.iter().enumerate() {
        let x = left + count(n) * LANE + 3;
        let mut from = 0;
        for piece in lane.cells.chunk_by(|a, b| a == b) {
            let (y, long) = (TOP + count(from) * ROW, count(piece.len()) * ROW);
            from += piece.len();
            if let Some(Some((word, class))) = piece.first() {
                svg.rect([x, y + 1, LANE - 6, long - 2], class);
                svg.text(x + LANE / 2 - 3, y + 15, "mono mid", word);
            }
        }
    }
    let y = height - 30;
    let mut x = STEP + 12;
    for (class, words) in [
        ("old", "as it was"),
        ("fly", "in flight"),
        ("new", "as it is afterwards"),
        ("box", "of no use to anybody"),
    ] {
        svg.rect([x, y, 18, 16], class);
        svg.text(x + 24, y + 13, "ink soft", words);
        x += mono_width(words) + 56;
    }
    svg.finish()
}

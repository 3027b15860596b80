//! What a page goes through while it is to be moved: the states, and the transitions that the recorded traces really took.

use std::collections::BTreeMap;

use migrate_core::Profile;
use migrate_core::conformance::scenarios;
use trace_tools::Replay;
use trace_tools::replay::{Frame, List, Pair};

use super::svg::{Svg, mono_width};

/// Where a page is on its way, in the order of the way; those it ends in come last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Lru,
    Isolated,
    Locked,
    InFlight,
    Copied,
    Frozen,
    Switched,
    Mapped,
    Unlocked,
    Moved,
    Failed,
    Free,
}

impl State {
    const ALL: [Self; 12] = [
        Self::Lru,
        Self::Isolated,
        Self::Locked,
        Self::InFlight,
        Self::Copied,
        Self::Frozen,
        Self::Switched,
        Self::Mapped,
        Self::Unlocked,
        Self::Moved,
        Self::Failed,
        Self::Free,
    ];

    const fn words(self) -> [&'static str; 2] {
        match self {
            Self::Lru => ["in use", "on the LRU"],
            Self::Isolated => ["isolated", "on from, not locked"],
            Self::Locked => ["locked", "no entry is replaced"],
            Self::InFlight => ["in flight", "entries name it"],
            Self::Copied => ["copied", "can still be undone"],
            Self::Frozen => ["frozen", "no reference can be gained"],
            Self::Switched => ["switched", "entries still name it"],
            Self::Mapped => ["switched", "no entry names it"],
            Self::Unlocked => ["unlocked", "its contents are elsewhere"],
            Self::Moved => ["on moved", "its contents are elsewhere"],
            Self::Failed => ["on failed", "it stays where it is"],
            Self::Free => ["free", ""],
        }
    }

    /// The state of a page that is to be moved; `None` for one that something moves into.
    fn of(frame: &Frame) -> Option<Self> {
        if frame.arrived || matches!(frame.pair, Some(Pair::Source(_))) {
            return None;
        }
        Some(match frame.list {
            List::Lru => Self::Lru,
            List::Moved => Self::Moved,
            List::Failed => Self::Failed,
            List::Free => Self::Free,
            List::To => return None,
            List::Unknown | List::From => match frame {
                Frame {
                    switched: true,
                    locked: false,
                    ..
                } => Self::Unlocked,
                Frame {
                    switched: true,
                    entries: 0,
                    ..
                } => Self::Mapped,
                Frame { switched: true, .. } => Self::Switched,
                Frame { frozen: true, .. } => Self::Frozen,
                Frame { copied: true, .. } => Self::Copied,
                Frame { entries: 1.., .. } => Self::InFlight,
                Frame { locked: true, .. } => Self::Locked,
                Frame { isolated: true, .. } => Self::Isolated,
                _ => Self::Lru,
            },
        })
    }
}

/// How often each transition was taken, by the word of the event that took it.
type Taken = BTreeMap<(State, State), BTreeMap<&'static str, u32>>;

/// Draws the transitions of every recorded scenario under `profile`.
pub(super) fn draw(profile: &'static Profile) -> Result<String, String> {
    let mut taken = Taken::new();
    let mut traces = 0;
    for scenario in scenarios()
        .iter()
        .filter(|scenario| scenario.profile.rules == profile.rules)
    {
        count(&scenario.trace(), &mut taken).map_err(|error| format!("{}: {error}", scenario.name))?;
        traces += 1;
    }
    let title = format!("The states of a page under the rules of {}", profile.rules);
    Ok(drawn(&title, traces, &taken))
}

fn count(trace: &str, taken: &mut Taken) -> Result<(), String> {
    let mut replay = Replay::read(trace.as_bytes()).map_err(|error| error.to_string())?;
    let states = |replay: &Replay| -> BTreeMap<_, _> {
        let frames = replay.state().frames();
        frames
            .filter_map(|frame| Some((frame.pfn, State::of(frame)?)))
            .collect()
    };
    let mut before = states(&replay);
    while replay.forward() {
        let after = states(&replay);
        let word = replay.event().map_or("", |event| event.line.event.word());
        for (pfn, state) in &after {
            // A frame that appears was in use before the trace spoke of it.
            let was = before.get(pfn).copied().unwrap_or(State::Lru);
            if was != *state {
                *taken.entry((was, *state)).or_default().entry(word).or_default() += 1;
            }
        }
        before = after;
    }
    Ok(())
}

const BOX: i32 = 196;
const PORT: i32 = 20;
const GAP: i32 = 44;
const LANE: i32 = 16;

/// A transition that does not lead to the next state: it leaves a box at one side and comes back to another.
struct Side {
    from: usize,
    to: usize,
    words: String,
    // Where on their boxes it begins and ends, counted in ports, and its place beside them.
    out: i32,
    back_in: i32,
    lane: i32,
}

fn drawn(title: &str, traces: u32, taken: &Taken) -> String {
    let used: Vec<State> = State::ALL
        .into_iter()
        .filter(|state| taken.keys().any(|(from, to)| from == state || to == state))
        .collect();
    let place = |state: State| used.iter().position(|used| *used == state).unwrap_or(0);
    let (mut down, mut right, mut left) = (BTreeMap::new(), Vec::new(), Vec::new());
    for ((from, to), words) in taken {
        let (from, to) = (place(*from), place(*to));
        let words: Vec<String> = words.iter().map(|(word, times)| format!("{word} × {times}")).collect();
        if to == from + 1 {
            down.insert(from, words);
            continue;
        }
        let side = if to > from { &mut right } else { &mut left };
        let words = words.join(", ");
        side.push(Side {
            from,
            to,
            words,
            out: 0,
            back_in: 0,
            lane: 0,
        });
    }
    let mut tall = vec![44; used.len()];
    ports(&mut right, &mut tall, true);
    ports(&mut left, &mut tall, false);
    let word_room = |sides: &[Side]| {
        let words = sides.iter().map(|side| mono_width(&side.words));
        let lanes = i32::try_from(sides.len()).unwrap_or(0) * LANE;
        words.max().map_or(24, |wide| wide + 22 + lanes)
    };
    let (left_room, right_room) = (word_room(&left), word_room(&right));
    let mut tops = Vec::new();
    let mut y = 16;
    for height in &tall {
        tops.push(y);
        y += height + GAP;
    }
    let (x, height) = (left_room + 12, y - GAP + 44);
    let width = x + BOX + right_room + 12;
    let says = "Boxes are the states of a page that is to be moved. Arrows are the transitions that recorded traces took, with the \
                event and how often; those that go back are broken lines.";
    let mut svg = Svg::new(width, height, title, says);
    for (from, words) in &down {
        let (top, bottom) = (tops[*from] + tall[*from], tops[*from + 1]);
        arrow_down(&mut svg, x + BOX / 2, top, bottom);
        for (n, word) in words.iter().enumerate() {
            svg.text(
                x + BOX / 2 + 10,
                top + 20 + i32::try_from(n).unwrap_or(0) * 14,
                "mono",
                word,
            );
        }
    }
    for (sides, edge, way) in [(&right, x + BOX, 1), (&left, x, -1)] {
        for side in sides {
            let from = tops[side.from] + 14 + side.out * PORT;
            let to = tops[side.to] + 14 + side.back_in * PORT;
            let room = if way > 0 { right_room } else { left_room };
            let lane = edge + way * (room - 6 - side.lane * LANE);
            around(&mut svg, [edge, from, lane, to], way);
            let class = if way > 0 { "mono" } else { "mono bad end" };
            svg.text(edge + way * 10, from - 5, class, &side.words);
        }
    }
    for (n, state) in used.iter().enumerate() {
        let class = match state {
            State::Lru | State::Isolated | State::Locked => "old",
            State::InFlight | State::Copied | State::Frozen => "fly",
            State::Switched | State::Mapped | State::Unlocked | State::Moved => "new",
            State::Failed => "stay",
            State::Free => "box",
        };
        svg.rect([x, tops[n], BOX, tall[n]], class);
        let [name, says] = state.words();
        let middle = tops[n] + tall[n] / 2;
        svg.text(
            x + BOX / 2,
            middle - if says.is_empty() { -5 } else { 3 },
            "head mid",
            name,
        );
        if !says.is_empty() {
            svg.text(x + BOX / 2, middle + 14, "ink soft mid", says);
        }
    }
    svg.text(
        12,
        height - 12,
        "ink soft",
        &format!("counted in {traces} recorded traces"),
    );
    svg.finish()
}

/// Gives every transition of a side its places on the boxes, and boxes the room for them. Short ones are nearest to the boxes.
fn ports(sides: &mut [Side], tall: &mut [i32], downwards: bool) {
    sides.sort_by_key(|side| (side.from.abs_diff(side.to), side.from));
    let lanes = i32::try_from(sides.len()).unwrap_or(0);
    for (n, side) in sides.iter_mut().enumerate() {
        side.lane = lanes - 1 - i32::try_from(n).unwrap_or(0);
    }
    for (n, tall) in tall.iter_mut().enumerate() {
        let mut taken = 0;
        // What comes from above is above what goes below, and the other way round: so lines cross less.
        for comes in [downwards, !downwards] {
            for side in sides.iter_mut() {
                let (at, port) = if comes {
                    (side.to, &mut side.back_in)
                } else {
                    (side.from, &mut side.out)
                };
                if at == n {
                    *port = taken;
                    taken += 1;
                }
            }
        }
        *tall = (*tall).max(taken * PORT + 12);
    }
}

fn arrow_down(svg: &mut Svg, x: i32, top: i32, bottom: i32) {
    svg.line([x, top, x, bottom - 6], "edge");
    svg.path(&format!("M{x} {bottom}l-5 -9h10z"), "tip");
}

/// A line out of a box, along its lane, and into another box.
fn around(svg: &mut Svg, [edge, from, lane, to]: [i32; 4], way: i32) {
    let (edge_class, tip_class) = if way > 0 {
        ("edge", "tip")
    } else {
        ("edge back", "tip back")
    };
    let turn = 8 * way;
    let down = if to > from { 8 } else { -8 };
    svg.path(
        &format!(
            "M{edge} {from}H{}Q{lane} {from} {lane} {}V{}Q{lane} {to} {} {to}H{}",
            lane - turn,
            from + down,
            to - down,
            lane - turn,
            edge + 8 * way
        ),
        edge_class,
    );
    svg.path(&format!("M{edge} {to}l{} -5v10z", 9 * way), tip_class);
}

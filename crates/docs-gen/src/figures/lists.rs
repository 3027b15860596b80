//! The caller's lists before and after each pass of a run.

use migrate_core::Profile;
use migrate_core::fixture::{Replay as Ran, run_scenario};
use migrate_core::model::ModelFixture;
use mm_types::trace::{Event, text_of};
use trace_tools::Replay;
use trace_tools::replay::{Frame, List, State};

use super::svg::{Svg, mono_width};

const SCENARIO: &str = include_str!("../book/passes.scn");

const LEFT: i32 = 190;
const TOP: i32 = 46;
const CHIP: i32 = 24;
const GAP: i32 = 6;

/// The lists that are drawn, and how pages on them are.
const LISTS: [(List, &str); 5] = [
    (List::From, "old"),
    (List::To, "box"),
    (List::Moved, "box"),
    (List::Failed, "stay"),
    (List::Lru, "new"),
];

/// A moment of the run.
#[derive(Clone, Copy)]
enum When {
    /// A pass is over; or none has begun.
    After(Option<u32>),
    /// The caller has put everything back.
    PutBack,
}

/// The lists at one moment.
struct Row {
    when: When,
    // The last pass that left them so, where there are several.
    until: Option<u32>,
    lists: [Vec<String>; LISTS.len()],
}

/// Draws the lists of the run of the scenario under `profile`.
pub(super) fn draw(profile: &'static Profile) -> Result<String, String> {
    let ran = run_scenario(&mut ModelFixture::new(), SCENARIO, Some(profile)).map_err(|error| error.to_string())?;
    let Ran::Ran(report) = ran else {
        return Err("the model lacks something".to_owned());
    };
    // All of it: what is put back is put back after the run.
    let text = text_of(report.events);
    let mut replay = Replay::read(text.as_bytes()).map_err(|error| error.to_string())?;
    let mut rows = Vec::new();
    let mut pass = None;
    loop {
        let next = replay.lines().get(replay.at()).map(|line| line.event);
        if let Some(Event::Pass { .. } | Event::End { .. }) = next {
            rows.push(row(When::After(pass), replay.state()));
        }
        if let Some(Event::Pass { number }) = next {
            pass = Some(number);
        }
        if !replay.forward() {
            break;
        }
    }
    let mut last = row(When::PutBack, replay.state());
    if !profile.lru_staging {
        // The caller did not want the old pages: they went to the allocator at once, and no event tells of it.
        last.lists[2].clear();
    }
    rows.push(last);
    let title = format!("The lists of a run under the rules of {}", profile.rules);
    Ok(drawn(&title, &together(rows)))
}

fn row(when: When, state: &State) -> Row {
    let mut lists = LISTS.map(|(list, _)| state.list(list).into_iter().map(chip).collect::<Vec<_>>());
    // A new page that is given back is of no list any more; while it is taken it is the core's.
    lists[1].clear();
    Row {
        when,
        until: None,
        lists,
    }
}

fn chip(frame: &Frame) -> String {
    match frame.content {
        Some(page) => format!("p{page} in f{}", frame.pfn.raw()),
        None => format!("f{}", frame.pfn.raw()),
    }
}

/// Passes that change nothing become one row.
fn together(rows: Vec<Row>) -> Vec<Row> {
    let mut kept: Vec<Row> = Vec::new();
    for row in rows {
        match (kept.last_mut(), row.when) {
            (Some(last), When::After(pass)) if last.lists == row.lists => last.until = pass,
            _ => kept.push(row),
        }
    }
    kept
}

impl Row {
    fn when(&self) -> String {
        match (self.when, self.until) {
            (When::After(None), _) => "before the first pass".to_owned(),
            (When::After(Some(pass)), Some(last)) => format!("after passes {pass} to {last}"),
            (When::After(Some(pass)), None) => format!("after pass {pass}"),
            (When::PutBack, _) => "put back".to_owned(),
        }
    }
}

fn drawn(title: &str, rows: &[Row]) -> String {
    let count = |n: usize| i32::try_from(n).unwrap_or(0);
    let wide = rows
        .iter()
        .flat_map(|row| row.lists.iter().flatten())
        .map(|chip| mono_width(chip))
        .max();
    let column = wide.unwrap_or(0) + 28;
    let shown: Vec<usize> = (0..LISTS.len())
        .filter(|n| rows.iter().any(|row| !row.lists[*n].is_empty()))
        .collect();
    let tall = |row: &Row| {
        let most = row.lists.iter().map(Vec::len).max().unwrap_or(0).max(1);
        count(most) * (CHIP + GAP) + 14
    };
    let width = LEFT + count(shown.len()) * column + 8;
    let height = TOP + rows.iter().map(tall).sum::<i32>() + 8;
    let says = "Each row is a moment, each column one of the caller's lists, and each box a page: what it holds and the frame it is in.";
    let mut svg = Svg::new(width, height, title, says);
    for (at, n) in shown.iter().enumerate() {
        let middle = LEFT + count(at) * column + column / 2;
        svg.text(middle, 26, "head mid", LISTS[*n].0.word());
    }
    let mut y = TOP;
    for row in rows {
        svg.line([8, y, width - 8, y], "rule");
        svg.text(12, y + 28, "ink", &row.when());
        for (at, n) in shown.iter().enumerate() {
            let x = LEFT + count(at) * column + 6;
            for (place, chip) in row.lists[*n].iter().enumerate() {
                let top = y + 10 + count(place) * (CHIP + GAP);
                svg.rect([x, top, column - 12, CHIP], LISTS[*n].1);
                svg.text(x + (column - 12) / 2, top + 16, "mono mid", chip);
            }
        }
        y += tall(row);
    }
    svg.finish()
}

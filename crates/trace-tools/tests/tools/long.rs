//! Long traces, made of those of the shared scenarios.

use migrate_core::conformance::{Recorded, scenarios};
use mm_types::trace::{HEADER, Line};

/// All scenarios one after the other, each time with pages, frames, spaces and threads of their own, until there are `events`.
pub(crate) fn long(events: usize) -> Vec<Line> {
    repeat(&scenarios().iter().map(Recorded::trace).collect::<Vec<_>>(), events)
}

/// As [`long`], of these traces.
pub(crate) fn repeat(texts: &[String], events: usize) -> Vec<Line> {
    // More than any scenario has of one kind.
    const APART: u32 = 1000;
    let mut lines = Vec::with_capacity(events);
    for (round, text) in (0u32..).zip(texts.iter().cycle()) {
        // A scenario is taken whole: a run that is cut off breaks a rule.
        if lines.len() >= events {
            break;
        }
        let lines_of_it = text.lines().filter(|line| *line != HEADER);
        lines.extend(lines_of_it.map(|line| apart(line, round * APART).parse::<Line>().unwrap()));
    }
    lines
}

/// The line with every id `by` higher.
fn apart(line: &str, by: u32) -> String {
    let words = line.split(' ').map(|word| {
        let (key, value) = word.split_at(word.find('=').map_or(0, |at| at + 1));
        let digits = value.get(1..).unwrap_or_default();
        let digits = &digits[..digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len())];
        match (value.chars().next(), digits.parse::<u32>()) {
            (Some(kind @ ('p' | 'f' | 'm' | 't')), Ok(id)) => {
                // The migrator is one and the same.
                let id = if kind == 't' && id == 0 { 0 } else { id + by };
                format!("{key}{kind}{id}{}", &value[1 + digits.len()..])
            }
            _ => word.to_owned(),
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// A trace's text of those lines.
pub(crate) fn text(lines: &[Line]) -> String {
    let mut text = format!("{HEADER}\n");
    for line in lines {
        text += &format!("{line}\n");
    }
    text
}

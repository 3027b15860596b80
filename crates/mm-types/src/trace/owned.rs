//! Conveniences that allocate: whole texts, and room enough for any of them.

use alloc::{string::String, vec, vec::Vec};
use core::fmt::Write;

use super::{CheckError, Checked, Event, HEADER, Line, Lines, Namer, ParseError, Room, Slot, Stepper, check};

/// How many ids one event can bring of each kind.
const IDS_PER_EVENT: usize = 4;

/// Returns the canonical lines of `events`: with ids in order of first appearance, whatever they were called before.
#[must_use]
pub fn lines_of(events: impl IntoIterator<Item = Event>) -> Vec<Line> {
    let events: Vec<Event> = events.into_iter().collect();
    let room = events.len().saturating_mul(IDS_PER_EVENT);
    let (mut frames, mut spaces, mut actors) = (vec![Slot::FREE; room], vec![Slot::FREE; room], vec![Slot::FREE; room]);
    let mut namer = Namer::new(&mut frames, &mut spaces, &mut actors);
    // None is left out: there is room for the ids of every event.
    events.into_iter().filter_map(|event| namer.name(event).ok()).collect()
}

/// Returns the canonical text of `events`: the version line, then a line for each.
#[must_use]
pub fn text_of(events: impl IntoIterator<Item = Event>) -> String {
    let mut text = String::from(HEADER);
    text.push('\n');
    for line in lines_of(events) {
        // A string takes all that is written to it.
        let _ = writeln!(text, "{line}");
    }
    text
}

/// Replays `events` against the invariants.
///
/// # Errors
///
/// [`CheckError::Violation`] with the first rule broken.
pub fn check_events(events: &[Event]) -> Result<Checked, CheckError> {
    let room = events.len().saturating_mul(IDS_PER_EVENT);
    let room = Room {
        frames: &mut vec![Slot::FREE; room],
        sites: &mut vec![Slot::FREE; room],
        spaces: &mut vec![Slot::FREE; room],
        actors: &mut vec![Slot::FREE; room],
    };
    check(room, events.iter().copied())
}

/// Reads a trace's text and replays it against the invariants.
///
/// Three lines are enough for a test of one's own: record, print, check.
///
/// ```
/// # #[cfg(feature = "alloc")] {
/// use mm_types::trace::check_text;
///
/// let wrong = "trace v1\nisolate p0 f0\nisolate p0 f0\n";
/// let error = check_text(wrong).unwrap_err().to_string();
/// assert!(error.starts_with("line 3: I1 "), "{error}");
/// # }
/// ```
///
/// # Errors
///
/// [`CheckError::Parse`] where it is no trace, [`CheckError::Violation`] with the first rule broken.
pub fn check_text(text: &str) -> Result<Checked, CheckError> {
    let lines: Result<Vec<Event>, _> = Lines::new(text)?.map(|line| line.map(|line| line.event)).collect();
    check_events(&lines?)
}

/// Returns a trace's text with the numbers of the documented steps beside the lines, without the version line.
///
/// # Errors
///
/// [`ParseError`] where it is no trace.
pub fn numbered_text(text: &str) -> Result<String, ParseError> {
    // A trace says whose rules it follows before the first line whose number depends on them.
    let mut stepper = Stepper::new(crate::Rules::Modern);
    let mut numbered = String::new();
    for line in Lines::new(text)? {
        let _ = writeln!(numbered, "{}", stepper.number(line?));
    }
    Ok(numbered)
}

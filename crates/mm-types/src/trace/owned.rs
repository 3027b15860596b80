//! Conveniences that allocate: whole texts, and room enough for any of them.

use alloc::{string::String, vec, vec::Vec};
use core::fmt::Write;

use super::{Event, HEADER, Namer, Slot};

/// How many ids one event can bring of each kind.
const IDS_PER_EVENT: usize = 4;

/// Returns the canonical text of `events`: the version line, then a line for each.
#[must_use]
pub fn text_of(events: impl IntoIterator<Item = Event>) -> String {
    let events: Vec<Event> = events.into_iter().collect();
    let room = events.len().saturating_mul(IDS_PER_EVENT);
    let (mut frames, mut spaces, mut actors) = (vec![Slot::FREE; room], vec![Slot::FREE; room], vec![Slot::FREE; room]);
    let mut namer = Namer::new(&mut frames, &mut spaces, &mut actors);
    let mut text = String::from(HEADER);
    text.push('\n');
    for event in events {
        // Neither fails: there is room for the ids of every event, and a string takes all that is written to it.
        if let Ok(line) = namer.name(event) {
            let _ = writeln!(text, "{line}");
        }
    }
    text
}

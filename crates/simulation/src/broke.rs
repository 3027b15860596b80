//! Where a run went wrong: the place in its trace that a report marks.
//!
//! What is noticed at a step is marked there. What only the end of a run shows is searched for from the end: of each step the
//! state before it is kept, and the mark is behind the last one before which it was not wrong yet.

use core::fmt::Write as _;

use migrate_core::invariants::{Inspect, Snapshot, check_between_calls};
use mm_types::Pfn;
use mm_types::trace::Event;

use crate::check::words;
use crate::world::World;

/// The state before a step of a run.
#[derive(Debug)]
pub(crate) struct Moment {
    /// How many events had been told by then.
    events: usize,
    state: Snapshot,
    /// What a look at that moment alone says.
    wrong: Vec<String>,
}

impl World {
    /// Keeps what is there before a step of a run, where a report is wanted.
    pub(crate) fn keep_moment(&self) {
        if !self.care.moments {
            return;
        }
        let wrong = [
            check_between_calls(&self.model),
            self.model.recount(),
            self.check_rest(),
        ];
        self.moments.borrow_mut().push(Moment {
            events: self.told(),
            state: Snapshot::of(&self.model),
            wrong: wrong.into_iter().filter_map(Result::err).map(words).collect(),
        });
    }

    /// Marks what comes next in the trace, unless something was marked before.
    pub(crate) fn mark_here(&self) {
        self.mark(self.told());
    }

    /// Marks the place behind so many events, unless something was marked before.
    pub(crate) fn mark(&self, events: usize) {
        if self.broke.get().is_none() {
            self.broke.set(Some(events));
        }
    }

    /// Marks the step after which `is_wrong` held of the state for good.
    pub(crate) fn mark_where(&self, is_wrong: impl Fn(&Snapshot, &[String]) -> bool) {
        let moments = self.moments.borrow();
        let wrong = |moment: &&Moment| is_wrong(&moment.state, &moment.wrong);
        let for_good = moments.iter().rev().take_while(wrong).last();
        if !moments.is_empty() {
            self.mark(for_good.map_or_else(|| self.told(), |moment| moment.events));
        }
    }

    /// Marks where the fate of a page was sealed: its switch, or whatever was said of it last.
    pub(crate) fn mark_outcome(&self, pfn: Pfn) {
        let told: Vec<Event> = self
            .recording
            .borrow()
            .iter()
            .flat_map(|recording| recording.events())
            .collect();
        let switched = |event: &Event| matches!(event, Event::Switch { old, .. } if *old == pfn);
        let of_page = |event: &Event| event.frame() == Some(pfn);
        let last = told
            .iter()
            .rposition(switched)
            .or_else(|| told.iter().rposition(of_page));
        self.mark(last.map_or(told.len(), |at| at + 1));
    }

    fn told(&self) -> usize {
        let recording = self.recording.borrow();
        recording.as_ref().map_or(0, |recording| recording.events().count())
    }

    /// Returns what happened: the calls in words and the canonical trace of the last run, with a line that begins with `!` and says
    /// `what` where it went wrong.
    #[must_use]
    pub fn report(&self, what: &str) -> String {
        let mark = format!("! {}", what.split_whitespace().collect::<Vec<_>>().join(" "));
        // A run that panicked is in progress still, and went wrong at its newest step.
        if self.in_run.get() {
            self.mark_here();
        }
        let (story, trace) = (self.story(), self.trace());
        let Some(events) = self.broke.get() else {
            return format!("{story}\n{mark}\n\nthe last run:\n{trace}");
        };
        // The version line is before the first event.
        let (before, after) = split_at_line(&trace, events + 1);
        let mut report = format!("{story}\n\nthe last run:\n");
        let _ = write!(report, "{}{mark}\n{}", shortened(before), shortened(after));
        report
    }
}

/// Lines of a trace of which the first and the last are shown, where it is long.
const ENDS: usize = 30;

fn split_at_line(text: &str, line: usize) -> (&str, &str) {
    let end = text.match_indices('\n').nth(line.saturating_sub(1));
    text.split_at(end.map_or(text.len(), |(at, _)| at + 1))
}

/// Passes are alike: the first ones and the end say it all.
fn shortened(text: &str) -> String {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    match lines.len().checked_sub(2 * ENDS) {
        Some(left_out @ 1..) => {
            let (first, last) = (lines[..ENDS].concat(), lines[lines.len() - ENDS..].concat());
            format!("{first}[{left_out} lines more]\n{last}")
        }
        _ => lines.concat(),
    }
}

//! Going through a trace, forward and back, with all that it lets one see.
//!
//! Each step costs what its event changes, in either direction, and so a jump costs the events jumped over: some
//! milliseconds for a hundred thousand.

mod apply;
mod state;
#[cfg(test)]
mod tests;

use alloc::vec::Vec;

use mm_types::trace::{CheckError, Checked, Event, Line, Numbered, Rule, Stepper, check_events, steps};
use mm_types::{Rules, Site, SpaceId};

use crate::source::{Unreadable, parse};
use apply::Apply;
pub use state::{Actor, Doing, Entry, Frame, List, Pair, References, Refused, Run, Space, State};

/// What a piece of the state was before an event: enough to go back.
#[derive(Clone, Copy, Debug)]
enum Was {
    Frame(usize, Frame),
    Entry(usize, Entry),
    Space(usize, Space),
    Actor(usize, Actor),
    Run(Option<Run>),
    Barriers(u32),
}

/// A piece of the state that the last event changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Changed {
    /// A frame.
    Frame(mm_types::Pfn),
    /// An entry.
    Entry(Site),
    /// What is pending for a space.
    Space(SpaceId),
    /// A thread.
    Actor(mm_types::ActorId),
    /// The run.
    Run,
    /// A barrier: nothing is pending, and no translation is stale.
    Barrier,
}

/// A trace, and a place in it.
#[derive(Clone, Debug)]
pub struct Replay {
    lines: Vec<Line>,
    // The documented steps of each line.
    numbered: Vec<Numbered>,
    verdict: Result<Checked, CheckError>,
    state: State,
    undo: Vec<Was>,
    // Where in `undo` each event begins that has happened.
    marks: Vec<usize>,
}

impl Replay {
    /// Makes a replay of `lines`, before the first event.
    #[must_use]
    pub fn new(lines: Vec<Line>) -> Self {
        let events: Vec<Event> = lines.iter().map(|line| line.event).collect();
        // A trace says whose rules it follows before the first line whose number depends on them.
        let mut stepper = Stepper::new(Rules::Modern);
        let numbered = lines.iter().map(|line| stepper.number(*line)).collect();
        Self {
            verdict: check_events(&events),
            lines,
            numbered,
            state: State::default(),
            undo: Vec::new(),
            marks: Vec::new(),
        }
    }

    /// Reads a trace.
    ///
    /// # Errors
    ///
    /// The place where it is none.
    pub fn read(bytes: &[u8]) -> Result<Self, Unreadable> {
        Ok(Self::new(parse(bytes)?))
    }

    /// Returns the lines, of which the first has number 0 (and is line 2 of the text).
    #[must_use]
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Returns what the checker says of the whole trace.
    pub const fn verdict(&self) -> &Result<Checked, CheckError> {
        &self.verdict
    }

    /// Returns how many events have happened: 0 before the first.
    #[must_use]
    pub fn at(&self) -> usize {
        self.marks.len()
    }

    /// Returns what is seen after the events that have happened.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// Returns the last event that happened, with the documented steps it realises.
    #[must_use]
    pub fn event(&self) -> Option<&Numbered> {
        self.numbered.get(self.at().checked_sub(1)?)
    }

    /// Returns the last event's documented steps: their numbers and their text.
    #[must_use]
    pub fn documented(&self) -> Vec<&'static mm_types::trace::Step> {
        let rules = self.state.run.map_or(Rules::Modern, |run| run.rules);
        let Some(numbered) = self.event() else {
            return Vec::new();
        };
        let all = steps(rules);
        let at = |number: Option<&str>| all.iter().position(|step| Some(step.number) == number);
        let Some(first) = at(numbered.first) else {
            return Vec::new();
        };
        let last = at(numbered.last).unwrap_or(first);
        all.get(first..=last).unwrap_or_default().iter().collect()
    }

    /// Returns the rules that a checker holds the last event against.
    #[must_use]
    pub fn rules(&self) -> &'static [Rule] {
        self.event()
            .map_or(&[], |numbered| crate::rules_of(&numbered.line.event))
    }

    /// Returns the line that breaks a rule, counted as [`lines`](Self::lines) is, and the rule; the number is that of the end
    /// where the trace ends too early.
    #[must_use]
    pub fn violation(&self) -> Option<(usize, mm_types::trace::Violation)> {
        match self.verdict {
            Err(CheckError::Violation(violation)) => {
                let at = violation
                    .event
                    .map_or(self.lines.len(), |_| violation.line.saturating_sub(2));
                Some((at, violation))
            }
            _ => None,
        }
    }

    /// Lets the next event happen; false at the end.
    pub fn forward(&mut self) -> bool {
        let at = self.at();
        let Some(line) = self.lines.get(at) else { return false };
        self.marks.push(self.undo.len());
        let mut apply = Apply {
            state: &mut self.state,
            undo: &mut self.undo,
            at,
        };
        apply.line(line);
        true
    }

    /// Takes the last event back; false at the beginning.
    pub fn back(&mut self) -> bool {
        let Some(mark) = self.marks.pop() else { return false };
        while self.undo.len() > mark {
            match self.undo.pop() {
                Some(Was::Frame(place, was)) => self.state.frames.put(place, was),
                Some(Was::Entry(place, was)) => self.state.entries.put(place, was),
                Some(Was::Space(place, was)) => self.state.spaces.put(place, was),
                Some(Was::Actor(place, was)) => self.state.actors.put(place, was),
                Some(Was::Run(was)) => self.state.run = was,
                Some(Was::Barriers(was)) => self.state.barriers = was,
                None => break,
            }
        }
        true
    }

    /// Goes to where `events` have happened, or to the end where there are fewer.
    pub fn go_to(&mut self, events: usize) {
        while self.at() > events && self.back() {}
        while self.at() < events && self.forward() {}
    }

    /// Returns what the last event changed, each piece once.
    #[must_use]
    pub fn changed(&self) -> Vec<Changed> {
        let mark = self.marks.last().copied().unwrap_or(self.undo.len());
        let mut changed: Vec<_> = self
            .undo
            .get(mark..)
            .unwrap_or_default()
            .iter()
            .map(|was| match *was {
                Was::Frame(place, _) => Changed::Frame(self.state.frames.at(place).pfn),
                Was::Entry(place, _) => Changed::Entry(self.state.entries.at(place).site),
                Was::Space(place, _) => Changed::Space(self.state.spaces.at(place).space),
                Was::Actor(place, _) => Changed::Actor(self.state.actors.at(place).actor),
                Was::Run(_) => Changed::Run,
                Was::Barriers(_) => Changed::Barrier,
            })
            .collect();
        changed.sort_unstable();
        changed.dedup();
        changed
    }
}

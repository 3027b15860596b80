//! A trace that was opened, and a place in it.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use mm_types::trace::{CheckError, Stepper};
use mm_types::{Pfn, Rules, Site};
use serde_json::{Value, json};
use trace_tools::Replay;
use trace_tools::replay::{Changed, List, State};

use crate::panel::{Fact, Key, lists};
use crate::{Panel, Problem, Query, step};

/// A trace that was opened, and a place in it.
///
/// What it answers is JSON for the page; steps count the events that have happened, so that step 0 is before the first.
#[derive(Debug)]
pub struct Session {
    replay: Replay,
    problem: Option<Problem>,
    // The numbers of the documented steps beside each line, as the event list shows them.
    numbers: Vec<String>,
    // The frames and sites seen so far, in the order of the rows.
    frames: Vec<Pfn>,
    sites: Vec<Site>,
    // The rows of the panel of lists.
    lists: Vec<Vec<String>>,
    // How many rows each panel has at the end, which is the most.
    most: Vec<usize>,
    // The rows that the last event changed, with their cells before it.
    before: BTreeMap<(Panel, Key), Vec<String>>,
}

impl Session {
    /// Opens a trace. Of one that is cut off or malformed, what comes before the place is shown.
    #[must_use]
    pub fn open(bytes: &[u8]) -> Self {
        let (replay, problem) = match Replay::read(bytes) {
            Ok(replay) => {
                let problem = broken(&replay);
                (replay, problem)
            }
            Err(error) => {
                let lines = error.line.saturating_sub(1);
                let readable = bytes
                    .split_inclusive(|byte| *byte == b'\n')
                    .take(lines)
                    .map(<[u8]>::len)
                    .sum();
                let readable = bytes.get(..readable).unwrap_or_default();
                let replay = Replay::read(readable).unwrap_or_else(|_| Replay::new(Vec::new()));
                (replay, Some(Problem::unreadable(bytes, error)))
            }
        };
        // As in `mm_types::trace::numbered_text`, whose brackets a list of its own column does not need.
        let mut stepper = Stepper::new(Rules::Modern);
        let numbers = replay
            .lines()
            .iter()
            .map(|line| step::numbers(&stepper.number(*line)))
            .collect();
        let mut session = Self {
            replay,
            problem,
            numbers,
            frames: Vec::new(),
            sites: Vec::new(),
            lists: Vec::new(),
            most: Vec::new(),
            before: BTreeMap::new(),
        };
        session.replay.go_to(usize::MAX);
        session.order();
        session.most = Panel::ALL.iter().map(|panel| session.count(*panel)).collect();
        session.go(0);
        session
    }

    /// Returns how many steps there are.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.replay.lines().len()
    }

    /// Returns what is wrong with the trace.
    #[must_use]
    pub const fn problem(&self) -> Option<&Problem> {
        self.problem.as_ref()
    }

    /// Says how long the trace is, what is wrong with it, and which panels there are.
    #[must_use]
    pub fn opened(&self) -> Value {
        let panels = Panel::ALL
            .iter()
            .zip(&self.most)
            .map(|(panel, most)| json!({ "title": panel.title(), "columns": panel.columns(), "most": most }));
        json!({
            "steps": self.steps(),
            "problem": self.problem.as_ref().map(Problem::json),
            "panels": panels.collect::<Vec<_>>(),
        })
    }

    /// Goes to the state after `step` events, and says what the last of them was and how many rows each panel has.
    pub fn go(&mut self, step: usize) -> Value {
        self.replay.go_to(step);
        let mut keys = self.touched();
        let barrier = self.replay.changed().contains(&Changed::Barrier);
        // The cells as they were, to mark those that are others now.
        self.replay.back();
        let state = self.replay.state();
        if barrier {
            let stale = state.entries().filter(|entry| state.stale(entry).is_some());
            keys.extend(stale.map(|entry| (Panel::Tlbs, Key::Site(entry.site))));
        }
        let cells = |(panel, key): (Panel, Key)| ((panel, key), panel.cells(state, key));
        let mut before: BTreeMap<_, _> = keys.into_iter().map(cells).collect();
        let lists_before = lists(state);
        if step > 0 {
            self.replay.forward();
        }
        self.order();
        self.lists = lists(self.replay.state());
        before.extend(
            List::ALL
                .iter()
                .zip(lists_before)
                .map(|(list, cells)| ((Panel::Lists, Key::List(*list)), cells)),
        );
        before.retain(|(panel, key), before| self.cells(*panel, *key) != *before);
        self.before = before;
        let panels: Vec<_> = Panel::ALL
            .iter()
            .map(|panel| json!({ "count": self.count(*panel), "focus": self.focus(*panel), "note": self.note(*panel) }))
            .collect();
        step::json(&self.replay, self.problem.as_ref(), &panels)
    }

    /// Returns `count` rows of a panel from row `from` on: cells, and what those that changed were.
    #[must_use]
    pub fn rows(&self, panel: Panel, from: usize, count: usize) -> Value {
        let state = self.replay.state();
        let keys = (from..self.count(panel))
            .take(count)
            .filter_map(|row| self.key(panel, row));
        let rows = keys.map(|key| {
            let cells = self.cells(panel, key);
            let was = self.before.get(&(panel, key)).map(|before| {
                let was = cells.iter().enumerate().map(|(n, cell)| match before.get(n) {
                    Some(before) if before == cell => Value::Null,
                    // A row that was not there had nothing in it.
                    before => json!(before.map_or("", String::as_str)),
                });
                was.collect::<Vec<_>>()
            });
            json!({ "cells": cells, "was": was, "warn": panel.warns(state, key) })
        });
        Value::Array(rows.collect())
    }

    /// Returns `count` lines of the trace from step `from` + 1 on.
    #[must_use]
    pub fn lines(&self, from: usize, count: usize) -> Value {
        let lines = self.replay.lines().iter().zip(&self.numbers).skip(from).take(count);
        let broken = self.problem.as_ref().and_then(Problem::step);
        let lines = lines.enumerate().map(|(n, (line, numbers))| {
            let text = line.to_string();
            let word = line.event.word();
            let rest = text.strip_prefix(word).unwrap_or_default();
            let bad = broken == Some(from.saturating_add(n).saturating_add(1));
            json!({ "numbers": numbers, "word": word, "rest": rest, "bad": bad })
        });
        Value::Array(lines.collect())
    }

    /// Returns the steps whose line a query matches, in order.
    #[must_use]
    pub fn find(&self, query: &Query) -> Vec<usize> {
        let lines = self.replay.lines().iter().enumerate();
        lines
            .filter(|(_, line)| query.matches(line))
            .map(|(n, _)| n.saturating_add(1))
            .collect()
    }

    /// The rows that the last event can have changed, but for the translations that a barrier ends.
    fn touched(&self) -> BTreeSet<(Panel, Key)> {
        let mut keys = BTreeSet::new();
        for changed in self.replay.changed() {
            match changed {
                Changed::Frame(pfn) => {
                    keys.extend([(Panel::Frames, Key::Frame(pfn)), (Panel::References, Key::Frame(pfn))]);
                }
                Changed::Entry(site) => {
                    keys.extend([(Panel::Entries, Key::Site(site)), (Panel::Tlbs, Key::Site(site))]);
                }
                Changed::Actor(actor) => keys.extend([(Panel::Waiters, Key::Actor(actor))]),
                Changed::Space(_) => {}
                Changed::Run => keys.extend(Fact::ALL.iter().map(|fact| (Panel::Run, Key::Fact(*fact)))),
                Changed::Barrier => keys.extend([(Panel::Run, Key::Fact(Fact::Flushes))]),
            }
        }
        keys
    }

    /// Puts the rows of frames and sites in order, where others have been seen than before.
    fn order(&mut self) {
        let state = self.replay.state();
        // What has been seen after a number of events is always the same, and never less than before.
        if state.frames().count() != self.frames.len() {
            self.frames = state.frames().map(|frame| frame.pfn).collect();
            self.frames.sort_unstable();
        }
        if state.entries().count() != self.sites.len() {
            self.sites = state.entries().map(|entry| entry.site).collect();
            self.sites.sort_unstable();
        }
    }

    fn cells(&self, panel: Panel, key: Key) -> Vec<String> {
        match key {
            Key::List(list) => {
                let row = List::ALL.iter().position(|known| *known == list);
                row.and_then(|row| self.lists.get(row)).cloned().unwrap_or_default()
            }
            _ => panel.cells(self.replay.state(), key),
        }
    }

    fn count(&self, panel: Panel) -> usize {
        match panel {
            Panel::Entries | Panel::Tlbs => self.sites.len(),
            Panel::Frames | Panel::References => self.frames.len(),
            Panel::Lists => List::ALL.len(),
            Panel::Waiters => self.replay.state().actors().count(),
            Panel::Run => Fact::ALL.len(),
        }
    }

    fn key(&self, panel: Panel, row: usize) -> Option<Key> {
        match panel {
            Panel::Entries | Panel::Tlbs => self.sites.get(row).copied().map(Key::Site),
            Panel::Frames | Panel::References => self.frames.get(row).copied().map(Key::Frame),
            Panel::Lists => List::ALL.get(row).copied().map(Key::List),
            Panel::Waiters => self
                .replay
                .state()
                .actors()
                .nth(row)
                .map(|actor| Key::Actor(actor.actor)),
            Panel::Run => Fact::ALL.get(row).copied().map(Key::Fact),
        }
    }

    /// The first row of a panel that changed.
    fn focus(&self, panel: Panel) -> Option<usize> {
        let mut changed = self.before.keys().filter(|(of, _)| *of == panel).map(|(_, key)| *key);
        let first = changed.next()?;
        match first {
            Key::Site(site) => self.sites.binary_search(&site).ok(),
            Key::Frame(pfn) => self.frames.binary_search(&pfn).ok(),
            other => (0..self.count(panel)).find(|row| self.key(panel, *row) == Some(other)),
        }
    }

    /// What a panel's heading adds.
    fn note(&self, panel: Panel) -> Option<String> {
        let state = self.replay.state();
        match panel {
            Panel::Tlbs => Some(pending(state)),
            Panel::Waiters => match state.waiters().count() {
                0 => None,
                1 => Some("1 sleeps".to_owned()),
                waiting => Some(format!("{waiting} sleep")),
            },
            _ => None,
        }
    }
}

/// What processors have not been told yet, space by space.
fn pending(state: &State) -> String {
    let spaces = state
        .spaces()
        .filter(|space| state.pending(space) > 0 || space.owes_flush);
    let spaces = spaces.map(|space| {
        let owes = if space.owes_flush {
            ", a reader owes a flush"
        } else {
            ""
        };
        format!("m{}: {} to flush{owes}", space.space.raw(), state.pending(space))
    });
    let spaces: Vec<_> = spaces.collect();
    if spaces.is_empty() {
        "nothing to flush".to_owned()
    } else {
        spaces.join("; ")
    }
}

fn broken(replay: &Replay) -> Option<Problem> {
    if let Some((line, violation)) = replay.violation() {
        let step = line.saturating_add(1).min(replay.lines().len());
        return Some(Problem::Broken { step, violation });
    }
    match replay.verdict() {
        Ok(_) | Err(CheckError::Violation(_)) => None,
        Err(error) => Some(Problem::Unchecked(*error)),
    }
}

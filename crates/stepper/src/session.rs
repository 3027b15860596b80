//! A trace that was opened, and a place in it.

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

#[cfg(test)]
mod tests {
    use super::*;

    const MOVES: &str = "trace v1
map_pte p0 f0 site=m0+0x3 now=rw+dirty
isolate p0 f0
mm_migrate_pages_start profile=modern mode=sync reason=compaction
pass number=0
lock p0 f0
new_page p0 f0 new=f1
set_migration_pte p0 f0 site=m0+0x3 was=rw+dirty now=write+dirty
flush entries=1
copy p0 f0 new=f1
";

    /// The row of a panel that begins with `first`: its cells, and what those that changed were.
    fn row(session: &Session, panel: Panel, first: &str) -> (Vec<String>, Vec<Option<String>>) {
        let rows = session.rows(panel, 0, usize::MAX);
        let row = rows
            .as_array()
            .unwrap()
            .iter()
            .find(|row| row["cells"][0] == first)
            .unwrap();
        let texts = |key: &str| {
            row[key]
                .as_array()
                .map(|texts| texts.iter().map(|text| text.as_str().map(str::to_owned)).collect())
        };
        let cells: Vec<Option<String>> = texts("cells").unwrap();
        let was = texts("was").unwrap_or_else(|| vec![None; cells.len()]);
        (cells.into_iter().flatten().collect(), was)
    }

    fn step_of(word: &str) -> usize {
        MOVES.lines().position(|line| line.starts_with(word)).unwrap()
    }

    #[test]
    fn a_translation_is_stale_from_the_unmapping_to_the_flush() {
        let mut session = Session::open(MOVES.as_bytes());
        session.go(step_of("set_migration_pte"));
        let (cells, was) = row(&session, Panel::Tlbs, "m0+0x3");
        assert_eq!(cells, ["m0+0x3", "rw+dirty f0", "the flush"]);
        assert_eq!(was, [None, None, Some("–".to_owned())]);
        let (cells, was) = row(&session, Panel::Entries, "m0+0x3");
        assert_eq!(cells, ["m0+0x3", "write+dirty", "f0", "rw+dirty"]);
        assert_eq!(was[1].as_deref(), Some("rw+dirty"));
        session.go(step_of("flush"));
        let (cells, was) = row(&session, Panel::Tlbs, "m0+0x3");
        assert_eq!(cells, ["m0+0x3", "–", "–"]);
        assert_eq!(was[1].as_deref(), Some("rw+dirty f0"), "a barrier marks what it ends");
        session.go(step_of("copy"));
        assert_eq!(row(&session, Panel::Tlbs, "m0+0x3").1, [None, None, None]);
    }

    #[test]
    fn a_row_that_was_not_there_is_new_in_every_cell() {
        let mut session = Session::open(MOVES.as_bytes());
        let state = session.go(step_of("new_page"));
        let (cells, was) = row(&session, Panel::Frames, "f1");
        assert_eq!(cells[2..5], ["to", "locked", "← f0"]);
        assert!(was.iter().all(|was| was.as_deref() == Some("")), "{was:?}");
        let frames = Panel::ALL.iter().position(|panel| *panel == Panel::Frames).unwrap();
        assert_eq!(
            state["panels"][frames]["focus"], 0,
            "the pair of f0 changed too, and comes first"
        );
        session.go(step_of("new_page") - 1);
        assert_eq!(
            session.rows(Panel::Frames, 0, 9).as_array().unwrap().len(),
            1,
            "and gone when one goes back"
        );
    }

    #[test]
    fn lists_say_who_came_last_and_count_the_others() {
        let mut text = "trace v1\n".to_owned();
        for page in 0..100 {
            text += &format!("isolate p{page} f{page}\n");
        }
        let mut session = Session::open(text.as_bytes());
        session.go(100);
        let (cells, was) = row(&session, Panel::Lists, "from");
        assert_eq!(cells[1], "100");
        assert!(
            cells[2].starts_with("76 more … f76 f77 ") && cells[2].ends_with(" f98 f99"),
            "{}",
            cells[2]
        );
        assert_eq!(was[1].as_deref(), Some("99"));
        assert_eq!(row(&session, Panel::Lists, "moved").1, [None, None, None]);
    }

    #[test]
    fn a_place_is_the_same_wherever_one_comes_from() {
        let mut session = Session::open(MOVES.as_bytes());
        let all = |session: &Session| -> Vec<Value> {
            Panel::ALL
                .iter()
                .map(|panel| session.rows(*panel, 0, usize::MAX))
                .collect()
        };
        let mut forward = Vec::new();
        for step in 0..=session.steps() {
            forward.push((session.go(step), all(&session)));
        }
        for step in [5, 0, 9, 3, 8, 1, 7, 2, 6, 4] {
            let here = (session.go(step), all(&session));
            assert_eq!(here, forward[step], "at step {step}");
        }
        assert_eq!(session.go(usize::MAX), forward.last().unwrap().0);
    }

    #[test]
    fn what_comes_before_an_error_is_shown() {
        let session = Session::open(b"trace v1\nisolate p0 f0\nlock p0 f0\nlock\xffp0\n");
        assert_eq!(session.steps(), 2);
        let problem = &session.opened()["problem"];
        assert_eq!((&problem["line"], &problem["column"]), (&json!(4), &json!(5)));
        assert_eq!(problem["excerpt"], "lock\u{fffd}p0");
        assert_eq!(Session::open(b"\xff").steps(), 0);
        let long = Session::open(format!("trace v1\n{}\n", "y".repeat(10 << 20)).as_bytes());
        assert!(long.opened()["problem"]["excerpt"].as_str().unwrap().chars().count() < 100);
    }

    #[test]
    fn a_rule_that_breaks_is_named_at_its_step() {
        let broken = MOVES.replace("flush entries=1\n", "");
        let mut session = Session::open(broken.as_bytes());
        let problem = session.opened()["problem"].clone();
        assert_eq!(
            (&problem["rule"], &problem["step"], &problem["line"]),
            (&json!("I33"), &json!(8), &json!(9))
        );
        assert_eq!(session.go(8)["broken"], true);
        assert_eq!(session.go(7)["broken"], false);
        // The whole of it ends within a run: that is at its end.
        let cut = Session::open(MOVES.as_bytes());
        assert_eq!(cut.opened()["problem"]["step"], cut.steps());
        assert_eq!(cut.opened()["problem"]["ends"], true);
    }

    #[test]
    fn a_refusal_is_told_with_what_it_knows() {
        let text = format!(
            "{}unlock p0 f0\nrefuse p0 f0 reason=pinned pins=3\n",
            MOVES.split("new_page").next().unwrap()
        );
        let mut session = Session::open(text.as_bytes());
        let step = session.go(session.steps());
        let refusal = &step["event"]["refusal"];
        assert_eq!(refusal["value"], "Pinned { pins: 3 }");
        assert_eq!(
            (&refusal["page"], &refusal["last"], &refusal["transient"]),
            (&json!("p0"), &json!(true), &json!(true))
        );
        assert_eq!(row(&session, Panel::Frames, "f0").0[7], "refused: pinned pins=3");
    }

    #[test]
    fn a_search_finds_steps() {
        let session = Session::open(MOVES.as_bytes());
        assert_eq!(session.find(&Query::new("f1")), [6, 9]);
        assert_eq!(session.find(&Query::new("m0")), [1, 7]);
        assert!(session.find(&Query::new("nothing")).is_empty());
    }
}

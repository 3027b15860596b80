//! The documented steps of both eras.

use std::collections::BTreeSet;

use migrate_core::conformance::scenarios;
use migrate_core::{LINUX_2_6_17, MODERN};
use mm_types::Rules;
use mm_types::trace::{Event, Step, steps};

use super::recorded;
use crate::table::{Table, code};

/// The steps of a document, and as the how-manieth each is really carried out.
pub(super) fn table(rules: Rules) -> Result<String, String> {
    let order = really(rules)?;
    let mut table = Table::new(["step", "what is done", "its line in a trace", "carried out as number"]);
    for step in steps(rules) {
        let callers = step.number.starts_with('A');
        let at = order.iter().position(|number| *number == step.number);
        let carried = match at {
            Some(at) => (at + 1).to_string(),
            None if callers => String::new(),
            None => return Err(format!("step {} was not carried out", step.number)),
        };
        table.row([step.number.to_owned(), step.text.to_owned(), event(step), carried]);
    }
    Ok(table.to_string())
}

/// The numbers of the steps as a run carries them out that moves a page under writeback: no step is missing there.
fn really(rules: Rules) -> Result<Vec<&'static str>, String> {
    let scenario = scenarios()
        .iter()
        .find(|scenario| scenario.name == "under_writeback" && scenario.profile.rules == rules);
    let scenario = scenario.ok_or("no page under writeback was recorded")?;
    let trace = scenario.trace();
    let mut replay = trace_tools::Replay::read(trace.as_bytes()).map_err(|error| error.to_string())?;
    let mut order = Vec::new();
    while replay.forward() {
        let event = replay.event().map(|numbered| numbered.line.event);
        if let Some(Event::Pass { .. } | Event::GiveBack(_)) = event {
            // What an earlier attempt did was undone.
            order.clear();
        }
        let numbers = replay.documented().into_iter().map(|step| step.number);
        order.extend(numbers.filter(|number| !number.starts_with('A')));
    }
    let mut seen = BTreeSet::new();
    order.retain(|number| seen.insert(*number));
    Ok(order)
}

fn event(step: &Step) -> String {
    if step.event.is_empty() {
        "none: the caller does it".to_owned()
    } else {
        code(step.event)
    }
}

/// The order in which each era really carries its steps out, taken from recorded runs.
pub(super) fn order() -> Result<String, String> {
    let then = carried_out(&recorded::one_page(&LINUX_2_6_17)?);
    let now = carried_out(&recorded::one_page(&MODERN)?);
    let mut table = Table::new(["", "2.6.17", "its line", "today", "its line"]);
    for n in 0..then.len().max(now.len()) {
        let cells = |steps: &[(String, String)]| steps.get(n).cloned().unwrap_or_default();
        let ((number, word), (number_now, word_now)) = (cells(&then), cells(&now));
        table.row([(n + 1).to_string(), number, word, number_now, word_now]);
    }
    Ok(table.to_string())
}

/// The numbers and words of a numbered trace's lines, neighbours that repeat left out.
fn carried_out(trace: &str) -> Vec<(String, String)> {
    let mut steps = Vec::new();
    for line in trace.lines() {
        let Some((number, rest)) = line.strip_prefix('[').and_then(|line| line.split_once(']')) else {
            continue;
        };
        let word = rest.split_whitespace().next().unwrap_or_default();
        let step = (number.trim().to_owned(), code(word));
        if !step.0.starts_with('A') && steps.last() != Some(&step) {
            steps.push(step);
        }
    }
    steps
}

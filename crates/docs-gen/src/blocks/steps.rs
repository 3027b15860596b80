//! The documented steps of both eras.

use migrate_core::{LINUX_2_6_17, MODERN};
use mm_types::Rules;
use mm_types::trace::{Step, steps};

use super::recorded;
use crate::table::{Table, code};

pub(super) fn table(rules: Rules) -> String {
    let mut table = Table::new(["step", "what is done", "its line in a trace"]);
    for step in steps(rules) {
        table.row([step.number.to_owned(), step.text.to_owned(), event(step)]);
    }
    table.to_string()
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

//! One step, as the page tells it.

use mm_types::Rules;
use mm_types::trace::{Event, Numbered};
use serde_json::{Value, json};
use trace_tools::Replay;

use crate::Problem;

/// The numbers of the documented steps that a line realises, such as `9–11`.
pub(crate) fn numbers(numbered: &Numbered) -> String {
    match (numbered.first, numbered.last) {
        (Some(first), Some(last)) => format!("{first}–{last}"),
        (Some(first), None) => first.to_owned(),
        (None, _) => String::new(),
    }
}

/// The name of an event's kind, as its declaration has it.
fn kind(event: &Event) -> String {
    let name = format!("{event:?}");
    name.chars().take_while(|letter| letter.is_alphanumeric()).collect()
}

pub(crate) fn json(replay: &Replay, problem: Option<&Problem>, panels: &[Value]) -> Value {
    let state = replay.state();
    let rules = state.run().map_or(Rules::Modern, |run| run.rules);
    let event = replay.event().map(|numbered| {
        let line = numbered.line;
        let steps = replay.documented();
        let steps = steps
            .iter()
            .map(|step| json!({ "number": step.number, "text": step.text }));
        let held = replay
            .rules()
            .iter()
            .map(|rule| json!({ "id": rule.id(), "rule": rule.rule() }));
        json!({
            "kind": kind(&line.event),
            "word": line.event.word(),
            "text": line.to_string(),
            "numbers": numbers(numbered),
            "steps": steps.collect::<Vec<_>>(),
            "rules": held.collect::<Vec<_>>(),
            "refusal": refusal(&line.event, line.page, rules),
        })
    });
    let at = replay.at();
    let broken = problem.and_then(Problem::step);
    json!({
        "step": at,
        // The version line is the first.
        "line": at.saturating_add(1),
        "profile": rules.to_string(),
        "event": event,
        "broken": broken == Some(at),
        "beyond": broken.is_some_and(|broken| at > broken),
        "panels": panels,
    })
}

fn refusal(event: &Event, page: Option<u32>, rules: Rules) -> Option<Value> {
    let Event::Refuse { pfn, refusal, last } = event else {
        return None;
    };
    Some(json!({
        "page": page.map(|page| format!("p{page}")),
        "frame": format!("f{}", pfn.raw()),
        "last": last,
        "word": refusal.word(),
        "value": format!("{refusal:?}"),
        "text": refusal.to_string(),
        "advice": refusal.advice(),
        "transient": refusal.is_transient(),
        "errno": refusal.errno(rules),
    }))
}

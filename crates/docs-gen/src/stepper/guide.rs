//! What the page says of each event, step, rule and refusal: the code's own comments, and where they stand.

use std::path::Path;

use mm_types::trace::steps;
use mm_types::{Refusal, Rules};
use serde_json::{Map, Value, json};

use super::checker::{checks, rules};
use super::places::{Place, Source, begins, names};
use crate::Error;
use crate::source::{Members, variant};

const EVENTS: &str = "crates/mm-types/src/trace/event.rs";
const STEPS: &str = "crates/mm-types/src/trace/steps.rs";
const INVARIANTS: &str = "crates/mm-types/src/invariant.rs";
const VIOLATION: &str = "crates/mm-types/src/trace/checker/violation.rs";
const OUTCOMES: &str = "crates/mm-types/src/outcome.rs";

/// Where events are raised, and what of it is not the code that migrates.
const CORE: &str = "crates/migrate-core/src";
const NOT_RAISING: &[&str] = &["/conformance/", "/fixture/", "/invariants/", "tests.rs"];
/// What only the model raises is linked there: a fault is the kernel's.
const MODEL: &str = "/model/";

/// Makes the guide; `base` is where the source tree is, seen from the page.
pub(super) fn guide(root: &Path, base: &str) -> Result<Value, Error> {
    let gap = |what| Error::Gap { block: "stepper", what };
    Ok(json!({
        "base": base,
        "events": events(root)?,
        "steps": documented(root).and_then(|steps| steps.map_err(gap))?,
        "rules": rule_texts(root).and_then(|rules| rules.map_err(gap))?,
        "refusals": refusals(root).and_then(|refusals| refusals.map_err(gap))?,
    }))
}

fn events(root: &Path) -> Result<Value, Error> {
    let gap = |what| Error::Gap { block: "stepper", what };
    let source = Source::read(root, EVENTS)?;
    let members = Members::read(&source.text, "pub enum Event {");
    let mut core = Source::folder(root, CORE)?;
    core.retain(|source| !NOT_RAISING.iter().any(|part| source.file.contains(part)));
    let checks = checks(root)?;
    let mut events = Map::new();
    for name in members.names() {
        let says = members.doc(name).map_err(gap)?;
        let raised = raised(&core, name);
        if raised.is_empty() {
            return Err(gap(format!("nobody raises {name}")));
        }
        let held = checks
            .get(name)
            .ok_or_else(|| gap(format!("the checker knows no {name}")))?;
        let mut by_rule: Map<String, Value> = Map::new();
        for check in &held.checks {
            let all = by_rule.entry(check.rule).or_insert_with(|| json!([]));
            if let Value::Array(all) = all {
                all.push(json!({ "what": check.what, "file": check.at.file, "line": check.at.line }));
            }
        }
        let raised: Vec<_> = raised.iter().map(Place::json).collect();
        events.insert(
            name.to_owned(),
            json!({
                "says": says,
                "raised": raised,
                "function": held.function.as_ref().map(Place::json),
                "checks": by_rule,
            }),
        );
    }
    Ok(Value::Object(events))
}

/// Where an event is raised: in the core, or where only the model does, there.
fn raised(core: &[Source], name: &str) -> Vec<Place> {
    let note = format!("Event::{name}");
    let lines = core
        .iter()
        .flat_map(|source| source.all(|line| line.contains("note(||") && names(line, &note)));
    let (model, own): (Vec<_>, Vec<_>) = lines.partition(|place| place.file.contains(MODEL));
    if own.is_empty() { model } else { own }
}

fn documented(root: &Path) -> Result<Result<Value, String>, Error> {
    let source = Source::read(root, STEPS)?;
    Ok([
        (Rules::Linux2617, "const STEPS_2006"),
        (Rules::Modern, "const STEPS_MODERN"),
    ]
    .into_iter()
    .map(|(rules, head)| {
        let numbered = steps(rules).iter().map(|step| {
            let number = format!("\"{}\",", step.number);
            let at = source.after(head, |line| {
                line.starts_with(&number) || line.starts_with(&format!("step({number}"))
            })?;
            Ok((step.number.to_owned(), at.json()))
        });
        Ok((
            rules.to_string(),
            Value::Object(numbered.collect::<Result<_, String>>()?),
        ))
    })
    .collect::<Result<Map<_, _>, String>>()
    .map(Value::Object))
}

fn rule_texts(root: &Path) -> Result<Result<Value, String>, Error> {
    const LIST: &str = "invariants! {";
    const RULES: &str = "pub enum Rule {";
    let (invariants, violation) = (Source::read(root, INVARIANTS)?, Source::read(root, VIOLATION)?);
    let sentences = Members::read(&invariants.text, LIST);
    let order = Members::read(&violation.text, RULES);
    Ok(rules()
        .map(|(id, invariant)| {
            let (says, at) = match invariant {
                Some(invariant) => {
                    let name = variant(&invariant);
                    (
                        sentences.doc(&name)?,
                        invariants.after(LIST, |line| begins(line, &name))?,
                    )
                }
                None => (
                    order.doc("StepOrder")?,
                    violation.after(RULES, |line| begins(line, "StepOrder"))?,
                ),
            };
            Ok((id.to_owned(), json!({ "says": says, "at": at.json() })))
        })
        .collect::<Result<Map<_, _>, String>>()
        .map(Value::Object))
}

fn refusals(root: &Path) -> Result<Result<Value, String>, Error> {
    const HEAD: &str = "pub enum Refusal {";
    let source = Source::read(root, OUTCOMES)?;
    let members = Members::read(&source.text, HEAD);
    Ok(Refusal::EXAMPLES
        .iter()
        .map(|refusal| {
            let name = variant(refusal);
            let at = source.after(HEAD, |line| begins(line, &name))?;
            Ok((
                refusal.word().to_owned(),
                json!({ "says": members.doc(&name)?, "at": at.json() }),
            ))
        })
        .collect::<Result<Map<_, _>, String>>()
        .map(Value::Object))
}

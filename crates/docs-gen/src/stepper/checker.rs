//! Where in the checker each event meets each rule.
//!
//! The checker is a function for each event, in three files, and some that they call. `rustfmt` makes its text regular enough to
//! be read line by line; a test asks that each rule of `trace_tools::rules_of`, which says as data what an event is held against, is found.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use mm_types::Invariant;
use mm_types::trace::Rule;

use super::places::{Place, Source, names};
use crate::Error;
use crate::source::variant;

const FOLDER: &str = "crates/mm-types/src/trace/checker";
const TESTS: &str = "crates/mm-types/src/trace/checker/tests";

/// Lines after the name of a rule within which its message follows.
const NEAR: usize = 3;

/// One thing that the checker holds an event against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The rule's number.
    pub rule: &'static str,
    /// What the checker says when it is broken.
    pub what: String,
    /// Where it stands.
    pub at: Place,
}

/// What the checker does with one kind of event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// The function that has the event; none where nothing is checked.
    pub function: Option<Place>,
    /// What it checks, and what those do that it calls.
    pub checks: Vec<Check>,
}

/// What one function does: what it checks, and whom it calls.
#[derive(Debug, Default)]
struct Function {
    at: Option<Place>,
    checks: Vec<Check>,
    calls: Vec<String>,
}

/// Reads the checker, and returns what it holds each kind of event against.
///
/// # Errors
/// A file cannot be read, or the function of an event is not found.
pub fn checks(root: &Path) -> Result<BTreeMap<String, Held>, Error> {
    let sources: Vec<_> = Source::folder(root, FOLDER)?
        .into_iter()
        .filter(|source| !source.file.starts_with(TESTS))
        .collect();
    let gap = |what| Error::Gap { block: "stepper", what };
    let bodies: Vec<_> = sources.iter().flat_map(bodies).collect();
    let known: BTreeSet<&str> = bodies.iter().map(|body| body.name).collect();
    let functions: BTreeMap<&str, Function> = bodies.iter().map(|body| (body.name, function(body, &known))).collect();
    let arms = sources
        .iter()
        .find_map(arms)
        .ok_or_else(|| gap("the checker's `step` was not found".to_owned()))?;
    arms.into_iter()
        .map(|(event, name)| {
            let mut held = Held::default();
            if let Some(name) = &name {
                let function = functions.get(name.as_str());
                let function = function.ok_or_else(|| gap(format!("the checker has no function {name}")))?;
                held.function.clone_from(&function.at);
                collect(&functions, name, &mut BTreeSet::new(), &mut held.checks);
            }
            Ok((event, held))
        })
        .collect()
}

/// A function's text.
struct Body<'a> {
    name: &'a str,
    source: &'a Source,
    // With their numbers from 0.
    lines: Vec<(usize, &'a str)>,
}

/// The functions of a file.
fn bodies(source: &Source) -> Vec<Body<'_>> {
    let mut bodies = Vec::new();
    let mut lines = source.text.lines().enumerate();
    while let Some((_, line)) = lines.next() {
        let Some((before, after)) = line.split_once("fn ") else {
            continue;
        };
        let indent = line.len() - line.trim_start().len();
        let declares = before.trim().is_empty() || before.trim_start().starts_with("pub") || before.trim() == "const";
        if !declares || line.trim_end().ends_with('}') {
            continue;
        }
        let name = after.split(['(', '<']).next().unwrap_or_default();
        let end = format!("{}}}", " ".repeat(indent));
        bodies.push(Body {
            name,
            source,
            lines: lines.by_ref().take_while(|(_, line)| *line != end).collect(),
        });
    }
    bodies
}

fn function(body: &Body<'_>, known: &BTreeSet<&str>) -> Function {
    let (source, lines) = (body.source, &body.lines);
    // A body begins below its head.
    let head = lines.first().and_then(|(n, _)| n.checked_sub(1));
    let mut function = Function {
        at: head.map(|n| source.place(n)),
        ..Function::default()
    };
    for (at, (n, line)) in lines.iter().enumerate() {
        let near = lines
            .iter()
            .skip(at)
            .take(NEAR)
            .map(|(_, line)| *line)
            .collect::<Vec<_>>()
            .join("\n");
        for rule in Rule::ALL {
            let name = match rule {
                Rule::Invariant(invariant) => format!("Invariant::{}", variant(invariant)),
                Rule::StepOrder => "Rule::StepOrder".to_owned(),
            };
            let message = near.split_once(&name).and_then(|(_, rest)| rest.split('"').nth(1));
            if let (true, Some(message)) = (names(line, &name), message) {
                function.checks.push(Check {
                    rule: rule.id(),
                    what: message.to_owned(),
                    at: source.place(*n),
                });
            }
        }
        for name in known {
            let call = format!("{name}(");
            let called = line.match_indices(&call).any(|(at, _)| {
                let before = line[..at].chars().next_back();
                line[..at].ends_with("self.") || before.is_none_or(|before| before == ' ')
            });
            if called {
                function.calls.push((*name).to_owned());
            }
        }
    }
    function
}

fn collect(functions: &BTreeMap<&str, Function>, name: &str, seen: &mut BTreeSet<String>, into: &mut Vec<Check>) {
    let Some(function) = functions.get(name) else { return };
    if !seen.insert(name.to_owned()) {
        return;
    }
    into.extend(function.checks.iter().cloned());
    for call in &function.calls {
        collect(functions, call, seen, into);
    }
}

/// Each kind of event, and the function that has it; none where nothing is checked.
fn arms(source: &Source) -> Option<Vec<(String, Option<String>)>> {
    let step = bodies(source).into_iter().find(|body| body.name == "step")?;
    let mut arms = Vec::new();
    let mut waiting: Vec<String> = Vec::new();
    for (_, line) in step.lines {
        for (at, _) in line.match_indices("Event::") {
            let name = line[at + "Event::".len()..]
                .chars()
                .take_while(|next| next.is_alphanumeric())
                .collect();
            waiting.push(name);
        }
        if let Some((_, does)) = line.split_once("=> ") {
            let function = does.strip_prefix("self.").and_then(|call| call.split('(').next());
            arms.extend(waiting.drain(..).map(|event| (event, function.map(str::to_owned))));
        }
    }
    Some(arms)
}

/// Every rule that a check can name, by its number: the invariant it is, if it is one.
pub(super) fn rules() -> impl Iterator<Item = (&'static str, Option<Invariant>)> {
    Rule::ALL.iter().map(|rule| (rule.id(), rule.invariant()))
}

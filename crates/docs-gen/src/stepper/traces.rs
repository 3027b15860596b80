//! The traces that come with the page: those of the scenarios, what old bugs left, and some that are wrong on purpose.

use migrate_core::conformance::{Recorded, scenarios};
use migrate_core::fixture::{Replay, run_scenario};
use migrate_core::model::ModelFixture;
use mm_types::Rules;
use mm_types::trace::{CheckError, check_text};
use serde_json::{Value, json};

use crate::exhibits::{EXHIBITS, Exhibit, Finding};

/// A trace to pick.
#[derive(Clone, Debug)]
pub struct Trace {
    /// What it is called.
    pub name: String,
    /// What it stands under.
    pub group: &'static str,
    /// A sentence about it.
    pub about: String,
    /// The trace.
    pub text: String,
}

/// What stands over the traces of the bug museum.
pub const MUSEUM: &str = "Old bugs";

/// What stands over the traces that were spoiled.
pub const WRONG: &str = "Wrong on purpose";

/// What the page opens with.
const FIRST: &str = "fault_in_the_middle.modern";

pub(super) fn json(traces: &[Trace]) -> Value {
    let all = traces
        .iter()
        .map(|trace| json!({ "name": trace.name, "group": trace.group, "about": trace.about, "text": trace.text }));
    Value::Array(all.collect())
}

/// Returns the traces, the one to begin with first.
///
/// # Errors
/// A scenario does not run, or a trace that is meant to be right or wrong is not.
pub fn traces() -> Result<Vec<Trace>, String> {
    let mut traces = scenarios().iter().map(scenario).collect::<Result<Vec<_>, _>>()?;
    traces.sort_by_key(|trace| trace.name != FIRST);
    let model = traces
        .first()
        .filter(|trace| trace.name == FIRST)
        .ok_or("the first scenario is gone")?
        .text
        .clone();
    for exhibit in EXHIBITS {
        traces.push(museum(exhibit)?);
    }
    traces.extend(wrong(&model)?);
    Ok(traces)
}

fn scenario(recorded: &Recorded) -> Result<Trace, String> {
    let (group, word) = match recorded.profile.rules {
        Rules::Modern => ("Today", "modern"),
        Rules::Linux2617 => ("2.6.17", "linux"),
    };
    let name = format!("{}.{word}", recorded.name);
    let ran = run_scenario(&mut ModelFixture::new(), recorded.text, Some(recorded.profile));
    let text = match ran.map_err(|error| format!("{name}: {error}"))? {
        Replay::Ran(report) => report.trace(),
        Replay::NotApplicable { lacks } => return Err(format!("{name}: the model has no {lacks}")),
    };
    check_text(&text).map_err(|error| format!("{name}: {error}"))?;
    let comments = recorded.text.lines().filter_map(|line| line.strip_prefix("# "));
    Ok(Trace {
        name,
        group,
        about: comments.collect::<Vec<_>>().join(" "),
        text,
    })
}

/// What a build with an old bug recorded.
fn museum(exhibit: &Exhibit) -> Result<Trace, String> {
    let bug = exhibit.catalogued()?;
    let seen = match exhibit.finding()? {
        Finding::Line(_) => String::new(),
        // What breaks is in what a trace does not tell.
        Finding::Recount(noticed) => format!(" The recount says: {noticed}."),
    };
    Ok(Trace {
        name: format!("bug {}", exhibit.id),
        group: MUSEUM,
        about: format!(
            "{} (fixed in Linux: {}; breaks {}).{seen}",
            bug.scenario,
            bug.fix,
            bug.breaks.id()
        ),
        text: exhibit.trace().to_owned(),
    })
}

/// A migration whose trace was spoiled: what a checker is for.
fn wrong(right: &str) -> Result<Vec<Trace>, String> {
    let without = |words: &str| {
        let (before, after) = right
            .split_once(words)
            .ok_or_else(|| format!("no {words:?} to leave out"))?;
        Ok::<_, String>(format!(
            "{before}\n{}",
            after.split_once('\n').map_or("", |(_, rest)| rest)
        ))
    };
    let cut = right.len() / 2;
    let traces = [
        (
            "flush_left_out",
            "The first flush is left out: a processor may still write to the page that is copied.",
            without("\nflush ")?,
        ),
        (
            "wake_left_out",
            "The thread that waits is never woken.",
            without("\nwake ")?,
        ),
        (
            "cut_off",
            "The second half of the file is missing.",
            right[..cut].to_owned(),
        ),
        (
            "another_version",
            "A version that nobody has written yet.",
            right.replacen("trace v1", "trace v9", 1),
        ),
    ];
    let traces = traces.map(|(name, about, text)| Trace {
        name: name.to_owned(),
        group: WRONG,
        about: about.to_owned(),
        text,
    });
    for trace in &traces {
        match check_text(&trace.text) {
            Err(CheckError::Violation(_) | CheckError::Parse(_)) => {}
            other => return Err(format!("{} should be wrong: {other:?}", trace.name)),
        }
    }
    Ok(traces.into())
}

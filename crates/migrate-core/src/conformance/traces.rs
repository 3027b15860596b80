//! Scenarios, and the trace that the model leaves of each: recorded, and the same on every backend.

use alloc::{format, string::String};

use mm_types::trace::{HEADER, numbered_text};

use super::contract as promise;
use super::verdict::{Done, Halt, broken};
use crate::Profile;
use crate::fixture::{Fixture, Replay, Report, ScenarioError, run_scenario};

/// A scenario by the rules of one profile, and what the model leaves of it.
#[derive(Clone, Copy, Debug)]
pub struct Recorded {
    /// The scenario's name.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
    /// The snapshot that is recorded of the model: what [`readable`] says, after a head of its own.
    pub snapshot: &'static str,
    /// Whose rules.
    pub profile: &'static Profile,
}

impl Recorded {
    /// Returns what the model leaves, as [`readable`] says it.
    #[must_use]
    pub fn readable(&self) -> &'static str {
        let mut parts = self.snapshot.splitn(3, "---\n");
        parts.nth(2).unwrap_or(self.snapshot).trim_end()
    }

    /// Returns the trace alone, as a text that the trace's own reader takes.
    #[must_use]
    pub fn trace(&self) -> String {
        let mut trace = format!("{HEADER}\n");
        let readable = self.readable().lines();
        for line in readable.filter(|line| !line.starts_with('#') && !line.starts_with("run: ")) {
            // The numbers of the documented steps, or as many blanks.
            trace.push_str(line.get(8..).unwrap_or_default());
            trace.push('\n');
        }
        trace
    }
}

/// Returns what the scenario says, what happened, step by step, and where the pages ended.
///
/// # Errors
/// A trace that cannot be read.
pub fn readable(text: &str, report: &Report) -> Result<String, mm_types::trace::ParseError> {
    let mut readable = String::new();
    for line in text.lines().filter(|line| line.starts_with('#')) {
        readable.push_str(line);
        readable.push('\n');
    }
    readable.push_str(&numbered_text(&report.trace())?);
    for run in &report.runs {
        readable.push_str(&format!("{run}\n"));
    }
    Ok(readable)
}

/// Runs the scenario and compares what it leaves with what the model left.
pub(super) fn leaves_the_models_trace<F: Fixture>(mut fixture: F, recorded: &Recorded) -> Done {
    let replay = run_scenario(&mut fixture, recorded.text, Some(recorded.profile)).map_err(|error| match error {
        ScenarioError::Check(text) => broken(promise::of_check(&text), text),
        ScenarioError::Trace(text) => broken(promise::TRACE, text),
        ScenarioError::Step { line, .. } | ScenarioError::Declared { line, .. } => {
            let step = recorded.text.lines().nth(line.saturating_sub(1)).unwrap_or("(its end)");
            broken(promise::DONE, format!("{step}: {error}"))
        }
        ScenarioError::Asleep { .. } => broken(promise::UNLOCK, format!("{error}")),
        other => broken(promise::SAME_TRACE, format!("{other}")),
    })?;
    let report = match replay {
        Replay::Ran(report) => report,
        Replay::NotApplicable { lacks } => return Err(Halt::Lacks(lacks)),
    };
    let here = readable(recorded.text, &report).map_err(|error| broken(promise::TRACE, format!("{error}")))?;
    match first_difference(here.trim_end(), recorded.readable()) {
        None => Ok(()),
        Some(difference) => Err(broken(promise::SAME_TRACE, difference)),
    }
}

/// The first line in which two texts differ, and both texts.
fn first_difference(here: &str, model: &str) -> Option<String> {
    let lines = here.lines().map(Some).chain(core::iter::repeat(None));
    let others = model.lines().map(Some).chain(core::iter::repeat(None));
    let both = lines.zip(others).take_while(|both| *both != (None, None));
    let (n, (mine, theirs)) = (1u32..).zip(both).find(|(_, (mine, theirs))| mine != theirs)?;
    let or = |line: Option<&str>| String::from(line.unwrap_or("(nothing)"));
    Some(format!(
        "line {n} is\n    {}\n  where the model has\n    {}\n--- here\n{here}\n--- the model\n{model}",
        or(mine),
        or(theirs)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_differ_are_told_at_the_first_line_that_does() {
        assert_eq!(first_difference("a\nb", "a\nb"), None);
        let told = first_difference("a\nb\nc", "a\nx").unwrap();
        assert!(
            told.starts_with("line 2 is\n    b\n  where the model has\n    x\n"),
            "{told}"
        );
        let told = first_difference("a", "a\nx").unwrap();
        assert!(told.starts_with("line 2 is\n    (nothing)\n"), "{told}");
    }
}

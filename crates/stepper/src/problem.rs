//! What is wrong with a trace, as the page says it.

use mm_types::trace::{CheckError, Violation};
use serde_json::{Value, json};
use trace_tools::Unreadable;

/// Characters of a bad line that are shown around the place.
const AROUND: usize = 60;

/// Why a trace cannot be shown, or can be and is wrong.
#[derive(Clone, Debug)]
pub enum Problem {
    /// The bytes stop being a trace here; what comes before is shown.
    Unreadable {
        /// Where, and what was expected.
        error: Unreadable,
        /// The line around the place, and how many characters of it come before the place.
        excerpt: (String, usize),
    },
    /// The trace breaks a rule.
    Broken {
        /// The step, counted from 1; the number of steps where the trace ends too early.
        step: usize,
        /// The rule, and what was seen.
        violation: Violation,
    },
    /// The checker gave up.
    Unchecked(CheckError),
}

impl Problem {
    /// Describes an error in `bytes`.
    #[must_use]
    pub fn unreadable(bytes: &[u8], error: Unreadable) -> Self {
        let line = bytes
            .split(|byte| *byte == b'\n')
            .nth(error.line.saturating_sub(1))
            .unwrap_or_default();
        let at = error.column.saturating_sub(1).min(line.len());
        // A line of ten megabytes is not shown whole.
        let from = at.saturating_sub(AROUND);
        let to = at.saturating_add(AROUND).min(line.len());
        let (before, after) = (
            String::from_utf8_lossy(&line[from..at]),
            String::from_utf8_lossy(&line[at..to]),
        );
        let before = format!("{}{before}", if from > 0 { "…" } else { "" });
        let after = format!("{after}{}", if to < line.len() { "…" } else { "" });
        let column = before.chars().count();
        Self::Unreadable {
            error,
            excerpt: (format!("{before}{after}"), column),
        }
    }

    /// Returns the step that the problem is about, if it is one of a trace that can be stepped through.
    #[must_use]
    pub const fn step(&self) -> Option<usize> {
        match self {
            Self::Broken { step, .. } => Some(*step),
            Self::Unreadable { .. } | Self::Unchecked(_) => None,
        }
    }

    pub(crate) fn json(&self) -> Value {
        match self {
            Self::Unreadable { error, excerpt } => json!({
                "kind": "unreadable",
                "line": error.line,
                "column": error.column,
                "what": error.what,
                "excerpt": excerpt.0,
                "caret": excerpt.1,
            }),
            Self::Broken { step, violation } => json!({
                "kind": "broken",
                "step": step,
                "line": violation.line,
                // A rule is broken by a line as a whole.
                "column": 1,
                "rule": violation.rule.id(),
                "says": violation.rule.rule(),
                "what": violation.what,
                "ends": violation.event.is_none(),
            }),
            Self::Unchecked(error) => json!({ "kind": "unchecked", "what": error.to_string() }),
        }
    }
}

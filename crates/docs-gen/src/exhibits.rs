//! The bug museum's recordings: what a bug leaves in a trace, beside what the system leaves without it.
//!
//! An exhibit is a scenario and what the model left of it with the bug switched on: the trace, and, where the run or the recount
//! at its end noticed something, a last line that says so. The same scenario is run again whenever the documents are made,
//! without the bug: that trace has to pass the checker. The recorded one has to break the invariant that the museum's catalogue
//! names. A build with `--cfg museum` records again and compares (`tests/museum.rs`, which `ci/museum` runs).

use core::panic::AssertUnwindSafe;
use std::panic::catch_unwind;

use migrate_core::fixture::{ScenarioError, run_scenario};
use migrate_core::model::ModelFixture;
use mm_types::museum::{BUGS, Exhibit as Catalogued};
use mm_types::trace::{CheckError, Violation, check_text, text_of};

/// What begins the line that says what was noticed besides the trace.
const NOTICED: &str = "# ";

/// A bug, a scenario in which it shows, and what was recorded.
#[derive(Clone, Copy, Debug)]
pub struct Exhibit {
    /// Its number in the catalogue.
    pub id: &'static str,
    /// The scenario.
    pub scenario: &'static str,
    /// What was recorded with the bug switched on.
    pub recorded: &'static str,
}

macro_rules! exhibits {
    ($($id:literal)*) => {
        /// Every exhibit, in the order of the numbers.
        pub const EXHIBITS: &[Exhibit] = &[$(Exhibit {
            id: $id,
            scenario: include_str!(concat!("book/museum/", $id, ".scn")),
            recorded: include_str!(concat!("book/museum/", $id, ".trace")),
        }),*];
    };
}

exhibits! { "B10" "B16" "B20" "B22" "B28" "B37" "B50" "B53" "B59" "B69" "RSS" }

/// What a search in a live process printed of the several sites of a page, with that bug switched on (`ci/museum PROT_READ`).
pub const LIVE: &str = include_str!("book/museum/PROT_READ.txt");

/// Returns what the catalogue says of the bug of [`LIVE`].
///
/// # Errors
/// The catalogue has no such bug, or what was recorded shows none: no reader saw less than had been written.
pub fn live() -> Result<&'static Catalogued, String> {
    let id = "PROT_READ";
    let stale = |line: &str| {
        let (seen, rest) = line.rsplit_once(": ")?.1.split_once(" was read after ")?;
        let written = rest.split_once(' ')?.0;
        Some(seen.parse::<u64>().ok()? < written.parse::<u64>().ok()?)
    };
    if !LIVE.lines().any(|line| stale(line) == Some(true)) {
        return Err(format!("{id}: nothing stale was read"));
    }
    catalogued(id)
}

fn catalogued(id: &str) -> Result<&'static Catalogued, String> {
    let found = BUGS.iter().find(|bug| bug.id == id);
    found.ok_or_else(|| format!("the museum has no {id}"))
}

/// How a recording shows that an invariant does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A line of the trace breaks it.
    Line(Violation),
    /// The trace is one that could be, but the recount at the end, or what the scenario expects, says otherwise.
    Recount(String),
}

impl Exhibit {
    /// Returns what the catalogue says of the bug.
    ///
    /// # Errors
    /// The catalogue has no such bug.
    pub fn catalogued(&self) -> Result<&'static Catalogued, String> {
        catalogued(self.id)
    }

    /// Runs the scenario on the system as it is built, and returns what an exhibit's recording is made of.
    #[must_use]
    pub fn record(&self) -> String {
        let mut fixture = ModelFixture::new();
        // A system with a bug may notice it by itself, and panic: then the trace ends there, and says why.
        let ended = catch_unwind(AssertUnwindSafe(|| {
            run_scenario(&mut fixture, self.scenario, None).map(|_| ())
        }));
        let mut text = text_of(fixture.recording().events());
        match ended {
            // What is wrong with the trace is for the checker to say, when the trace is shown.
            Ok(Ok(()) | Err(ScenarioError::Trace(_))) | Err(_) => {}
            Ok(Err(noticed)) => text.push_str(&format!("{NOTICED}{noticed}\n")),
        }
        text
    }

    /// Returns the recorded trace, without what was noticed besides.
    #[must_use]
    pub fn trace(&self) -> &'static str {
        let end = self.recorded.find(&format!("\n{NOTICED}"));
        end.map_or(self.recorded, |end| &self.recorded[..=end])
    }

    /// Returns what was noticed besides the trace.
    fn noticed(&self) -> &'static str {
        let line = self.recorded.lines().last().unwrap_or("");
        line.strip_prefix(NOTICED).unwrap_or("")
    }

    /// Returns how the recording shows that what the catalogue names does not hold.
    ///
    /// # Errors
    /// It does not show it: the trace is none, or breaks something else, and nothing was noticed besides.
    pub fn finding(&self) -> Result<Finding, String> {
        let breaks = self.catalogued()?.breaks;
        let checked = check_text(self.trace());
        if let Err(CheckError::Violation(violation)) = &checked
            && violation.rule == breaks
        {
            return Ok(Finding::Line(*violation));
        }
        let noticed = self.noticed();
        if noticed.contains(&format!(" {}: ", breaks.id())) || noticed.contains(": expected ") {
            return Ok(Finding::Recount(noticed.to_owned()));
        }
        Err(match checked {
            Err(error) => format!("{}: not {breaks}, but: {error}", self.id),
            Ok(_) => format!("{}: the recorded trace breaks nothing", self.id),
        })
    }

    /// Returns the trace that the scenario leaves without the bug.
    ///
    /// # Errors
    /// It is not as the rules are, or something was noticed besides.
    pub fn sound(&self) -> Result<String, String> {
        let text = self.record();
        let good = !text.contains(&format!("\n{NOTICED}"));
        match check_text(&text) {
            Ok(_) if good => Ok(text),
            Ok(_) => Err(format!("{} without the bug: {text}", self.id)),
            Err(error) => Err(format!("{} without the bug: {error}", self.id)),
        }
    }
}

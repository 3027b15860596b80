//! How far each invariant is looked at in the tests that search: which of its checks they make, and how often.
//!
//! Which checks a test makes is read from its source: what it imports of `migrate_core::invariants`, the replay of its traces, and
//! the numbers that the texts of its own failures name. How often it makes them is said here.

use std::collections::BTreeSet;

use mm_types::Invariant;

use crate::checks::{Checks, Place};

/// How often a test looks, the most often first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum When {
    /// Before or at each step of a run.
    Step,
    /// After each call of a program, or of a run.
    Call,
    /// When a run, or a case, is over.
    Run,
    /// After each so many calls and steps.
    Sample,
    /// When everything is over.
    End,
}

impl When {
    /// Returns the words for a table.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Step => "each step",
            Self::Call => "each call",
            Self::Run => "each run",
            Self::Sample => "now and then",
            Self::End => "at the end",
        }
    }
}

/// A test that searches.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    /// What the tables call it.
    pub name: &'static str,
    /// The texts of its files, and when what they say themselves is looked at.
    files: &'static [(&'static str, When)],
    /// When its checks are made, by their names.
    calls: &'static [(&'static str, When)],
    /// When those are made that are not named.
    otherwise: When,
    /// How it asks for the check at rest, where it does so through somebody else.
    at_rest: Option<&'static str>,
    /// What it compares without naming a number.
    says: &'static [(Invariant, When)],
    /// It runs on the model, which notices some things by itself.
    on_model: bool,
    /// Of what it checks, its backend has nothing to show.
    cannot: &'static [Invariant],
}

macro_rules! texts {
    ($($when:ident: [$($file:literal),* $(,)?]),* $(,)?) => {
        &[$($((include_str!(concat!("../../", $file)), When::$when)),*),*]
    };
}

const SIMULATION: &[(&str, When)] = texts! {
    Call: [
        "simulation/src/act.rs",
        "simulation/src/act/accesses.rs",
        "simulation/src/act/holds.rs",
        "simulation/src/act/housekeeping.rs",
        "simulation/src/act/mappings.rs",
        "simulation/src/check.rs",
        "simulation/src/packing.rs",
    ],
    Run: ["simulation/src/ran.rs", "simulation/src/there_and_back.rs"],
    Step: ["simulation/src/run.rs"],
};

/// The tests of points that have one: every failure, any order of calls, any interleaving, any backend, at scale, live.
pub const SEARCHES: [Search; 7] = [
    Search {
        name: "every failure",
        files: texts! { Run: [
            "migrate-core/tests/every_failure/check.rs",
            "migrate-core/tests/every_failure/run.rs",
            "migrate-core/tests/every_failure/snapshot.rs",
            "migrate-core/tests/every_failure/stage.rs",
        ] },
        calls: &[("Watch", When::Step), ("check_between_calls", When::Step)],
        otherwise: When::Run,
        at_rest: Some(".check(&"),
        // Each entry is compared with what it was (`Snapshot::same`, `Snapshot::moved`).
        says: &[(Invariant::MappedAsBefore, When::Run)],
        on_model: true,
        cannot: &[],
    },
    Search {
        name: "any order",
        files: SIMULATION,
        calls: &[
            ("Watch", When::Step),
            ("check_between_calls", When::Step),
            ("check_at_rest", When::Call),
            ("check_contents", When::Step),
        ],
        otherwise: When::Run,
        at_rest: None,
        says: &[],
        on_model: true,
        cannot: &[],
    },
    Search {
        name: "loom",
        files: texts! {
            Step: [
                "migrate-core/tests/loom/act.rs",
                "migrate-core/tests/loom/calls.rs",
                "migrate-core/tests/loom/kernel.rs",
                "migrate-core/tests/loom/world.rs",
            ],
            End: ["migrate-core/tests/loom/check.rs", "migrate-core/tests/threads/traces.rs"],
        },
        calls: &[],
        otherwise: When::End,
        at_rest: None,
        says: &[],
        on_model: false,
        cannot: &[],
    },
    Search {
        name: "shuttle",
        files: texts! {
            Step: ["migrate-core/tests/interleavings/steps.rs"],
            Call: [
                "migrate-core/tests/interleavings/crowds.rs",
                "migrate-core/tests/interleavings/files.rs",
                "migrate-core/tests/interleavings/pages.rs",
                "migrate-core/tests/interleavings/spaces.rs",
                "migrate-core/tests/interleavings/swap.rs",
                "migrate-core/tests/interleavings/world.rs",
            ],
            End: ["migrate-core/tests/threads/traces.rs"],
        },
        calls: &[("check_always", When::Sample)],
        otherwise: When::End,
        at_rest: Some(".check(&"),
        says: &[],
        on_model: true,
        cannot: &[],
    },
    Search {
        name: "conformance",
        files: texts! { Run: [
            "migrate-core/src/conformance/bench.rs",
            "migrate-core/src/conformance/call.rs",
            "migrate-core/src/conformance/contract.rs",
            "migrate-core/src/conformance/faults.rs",
            "migrate-core/src/conformance/verdict.rs",
        ] },
        calls: &[],
        otherwise: When::Run,
        at_rest: Some(".check()"),
        says: &[],
        on_model: true,
        cannot: &[],
    },
    Search {
        name: "simulation",
        files: SIMULATION,
        calls: &[
            ("Watch", When::Step),
            ("check_between_calls", When::Sample),
            ("check_at_rest", When::Sample),
            ("check_contents", When::Step),
        ],
        otherwise: When::Run,
        at_rest: None,
        says: &[],
        on_model: true,
        cannot: &[],
    },
    Search {
        name: "storms",
        files: texts! { End: ["../examples/src/storm/mod.rs"] },
        calls: &[],
        otherwise: When::End,
        at_rest: Some(".check()"),
        says: &[(Invariant::Contents, When::Call)],
        on_model: false,
        // The processor shows no translations; there is no swap, nor a count of dirty pages.
        cannot: &[
            Invariant::DirtyCounted,
            Invariant::SwapSlots,
            Invariant::NoStaleTranslation,
        ],
    },
];

/// What is the test's own: not its comments, and not tests of itself.
fn code(text: &str) -> impl Iterator<Item = &str> {
    let end = text.find("#[cfg(test)]").unwrap_or(text.len());
    text[..end].lines().filter(|line| !line.trim_start().starts_with("//"))
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
}

/// True where the file imports the check.
fn imports(text: &str, check: &str) -> bool {
    let (names, from): (&[&str], &str) = match check {
        "Checker" => (&["check_events", "Checker"], "trace::"),
        check => (&[check], "invariants::"),
    };
    let text: String = code(text).flat_map(|line| [line, "\n"]).collect();
    let mut uses = text.split("use ").skip(1).filter_map(|rest| rest.split(';').next());
    uses.any(|of| of.contains(from) && words(of).any(|word| names.contains(&word)))
}

/// True where a text of the file names the invariant by its number.
fn says(text: &str, id: &str) -> bool {
    code(text).any(|line| {
        line.split('"')
            .skip(1)
            .step_by(2)
            .any(|said| words(said).any(|word| word == id))
    })
}

/// True where who makes one check makes another with it.
fn includes(made: &str, check: &str) -> bool {
    made == check
        || match made {
            "check_at_rest" => matches!(check, "check_between_calls" | "check_always" | "recount"),
            "check_between_calls" => check == "check_always",
            "check_run" => matches!(check, "check_entries" | "check_pages" | "check_others"),
            _ => false,
        }
}

impl Search {
    /// Returns the checks that the test makes, and when.
    fn makes(&self, checks: &'static [Checks]) -> Vec<(&'static str, When)> {
        let texts = || self.files.iter().map(|(text, _)| *text);
        let asks = |how: &str| texts().any(|text| code(text).any(|line| line.contains(how)));
        let names: BTreeSet<&str> = checks
            .iter()
            .flat_map(|row| row.checked)
            .map(|place| place.name)
            .collect();
        let mut made: BTreeSet<&str> = names
            .into_iter()
            .filter(|name| texts().any(|text| imports(text, name)))
            .collect();
        // By way of the model or of the machine.
        if self.on_model && asks(".check_always()") {
            made.insert("check_always");
        }
        if self.at_rest.is_some_and(asks) {
            made.insert("check_at_rest");
        }
        let when = |check| self.calls.iter().find(|(at, _)| *at == check).map(|(_, when)| *when);
        made.into_iter()
            .map(|check| (check, when(check).unwrap_or(self.otherwise)))
            .collect()
    }

    /// Returns how often the test looks at what each row is about; `None` where it never does.
    #[must_use]
    pub fn looks(&self, checks: &'static [Checks]) -> Vec<Option<When>> {
        let made = self.makes(checks);
        let by = |place: &Place| {
            let itself = self.on_model && place.file.contains("/src/model/") && place.name != "recount";
            let made = made.iter().filter(|(made, _)| includes(made, place.name));
            made.map(|(_, when)| *when).chain(itself.then_some(When::Step)).min()
        };
        let of_row = |row: &Checks| {
            let id = row.invariant.id();
            let own = self
                .files
                .iter()
                .filter(|(text, _)| says(text, id))
                .map(|(_, when)| *when);
            let said = self
                .says
                .iter()
                .filter(|(at, _)| *at == row.invariant)
                .map(|(_, when)| *when);
            let looks = row.checked.iter().filter_map(by).chain(own).chain(said).min();
            looks.filter(|_| !self.cannot.contains(&row.invariant))
        };
        checks.iter().map(of_row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::CHECKS;

    #[test]
    fn what_a_file_imports_or_says_counts_and_its_comments_and_own_tests_do_not() {
        let text = "//! use crate::invariants::check_run; \"I5\"\nuse crate::invariants::{Held as Counted, check_always};\n\
            fn check_pages() { panic!(\"I7: lost (I33)\") }\n#[cfg(test)]\nuse crate::invariants::Watch; // \"I9\"\n";
        for (name, imported) in [
            ("check_always", true),
            ("Held", true),
            ("check_pages", false),
            ("check_run", false),
            ("Watch", false),
        ] {
            assert_eq!(imports(text, name), imported, "{name}");
        }
        assert!(imports("use mm_types::trace::{Event, check_events};", "Checker"));
        for (id, said) in [("I7", true), ("I33", true), ("I3", false), ("I5", false), ("I9", false)] {
            assert_eq!(says(text, id), said, "{id}");
        }
    }

    #[test]
    fn a_search_that_is_said_to_make_a_check_makes_it() {
        for search in SEARCHES {
            let made = search.makes(CHECKS);
            let makes = |check: &str| made.iter().any(|(made, _)| *made == check);
            for (check, _) in search.calls {
                assert!(makes(check), "{}: {check}", search.name);
            }
            assert!(search.at_rest.is_none() || makes("check_at_rest"), "{}", search.name);
        }
    }

    #[test]
    fn how_often_a_search_looks_follows_from_what_it_makes() {
        let looks = |name: &str, invariant: Invariant| {
            let search = SEARCHES.iter().find(|search| search.name == name).unwrap();
            let row = CHECKS.iter().position(|row| row.invariant == invariant).unwrap();
            search.looks(CHECKS)[row]
        };
        for (name, invariant, when) in [
            ("every failure", Invariant::RootPinned, Some(When::Step)),
            ("every failure", Invariant::DirtyConserved, Some(When::Step)),
            ("every failure", Invariant::DirtyCounted, Some(When::Run)),
            ("every failure", Invariant::StatusOnce, Some(When::Run)),
            ("every failure", Invariant::RoundTrip, None),
            ("any order", Invariant::Isolation, Some(When::Call)),
            ("simulation", Invariant::MapCount, Some(When::Sample)),
            ("simulation", Invariant::AsyncNeverWaits, Some(When::Step)),
            ("loom", Invariant::MapCount, Some(When::End)),
            ("loom", Invariant::SwapSlots, None),
            ("storms", Invariant::NoStaleTranslation, None),
            ("storms", Invariant::References, Some(When::End)),
        ] {
            assert_eq!(looks(name, invariant), when, "{name}: {invariant}");
        }
    }
}

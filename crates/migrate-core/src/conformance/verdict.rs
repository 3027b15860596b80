//! What came of a case, who is told, and the counts.

use alloc::{collections::BTreeMap, string::String};
use core::fmt;

use mm_types::Rules;

use super::contract::{Contract, Failure};
use crate::fixture::Capabilities;

/// A case's name: by whose rules it runs, what it is about, and what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CaseName {
    /// The module of the profile: `modern` or `linux_2_6_17`.
    pub profile: &'static str,
    /// What it is about.
    pub group: &'static str,
    /// What it says, as a sentence.
    pub name: &'static str,
}

impl fmt::Display for CaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::{}::{}", self.profile, self.group, self.name)
    }
}

/// Returns the module in which the cases by `rules` are.
pub(super) const fn profile_word(rules: Rules) -> &'static str {
    match rules {
        Rules::Linux2617 => "linux_2_6_17",
        Rules::Modern => "modern",
    }
}

/// What came of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It ran, and everything was as it must be.
    Passed,
    /// A contract is broken.
    Failed(Failure),
    /// The fixture lacks something that the case needs.
    NotApplicable {
        /// What is lacking.
        lacks: Capabilities,
    },
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.write_str("passed"),
            Self::Failed(failure) => write!(f, "FAILED\n  {failure}"),
            Self::NotApplicable { lacks } => write!(f, "not applicable: the backend has no {lacks}"),
        }
    }
}

/// Who is told of each case; any closure of a name and a verdict is one.
pub trait Reporter {
    /// Called before a case: a kernel that hangs in it has said where.
    fn begins(&mut self, case: CaseName) {
        let _ = case;
    }

    /// Called after a case.
    fn ended(&mut self, case: CaseName, verdict: &Verdict);
}

impl<F: FnMut(CaseName, &Verdict)> Reporter for F {
    fn ended(&mut self, case: CaseName, verdict: &Verdict) {
        self(case, verdict);
    }
}

/// How many cases came to what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Count {
    /// Ran, and passed.
    pub passed: usize,
    /// Failed.
    pub failed: usize,
    /// Not applicable.
    pub not_applicable: usize,
}

impl Count {
    pub(super) fn add(&mut self, verdict: &Verdict) {
        let count = match verdict {
            Verdict::Passed => &mut self.passed,
            Verdict::Failed(_) => &mut self.failed,
            Verdict::NotApplicable { .. } => &mut self.not_applicable,
        };
        *count = count.saturating_add(1);
    }
}

/// The counts of a whole run, by group. Displays as a table.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Counts {
    groups: BTreeMap<&'static str, Count>,
    lacking: BTreeMap<String, usize>,
}

impl Counts {
    pub(super) fn add(&mut self, case: CaseName, verdict: &Verdict) {
        self.groups.entry(case.group).or_default().add(verdict);
        if let Verdict::NotApplicable { lacks } = verdict {
            let times = self.lacking.entry(alloc::format!("{lacks}")).or_default();
            *times = times.saturating_add(1);
        }
    }

    /// Returns the counts of all groups in one.
    #[must_use]
    pub fn total(&self) -> Count {
        self.groups.values().fold(Count::default(), |sum, count| Count {
            passed: sum.passed.saturating_add(count.passed),
            failed: sum.failed.saturating_add(count.failed),
            not_applicable: sum.not_applicable.saturating_add(count.not_applicable),
        })
    }

    /// Returns each group and its counts, by name.
    pub fn groups(&self) -> impl Iterator<Item = (&'static str, Count)> + '_ {
        self.groups.iter().map(|(group, count)| (*group, *count))
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:32} {:>7} {:>7} {:>15}",
            "group", "passed", "failed", "not applicable"
        )?;
        let rows = self.groups().chain(core::iter::once(("all", self.total())));
        for (group, count) in rows {
            let Count {
                passed,
                failed,
                not_applicable,
            } = count;
            writeln!(f, "{group:32} {passed:>7} {failed:>7} {not_applicable:>15}")?;
        }
        for (lacks, times) in &self.lacking {
            writeln!(f, "not applicable for want of {lacks}: {times}")?;
        }
        Ok(())
    }
}

/// Why a case ended early.
#[derive(Clone, Debug)]
pub(crate) enum Halt {
    Failed(Failure),
    Lacks(Capabilities),
}

/// What a case returns.
pub(crate) type Done = Result<(), Halt>;

impl From<Done> for Verdict {
    fn from(done: Done) -> Self {
        match done {
            Ok(()) => Self::Passed,
            Err(Halt::Failed(failure)) => Self::Failed(failure),
            Err(Halt::Lacks(lacks)) => Self::NotApplicable { lacks },
        }
    }
}

pub(super) fn broken(contract: Contract, found: impl Into<String>) -> Halt {
    Halt::Failed(Failure {
        contract,
        found: found.into(),
    })
}

/// Fails with `found` where `holds` is false.
pub(super) fn hold(contract: Contract, holds: bool, found: impl FnOnce() -> String) -> Done {
    if holds { Ok(()) } else { Err(broken(contract, found())) }
}

/// Fails where two values that must be equal are not.
pub(super) fn same<T: PartialEq + fmt::Debug>(contract: Contract, of: &str, found: T, must: T) -> Done {
    hold(contract, found == must, || {
        alloc::format!("{of}: {found:?}, where it must be {must:?}")
    })
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;
    use crate::conformance::contract;

    const CASE: CaseName = CaseName {
        profile: "modern",
        group: "seam",
        name: "a_walk_visits_the_one_entry_of_a_page",
    };

    #[test]
    fn a_failure_names_method_invariant_promise_and_what_was_found() {
        let failed = Verdict::from(hold(contract::WALK, false, || "m0+0x3 was not visited".into()));
        assert_eq!(
            failed.to_string(),
            "FAILED\n  broken contract: Rmap::walk (I6): visits every entry that may map the page or name it in a migration \
             entry\n  found: m0+0x3 was not visited"
        );
        assert_eq!(CASE.to_string(), "modern::seam::a_walk_visits_the_one_entry_of_a_page");
    }

    #[test]
    fn what_is_not_applicable_is_counted_by_what_is_lacking() {
        let mut counts = Counts::default();
        for verdict in [
            Verdict::Passed,
            Verdict::from(Err(Halt::Lacks(Capabilities::FORK))),
            Verdict::from(Err(Halt::Lacks(Capabilities::FORK))),
            Verdict::from(hold(contract::WALK, false, String::new)),
        ] {
            counts.add(CASE, &verdict);
        }
        let total = counts.total();
        assert_eq!((total.passed, total.failed, total.not_applicable), (1, 1, 2));
        let table = counts.to_string();
        assert!(table.ends_with("not applicable for want of fork: 2\n"), "{table}");
        assert_eq!(table.lines().count(), 4, "{table}");
        assert!(table.contains("\nseam "), "{table}");
    }

    #[test]
    fn a_closure_that_reports_is_told_of_each_case() {
        let mut told = alloc::vec::Vec::new();
        let mut reporter = |case: CaseName, verdict: &Verdict| told.push((case, verdict.clone()));
        reporter.begins(CASE);
        reporter.ended(CASE, &Verdict::Passed);
        assert_eq!(told, [(CASE, Verdict::Passed)]);
    }
}

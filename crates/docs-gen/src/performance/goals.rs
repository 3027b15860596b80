//! What the project asks of its engines, in plain copies of a page.

use crate::table::Table;

use super::{Results, Row};

/// What is asked of one row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Goal {
    /// The row's engine.
    pub engine: &'static str,
    /// Its size of a batch.
    pub batch: u32,
    /// More than this is not done.
    pub must: f64,
    /// What is aimed at.
    pub aim: f64,
}

const USER: &str = "user space: memfd, mprotect, mmap";
const PRIVATE: &str = "user space: private pages, userfaultfd";
const X86_64: &str = "page tables of x86-64, no processor";

const fn goal(engine: &'static str, batch: u32, must: f64, aim: f64) -> Goal {
    Goal {
        engine,
        batch,
        must,
        aim,
    }
}

/// All that is asked.
pub const GOALS: &[Goal] = &[
    goal(USER, 1, 22.0, 16.0),
    goal(USER, 64, 3.0, 2.2),
    goal(USER, 512, 2.0, 1.4),
    goal(PRIVATE, 1, 7.0, 5.0),
    goal(PRIVATE, 512, 1.5, 1.2),
    goal(X86_64, 512, 1.3, 1.2),
];

impl Goal {
    /// Returns the row that it is about.
    #[must_use]
    pub fn row<'r>(&self, results: &'r Results) -> Option<&'r Row> {
        let mut rows = results.rows.iter();
        rows.find(|row| row.engine == self.engine && row.batch == Some(self.batch))
    }

    /// Says what a ratio comes to.
    #[must_use]
    pub fn verdict(&self, ratio: f64) -> &'static str {
        if ratio <= self.aim {
            "what is aimed at"
        } else if ratio <= self.must {
            "done, short of the aim"
        } else {
            "not done"
        }
    }
}

/// Returns the goals of rows that were measured, and what these came to, as a table in markdown.
#[must_use]
pub fn goal_table(results: &Results) -> String {
    let mut table = Table::new(["what moves the pages", "batch", "at most", "aim", "ratio", "is"]);
    for goal in GOALS {
        let row = goal.row(results);
        let ratio = row
            .and_then(|row| row.loaded.map(|loaded| loaded.cost).or(row.alone))
            .map(|cost| cost.ratio.median);
        let Some(ratio) = ratio else { continue };
        table.row([
            goal.engine.to_owned(),
            goal.batch.to_string(),
            goal.must.to_string(),
            goal.aim.to_string(),
            format!("{ratio:.2}"),
            goal.verdict(ratio).to_owned(),
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_held_against_both_ends_of_its_goal() {
        let goal = goal(USER, 512, 2.0, 1.4);
        let said = [1.0, 1.4, 1.41, 2.0, 2.01].map(|ratio| goal.verdict(ratio));
        let [done, between, not] = ["what is aimed at", "done, short of the aim", "not done"];
        assert_eq!(said, [done, done, between, between, not]);
    }

    #[test]
    fn each_goal_is_about_a_row_that_was_recorded() {
        let results = Results::recorded().unwrap();
        for goal in GOALS {
            assert!(goal.must >= goal.aim && goal.row(&results).is_some(), "{goal:?}");
        }
        assert_eq!(goal_table(&results).lines().count(), GOALS.len() + 2);
    }
}

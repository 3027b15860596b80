//! The documented steps of page migration, and which of them each event of a trace realises.
//!
//! The kernel's documentation numbers what a migration does. Traces do not carry the numbers, because the code's order
//! is not quite the document's, and the document's changed; a printer puts them back beside the lines:
//!
//! ```text
//! [    5] set_migration_pte p0 f0 site=m0+0x3 was=rw now=write
//!         flush entries=1
//! [ 8-11] switch p0 f0 new=f1 slots=1
//! ```

use core::fmt;

use super::{Event, Line};
use crate::Rules;

/// One documented step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its number: `A1` to `A4` for what the caller does, then numbers with the document's gaps.
    pub number: &'static str,
    /// What is done, in our words.
    pub text: &'static str,
    /// The word of the event that shows it; empty where none does, because the caller does it.
    pub event: &'static str,
}

const fn step(number: &'static str, event: &'static str, text: &'static str) -> Step {
    Step { number, text, event }
}

/// The steps of 2.6.17-rc3-mm1's document. It has no 17 and no 18.
pub const STEPS_2006: &[Step] = &[
    step("A1", "isolate", "take the pages off the LRU and collect them on a list"),
    step("A2", "", "allocate a list of new pages"),
    step(
        "A3",
        "mm_migrate_pages_start",
        "call migrate_pages() with both lists and two for the results",
    ),
    step("A4", "putback", "put what is left, and what moved, back to the LRU"),
    step("1", "lock", "lock the page"),
    step("2", "wait_writeback", "make sure that writeback is over"),
    step(
        "3",
        "new_page",
        "lock the new page, so that whoever finds it early waits",
    ),
    step("4", "set_mapping", "give the new page the settings of the old one"),
    step(
        "5",
        "set_migration_pte",
        "replace every mapping by a migration entry; none may be left",
    ),
    step("6", "freeze", "take the lock of the page cache: lookups wait"),
    step("7", "freeze", "look at the reference count: nobody else may hold one"),
    step("8", "switch", "look whether the cache slot still holds the page"),
    step("9", "switch", "put the new page into the slot"),
    step("10", "switch", "exchange the cache's reference"),
    step(
        "11",
        "switch",
        "drop the lock of the page cache: lookups find the new page and wait for its lock",
    ),
    step("12", "copy", "copy the contents"),
    step("13", "transfer", "copy the remaining flags"),
    step("14", "transfer", "clear the flags of the old page"),
    step("15", "transfer", "start writeback that was queued for the new page"),
    step(
        "16",
        "remove_migration_pte",
        "replace the migration entries by mappings",
    ),
    step(
        "19",
        "unlock",
        "unlock both pages, the new one first: waiters fault again",
    ),
    step("20", "putback", "put the new page on the LRU"),
];

/// The eighteen steps of today's document, in the order of today's code.
pub const STEPS_MODERN: &[Step] = &[
    step("A1", "isolate", "take the pages off the LRU and collect them on a list"),
    step("A2", "", "have a function that allocates a new page for an old one"),
    step("A3", "mm_migrate_pages_start", "call migrate_pages() with both"),
    step("A4", "putback", "put what did not move back to the LRU"),
    step("1", "lock", "lock the page"),
    step("2", "wait_writeback", "make sure that writeback is over"),
    step(
        "3",
        "new_page",
        "lock the new page, so that whoever finds it early waits",
    ),
    step(
        "4",
        "set_migration_pte",
        "replace every mapping by a migration entry; none may be left",
    ),
    step(
        "12",
        "copy",
        "copy the contents; since 6.11 here, where an error can still be undone",
    ),
    step("5", "freeze", "take the lock of the page cache: lookups wait"),
    step("6", "freeze", "freeze the reference count: nobody else may hold one"),
    step("7", "freeze", "look whether the cache slot still holds the page"),
    step("8", "set_mapping", "give the new page the settings of the old one"),
    step("9", "switch", "put the new page into the slot"),
    step("10", "switch", "exchange the cache's reference"),
    step(
        "11",
        "switch",
        "drop the lock of the page cache: lookups find the new page and wait for its lock",
    ),
    step("13", "transfer", "copy the remaining flags"),
    step("14", "transfer", "clear the flags of the old page"),
    step("15", "transfer", "start writeback that was queued for the new page"),
    step(
        "16",
        "remove_migration_pte",
        "replace the migration entries by mappings",
    ),
    step(
        "17",
        "unlock",
        "unlock both pages, the new one first: waiters fault again",
    ),
    step("18", "putback", "put the new page on the LRU"),
];

/// Returns the steps of a system's document.
#[must_use]
pub const fn steps(rules: Rules) -> &'static [Step] {
    match rules {
        Rules::Linux2617 => STEPS_2006,
        Rules::Modern => STEPS_MODERN,
    }
}

/// Knows where in a trace it is, and so which steps a line realises.
#[derive(Clone, Copy, Debug)]
pub struct Stepper {
    rules: Rules,
    in_run: bool,
}

impl Stepper {
    /// Makes a stepper for a trace whose first run, as far as lines come before it, follows `rules`.
    #[must_use]
    pub const fn new(rules: Rules) -> Self {
        Self { rules, in_run: false }
    }

    /// Returns the line with its steps; lines must come in their order.
    pub fn number(&mut self, line: Line) -> Numbered {
        match line.event {
            Event::Start { rules, .. } => (self.rules, self.in_run) = (rules, true),
            Event::End { .. } => self.in_run = false,
            _ => {}
        }
        let word = match line.event {
            Event::Unmap { .. } => "set_migration_pte",
            _ => line.event.word(),
        };
        // The new page goes to the LRU within a run; what is put back outside is the caller's.
        let callers = matches!(line.event, Event::Isolate(_) | Event::Start { .. })
            || (matches!(line.event, Event::Putback(_)) && !self.in_run);
        let shown = |step: &&Step| step.event == word && step.number.starts_with('A') == callers;
        let mut numbers = steps(self.rules).iter().filter(shown).map(|step| step.number);
        let first = numbers.next();
        Numbered {
            first,
            last: numbers.next_back(),
            line,
        }
    }
}

/// A line of a trace and the documented steps it realises; prints both.
#[derive(Clone, Copy, Debug)]
pub struct Numbered {
    /// The first step; `None` where the document does not speak of the event.
    pub first: Option<&'static str>,
    /// The last, where there are several.
    pub last: Option<&'static str>,
    /// The line.
    pub line: Line,
}

impl fmt::Display for Numbered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.first, self.last) {
            (Some(first), Some(last)) => {
                let room = 5usize.saturating_sub(last.len()).saturating_sub(1);
                write!(f, "[{first:>room$}-{last}] {}", self.line)
            }
            (Some(first), None) => write!(f, "[{first:>5}] {}", self.line),
            (None, _) => write!(f, "{:8}{}", "", self.line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Lines;
    use std::{string::String, string::ToString, vec::Vec};

    fn pretty(rules: Rules, text: &str) -> Vec<String> {
        let mut stepper = Stepper::new(rules);
        Lines::new(text)
            .unwrap()
            .map(|line| stepper.number(line.unwrap()).to_string())
            .collect()
    }

    const TEXT: &str = "trace v1
isolate p0 f0
mm_migrate_pages_start profile=linux-2.6.17 mode=sync reason=damon
lock p0 f0
set_swap_pte p0 f0 site=m0+0x3 was=rw now=swap:0:0x1
flush entries=1
freeze p0 f0 expected=2
switch p0 f0 new=f1 slots=1
transfer p0 f0 new=f1 flags=uptodate
unlock p0 f1
putback p0 f1
mm_migrate_pages succeeded=1 failed=0 left=0
putback f0
";

    #[test]
    fn lines_carry_the_numbers_of_the_2006_document() {
        let lines = pretty(Rules::Linux2617, TEXT);
        let numbers: Vec<_> = lines.iter().map(|line| &line[..7]).collect();
        assert_eq!(
            numbers,
            [
                "[   A1]", "[   A3]", "[    1]", "[    5]", "       ", "[  6-7]", "[ 8-11]", "[13-15]", "[   19]",
                "[   20]", "       ", "[   A4]"
            ]
        );
        assert_eq!(lines[2], "[    1] lock p0 f0");
        assert_eq!(lines[4], "        flush entries=1");
    }

    #[test]
    fn the_documents_number_each_step_once_and_2006_leaves_out_two() {
        for (rules, last, gaps) in [(Rules::Linux2617, 20, [17, 18].as_slice()), (Rules::Modern, 18, &[])] {
            let mut numbers: Vec<u32> = steps(rules)
                .iter()
                .filter_map(|step| step.number.parse().ok())
                .collect();
            numbers.sort_unstable();
            let expected: Vec<u32> = (1..=last).filter(|n| !gaps.contains(n)).collect();
            assert_eq!(numbers, expected);
        }
    }

    #[test]
    fn every_step_that_an_event_shows_names_a_real_event() {
        let lines = crate::trace::examples::lines();
        for step in STEPS_2006.iter().chain(STEPS_MODERN) {
            let known = step.event.is_empty() || lines.iter().any(|line| line.event.word() == step.event);
            assert!(known, "{step:?}");
        }
    }
}

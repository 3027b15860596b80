//! Old bugs: those that a build for the museum can switch on, and those that cannot be had here.

use mm_types::museum::{ABSENT, BUGS};

use crate::table::{Table, code};

pub(super) fn bugs() -> String {
    let mut table = Table::new(["number", "fixed in Linux", "what happened", "breaks", "found by"]);
    for bug in BUGS {
        let searches: Vec<String> = bug.found_by.iter().map(code).collect();
        let others = bug.or.iter().map(|(other, why)| format!("; or {}: {why}", other.id()));
        let breaks = format!("{}{}", bug.breaks.id(), others.collect::<String>());
        table.row([bug.id, bug.fix, bug.scenario, &breaks, &searches.join(", ")]);
    }
    table.to_string()
}

pub(super) fn absent() -> String {
    let mut table = Table::new(["number", "fixed in Linux", "what happened", "why not here"]);
    for bug in ABSENT {
        table.row([bug.id, bug.fix, bug.scenario, bug.reason]);
    }
    table.to_string()
}

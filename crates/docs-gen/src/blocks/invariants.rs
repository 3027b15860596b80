//! The invariants: what must hold, and where a profile is exempt.

use mm_types::{EXEMPTIONS, Invariant, Rules};

use crate::checks::{CHECKS, Place};
use crate::looks::{SEARCHES, When};
use crate::source::{Members, variant};
use crate::table::{Table, code};

const SOURCE: &str = include_str!("../../../mm-types/src/invariant.rs");

/// Every invariant in a sentence.
pub(super) fn table() -> Result<String, String> {
    let members = Members::read(SOURCE, "invariants! {");
    let mut table = Table::new(["number", "what must hold", "scope"]);
    for invariant in Invariant::ALL {
        let sentence = members.doc(&variant(invariant))?;
        table.row([invariant.id(), sentence, invariant.scope().word()]);
    }
    Ok(table.to_string())
}

/// The profile that has a system's rules.
const fn profile(rules: Rules) -> &'static str {
    match rules {
        Rules::Linux2617 => "LINUX_2_6_17",
        Rules::Modern => "MODERN",
    }
}

pub(super) fn exemptions() -> String {
    let mut table = Table::new(["profile", "numbers", "instead"]);
    for exempt in EXEMPTIONS {
        let ids: Vec<_> = exempt.invariants.iter().map(|invariant| invariant.id()).collect();
        table.row([code(profile(exempt.rules)), ids.join(", "), exempt.instead.to_owned()]);
    }
    table.to_string()
}

/// How often each of the tests that search looks at each.
pub(super) fn looked_at() -> String {
    let [a, b, c, d, e, f, g] = SEARCHES.map(|search| search.name);
    let mut table = Table::new(["number", a, b, c, d, e, f, g]);
    let looks = SEARCHES.map(|search| search.looks(CHECKS));
    for (n, row) in CHECKS.iter().enumerate() {
        let [a, b, c, d, e, f, g] = looks.each_ref().map(|looks| looks[n].map_or("–", When::words));
        table.row([row.invariant.id(), a, b, c, d, e, f, g]);
    }
    table.to_string()
}

/// Where each is checked, and which tests break it.
pub(super) fn checked() -> String {
    let mut table = Table::new(["number", "checked by", "broken on purpose by"]);
    let names = |places: &[Place]| {
        let mut names: Vec<_> = places.iter().map(|place| code(place.name)).collect();
        // The checker has several files.
        names.dedup();
        names.join(", ")
    };
    for row in CHECKS {
        let id = row.invariant.id().to_owned();
        table.row([id, names(row.checked), names(row.broken)]);
    }
    table.to_string()
}

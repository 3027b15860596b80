//! The invariants: what must hold, and where a profile is exempt.

use mm_types::{EXEMPTIONS, Invariant, Rules};

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

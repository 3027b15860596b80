//! The traces of the shared scenarios.

use migrate_core::conformance::{Recorded, scenarios};
use mm_types::Rules;

/// A scenario's name, with the profile's word.
pub(crate) fn name(scenario: &Recorded) -> String {
    let word = match scenario.profile.rules {
        Rules::Linux2617 => "linux",
        Rules::Modern => "modern",
    };
    format!("{}.{word}", scenario.name)
}

/// The trace of the scenario with that name.
pub(crate) fn trace(wanted: &str) -> String {
    let found = scenarios().iter().find(|scenario| name(scenario) == wanted);
    found.unwrap_or_else(|| panic!("no scenario {wanted}")).trace()
}

//! The kernel's traces beside the model's.

use std::collections::BTreeMap;
use std::fs;

use migrate_core::fixture::{Replay, run_scenario};
use migrate_core::model::ModelFixture;
use mm_types::Rules;

use super::machine::Ran;
use super::{profile, root, word};

/// Returns the traces that a machine printed, by the scenario's name and the profile's word.
#[must_use]
pub fn traces(ran: &Ran) -> BTreeMap<String, String> {
    let mut traces = BTreeMap::new();
    let mut open: Option<(String, String)> = None;
    for line in &ran.lines {
        match (line.strip_prefix("scenario "), &mut open) {
            (Some(name), _) => open = Some((name.to_owned(), String::new())),
            (None, Some((name, text))) if line == "end" => {
                traces.insert(core::mem::take(name), core::mem::take(text));
                open = None;
            }
            (None, Some((_, text))) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, None) => {}
        }
    }
    traces
}

/// Runs the scenario of that name on the model and returns its trace and where its pages ended, as the kernel prints them.
///
/// # Errors
/// Why the model has no such trace, in words.
pub fn of_the_model(name: &str) -> Result<String, String> {
    let (base, of) = name.split_once('.').ok_or("a name has a profile")?;
    let rules = [Rules::Linux2617, Rules::Modern]
        .into_iter()
        .find(|rules| word(*rules) == of);
    let rules = rules.ok_or_else(|| format!("no profile {of}"))?;
    let folder = root().join("crates/migrate-core/tests/scenarios");
    let files = [format!("{base}.scn"), format!("{name}.scn")];
    let text = files.iter().find_map(|file| fs::read_to_string(folder.join(file)).ok());
    let text = text.ok_or_else(|| format!("no file for {name}"))?;
    match run_scenario(&mut ModelFixture::default(), &text, Some(profile(rules))) {
        Ok(Replay::Ran(report)) => Ok(report.to_string()),
        Ok(Replay::NotApplicable { lacks }) => Err(format!("the model has no {lacks}")),
        Err(error) => Err(error.to_string()),
    }
}

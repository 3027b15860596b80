//! The canonical scenarios in user space: real memory, real faults, real threads, and byte for byte the trace of the model.

use std::fs;
use std::path::Path;

use backend_user::fixture::UserFixture;
use migrate_core::fixture::{Replay, run_scenario};
use migrate_core::model::ModelFixture;
use migrate_core::{LINUX_2_6_17, MODERN, Profile};
use mm_types::trace::check_text;

fn cases() -> Vec<(String, String, &'static Profile)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrate-core/tests/scenarios");
    let mut cases = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&path).unwrap();
        for (other, profile) in [(".modern.", &LINUX_2_6_17), (".linux.", &MODERN)] {
            if name.ends_with(".scn") && !name.contains(other) {
                cases.push((format!("{name} by {}", profile.rules), text.clone(), profile));
            }
        }
    }
    cases.sort_by(|a, b| a.0.cmp(&b.0));
    cases
}

#[test]
fn every_scenario_without_buffers_and_swap_leaves_the_trace_it_leaves_on_the_model() {
    let (mut ran, mut differ) = (0, Vec::new());
    for (name, text, profile) in cases() {
        let report = match run_scenario(&mut UserFixture::default(), &text, Some(profile)) {
            Ok(Replay::Ran(report)) => report,
            Ok(Replay::NotApplicable { lacks }) => {
                println!("{name}: not applicable, no {lacks}");
                continue;
            }
            Err(error) => {
                differ.push(format!("{name}: {error}\n"));
                continue;
            }
        };
        ran += 1;
        if let Err(error) = check_text(&report.trace()) {
            differ.push(format!("{name}: {error}\n"));
        }
        let Ok(Replay::Ran(model)) = run_scenario(&mut ModelFixture::default(), &text, Some(profile)) else {
            panic!("{name}: the model does not run it");
        };
        if report.trace() != model.trace() {
            differ.push(format!(
                "{name}\n--- here\n{}--- model\n{}",
                report.trace(),
                model.trace()
            ));
        }
    }
    println!("{ran} scenarios ran");
    assert!(differ.is_empty(), "{}", differ.join("\n"));
    assert!(ran >= 40, "only {ran} scenarios were applicable");
}

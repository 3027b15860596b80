//! The canonical scenarios, each in every profile it exists in; their traces go to the serial line.

use alloc::format;

use backend_x86_64::fixture::KernelFixture;
use migrate_core::fixture::{Replay, run_scenario};
use migrate_core::{LINUX_2_6_17, MODERN, Profile};

use crate::println;
use crate::seam::Machine;

/// The files' names without `.scn`, and their texts.
const FILES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/scenarios.rs"));

const BOTH: &[(&str, &Profile)] = &[("linux", &LINUX_2_6_17), ("modern", &MODERN)];

/// Runs all that `only` does not leave out; true where each ran, or needs what this kernel does not have.
pub fn run(only: Option<&str>) -> bool {
    let (mut ran, mut not_applicable, mut failed) = (0, 0, 0);
    for (stem, text) in FILES {
        let (base, one) = stem
            .split_once('.')
            .map_or((*stem, None), |(base, word)| (base, Some(word)));
        for (word, profile) in BOTH.iter().filter(|(word, _)| one.is_none_or(|one| one == *word)) {
            let name = format!("{base}.{word}");
            if only.is_some_and(|only| only != name) {
                continue;
            }
            match run_scenario(&mut KernelFixture::<Machine>::default(), text, Some(profile)) {
                Ok(Replay::Ran(report)) => {
                    ran += 1;
                    println!("scenario {name}\n{report}end");
                }
                Ok(Replay::NotApplicable { lacks }) => {
                    not_applicable += 1;
                    println!("not_applicable {name} {lacks}");
                }
                Err(error) => {
                    failed += 1;
                    println!("failed {name}: {error}");
                }
            }
            crate::cpu::switch_to(None);
        }
    }
    println!("scenarios ran={ran} not_applicable={not_applicable} failed={failed}");
    ran > 0 && failed == 0
}

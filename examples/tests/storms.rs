//! Everything happens at once, and nothing is lost.
//!
//! A million pages move in `ci/storms`, which is optimised; here, where nothing is, they are fewer. `STORM_PAGES` says how many, and
//! `STORM_SEED` what is done; how threads meet is the machine's affair.

use core::sync::atomic::AtomicBool;

use examples::storm::{self, Storm};

fn number(variable: &str, unset: u64) -> u64 {
    let Ok(text) = std::env::var(variable) else {
        return unset;
    };
    text.parse()
        .unwrap_or_else(|error| panic!("{variable}={text}: {error}"))
}

#[test]
fn nothing_is_lost_when_everything_happens_while_everything_moves() {
    let storm = Storm {
        pages: Some(number("STORM_PAGES", 100_000)),
        time: None,
        threads: 3,
        seed: number("STORM_SEED", 1),
        quiet: true,
    };
    let report = storm::run(&storm, &AtomicBool::new(false)).unwrap();
    println!("{report}");
    assert!(report.is_good(), "{report}");
    assert!(Some(report.pages()) >= storm.pages && report.moved.iter().all(|moved| *moved > 0));
    assert!(report.words_written > 0 && report.words_read > 0);
    let mappings = report.mappings.unwrap();
    assert!(mappings.0 < mappings.1, "{mappings:?}");
}

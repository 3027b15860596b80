//! Everything happens at once, and nothing is lost.
//!
//! A million pages move in `ci/storms`, which is optimised; here, where nothing is, they are fewer. `STORM_PAGES` says how many, and
//! `STORM_SEED` what is done; how threads meet is the machine's affair.

use core::sync::atomic::AtomicBool;

use backend_user::{Engine, EngineInUse};
use examples::storm::{self, Storm};

fn number(variable: &str, unset: u64) -> u64 {
    let Ok(text) = std::env::var(variable) else {
        return unset;
    };
    text.parse()
        .unwrap_or_else(|error| panic!("{variable}={text}: {error}"))
}

fn storm(engine: Engine) -> storm::Report {
    let storm = Storm {
        pages: Some(number("STORM_PAGES", 100_000)),
        time: None,
        threads: 3,
        seed: number("STORM_SEED", 1),
        engine,
        quiet: true,
    };
    let report = storm::run(&storm, &AtomicBool::new(false)).unwrap();
    println!("{report}");
    assert!(report.is_good(), "{report}");
    assert!(Some(report.pages()) >= storm.pages && report.moved.iter().all(|moved| *moved > 0));
    assert!(report.words_written > 0 && report.words_read > 0);
    let mappings = report.mappings.unwrap();
    assert!(mappings.0 < mappings.1, "{mappings:?}");
    report
}

#[test]
fn nothing_is_lost_when_everything_happens_while_everything_moves() {
    storm(Engine::Shared);
}

#[test]
fn nothing_is_lost_either_where_private_pages_move_by_userfaultfd() {
    let report = storm(Engine::Auto);
    let not_applicable = report.times.iter().filter(|(what, _)| what.ends_with("not applicable"));
    let private = matches!(report.engine, EngineInUse::Private(_));
    assert_eq!(not_applicable.map(|(_, n)| n).sum::<u64>() > 0, private, "{report}");
}

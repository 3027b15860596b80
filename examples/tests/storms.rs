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
    // Good is only what reached its goal, was written and read meanwhile, and met everything that is done.
    assert!(report.is_good(), "{report}");
    assert!(Some(report.pages()) >= storm.pages && report.mappings.is_some());
    report
}

#[test]
fn a_storm_that_was_cut_off_is_not_good() {
    let storm = Storm {
        pages: Some(u64::MAX),
        time: None,
        threads: 1,
        seed: 1,
        engine: Engine::Shared,
        quiet: true,
    };
    let mut report = storm::run(&storm, &AtomicBool::new(true)).unwrap();
    let text = report.to_string();
    assert!(!report.is_good() && report.interrupted, "{text}");
    for word in ["ended before its goal", "never done: fork", " reached=0 ", " failed=1"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert!(!text.contains("replay: "), "{text}");
    // What was lost is to be seen again, whoever stopped it.
    report.lost_writes = 1;
    let text = report.to_string();
    let replay = format!(
        "replay: ci/storms --engine shared --seed 0x1 --threads 1 --pages {} ",
        report.pages().max(1)
    );
    assert!(text.contains(&replay), "{text}");
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

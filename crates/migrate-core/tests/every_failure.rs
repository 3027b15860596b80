//! Every step of the protocol, failing in each of its ways, on pages of every kind: nothing is lost, nothing is left, and each page
//! says why it stayed.
//!
//! For each failure of [`Injection::ALL`], each kind of page (between two others, so that it is met at each place in a batch), both
//! profiles, each mode and size of batch: the failure happens at each of its occurrences in turn, once, and from there on every
//! time. Before every step that is more than a look the state is checked, and a `Watch` looks at all of them; what must hold of a
//! run is in `every_failure/check.rs`. The table at the end counts what happened; a cell that should have happened and did not, or
//! should not have and did, fails the test.

use std::thread;

use migrate_core::{FailurePlan, Injection, LINUX_2_6_17, MODERN};
use mm_types::Mode;

mod every_failure {
    pub(crate) mod check;
    pub(crate) mod coverage;
    pub(crate) mod run;
    pub(crate) mod snapshot;
    pub(crate) mod stage;
}

use every_failure::coverage::{Column, Coverage};
use every_failure::run::{Config, Expected, run};
use every_failure::stage::Kind;

/// 2006 has one mode.
const COLUMNS: [Column; 4] = [
    (&LINUX_2_6_17, Mode::Sync),
    (&MODERN, Mode::Async),
    (&MODERN, Mode::SyncLight),
    (&MODERN, Mode::Sync),
];

/// Passes differ from each other up to the first that may sleep; a page meets a step at most so often until then, and what comes
/// after it is repetition.
const OCCURRENCES: u32 = 24;

/// Every failure in every scene under the rules of one column.
fn every_failure_in(column: usize) -> Coverage {
    let (profile, mode) = COLUMNS[column];
    // Batches of one page are what every run that sleeps comes to in the end.
    let batches: &[usize] = match (profile.max_batch, mode) {
        (1, _) => &[1],
        (_, Mode::Sync) => &[1, 3],
        _ => &[3],
    };
    let mut coverage = Coverage::default();
    for kind in Kind::ALL {
        for batch in batches {
            // Between two others it is met at each place of a batch.
            let kinds = match (*batch, profile.max_batch) {
                (1, 2..) => vec![*kind],
                _ => vec![Kind::Anon, *kind, Kind::FileClean],
            };
            let config = Config {
                profile,
                mode,
                batch: *batch,
            };
            every_failure_on(&kinds, config, column, &mut coverage);
        }
    }
    coverage
}

/// Nothing is drawn that a seed of the test's own does not give.
const REPLAY: &str = "replay: cargo test -p migrate-core --test every_failure";

/// Every failure at each occurrence in one scene: once, and from there on for ever.
fn every_failure_on(kinds: &[Kind], config: Config, column: usize, coverage: &mut Coverage) {
    let counted = FailurePlan::nothing();
    let clean = run(kinds, config, &counted, None).unwrap_or_else(|what| {
        let first = what.lines().next().unwrap_or_default();
        panic!("{kinds:?}, {config:?}: {what}\n! nothing fails: {first}\n{REPLAY}")
    });
    for injection in Injection::ALL {
        let mut one = |plan: FailurePlan, once: bool, nth: u32| {
            let expected = Expected { clean: &clean, once };
            let ran = run(kinds, config, &plan, Some(&expected)).unwrap_or_else(|what| {
                let how = if once { "once" } else { "from then on" };
                let first = what.lines().next().unwrap_or_default();
                panic!(
                    "{injection} {how} at its occurrence {nth}, {kinds:?}, {config:?}: {what}\n\
                     ! {injection} {how} at its occurrence {nth}: {first}\n{REPLAY}"
                )
            });
            let effect = injection.effect(config.profile, config.mode);
            let effects = ran.refused_by(*injection, effect, &clean);
            coverage.count(column, *injection, plan.injected(*injection), effects);
        };
        let occurrences = counted.came(injection.edge).min(OCCURRENCES);
        for nth in 0..occurrences {
            one(FailurePlan::once(*injection, nth), true, nth);
            one(FailurePlan::from_then_on(*injection, nth), false, nth);
        }
    }
}

#[test]
fn whatever_step_fails_everything_is_as_it_was_and_the_page_says_why() {
    let mut coverage = Coverage::default();
    thread::scope(|scope| {
        let columns: Vec<_> = (0..COLUMNS.len())
            .map(|column| scope.spawn(move || every_failure_in(column)))
            .collect();
        for column in columns {
            coverage.add(column.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
    });
    let (table, gaps) = coverage.table(&COLUMNS);
    println!("{table}");
    assert!(gaps.is_empty(), "not covered, or not impossible:\n{}", gaps.join("\n"));
}

#[test]
fn a_storm_of_failures_leaves_nothing() {
    let mut injected = 0;
    let configs: Vec<Config> = COLUMNS
        .iter()
        .flat_map(|(profile, mode)| {
            [1, 4, Kind::ALL.len()].map(|batch| Config {
                profile,
                mode: *mode,
                batch,
            })
        })
        .collect();
    let clean = |config: &Config| run(Kind::ALL, *config, &FailurePlan::nothing(), None).unwrap();
    let clean: Vec<_> = configs.iter().map(clean).collect();
    for seed in 1..=200u32 {
        let n = seed as usize % configs.len();
        let (config, clean) = (configs[n], &clean[n]);
        let one_in = [2, 5, 20, 100, 7][seed as usize % 5];
        let plan = FailurePlan::random(seed, one_in);
        let expected = Expected { clean, once: false };
        let ran = run(Kind::ALL, config, &plan, Some(&expected));
        if let Err(what) = ran {
            panic!("seed {seed}, one in {one_in}, {config:?}: {what}\n{REPLAY}");
        }
        injected += plan.all_injected();
    }
    println!("seeds 1 to 200: {injected} failures");
    assert!(injected > 5_000, "{injected}");
}

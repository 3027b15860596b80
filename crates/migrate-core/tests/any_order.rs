//! Calls in any order, on the model, against a plain reference: a map from address to value and permission.
//!
//! A case is a sequence of what programs do (map, load, store, fork, mprotect, munmap, mremap, truncate, …), what a kernel does
//! (write back, pin, isolate, swap out, …) and runs of the engine, in any mode and either profile, with any batch and number of
//! new pages; within a run others may act before any step of the protocol, and steps may fail. After each call, and before each
//! step of a run, the model recounts itself and every entry is compared with the reference, to which a run is nothing at all.
//! Each run's trace is replayed by the checker.
//!
//! A case that fails is made shorter as long as it fails, and printed with the calls that it came to and the canonical trace of
//! its last run. What to say to see it again is printed too:
//!
//! | variable | what |
//! |---|---|
//! | `ANY_ORDER_SEED` | the first case's seed, decimal or `0x…`; 0 where it is not set. The next case has the next seed |
//! | `ANY_ORDER_CASES` | how many cases each test plays; 400 where it is not set |
//! | `ANY_ORDER_STEPS` | how many calls a case has at most; 40 where it is not set. A seed replays under the number it was found under |

#![cfg(feature = "model")]

use core::cell::RefCell;

use migrate_core::{LINUX_2_6_17, MODERN, Profile};
use proptest::strategy::{BoxedStrategy, Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};
use simulation::{Care, Case, Counts, Kind, MOVED, Step, World, any_case, case_in_flight, quietly, rng};

fn number(variable: &str, unset: u64) -> u64 {
    let Ok(text) = std::env::var(variable) else {
        return unset;
    };
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.unwrap_or_else(|error| panic!("{variable}={text}: {error}"))
}

/// Plays a case; an error or a panic is what went wrong.
fn play(profile: &'static Profile, care: Care, case: &Case) -> (World, Result<(), String>) {
    let world = World::new(profile, care, case);
    let done = quietly(|| world.play(case));
    (world, done)
}

/// What proptest leaves is shortest for each call by itself; some calls can only go together.
fn shortest(profile: &'static Profile, mut case: Case) -> Case {
    while let Some(shorter) = case
        .shorter()
        .into_iter()
        .find(|case| play(profile, Care::FULL, case).1.is_err())
    {
        case = shorter;
    }
    case
}

fn in_any_order(profile: &'static Profile, draw: fn(usize) -> BoxedStrategy<Case>, test: &str) {
    let (seed, cases) = (number("ANY_ORDER_SEED", 0), number("ANY_ORDER_CASES", 400));
    let steps = number("ANY_ORDER_STEPS", 40).max(2);
    let counts = RefCell::new(Counts::default());
    for seed in (0..cases).map(|n| seed.wrapping_add(n)) {
        let config = Config {
            cases: 1,
            failure_persistence: None,
            max_shrink_iters: 20_000,
            ..Config::default()
        };
        let mut runner = TestRunner::new_with_rng(config, rng(seed));
        let failed = runner.run(&draw(steps as usize), |case| {
            let (world, done) = play(profile, Care::FULL, &case);
            counts.borrow_mut().merge(&world.take_counts());
            done.map_err(TestCaseError::fail)
        });
        if let Err(TestError::Fail(_, case)) = failed {
            let case = shortest(profile, case);
            let (world, done) = play(profile, Care::REPORT, &case);
            let what = done.err().unwrap_or_else(|| "it does not fail again".to_owned());
            panic!(
                "{what}\n\n{}\nsteps: {}\nreplay: ANY_ORDER_SEED={seed:#x} ANY_ORDER_CASES=1 ANY_ORDER_STEPS={steps} \
                 cargo test -p migrate-core --test any_order {test}\n{case:?}",
                world.report(&what),
                case.count_steps()
            );
        }
        failed.expect("cases are drawn");
    }
    println!("seeds {seed:#x} and the {cases} from there on, {}", profile.rules);
    let total = |kind| counts.borrow().total(kind);
    for kind in Kind::ALL {
        println!("{}", kind.heading());
        for (word, n) in counts.borrow().words(kind) {
            println!("{n:>8} {word}");
        }
    }
    let moved = counts.borrow().of(Kind::Outcome, MOVED);
    println!(
        "proof: any-order test={test} rules={} cases={cases} seed={seed:#x} calls={} middle={} failures={} moved={moved} checks={}",
        profile.rules,
        total(Kind::Call),
        total(Kind::Middle),
        total(Kind::Fault),
        total(Kind::Check),
    );
}

#[test]
fn calls_in_any_order_change_nothing_that_programs_see_under_todays_rules() {
    in_any_order(&MODERN, any_case, "see_under_todays_rules");
}

#[test]
fn calls_in_any_order_change_nothing_that_programs_see_under_the_rules_of_2006() {
    in_any_order(&LINUX_2_6_17, any_case, "see_under_the_rules_of_2006");
}

#[test]
fn what_is_done_to_pages_in_flight_is_done_under_todays_rules() {
    in_any_order(&MODERN, case_in_flight, "done_under_todays_rules");
}

#[test]
fn what_is_done_to_pages_in_flight_is_done_under_the_rules_of_2006() {
    in_any_order(&LINUX_2_6_17, case_in_flight, "done_under_the_rules_of_2006");
}

/// Nobody interferes with some runs, and then it is known which pages must move.
#[test]
fn an_engine_that_moves_nothing_is_found_under_either_rules_and_by_either_way_of_drawing() {
    for profile in [&MODERN, &LINUX_2_6_17] {
        for draw in [any_case, case_in_flight] {
            let found = (0..40).find_map(|seed| {
                let mut runner = TestRunner::new_with_rng(Config::default(), rng(seed));
                let mut case = draw(40).new_tree(&mut runner).expect("cases are drawn").current();
                assert_eq!(play(profile, Care::FULL, &case).1, Ok(()), "seed {seed}");
                case.steps.insert(0, Step::Refuse);
                let what = play(profile, Care::FULL, &case).1.err()?;
                what.contains("was bound ToMove, and ended as Some(Refused(Backend")
                    .then_some(seed)
            });
            assert!(found.is_some(), "nobody wanted a page to move: {}", profile.rules);
        }
    }
}

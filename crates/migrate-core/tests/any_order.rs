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
//! | `ANY_ORDER_CASES` | how many cases each test plays; 400 where it is not set. So many and more must meet everything often enough |
//! | `ANY_ORDER_STEPS` | how many calls a case has at most; 40 where it is not set. A seed replays under the number it was found under |

#![cfg(feature = "model")]

use core::cell::RefCell;

use migrate_core::{LINUX_2_6_17, MODERN, Profile};
use mm_types::Rules;
use proptest::strategy::{Strategy as _, ValueTree as _};
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

/// Cases of a test, and the most calls of each, where nothing else is asked for.
const CASES: u64 = 400;
const STEPS: u64 = 40;

/// What so many cases must show at least, in calls of any kind and in calls about pages in flight: a call that is not made any more,
/// or makes nothing happen, would be missed by nobody else. About a third of what the first seeds show.
const FLOORS: &[(Kind, &str, [u64; 2])] = &[
    (Kind::Call, "map", [250, 180]),
    (Kind::Call, "read", [250, 450]),
    (Kind::Call, "write", [350, 450]),
    (Kind::Call, "fork", [45, 4]),
    (Kind::Call, "exit", [4, 0]),
    (Kind::Call, "protect", [40, 3]),
    (Kind::Call, "unmap", [70, 2]),
    (Kind::Call, "mremap", [30, 1]),
    (Kind::Call, "mlock", [15, 1]),
    (Kind::Call, "nonlinear", [30, 0]),
    (Kind::Call, "truncate", [80, 2]),
    (Kind::Call, "dirty", [40, 2]),
    (Kind::Call, "write_back", [18, 0]),
    (Kind::Call, "begin_writeback", [20, 0]),
    (Kind::Call, "pin", [45, 2]),
    (Kind::Call, "unpin", [15, 0]),
    (Kind::Call, "get", [50, 1]),
    (Kind::Call, "put", [15, 0]),
    (Kind::Call, "lock", [40, 1]),
    (Kind::Call, "unlock", [8, 0]),
    (Kind::Call, "isolate", [90, 4]),
    (Kind::Call, "putback", [15, 0]),
    (Kind::Call, "migrate", [700, 270]),
    (Kind::Call, "swap_out", [30, 3]),
    (Kind::Call, "swap_in", [9, 0]),
    (Kind::Call, "swapcache", [18, 1]),
    (Kind::Middle, "map", [4, 3]),
    (Kind::Middle, "read", [140, 110]),
    (Kind::Middle, "write", [150, 130]),
    (Kind::Middle, "fork", [11, 15]),
    (Kind::Middle, "exit", [4, 2]),
    (Kind::Middle, "protect", [13, 10]),
    (Kind::Middle, "unmap", [18, 14]),
    (Kind::Middle, "mremap", [10, 10]),
    (Kind::Middle, "mlock", [9, 7]),
    (Kind::Middle, "nonlinear", [7, 9]),
    (Kind::Middle, "truncate", [14, 13]),
    (Kind::Middle, "soft_dirty", [9, 6]),
    (Kind::Middle, "dirty", [9, 6]),
    (Kind::Middle, "dirty_buffer", [2, 2]),
    (Kind::Middle, "write_back", [2, 2]),
    (Kind::Middle, "begin_writeback", [3, 2]),
    (Kind::Middle, "end_writeback", [2, 1]),
    (Kind::Middle, "buffers_busy", [2, 2]),
    (Kind::Middle, "pin", [20, 20]),
    (Kind::Middle, "unpin", [6, 3]),
    (Kind::Middle, "get", [10, 12]),
    (Kind::Middle, "put", [5, 1]),
    (Kind::Middle, "lock", [8, 6]),
    (Kind::Middle, "unlock", [2, 1]),
    (Kind::Middle, "isolate", [7, 5]),
    (Kind::Middle, "putback", [2, 1]),
    (Kind::Middle, "swap_out", [9, 7]),
    (Kind::Middle, "swap_in", [3, 1]),
    (Kind::Middle, "swapcache", [7, 7]),
    (Kind::Middle, "wait", [25, 70]),
    (Kind::Run, "linux-2.6.17 async", [20, 8]),
    (Kind::Run, "linux-2.6.17 sync_light", [20, 8]),
    (Kind::Run, "linux-2.6.17 sync", [20, 8]),
    (Kind::Run, "modern async", [20, 8]),
    (Kind::Run, "modern sync_light", [20, 8]),
    (Kind::Run, "modern sync", [20, 8]),
    (Kind::Outcome, MOVED, [300, 280]),
    (Kind::Outcome, "freed", [9, 6]),
    (Kind::Outcome, "backend", [12, 6]),
    (Kind::Outcome, "extra_reference", [30, 8]),
    (Kind::Outcome, "never_moves", [60, 50]),
    (Kind::Outcome, "no_target", [60, 30]),
    (Kind::Outcome, "pinned", [60, 20]),
    (Kind::Outcome, "poisoned", [7, 2]),
    (Kind::Wait, "for an entry", [28, 50]),
    (Kind::Wait, "a thread woke", [25, 70]),
    (Kind::Check, "a way there and back", [28, 5]),
    (Kind::Check, "that a run with nothing to do did nothing", [110, 3]),
    (Kind::Check, "what a run changed", [200, 30]),
    (
        Kind::Check,
        "what a run changed, where others did something",
        [140, 150],
    ),
    (
        Kind::Check,
        "what a run changed, where steps failed or others looked",
        [350, 80],
    ),
];

/// What only one of the two kinds of rules refuses, or refuses at all often.
const FLOORS_BY_RULES: &[(Rules, &str, [u64; 2])] = &[
    (Rules::Linux2617, "mlocked", [15, 1]),
    (Rules::Linux2617, "no_writepage", [3, 4]),
    (Rules::Linux2617, "write_failed", [4, 6]),
    (Rules::Linux2617, "written_out", [3, 3]),
    (Rules::Modern, "copy_failed", [5, 1]),
    (Rules::Modern, "dirty", [17, 20]),
    (Rules::Modern, "lock_busy", [8, 1]),
    (Rules::Modern, "writeback", [9, 1]),
];

/// Ways to fail of which each test meets so many at least.
const WAYS_TO_FAIL: usize = 16;

/// Says what was met too seldom, in that many cases.
fn seldom(counts: &Counts, rules: Rules, in_flight: bool, cases: u64) -> Vec<String> {
    let of_rules = FLOORS_BY_RULES.iter().filter(|(of, ..)| *of == rules);
    let of_rules = of_rules.map(|(_, word, floors)| (Kind::Outcome, *word, *floors));
    let floors = FLOORS.iter().copied().chain(of_rules);
    let mut seldom: Vec<String> = floors
        .map(|(kind, word, floors)| (kind, word, floors[usize::from(in_flight)] * cases / CASES))
        .filter(|(kind, word, floor)| counts.of(*kind, word) < *floor)
        .map(|(kind, word, floor)| {
            let n = counts.of(kind, word);
            format!("{}: {n} {word}, of {floor} at least", kind.heading())
        })
        .collect();
    if counts.kinds(Kind::Fault) < WAYS_TO_FAIL {
        seldom.push(format!("{} ways to fail, of {WAYS_TO_FAIL}", counts.kinds(Kind::Fault)));
    }
    seldom
}

fn in_any_order(profile: &'static Profile, in_flight: bool, test: &str) {
    let (seed, cases) = (number("ANY_ORDER_SEED", 0), number("ANY_ORDER_CASES", CASES));
    let steps = number("ANY_ORDER_STEPS", STEPS).max(2);
    let draw = if in_flight { case_in_flight } else { any_case };
    assert!(
        cases > 0 && steps > 0,
        "nothing is played with ANY_ORDER_CASES={cases} and ANY_ORDER_STEPS={steps}"
    );
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
    // Fewer cases, or shorter ones, may well not meet something.
    if cases >= CASES && steps >= STEPS {
        let seldom = seldom(&counts.borrow(), profile.rules, in_flight, cases);
        assert!(seldom.is_empty(), "met too seldom:\n{}", seldom.join("\n"));
    }
    println!(
        "proof: any-order test={test} rules={} cases={cases} seed={seed:#x} calls={} middle={} failures={} kinds={} moved={moved} \
         checks={}",
        profile.rules,
        total(Kind::Call),
        total(Kind::Middle),
        total(Kind::Fault),
        counts.borrow().kinds(Kind::Fault),
        total(Kind::Check),
    );
}

#[test]
fn whatever_is_never_met_is_met_too_seldom() {
    let all = FLOORS.iter().filter(|(.., floors)| floors[0] > 0).count();
    let of_rules = FLOORS_BY_RULES
        .iter()
        .filter(|(rules, ..)| *rules == Rules::Modern)
        .count();
    let missing = seldom(&Counts::default(), Rules::Modern, false, CASES);
    assert_eq!(missing.len(), all + of_rules + 1, "{missing:?}");
    assert!(missing.contains(&format!("what became of pages: 0 {MOVED}, of 300 at least")));
}

#[test]
fn calls_in_any_order_change_nothing_that_programs_see_under_todays_rules() {
    in_any_order(&MODERN, false, "see_under_todays_rules");
}

#[test]
fn calls_in_any_order_change_nothing_that_programs_see_under_the_rules_of_2006() {
    in_any_order(&LINUX_2_6_17, false, "see_under_the_rules_of_2006");
}

#[test]
fn what_is_done_to_pages_in_flight_is_done_under_todays_rules() {
    in_any_order(&MODERN, true, "done_under_todays_rules");
}

#[test]
fn what_is_done_to_pages_in_flight_is_done_under_the_rules_of_2006() {
    in_any_order(&LINUX_2_6_17, true, "done_under_the_rules_of_2006");
}

/// Nobody interferes with some runs, and then it is known which pages must move.
#[test]
#[cfg_attr(miri, ignore = "about what the checks find, in some dozens of long cases")]
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

//! The conformance kit: hundreds of cases that tell the author of a backend whether it keeps the seam's promises.
//!
//! # For an author
//!
//! Implement the seam ([`Frames`](crate::Frames), [`Rmap`](crate::Rmap), …) and a [`Fixture`]: your backend, an allocator, a
//! program that uses its pages, and the [`Capabilities`](crate::fixture::Capabilities) it has. Then write one line in a test file:
//!
//! ```
//! use migrate_core::model::ModelFixture;
//!
//! migrate_core::conformance!(ModelFixture::new);
//! # fn main() {}
//! ```
//!
//! The line is one; the fixture is not. A kernel's own part of one (system calls, faults, an allocator, a check of everything) is some 300
//! lines, as `tests/kernel_shape/fixture.rs` has them for a toy kernel; page tables of `backend-x86_64` bring theirs along.
//!
//! Each case becomes a `#[test]` of its own, with its profile and its group in the path, so that
//! `cargo test conformance::modern::flushes` runs the cases about stale translations by today's rules. A file may have the line
//! once; put a second one into a module. A case that needs what the fixture does not declare prints that it is not applicable and
//! for want of what; `conformance::no_case_fails_and_all_are_counted` runs every case once more and prints all counts in a table (with
//! `--nocapture`). Pin the number of those that are not applicable, `conformance!(MyFixture::new, not_applicable: 282)`: then a case
//! that quietly stops being one of the fixture's fails. libtest runs cases in parallel; a kernel with global state takes
//! `--test-threads=1`.
//!
//! A case that fails names the promise that was broken, method and invariant first, then what was found:
//!
//! ```text
//! broken contract: Rmap::walk (I6): visits every entry that may map the page or name it in a migration entry
//!   found: Site { space: SpaceId(1), page: Vpn(0x3) } maps Pfn(0x100) and was not visited
//! ```
//!
//! Where several cases fail, begin with those that name `Fixture`: what it mapped or stored was wrong before anything moved. Then the
//! group `seam`, whose cases call one method each, and `references`, for a ledger that is wrong shows everywhere else too.
//!
//! # What the cases are about
//!
//! | group | question |
//! |---|---|
//! | `seam` | does each method keep its promise, asked for by itself? |
//! | `contents`, `permissions`, `marks` | is what was written read, may what was allowed be done, is dirtiness kept? |
//! | `references` | does a page have the references of the ledger at each moment of a move? |
//! | `lists`, `modes`, `batches`, `misuse` | what do the four lists, the passes, the barriers and the typed errors say? |
//! | `faults`, `flushes` | do threads that touch a page in flight sleep and wake, and no CPU go on with a stale translation? |
//! | `readers_…` | munmap, exit, mremap, mprotect, fork and truncate, at rest and at each step of a run |
//! | `failures_…` | every step that can fail, failing once and for good; `failures_in_mode_…`: in each of its ways, on a page of each kind |
//! | `stays`, `files`, `swap` | pins, holders, mlock; page cache, buffers, writing; the swap cache |
//! | `traces` | does each canonical scenario leave the trace that it leaves on the model, to the byte? |
//!
//! # At boot
//!
//! The kit needs `alloc` and nothing else of a system, and does not panic itself. A kernel that tests itself calls [`run`] with a
//! closure that makes a fixture for each case, and a [`Reporter`]; any closure of a name and a verdict is one:
//!
//! ```no_run
//! # use migrate_core::model::ModelFixture;
//! # fn serial(line: core::fmt::Arguments<'_>) { let _ = line; }
//! use migrate_core::conformance::{CaseName, Verdict, run};
//!
//! let counts = run(ModelFixture::new, &mut |case: CaseName, verdict: &Verdict| {
//!     if !matches!(verdict, Verdict::Passed) {
//!         serial(format_args!("{case}: {verdict}"));
//!     }
//! });
//! serial(format_args!("{counts}"));
//! assert_eq!(counts.total().failed, 0);
//! ```
//!
//! A reporter of one's own also hears of each case before it runs, so that a kernel that hangs in one has said which. What the
//! backend itself does when it is broken (panic, sleep for ever) the kit cannot prevent.

use alloc::vec::Vec;

use crate::fixture::Fixture;
use crate::{LINUX_2_6_17, MODERN, Profile};

mod batches;
mod bench;
mod call;
mod contents;
mod contract;
mod failures;
mod faults;
mod files;
mod flushes;
#[macro_use]
mod list;
mod lists;
mod marks;
mod misuse;
mod modes;
mod permissions;
mod readers;
mod references;
mod seam;
mod stays;
mod swap;
mod traces;
mod verdict;
mod ways;

pub use contract::{Contract, Failure};
pub use traces::{Recorded, readable};
pub use verdict::{CaseName, Count, Counts, Reporter, Verdict};

use bench::Bench;
use failures::{
    of_a_batch as failures_of_a_batch, of_a_file as failures_of_a_file, of_a_shared_page as failures_of_a_shared_page,
    of_buffers as failures_of_buffers, of_one_page as failures_of_one_page,
};
use readers::{
    at_rest as readers_at_rest, before_the_copy as readers_before_the_copy,
    before_the_flush as readers_before_the_flush, before_the_freeze as readers_before_the_freeze,
    before_the_locks_open as readers_before_the_locks_open, before_the_restore as readers_before_the_restore,
};
use verdict::Done;
use ways::{
    in_mode_async as failures_in_mode_async, in_mode_sync as failures_in_mode_sync,
    in_mode_sync_light as failures_in_mode_sync_light,
};
// Cases that exist by the rules of one profile stand beside the others of their subject.
use {
    failures::of_buffers as buffers_of_today, faults as faults_of_2006, faults as faults_of_today,
    files as files_of_2006, files as files_of_today, lists as lists_of_2006, modes as modes_of_2006,
    modes as modes_of_today,
};

/// Spaces that a fixture must be able to have at a time, those of forked children among them.
pub const SPACES: u32 = 4;
/// Pages that a space must have room for, from page 0 on.
pub const PAGES: u64 = 64;
/// Frames that a fixture must have on its source node, and as many on its target node.
pub const FRAMES: usize = 48;

/// A case and what it does.
struct Case<F: Fixture> {
    name: CaseName,
    profile: &'static Profile,
    does: Does<F>,
}

enum Does<F: Fixture> {
    /// Something of its own on a bench.
    Bench(fn(&Bench<F>) -> Done),
    /// A scenario.
    Trace(Recorded),
}

impl<F: Fixture> Case<F> {
    fn run(&self, fixture: F) -> Verdict {
        let done = match &self.does {
            Does::Trace(recorded) => traces::leaves_the_models_trace(fixture, recorded),
            Does::Bench(case) => {
                let bench = Bench::new(fixture, self.profile);
                case(&bench).and_then(|()| bench.end())
            }
        };
        Verdict::from(done)
    }
}

macro_rules! table {
    (
        ()
        both { $([$($group:ident)+] $cases:tt)* }
        linux_2_6_17 { $($linux:ident $linux_cases:tt)* }
        modern { $($modern:ident $modern_cases:tt)* }
        scenarios { $($scenario:ident,)* }
        linux_scenarios { $($linux_scenario:ident,)* }
        modern_scenarios { $($modern_scenario:ident,)* }
    ) => {
        /// Every case, in the order of the list.
        fn cases<F: Fixture>() -> Vec<Case<F>> {
            let mut cases = Vec::new();
            for profile in [&LINUX_2_6_17, &MODERN] {
                $($(cases_of!(cases, profile, $group $cases);)+)*
            }
            $(cases_of!(cases, &LINUX_2_6_17, $linux $linux_cases);)*
            $(cases_of!(cases, &MODERN, $modern $modern_cases);)*
            cases.extend(SCENARIOS.iter().map(|recorded| Case {
                name: CaseName {
                    profile: verdict::profile_word(recorded.profile.rules),
                    group: "traces",
                    name: recorded.name,
                },
                profile: recorded.profile,
                does: Does::Trace(*recorded),
            }));
            cases
        }

        /// The scenarios, and what is recorded of each.
        static SCENARIOS: &[Recorded] = &[
            $(
                recorded!($scenario, ".scn", ".linux.snap", LINUX_2_6_17),
                recorded!($scenario, ".scn", ".modern.snap", MODERN),
            )*
            $(recorded!($linux_scenario, ".linux.scn", ".linux.snap", LINUX_2_6_17),)*
            $(recorded!($modern_scenario, ".modern.scn", ".modern.snap", MODERN),)*
        ];
    };
}

macro_rules! cases_of {
    ($cases:ident, $profile:expr, $group:ident { $($case:ident,)* }) => {
        $($cases.push(Case {
            name: CaseName {
                profile: verdict::profile_word($profile.rules),
                group: stringify!($group),
                name: stringify!($case),
            },
            profile: $profile,
            does: Does::Bench($group::$case),
        });)*
    };
}

macro_rules! recorded {
    ($name:ident, $scenario:literal, $snapshot:literal, $profile:ident) => {
        Recorded {
            name: stringify!($name),
            text: include_str!(concat!("../tests/scenarios/", stringify!($name), $scenario)),
            snapshot: include_str!(concat!("../tests/snapshots/", stringify!($name), $snapshot)),
            profile: &$profile,
        }
    };
}

conformance_cases!({ table! } ());

/// Returns the canonical scenarios, each by the rules of every profile it exists in, and what is recorded of them.
#[must_use]
pub fn scenarios() -> &'static [Recorded] {
    SCENARIOS
}

/// Returns the names of all cases, in the order in which [`run`] runs them.
#[must_use]
pub fn names<F: Fixture>() -> Vec<CaseName> {
    cases::<F>().into_iter().map(|case| case.name).collect()
}

/// Runs every case on a fixture of its own, tells `reporter` of each, and returns the counts.
///
/// Allocates; whether it sleeps is the fixture's business. Holds no lock between cases.
pub fn run<F: Fixture>(mut make: impl FnMut() -> F, reporter: &mut impl Reporter) -> Counts {
    let mut counts = Counts::default();
    for case in cases::<F>() {
        reporter.begins(case.name);
        let verdict = case.run(make());
        counts.add(case.name, &verdict);
        reporter.ended(case.name, &verdict);
    }
    counts
}

/// Runs the one case of this name; one that does not exist is told as a failure.
pub fn run_one<F: Fixture>(make: impl FnOnce() -> F, name: CaseName) -> Verdict {
    match cases::<F>().into_iter().find(|case| case.name == name) {
        Some(case) => case.run(make()),
        None => Verdict::Failed(Failure {
            contract: contract::DONE,
            found: alloc::format!("there is no case {name}"),
        }),
    }
}

/// Makes a `#[test]` of every case, in a module `conformance`, for fixtures that the closure makes; see the
/// [module](mod@crate::conformance).
///
/// `not_applicable: N` after the closure says how many cases the fixture has no use for. Any other number fails: a case that used
/// to run, and quietly does not any more, is found out by that alone.
#[macro_export]
macro_rules! conformance {
    ($make:expr) => {
        $crate::conformance_cases! { { $crate::conformance_tests! } ($make, ::core::option::Option::None) }
    };
    ($make:expr, not_applicable: $count:expr) => {
        $crate::conformance_cases! { { $crate::conformance_tests! } ($make, ::core::option::Option::Some($count)) }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! conformance_tests {
    (
        ($make:expr, $not_applicable:expr)
        both { $([$($group:ident)+] $cases:tt)* }
        linux_2_6_17 { $($linux:ident $linux_cases:tt)* }
        modern { $($modern:ident $modern_cases:tt)* }
        scenarios { $($scenario:ident,)* }
        linux_scenarios { $($linux_scenario:ident,)* }
        modern_scenarios { $($modern_scenario:ident,)* }
    ) => {
        fn conformance_fixture() -> impl $crate::fixture::Fixture {
            ($make)()
        }

        fn conformance_not_applicable() -> ::core::option::Option<usize> {
            $not_applicable
        }

        mod conformance {
            fn case(profile: &'static str, group: &'static str, name: &'static str) {
                let name = $crate::conformance::CaseName { profile, group, name };
                match $crate::conformance::run_one(super::conformance_fixture, name) {
                    $crate::conformance::Verdict::Failed(failure) => ::std::panic!("{name}\n{failure}"),
                    verdict => ::std::println!("{name}: {verdict}"),
                }
            }

            #[test]
            fn no_case_fails_and_all_are_counted() {
                let mut tell = |case: $crate::conformance::CaseName, verdict: &$crate::conformance::Verdict| {
                    if *verdict != $crate::conformance::Verdict::Passed {
                        ::std::println!("{case}: {verdict}");
                    }
                };
                let counts = $crate::conformance::run(super::conformance_fixture, &mut tell);
                ::std::println!("{counts}");
                let total = counts.total();
                ::std::assert!(total.passed > 0 && total.failed == 0, "{total:?}");
                if let ::core::option::Option::Some(count) = super::conformance_not_applicable() {
                    ::std::assert_eq!(total.not_applicable, count, "cases that are not applicable");
                }
            }

            mod linux_2_6_17 {
                $($($crate::conformance_tests!(group linux_2_6_17 $group $cases);)+)*
                $($crate::conformance_tests!(group linux_2_6_17 $linux $linux_cases);)*
                $crate::conformance_tests!(group linux_2_6_17 traces { $($scenario,)* $($linux_scenario,)* });
            }

            mod modern {
                $($($crate::conformance_tests!(group modern $group $cases);)+)*
                $($crate::conformance_tests!(group modern $modern $modern_cases);)*
                $crate::conformance_tests!(group modern traces { $($scenario,)* $($modern_scenario,)* });
            }
        }
    };
    (group $profile:ident $group:ident { $($case:ident,)* }) => {
        mod $group {
            $(
                #[test]
                fn $case() {
                    super::super::case(stringify!($profile), stringify!($group), stringify!($case));
                }
            )*
        }
    };
}

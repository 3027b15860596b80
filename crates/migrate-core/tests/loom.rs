//! Every interleaving of a migration with those who meet it, within the bounds that each line says.
//!
//! loom runs the real core over a small kernel (`loom/kernel.rs`) in every order of its scheduling points, and with every value
//! that the memory model lets an atomic load return. Built only with `--cfg loom`; `ci/loom` runs it.
#![cfg(loom)]

#[path = "loom/calls.rs"]
mod calls;
#[path = "loom/cpu.rs"]
mod cpu;
#[path = "loom/explore.rs"]
mod explore;
#[path = "loom/kernel.rs"]
mod kernel;
#[path = "loom/scenario.rs"]
mod scenario;

use migrate_core::{LINUX_2_6_17, MODERN, Profile};
use mm_types::Mode;
use scenario::Actor::{Faulter, Fork, Lookup, Mutator, Pin, Protect, Remap, Truncate, Unmap};
use scenario::{Actor, Scenario};

/// Today's rules, one page at a time.
static ONE: Profile = Profile { max_batch: 1, ..MODERN };
/// Today's rules, two pages in a batch.
static TWO: Profile = Profile { max_batch: 2, ..MODERN };

/// One anonymous page under today's rules.
const fn anon(name: &'static str, actors: &'static [Actor], bound: Option<usize>) -> Scenario {
    Scenario {
        name,
        profile: &ONE,
        mode: Mode::Async,
        pages: 1,
        file: false,
        actors,
        bound,
    }
}

/// One page of a file, mapped shared in two spaces.
const fn file(name: &'static str, actors: &'static [Actor], bound: Option<usize>) -> Scenario {
    Scenario {
        file: true,
        ..anon(name, actors, bound)
    }
}

/// Under the rules of 2006.
const fn of_2006(scenario: Scenario) -> Scenario {
    Scenario {
        profile: &LINUX_2_6_17,
        mode: Mode::Sync,
        ..scenario
    }
}

/// Two pages in one batch, the mutators one on each.
const fn batch(scenario: Scenario) -> Scenario {
    Scenario {
        profile: &TWO,
        pages: 2,
        ..scenario
    }
}

macro_rules! searches {
    ($($name:ident: $make:expr;)*) => {$(
        #[test]
        fn $name() {
            let make: fn(&'static str) -> Scenario = $make;
            make(stringify!($name)).run();
        }
    )*};
}

searches! {
    two_mutator: |name| anon(name, &[Mutator(0)], None);
    two_faulter: |name| anon(name, &[Faulter], None);
    two_unmap: |name| anon(name, &[Unmap], None);
    two_lookup: |name| file(name, &[Lookup], None);
    two_truncate: |name| file(name, &[Truncate], None);
    two_file_faulter: |name| file(name, &[Faulter], None);
    two_pin: |name| anon(name, &[Pin], None);
    two_fork: |name| anon(name, &[Fork], None);
    two_2006_mutator: |name| of_2006(anon(name, &[Mutator(0)], None));
    three_mutator_mutator: |name| anon(name, &[Mutator(0), Mutator(1)], None);
    three_mutator_faulter: |name| anon(name, &[Mutator(0), Faulter], None);
    three_mutator_unmap: |name| anon(name, &[Mutator(0), Unmap], None);
    three_mutator_fork: |name| anon(name, &[Mutator(0), Fork], None);
    three_mutator_protect: |name| anon(name, &[Mutator(0), Protect], None);
    three_mutator_remap: |name| anon(name, &[Mutator(0), Remap], None);
    three_mutator_pin: |name| anon(name, &[Mutator(0), Pin], None);
    three_file_mutators: |name| file(name, &[Mutator(0), Mutator(1)], None);
    three_file_mutator_faulter: |name| file(name, &[Mutator(0), Faulter], None);
    three_file_mutator_truncate: |name| file(name, &[Mutator(0), Truncate], None);
    three_file_mutator_lookup: |name| file(name, &[Mutator(0), Lookup], None);
    three_file_truncate_faulter: |name| file(name, &[Faulter, Truncate], None);
    five_unmap: |name| anon(name, &[Mutator(0), Mutator(1), Faulter, Unmap], Some(2));
    five_fork: |name| anon(name, &[Mutator(0), Mutator(1), Faulter, Fork], Some(2));
    five_pin: |name| anon(name, &[Mutator(0), Mutator(1), Faulter, Pin], Some(2));
    five_two_pages_unmap: |name| batch(anon(name, &[Mutator(0), Mutator(1), Faulter, Unmap], Some(2)));
    three_2006_mutator_mutator: |name| of_2006(anon(name, &[Mutator(0), Mutator(1)], None));
    three_2006_file_mutator_lookup: |name| of_2006(file(name, &[Mutator(0), Lookup], None));
}

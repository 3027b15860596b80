//! Every interleaving of a migration with those who meet it, within the bounds that each line says.
//!
//! loom runs the real core over a small kernel (`loom/kernel.rs`) in every order of its scheduling points, and with every value
//! that the memory model lets an atomic load return. Built only with `--cfg loom`; `ci/loom` runs it.
#![cfg(loom)]

#[path = "loom/act.rs"]
mod act;
#[path = "loom/calls.rs"]
mod calls;
#[path = "loom/check.rs"]
mod check;
#[path = "loom/cpu.rs"]
mod cpu;
#[path = "../../mm-types/tests/loom/explore.rs"]
mod explore;
#[path = "loom/kernel.rs"]
mod kernel;
#[path = "loom/scenario.rs"]
mod scenario;
#[path = "../../mm-types/tests/loom/sleepers.rs"]
mod sleepers;
#[path = "threads/traces.rs"]
mod traces;
#[path = "loom/world.rs"]
mod world;

use explore::Memory;
use migrate_core::{LINUX_2_6_17, MODERN, Profile};
use mm_types::Mode;
use scenario::Actor::{Faulter, Fork, Isolate, Lookup, Migrate, Mutator, Pin, Protect, Remap, Truncate, Unmap, Writer};
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
        lru: false,
        actors,
        bound,
        memory: Memory::InOrder,
    }
}

/// One page of a file, mapped shared in two spaces.
const fn file(name: &'static str, actors: &'static [Actor], bound: Option<usize>) -> Scenario {
    Scenario {
        file: true,
        ..anon(name, actors, bound)
    }
}

/// With every value that the orderings, as they are written, let a load return.
const fn as_written(scenario: Scenario) -> Scenario {
    Scenario {
        memory: Memory::AsWritten,
        ..scenario
    }
}

/// The page comes from the LRU.
const fn from_lru(scenario: Scenario) -> Scenario {
    Scenario { lru: true, ..scenario }
}

/// Under the rules of 2006.
const fn of_2006(scenario: Scenario) -> Scenario {
    Scenario {
        profile: &LINUX_2_6_17,
        mode: Mode::Sync,
        ..scenario
    }
}

/// In the mode of today that may wait for page locks.
const fn sync(scenario: Scenario) -> Scenario {
    Scenario {
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
    mutator_as_written: |name| as_written(anon(name, &[Mutator(0)], None));
    faulter_as_written: |name| as_written(anon(name, &[Faulter], None));
    unmap_as_written: |name| as_written(anon(name, &[Unmap], None));
    protect_as_written: |name| as_written(anon(name, &[Protect], Some(4)));
    lookup_as_written: |name| as_written(file(name, &[Lookup], Some(3)));

    mutator: |name| anon(name, &[Mutator(0)], None);
    faulter: |name| anon(name, &[Faulter], None);
    unmap: |name| anon(name, &[Unmap], None);
    pin: |name| anon(name, &[Pin], None);

    writer_writer: |name| anon(name, &[Writer(0), Writer(1)], Some(6));
    writer_faulter: |name| anon(name, &[Writer(0), Faulter], Some(5));
    writer_unmap: |name| anon(name, &[Writer(0), Unmap], Some(5));
    writer_pin: |name| anon(name, &[Writer(0), Pin], Some(5));

    isolate: |name| from_lru(anon(name, &[Isolate], Some(4)));
    isolate_unmap: |name| from_lru(anon(name, &[Unmap, Isolate], Some(3)));
    mutator_isolate: |name| from_lru(anon(name, &[Mutator(0), Isolate], Some(3)));
    migrate_migrate: |name| from_lru(anon(name, &[Migrate], Some(4)));
    migrate_mutator_migrate: |name| from_lru(anon(name, &[Mutator(0), Migrate], Some(3)));
    of_2006_isolate_unmap: |name| of_2006(from_lru(anon(name, &[Unmap, Isolate], Some(3))));

    mutator_mutator: |name| anon(name, &[Mutator(0), Mutator(1)], Some(4));
    mutator_faulter: |name| anon(name, &[Mutator(0), Faulter], Some(4));
    mutator_unmap: |name| anon(name, &[Mutator(0), Unmap], Some(4));
    mutator_pin: |name| anon(name, &[Mutator(0), Pin], Some(4));
    mutator_fork: |name| anon(name, &[Mutator(0), Fork], Some(3));
    mutator_protect: |name| anon(name, &[Mutator(0), Protect], Some(3));
    mutator_remap: |name| anon(name, &[Mutator(0), Remap], Some(3));
    two_pages_mutator_mutator: |name| batch(anon(name, &[Mutator(0), Mutator(1)], Some(4)));
    file_mutator_mutator: |name| file(name, &[Mutator(0), Mutator(1)], Some(4));
    file_mutator_lookup: |name| file(name, &[Mutator(0), Lookup], Some(3));
    file_mutator_faulter: |name| file(name, &[Mutator(0), Faulter], Some(3));
    file_mutator_truncate: |name| file(name, &[Mutator(0), Truncate], Some(3));
    file_faulter_truncate: |name| file(name, &[Faulter, Truncate], Some(2));
    of_2006_mutator_mutator: |name| of_2006(anon(name, &[Mutator(0), Mutator(1)], Some(3)));
    of_2006_mutator_fork: |name| of_2006(anon(name, &[Mutator(0), Fork], Some(3)));
    of_2006_mutator_unmap: |name| of_2006(anon(name, &[Mutator(0), Unmap], Some(3)));
    of_2006_file_mutator_lookup: |name| of_2006(file(name, &[Mutator(0), Lookup], Some(3)));
    of_2006_mutator_faulter: |name| of_2006(anon(name, &[Mutator(0), Faulter], Some(3)));
    of_2006_mutator_protect: |name| of_2006(anon(name, &[Mutator(0), Protect], Some(3)));
    of_2006_mutator_pin: |name| of_2006(anon(name, &[Mutator(0), Pin], Some(3)));
    of_2006_mutator_remap: |name| of_2006(anon(name, &[Mutator(0), Remap], Some(3)));
    of_2006_migrate_migrate: |name| of_2006(from_lru(anon(name, &[Migrate], Some(3))));
    of_2006_file_mutator_truncate: |name| of_2006(file(name, &[Mutator(0), Truncate], Some(3)));
    of_2006_mutators_unmap: |name| of_2006(anon(name, &[Mutator(0), Mutator(1), Unmap], Some(3)));
    of_2006_mutators_protect: |name| of_2006(anon(name, &[Mutator(0), Mutator(1), Protect], Some(3)));

    sync_file_faulter: |name| sync(file(name, &[Faulter], Some(4)));
    sync_file_mutator_faulter: |name| sync(file(name, &[Mutator(0), Faulter], Some(2)));
    sync_file_mutator_truncate: |name| sync(file(name, &[Mutator(0), Truncate], Some(2)));
    sync_file_faulter_truncate: |name| sync(file(name, &[Faulter, Truncate], Some(2)));
    sync_mutator_unmap: |name| sync(anon(name, &[Mutator(0), Unmap], Some(3)));
    sync_mutator_pin: |name| sync(anon(name, &[Mutator(0), Pin], Some(3)));
    sync_migrate_migrate: |name| sync(from_lru(anon(name, &[Migrate], Some(4))));

    mutators_unmap: |name| anon(name, &[Mutator(0), Mutator(1), Unmap], Some(3));
    mutators_fork: |name| anon(name, &[Mutator(0), Mutator(1), Fork], Some(2));
    mutators_protect: |name| anon(name, &[Mutator(0), Mutator(1), Protect], Some(3));
    mutators_pin: |name| anon(name, &[Mutator(0), Mutator(1), Pin], Some(3));
    file_mutators_truncate: |name| file(name, &[Mutator(0), Mutator(1), Truncate], Some(2));
    file_mutators_lookup: |name| file(name, &[Mutator(0), Mutator(1), Lookup], Some(3));

    five_unmap: |name| anon(name, &[Mutator(0), Mutator(1), Faulter, Unmap], Some(2));
    five_fork: |name| anon(name, &[Writer(0), Writer(1), Faulter, Fork], Some(2));
    five_protect: |name| anon(name, &[Mutator(0), Mutator(1), Faulter, Protect], Some(2));
    five_pin: |name| anon(name, &[Mutator(0), Mutator(1), Faulter, Pin], Some(2));
    five_remap: |name| anon(name, &[Mutator(0), Mutator(1), Faulter, Remap], Some(2));
    file_five_truncate: |name| file(name, &[Mutator(0), Mutator(1), Faulter, Truncate], Some(1));
    file_five_lookup: |name| file(name, &[Mutator(0), Mutator(1), Faulter, Lookup], Some(2));
    two_pages_five_unmap: |name| batch(anon(name, &[Writer(0), Writer(1), Faulter, Unmap], Some(2)));
    two_pages_five_fork: |name| batch(anon(name, &[Writer(0), Writer(1), Faulter, Fork], Some(2)));
    two_pages_five_protect: |name| batch(anon(name, &[Writer(0), Writer(1), Faulter, Protect], Some(2)));
    two_pages_five_pin: |name| batch(anon(name, &[Writer(0), Writer(1), Faulter, Pin], Some(2)));
    two_pages_five_remap: |name| batch(anon(name, &[Writer(0), Writer(1), Faulter, Remap], Some(2)));
    two_pages_file_mutator_truncate: |name| batch(file(name, &[Mutator(0), Truncate], Some(2)));
    two_pages_file_five_truncate: |name| batch(file(name, &[Writer(0), Writer(1), Faulter, Truncate], Some(1)));
}

//! Rule: the fault side asks for a backend that can sleep on an entry: `Faults`.

use migrate_core::{MODERN, Rmap, migration_entry_wait};
use mm_types::{ActorId, Site};

fn misuse<B: Rmap>(backend: &B, site: Site) {
    migration_entry_wait(backend, &MODERN, site, ActorId::new(1), ());
}

fn main() {}

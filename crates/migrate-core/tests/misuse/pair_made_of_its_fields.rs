//! Rule: only the core says that a page is unmapped and flushed: a `Pair` cannot be built from two locks.

use migrate_core::{LockedPage, Pair};

fn misuse<'p>(old: &'p LockedPage, new: &'p LockedPage) -> Pair<'p, LockedPage> {
    Pair { old, new }
}

fn main() {}

//! Rule: only the core says that a page is unmapped and flushed: the constructor of `Pair` is its own.

use migrate_core::{LockedPage, Pair};

fn misuse<'p>(old: &'p LockedPage, new: &'p LockedPage) -> Pair<'p, LockedPage> {
    Pair::new(old, new)
}

fn main() {}

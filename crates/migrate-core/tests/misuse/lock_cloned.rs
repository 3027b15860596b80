//! Rule: a page lock has one holder.

use migrate_core::LockedPage;

fn misuse(locked: &LockedPage) -> LockedPage {
    locked.clone()
}

fn main() {}

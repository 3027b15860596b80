//! Rule: what forks copies from under two entry locks: one entry cannot be both.

use migrate_core::model::Model;
use migrate_core::{Entry, Readers};

fn misuse(readers: &Readers<'_, Model, ()>, entry: &mut dyn Entry) {
    readers.copy(entry, entry, true);
}

fn main() {}

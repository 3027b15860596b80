//! Rule: an operation that has flushed what was pending edits no more entries (B22).

use migrate_core::model::Model;
use migrate_core::{Entry, Readers};

fn misuse(readers: Readers<'_, Model, ()>, entry: &mut dyn Entry) {
    readers.finish();
    readers.zap(entry);
}

fn main() {}

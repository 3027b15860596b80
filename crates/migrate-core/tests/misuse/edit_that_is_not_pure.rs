//! Rule: an edit of an entry may run twice, so it changes nothing of its own.

use migrate_core::Entry;

fn misuse(entry: &mut dyn Entry) -> u32 {
    let mut edits = 0;
    entry.update(&|pte| {
        edits += 1;
        Some(pte)
    });
    edits
}

fn main() {}

//! Rule: the reference inside a lock guard is borrowed from it, and goes back with the unlock.

use migrate_core::model::Model;
use migrate_core::{Frames, LockedPage};

fn misuse(model: &Model, locked: LockedPage) -> u32 {
    let page = Frames::page(model, &locked);
    let unlocked = model.unlock(locked);
    let count = model.count(page);
    model.put(unlocked);
    count
}

fn main() {}

//! Rule: a page lock is opened once.

use migrate_core::model::Model;
use migrate_core::{Frames, LockedPage};

fn misuse(model: &Model, locked: LockedPage) {
    let page = model.unlock(locked);
    model.put(page);
    let page = model.unlock(locked);
    model.put(page);
}

fn main() {}

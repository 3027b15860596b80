//! Rule: a reference that became a lock is the lock's: it comes back by the unlock.

use migrate_core::model::Model;
use migrate_core::{Frames, PageRef};

fn misuse(model: &Model, page: PageRef) {
    if let Ok(locked) = model.try_lock(page) {
        model.put(page);
        let page = model.unlock(locked);
        model.put(page);
    }
}

fn main() {}

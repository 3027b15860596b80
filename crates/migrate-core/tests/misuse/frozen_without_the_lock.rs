//! Rule: a page is frozen under its lock: a reference is not enough.

use migrate_core::model::Model;
use migrate_core::{Frames, PageRef};

fn misuse(model: &Model, page: &PageRef) {
    let _ = model.freeze(page, 1);
}

fn main() {}

//! Rule: only who holds a page lock opens it: a reference is not enough (B51).

use migrate_core::model::Model;
use migrate_core::{Frames, PageRef};

fn misuse(model: &Model, page: PageRef) {
    let page = model.unlock(page);
    model.put(page);
}

fn main() {}

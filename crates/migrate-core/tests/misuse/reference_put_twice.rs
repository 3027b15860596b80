//! Rule: each reference is given back once.

use migrate_core::model::Model;
use migrate_core::{Frames, PageRef};

fn misuse(model: &Model, page: PageRef) {
    model.put(page);
    model.put(page);
}

fn main() {}

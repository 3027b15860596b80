//! Rule: a page lock that is dropped is never opened.

#![deny(unused_must_use)]

use migrate_core::model::Model;
use migrate_core::{PageRef, Wait};

fn misuse(model: &Model, page: PageRef) {
    model.lock(page);
}

fn main() {}

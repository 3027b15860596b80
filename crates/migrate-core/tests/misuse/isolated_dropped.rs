//! Rule: an isolated page is put back or handed to a run; dropped, it is lost.

#![deny(unused_must_use)]

use migrate_core::model::Model;
use migrate_core::{PageRef, isolate_lru_page};

fn misuse(model: &Model, page: &PageRef) {
    isolate_lru_page(model, page, ()).unwrap();
}

fn main() {}

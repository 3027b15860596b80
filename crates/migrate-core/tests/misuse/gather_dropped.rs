//! Rule: what was gathered is flushed; dropped, translations stay stale.

#![deny(unused_must_use)]

use migrate_core::Rmap;
use migrate_core::model::Model;

fn misuse(model: &Model) {
    model.gather();
}

fn main() {}

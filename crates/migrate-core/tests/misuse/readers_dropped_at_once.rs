//! Rule: an operation on entries holds its `Readers` to the end, which flushes what a batch left pending (B22).

#![deny(unused_must_use)]

use migrate_core::Readers;
use migrate_core::model::Model;
use mm_types::SpaceId;

fn misuse(model: &Model, space: SpaceId) {
    Readers::begin(model, space, ());
}

fn main() {}

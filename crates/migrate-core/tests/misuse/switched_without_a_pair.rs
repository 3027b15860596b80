//! Rule: references are switched after the first barrier: two locks are no proof of it.

use migrate_core::model::Model;
use migrate_core::{Cache, LockedPage};

fn misuse(model: &Model, old: &LockedPage, new: &LockedPage) {
    let _ = model.switch((old, new));
}

fn main() {}

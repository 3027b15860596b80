//! Rule: contents are copied after the first barrier: two locks are no proof of it.

use migrate_core::model::Model;
use migrate_core::{Frames, LockedPage};

fn misuse(model: &Model, old: &LockedPage, new: &LockedPage) {
    let _ = model.copy((old, new));
}

fn main() {}

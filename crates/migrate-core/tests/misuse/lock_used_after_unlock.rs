//! Rule: what the page lock allows ends with it: the guard goes at the unlock.

use migrate_core::model::Model;
use migrate_core::{Frames, LockedPage};
use mm_types::PageFlags;

fn misuse(model: &Model, locked: LockedPage) {
    let page = model.unlock(locked);
    model.edit_flags(&locked, PageFlags::DIRTY, PageFlags::empty());
    model.put(page);
}

fn main() {}

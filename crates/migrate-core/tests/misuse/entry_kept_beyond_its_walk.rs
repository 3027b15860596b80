//! Rule: an entry is held under its lock and borrowed from a walk: it cannot be kept.

use core::ops::ControlFlow;

use migrate_core::model::{Gather, Model};
use migrate_core::{Entry, LockedPage, Rmap};

fn misuse(model: &Model, page: &LockedPage, gather: &mut Gather) {
    let mut kept: Option<&mut dyn Entry> = None;
    model.walk(page, gather, &mut |entry| {
        kept = Some(entry);
        ControlFlow::Break(())
    });
    if let Some(entry) = kept {
        entry.update(&|_| None);
    }
}

fn main() {}

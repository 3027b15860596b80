//! Rule: no barrier runs under an entry lock: a walk has the gather until it is over.

use core::ops::ControlFlow;

use migrate_core::model::{Gather, Model};
use migrate_core::{LockedPage, Rmap};

fn misuse(model: &Model, page: &LockedPage, mut gather: Gather) {
    model.walk(page, &mut gather, &mut |entry| {
        entry.update(&|_| None);
        model.flush(gather);
        ControlFlow::Break(())
    });
}

fn main() {}

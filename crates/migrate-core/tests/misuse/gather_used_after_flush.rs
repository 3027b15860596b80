//! Rule: the barrier takes what was gathered: it cannot be flushed twice, nor gather more.

use core::ops::ControlFlow;

use migrate_core::model::{Gather, Model};
use migrate_core::{LockedPage, Rmap};

fn misuse(model: &Model, page: &LockedPage, mut gather: Gather) {
    model.flush(gather);
    model.walk(page, &mut gather, &mut |_| ControlFlow::Continue(()));
}

fn main() {}

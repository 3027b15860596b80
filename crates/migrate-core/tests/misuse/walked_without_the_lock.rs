//! Rule: the reverse map is walked under the page lock, which keeps its root alive (I26): a reference is not enough.

use core::ops::ControlFlow;

use migrate_core::model::{Gather, Model};
use migrate_core::{PageRef, Rmap};

fn misuse(model: &Model, page: &PageRef, gather: &mut Gather) {
    model.walk(page, gather, &mut |_| ControlFlow::Continue(()));
}

fn main() {}

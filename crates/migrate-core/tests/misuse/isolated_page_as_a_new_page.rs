//! Rule: a new page is on no list: an isolated page of somebody is not one.

use std::collections::VecDeque;

use migrate_core::model::Model;
use migrate_core::{Isolated, NewPages, PageRef, Target};

fn misuse(model: &Model, pages: &mut VecDeque<Isolated<PageRef>>, old: &PageRef) {
    let _ = Target::<Model>::take(&mut NewPages(pages), model, old);
}

fn main() {}

//! Rule: a page that stayed is isolated still, so what a run of one page says is looked at.

#![deny(unused_must_use)]

use migrate_core::model::Model;
use migrate_core::{Isolated, MODERN, PageRef, migrate_page};
use mm_types::{Mode, Reason};

fn misuse(model: &Model, page: Isolated<PageRef>, new: PageRef) {
    migrate_page(model, page, new, &MODERN, Mode::Sync, Reason::Compaction, ()).unwrap();
}

fn main() {}

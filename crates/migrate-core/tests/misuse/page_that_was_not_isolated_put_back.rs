//! Rule: only isolated pages are put back: a list of references is not one of isolated pages.

use std::collections::VecDeque;

use migrate_core::model::Model;
use migrate_core::{PageRef, putback_lru_pages};

fn misuse(model: &Model, pages: &mut VecDeque<PageRef>) {
    putback_lru_pages(model, pages, ());
}

fn main() {}

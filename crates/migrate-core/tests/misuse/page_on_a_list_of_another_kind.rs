//! Rule: an isolated page is on a list of isolated pages: a list of new pages does not take it.

use std::collections::VecDeque;

use migrate_core::{Isolated, List, PageRef};

fn misuse(news: &mut VecDeque<PageRef>, page: Isolated<PageRef>) {
    List::push_back(news, page);
}

fn main() {}

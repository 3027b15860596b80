//! Rule: an isolated page is on one list (I1), so it cannot be cloned.

use migrate_core::{Isolated, PageRef};

fn misuse(page: &Isolated<PageRef>) -> [Isolated<PageRef>; 2] {
    [page.clone(), page.clone()]
}

fn main() {}

//! Rule: a reference is counted, so it cannot be had by cloning: `get` counts one more.

use migrate_core::PageRef;

fn misuse(page: &PageRef) -> PageRef {
    page.clone()
}

fn main() {}

//! Rule: a `Pair` is good for the step it was made for: a backend cannot keep it beyond the locks.

use migrate_core::{LockedPage, Pair};

struct Backend {
    last: Option<Pair<'static, LockedPage>>,
}

fn misuse(backend: &mut Backend, pair: Pair<'_, LockedPage>) {
    backend.last = Some(pair);
}

fn main() {}

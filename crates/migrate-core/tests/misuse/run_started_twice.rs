//! Rule: the arguments of a run are used up by it.

use migrate_core::{Args, Backend, Isolated, List, Target, Wait, migrate_pages};

fn misuse<B: Backend + Wait, L: List<Isolated<B::Page>>, T: Target<B>>(backend: &B, args: Args<'_, B, L, T, ()>) {
    let _ = migrate_pages(backend, args);
    let _ = migrate_pages(backend, args);
}

fn main() {}

//! Rule: a run that may sleep asks for a backend that can: without `Wait` there is `migrate_pages_nowait`.

use migrate_core::{Args, Backend, Isolated, List, Target, migrate_pages};

fn misuse<B: Backend, L: List<Isolated<B::Page>>, T: Target<B>>(backend: &B, args: Args<'_, B, L, T, ()>) {
    let _ = migrate_pages(backend, args);
}

fn main() {}

//! Rule: the caller's lists are the run's until it ends.

use std::collections::VecDeque;

use migrate_core::model::Model;
use migrate_core::{Args, Isolated, MODERN, NewPages, PageRef, Slot, migrate_pages};
use mm_types::{Mode, Reason};

fn misuse(model: &Model, mut from: VecDeque<Isolated<PageRef>>, mut news: VecDeque<PageRef>) {
    let mut failed = VecDeque::new();
    let args = Args {
        from: &mut from,
        target: NewPages(&mut news),
        moved: None,
        failed: &mut failed,
        slots: &mut [Slot::new()],
        profile: &MODERN,
        mode: Mode::Sync,
        reason: Reason::Compaction,
        outcome: &mut |_, _| from.clear(),
        observer: (),
    };
    let _ = migrate_pages(model, args);
}

fn main() {}

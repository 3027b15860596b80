//! Rule: a slot is lent to one run at a time.

use std::collections::VecDeque;

use migrate_core::model::Model;
use migrate_core::{Args, Isolated, MODERN, NewPages, PageRef, Slot, migrate_pages};
use mm_types::{Mode, Reason};

type Pages = VecDeque<Isolated<PageRef>>;

fn args<'r>(
    slots: &'r mut [Slot<Model>],
    (from, failed): &'r mut (Pages, Pages),
    news: &'r mut VecDeque<PageRef>,
    outcome: &'r mut dyn FnMut(&PageRef, mm_types::Outcome),
) -> Args<'r, Model, Pages, NewPages<'r, VecDeque<PageRef>>, ()> {
    Args {
        from,
        target: NewPages(news),
        moved: None,
        failed,
        slots,
        profile: &MODERN,
        mode: Mode::Sync,
        reason: Reason::Compaction,
        outcome,
        observer: (),
    }
}

fn misuse(
    model: &Model,
    slots: &mut [Slot<Model>],
    lists: &mut [(Pages, Pages); 2],
    news: &mut [VecDeque<PageRef>; 2],
) {
    let ([one, two], [new, more]) = (lists, news);
    let (mut first, mut second) = (|_: &PageRef, _| {}, |_: &PageRef, _| {});
    let first = args(slots, one, new, &mut first);
    let second = args(slots, two, more, &mut second);
    let _ = (migrate_pages(model, first), migrate_pages(model, second));
}

fn main() {}

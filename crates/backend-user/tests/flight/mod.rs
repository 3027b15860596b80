//! Something done while a page is in flight: between the first barrier and the copy.

use core::cell::Cell;
use std::collections::VecDeque;

use backend_user::{Area, Machine};
use migrate_core::{
    Args, Edge, Frames, FromFn, Hooked, Isolated, MODERN, PageRef, Slot, Tally, Verdict, isolate_lru_page,
    migrate_pages_nowait, migrate_prep, putback_lru_pages,
};
use mm_types::{Mode, NodeId, Reason, Refusal};

/// Moves the area's pages to node 1 in one batch, and calls `meanwhile` once, with all of them in flight.
pub(crate) fn in_flight(machine: &Machine, area: &Area, meanwhile: &dyn Fn()) -> Tally {
    let kernel = machine.kernel();
    let called = Cell::new(false);
    let hook = |edge: Edge| {
        if matches!(edge, Edge::Copy { .. }) && !called.replace(true) {
            meanwhile();
        }
        Verdict::Go
    };
    let backend = Hooked::new(kernel, &hook);
    migrate_prep(&backend);
    let mut from: VecDeque<Isolated<PageRef>> = VecDeque::new();
    for page in 0..area.pages() {
        let pfn = area.space().entry(area.first().raw() as usize + page).pfn().unwrap();
        let found = kernel.get(pfn).unwrap();
        from.push_back(isolate_lru_page(&backend, &found, ()).unwrap());
        kernel.put(found);
    }
    let mut failed = VecDeque::new();
    let mut slots: Vec<_> = (0..area.pages()).map(|_| Slot::new()).collect();
    let target = FromFn {
        take: |_: &PageRef| kernel.allocate_on(NodeId::new(1)).ok_or(Refusal::NoTarget),
        give_back: |page| kernel.put(page),
    };
    let tally = migrate_pages_nowait(
        &backend,
        Args {
            from: &mut from,
            target,
            moved: None,
            failed: &mut failed,
            slots: &mut slots,
            profile: &MODERN,
            mode: Mode::Async,
            reason: Reason::Compaction,
            outcome: &mut |_, _| {},
            observer: (),
        },
    )
    .unwrap();
    assert!(called.get(), "nothing was in flight: {tally:?}");
    putback_lru_pages(kernel, &mut from, ());
    putback_lru_pages(kernel, &mut failed, ());
    tally
}

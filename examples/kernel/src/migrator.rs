//! A run of page migration over some places, as any kernel starts one.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use migrate_core::{
    Args, Frames, FromFn, Isolated, Lru as _, PageRef, Slot, Tally, UsesPageMap, isolate_lru_page, migrate_pages,
    migrate_prep, putback_lru_pages,
};
use mm_types::{Mode, NodeId, Reason, Refusal, Site};

use crate::seam::Mm;

/// The most pages in one run.
pub const BATCH: usize = 512;

/// Moves the pages that are mapped at `sites` to node `to`; those that are there already, or that somebody else has, stay.
pub fn migrate(mm: &Mm, sites: &[Site], to: NodeId, mode: Mode) -> Tally {
    migrate_prep(mm);
    let mut from: VecDeque<Isolated<PageRef>> = VecDeque::new();
    for site in sites {
        let page = mm.entry(*site).pfn().and_then(|pfn| PageRef::get(mm.page_map(), pfn));
        let Some(page) = page else { continue };
        if mm.platform().node(page.pfn()) != to {
            from.extend(isolate_lru_page(mm, &page, ()));
        }
        mm.put(page);
    }
    let mut failed = VecDeque::new();
    let mut slots: Vec<Slot<Mm>> = (0..from.len().clamp(1, BATCH)).map(|_| Slot::new()).collect();
    let args = Args {
        from: &mut from,
        target: FromFn {
            take: |_: &PageRef| {
                let pfn = mm.platform().take_from(to).ok_or(Refusal::NoTarget)?;
                PageRef::allocate(mm.page_map(), pfn).ok_or(Refusal::NoTarget)
            },
            give_back: |page| mm.put(page),
        },
        moved: None,
        failed: &mut failed,
        slots: &mut slots,
        profile: mm.profile(),
        mode,
        reason: Reason::Compaction,
        outcome: &mut |_, _| {},
        observer: (),
    };
    let tally = migrate_pages(mm, args).expect("slots were lent");
    putback_lru_pages(mm, &mut from, ());
    putback_lru_pages(mm, &mut failed, ());
    mm.drain();
    tally
}

//! Moving every page, and copying the same pages plainly.

use core::time::Duration;
use std::collections::VecDeque;
use std::time::Instant;

use backend_x86_64::FrameMapping as _;
use migrate_core::{
    Args, Frames, FromFn, Isolated, Lru as _, MODERN, PageRef, Slot, UsesPageMap, isolate_lru_page, migrate_pages,
    putback_lru_pages,
};
use mm_types::{Mode, Pfn, Reason, Refusal, Site};

use super::{Bytes, Host};

/// What it took to move pages to the frames that were free for longest.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Took {
    /// The runs alone.
    pub(crate) runs: Duration,
    /// From looking each page up to putting it back on the LRU.
    pub(crate) all: Duration,
}

/// Moves every page, as many at a time as there are slots.
pub(crate) fn move_all(kernel: &Host, sites: &[Site], slots: &mut [Slot<Host>]) -> Took {
    let begun = Instant::now();
    let (mut moved, mut runs) = (0, Duration::ZERO);
    for batch in sites.chunks(slots.len()) {
        let mut from: VecDeque<Isolated<PageRef>> = VecDeque::with_capacity(batch.len());
        for site in batch {
            let pfn = kernel.entry(*site).pfn().unwrap();
            let page = PageRef::get(kernel.page_map(), pfn).unwrap();
            from.push_back(isolate_lru_page(kernel, &page, ()).unwrap());
            kernel.put(page);
        }
        let mut failed = VecDeque::new();
        let args = Args {
            from: &mut from,
            target: FromFn {
                take: |_: &PageRef| {
                    let pfn = kernel.platform().take_one().ok_or(Refusal::NoTarget)?;
                    PageRef::allocate(kernel.page_map(), pfn).ok_or(Refusal::NoTarget)
                },
                give_back: |page| kernel.put(page),
            },
            moved: None,
            failed: &mut failed,
            slots,
            profile: &MODERN,
            mode: Mode::Sync,
            reason: Reason::Compaction,
            outcome: &mut |_, _| {},
            observer: (),
        };
        let run = Instant::now();
        moved += migrate_pages(kernel, args).unwrap().moved;
        runs += run.elapsed();
        putback_lru_pages(kernel, &mut from, ());
        putback_lru_pages(kernel, &mut failed, ());
        kernel.drain();
    }
    let all = begun.elapsed();
    assert_eq!(moved as usize, sites.len(), "every page moves");
    Took { runs, all }
}

/// Copies the frames of each pair as they are.
pub(crate) fn memcpy(kernel: &Host, pairs: impl Iterator<Item = (Pfn, Pfn)>) -> Duration {
    let begun = Instant::now();
    for (from, to) in pairs {
        let at = |pfn: Pfn| kernel.platform().frame(pfn).unwrap().cast::<Bytes>();
        // SAFETY: different frames of the arena, the target a free one; this is the only thread.
        unsafe { at(from).copy_to_nonoverlapping(at(to), 1) };
    }
    begun.elapsed()
}

/// Copies every page to where it would be moved to.
pub(crate) fn copy_all(kernel: &Host, sites: &[Site]) -> Duration {
    let frames: Vec<Pfn> = sites.iter().map(|site| kernel.entry(*site).pfn().unwrap()).collect();
    let targets = kernel.platform().free_frames(sites.len());
    memcpy(kernel, frames.into_iter().zip(targets))
}

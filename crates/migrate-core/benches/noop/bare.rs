//! The bare loop: the locked instructions and the stores that moving a page costs whoever moves it, on the same descriptors
//! and entries, and nothing else. No lists, no checks, no seam, one page after the other.
//!
//! What the core needs beyond this is its own.

use core::sync::atomic::Ordering;

use migrate_core::{Isolated, List, Lru as _, MapList, PageRef, UsesPageMap as _};
use mm_types::{Mapping, MigrationEntry, PageFlags, Pfn, Pte};

use super::{Noop, encode};

/// An old frame and a new one.
pub(crate) type Move = (Pfn, Pfn);

/// Takes the pages off the lists that a run would have been given.
pub(crate) fn moves(mut from: MapList<'_>, mut news: MapList<'_>) -> Vec<Move> {
    let old = core::iter::from_fn(|| List::<Isolated<PageRef>>::pop_front(&mut from));
    let new = core::iter::from_fn(|| List::<PageRef>::pop_back(&mut news));
    old.zip(new).map(|(old, new)| (old.page().pfn(), new.pfn())).collect()
}

/// Moves the pages; false where something was not as a run would have left it.
#[inline(never)]
pub(crate) fn bare(noop: &Noop, moves: &[Move]) -> bool {
    let mut sound = true;
    for (from, to) in moves {
        let (Some(old), Some(new)) = (noop.page_map().page(*from), noop.page_map().page(*to)) else {
            return false;
        };
        sound &= old.flags().try_lock();
        sound &= new.flags().try_lock();
        let entries = noop.entries_of(old.index());
        let in_flight = encode(Pte::Migration(MigrationEntry::writable(*from)));
        for entry in entries {
            let before = entry.load(Ordering::Acquire);
            sound &= before & 1 == 1;
            entry.store(in_flight, Ordering::Release);
            old.remove_mapping();
            sound &= !old.put();
        }
        sound &= old.freeze(1).is_ok();
        new.adopt(old);
        old.unfreeze(1);
        old.set_mapping(Mapping::None);
        old.set_private(0);
        let back = encode(Pte::present(*to, mm_types::PteFlags::WRITE));
        for entry in entries {
            sound &= entry.load(Ordering::Acquire) == in_flight;
            new.get();
            new.add_mapping();
            entry.store(back, Ordering::Release);
        }
        sound &= !new.flags().unlock();
        sound &= !old.flags().unlock();
        new.flags().edit(PageFlags::LRU, PageFlags::ACTIVE);
        sound &= !new.put();
        sound &= old.put();
    }
    sound
}

/// Puts the new pages on the LRU list that their flag says they are on, where a run would have put them.
pub(crate) fn list(noop: &Noop, moves: &[Move]) {
    for (_, new) in moves {
        let page = noop.page_map().page(*new).expect("the frame is in the map");
        page.flags().edit(PageFlags::empty(), PageFlags::LRU);
        noop.putback_direct(PageRef::get(noop.page_map(), *new).expect("the page is mapped"));
    }
}

//! What everybody must do who meets a migration entry, other than wait for it (fork, mprotect, munmap, mremap, swapoff, aging).
//!
//! Each is one call per entry, made under that entry's lock, and an entry of any kind may be passed: a present one gets what
//! the kernel would do to it anyway. A [`Readers`] makes sure that no stale translation of a batch in progress is left in the
//! space when the operation returns: between a batch's first edit and its flush another CPU may still write through an old
//! translation, and a fork that copied the entry meanwhile would see half of that write (B22).

use mm_types::museum::{self, Bug};
use mm_types::trace::{Event, Observer};
use mm_types::{EntryStyle, MigrationEntry, Pte, PteFlags, SpaceId, SwapEntry};

use crate::{Edited, Entry, Rmap};

/// One operation of one space on its entries; ends with [`Rmap::flush_pending`], by [`Readers::finish`] or by being dropped.
#[derive(Debug)]
#[must_use = "dropping it at once flushes before anything was read; hold it for the whole operation"]
pub struct Readers<'b, B: Rmap, O: Observer> {
    backend: &'b B,
    space: SpaceId,
    observer: O,
}

impl<'b, B: Rmap, O: Observer> Readers<'b, B, O> {
    /// Begins an operation on `space` that copies, clears, moves or downgrades entries.
    pub const fn begin(backend: &'b B, space: SpaceId, observer: O) -> Self {
        Self {
            backend,
            space,
            observer,
        }
    }

    /// Fork copies `parent` into the empty entry `child` (2.6.17 `copy_one_pte`); both locks held.
    ///
    /// Where the mapping is copy-on-write a write entry becomes a read entry in both (I15). The child's VMA must come after
    /// the parent's in every walk, or the restorer passes it by before the copy is there (B1).
    pub fn copy(&self, parent: &mut dyn Entry, child: &mut dyn Entry, cow: bool) {
        let Some(edited) = parent.update(&|pte| Some(pte.fork_copy(cow).0)) else {
            return;
        };
        // The child's copy is made from the entry that the exchange found, not from an earlier look.
        let copy = edited.before.fork_copy(cow).1;
        if copy.is_none() || child.update(&|_| Some(copy)).is_none() {
            return;
        }
        self.count(copy, 1);
        let (from, to, parent) = (parent.site(), child.site(), edited.after);
        self.observer.note(|| Event::CopyPte {
            from,
            to,
            parent,
            child: copy,
        });
    }

    /// mprotect changes what the entry allows (2.6.17 `change_pte_range`). A write entry becomes a read entry, always: whether
    /// the page may be written is found out by the fault after it is back.
    pub fn protect(&self, entry: &mut dyn Entry, allow_write: bool, anon: bool, style: EntryStyle) -> Option<Edited> {
        let edited = entry.update(&|pte| {
            let after = pte.protect(allow_write, anon, style);
            (after != pte).then_some(after)
        })?;
        let site = entry.site();
        self.observer.note(|| Event::Protect {
            site,
            before: edited.before,
            after: edited.after,
        });
        Some(edited)
    }

    /// munmap, exit or truncate clears the entry and returns what it was (2.6.17 `zap_pte_range`).
    ///
    /// A migration entry is cleared like any other, with or without details: one left behind by a truncate would come back
    /// beyond the end of the file (B39). The caller hands a present entry's dirty bit to its page and frees a swap slot.
    pub fn zap(&self, entry: &mut dyn Entry) -> Option<Pte> {
        let edited = entry.update(&|pte| if pte.is_none() { None } else { Some(Pte::None) })?;
        self.count(edited.before, -1);
        let site = entry.site();
        self.observer.note(|| Event::Zap {
            site,
            before: edited.before,
        });
        Some(edited.before)
    }

    /// mremap moves an entry to an empty one (2.6.17 `move_ptes`); both locks held. A restorer must find it at one of the two
    /// places: the caller holds the reverse-map root's lock, or moves to a place that walks visit later.
    pub fn relocate(&self, from: &mut dyn Entry, to: &mut dyn Entry) -> bool {
        let source = from.read();
        if source.is_none() || !to.read().is_none() {
            return false;
        }
        // Filled first, so that the page's count never passes through 0; the entry locks hide the moment with two.
        if to.update(&|pte| pte.is_none().then_some(source)).is_none() {
            return false;
        }
        let Some(edited) = from.update(&|pte| if pte.is_none() { None } else { Some(Pte::None) }) else {
            return false;
        };
        if edited.before != source {
            // The hardware set a bit between the look and the clearing.
            to.update(&|_| Some(edited.before));
        }
        let (from, to, pte) = (from.site(), to.site(), edited.before);
        self.observer.note(|| Event::MovePte { from, to, pte });
        true
    }

    /// swapoff looks whether the entry is the one of `slot` (2.6.17 `unuse_pte_range`). A migration entry never is, however
    /// alike the encodings: the page is mapped again by its restorer.
    #[must_use]
    pub fn is_swap_of(&self, entry: &dyn Entry, slot: SwapEntry) -> bool {
        matches!(entry.read(), Pte::Swap { entry, .. } if entry == slot)
    }

    /// Aging asks whether the page was used through this entry, and forgets it (2.6.17 `page_referenced_one`). Only present
    /// entries are looked at: a page in flight is not old for being in flight.
    pub fn referenced(&self, entry: &mut dyn Entry) -> bool {
        let aged = entry.update(&|pte| match pte {
            Pte::Present { pfn, flags } if flags.contains(PteFlags::YOUNG) => {
                Some(Pte::present(pfn, flags.difference(PteFlags::YOUNG)))
            }
            _ => None,
        });
        aged.is_some()
    }

    /// A reader that only counts (mincore, smaps, numa_maps) asks what the entry stands for: the frame it maps or names, and
    /// whether it is in flight.
    #[must_use]
    pub fn residence(&self, entry: &dyn Entry) -> Option<(mm_types::Pfn, Option<MigrationEntry>)> {
        let pte = entry.read();
        pte.pfn().map(|pfn| (pfn, pte.migration()))
    }

    /// Ends the operation: afterwards no stale translation of a pending batch is left in the space. May not be called under an
    /// entry lock.
    pub fn finish(self) {
        drop(self);
    }

    fn count(&self, pte: Pte, change: i32) {
        if cfg!(debug_assertions) {
            if let Some(entry) = pte.migration() {
                self.backend.entries_out(entry.pfn(), change);
            }
        }
    }
}

impl<B: Rmap, O: Observer> Drop for Readers<'_, B, O> {
    fn drop(&mut self) {
        if !museum::has(Bug::B22) {
            self.backend.flush_pending(self.space);
        }
        let space = self.space;
        self.observer.note(|| Event::FlushPending(space));
    }
}

#[cfg(test)]
mod tests;

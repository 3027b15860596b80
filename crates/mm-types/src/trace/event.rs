//! What happens, as data: one value for each line of a trace.
//!
//! Events carry frame numbers and sites, never addresses or time. The core and its helpers are the only
//! source. They are raised while page locks or entry locks are held, so an observer must neither sleep nor call
//! back into the backend.

use crate::{ActorId, Mode, PageFlags, Pfn, Pte, Reason, Refusal, Rules, Site, SpaceId};

/// One step of a migration, or of somebody who met one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A run begins (Linux: tracepoint `mm_migrate_pages_start`).
    Start {
        /// Whose rules it follows.
        rules: Rules,
        /// What it may wait for.
        mode: Mode,
        /// Why it was asked for.
        reason: Reason,
    },
    /// A pass over the pages begins.
    Pass {
        /// Its number, from 0.
        number: u32,
    },
    /// A run ended (Linux: tracepoint `mm_migrate_pages`).
    End {
        /// Pages moved, or freed meanwhile.
        succeeded: u32,
        /// Pages that can not move, on `failed`.
        failed: u32,
        /// Pages left on `from`.
        left: u32,
    },
    /// A page was taken off the LRU.
    Isolate(Pfn),
    /// A page went back to the LRU.
    Putback(Pfn),
    /// The page lock was taken by the migration.
    Lock(Pfn),
    /// The page lock was given up by the migration.
    Unlock(Pfn),
    /// The migration waited for writeback to end.
    WaitWriteback(Pfn),
    /// A new page was taken for an old one and locked.
    NewPage {
        /// The page to move.
        old: Pfn,
        /// Where it is to go.
        new: Pfn,
    },
    /// The new page was given back unused.
    GiveBack(Pfn),
    /// The new page got the old one's mapping and index.
    SetMapping {
        /// The source.
        old: Pfn,
        /// The destination.
        new: Pfn,
    },
    /// An entry that mapped the page was replaced: by a migration entry, or, for pages that come back by
    /// fault, by a swap entry, a file entry or nothing.
    Unmap {
        /// The page.
        pfn: Pfn,
        /// Where.
        site: Site,
        /// The entry before.
        before: Pte,
        /// The entry after.
        after: Pte,
    },
    /// A migration entry became a mapping again.
    Restore {
        /// The frame the entry named.
        old: Pfn,
        /// The frame that is mapped now.
        new: Pfn,
        /// Where.
        site: Site,
        /// The entry before.
        before: Pte,
        /// The entry after.
        after: Pte,
    },
    /// A barrier: every translation changed since the last one is gone from every CPU.
    Flush {
        /// How many entries were changed since the last barrier.
        entries: u32,
    },
    /// The contents were copied.
    Copy {
        /// The source.
        old: Pfn,
        /// The destination.
        new: Pfn,
    },
    /// The reference count was frozen at the expected value.
    Freeze {
        /// The page.
        pfn: Pfn,
        /// References it had, all of them the migration's and the cache's.
        expected: u32,
    },
    /// Point of no return: the page cache holds the new page, references have been exchanged.
    Switch {
        /// The source.
        old: Pfn,
        /// The destination.
        new: Pfn,
        /// Cache slots that changed; 0 for an anonymous page.
        slots: u32,
    },
    /// Flags were handed over.
    Transfer {
        /// The source.
        old: Pfn,
        /// The destination.
        new: Pfn,
        /// The destination's flags now, the lock aside.
        flags: PageFlags,
    },
    /// The page was handed to its file system for writing.
    Writeout {
        /// The page.
        pfn: Pfn,
        /// Whether the write was accepted.
        ok: bool,
    },
    /// The page moved: it ended on `moved`.
    Moved {
        /// The source.
        old: Pfn,
        /// The destination.
        new: Pfn,
    },
    /// The page had been freed by its users: it ended on `moved`.
    Freed(Pfn),
    /// An attempt was refused; `last` when the run will not try again.
    Refuse {
        /// The page.
        pfn: Pfn,
        /// Why.
        refusal: Refusal,
        /// True when this is the page's outcome.
        last: bool,
    },
    /// A page was mapped, by a fault or a caller.
    Map {
        /// Where.
        site: Site,
        /// The entry now.
        after: Pte,
    },
    /// An entry was cleared (munmap, exit, truncate).
    Zap {
        /// Where.
        site: Site,
        /// The entry before.
        before: Pte,
    },
    /// An entry changed its permission in place (mprotect).
    Protect {
        /// Where.
        site: Site,
        /// The entry before.
        before: Pte,
        /// The entry after.
        after: Pte,
    },
    /// Fork copied an entry.
    CopyPte {
        /// The parent's site.
        from: Site,
        /// The child's site.
        to: Site,
        /// Both entries now: the parent's, and the child's.
        parent: Pte,
        /// The child's entry.
        child: Pte,
    },
    /// mremap moved an entry.
    MovePte {
        /// The old site.
        from: Site,
        /// The new site.
        to: Site,
        /// The entry.
        pte: Pte,
    },
    /// A reader of entries made sure that no stale translation of a pending batch is left.
    FlushPending(SpaceId),
    /// A thread touched a page and could not go on.
    Fault {
        /// Who.
        actor: ActorId,
        /// Where.
        site: Site,
        /// True for a store.
        write: bool,
    },
    /// The thread found a migration entry and sleeps until the page lock opens.
    Wait {
        /// Who.
        actor: ActorId,
        /// Where.
        site: Site,
        /// The frame the entry names.
        pfn: Pfn,
    },
    /// The thread goes on.
    Wake {
        /// Who.
        actor: ActorId,
        /// Where.
        site: Site,
    },
}

/// Where events go; `Copy` and passed by value, so that none costs nothing.
///
/// `()` is the observer that is off: [`Observer::ENABLED`] is false and no instruction remains. `&R` of a recorder
/// can be shared with faulting threads. An observer is called under locks: it must not sleep, allocate in a kernel,
/// or call the backend.
pub trait Observer: Copy {
    /// False where events are thrown away; they are then not even made.
    const ENABLED: bool;

    /// Takes note of `event`.
    fn event(self, event: Event);

    /// Makes and takes note of an event, where anybody looks.
    #[inline(always)]
    fn note(self, make: impl FnOnce() -> Event) {
        // `observer_absent` is how a script builds the program that never had observers, to compare instructions.
        if cfg!(not(observer_absent)) && Self::ENABLED {
            self.event(make());
        }
    }
}

impl Observer for () {
    const ENABLED: bool = false;

    #[inline(always)]
    fn event(self, _event: Event) {}
}

/// A closure as an observer, for tests and programs.
#[derive(Debug)]
pub struct Tell<F>(pub F);

impl<F: Fn(Event)> Observer for &Tell<F> {
    const ENABLED: bool = true;

    fn event(self, event: Event) {
        (self.0)(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::Cell;

    #[test]
    fn an_observer_that_is_off_does_not_have_its_events_made() {
        ().note(|| panic!("nobody looks"));
        let seen = Cell::new(None);
        let tell = Tell(|event| seen.set(Some(event)));
        (&tell).note(|| Event::Pass { number: 3 });
        assert_eq!(seen.get(), Some(Event::Pass { number: 3 }));
    }
}

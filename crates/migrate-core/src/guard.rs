//! Owned guards: a page on a caller's list, and the proof that copying is safe.

use mm_types::Refusal;
use mm_types::trace::{Event, Observer};

use crate::{Frames, List, Lru};

/// A page off the LRU, held by one reference, on its way through a migration.
///
/// Its only exits are [`putback_lru_pages`] and being handed back on a list of a run. Dropping one leaks the page: nobody can
/// find it, nobody can free it.
#[derive(Debug)]
#[must_use = "an isolated page that is dropped is lost; put it back"]
pub struct Isolated<P>(P);

impl<P> Isolated<P> {
    /// Takes a reference to a page that the caller isolated by its own means: it is on no LRU list, and `page` is the
    /// isolation's reference.
    pub const fn from_isolated(page: P) -> Self {
        Self(page)
    }

    /// Looks at the page.
    pub const fn page(&self) -> &P {
        &self.0
    }

    /// Gives the reference out; the caller now owes the page its putback.
    #[must_use = "the reference is the isolation's"]
    pub fn into_page(self) -> P {
        self.0
    }
}

/// The proof that a page's contents and references may move: both pages locked, the source unmapped, the TLB flushed.
///
/// Only a run of this crate makes one, after its first barrier.
#[derive(Debug)]
pub struct Pair<'p, L> {
    old: &'p L,
    new: &'p L,
}

impl<L> Clone for Pair<'_, L> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<L> Copy for Pair<'_, L> {}

impl<'p, L> Pair<'p, L> {
    pub(crate) const fn new(old: &'p L, new: &'p L) -> Self {
        Self { old, new }
    }

    /// Returns the source.
    #[must_use]
    pub const fn old(self) -> &'p L {
        self.old
    }

    /// Returns the destination.
    #[must_use]
    pub const fn new_page(self) -> &'p L {
        self.new
    }
}

/// Takes `page` off the LRU (2.6.17 `isolate_lru_page`).
///
/// The page need not be locked. Takes the LRU lock inside; does not sleep.
///
/// # Errors
/// [`Refusal::NotOnLru`] where it is on no LRU list: staged, isolated already, or never put there.
pub fn isolate_lru_page<B: Lru, O: Observer>(
    backend: &B,
    page: &B::Page,
    observer: O,
) -> Result<Isolated<B::Page>, Refusal> {
    let isolated = backend.isolate(page)?;
    observer.note(|| Event::Isolate(backend.pfn(page)));
    Ok(Isolated(isolated))
}

/// Puts every page of `list` back on the LRU and returns how many there were (2.6.17 `putback_lru_pages`).
///
/// Pages that are not locked; takes the LRU lock inside; does not sleep.
pub fn putback_lru_pages<B: Lru, O: Observer>(
    backend: &B,
    list: &mut impl List<Isolated<B::Page>>,
    observer: O,
) -> usize {
    let mut pages = 0usize;
    while let Some(Isolated(page)) = list.pop_front() {
        observer.note(|| Event::Putback(backend.pfn(&page)));
        backend.putback(page);
        pages = pages.saturating_add(1);
    }
    pages
}

/// Drains the staging arrays of all CPUs, so that no page is missed by isolation (2.6.17 `migrate_prep`).
///
/// Call before isolating. May sleep where the kernel's drain does; holds no lock.
pub fn migrate_prep<B: Lru>(backend: &B) {
    backend.drain();
}

pub(crate) fn pfn_of<B: Frames>(backend: &B, locked: &B::Locked) -> mm_types::Pfn {
    backend.pfn(backend.page(locked))
}

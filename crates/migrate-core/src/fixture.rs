//! What a test can ask of a backend beyond the seam: map, touch, fork, pin, …; scenarios and the conformance kit drive it.
//!
//! A [`Fixture`] is a backend with pages and somebody who uses them. It declares what it has ([`Capabilities`]); what it does
//! not declare answers [`FixtureError::NotApplicable`], and a scenario that needs it is printed as not applicable, never
//! skipped silently.
//!
//! Frames and sites are named by number, so that a scenario's text means the same on any backend. The rules all methods share:
//!
//! * `&self`, because steps run in the middle of a migration ([`Capabilities::MIDDLE`]): between two steps of the core, with page
//!   locks held by the run, with no entry lock, LRU lock or cache lock held.
//! * Everything that copies, clears or downgrades entries goes through [`Readers`](crate::Readers), and faults through
//!   [`migration_entry_wait`](crate::migration_entry_wait), with the recording of [`Fixture::begin`] as observer: their events are
//!   part of the trace.
//! * The runner notes `Map` for what it asks to be mapped; the fixture notes it where a fault of its own maps a page (demand, swap-in,
//!   copy-on-write).
//! * Nothing but [`Fixture::read`], [`Fixture::write`] (which may fault pages in), [`Fixture::fault`] and
//!   [`Fixture::finish_faults`] sleeps.

use alloc::{boxed::Box, string::String, sync::Arc, vec::Vec};
use core::sync::atomic::AtomicBool;

use mm_types::scenario::{Mover, Sharing};
use mm_types::trace::{Ring, RingSlot};
use mm_types::{ActorId, MappingId, Pfn, Pte, Site, SpaceId};

use crate::{Backend, Faults, Frames, Profile, Wait};

mod act;
pub(crate) mod call;
mod capability;
mod drive;
pub(crate) mod middle;
mod needs;
pub(crate) mod report;

pub use capability::Capabilities;
pub use drive::run_scenario;
pub use report::{Replay, Report, RunReport, ScenarioError};

/// A reference of the backend under test.
pub(crate) type PageOf<F> = <<F as Fixture>::Backend as Frames>::Page;
/// A reference and the page lock of the backend under test.
pub(crate) type LockedOf<F> = <<F as Fixture>::Backend as Frames>::Locked;

/// Where all events of a scenario go, in order: the run's, and those of the fixture's methods and threads.
pub type Recording = Ring<Box<[RingSlot]>>;

/// Why a fixture did not do what a scenario asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FixtureError {
    /// The backend has no such thing.
    #[error("not applicable: the backend has no {0}")]
    NotApplicable(Capabilities),
    /// Nothing is mapped there, or something is that should not be.
    #[error("nothing to do this with at {0:?}")]
    BadSite(Site),
    /// No such page, or none that this can be done to.
    #[error("nothing to do this with in frame {0:?}")]
    BadFrame(Pfn),
    /// No frame is free.
    #[error("no free frame")]
    NoFrame,
    /// The access would have ended the program (Linux: SIGSEGV, SIGBUS).
    #[error("an access at {0:?} that the mapping does not allow")]
    Killed(Site),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// What became of an access that another thread began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It went through and saw, or stored, this value.
    Done(u64),
    /// The thread found a migration entry and sleeps.
    Asleep,
}

const fn lacks<T>(capability: Capabilities) -> Result<T, FixtureError> {
    Err(FixtureError::NotApplicable(capability))
}

/// A backend, its pages, and somebody who uses them.
///
/// A fixture is made anew for each scenario. Provided methods answer "not applicable"; whoever declares a capability
/// implements the methods that name it, and answers so to nothing that it declares: that is a failure.
///
/// Fixtures of the same kind may be in use by several threads at the same time, one each: libtest runs cases in parallel. Where they share
/// something (a kernel with global state), run the tests with `--test-threads=1`. After a case that failed,
/// [`Fixture::finish_faults`] is not called: threads that sleep then must survive the fixture's drop, or be left behind by it.
///
/// How big it must be for the conformance kit ([`conformance`](mod@crate::conformance)):
///
/// | what | so many |
/// |---|---|
/// | spaces at a time, children of forks among them | [`conformance::SPACES`](crate::conformance::SPACES) |
/// | pages of each space, from 0 on | [`conformance::PAGES`](crate::conformance::PAGES) |
/// | frames of the source node, and of the target node | [`conformance::FRAMES`](crate::conformance::FRAMES) each |
pub trait Fixture {
    /// The backend under test. Beyond the seam it can wait for page locks, and at entries in flight: the kit asks for both.
    type Backend: Backend + Wait + Faults;

    /// Returns the backend.
    fn backend(&self) -> &Self::Backend;

    /// Returns what this fixture has.
    fn capabilities(&self) -> Capabilities;

    /// Called once, before anything else: whose rules its faults follow, and where events go.
    fn begin(&mut self, profile: &'static Profile, recording: Arc<Recording>);

    /// Makes an address space. The first one there always is; others need [`Capabilities::SEVERAL_SPACES`].
    ///
    /// # Errors
    /// As all methods: [`FixtureError`].
    fn space(&self) -> Result<SpaceId, FixtureError>;

    /// Maps a fresh anonymous page, all zero, up to date, not dirty, at an empty `site`: on the source node, on the LRU (drained, inactive)
    /// with one reference, the entry's. `writable` is the VMA's permission and the entry's; where the profile's entries remember
    /// it, the entry is exclusive.
    ///
    /// # Errors
    /// As all methods.
    fn map_anon(&self, site: Site, writable: bool) -> Result<Pfn, FixtureError>;

    /// Loads the first word of the page at `site`, as a program would; faults in what is not there.
    ///
    /// # Errors
    /// As all methods.
    fn read(&self, site: Site) -> Result<u64, FixtureError>;

    /// Stores the first word of the page at `site`, as a program would: copy-on-write is broken, the entry becomes dirty.
    ///
    /// # Errors
    /// As all methods.
    fn write(&self, site: Site, value: u64) -> Result<(), FixtureError>;

    /// Loads word `word` of the page at `site`, as [`Fixture::read`] does the first ([`Capabilities::WHOLE_PAGES`]).
    ///
    /// # Errors
    /// As all methods.
    fn read_word(&self, site: Site, word: usize) -> Result<u64, FixtureError> {
        if word == 0 {
            self.read(site)
        } else {
            lacks(Capabilities::WHOLE_PAGES)
        }
    }

    /// Stores word `word` of the page at `site`, as [`Fixture::write`] does the first ([`Capabilities::WHOLE_PAGES`]).
    ///
    /// # Errors
    /// As all methods.
    fn write_word(&self, site: Site, word: usize, value: u64) -> Result<(), FixtureError> {
        if word == 0 {
            self.write(site, value)
        } else {
            lacks(Capabilities::WHOLE_PAGES)
        }
    }

    /// Returns the entry at `site`, without waiting or faulting.
    fn entry(&self, site: Site) -> Pte;

    /// Returns the frame that is mapped at `site` now.
    fn page_at(&self, site: Site) -> Option<Pfn> {
        let pte = self.entry(site);
        if pte.is_present() { pte.pfn() } else { None }
    }

    /// Returns a new page on the target node: one reference, on no list, no mapping, no flags. `backend().put` frees it.
    ///
    /// # Errors
    /// As all methods; [`FixtureError::NoFrame`] where there is none.
    fn new_page(&self) -> Result<<Self::Backend as Frames>::Page, FixtureError>;

    /// Checks everything the backend can know about itself while no migration is in progress: lists, counts, page tables, caches,
    /// translations, free frames (see the invariants I1–I28).
    ///
    /// # Errors
    /// The first violation, in words.
    fn check(&self) -> Result<(), String>;

    /// Maps a page that is mapped somewhere at the empty site `to` too, shared, anonymous or not ([`Capabilities::SHARED`]).
    ///
    /// # Errors
    /// As all methods.
    fn share(&self, pfn: Pfn, to: Site, writable: bool) -> Result<(), FixtureError> {
        let _ = (pfn, to, writable);
        lacks(Capabilities::SHARED)
    }

    /// Copies a space, copy-on-write for private mappings ([`Capabilities::FORK`]); the child's id is the next one.
    ///
    /// # Errors
    /// As all methods.
    fn fork(&self, parent: SpaceId) -> Result<SpaceId, FixtureError> {
        let _ = parent;
        lacks(Capabilities::FORK)
    }

    /// Changes what the VMA of the page at `site` allows ([`Capabilities::PROTECT`]).
    ///
    /// # Errors
    /// As all methods.
    fn protect(&self, site: Site, writable: bool) -> Result<(), FixtureError> {
        let _ = (site, writable);
        lacks(Capabilities::PROTECT)
    }

    /// Unmaps the page at `site` ([`Capabilities::UNMAP`]).
    ///
    /// # Errors
    /// As all methods.
    fn unmap(&self, site: Site) -> Result<(), FixtureError> {
        let _ = site;
        lacks(Capabilities::UNMAP)
    }

    /// Unmaps everything in `space` and ends it ([`Capabilities::UNMAP`]).
    ///
    /// # Errors
    /// As all methods.
    fn exit(&self, space: SpaceId) -> Result<(), FixtureError> {
        let _ = space;
        lacks(Capabilities::UNMAP)
    }

    /// Moves the mapping at `from` to the empty site `to` of the same space ([`Capabilities::REMAP`]).
    ///
    /// # Errors
    /// As all methods.
    fn remap(&self, from: Site, to: Site) -> Result<(), FixtureError> {
        let _ = (from, to);
        lacks(Capabilities::REMAP)
    }

    /// Pins the page for direct access: one reference and one pin ([`Capabilities::PIN`]).
    ///
    /// # Errors
    /// As all methods.
    fn pin(&self, pfn: Pfn) -> Result<(), FixtureError> {
        let _ = pfn;
        lacks(Capabilities::PIN)
    }

    /// Ends one pin ([`Capabilities::PIN`]).
    ///
    /// # Errors
    /// As all methods.
    fn unpin(&self, pfn: Pfn) -> Result<(), FixtureError> {
        let _ = pfn;
        lacks(Capabilities::PIN)
    }

    /// Makes a file of `pages` pages with contents of its own ([`Capabilities::FILE`]).
    ///
    /// `mover` is how its pages move: those of a file with [`Mover::Buffers`] have buffers ([`Capabilities::BUFFERS`]); a dirty page of
    /// one with [`Mover::Fallback`] can be written, and comes back unlocked ([`Capabilities::WRITEOUT`]).
    ///
    /// # Errors
    /// As all methods.
    fn file(&self, pages: u64, mover: Mover) -> Result<MappingId, FixtureError> {
        let _ = (pages, mover);
        lacks(Capabilities::FILE)
    }

    /// Maps page `index` of `file` at an empty `site`, reading it into the page cache where it is not there: then it is on the
    /// source node, on the LRU (drained, inactive), up to date, clean; references: the cache's, the buffers', and the entry's
    /// ([`Capabilities::FILE`]). A private mapping is copy-on-write.
    ///
    /// # Errors
    /// As all methods.
    fn map_file(
        &self,
        file: MappingId,
        index: u64,
        site: Site,
        writable: bool,
        sharing: Sharing,
    ) -> Result<Pfn, FixtureError> {
        let _ = (file, index, site, writable, sharing);
        lacks(Capabilities::FILE)
    }

    /// Makes the VMA of the file's page at `site` nonlinear: the reverse map does not find the entry by index any more
    /// ([`Capabilities::NONLINEAR`]).
    ///
    /// # Errors
    /// As all methods.
    fn nonlinear(&self, site: Site) -> Result<(), FixtureError> {
        let _ = site;
        lacks(Capabilities::NONLINEAR)
    }

    /// Returns the frame that the page cache holds for page `index` of `file` ([`Capabilities::FILE`]).
    ///
    /// # Errors
    /// As all methods.
    fn cached(&self, file: MappingId, index: u64) -> Result<Option<Pfn>, FixtureError> {
        let _ = (file, index);
        lacks(Capabilities::FILE)
    }

    /// Returns the word that storage holds for page `index` of `file`: what was written back ([`Capabilities::FILE`]).
    ///
    /// # Errors
    /// As all methods.
    fn stored(&self, file: MappingId, index: u64) -> Result<u64, FixtureError> {
        let _ = (file, index);
        lacks(Capabilities::FILE)
    }

    /// Cuts the page off its file: every entry that maps it goes, its cache slot with it, and its mapping is cleared; other
    /// references stay ([`Capabilities::TRUNCATE`]). Where the run holds the page lock the kernel would wait; here the entries
    /// go, migration entries too, and slot and mapping stay until the lock is open.
    ///
    /// # Errors
    /// As all methods.
    fn truncate(&self, pfn: Pfn) -> Result<(), FixtureError> {
        let _ = pfn;
        lacks(Capabilities::TRUNCATE)
    }

    /// Unmaps the page everywhere, so that only who isolated it holds it ([`Capabilities::UNMAP`]).
    ///
    /// # Errors
    /// As all methods.
    fn free(&self, pfn: Pfn) -> Result<(), FixtureError> {
        let _ = pfn;
        lacks(Capabilities::UNMAP)
    }

    /// Marks a page dirty, the page itself and not an entry ([`Capabilities::DIRTY_FILE`]).
    ///
    /// # Errors
    /// As all methods.
    fn dirty(&self, pfn: Pfn) -> Result<(), FixtureError> {
        let _ = pfn;
        lacks(Capabilities::DIRTY_FILE)
    }

    /// Locks one of the page's buffers, as I/O does, or unlocks it ([`Capabilities::BUFFERS`]).
    ///
    /// # Errors
    /// As all methods.
    fn buffers_busy(&self, pfn: Pfn, busy: bool) -> Result<(), FixtureError> {
        let _ = (pfn, busy);
        lacks(Capabilities::BUFFERS)
    }

    /// Begins or ends writeback of the page ([`Capabilities::WRITEBACK`]).
    ///
    /// # Errors
    /// As all methods.
    fn writeback(&self, pfn: Pfn, on: bool) -> Result<(), FixtureError> {
        let _ = (pfn, on);
        lacks(Capabilities::WRITEBACK)
    }

    /// Has another thread end the writeback of the page, once the caller sleeps for that or a while after this method returned
    /// ([`Capabilities::LATER`]).
    ///
    /// # Errors
    /// As all methods.
    fn end_writeback_later(&self, pfn: Pfn) -> Result<(), FixtureError> {
        let _ = pfn;
        lacks(Capabilities::LATER)
    }

    /// Has another thread set `opened`, open the page lock and give back the reference, once the caller sleeps for the lock or a
    /// while after this method returned ([`Capabilities::LATER`]).
    ///
    /// # Errors
    /// As all methods; the lock stays closed then.
    fn unlock_later(&self, locked: LockedOf<Self>, opened: Arc<AtomicBool>) -> Result<(), FixtureError> {
        let _ = (locked, opened);
        lacks(Capabilities::LATER)
    }

    /// Puts an anonymous page into the swap cache, which then holds one reference ([`Capabilities::SWAP_CACHE`]).
    ///
    /// # Errors
    /// As all methods.
    fn swap_cache(&self, pfn: Pfn) -> Result<(), FixtureError> {
        let _ = pfn;
        lacks(Capabilities::SWAP_CACHE)
    }

    /// Locks the VMA of the page at `site` ([`Capabilities::MLOCK`]).
    ///
    /// # Errors
    /// As all methods.
    fn mlock(&self, site: Site) -> Result<(), FixtureError> {
        let _ = site;
        lacks(Capabilities::MLOCK)
    }

    /// Lets thread `actor` touch `site` and returns when the access is over or the thread sleeps
    /// ([`Capabilities::FAULT_THREAD`]): a load, or a store of a value. Where the entry is a migration entry, the events `Fault` and `Wait` have
    /// been recorded when it returns, and in the profile where waiters hold a reference, it is held.
    ///
    /// # Errors
    /// As all methods.
    fn fault(&self, actor: ActorId, site: Site, store: Option<u64>) -> Result<Access, FixtureError> {
        let _ = (actor, site, store);
        lacks(Capabilities::FAULT_THREAD)
    }

    /// Called after each run, with no page lock held: waits until every thread of [`Fixture::fault`] that slept has finished, does
    /// what else had to wait for a page lock, and returns what each thread saw or stored, by actor
    /// ([`Capabilities::FAULT_THREAD`]). The event `Wake` of each has been recorded.
    ///
    /// # Errors
    /// As all methods; a thread that sleeps for ever is one, within a deadline of the fixture's own.
    fn finish_faults(&self) -> Result<Vec<(ActorId, u64)>, FixtureError> {
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests;

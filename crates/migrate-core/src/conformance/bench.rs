//! What a case works with: a fixture that has begun, pages on it, and runs whose every promise is looked at.

mod asked;
mod look;
mod pages;
mod program;
mod runs;

use alloc::format;
use alloc::sync::Arc;
use core::sync::atomic::AtomicBool;

use mm_types::trace::{Event, check_events, text_of};
use mm_types::{Pfn, Vpn};

use super::contract as promise;
use super::verdict::{Done, Halt, broken};
use crate::fixture::report::settle;
use crate::fixture::{Capabilities, Fixture, LockedOf, PageOf, Recording};
use crate::{Frames, Profile, migrate_prep};

use asked::Asked;
pub(super) use look::Looks;
pub(super) use pages::Mapped;

/// Events that a case may have.
const ROOM: usize = if cfg!(miri) { 1 << 7 } else { 1 << 12 };

/// What the kit writes into pages.
pub(super) const VALUE: u64 = 0x5eed_0000_0000_002a;

/// The place at which most cases map their page.
pub(super) const HERE: Vpn = Vpn::new(3);

/// A fixture that has begun.
pub(super) struct Bench<F: Fixture> {
    pub(super) fixture: Asked<F>,
    pub(super) profile: &'static Profile,
    recording: Arc<Recording>,
}

impl<F: Fixture> Bench<F> {
    pub(super) fn new(mut fixture: F, profile: &'static Profile) -> Self {
        let recording = Arc::new(Recording::with_capacity(ROOM));
        fixture.begin(profile, Arc::clone(&recording));
        Self {
            fixture: Asked::new(fixture),
            profile,
            recording,
        }
    }

    /// Ends the case as not applicable where the fixture lacks something.
    pub(super) fn needs(&self, needed: Capabilities) -> Done {
        let lacks = needed.difference(self.fixture.capabilities());
        if lacks.is_empty() {
            Ok(())
        } else {
            Err(Halt::Lacks(lacks))
        }
    }

    pub(super) fn backend(&self) -> &F::Backend {
        self.fixture.inner().backend()
    }

    /// True from the beginning of the first run on: only then can a migration have spoiled something.
    pub(super) fn has_run(&self) -> bool {
        self.recording
            .events()
            .any(|event| matches!(event, Event::Start { .. }))
    }

    pub(super) fn recording(&self) -> &Recording {
        &self.recording
    }

    /// What a case ends with: nobody sleeps, the backend is sound, and every event was one that the rules allow.
    pub(super) fn end(&self) -> Done {
        self.finish_faults()?;
        migrate_prep(self.backend());
        self.fixture
            .inner()
            .check()
            .map_err(|text| broken(promise::of_check(&text), text))?;
        if self.recording.dropped() > 0 {
            return Err(broken(
                promise::TRACE,
                format!("{} events were lost", self.recording.dropped()),
            ));
        }
        let events = settle(self.recording.events());
        let whole = || text_of(events.iter().copied());
        check_events(&events)
            .map(drop)
            .map_err(|error| broken(promise::TRACE, format!("{error}\n{}", whole())))
    }

    /// Lends a reference to a page.
    pub(super) fn with<R>(&self, pfn: Pfn, f: impl FnOnce(&F::Backend, &PageOf<F>) -> R) -> Result<R, Halt> {
        let page = self.hold(pfn)?;
        let done = f(self.backend(), &page);
        self.backend().put(page);
        Ok(done)
    }

    /// Takes a reference that the case gives back.
    pub(super) fn hold(&self, pfn: Pfn) -> Result<PageOf<F>, Halt> {
        let none = || broken(promise::GET, format!("none of {pfn:?}, which is in use"));
        self.backend().get(pfn).ok_or_else(none)
    }

    /// Lends the page lock.
    pub(super) fn with_lock<R>(&self, pfn: Pfn, f: impl FnOnce(&F::Backend, &LockedOf<F>) -> R) -> Result<R, Halt> {
        let locked = self.lock(pfn)?;
        let done = f(self.backend(), &locked);
        self.backend().put(self.backend().unlock(locked));
        Ok(done)
    }

    /// Takes a reference and the page lock, which another thread gives back.
    pub(super) fn unlock_later(&self, pfn: Pfn, opened: Arc<AtomicBool>) -> Done {
        const METHOD: promise::Contract = promise::of_fixture("Fixture::unlock_later");
        let done = self.fixture.inner().unlock_later(self.lock(pfn)?, opened);
        done.map_err(|error| self.fixture.halt(METHOD, &[&pfn], error))
    }

    /// Takes a reference and the page lock, which the case gives back.
    pub(super) fn lock(&self, pfn: Pfn) -> Result<LockedOf<F>, Halt> {
        self.backend().try_lock(self.hold(pfn)?).map_err(|page| {
            self.backend().put(page);
            broken(promise::TRY_LOCK, format!("{pfn:?} is locked, and nobody locked it"))
        })
    }
}

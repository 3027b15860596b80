//! What a program does with a case's pages: it loads, stores, and sleeps on a page in flight.

use alloc::collections::BTreeMap;
use alloc::format;
use core::fmt::Debug;

use mm_types::{ActorId, Site};

use super::super::contract as promise;
use super::super::verdict::{Done, Halt, broken};
use super::{Bench, VALUE};
use crate::fixture::{Access, Fixture, FixtureError};

/// What a load that goes through promises, and a store.
const READ: promise::Contract = promise::of_fixture("Fixture::read");
const WRITE: promise::Contract = promise::of_fixture("Fixture::write");
const FAULT: promise::Contract = promise::of_fixture("Fixture::fault");
const FINISH_FAULTS: promise::Contract = promise::of_fixture("Fixture::finish_faults");

impl<F: Fixture> Bench<F> {
    pub(in super::super) fn read(&self, site: Site) -> Result<u64, Halt> {
        let done = self.fixture.inner().read(site);
        done.map_err(|error| self.lost(READ, promise::MAPPED, &[&site], error))
    }

    pub(in super::super) fn write(&self, site: Site, value: u64) -> Done {
        let done = self.fixture.inner().write(site, value);
        done.map_err(|error| self.lost(WRITE, promise::EDIT, &[&site, &value], error))
    }

    /// An access that the program could make, and that ended it: a run's fault, where there was one, by `since`.
    fn lost(
        &self,
        method: promise::Contract,
        since: promise::Contract,
        of: &[&dyn Debug],
        error: FixtureError,
    ) -> Halt {
        let spoiled = is_end(&error) || matches!(error, FixtureError::BadFrame(_));
        let whose = if spoiled && self.has_run() { since } else { method };
        self.fixture.halt(whose, of, error)
    }

    /// A store that must end the program.
    pub(in super::super) fn cannot_write(&self, contract: promise::Contract, site: Site) -> Done {
        match self.fixture.inner().write(site, !VALUE) {
            Err(error) if is_end(&error) => Ok(()),
            Err(error) => Err(self.fixture.halt(WRITE, &[&site, &!VALUE], error)),
            Ok(()) => Err(broken(contract, format!("a store at {site:?} went through"))),
        }
    }

    /// A load that must end the program.
    pub(in super::super) fn cannot_read(&self, contract: promise::Contract, site: Site) -> Done {
        match self.fixture.inner().read(site) {
            Err(error) if is_end(&error) => Ok(()),
            Err(error) => Err(self.fixture.halt(READ, &[&site], error)),
            Ok(saw) => Err(broken(contract, format!("a load at {site:?} saw {saw:#x}"))),
        }
    }

    /// Another thread touches `site`.
    pub(in super::super) fn touch(&self, actor: u32, site: Site, store: Option<u64>) -> Result<Access, Halt> {
        self.fixture.fault(ActorId::new(actor), site, store)
    }

    /// Another thread touches `site`, which it need not be allowed to any more: `None` where that ended it.
    pub(in super::super) fn touch_or_end(
        &self,
        actor: u32,
        site: Site,
        store: Option<u64>,
    ) -> Result<Option<Access>, Halt> {
        let actor = ActorId::new(actor);
        match self.fixture.inner().fault(actor, site, store) {
            Ok(access) => Ok(Some(access)),
            Err(error) if is_end(&error) => Ok(None),
            Err(error) => Err(self.fixture.halt(FAULT, &[&actor, &site, &store], error)),
        }
    }

    /// A thread that touches a page in flight has to sleep.
    pub(in super::super) fn falls_asleep(&self, actor: u32, site: Site, store: Option<u64>) -> Done {
        match self.touch(actor, site, store)? {
            Access::Asleep => Ok(()),
            Access::Done(value) => Err(broken(
                promise::ASLEEP,
                format!("thread {actor} did not sleep at {site:?}, and has {value:#x}"),
            )),
        }
    }

    pub(in super::super) fn finish_faults(&self) -> Result<BTreeMap<u32, u64>, Halt> {
        let woken = self.fixture.inner().finish_faults().map_err(|error| match error {
            FixtureError::NotApplicable(_) => self.fixture.halt(FINISH_FAULTS, &[], error),
            other => broken(promise::UNLOCK, format!("{other}")),
        })?;
        Ok(woken.into_iter().map(|(actor, value)| (actor.raw(), value)).collect())
    }
}

/// The access would have ended the program.
const fn is_end(error: &FixtureError) -> bool {
    matches!(error, FixtureError::Killed(_) | FixtureError::BadSite(_))
}

//! What a program does with a case's pages: it loads, stores, and sleeps on a page in flight.

use alloc::collections::BTreeMap;
use alloc::format;

use mm_types::{ActorId, Site};

use super::super::contract as promise;
use super::super::verdict::{Done, Halt, broken};
use super::{Bench, VALUE};
use crate::fixture::{Access, Fixture, FixtureError};

impl<F: Fixture> Bench<F> {
    pub(in super::super) fn read(&self, site: Site) -> Result<u64, Halt> {
        self.fixture
            .read(site)
            .map_err(|error| at_site(error, site, promise::MAPPED))
    }

    pub(in super::super) fn write(&self, site: Site, value: u64) -> Done {
        self.fixture
            .write(site, value)
            .map_err(|error| at_site(error, site, promise::EDIT))
    }

    /// A store that must end the program.
    pub(in super::super) fn cannot_write(&self, contract: promise::Contract, site: Site) -> Done {
        match self.fixture.write(site, !VALUE) {
            Err(FixtureError::Killed(_) | FixtureError::BadSite(_)) => Ok(()),
            Err(error) => Err(error.into()),
            Ok(()) => Err(broken(contract, format!("a store at {site:?} went through"))),
        }
    }

    /// A load that must end the program.
    pub(in super::super) fn cannot_read(&self, contract: promise::Contract, site: Site) -> Done {
        match self.fixture.read(site) {
            Err(FixtureError::Killed(_) | FixtureError::BadSite(_)) => Ok(()),
            Err(error) => Err(error.into()),
            Ok(saw) => Err(broken(contract, format!("a load at {site:?} saw {saw:#x}"))),
        }
    }

    /// Another thread touches `site`.
    pub(in super::super) fn touch(&self, actor: u32, site: Site, store: Option<u64>) -> Result<Access, FixtureError> {
        self.fixture.fault(ActorId::new(actor), site, store)
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
        let woken = self.fixture.finish_faults().map_err(|error| match error {
            FixtureError::NotApplicable(lacks) => Halt::Lacks(lacks),
            other => broken(promise::UNLOCK, format!("{other}")),
        })?;
        Ok(woken.into_iter().map(|(actor, value)| (actor.raw(), value)).collect())
    }
}

fn at_site(error: FixtureError, site: Site, contract: promise::Contract) -> Halt {
    match error {
        FixtureError::Killed(_) | FixtureError::BadSite(_) | FixtureError::BadFrame(_) => {
            broken(contract, format!("at {site:?}: {error}"))
        }
        other => other.into(),
    }
}

//! Who takes part: the actors, and the searches that are made of them.

use std::rc::Rc;

use migrate_core::Profile;
use mm_types::{EntryStyle, Mode, Site, SpaceId, Vpn};

use crate::explore::{Memory, explore};
use crate::kernel::{Area, site};
use crate::world::World;

/// What the words hold at first.
pub(crate) const INITIAL: [u64; 4] = [10, 11, 12, 13];
/// What the actor that owns a word stores.
pub(crate) const STORED: [u64; 4] = [20, 21, 22, 23];
/// The word of the mutators, of the faulter, and of the one that interferes.
pub(crate) const FAULTER: usize = 2;
pub(crate) const OTHER: usize = 3;
/// Where a file's late faulter has its area; nothing is mapped there at first.
pub(crate) const COLD: Site = Site::new(SpaceId::new(1), Vpn::new(2));

/// Somebody who acts while the migrator does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Actor {
    /// Stores its word of the page through a translation that its CPU holds already, and reads it back. Two of them: 0 and 1.
    Mutator(usize),
    /// Stores its word once, and does not look again: the shortest program that can lose a write.
    Writer(usize),
    /// Touches the page with a cold TLB; a file's page through a cold entry.
    Faulter,
    /// Unmaps the space.
    Unmap,
    /// Forks the space, and is the child.
    Fork,
    /// Takes write permission away.
    Protect,
    /// Moves the mapping of the page.
    Remap,
    /// Pins the page and stores its word directly.
    Pin,
    /// Cuts the file off.
    Truncate,
    /// Looks the page up in the page cache.
    Lookup,
    /// Takes the page off the LRU, if it can, and puts it back.
    Isolate,
    /// Takes the page off the LRU, if it can, and moves it: another migration.
    Migrate,
}

impl Actor {
    pub(crate) fn has_cpu(self) -> bool {
        !matches!(
            self,
            Self::Unmap | Self::Pin | Self::Truncate | Self::Lookup | Self::Isolate | Self::Migrate
        )
    }
}

/// One search.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) profile: &'static Profile,
    pub(crate) mode: Mode,
    pub(crate) pages: usize,
    pub(crate) file: bool,
    /// The page is on the LRU at first, and isolating it is part of the search.
    pub(crate) lru: bool,
    /// All but the migrator.
    pub(crate) actors: &'static [Actor],
    pub(crate) bound: Option<usize>,
    /// The orderings of atomics as they are written, or sequential consistency.
    pub(crate) memory: Memory,
}

impl Scenario {
    pub(crate) fn has(&self, actor: Actor) -> bool {
        self.actors.contains(&actor)
    }

    /// Nobody but waiters, who take no reference under today's rules, and mprotect, which takes none either.
    pub(crate) fn only_waiters(&self) -> bool {
        let harmless = |actor: &Actor| match actor {
            Actor::Mutator(_) | Actor::Writer(_) | Actor::Protect => true,
            // It holds a reference while it maps a file's page.
            Actor::Faulter => !self.file,
            _ => false,
        };
        self.lossless() && self.actors.iter().all(harmless)
    }

    /// True where somebody may have the page locked when a migrator comes that sleeps for it.
    pub(crate) fn is_about_the_lock(&self) -> bool {
        let locks = |actor: &Actor| matches!(actor, Actor::Truncate) || *actor == Actor::Faulter && self.file;
        self.mode == Mode::Sync && self.lossless() && self.actors.iter().any(locks)
    }

    /// Attempts that a page gets: a second one where that is affordable, and all that it takes to sleep for the lock where that is
    /// what the search is about.
    pub(crate) fn attempts(&self) -> usize {
        let brief = self.actors.iter().any(|actor| matches!(actor, Actor::Writer(_)));
        match self.mode {
            // Three passes only try the lock.
            Mode::Sync if self.lossless() => 4,
            _ if self.actors.len() < 3 && !brief => 2,
            _ => 1,
        }
    }

    pub(crate) fn lossless(&self) -> bool {
        self.profile.entries == EntryStyle::Lossless
    }

    /// A store may come to a signal.
    pub(crate) fn may_fail(&self) -> bool {
        self.has(Actor::Protect) || self.may_vanish()
    }

    /// What a program's access may come to: a signal, where the mapping may go.
    pub(crate) fn may_vanish(&self) -> bool {
        [Actor::Unmap, Actor::Remap, Actor::Truncate]
            .iter()
            .any(|actor| self.has(*actor))
    }

    pub(crate) fn home(&self, word: usize) -> Site {
        match word {
            0 => site(0, 0),
            1 if self.file => site(1, self.pages as u64 - 1),
            FAULTER if self.file => COLD,
            _ => site(0, self.pages as u64 - 1),
        }
    }

    pub(crate) fn areas(&self) -> Vec<Area> {
        let area = |site| Area {
            site,
            index: 0,
            pages: self.pages,
        };
        let mut areas = vec![area(site(0, 0))];
        if self.file {
            areas.push(area(site(1, 0)));
            if self.has(Actor::Faulter) {
                areas.push(Area { pages: 1, ..area(COLD) });
            }
        }
        areas
    }

    /// Explores.
    pub(crate) fn run(self) {
        explore(
            self.name,
            self.actors.len() + 1,
            self.bound,
            self.memory,
            move |trace| Some(Rc::new(World::new(self, trace)).run()),
        );
    }
}

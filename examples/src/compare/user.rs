//! Engines in user space.

use core::cell::Cell;
use core::sync::atomic::AtomicU64;
use std::time::Instant;

use backend_user::{Area, Builder, Engine, Machine, Migrate, Prot, Sharing, Space};
use mm_types::NodeId;

use crate::args::MAX_BATCH;

use super::engine::{self, Went};

/// The name of the engine that is always there.
pub const NAME: &str = "user space: memfd, mprotect, mmap";

/// The name of the engine for private pages.
pub const PRIVATE: &str = "user space: private pages, userfaultfd";

/// The engines in user space: their names, and machines to be made with them. One that the system does not have says so when a
/// machine is made.
#[must_use]
pub fn engines() -> [(&'static str, Builder); 2] {
    let machine = |engine| Machine::builder().engine(engine);
    [(NAME, machine(Engine::Shared)), (PRIVATE, machine(Engine::Private))]
}

/// Those that the system has.
#[must_use]
pub fn available() -> Vec<(&'static str, Builder)> {
    let has = |(_, builder): &(_, Builder)| builder.clone().frames_per_node(1).build().is_ok();
    engines().into_iter().filter(has).collect()
}

/// An area of a machine with two nodes, all of it written to.
#[derive(Debug)]
pub struct User {
    name: &'static str,
    only: Option<usize>,
    machine: Machine,
    area: Area,
    /// Kept: a space that is gone takes its areas along.
    _spaces: Vec<Space>,
    node: Cell<u16>,
}

impl User {
    /// Makes a machine, and an area of `pages` pages on its first node.
    ///
    /// # Errors
    /// Why the machine or the memory is not to be had.
    pub fn new(name: &'static str, builder: Builder, pages: usize) -> Result<Self, String> {
        Self::shared(name, builder, pages, 1)
    }

    /// The same, with every page mapped in so many spaces.
    ///
    /// # Errors
    /// As above.
    pub fn shared(name: &'static str, builder: Builder, pages: usize, mappings: usize) -> Result<Self, String> {
        let make = || {
            // A batch's targets are taken before its sources are free.
            let machine = builder.nodes(2).frames_per_node(pages + 2 * MAX_BATCH).build()?;
            let space = machine.space(pages)?;
            let sharing = if mappings > 1 {
                Sharing::Shared
            } else {
                Sharing::Private
            };
            let area = space.map_anonymous(pages, Prot::ReadWrite, sharing)?;
            area.populate()?;
            let mut spaces = vec![space];
            for _ in 1..mappings {
                let other = machine.space(pages)?;
                let same = area.space().share(&area, &other, Prot::ReadWrite)?;
                same.populate()?;
                spaces.push(other);
            }
            Ok(Self {
                name,
                only: None,
                machine,
                area,
                _spaces: spaces,
                node: Cell::new(1),
            })
        };
        make().map_err(|error: backend_user::MachineError| error.to_string())
    }

    /// Moves `batch` pages at a time and no other number: batches of few pages break up what moves as one piece in larger ones, and that
    /// is not to be in the figure of those.
    #[must_use]
    pub fn only(self, batch: usize) -> Self {
        Self {
            only: Some(batch),
            ..self
        }
    }
}

impl engine::Engine for User {
    fn name(&self) -> &str {
        self.name
    }

    fn pages(&self) -> usize {
        self.area.pages()
    }

    fn batches(&self, asked: &[usize]) -> Vec<usize> {
        self.only.map_or_else(|| asked.to_vec(), |batch| vec![batch])
    }

    fn memory(&self) -> Vec<&[AtomicU64]> {
        (0..self.area.pages()).map(|page| self.area.page(page)).collect()
    }

    fn go(&self, batch: usize) -> Result<Went, String> {
        let to = self.node.replace(1 - self.node.get());
        let begun = Instant::now();
        // A batch is what was asked for: none is cut.
        let request = Migrate::new(&self.area, NodeId::new(to))
            .batch(batch)
            .stall_budget(None);
        let report = self.machine.migrate(request);
        let took = begun.elapsed();
        let report = report.map_err(|error| error.to_string())?;
        Ok(Went {
            took,
            moved: report.moved,
            stayed: report.refused(),
        })
    }
}

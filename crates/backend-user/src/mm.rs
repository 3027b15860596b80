//! An emulated address space: a range of the process, and a table of entries that says what each page of it is.
//!
//! The protocol: `table` is what is true, the range is what the processor does, and
//!
//! > whenever `state` is unlocked, the range agrees with the table at every page, but for those on `todo`.
//!
//! Entries are read by anybody, without the lock: a fault handler does. They are replaced, and the range is changed, with the
//! lock held. [`Mm::settle`] makes the range agree, *by what the entries say then*: so whoever completes somebody else's
//! work, or comes after somebody who changed an entry in between, cannot make a mapping that is out of date.
//!
//! Settling is in `mm/settle.rs`; what the range has at each page, by which is known what is to be changed, in `mm/real.rs`.

mod real;
mod settle;

use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use migrate_core::PageRef;
use mm_types::{Pfn, Pte, Site, SpaceId, Vpn};

use crate::kernel::{Kernel, lock};
use crate::moved::Steps;
use crate::sys::error::MapError;
use crate::sys::range::{PageRange, Prot};
use crate::word;

pub(crate) use real::Real;
use settle::Todo;

/// One address space.
#[derive(Debug)]
pub(crate) struct Mm {
    pub(crate) id: SpaceId,
    pub(crate) range: PageRange,
    table: Box<[AtomicU64]>,
    state: Mutex<State>,
}

/// What the table lock guards, beside the right to replace entries.
#[derive(Debug)]
pub(crate) struct State {
    /// Pages whose mapping need not agree with their entry.
    todo: Vec<Todo>,
    /// References of entries that are gone, while programs may still reach the pages: dropped when the range agrees.
    pub(crate) owed: Vec<PageRef>,
    /// What the range has at each page.
    pub(crate) real: Box<[Real]>,
    /// Neighbouring pages that are not one mapping.
    pub(crate) edges: usize,
    /// Pages that were not used since the last look are inaccessible.
    pub(crate) tracking: bool,
    /// A writable entry lets the processor write only once it is dirty.
    pub(crate) learn_dirty: bool,
    /// Pages resident, in flight ones among them.
    pub(crate) resident: usize,
    /// Where the pages of an area should have their frames: first page, pages, frame of the first.
    pub(crate) placed: Vec<(usize, usize, Pfn)>,
    /// Room for the places of the second engine that are settled now: a batch allocates nothing after the first.
    moves: Vec<usize>,
    /// Room for what is shown once everything is hidden that is to be.
    pub(crate) shows: Vec<Steps>,
    /// Places of the second engine; empty where there is none.
    private: Vec<bool>,
    /// Blocks of the range that have tables of single pages, of those that places of the second engine lie in.
    in_pages: Vec<bool>,
    /// Places of the second engine that are closed, because an access was not allowed.
    pub(crate) barred: Vec<usize>,
}

impl Mm {
    /// Reserves a space of `pages` pages.
    pub(crate) fn new(id: SpaceId, pages: usize, learn_dirty: bool) -> Result<Self, MapError> {
        let range = PageRange::reserve(pages)?;
        Ok(Self {
            id,
            range,
            table: (0..pages).map(|_| AtomicU64::new(0)).collect(),
            state: Mutex::new(State {
                todo: Vec::new(),
                owed: Vec::new(),
                real: vec![Real::NOTHING; pages].into_boxed_slice(),
                edges: 0,
                tracking: false,
                learn_dirty,
                resident: 0,
                placed: Vec::new(),
                moves: Vec::new(),
                shows: Vec::new(),
                private: Vec::new(),
                in_pages: Vec::new(),
                barred: Vec::new(),
            }),
        })
    }

    /// Takes the table lock.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Reads an entry. Async-signal-safe. An entry outside the space is empty.
    pub(crate) fn read(&self, page: usize) -> Pte {
        word::decode(self.word(page))
    }

    /// Reads an entry's word.
    pub(crate) fn word(&self, page: usize) -> u64 {
        self.table.get(page).map_or(0, |word| word.load(Ordering::Acquire))
    }

    /// Replaces an entry. The caller holds the table lock, so that nobody else does.
    pub(crate) fn store(&self, page: usize, pte: Pte) {
        if let Some(word) = self.table.get(page) {
            word.store(word::encode(pte), Ordering::Release);
        }
    }

    /// Returns how many pages the space has.
    pub(crate) fn pages(&self) -> usize {
        self.table.len()
    }

    /// Names one of its pages.
    pub(crate) const fn site(&self, page: usize) -> Site {
        Site::new(self.id, Vpn::new(page as u64))
    }
}

impl State {
    /// True for a place of the second engine.
    pub(crate) fn is_private(&self, page: usize) -> bool {
        self.private.get(page).copied().unwrap_or(false)
    }

    /// True where a block of the range has tables of single pages.
    pub(crate) fn in_pages(&self, block: usize) -> bool {
        self.in_pages.get(block).copied().unwrap_or(true)
    }

    /// Notes whether it has.
    pub(crate) fn set_in_pages(&mut self, block: usize, in_pages: bool) {
        if let Some(block) = self.in_pages.get_mut(block) {
            *block = in_pages;
        }
    }

    /// Makes places the second engine's, or the first's again; nothing is there now.
    pub(crate) fn set_private(&mut self, kernel: &Kernel, pages: core::ops::Range<usize>, private: bool) {
        let before = self.edges_of(kernel, pages.start, pages.len());
        if self.private.is_empty() {
            self.private.resize(self.real.len(), false);
            self.in_pages
                .resize(self.real.len().div_ceil(crate::sys::node::HUGE), false);
        }
        self.barred.retain(|page| !pages.contains(page));
        if let Some(run) = self.private.get_mut(pages.clone()) {
            run.fill(private);
        }
        let after = self.edges_of(kernel, pages.start, pages.len());
        let edges = self.edges;
        self.edges = (edges + after).saturating_sub(before);
        kernel.mappings_changed(edges, self.edges);
    }

    /// Returns what a present entry lets the processor do.
    pub(crate) fn prot(&self, pte: Pte) -> Prot {
        if self.tracking && !pte.young() {
            Prot::None
        } else if pte.writable() && (!self.learn_dirty || pte.dirty()) {
            Prot::ReadWrite
        } else {
            Prot::Read
        }
    }
}

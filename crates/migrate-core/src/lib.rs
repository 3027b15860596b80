//! Page migration with migration entries: the algorithm, and the seam a kernel implements.
//!
//! # The protocol
//!
//! A page moves in one order only, and the types keep it:
//!
//! 1. the page is **isolated** from the LRU and stands on the caller's list ([`Isolated`]);
//! 2. the page is **locked**; every present entry that maps it becomes a **migration entry**: not present, it names the
//!    frame, and whoever touches the page finds it and waits for the page lock ([`migration_entry_wait`]);
//! 3. one **barrier**: no CPU holds a stale translation any more ([`Rmap::flush`]);
//! 4. contents are **copied** and references **switched** to the new frame, the count frozen so that nobody can gain one
//!    in between; both take a [`Pair`], the proof that steps 2 and 3 are over;
//! 5. the migration entries become mappings again, of the new frame or, where the page was refused, of the old one;
//! 6. a second **barrier**, then the new page is unlocked, then the old one: waiters go on.
//!
//! Up to the switch everything can be undone, and dropping a run at any point undoes it; after the switch there is only
//! forward. A page that stayed says why ([`mm_types::Refusal`]).
//!
//! # A complete backend
//!
//! A machine with one CPU, sixteen frames and one page table. It has no `struct page`, so the page map of `mm-types` gives it
//! frames, locks and lists ([`UsesPageMap`]), and its page table is all that is left to say.
//!
//! ```
//! use core::{cell::{Cell, RefCell}, sync::atomic::AtomicU32};
//! use std::collections::VecDeque;
//!
//! use migrate_core as mc;
//! use migrate_core::{Args, Frames, LockedPage, Lru as _, MODERN, NewPages, PageRef, Slot};
//! use mm_types::{Lru, Mapping, Mode, NodeId, Page, PageFlags, PageMap, Pfn, Pte, PteFlags, Reason, Site, SpaceId, Vpn, ledger};
//!
//! struct Machine {
//!     pages: [Page; 16],
//!     contents: [Cell<u64>; 16],
//!     table: [Cell<Pte>; 4],
//!     lru: RefCell<Lru>,
//! }
//!
//! /// One CPU would wait for itself.
//! struct Never;
//!
//! impl mm_types::Sleep for Never {
//!     fn wait(&self, _: &AtomicU32, _: u32) { unreachable!() }
//!     fn wake_all(&self, _: &AtomicU32) {}
//! }
//!
//! impl mc::UsesPageMap for Machine {
//!     type Sleep = Never;
//!     fn page_map(&self) -> PageMap<'_> { PageMap::new(Pfn::new(0), &self.pages) }
//!     fn sleeper(&self) -> &Never { &Never }
//!     fn with_lru<R>(&self, f: impl FnOnce(&mut Lru) -> R) -> R { f(&mut self.lru.borrow_mut()) }
//!     fn copy_frame(&self, from: Pfn, to: Pfn) -> Result<(), mc::CopyError> {
//!         let word = |pfn: Pfn| pfn.index().and_then(|n| self.contents.get(n)).ok_or(mc::CopyError);
//!         word(to)?.set(word(from)?.get());
//!         Ok(())
//!     }
//!     fn free_frame(&self, _: Pfn) {}
//! }
//!
//! /// An entry under its lock, which on one CPU is nothing; what it lets go of, the gather keeps until the flush.
//! struct Held<'m>(&'m Machine, usize, &'m RefCell<Vec<PageRef>>);
//!
//! impl mc::Entry for Held<'_> {
//!     fn site(&self) -> Site { Site::new(SpaceId::new(0), Vpn::new(self.1 as u64)) }
//!     fn read(&self) -> Pte { self.0.table[self.1].get() }
//!     fn update(&mut self, edit: &dyn Fn(Pte) -> Option<Pte>) -> Option<mc::Edited> {
//!         let before = self.read();
//!         let after = edit(before)?;
//!         let (map, counts) = (mc::UsesPageMap::page_map(self.0), ledger(before, after));
//!         mc::get_for_ledger(map, &counts);
//!         self.0.table[self.1].set(after);
//!         self.2.borrow_mut().extend(mc::unmap_for_ledger(map, &counts));
//!         Some(mc::Edited { before, after })
//!     }
//! }
//!
//! impl mc::Rmap for Machine {
//!     type Gather = Vec<PageRef>;
//!     fn gather(&self) -> Vec<PageRef> { Vec::new() }
//!     fn walk(&self, _: &LockedPage, gather: &mut Vec<PageRef>, visit: &mut mc::Visit<'_>) {
//!         let unmapped = RefCell::new(core::mem::take(gather));
//!         // So few entries: every one is looked at. Others have a reverse map.
//!         let _ = (0..self.table.len()).try_for_each(|at| visit(&mut Held(self, at, &unmapped)));
//!         *gather = unmapped.into_inner();
//!     }
//!     fn flush(&self, gather: Vec<PageRef>) {
//!         // Here a kernel tells its CPUs, and goes on when they have answered.
//!         gather.into_iter().for_each(|page| self.put(page));
//!     }
//!     fn flush_pending(&self, _: SpaceId) {}
//!     fn is_mapped(&self, page: &LockedPage) -> bool {
//!         self.table.iter().any(|entry| entry.get().maps(page.pfn()))
//!     }
//! }
//!
//! // No page cache, no swap: every method has a default.
//! impl mc::Cache for Machine {}
//!
//! let machine = Machine {
//!     pages: core::array::from_fn(|_| Page::new()),
//!     contents: Default::default(),
//!     table: core::array::from_fn(|_| Cell::new(Pte::None)),
//!     lru: RefCell::new(Lru::new(NodeId::new(0))),
//! };
//! let map = PageMap::new(Pfn::new(0), &machine.pages);
//!
//! // A page at address 2: its reference is the entry's. It goes on the LRU, and is isolated to be moved.
//! let page = PageRef::allocate(map, Pfn::new(5)).unwrap();
//! machine.pages[5].set_mapping(Mapping::Anon(mm_types::AnonVmaId::new(0)));
//! machine.pages[5].flags().edit(PageFlags::UPTODATE, PageFlags::empty());
//! machine.pages[5].add_mapping();
//! machine.contents[5].set(42);
//! machine.table[2].set(Pte::present(page.pfn(), PteFlags::WRITE));
//! machine.putback(machine.get(page.pfn()).unwrap());
//! mc::migrate_prep(&machine);
//! let isolated = mc::isolate_lru_page(&machine, &page, ())?;
//!
//! let (mut from, mut failed) = (VecDeque::from([isolated]), VecDeque::new());
//! let mut news = VecDeque::from([PageRef::allocate(map, Pfn::new(11)).unwrap()]);
//! let tally = mc::migrate_pages(&machine, Args {
//!     from: &mut from,
//!     target: NewPages(&mut news),
//!     moved: None,
//!     failed: &mut failed,
//!     slots: &mut [Slot::new()],
//!     profile: &MODERN,
//!     mode: Mode::Sync,
//!     reason: Reason::Demotion,
//!     outcome: &mut |_page, _outcome| {},
//!     observer: (),
//! })?;
//! assert_eq!(tally.moved, 1);
//! assert!(machine.table[2].get().maps(Pfn::new(11)) && machine.contents[11].get() == 42);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Whether such a backend keeps its promises is what the conformance kit tells, once it has a `Fixture`.
//!
//! # What is where
//!
//! | question | module |
//! |---|---|
//! | what must a kernel say? | [`seam`](crate::Frames): [`Frames`], [`Rmap`], [`Entry`], [`Cache`], [`Lru`], [`Wait`], [`Faults`] |
//! | and one without a `struct page`? | [`UsesPageMap`] |
//! | how is a run started? | [`migrate_pages`], [`migrate_pages_nowait`], [`migrate_page`] |
//! | whose rules? | [`Profile`]: [`LINUX_2_6_17`], [`MODERN`] |
//! | what must others do who meet an entry? | [`migration_entry_wait`], [`Readers`] |
//! | does a backend keep its promises? | `conformance` (feature `alloc`): one line, hundreds of tests |
//!
//! Nothing here allocates, blocks without being allowed to, or trusts its caller. There is no unsafe code.

#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::arithmetic_side_effects
    )
)]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(test)]
extern crate std;

mod args;
#[cfg(feature = "alloc")]
pub mod conformance;
mod edge;
mod engine;
mod failure;
mod fault;
mod fault_injector;
#[cfg(feature = "alloc")]
pub mod fixture;
mod guard;
mod hooked;
#[cfg(feature = "alloc")]
pub mod invariants;
mod list;
#[cfg(feature = "model")]
pub mod model;
mod mover;
mod one_page;
mod page_map;
mod profile;
mod readers;
mod run;
mod seam;
mod target;
#[cfg(test)]
mod told;
mod unmap;
mod waiting;

pub use args::{Args, ConfigError, MAX_PASSES, Slot, Tally};
pub use edge::{Edge, EdgeKind, Hook, Verdict};
pub use engine::{migrate_pages, migrate_pages_nowait};
pub use failure::{Effect, Failure, Injection};
pub use fault::migration_entry_wait;
pub use fault_injector::{FailurePlan, FaultInjector};
pub use guard::{Isolated, Pair, isolate_lru_page, migrate_prep, putback_lru_pages};
pub use hooked::{Hooked, HookedTarget};
pub use list::{List, MapList};
pub use one_page::{OnePage, migrate_page};
pub use page_map::{
    LockedPage, PageRef, UsesPageMap, end_page_writeback, free_unused, get_for_ledger, unmap_for_ledger,
};
pub use profile::{BufferLock, LINUX_2_6_17, MODERN, MoveOrder, Profile, StallBudget, SwapCacheEntries, WaiterRef};
pub use readers::Readers;
pub use seam::{
    Backend, Cache, CopyError, Edited, Entry, EntryVma, Faults, Frames, Lru, Mover, Rmap, SlotChanged, Visit, Wait,
    WriteError, Written,
};
pub use target::{FromFn, NewPages, Target};

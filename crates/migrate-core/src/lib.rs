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
pub use profile::{BufferLock, LINUX_2_6_17, MODERN, MoveOrder, Profile, SwapCacheEntries, WaiterRef};
pub use readers::Readers;
pub use seam::{
    Backend, Cache, CopyError, Edited, Entry, EntryVma, Faults, Frames, Lru, Mover, Rmap, SlotChanged, Visit, Wait,
    WriteError, Written,
};
pub use target::{FromFn, NewPages, Target};

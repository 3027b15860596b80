//! The words and the data of page migration.
//!
//! Everything here is data and pure functions over it: no allocation, no unsafe code, no policy.
//! The algorithm that uses it is `migrate-core`; a kernel with its own `struct page` uses only the
//! words (frame numbers, entries, outcomes, trace events), one without gets the descriptor, the page
//! map and the lists too.

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
#[cfg(any(test, feature = "std", loom, shuttle, museum))]
extern crate std;

/// Tests that go through every short sequence take every so-manieth in Miri, where each step costs a thousand times as much.
#[cfg(test)]
const EVERY: usize = if cfg!(miri) { 9973 } else { 1 };

mod addr;
mod address_space;
mod anon_vma;
mod counters;
mod flags;
mod format;
mod invariant;
mod ledger;
mod list;
mod lru;
mod migration_entry;
mod mode;
pub mod museum;
mod outcome;
mod page;
mod page_map;
mod pte;
mod pte_edit;
mod pte_text;
pub mod scenario;
mod swap_cache;
mod swap_entry;
pub mod sync;
pub mod trace;
pub mod transfer;
mod vma;
mod vma_table;

pub use addr::{
    ActorId, AnonVmaId, MappingId, NodeId, Order, PAGE_SHIFT, PAGE_SIZE, Pfn, PhysAddr, Site, SpaceId, VirtAddr, Vpn,
};
pub use address_space::{CacheError, CacheSlot, PageCache, SlotTags};
pub use anon_vma::{AnonVma, AnonVmaError, AnonVmaLink, AnonVmas};
pub use counters::{Counter, Counters};
pub use flags::{AtomicPageFlags, PageFlags};
pub use format::{EncodeError, EntryFormat, Lost, NonPresent};
pub use invariant::{EXEMPTIONS, Exemption, Invariant, Scope};
pub use ledger::{Ledger, expected_count, ledger};
pub use list::{ListError, ListId, PageList};
pub use lru::{Lru, LruList};
pub use migration_entry::{MigrationEntry, MigrationFlags, MigrationKind};
pub use mode::{Mode, Reason, Rules, UnknownWord};
pub use outcome::{Outcome, Refusal, errno};
pub use page::{BadPage, CountMismatch, Mapping, Page, Sleep};
pub use page_map::PageMap;
pub use pte::{EntryStyle, Pte, PteFlags, SwapPteFlags};
pub use pte_edit::Restore;
pub use pte_text::ParsePteError;
pub use swap_cache::{SwapCache, SwapError, SwapSlot};
pub use swap_entry::{SWAP_TYPE_BITS, SwapEntry, SwapLayout, SwapType, SwapTypeError, TypeKind};
pub use sync::spin_loop;
pub use vma::{Backing, Vma, VmaError, VmaFlags, VmaId};
pub use vma_table::{VmaChange, VmaSlot, VmaTable};

//! The words and the data of page migration.
//!
//! Everything here is data and pure functions over it: no allocation, no unsafe code, no policy.
//! The algorithm that uses it is `migrate-core`; a kernel with its own `struct page` uses only the
//! words (frame numbers, entries, outcomes, trace events), one without gets the descriptor, the page
//! map and the lists too.
//!
//! # The protocol, in these words
//!
//! A page is mapped by present entries ([`Pte`]). To move it, its lock is taken and each of them becomes a [`MigrationEntry`]: not
//! present, naming the frame, remembering what the mapping allowed. What such an edit does to counts is decided in one place, the
//! [`ledger()`]. After a barrier the contents are copied, and the count is frozen at [`expected_count`]: any other number is somebody
//! else's reference, and the page stays, with a [`Refusal`] that says so. Flags go along by the table in [`transfer`]. Then the entries
//! become mappings again, of the new frame, and all of it has been told as [`trace::Event`]s, which a [`trace::Checker`] holds against
//! the [`Invariant`]s.
//!
//! ```
//! use mm_types::{MigrationEntry, Pfn, Pte, PteFlags, Refusal, expected_count, ledger, trace};
//!
//! let (old, new) = (Pfn::new(5), Pfn::new(9));
//! let mapped = Pte::present(old, PteFlags::WRITE);
//! let in_flight = Pte::Migration(MigrationEntry::writable(old));
//!
//! // Taking the mapping away drops its reference; the page still counts as resident.
//! let taken = ledger(mapped, in_flight);
//! assert_eq!((taken.put, taken.get, taken.rss), (Some(old), None, 0));
//! // An isolated page that nobody else holds: one reference, and one for each slot of a cache.
//! assert_eq!((expected_count(0, false), expected_count(1, true)), (1, 3));
//! // The same edit the other way round gives the reference to the new page.
//! assert_eq!(ledger(in_flight, Pte::present(new, PteFlags::WRITE)).get, Some(new));
//!
//! let held = Refusal::ExtraReference { expected: 1, found: 2 };
//! assert!(held.is_transient());
//!
//! # #[cfg(feature = "alloc")] {
//! let story = "trace v1\nisolate p0 f0\nlock p0 f0\nset_migration_pte p0 f0 site=m0+0x3 was=rw now=write\nunlock p0 f0\n";
//! let wrong = trace::check_text(story).unwrap_err().to_string();
//! assert!(wrong.starts_with("line 5: I6 "), "{wrong}");
//! # }
//! ```

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

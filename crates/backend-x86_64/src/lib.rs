//! Real x86-64 page tables behind the seam of `migrate-core`.
//!
//! Tables of 4 or 5 levels in memory, entries as the CPU reads them ([`HwEntry`]), a reverse map, and a TLB gather that is
//! handed to the kernel's shootdown. The same code runs over an arena on a host, in a guest, and in somebody's kernel: memory
//! is reached through one unsafe trait, [`FrameMapping`], and nothing here executes a privileged instruction.
//!
//! # What a kernel lends
//!
//! | what | trait | where Linux has it |
//! |---|---|---|
//! | a pointer for each frame | [`FrameMapping`] (unsafe) | `page_address`, the direct map |
//! | frames | [`FrameSource`] | `alloc_page`, `__free_page` |
//! | invalidating translations on all CPUs | [`Shootdown`] | `flush_tlb_mm_range`, `arch_tlbbatch_flush` |
//! | sleeping | [`Sleep`](mm_types::Sleep) | `folio_wait_bit`, `wake_up_page_bit` |
//! | room for spaces, areas and anon-vmas | [`Storage`] | slab caches |
//!
//! One value that implements the four traits is a [`Platform`]; a [`Kernel`] over it is a
//! [`Backend`](migrate_core::Backend), with [`Faults`](migrate_core::Faults) and [`Wait`](migrate_core::Wait).
//!
//! # Locks
//!
//! Outermost first: page lock → the lock of the areas (Linux: `mmap_sem`, `i_mmap_lock` and `anon_vma->lock` in one) → a
//! space's structure lock (shared by whoever looks at an entry without the lock of the areas, exclusive for whoever frees tables) → the lock of one table of
//! entries, which lives in the table frame's page descriptor (Linux: the split ptl) → the LRU lock. All but the page lock
//! spin. **No shootdown is sent, and nobody sleeps, under a spinning lock**: a CPU that spins with interrupts off for a lock whose
//! holder waits for that CPU's acknowledgement would spin for ever. None is taken in an interrupt handler.
//!
//! # What this backend does not do
//!
//! * Large pages: a table entry that maps one is met with [`MapError::LargePage`].
//! * Page cache and swap: anonymous memory only, private or shared by fork.
//! * The upper half: a kernel's own mappings are copied into each new root and left alone.
//! * Shadow stacks: an entry that is dirty and read-only is what it says, so user shadow stacks (`CR4.CET`) stay off. Linux
//!   moves the bit away for them since 6.6.

#![no_std]
#![deny(clippy::undocumented_unsafe_blocks)]
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

#[cfg(feature = "fixture")]
extern crate alloc;
#[cfg(test)]
extern crate std;

mod areas;
mod barrier;
mod copy;
mod entry;
mod error;
mod fault;
#[cfg(feature = "fixture")]
pub mod fixture;
mod gather;
mod held;
mod kernel;
mod lock;
mod map;
mod ops;
mod paging;
mod platform;
mod rmap;
mod space;
mod tables;

pub use barrier::Barrier;
pub use entry::{Attributes, EntryError, HwBits, HwEntry};
pub use error::MapError;
pub use fault::{FaultError, Faulted};
pub use gather::{Gather, Stale};
pub use kernel::{Kernel, Storage};
pub use paging::Paging;
pub use platform::{FrameMapping, FrameSource, FrameWords, Platform, Purpose, Shootdown};
pub use space::Space;

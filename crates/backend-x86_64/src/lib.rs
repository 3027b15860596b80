//! Real x86-64 page tables behind the seam of `migrate-core`.
//!
//! Tables of 4 or 5 levels in memory, entries as the CPU reads them ([`HwEntry`]), a reverse map, and a TLB gather that is
//! handed to the kernel's shootdown. The same code runs over an arena on a host, in a guest, and in somebody's kernel: memory
//! is reached through one unsafe trait, [`FrameMapping`], and nothing here executes a privileged instruction.
//!
//! # The protocol
//!
//! It is `migrate-core`'s: the page is locked, every entry that maps it becomes a migration entry, one shootdown makes the CPUs forget,
//! the contents are copied and the references switched, the entries come back, a second barrier, and the locks open. What is done here is
//! the middle of it: an entry is replaced in one compare-exchange, so that an accessed or dirty bit that a CPU sets meanwhile is kept,
//! and a CPU that runs the space is asked by the gather, once for all pages of a batch.
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
//! # A complete kernel
//!
//! Its frames are ordinary memory, and no CPU uses its tables: what a kernel has a direct map, interrupts and a scheduler for is
//! short here, and everything else is as it would be there.
//!
//! ```
//! use core::{ptr::NonNull, sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed}};
//! use std::{collections::VecDeque, sync::Mutex};
//!
//! use backend_x86_64::{FrameMapping, FrameSource, FrameWords, Kernel, Paging, Purpose, Shootdown, Space, Stale, Storage};
//! use migrate_core::{Args, Frames, MODERN, NewPages, PageRef, Slot, UsesPageMap, isolate_lru_page, migrate_pages, migrate_prep};
//! use mm_types::{
//!     ActorId, AnonVma, AnonVmaLink, Mode, Page, PageMap, Pfn, Reason, Site, Sleep, VirtAddr, VmaFlags, VmaSlot,
//! };
//!
//! #[repr(align(4096))]
//! struct Frame(FrameWords);
//!
//! struct Machine {
//!     frames: Vec<Frame>,
//!     free: Mutex<VecDeque<Pfn>>,
//! }
//!
//! // SAFETY: each frame is an aligned array of its own (1, 2), reached through atomics alone (3), in an allocation that does not
//! // move with the machine and is as long-lived (1, 4).
//! unsafe impl FrameMapping for Machine {
//!     fn frame(&self, pfn: Pfn) -> Option<NonNull<FrameWords>> {
//!         self.frames.get(pfn.index()?).map(|frame| NonNull::from(&frame.0))
//!     }
//! }
//!
//! impl FrameSource for Machine {
//!     fn take(&self, _: Purpose) -> Option<Pfn> { self.free.lock().unwrap().pop_front() }
//!     fn give_back(&self, pfn: Pfn) { self.free.lock().unwrap().push_back(pfn); }
//! }
//!
//! impl Shootdown for Machine {
//!     /// Here a kernel interrupts the CPUs that run the space, and returns when every one has answered.
//!     fn shootdown(&self, _: Stale<'_>) {}
//! }
//!
//! impl Sleep for Machine {
//!     fn wait(&self, _: &AtomicU32, _: u32) { std::thread::yield_now(); }
//!     fn wake_all(&self, _: &AtomicU32) {}
//! }
//!
//! let machine = Machine {
//!     frames: (0..32).map(|_| Frame([const { AtomicU64::new(0) }; 512])).collect(),
//!     free: Mutex::new((0..32).map(Pfn::new).collect()),
//! };
//! let pages: Vec<Page> = (0..32).map(|_| Page::new()).collect();
//! let spaces = [Space::new()];
//! let (mut vmas, mut anon_vmas, mut links) =
//!     ([VmaSlot::default(); 4], [AnonVma::default(); 4], [AnonVmaLink::default(); 4]);
//! let kernel = Kernel::new(machine, Paging::Four, &MODERN, Storage {
//!     pages: PageMap::new(Pfn::new(0), &pages),
//!     spaces: &spaces,
//!     vmas: &mut vmas,
//!     anon_vmas: &mut anon_vmas,
//!     links: &mut links,
//! });
//!
//! // A program stores to an area of one page: the CPU faults (a write, in user mode), and the page is there.
//! let (space, at) = (kernel.create_space(None).unwrap(), VirtAddr::new(0x40_0000));
//! let flags = VmaFlags::READ | VmaFlags::WRITE | VmaFlags::MAYREAD | VmaFlags::MAYWRITE;
//! kernel.map_area(space, at, 1, flags).unwrap();
//! kernel.page_fault(space, at, 0b110, ActorId::new(0), ()).unwrap();
//! let site = Site::new(space, at.vpn());
//! let old = kernel.entry(site).pfn().unwrap();
//! let word = |pfn: Pfn| &kernel.platform().frames[pfn.index().unwrap()].0[0];
//! word(old).store(42, Relaxed);
//!
//! // It moves to another frame.
//! migrate_prep(&kernel);
//! let page = PageRef::get(kernel.page_map(), old).unwrap();
//! let mut from = VecDeque::from([isolate_lru_page(&kernel, &page, ()).unwrap()]);
//! kernel.put(page);
//! let new = kernel.platform().take(Purpose::Page).unwrap();
//! let mut news = VecDeque::from([PageRef::allocate(kernel.page_map(), new).unwrap()]);
//! let tally = migrate_pages(&kernel, Args {
//!     from: &mut from,
//!     target: NewPages(&mut news),
//!     moved: None,
//!     failed: &mut VecDeque::new(),
//!     slots: &mut [Slot::new()],
//!     profile: &MODERN,
//!     mode: Mode::Sync,
//!     reason: Reason::Compaction,
//!     outcome: &mut |_page, _outcome| {},
//!     observer: (),
//! }).unwrap();
//! assert_eq!((tally.moved, kernel.entry(site).pfn()), (1, Some(new)));
//! assert_eq!(word(new).load(Relaxed), 42);
//! ```
//!
//! `examples/kernel` is the same with CPUs: it boots.
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

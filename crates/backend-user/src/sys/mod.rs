//! The operating-system layer: what a process asks of Linux so that it can play a kernel.
//!
//! | a kernel has | here |
//! |---|---|
//! | the frames of a node and their direct map | [`node`], bound to a real node by [`numa`] |
//! | page tables and TLB flushes | [`range`]: `mmap` and `mprotect` of runs of pages |
//! | the page fault | [`fault`]: SIGSEGV, on a stack from [`altstack`] |
//! | wait queues | [`futex`] |
//! | work that a fault handler may not do itself | [`server`] |
//! | memory set aside so that undo cannot fail | [`ballast`], counted by [`maps`] |
//! | page tables that move memory, and faults that sleep in the kernel | [`uffd`], over the slots of an [`arena`] |
//! | `fork` | [`fork`]: the child has none of it |
//! | the time a thread has run | [`clock`] |
//!
//! No policy and no page table is in here: an entry, a page and a lock are the business of the layer above.
//! Not a public interface; it is reachable so that the crate's tests can drive each part alone.

pub mod altstack;
pub mod arena;
pub mod ballast;
pub mod clock;
pub mod copy;
pub mod error;
pub mod fault;
pub mod fork;
pub mod futex;
pub mod maps;
pub mod node;
pub mod numa;
mod previous;
pub mod range;
pub mod server;
mod ucontext;
pub mod uffd;

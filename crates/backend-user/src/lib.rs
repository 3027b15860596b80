//! A process plays a kernel: pages of a live, multi-threaded program move between emulated memory nodes.
//!
//! ```
//! use backend_user::{Machine, Migrate, Prot, Sharing};
//! use core::sync::atomic::Ordering;
//! use mm_types::NodeId;
//!
//! # fn main() -> Result<(), backend_user::MachineError> {
//! let machine = Machine::builder().nodes(2).frames_per_node(256).build()?;
//! let space = machine.space(64)?;
//! let area = space.map_anonymous(64, Prot::ReadWrite, Sharing::Private)?;
//! area.words()[0].store(7, Ordering::Relaxed); // any thread may, at any time
//!
//! let report = machine.migrate(Migrate::new(&area, NodeId::new(1)))?;
//! assert_eq!(report.refused(), 0);
//! assert_eq!(area.words()[0].load(Ordering::Relaxed), 7);
//! println!("{}", machine.explain(area.sites().next().unwrap()));
//! # Ok(())
//! # }
//! ```
//!
//! # The protocol
//!
//! It is a kernel's, and `migrate-core` carries it out: a page is locked, its entries become migration entries, and the places where it
//! is mapped lose their access; the contents are copied; the entries come back, the places are mapped to the new frame; the lock opens.
//! A thread that touches the page meanwhile gets SIGSEGV, finds the entry, and sleeps until the lock opens. The whole of it behind the
//! seam is [`Machine::kernel`].
//!
//! # How it works
//!
//! | a kernel has | here |
//! |---|---|
//! | the frames of a node | pages of a memfd, with a linear view as the direct map |
//! | an address space | a range of the process in which those pages are mapped |
//! | page tables | a table of atomic words for each space: what is true. The range is made to agree |
//! | a TLB flush | `mprotect` and `mmap` of runs of pages |
//! | the page fault | SIGSEGV; the handler reads the entry and waits for the page, or asks the fault server |
//! | the page lock's wait queue | a futex on the page's flag word |
//!
//! The algorithm is `migrate-core`'s, the descriptors and lists are `mm-types`'. [`Machine::kernel`] is the backend behind the seam.
//!
//! # Two engines
//!
//! The table above is the first engine's. Pages of private anonymous areas can be a second one's ([`Builder::engine`]; files, shared
//! areas and everything that several spaces map stay with the first, in the same machine and the same spaces):
//!
//! | a kernel has | on the second engine |
//! |---|---|
//! | the frames of a node | slots of anonymous memory, missing while a place shows the frame |
//! | an address space | for each area one mapping for ever, registered with a `userfaultfd` |
//! | a TLB flush | `UFFDIO_MOVE` of runs: from the places into the slots, and back from the new frames' slots; whole large pages at once |
//! | the page fault | a sleep in the kernel, until the page is back; a thread of the machine answers first touches |
//! | a read-only entry | a page that is copied to its place write-protected (`UFFDIO_COPY`), for a move makes it writable |
//!
//! It is chosen where the machine is built, with [`Engine::Auto`] only where the system has it (Linux 6.8, and the permission to
//! open a `userfaultfd`); [`Machine::engine`] says which one serves, and why not the other. No page of it splits a mapping, so there is no
//! limit of mappings; system calls wait for a page in flight as instructions do; and a page has one place: [`Space::fork`] of a
//! space with such areas, and [`Space::share`] of one, answer [`MachineError::OnePlace`]. A page that somebody outside has too (an I/O
//! that has pinned it, a fork that was let have it) is refused with the number of `EBUSY`
//! ([`Refusal::Backend`](mm_types::Refusal::Backend)), and goes on working where it is.
//!
//! # What a program must know
//!
//! **Threads** need nothing; one made by another language, or with a small alternate signal stack, should call [`enter_thread`]
//! first. While a page moves, a thread that touches it waits, about as long as its batch takes.
//!
//! **System calls do not fault.** One that is given a buffer on a page in flight answers `EFAULT` or stops short, instead of
//! waiting. A page that is missing, write-protected to learn of the first store, or watched for use, is no different. Hold a [`PinGuard`]
//! ([`Machine::pin`]) over buffers that are handed to the kernel; pinned pages are there, accessible, and stay. As tested
//! (`tests/system_calls.rs`, `tests/private_pages.rs`), with half a page asked for:
//!
//! | call | page in flight | in flight, but readable | pinned | second engine, in flight |
//! |---|---|---|---|---|
//! | `read`, `pread` into it | `EFAULT` | `EFAULT` | 2048 | 2048, after a wait |
//! | `readv`, second buffer in it | 2048 of 4096 | 2048 of 4096 | 4096 | |
//! | `write`, `pwrite` from it | `EFAULT` | 2048 | 2048 | 2048, after a wait |
//! | `writev`, second buffer in it | 2048 of 4096 | 4096 | 4096 | |
//! | `send` from it | `EFAULT` | 2048 | 2048 | 2048, after a wait |
//! | `recv` of a datagram into it | `EFAULT`, *and the datagram is lost* | the same | received | received, after a wait |
//! | `read` of a stream into it | `EFAULT`, nothing is lost | the same | received | received, after a wait |
//! | futex wait on it | `EFAULT` | waits | waits | waits |
//! | `process_vm_readv` from it | `EFAULT` | 2048 | 2048 | |
//!
//! On the second engine without the permission to hear of system calls' faults ([`SystemCalls::Fail`]) the second column holds: they
//! answer `EFAULT`, and instructions wait.
//!
//! **Signals**: our SIGSEGV handler is installed with the first space, and hands on what is not ours. A handler installed later must
//! go on to it for addresses it does not know.
//!
//! **`fork` of the process**: the child has none of this memory; touching it there ends the child with a line on stderr. Its parent
//! notices nothing. (A copy of an emulated space is [`Space::fork`].)
//!
//! **Frames**: a thread that touches a page for which no node has a frame ends as at a bad address, with a line on stderr that says why;
//! [`Area::populate`] and [`Machine::pin`] answer [`MachineError::NoFrame`] instead.
//!
//! **Mappings**: a process may have `vm.max_map_count` of them, and scattered pages are one each. A migration refuses pages
//! ([`Refusal::MappingLimit`](mm_types::Refusal::MappingLimit)) before that is reached; [`Stats`] tells how near it is. Moving
//! neighbours together, in order, keeps them few.

mod areas;
mod error;
mod explain;
mod file;
mod files;
mod fill;
pub mod fixture;
mod fork;
mod free_frames;
mod handler;
mod kernel;
mod lent;
mod machine;
mod migrate;
mod missing;
mod mm;
mod moved;
mod ops;
mod pin;
mod private;
mod recount;
mod refused;
mod report;
mod request;
mod rmap;
mod server;
mod spaces;
mod stall;
mod stats;
#[doc(hidden)]
pub mod sys;
mod targets;
mod touched;
mod trace;
mod waiter;
mod word;

pub use error::MachineError;
pub use explain::{Frame, Holder, PageInfo};
pub use files::MappedFile;
pub use kernel::{Futex, Kernel};
pub use machine::{Builder, Machine, enter_thread};
pub use pin::PinGuard;
pub use private::{Engine, EngineInUse, NoEngine};
pub use report::{Report, Stayed};
pub use request::{Migrate, Pages};
pub use rmap::Gather;
pub use spaces::{Area, Sharing, Space};
pub use stats::{Faults, Stalls, Stats};
pub use sys::altstack::AltStack;
pub use sys::range::Prot;
pub use sys::uffd::{SystemCalls, UffdError};
pub use trace::{Recording, set_actor};

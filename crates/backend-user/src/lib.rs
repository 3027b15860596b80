//! A process plays a kernel.

mod areas;
mod error;
mod explain;
mod file;
mod files;
mod fill;
mod fork;
mod free_frames;
mod handler;
mod kernel;
mod lent;
mod machine;
mod migrate;
mod mm;
mod ops;
mod pin;
mod refused;
mod rmap;
mod server;
mod spaces;
mod stats;
#[doc(hidden)]
pub mod sys;
mod touched;
mod trace;
mod waiter;
mod word;

pub use error::MachineError;
pub use explain::{Frame, Holder, PageInfo};
pub use files::MappedFile;
pub use kernel::{Futex, Kernel};
pub use machine::{Builder, Machine};
pub use migrate::{Migrate, Pages, Report, Stayed};
pub use pin::PinGuard;
pub use rmap::Gather;
pub use spaces::{Area, Sharing, Space};
pub use stats::{Faults, Stalls, Stats};
pub use sys::range::Prot;
pub use trace::{Recording, set_actor};

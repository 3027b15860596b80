//! A process plays a kernel.

mod areas;
mod error;
mod file;
mod files;
mod fill;
mod free_frames;
mod handler;
mod kernel;
mod lent;
mod machine;
mod migrate;
mod mm;
mod ops;
mod refused;
mod rmap;
mod server;
mod spaces;
mod stats;
#[doc(hidden)]
pub mod sys;
mod trace;
mod waiter;
mod word;

pub use error::MachineError;
pub use files::MappedFile;
pub use kernel::{Futex, Kernel};
pub use machine::{Builder, Machine};
pub use migrate::{Migrate, Pages, Report, Stayed};
pub use rmap::Gather;
pub use spaces::{Area, Sharing, Space};
pub use stats::{Faults, Stalls, Stats};
pub use sys::range::Prot;
pub use trace::{Recording, set_actor};

//! The atomics of this crate, from one place: `core`'s, or those of a checker that explores interleavings.
//!
//! Public, so that whoever implements [`Sleep`](crate::Sleep), or keeps a kernel's state beside a page map, has the same ones.
//! None is wider than 32 bits or `usize`, so that the crate builds for 32-bit targets.

#[cfg(not(any(loom, shuttle)))]
pub use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
#[cfg(loom)]
mod explored;
#[cfg(loom)]
pub use core::sync::atomic::Ordering;
#[cfg(loom)]
pub use explored::{AtomicU32, AtomicUsize, sequentially_consistent};
#[cfg(all(shuttle, not(loom)))]
pub use shuttle::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// Tells the processor, or the checker, that this thread spins for another.
#[inline]
pub fn spin_loop() {
    #[cfg(not(any(loom, shuttle)))]
    core::hint::spin_loop();
    #[cfg(loom)]
    loom::hint::spin_loop();
    #[cfg(all(shuttle, not(loom)))]
    shuttle::hint::spin_loop();
}

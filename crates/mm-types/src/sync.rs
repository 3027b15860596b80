//! The atomics of this crate, from one place: `core`'s, or those of a checker that explores interleavings.
//!
//! None is wider than 32 bits or `usize`, so that the crate builds for 32-bit targets.

#[cfg(not(any(loom, shuttle)))]
pub(crate) use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
#[cfg(all(shuttle, not(loom)))]
pub(crate) use shuttle::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

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

//! Locks that spin: one for data, and one that is shared by who looks at tables and exclusive for whoever frees some.
//!
//! Neither masks interrupts: nothing in this crate is called from an interrupt handler.

use core::cell::UnsafeCell;
use core::fmt;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use mm_types::spin_loop;

/// Data under a lock that spins.
///
/// # Invariants
/// While `locked` is true, the one [`SpinGuard`] alone reaches `data`.
pub(crate) struct SpinLock<T> {
    locked: AtomicBool,
    data: UnsafeCell<T>,
}

// SAFETY: the lock gives `&mut T` to one thread at a time, which is what sending `T` allows; no `&T` is shared.
unsafe impl<T: Send> Sync for SpinLock<T> {}

impl<T> SpinLock<T> {
    pub(crate) const fn new(data: T) -> Self {
        Self {
            locked: AtomicBool::new(false),
            data: UnsafeCell::new(data),
        }
    }

    pub(crate) fn lock(&self) -> SpinGuard<'_, T> {
        // INVARIANT: acquired by the exchange that found it open.
        while self
            .locked
            .compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            while self.locked.load(Ordering::Relaxed) {
                spin_loop();
            }
        }
        SpinGuard { lock: self }
    }
}

impl<T> fmt::Debug for SpinLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpinLock")
            .field("locked", &self.locked.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}

#[must_use]
pub(crate) struct SpinGuard<'l, T> {
    lock: &'l SpinLock<T>,
}

impl<T> Deref for SpinGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the guard is the only way to the data while the lock is held (type invariant), and is borrowed shared here.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T> DerefMut for SpinGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard is the only way to the data while the lock is held (type invariant), and is borrowed exclusively here.
        unsafe { &mut *self.lock.data.get() }
    }
}

impl<T> Drop for SpinGuard<'_, T> {
    fn drop(&mut self) {
        self.lock.locked.store(false, Ordering::Release);
    }
}

/// The structure lock of a space's tables: exclusive while some are freed, by somebody who holds the areas' lock as well; shared by
/// whoever walks down without that.
#[derive(Debug, Default)]
pub(crate) struct StructureLock(AtomicU32);

const EXCLUSIVE: u32 = 1 << 31;

impl StructureLock {
    pub(crate) const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Taken once by a thread and space: a second time behind somebody who wants it alone would never end.
    pub(crate) fn shared(&self) -> Shared<'_> {
        loop {
            let seen = self.0.load(Ordering::Relaxed);
            let more = seen.wrapping_add(1);
            if seen & EXCLUSIVE == 0
                && self
                    .0
                    .compare_exchange_weak(seen, more, Ordering::Acquire, Ordering::Relaxed)
                    .is_ok()
            {
                return Shared(self);
            }
            spin_loop();
        }
    }

    pub(crate) fn exclusive(&self) -> Exclusive<'_> {
        while self.0.fetch_or(EXCLUSIVE, Ordering::Acquire) & EXCLUSIVE != 0 {
            spin_loop();
        }
        while self.0.load(Ordering::Acquire) != EXCLUSIVE {
            spin_loop();
        }
        Exclusive(self)
    }
}

#[must_use]
pub(crate) struct Shared<'l>(&'l StructureLock);

impl Drop for Shared<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Release);
    }
}

#[must_use]
pub(crate) struct Exclusive<'l>(&'l StructureLock);

impl Drop for Exclusive<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_and(!EXCLUSIVE, Ordering::Release);
    }
}

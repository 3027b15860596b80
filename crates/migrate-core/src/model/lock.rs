//! The model's locks, in one place: cells that notice a deadlock where one thread runs the model, and locks that a checker of
//! interleavings knows where many do.

#[cfg(shuttle)]
pub(super) use explored::{Guard, Lock, RwSem};
#[cfg(not(shuttle))]
pub(super) use one_thread::{Guard, Lock, RwSem};

#[cfg(not(shuttle))]
mod one_thread {
    use core::cell::{RefCell, RefMut};

    /// A lock. One thread runs the model, so it is a checked cell; taking it twice is a deadlock and stops the test.
    #[derive(Debug, Default)]
    pub(in super::super) struct Lock<T>(RefCell<T>);

    /// What is behind a lock, while it is held.
    pub(in super::super) type Guard<'l, T> = RefMut<'l, T>;

    impl<T> Lock<T> {
        pub(in super::super) const fn new(inner: T) -> Self {
            Self(RefCell::new(inner))
        }

        pub(in super::super) fn lock(&self) -> Guard<'_, T> {
            match self.0.try_borrow_mut() {
                Ok(guard) => guard,
                Err(_) => panic!("deadlock: this lock is held already, by a caller further up"),
            }
        }

        pub(in super::super) fn is_free(&self) -> bool {
            self.0.try_borrow_mut().is_ok()
        }
    }

    /// A lock that is held across sleeps and wake-ups. One thread has nobody to keep out; and where it plays another thread from
    /// within a wake-up, that other one would in truth go on later.
    #[derive(Debug, Default)]
    pub(in super::super) struct RwSem;

    /// Holds a [`RwSem`].
    #[must_use]
    pub(in super::super) struct Held;

    impl RwSem {
        #[expect(clippy::unused_self, reason = "as where threads are real")]
        pub(in super::super) const fn read(&self) -> Held {
            Held
        }

        #[expect(clippy::unused_self, reason = "as where threads are real")]
        pub(in super::super) const fn write(&self) -> Held {
            Held
        }
    }
}

#[cfg(shuttle)]
mod explored {
    use shuttle::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

    /// A lock that other threads wait for. The checker notices who takes one twice, and when all threads wait.
    #[derive(Debug, Default)]
    pub(in super::super) struct Lock<T>(Mutex<T>);

    /// What is behind a lock, while it is held.
    pub(in super::super) type Guard<'l, T> = MutexGuard<'l, T>;

    impl<T> Lock<T> {
        pub(in super::super) const fn new(inner: T) -> Self {
            Self(Mutex::new(inner))
        }

        pub(in super::super) fn lock(&self) -> Guard<'_, T> {
            // A thread that panicked ends the execution; who still runs then only unwinds.
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }

        pub(in super::super) fn is_free(&self) -> bool {
            self.0.try_lock().is_ok()
        }
    }

    /// A lock with readers and one writer that is held across sleeps (Linux: `rw_semaphore`).
    #[derive(Debug, Default)]
    pub(in super::super) struct RwSem(RwLock<()>);

    impl RwSem {
        pub(in super::super) fn read(&self) -> RwLockReadGuard<'_, ()> {
            self.0.read().unwrap_or_else(PoisonError::into_inner)
        }

        pub(in super::super) fn write(&self) -> RwLockWriteGuard<'_, ()> {
            self.0.write().unwrap_or_else(PoisonError::into_inner)
        }

        pub(in super::super) fn is_free(&self) -> bool {
            self.0.try_write().is_ok()
        }
    }
}

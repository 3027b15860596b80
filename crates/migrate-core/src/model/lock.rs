//! The model's one kind of lock, in one place, so that it can be swapped for one that a checker of interleavings knows.

use core::cell::{RefCell, RefMut};

/// A lock. One thread runs the model for now, so it is a checked cell; taking it twice is a deadlock and stops the test.
#[derive(Debug, Default)]
pub(super) struct Lock<T>(RefCell<T>);

/// What is behind a lock, while it is held.
pub(super) type Guard<'l, T> = RefMut<'l, T>;

impl<T> Lock<T> {
    pub(super) const fn new(inner: T) -> Self {
        Self(RefCell::new(inner))
    }

    pub(super) fn lock(&self) -> Guard<'_, T> {
        match self.0.try_borrow_mut() {
            Ok(guard) => guard,
            Err(_) => panic!("deadlock: this lock is held already, by a caller further up"),
        }
    }
}

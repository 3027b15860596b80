//! loom's atomics, with a choice: explore the orderings as they are written, or sequential consistency.
//!
//! As they are written, a load may return any value that the memory model allows it to, and each is an execution of its own:
//! right for a protocol of a few words. For a whole migration it multiplies the executions by hundreds, so there the
//! interleavings are explored first, with every load returning the newest value.

use core::sync::atomic::Ordering;

std::thread_local! {
    static IN_ORDER: core::cell::Cell<bool> = const { core::cell::Cell::new(false) };
}

/// Chooses for this thread of the test harness, before a model is run: true for sequential consistency.
pub fn sequentially_consistent(chosen: bool) {
    IN_ORDER.set(chosen);
}

fn strong(ordering: Ordering) -> Ordering {
    if IN_ORDER.get() { Ordering::SeqCst } else { ordering }
}

macro_rules! explored {
    ($name:ident, $raw:ty) => {
        /// An atomic that loom explores.
        #[derive(Debug)]
        pub struct $name(loom::sync::atomic::$name);

        impl $name {
            /// Makes an atomic.
            #[track_caller]
            pub fn new(value: $raw) -> Self {
                Self(loom::sync::atomic::$name::new(value))
            }

            /// Loads.
            #[track_caller]
            pub fn load(&self, ordering: Ordering) -> $raw {
                self.0.load(strong(ordering))
            }

            /// Stores.
            #[track_caller]
            pub fn store(&self, value: $raw, ordering: Ordering) {
                self.0.store(value, strong(ordering));
            }

            /// Adds; returns the value before.
            #[track_caller]
            pub fn fetch_add(&self, value: $raw, ordering: Ordering) -> $raw {
                self.0.fetch_add(value, strong(ordering))
            }

            /// Subtracts; returns the value before.
            #[track_caller]
            pub fn fetch_sub(&self, value: $raw, ordering: Ordering) -> $raw {
                self.0.fetch_sub(value, strong(ordering))
            }

            /// Sets bits; returns the value before.
            #[track_caller]
            pub fn fetch_or(&self, value: $raw, ordering: Ordering) -> $raw {
                self.0.fetch_or(value, strong(ordering))
            }

            /// Keeps bits; returns the value before.
            #[track_caller]
            pub fn fetch_and(&self, value: $raw, ordering: Ordering) -> $raw {
                self.0.fetch_and(value, strong(ordering))
            }

            /// Replaces `current` by `new`.
            ///
            /// # Errors
            /// The value that is there instead.
            #[track_caller]
            pub fn compare_exchange(
                &self,
                current: $raw,
                new: $raw,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$raw, $raw> {
                self.0
                    .compare_exchange(current, new, strong(success), strong(failure))
            }

            /// As `compare_exchange`; loom never lets it fail for no reason.
            ///
            /// # Errors
            /// The value that is there instead.
            #[track_caller]
            pub fn compare_exchange_weak(
                &self,
                current: $raw,
                new: $raw,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$raw, $raw> {
                self.compare_exchange(current, new, success, failure)
            }
        }
    };
}

explored!(AtomicU32, u32);
explored!(AtomicUsize, usize);

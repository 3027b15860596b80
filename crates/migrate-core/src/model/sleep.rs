//! Sleeping and waking. Where one thread runs the model, it does what the test queued instead of sleeping; where a checker of
//! interleavings runs many, they sleep in a queue, as on a futex.

use alloc::vec::Vec;

use mm_types::Sleep;
use mm_types::sync::{AtomicU32, Ordering};

use super::Model;

#[cfg(not(shuttle))]
impl Model {
    /// Does what was queued next, instead of sleeping, where `asleep` says so.
    ///
    /// # Panics
    /// Where nothing is queued: nobody would ever wake the thread.
    pub(super) fn sleep_while(&self, _on: usize, asleep: impl FnOnce() -> bool) {
        if !asleep() {
            return;
        }
        let next = self.wakeups.lock().pop_front();
        match next {
            Some(wakeup) => wakeup(self),
            None => panic!("I23: a thread sleeps for ever: queue what wakes it with on_sleep"),
        }
    }

    pub(super) const fn wake(&self, _on: usize) {}
}

/// Who sleeps, and on what.
#[cfg(shuttle)]
#[derive(Debug, Default)]
pub(super) struct WaitQueue(super::lock::Lock<Vec<(usize, shuttle::thread::Thread)>>);

#[cfg(shuttle)]
impl Model {
    /// Sleeps on `on` until somebody wakes it, unless `asleep` says otherwise. Asked under the queue's lock, which a waker takes
    /// after its change: a wake-up comes before the question or after the sleeper is queued, never between.
    pub(super) fn sleep_while(&self, on: usize, asleep: impl FnOnce() -> bool) {
        let me = shuttle::thread::current();
        let mut queue = self.queue.0.lock();
        if !asleep() {
            return;
        }
        queue.push((on, me.clone()));
        while queue.iter().any(|(_, thread)| thread.id() == me.id()) {
            drop(queue);
            shuttle::thread::park();
            queue = self.queue.0.lock();
        }
    }

    /// Wakes everybody who sleeps on `on`.
    pub(super) fn wake(&self, on: usize) {
        self.queue.0.lock().retain(|(at, thread)| {
            if *at == on {
                thread.unpark();
            }
            *at != on
        });
    }

    /// True where nobody holds any of the model's locks, so that [`Model::check_always`] sees a moment that is whole. For a
    /// checker that lets no other thread run meanwhile.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.spaces.iter().all(|space| space.mmap.is_free()) && self.spinlocks_are_free() && self.violations.is_free()
    }
}

impl Sleep for Model {
    fn wait(&self, word: &AtomicU32, seen: u32) {
        self.sleep_while(core::ptr::from_ref(word).addr(), || {
            word.load(Ordering::Acquire) == seen
        });
    }

    fn wake_all(&self, word: &AtomicU32) {
        self.wake(core::ptr::from_ref(word).addr());
        let asleep = core::mem::take(&mut *self.sleepers.lock());
        let (awake, asleep): (Vec<_>, Vec<_>) = asleep
            .into_iter()
            .partition(|(pfn, _)| core::ptr::eq(self.page(*pfn).flags().word(), word));
        *self.sleepers.lock() = asleep;
        for (_, thread) in awake {
            thread(self);
        }
    }
}

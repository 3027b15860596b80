//! How a model's threads sleep on a word.

use loom::sync::Mutex;
use loom::thread::{Thread, current, park};
use mm_types::Sleep;
use mm_types::sync::{AtomicU32, Ordering};

/// Who sleeps, and on which word. A wake-up that is lost is a thread that stays parked, which loom reports as a deadlock.
#[derive(Debug)]
pub(crate) struct Sleepers(Mutex<Vec<(usize, Thread)>>);

impl Sleepers {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }
}

impl Sleep for Sleepers {
    fn wait(&self, word: &AtomicU32, seen: u32) {
        {
            let mut sleepers = self.0.lock().expect("loom's locks are not poisoned");
            // Whoever clears the bit wakes under this lock afterwards, so the look and the queueing are one step to it.
            if word.load(Ordering::Acquire) != seen {
                return;
            }
            sleepers.push((core::ptr::from_ref(word).addr(), current()));
        }
        park();
    }

    fn wake_all(&self, word: &AtomicU32) {
        let word = core::ptr::from_ref(word).addr();
        let mut sleepers = self.0.lock().expect("loom's locks are not poisoned");
        sleepers.retain(|(on, thread)| {
            if *on == word {
                thread.unpark();
            }
            *on != word
        });
    }
}

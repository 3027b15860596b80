//! The clocks of a thread, which other work on the machine does not show in.

use core::time::Duration;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Instant;

pub use backend_user::sys::clock::processor_time;

/// Knows how long the thread that made it could have run while something else had the processor (`/proc/PID/schedstat`).
#[derive(Debug)]
pub struct Queue(Option<File>);

impl Queue {
    /// Begins to look. Where the kernel does not tell, no time was lost.
    #[must_use]
    pub fn of_this_thread() -> Self {
        Self(File::open("/proc/thread-self/schedstat").ok())
    }

    /// Returns how long the thread has waited for a processor so far.
    #[must_use]
    pub fn waited(&self) -> Duration {
        let mut text = [0; 128];
        let read = self.0.as_ref().and_then(|file| file.read_at(&mut text, 0).ok());
        let text = text.get(..read.unwrap_or(0)).unwrap_or_default();
        // Time that it ran, time that it waited, and how often it ran.
        let waited = str::from_utf8(text)
            .ok()
            .and_then(|text| text.split(' ').nth(1)?.parse().ok());
        Duration::from_nanos(waited.unwrap_or(0))
    }
}

/// How long something took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Took {
    /// By the clock on the wall.
    pub wall: Duration,
    /// Of that, how long the thread waited for a processor that something else had.
    pub waited: Duration,
}

impl Took {
    /// Does it, and looks how long it took.
    pub fn by<R>(work: impl FnOnce() -> R) -> (Self, R) {
        let queue = Queue::of_this_thread();
        let (before, begun) = (queue.waited(), Instant::now());
        let done = work();
        let wall = begun.elapsed();
        let waited = queue.waited().saturating_sub(before).min(wall);
        (Self { wall, waited }, done)
    }

    /// Returns how long it would have taken on a machine that does nothing else.
    #[must_use]
    pub fn own(self) -> Duration {
        self.wall.saturating_sub(self.waited)
    }

    /// Returns how much of the time the thread had a processor or needed none: 1 on a machine that does nothing else.
    #[must_use]
    pub fn share(self) -> f64 {
        self.own().as_secs_f64() / self.wall.as_secs_f64().max(1e-9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_took_time_is_own_time_and_time_in_the_queue() {
        let ran = processor_time();
        let (took, sum) = Took::by(|| (0..100_000u64).fold(0, |sum: u64, n| sum ^ core::hint::black_box(n)));
        assert_eq!(sum, 0);
        assert!(
            took.wall > Duration::ZERO && took.own() + took.waited == took.wall,
            "{took:?}"
        );
        assert!(processor_time() > ran);
        assert!((0.0..=1.0).contains(&took.share()), "{took:?}");
    }

    #[test]
    fn a_queue_that_cannot_be_looked_at_has_nobody_in_it() {
        assert_eq!(Queue(None).waited(), Duration::ZERO);
    }
}

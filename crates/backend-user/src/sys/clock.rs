//! The clock of a thread, which other work on the machine does not show in.

use core::time::Duration;

/// Returns how long the calling thread has run so far (`CLOCK_THREAD_CPUTIME_ID`): what others do meanwhile is not in it, nor waiting for
/// them.
#[must_use]
pub fn processor_time() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is live for the call.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut now) };
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

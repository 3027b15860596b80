//! Sleeping on a word: the wait queue of a page lock.
//!
//! Private futexes (`futex(2)`, `FUTEX_PRIVATE_FLAG`): the words are this process's own. Everything here is
//! async-signal-safe, so that a fault handler can sleep; `errno` is clobbered, and the handler puts it back.

use core::ptr;
use core::sync::atomic::AtomicU32;
use core::time::Duration;

use super::error::Errno;

/// How a wait ended. The caller looks at its word again in every case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// Woken, or spuriously: the kernel does not tell them apart.
    Woken,
    /// The word no longer had the value seen; there was no sleep.
    Changed,
    /// A signal handler ran.
    Interrupted,
    /// The time was over.
    TimedOut,
}

/// Sleeps while `*word == seen`, until [`wake`] or, where given, for at most `timeout`.
///
/// May wake without a reason. The comparison and going to sleep are one step for the kernel: a wake between the
/// caller's look at the word and this call is not lost as long as the waker changed the word first.
pub fn wait(word: &AtomicU32, seen: u32, timeout: Option<Duration>) -> Waited {
    let spec = timeout.map(|t| libc::timespec {
        tv_sec: libc::time_t::try_from(t.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: t.subsec_nanos().into(),
    });
    let spec: *const libc::timespec = spec.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: the word is live for the call, and the kernel only reads it, atomically; `spec` is null or a live timespec.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
            seen,
            spec,
        )
    };
    if rc == 0 {
        return Waited::Woken;
    }
    match Errno::last().raw() {
        libc::EINTR => Waited::Interrupted,
        libc::ETIMEDOUT => Waited::TimedOut,
        // EAGAIN. The other errors (bad address, bad timeout) cannot occur, and a caller that rechecks is safe with them.
        _ => Waited::Changed,
    }
}

/// Wakes at most `n` sleepers on `word`; returns how many.
///
/// The caller changes the word first: a thread that is about to sleep on the old value then does not.
pub fn wake(word: &AtomicU32, n: u32) -> usize {
    let n = i32::try_from(n).unwrap_or(i32::MAX);
    // SAFETY: the word is live for the call; the kernel uses only its address, as the key of the queue.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
            n,
        )
    };
    usize::try_from(rc).unwrap_or(0)
}

/// Wakes every sleeper on `word`; returns how many.
pub fn wake_all(word: &AtomicU32) -> usize {
    wake(word, u32::MAX)
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn a_changed_word_is_not_slept_on() {
        let word = AtomicU32::new(1);
        assert_eq!(wait(&word, 0, None), Waited::Changed);
    }

    #[test]
    fn a_wait_that_nobody_ends_runs_out() {
        let word = AtomicU32::new(0);
        assert_eq!(wait(&word, 0, Some(Duration::from_millis(1))), Waited::TimedOut);
    }

    #[test]
    fn a_sleeper_is_woken() {
        let word = AtomicU32::new(0);
        std::thread::scope(|s| {
            let sleeper = s.spawn(|| {
                while word.load(Ordering::Acquire) == 0 {
                    wait(&word, 0, None);
                }
            });
            // Counts only a real sleeper, so that the wake is known to have reached the queue.
            while wake_all(&word) == 0 {
                std::thread::yield_now();
            }
            word.store(1, Ordering::Release);
            wake_all(&word);
            sleeper.join().unwrap();
        });
    }
}

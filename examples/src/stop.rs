//! Stopping when asked: SIGINT and SIGTERM end a job between two batches.

use core::sync::atomic::{AtomicBool, Ordering};
use std::io;

static STOP: AtomicBool = AtomicBool::new(false);

extern "C" fn on_signal(_signal: libc::c_int) {
    STOP.store(true, Ordering::Relaxed);
}

/// Makes SIGINT and SIGTERM set the flag that is returned. The second one ends the process as if nobody had asked.
///
/// # Errors
/// What `sigaction(2)` answers.
pub fn on_interrupt() -> io::Result<&'static AtomicBool> {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: all zeroes is a valid `sigaction`: default action, empty mask.
        let mut action: libc::sigaction = unsafe { core::mem::zeroed() };
        action.sa_sigaction = on_signal as extern "C" fn(libc::c_int) as *const () as usize;
        // RESETHAND: a job that does not come to its end can still be killed by asking again.
        action.sa_flags = libc::SA_RESTART | libc::SA_RESETHAND;
        // SAFETY: `action` lives for the call; the handler only stores to an atomic, which is async-signal-safe.
        if unsafe { libc::sigaction(signal, &raw const action, core::ptr::null_mut()) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(&STOP)
}

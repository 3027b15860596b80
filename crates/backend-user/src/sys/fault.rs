//! SIGSEGV as the page fault.
//!
//! One handler for the process, installed once and never taken out (a handler installed later may go on to it). It looks
//! up the faulting address in a table of registered ranges; inside one, that range's [`FaultHandler`] says whether the access is
//! to be tried again. Every other fault goes to the handler that was there before, under that handler's own flags and mask:
//! Rust's stack-overflow message, a crash reporter, another runtime's null checks keep working.
//!
//! Flags: `SA_SIGINFO | SA_ONSTACK`, without `SA_NODEFER`: a fault of the handler itself ends the process instead
//! of recursing. All signals are blocked meanwhile: another handler that ran on top of a waiting one and touched a page of
//! ours would fault with SIGSEGV blocked, and the kernel ends the process for that.
//!
//! The handler takes no lock, allocates nothing and does not panic; `errno` is the interrupted code's own afterwards.
//!
//! Rust's own handler answers a foreign fault by restoring the default action, which takes ours out too: the process is about to
//! die. After a SIGSEGV that was merely *sent* (`kill -SEGV`) it lives on, without us, and dies at the next page fault.
//!
//! A handler installed *after* this one sees our faults first and must go on to us for those it does not know.

use core::ffi::{c_int, c_void};
use core::mem::MaybeUninit;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use core::{fmt, ptr};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::error::{Errno, MapError};
use super::{fork, previous, ucontext};

/// Ranges at a time.
pub const RANGES: usize = 128;

/// What the faulting instruction wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To read.
    Read,
    /// To write.
    Write,
    /// To run.
    Execute,
    /// The machine does not say; treat it as a write.
    Unknown,
}

/// One fault at an address of a registered range.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// The address.
    pub addr: usize,
    /// What was wanted of it.
    pub access: Access,
    /// The instruction; 0 where the machine does not say.
    pub ip: usize,
}

impl Fault {
    /// True where the access must be allowed to write.
    #[must_use]
    pub const fn is_write(&self) -> bool {
        matches!(self.access, Access::Write | Access::Unknown)
    }
}

/// What becomes of the faulting access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The instruction runs again.
    Retry,
    /// The fault goes to the handler that was there before ours.
    NotOurs,
}

/// Answers the faults of one range.
///
/// # Safety
/// 1. `fault` is async-signal-safe (`signal-safety(7)`): it takes no lock that ordinary code takes, does not allocate and does
///    not unwind. It may sleep on a futex.
/// 2. It does not touch memory that faults.
pub unsafe trait FaultHandler: Send + Sync + 'static {
    /// Decides about one fault.
    ///
    /// Entry: on the faulting thread, in the signal handler, all signals blocked; several threads may be in it at once.
    fn fault(&self, fault: &Fault) -> Verdict;
}

/// Why a range could not be registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// The table is full.
    #[error("more than {RANGES} fault ranges")]
    TableFull,
    /// The range is empty or overlaps a registered one.
    #[error("the range is empty or overlaps another")]
    BadRange,
    /// The handler could not be installed.
    #[error("sigaction: {0}")]
    Sigaction(Errno),
    /// Children could not be provided for.
    #[error(transparent)]
    Fork(#[from] MapError),
}

struct Entry {
    range: Range<usize>,
    handler: Arc<dyn FaultHandler>,
    /// In a forked child: the range is its parent's.
    orphan: AtomicBool,
}

/// Published through `entry`. A handler announces itself in `running` before it loads `entry` and leaves after the last use;
/// deregistering clears `entry` and then waits for `running` to be 0. Both sides store, then load: SeqCst, or each
/// could miss the other.
struct Slot {
    entry: AtomicPtr<Entry>,
    running: AtomicUsize,
}

static TABLE: [Slot; RANGES] = [const {
    Slot {
        entry: AtomicPtr::new(ptr::null_mut()),
        running: AtomicUsize::new(0),
    }
}; RANGES];

/// Taken to change the table or the installed handler; never by the handler.
static CHANGE: Mutex<bool> = Mutex::new(false);

/// A registered range. Dropping it takes the range out and waits until no thread is inside its handler.
///
/// Dropping it inside that handler, or while the handler waits for the dropping thread, never ends.
#[must_use = "dropping it takes the range out again"]
pub struct Registration {
    slot: &'static Slot,
    range: Range<usize>,
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration").field("range", &self.range).finish()
    }
}

/// Sends the faults in `range` to `handler`, installing the process's signal handler where that has not been done.
///
/// # Errors
/// An empty or overlapping range, a full table, or what `sigaction` and `pthread_atfork` answer.
pub fn register(range: Range<usize>, handler: Arc<dyn FaultHandler>) -> Result<Registration, RegisterError> {
    fork::at_fork()?;
    let mut installed = CHANGE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut free = None;
    for slot in &TABLE {
        let entry = slot.entry.load(Ordering::Acquire);
        if entry.is_null() {
            free = free.or(Some(slot));
            continue;
        }
        // SAFETY: entries leave the table under the lock that we hold, and are freed after that.
        let taken = unsafe { &(*entry).range };
        if range.start < taken.end && taken.start < range.end {
            return Err(RegisterError::BadRange);
        }
    }
    if range.is_empty() {
        return Err(RegisterError::BadRange);
    }
    let slot = free.ok_or(RegisterError::TableFull)?;
    if !*installed {
        previous::install(on_segv).map_err(RegisterError::Sigaction)?;
        *installed = true;
    }
    let entry = Entry {
        range: range.clone(),
        handler,
        orphan: AtomicBool::new(false),
    };
    slot.entry.store(Box::into_raw(Box::new(entry)), Ordering::SeqCst);
    Ok(Registration { slot, range })
}

/// True where the process's SIGSEGV handler is this one; false before the first registration, or when another was installed
/// after it (which may or may not go on to this one).
#[must_use]
pub fn is_outermost() -> bool {
    previous::is_installed(on_segv)
}

impl Drop for Registration {
    fn drop(&mut self) {
        let change = CHANGE.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = self.slot.entry.swap(ptr::null_mut(), Ordering::SeqCst);
        // Not held over the wait: a handler may be waiting for a thread that registers. The slot may be used again
        // meanwhile; the wait then takes a little longer.
        drop(change);
        while self.slot.running.load(Ordering::SeqCst) != 0 {
            thread::yield_now();
        }
        // SAFETY: made by `Box::into_raw` in `register`; no handler has it: those that loaded it have left, and later
        // ones load null.
        drop(unsafe { Box::from_raw(entry) });
    }
}

/// Makes every range the parent's; in a child, before `fork` returns there.
pub(super) fn orphan_all() {
    for slot in &TABLE {
        // The threads that were inside handlers are the parent's.
        slot.running.store(0, Ordering::SeqCst);
        let entry = slot.entry.load(Ordering::SeqCst);
        if !entry.is_null() {
            // SAFETY: the entry was live in the parent, and the child has one thread: this one.
            let orphan = unsafe { &(*entry).orphan };
            orphan.store(true, Ordering::SeqCst);
        }
    }
}

/// Asks the range that `fault` lies in, if any.
fn dispatch(fault: &Fault) -> Verdict {
    for slot in &TABLE {
        // Most slots are empty; a look costs nothing. A range that is being registered has no faults yet.
        if slot.entry.load(Ordering::Relaxed).is_null() {
            continue;
        }
        slot.running.fetch_add(1, Ordering::SeqCst);
        let entry = slot.entry.load(Ordering::SeqCst);
        // SAFETY: null, or live until we leave `running`: deregistering waits for that before it frees.
        let verdict = unsafe { entry.as_ref() }
            .filter(|e| e.range.contains(&fault.addr))
            .map(|e| {
                // The parent's tables and server are not there to ask.
                if e.orphan.load(Ordering::Relaxed) {
                    Verdict::NotOurs
                } else {
                    e.handler.fault(fault)
                }
            });
        slot.running.fetch_sub(1, Ordering::SeqCst);
        if let Some(verdict) = verdict {
            return verdict;
        }
    }
    Verdict::NotOurs
}

/// The signal handler. A panic in it would end the process: unwinding does not leave `extern "C"`.
extern "C" fn on_segv(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let errno = Errno::last();
    // SAFETY: the kernel, or a handler that goes on to us, passes a live siginfo.
    let code = unsafe { (*info).si_code };
    // Only these carry an address of a page: a signal sent by a process has its pid there, a general-protection fault 0.
    let verdict = if matches!(code, previous::SEGV_MAPERR | previous::SEGV_ACCERR) {
        // SAFETY: as above.
        let info = unsafe { &*info };
        // SAFETY: the code says that the address field is the one in use.
        let addr = unsafe { info.si_addr() }.addr();
        // SAFETY: `context` is this handler's own third argument.
        let at = unsafe { ucontext::interrupted(context) };
        let verdict = dispatch(&Fault {
            addr,
            access: at.access,
            ip: at.ip,
        });
        // The range of a space, or a frame that a call on the parent's machine was about to look at.
        if verdict == Verdict::NotOurs && fork::was_parents(addr) {
            fork::say(b"fork: a child touched a migrating page of its parent, or its machine\n");
        }
        verdict
    } else {
        Verdict::NotOurs
    };
    if verdict == Verdict::NotOurs {
        // SAFETY: these are the running handler's own arguments.
        unsafe { previous::call(signal, info, context) };
    }
    errno.set_last();
}

/// Returns the set of no signal.
pub(super) fn no_signals() -> libc::sigset_t {
    let mut set = MaybeUninit::zeroed();
    // SAFETY: the set is live for the call.
    let _ = unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: written above, and all zeroes is a valid set in any case.
    unsafe { set.assume_init() }
}

/// Returns the set of all signals.
pub(super) fn all_signals() -> libc::sigset_t {
    let mut set = no_signals();
    // SAFETY: the set is live for the call.
    let _ = unsafe { libc::sigfillset(&raw mut set) };
    set
}

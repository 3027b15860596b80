//! The SIGSEGV handler that was there before ours, called as the kernel would have called it.

use core::ffi::{c_int, c_void};
use core::mem::MaybeUninit;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use super::error::Errno;
use super::fault::{all_signals, no_signals};
use super::ucontext::{self, SIGNALS};

/// `si_code`: no mapping at the address (`sigaction(2)`).
pub(super) const SEGV_MAPERR: c_int = 1;
/// `si_code`: the mapping does not allow the access.
pub(super) const SEGV_ACCERR: c_int = 2;

pub(super) type Handler = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);

/// A signal's action, kept as the C library gives it.
struct Action {
    /// `SIG_DFL`, `SIG_IGN` or a function; becomes `SIG_DFL` after one call with `SA_RESETHAND`.
    handler: AtomicUsize,
    flags: c_int,
    mask: libc::sigset_t,
}

/// The action before ours. Leaked: a handler may be using it at any time.
static PREVIOUS: AtomicPtr<Action> = AtomicPtr::new(ptr::null_mut());

/// A handler's address in each of its meanings.
#[repr(C)]
union Code {
    raw: *const (),
    plain: extern "C" fn(c_int),
    info: Handler,
}

/// Puts `handler` in front of the process's SIGSEGV handler. Once in a process.
pub(super) fn install(handler: Handler) -> Result<(), Errno> {
    // Published before ours is in place: another thread may fault in between.
    let before = query()?;
    remember(&before);
    // A system call that a *sent* signal interrupts is restarted or not as before.
    let flags = libc::SA_SIGINFO | libc::SA_ONSTACK | (before.sa_flags & libc::SA_RESTART);
    let action = action(address(handler), flags, all_signals());
    let before = swap(&action)?;
    remember(&before);
    Ok(())
}

/// True where `handler` is the process's SIGSEGV handler.
pub(super) fn is_installed(handler: Handler) -> bool {
    query().is_ok_and(|now| now.sa_sigaction == address(handler))
}

/// Goes on to the handler that was there before ours.
///
/// # Safety
/// 1. Called by the handler given to [`install`], with its own arguments.
pub(super) unsafe fn call(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: null before `install`, else leaked and never written but through its atomic.
    let previous = unsafe { PREVIOUS.load(Ordering::Acquire).as_ref() };
    // SAFETY: the handler's siginfo is live (1).
    let code = unsafe { (*info).si_code };
    let Some(previous) = previous else {
        return by_default(signal, code);
    };
    let handler = if previous.flags & libc::SA_RESETHAND == 0 {
        previous.handler.load(Ordering::Acquire)
    } else {
        previous.handler.swap(libc::SIG_DFL, Ordering::AcqRel)
    };
    match handler {
        // The kernel does not let a fault be ignored either: the instruction would fault for ever.
        libc::SIG_IGN if is_fault(code) => by_default(signal, code),
        libc::SIG_IGN => {}
        libc::SIG_DFL => by_default(signal, code),
        handler => {
            let mut mask = previous.mask;
            // SAFETY: `context` is the handler's own (1).
            unsafe { ucontext::each_blocked(context, |s| add(&mut mask, s)) };
            if previous.flags & libc::SA_NODEFER == 0 {
                add(&mut mask, signal);
            }
            let ours = set_mask(&mask);
            let code = Code {
                raw: ptr::with_exposed_provenance(handler),
            };
            if previous.flags & libc::SA_SIGINFO == 0 {
                // SAFETY: without SA_SIGINFO the action's address is that of a function of one argument.
                let plain = unsafe { code.plain };
                plain(signal);
            } else {
                // SAFETY: with SA_SIGINFO the action's address is that of a function of three arguments.
                let with_info = unsafe { code.info };
                with_info(signal, info, context);
            }
            set_mask(&ours);
        }
    }
}

/// True for a signal that an instruction of this thread caused; the others were sent, and do not come again by themselves.
const fn is_fault(code: c_int) -> bool {
    code > 0
}

/// Does what the kernel does where there is no handler: the process dies when the instruction, or the signal, comes again.
fn by_default(signal: c_int, code: c_int) {
    let _ = swap(&action(libc::SIG_DFL, 0, no_signals()));
    if !is_fault(code) {
        // Blocked now; delivered when our handler returns.
        // SAFETY: no preconditions.
        let _ = unsafe { libc::raise(signal) };
    }
}

fn address(handler: Handler) -> usize {
    (handler as *const ()).expose_provenance()
}

fn action(handler: usize, flags: c_int, mask: libc::sigset_t) -> libc::sigaction {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    let fields = action.as_mut_ptr();
    // SAFETY: inside the value being made.
    unsafe { (*fields).sa_sigaction = handler };
    // SAFETY: as above.
    unsafe { (*fields).sa_flags = flags };
    // SAFETY: as above.
    unsafe { (*fields).sa_mask = mask };
    // SAFETY: all fields written; the C library's restorer field may be zero.
    unsafe { action.assume_init() }
}

fn query() -> Result<libc::sigaction, Errno> {
    let mut before = action(libc::SIG_DFL, 0, no_signals());
    // SAFETY: a null new action only asks; `before` is live for the call.
    let rc = unsafe { libc::sigaction(libc::SIGSEGV, ptr::null(), &raw mut before) };
    if rc == 0 { Ok(before) } else { Err(Errno::last()) }
}

fn swap(new: &libc::sigaction) -> Result<libc::sigaction, Errno> {
    let mut before = action(libc::SIG_DFL, 0, no_signals());
    // SAFETY: both are live for the call; the new action is the default, or a handler that keeps to signal-safety(7).
    let rc = unsafe { libc::sigaction(libc::SIGSEGV, ptr::from_ref(new), &raw mut before) };
    if rc == 0 { Ok(before) } else { Err(Errno::last()) }
}

fn remember(before: &libc::sigaction) {
    let action = Action {
        handler: AtomicUsize::new(before.sa_sigaction),
        flags: before.sa_flags,
        mask: before.sa_mask,
    };
    PREVIOUS.store(Box::into_raw(Box::new(action)), Ordering::Release);
}

fn add(set: &mut libc::sigset_t, signal: c_int) {
    debug_assert!((1..=SIGNALS).contains(&signal));
    // SAFETY: the set is live and borrowed for us alone. A signal that the C library keeps to itself is refused.
    let _ = unsafe { libc::sigaddset(ptr::from_mut(set), signal) };
}

/// Sets the calling thread's mask; returns what it was.
fn set_mask(mask: &libc::sigset_t) -> libc::sigset_t {
    let mut before = no_signals();
    // SAFETY: both sets are live for the call.
    let _ = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, ptr::from_ref(mask), &raw mut before) };
    before
}

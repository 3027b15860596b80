//! What a signal handler is told about the interrupted code: the one place that knows the machine.

use core::ffi::c_void;

use super::fault::Access;

/// What the interrupted code was doing, and where.
#[derive(Clone, Copy)]
pub(super) struct Interrupted {
    /// The instruction.
    pub(super) ip: usize,
    /// The access that faulted.
    pub(super) access: Access,
}

/// Reads the processor's own account of a fault.
///
/// # Safety
/// 1. `context` is the third argument of a running `SA_SIGINFO` handler.
pub(super) unsafe fn interrupted(context: *const c_void) -> Interrupted {
    #[cfg(target_arch = "x86_64")]
    {
        let context = context.cast::<libc::ucontext_t>();
        // SAFETY: the kernel put a ucontext there (1), live until the handler returns; only a field of it is copied.
        let regs = unsafe { (*context).uc_mcontext.gregs };
        let reg = |n: i32| usize::try_from(n).ok().and_then(|n| regs.get(n)).copied().unwrap_or(0);
        // Intel SDM vol. 3, 5.7: the page fault's error code; bit 1 a write, bit 4 an instruction fetch.
        let code = reg(libc::REG_ERR);
        let access = match code {
            c if c & 1 << 1 != 0 => Access::Write,
            c if c & 1 << 4 != 0 => Access::Execute,
            _ => Access::Read,
        };
        Interrupted {
            ip: reg(libc::REG_RIP) as usize,
            access,
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = context;
        Interrupted {
            ip: 0,
            access: Access::Unknown,
        }
    }
}

/// Calls `f` with each signal that the interrupted code had blocked.
///
/// # Safety
/// 1. `context` is the third argument of a running `SA_SIGINFO` handler.
pub(super) unsafe fn each_blocked(context: *const c_void, mut f: impl FnMut(i32)) {
    let context = context.cast::<libc::ucontext_t>();
    for signal in 1..=SIGNALS {
        // The kernel writes only the bits it has (8 bytes); the rest of the C library's larger set is never looked at.
        // SAFETY: the kernel put a ucontext there (1), live until the handler returns.
        let mask = unsafe { &raw const (*context).uc_sigmask };
        // SAFETY: the mask is live and the signal is one the kernel has a bit for.
        if unsafe { libc::sigismember(mask, signal) } == 1 {
            f(signal);
        }
    }
}

/// Signals that Linux has.
pub(super) const SIGNALS: i32 = 64;

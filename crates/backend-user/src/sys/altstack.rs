//! A stack for the fault handler.
//!
//! The handler runs on the thread's alternate stack (`SA_ONSTACK`), so that a stack overflow can still be told. Rust
//! gives its threads one, of a size that may be just what the kernel's frame needs (`AT_MINSIGSTKSZ` grows with the
//! processor's vector state); threads of other languages have none.

use core::ffi::c_void;
use core::marker::PhantomData;
use core::{mem, ptr};

use mm_types::PAGE_SIZE;

use super::error::Errno;

/// Bytes that the handler, what it calls and a handler it goes on to need, over the kernel's frame.
pub const HANDLER_BYTES: usize = 4096;

/// `AT_MINSIGSTKSZ` of `getauxval(3)`: bytes of the kernel's frame on this processor.
const AT_MINSIGSTKSZ: libc::c_ulong = 51;

/// Returns the least size of an alternate stack that the handler can run on.
#[must_use]
pub fn required() -> usize {
    // SAFETY: no preconditions.
    let kernel = unsafe { libc::getauxval(AT_MINSIGSTKSZ) };
    usize::try_from(kernel).unwrap_or(0).max(libc::MINSIGSTKSZ) + HANDLER_BYTES
}

/// The calling thread's claim to an alternate stack that is large enough; given back when dropped.
///
/// Stays on its thread.
#[derive(Debug)]
pub struct AltStack {
    own: Option<Own>,
    /// Not `Send`: the stack is the thread's.
    _thread: PhantomData<*mut ()>,
}

#[derive(Debug)]
struct Own {
    /// The mapping: a guard page, then the stack.
    base: *mut c_void,
    len: usize,
    before: (*mut c_void, i32, usize),
}

impl AltStack {
    /// Makes sure that the calling thread has a large enough alternate stack: keeps the one there is, or sets up one with a guard page.
    ///
    /// # Errors
    /// What `mmap`, `mprotect` or `sigaltstack` answers; the thread keeps what it had.
    pub fn ensure() -> Result<Self, Errno> {
        let now = current()?;
        let usable = now.ss_flags & libc::SS_DISABLE == 0 && now.ss_size >= required();
        // A thread that is on its alternate stack right now cannot change it (EPERM).
        if usable || now.ss_flags & libc::SS_ONSTACK != 0 {
            return Ok(Self {
                own: None,
                _thread: PhantomData,
            });
        }
        // Twice what is needed: the layer above and a program's own handlers have room too.
        let size = (2 * required()).next_multiple_of(PAGE_SIZE);
        let len = size + PAGE_SIZE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK | libc::MAP_NORESERVE;
        // SAFETY: the kernel picks a free place; no memory in use is touched.
        let base = unsafe { libc::mmap(ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        let own = Own {
            base,
            len,
            before: (now.ss_sp, now.ss_flags, now.ss_size),
        };
        // SAFETY: the first page of the mapping just made; nobody uses it yet.
        let guarded = unsafe { libc::mprotect(base, PAGE_SIZE, libc::PROT_NONE) };
        // SAFETY: the mapping is a page longer than the stack.
        let sp = unsafe { base.byte_add(PAGE_SIZE) };
        let stack = libc::stack_t {
            ss_sp: sp,
            ss_flags: 0,
            ss_size: size,
        };
        // SAFETY: `stack` is live for the call, and the memory it names stays mapped for as long as it is this thread's stack.
        if guarded == 0 && unsafe { libc::sigaltstack(&raw const stack, ptr::null_mut()) } == 0 {
            return Ok(Self {
                own: Some(own),
                _thread: PhantomData,
            });
        }
        let errno = Errno::last();
        // SAFETY: the mapping was made above and did not become the thread's stack.
        let _ = unsafe { libc::munmap(base, len) };
        Err(errno)
    }

    /// True where the thread's own stack was large enough and was kept.
    #[must_use]
    pub const fn kept(&self) -> bool {
        self.own.is_none()
    }
}

impl Drop for AltStack {
    fn drop(&mut self) {
        let Some(own) = &self.own else { return };
        let Ok(now) = current() else { return };
        if now.ss_sp.addr() == own.base.addr() + PAGE_SIZE {
            let (ss_sp, ss_flags, ss_size) = own.before;
            let before = libc::stack_t {
                ss_sp,
                ss_flags,
                ss_size,
            };
            // SAFETY: `before` is live for the call and names what the thread had, set up by others for the thread's life.
            if unsafe { libc::sigaltstack(&raw const before, ptr::null_mut()) } != 0 {
                // In use right now: the mapping must outlive us.
                return;
            }
        }
        // SAFETY: the mapping is ours and no longer the thread's alternate stack.
        let _ = unsafe { libc::munmap(own.base, own.len) };
    }
}

/// Returns the calling thread's alternate stack.
fn current() -> Result<libc::stack_t, Errno> {
    // SAFETY: all zeroes is a valid `stack_t`.
    let mut now: libc::stack_t = unsafe { mem::zeroed() };
    // SAFETY: a null new stack only asks; `now` is live for the call.
    if unsafe { libc::sigaltstack(ptr::null(), &raw mut now) } == 0 {
        Ok(now)
    } else {
        Err(Errno::last())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_without_a_stack_gets_one_and_gives_it_back() {
        std::thread::spawn(|| {
            let rust = current().unwrap();
            let none = libc::stack_t {
                ss_sp: ptr::null_mut(),
                ss_flags: libc::SS_DISABLE,
                ss_size: 0,
            };
            // SAFETY: `none` is live for the call; the thread does without the stack from here on.
            assert_eq!(unsafe { libc::sigaltstack(&raw const none, ptr::null_mut()) }, 0);
            let ours = AltStack::ensure().unwrap();
            assert!(!ours.kept());
            assert!(current().unwrap().ss_size >= required());
            assert!(AltStack::ensure().unwrap().kept(), "large enough now");
            drop(ours);
            assert_ne!(current().unwrap().ss_flags & libc::SS_DISABLE, 0);
            // SAFETY: `rust` is live for the call and names the stack that std set up for this thread.
            assert_eq!(unsafe { libc::sigaltstack(&raw const rust, ptr::null_mut()) }, 0);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_large_stack_is_kept() {
        std::thread::spawn(|| {
            let had = current().unwrap();
            let guard = AltStack::ensure().unwrap();
            assert_eq!(
                guard.kept(),
                had.ss_flags & libc::SS_DISABLE == 0 && had.ss_size >= required()
            );
        })
        .join()
        .unwrap();
    }
}

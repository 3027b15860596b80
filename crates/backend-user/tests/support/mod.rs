//! What the tests of the operating-system layer share: a range whose faults map its page, and children that may die.

#![allow(dead_code, reason = "each test program uses a part")]

use core::sync::atomic::{AtomicUsize, Ordering};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};
use std::sync::Arc;

use backend_user::sys::fault::{self, Fault, FaultHandler, Registration, Verdict};
use backend_user::sys::node::NodeMemory;
use backend_user::sys::range::{PageRange, Prot};
use mm_types::{NodeId, PAGE_SIZE};

/// Says to a test program that it is the child.
pub(crate) const CHILD: &str = "BACKEND_USER_TEST_CHILD";

/// True in a process that [`child`] started.
pub(crate) fn is_child() -> bool {
    let child = std::env::var_os(CHILD).is_some();
    if child {
        // A child that faults for ever ends, and the test fails instead of hanging.
        // SAFETY: no preconditions.
        unsafe { libc::alarm(60) };
    }
    child
}

/// Runs test `name` of this program again, alone, in a process that may die.
pub(crate) fn child(name: &str) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .output()
        .unwrap()
}

/// Returns the child's stderr as text, and the whole output for a message.
pub(crate) fn stderr(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

/// Asserts that the child died by `signal`.
#[track_caller]
pub(crate) fn died_by(out: &Output, signal: i32) {
    assert_eq!(out.status.signal(), Some(signal), "{out:?}");
}

/// Asserts that the child ended by `_exit(code)`.
#[track_caller]
pub(crate) fn ended_with(out: &Output, code: i32) {
    assert_eq!(out.status.code(), Some(code), "{out:?}");
}

/// Ends the process at once; for signal handlers.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: no preconditions.
    unsafe { libc::_exit(code) }
}

/// Forks, runs `f` in the child, and returns the child's wait status.
pub(crate) fn forked(f: impl FnOnce()) -> i32 {
    // SAFETY: the child only runs `f` and ends at once; the tests' closures touch memory and make system calls.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        f();
        exit_now(0);
    }
    assert!(pid > 0);
    let mut status = 0;
    // SAFETY: the status is live.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    status
}

/// A range of one node whose pages appear when they are touched.
pub(crate) struct Demand {
    pub(crate) node: NodeMemory,
    pub(crate) range: PageRange,
    pub(crate) faults: AtomicUsize,
    pub(crate) writes: AtomicUsize,
}

// SAFETY: one mmap, atomics, and no memory that faults.
unsafe impl FaultHandler for Demand {
    fn fault(&self, fault: &Fault) -> Verdict {
        self.faults.fetch_add(1, Ordering::Relaxed);
        self.writes.fetch_add(usize::from(fault.is_write()), Ordering::Relaxed);
        let prot = if fault.is_write() { Prot::ReadWrite } else { Prot::Read };
        let mapped = self
            .range
            .page_of(fault.addr)
            .map(|p| self.range.map_run(p, 1, self.node.as_fd(), p, prot, false));
        if matches!(mapped, Some(Ok(()))) {
            Verdict::Retry
        } else {
            Verdict::NotOurs
        }
    }
}

impl Demand {
    /// Makes and registers a range of `pages` pages.
    pub(crate) fn new(pages: usize) -> (Arc<Self>, Registration) {
        let demand = Arc::new(Self {
            node: NodeMemory::new(NodeId::new(0), pages, None).unwrap(),
            range: PageRange::reserve(pages).unwrap(),
            faults: AtomicUsize::new(0),
            writes: AtomicUsize::new(0),
        });
        let registration = fault::register(demand.range.addresses(), demand.clone()).unwrap();
        (demand, registration)
    }

    fn at(&self, page: usize) -> *mut u8 {
        assert!(page < self.range.pages());
        self.range.as_ptr().wrapping_add(page * PAGE_SIZE)
    }

    /// Reads the first byte of `page`.
    pub(crate) fn load(&self, page: usize) -> u8 {
        // SAFETY: inside the range; the fault handler maps it.
        unsafe { self.at(page).read_volatile() }
    }

    /// Writes the first byte of `page`.
    pub(crate) fn store(&self, page: usize, byte: u8) {
        // SAFETY: inside the range; the fault handler maps it.
        unsafe { self.at(page).write_volatile(byte) };
    }
}

/// An address that is never mapped and that no range has.
pub(crate) const NOBODYS: usize = 0x1000;

/// Faults outside of every range.
pub(crate) fn touch_nobodys() {
    let at = core::ptr::without_provenance::<u8>(NOBODYS);
    // SAFETY: not valid, on purpose: the process dies, or its handler ends it.
    let _ = unsafe { at.read_volatile() };
}

/// Installs `handler` for SIGSEGV with `flags` and `mask`; returns what was there.
pub(crate) fn install(handler: usize, flags: i32, mask: &[i32]) -> libc::sigaction {
    // SAFETY: all zeroes is a valid action.
    let mut new: libc::sigaction = unsafe { core::mem::zeroed() };
    new.sa_sigaction = handler;
    new.sa_flags = flags;
    for &signal in mask {
        // SAFETY: the set is live and ours.
        unsafe { libc::sigaddset(&raw mut new.sa_mask, signal) };
    }
    // SAFETY: as above.
    let mut old: libc::sigaction = unsafe { core::mem::zeroed() };
    // SAFETY: both actions are live; the tests' handlers only make calls that a handler may make.
    let rc = unsafe { libc::sigaction(libc::SIGSEGV, &raw const new, &raw mut old) };
    assert_eq!(rc, 0);
    old
}

/// True where the calling thread has `signal` blocked.
pub(crate) fn is_blocked(signal: i32) -> bool {
    // SAFETY: all zeroes is a valid set.
    let mut now: libc::sigset_t = unsafe { core::mem::zeroed() };
    // SAFETY: a null new mask only asks.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, core::ptr::null(), &raw mut now) };
    // SAFETY: the set is live.
    unsafe { libc::sigismember(&raw const now, signal) == 1 }
}

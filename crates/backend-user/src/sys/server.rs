//! The fault server: a thread that does for fault handlers what they may not do themselves.
//!
//! A handler may not allocate, lock or unwind; a demand fault, a copy-on-write and a last put need that. The handler fills in a
//! preallocated slot, rings, and sleeps on the slot's word; the server answers and wakes it. With every slot taken the
//! handler sleeps until one is free.
//!
//! A slot goes `FREE → CLAIMED → ASKED → ANSWERED → FREE`: the asker moves it but for `ASKED → ANSWERED`, which is the
//! server's. Closing: the server leaves when it has been told to and no asker is inside; an asker announces itself and
//! then looks whether the server has been told to leave (SeqCst on both sides, or each could miss the other), so that
//! nobody sleeps on a slot that nobody will answer.

use core::panic::AssertUnwindSafe;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use core::{fmt, ptr};
use std::io;
use std::panic;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use super::fault::all_signals;
use super::futex;

/// What a fault handler asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Which range or space, in the numbers of the layer above.
    pub space: u64,
    /// The address that faulted.
    pub addr: usize,
    /// True where the access must be allowed to write.
    pub write: bool,
}

/// What the server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done: the access may be tried again.
    Done,
    /// It cannot be done.
    Failed,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// The server is closing or gone.
    #[error("the fault server is closed")]
    Closed,
    /// The server itself faulted: it cannot wait for itself.
    #[error("the fault server asked itself")]
    Itself,
}

const FREE: u32 = 0;
const CLAIMED: u32 = 1;
const ASKED: u32 = 2;
const ANSWERED: u32 = 3;

/// One request under way. A cache line of its own: askers spin and sleep on `state`.
#[repr(align(64))]
struct Slot {
    state: AtomicU32,
    write: AtomicBool,
    done: AtomicBool,
    space: AtomicU64,
    addr: AtomicUsize,
}

/// Where handlers leave requests. Everything is allocated when the server starts.
pub struct Desk {
    slots: Box<[Slot]>,
    /// Counts requests and wake-ups of the server; it sleeps here.
    bell: AtomicU32,
    /// Counts slots that became free; askers without one sleep here.
    freed: AtomicU32,
    /// Askers asleep on `freed`, so that a free slot costs a wake only where somebody waits.
    crowd: AtomicU32,
    /// Askers inside [`Desk::ask`].
    inside: AtomicU32,
    closing: AtomicBool,
    /// The server's thread id, once it runs.
    server: AtomicU32,
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk")
            .field("slots", &self.slots.len())
            .field("inside", &self.inside)
            .finish_non_exhaustive()
    }
}

impl Desk {
    fn new(slots: usize) -> Self {
        let slot = |_| Slot {
            state: AtomicU32::new(FREE),
            write: AtomicBool::new(false),
            done: AtomicBool::new(false),
            space: AtomicU64::new(0),
            addr: AtomicUsize::new(0),
        };
        Self {
            slots: (0..slots.max(1)).map(slot).collect(),
            bell: AtomicU32::new(0),
            freed: AtomicU32::new(0),
            crowd: AtomicU32::new(0),
            inside: AtomicU32::new(0),
            closing: AtomicBool::new(false),
            server: AtomicU32::new(0),
        }
    }

    /// Asks the server and sleeps until it answers. Async-signal-safe; clobbers `errno`.
    ///
    /// # Errors
    /// The server is closed, or is the calling thread.
    pub fn ask(&self, request: Request) -> Result<Answer, NoAnswer> {
        if thread_id() == self.server.load(Ordering::Relaxed) {
            return Err(NoAnswer::Itself);
        }
        self.inside.fetch_add(1, Ordering::SeqCst);
        let answer = if self.closing.load(Ordering::SeqCst) {
            Err(NoAnswer::Closed)
        } else {
            Ok(self.ask_inside(request))
        };
        self.inside.fetch_sub(1, Ordering::SeqCst);
        if self.closing.load(Ordering::SeqCst) {
            // The server may be waiting for the last asker to leave.
            self.ring();
        }
        answer
    }

    fn ask_inside(&self, request: Request) -> Answer {
        let slot = self.claim();
        slot.space.store(request.space, Ordering::Relaxed);
        slot.addr.store(request.addr, Ordering::Relaxed);
        slot.write.store(request.write, Ordering::Relaxed);
        slot.state.store(ASKED, Ordering::Release);
        self.ring();
        while slot.state.load(Ordering::Acquire) == ASKED {
            futex::wait(&slot.state, ASKED, None);
        }
        let answer = if slot.done.load(Ordering::Relaxed) {
            Answer::Done
        } else {
            Answer::Failed
        };
        slot.state.store(FREE, Ordering::Release);
        // A sleeper counts itself in `crowd` before it looks for a free slot a last time.
        self.freed.fetch_add(1, Ordering::SeqCst);
        if self.crowd.load(Ordering::SeqCst) != 0 {
            futex::wake(&self.freed, 1);
        }
        answer
    }

    fn claim(&self) -> &Slot {
        if let Some(slot) = self.free_slot() {
            return slot;
        }
        self.crowd.fetch_add(1, Ordering::SeqCst);
        let slot = loop {
            let seen = self.freed.load(Ordering::SeqCst);
            if let Some(slot) = self.free_slot() {
                break slot;
            }
            futex::wait(&self.freed, seen, None);
        };
        self.crowd.fetch_sub(1, Ordering::SeqCst);
        slot
    }

    fn free_slot(&self) -> Option<&Slot> {
        let claim = |s: &&Slot| {
            s.state
                .compare_exchange(FREE, CLAIMED, Ordering::SeqCst, Ordering::Relaxed)
                .is_ok()
        };
        self.slots.iter().find(claim)
    }

    fn ring(&self) {
        self.bell.fetch_add(1, Ordering::SeqCst);
        futex::wake_all(&self.bell);
    }

    /// Answers every slot that asks; returns how many.
    fn serve_round(&self, serve: &impl Fn(Request) -> Answer) -> usize {
        let mut served = 0;
        for slot in self.slots.iter().filter(|s| s.state.load(Ordering::Acquire) == ASKED) {
            let request = Request {
                space: slot.space.load(Ordering::Relaxed),
                addr: slot.addr.load(Ordering::Relaxed),
                write: slot.write.load(Ordering::Relaxed),
            };
            // A panic must not leave the asker, and everybody after it, asleep for ever.
            let answer = panic::catch_unwind(AssertUnwindSafe(|| serve(request))).unwrap_or(Answer::Failed);
            slot.done.store(answer == Answer::Done, Ordering::Relaxed);
            slot.state.store(ANSWERED, Ordering::Release);
            futex::wake_all(&slot.state);
            served += 1;
        }
        served
    }

    fn run(&self, serve: &impl Fn(Request) -> Answer) {
        self.server.store(thread_id(), Ordering::Relaxed);
        futex::wake_all(&self.server);
        loop {
            let seen = self.bell.load(Ordering::SeqCst);
            if self.serve_round(serve) != 0 {
                continue;
            }
            if self.closing.load(Ordering::SeqCst) && self.inside.load(Ordering::SeqCst) == 0 {
                return;
            }
            futex::wait(&self.bell, seen, None);
        }
    }
}

/// A running fault server; dropping it answers what has been asked, refuses the rest, and joins the thread.
///
/// Deregister the ranges whose handlers ask it first.
#[derive(Debug)]
pub struct FaultServer {
    desk: Arc<Desk>,
    thread: Option<JoinHandle<()>>,
    pid: u32,
}

impl FaultServer {
    /// Starts the thread, with `slots` requests at a time.
    ///
    /// `serve` runs on it, one request after another. It must not touch a range whose handler asks this server.
    ///
    /// # Errors
    /// The thread could not be started.
    pub fn start(slots: usize, serve: impl Fn(Request) -> Answer + Send + 'static) -> io::Result<Self> {
        let desk = Arc::new(Desk::new(slots));
        let of_server = Arc::clone(&desk);
        let thread = thread::Builder::new().name("fault-server".into()).spawn(move || {
            block_sent_signals();
            of_server.run(&serve);
        })?;
        // Until it runs, a request waits in its slot; but the thread must be known before it can ask itself.
        while desk.server.load(Ordering::Relaxed) == 0 {
            futex::wait(&desk.server, 0, None);
        }
        Ok(Self {
            desk,
            thread: Some(thread),
            pid: std::process::id(),
        })
    }

    /// Returns the desk, for the handlers. Clone and drop it outside of them.
    #[must_use]
    pub fn desk(&self) -> Arc<Desk> {
        Arc::clone(&self.desk)
    }
}

impl Drop for FaultServer {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        if std::process::id() != self.pid {
            // In a forked child the thread does not exist; joining it would never end.
            core::mem::forget(thread);
            return;
        }
        self.desk.closing.store(true, Ordering::SeqCst);
        self.desk.ring();
        // A panic of `serve` was caught; nothing else in the thread panics.
        let _ = thread.join();
    }
}

/// Returns the calling thread's number, as the kernel has it; never 0.
fn thread_id() -> u32 {
    // SAFETY: no preconditions.
    unsafe { libc::gettid() }.unsigned_abs()
}

/// Keeps signals sent to the process away from the calling thread; faults of its own still end it with a message.
pub(crate) fn block_sent_signals() {
    let mut set = all_signals();
    for fault in [
        libc::SIGSEGV,
        libc::SIGBUS,
        libc::SIGILL,
        libc::SIGFPE,
        libc::SIGABRT,
        libc::SIGTRAP,
        libc::SIGSYS,
    ] {
        // SAFETY: the set is live and ours.
        let _ = unsafe { libc::sigdelset(&raw mut set, fault) };
    }
    // SAFETY: the set is live for the call.
    let _ = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut()) };
}

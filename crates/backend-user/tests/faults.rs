//! Faults inside a registered range are answered and tried again.

mod support;

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::Arc;

use backend_user::sys::error::Errno;
use backend_user::sys::fault::{self, Access, Fault, FaultHandler, RegisterError, Verdict};
use backend_user::sys::range::{PageRange, Prot};
use backend_user::sys::server::{Answer, Desk, FaultServer, NoAnswer, Request};
use mm_types::PAGE_SIZE;
use support::Demand;

#[test]
fn a_fault_inside_a_range_is_answered_and_the_access_tried_again() {
    let (demand, _registration) = Demand::new(8);
    assert_eq!(demand.load(3), 0);
    assert_eq!(
        (
            demand.faults.load(Ordering::Relaxed),
            demand.writes.load(Ordering::Relaxed)
        ),
        (1, 0)
    );
    // Readable now: the write faults once more, and is known to be a write.
    demand.store(3, 9);
    assert_eq!(
        (
            demand.faults.load(Ordering::Relaxed),
            demand.writes.load(Ordering::Relaxed)
        ),
        (2, 1)
    );
    assert_eq!(demand.load(3), 9);
    assert_eq!(demand.faults.load(Ordering::Relaxed), 2);
}

#[test]
fn threads_fault_at_once_in_several_ranges() {
    let ranges: Vec<_> = (0..4).map(|_| Demand::new(64)).collect();
    std::thread::scope(|s| {
        for (demand, _) in &ranges {
            for first in 0..2 {
                s.spawn(move || (first..64).step_by(2).for_each(|page| demand.store(page, 1)));
            }
        }
    });
    for (demand, _) in &ranges {
        assert_eq!(demand.writes.load(Ordering::Relaxed), 64);
    }
}

/// Clobbers `errno` and allows the page.
struct Clobbers(PageRange);

// SAFETY: one mprotect and a thread's own cell.
unsafe impl FaultHandler for Clobbers {
    fn fault(&self, fault: &Fault) -> Verdict {
        assert_ne!(fault.ip, 0);
        assert_eq!(fault.access, Access::Write);
        let page = self.0.page_of(fault.addr).unwrap();
        self.0.unmap_run(page, 1).unwrap();
        self.0.protect_run(page, 1, Prot::ReadWrite).unwrap();
        Errno::new(libc::EXDEV).set_last();
        Verdict::Retry
    }
}

#[test]
fn errno_is_the_interrupted_codes_own() {
    let range = PageRange::reserve(1).unwrap();
    let (at, addresses) = (range.as_ptr(), range.addresses());
    let _registration = fault::register(addresses, Arc::new(Clobbers(range))).unwrap();
    Errno::new(libc::EDOM).set_last();
    // SAFETY: the first byte of the range; the handler makes it writable.
    unsafe { at.write_volatile(1) };
    assert_eq!(Errno::last().raw(), libc::EDOM);
}

#[test]
fn overlapping_and_empty_ranges_are_refused() {
    let (demand, registration) = Demand::new(4);
    let taken = demand.range.addresses();
    let inside = taken.start + PAGE_SIZE..taken.end + PAGE_SIZE;
    assert_eq!(
        fault::register(inside, demand.clone()).err(),
        Some(RegisterError::BadRange)
    );
    assert_eq!(
        fault::register(taken.start..taken.start, demand.clone()).err(),
        Some(RegisterError::BadRange)
    );
    drop(registration);
    let again = fault::register(taken, demand.clone());
    assert!(again.is_ok());
}

/// Holds the faulting thread inside the handler until it is let go.
struct Holds {
    range: PageRange,
    inside: AtomicUsize,
    go: AtomicBool,
    left: AtomicBool,
}

// SAFETY: spins on atomics, and makes one mprotect.
unsafe impl FaultHandler for Holds {
    fn fault(&self, _: &Fault) -> Verdict {
        self.inside.fetch_add(1, Ordering::SeqCst);
        while !self.go.load(Ordering::SeqCst) {
            core::hint::spin_loop();
        }
        let done = self.range.protect_run(0, 1, Prot::ReadWrite);
        self.left.store(true, Ordering::SeqCst);
        if done.is_ok() { Verdict::Retry } else { Verdict::NotOurs }
    }
}

#[test]
fn deregistering_waits_for_the_handlers_that_run() {
    let range = PageRange::reserve(1).unwrap();
    let holds = Arc::new(Holds {
        range,
        inside: AtomicUsize::new(0),
        go: AtomicBool::new(false),
        left: AtomicBool::new(false),
    });
    let registration = fault::register(holds.range.addresses(), holds.clone()).unwrap();
    std::thread::scope(|s| {
        let toucher = s.spawn(|| {
            // SAFETY: the first byte of the range; the handler makes it readable.
            unsafe { holds.range.as_ptr().read_volatile() }
        });
        while holds.inside.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        let dropper = s.spawn(|| {
            drop(registration);
            holds.left.load(Ordering::SeqCst)
        });
        // A chance to go wrong; what is asserted holds however long it takes.
        (0..1000).for_each(|_| std::thread::yield_now());
        holds.go.store(true, Ordering::SeqCst);
        assert!(
            dropper.join().unwrap(),
            "the handler had left when the registration was gone"
        );
        assert_eq!(toucher.join().unwrap(), 0);
    });
}

/// Hands every fault to a server.
struct Asks {
    space: u64,
    desk: Arc<Desk>,
}

// SAFETY: `ask` is async-signal-safe.
unsafe impl FaultHandler for Asks {
    fn fault(&self, fault: &Fault) -> Verdict {
        match self.desk.ask(Request {
            space: self.space,
            addr: fault.addr,
            write: fault.is_write(),
        }) {
            Ok(Answer::Done) => Verdict::Retry,
            _ => Verdict::NotOurs,
        }
    }
}

#[test]
fn the_server_answers_more_threads_than_it_has_slots() {
    const PAGES: usize = 256;
    let range = Arc::new(PageRange::reserve(PAGES).unwrap());
    let of_server = range.clone();
    let served = Arc::new(AtomicUsize::new(0));
    let count = served.clone();
    let server = FaultServer::start(2, move |request| {
        // Allocates, as a handler may not.
        let note = Box::new(request);
        assert_eq!(note.space, 11);
        assert!(note.write);
        count.fetch_add(1, Ordering::Relaxed);
        let page = of_server.page_of(note.addr).unwrap();
        of_server.protect_run(page, 1, Prot::ReadWrite).unwrap();
        Answer::Done
    })
    .unwrap();
    let asks = Arc::new(Asks {
        space: 11,
        desk: server.desk(),
    });
    let registration = fault::register(range.addresses(), asks).unwrap();
    std::thread::scope(|s| {
        for first in 0..8 {
            let range = &range;
            s.spawn(move || {
                for page in (first..PAGES).step_by(8) {
                    let at = range.as_ptr().wrapping_add(page * PAGE_SIZE);
                    // SAFETY: inside the range; the server makes it writable, and the page is this thread's own.
                    unsafe { at.write_volatile(1) };
                }
            });
        }
    });
    assert_eq!(served.load(Ordering::Relaxed), PAGES);
    drop(registration);
}

#[test]
fn a_closed_server_refuses_and_a_panicking_one_fails_the_request_only() {
    let server = FaultServer::start(1, |request| {
        assert_ne!(request.space, 0, "asked for");
        Answer::Done
    })
    .unwrap();
    let desk = server.desk();
    let ask = |space| {
        desk.ask(Request {
            space,
            addr: 0,
            write: false,
        })
    };
    assert_eq!(ask(0), Ok(Answer::Failed));
    assert_eq!(ask(1), Ok(Answer::Done));
    drop(server);
    assert_eq!(ask(1), Err(NoAnswer::Closed));
}

#[test]
fn a_server_that_asks_itself_is_told_so() {
    let desk: Arc<std::sync::OnceLock<Arc<Desk>>> = Arc::default();
    let of_server = desk.clone();
    let server = FaultServer::start(1, move |request| {
        let own = of_server.wait_for();
        if own.ask(request) == Err(NoAnswer::Itself) {
            Answer::Done
        } else {
            Answer::Failed
        }
    })
    .unwrap();
    assert!(desk.set(server.desk()).is_ok());
    assert_eq!(
        server.desk().ask(Request {
            space: 0,
            addr: 0,
            write: false
        }),
        Ok(Answer::Done)
    );
}

/// `OnceLock::wait`, which the oldest toolchain does not have.
trait WaitFor<T> {
    fn wait_for(&self) -> &T;
}

impl<T> WaitFor<T> for std::sync::OnceLock<T> {
    fn wait_for(&self) -> &T {
        loop {
            if let Some(value) = self.get() {
                return value;
            }
            std::thread::yield_now();
        }
    }
}

#[test]
fn askers_that_race_with_closing_are_answered_or_refused() {
    for _ in 0..50 {
        let server = FaultServer::start(1, |_| Answer::Done).unwrap();
        let desk = server.desk();
        std::thread::scope(|s| {
            for _ in 0..3 {
                s.spawn(|| {
                    while desk
                        .ask(Request {
                            space: 0,
                            addr: 0,
                            write: false,
                        })
                        .is_ok()
                    {}
                });
            }
            drop(server);
        });
    }
}

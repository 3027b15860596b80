//! The page fault: what a thread does that touched a page of ours and could not go on.
//!
//! Runs in the signal handler, so nothing here locks, allocates or unwinds. It reads the entry, one atomic word, and
//! either waits for the page's lock, lets the access run again, or leaves the work to the fault server.

use core::cell::Cell;
use core::sync::atomic::Ordering;
use core::time::Duration;
use std::sync::Arc;
use std::time::Instant;

use migrate_core::{LINUX_2_6_17, MODERN, migration_entry_wait};
use mm_types::trace::{Event, Observer};
use mm_types::{ActorId, Pfn, Pte};

use crate::kernel::Kernel;
use crate::mm::Mm;
use crate::stats::Kind;
use crate::sys::fault::{Access, Fault, FaultHandler, Verdict};
use crate::sys::server::{Answer, Request};
use crate::trace::{Tracer, actor};
use crate::waiter::Waiter;

/// Times that one access may find itself permitted and fault again, before the server looks at the mapping.
const AGAIN: u32 = 2;

/// How long a thread looks before it sleeps: somewhat longer than a batch that keeps the stall budget holds its pages. A processor that
/// has nothing to do takes longer than that to wake up, where it is a virtual one.
const SPIN: Duration = Duration::from_micros(200);

/// Looks between two looks at the clock.
const LOOKS: u32 = 128;

/// Answers the faults of one space.
#[derive(Debug)]
pub(crate) struct Handler {
    pub(crate) kernel: Arc<Kernel>,
    pub(crate) space: Arc<Mm>,
}

thread_local! {
    // No initialiser and no destructor, so that a signal handler may look.
    static LAST: Cell<(usize, u32)> = const { Cell::new((0, 0)) };
}

// SAFETY: 1: what is called from here reads atomics and the clock, sleeps on futexes, and rings the fault server; the
// recorder, where there is one, is a ring of atomics. Arithmetic is on counters, indexing is checked, nothing unwinds. 2: page
// descriptors, tables and statistics are ordinary memory.
unsafe impl FaultHandler for Handler {
    fn fault(&self, fault: &Fault) -> Verdict {
        let Some(page) = self.space.range.page_of(fault.addr) else {
            return Verdict::NotOurs;
        };
        if fault.access == Access::Execute {
            return self.foreign();
        }
        let write = fault.is_write();
        match self.space.read(page) {
            Pte::Migration(_) => self.migrating(page, write),
            pte if permits(pte, write) => self.about_to_be_real(fault.addr, pte, write),
            Pte::Poison(_) => self.foreign(),
            // A page that is moving, or being copied for somebody else, is not ours to change yet.
            Pte::Present { pfn, .. } if self.kernel.is_locked(pfn) => self.wait(pfn),
            _ => self.serve(fault.addr, write),
        }
    }
}

/// True where the entry lets the access through, once the mapping agrees with it.
pub(crate) fn permits(pte: Pte, write: bool) -> bool {
    pte.is_present() && (!write || pte.writable())
}

impl Handler {
    fn foreign(&self) -> Verdict {
        self.kernel.faults.count(Kind::Foreign);
        Verdict::NotOurs
    }

    /// The page is in flight: waits until it has arrived, or stayed.
    fn migrating(&self, page: usize, write: bool) -> Verdict {
        self.wait_in_flight(page, write, actor());
        self.kernel.faults.count(Kind::Migration);
        Verdict::Retry
    }

    /// Waits for a page in flight, as `who`.
    pub(crate) fn wait_in_flight(&self, page: usize, write: bool, who: ActorId) {
        let begun = Instant::now();
        let kernel = &self.kernel;
        let site = self.space.site(page);
        let tracer = Tracer(kernel.trace.as_deref());
        tracer.note(|| Event::Fault {
            actor: who,
            site,
            write,
        });
        let waiter = Waiter {
            kernel,
            space: &self.space,
        };
        let profile = if kernel.runs_2006.load(Ordering::Relaxed) == 0 {
            &MODERN
        } else {
            &LINUX_2_6_17
        };
        // In a traced machine every wait is seen: whether a spin would have sufficed is a matter of luck.
        let spun = kernel.trace.is_none() && spin(begun, || !self.space.read(page).is_migration());
        while !spun && self.space.read(page).is_migration() {
            migration_entry_wait(&waiter, profile, site, who, tracer);
        }
        // Mapped in the table; real when the page lock opens, a moment later.
        if let Some(pfn) = self.space.read(page).pfn() {
            while kernel.is_locked(pfn) {
                self.sleep_locked(pfn, begun);
            }
        }
        kernel.stalled(begun);
    }

    /// Sleeps for a page lock if it does not open soon.
    fn sleep_locked(&self, pfn: Pfn, begun: Instant) {
        if !spin(begun, || !self.kernel.is_locked(pfn)) {
            self.kernel.wait_unlocked(pfn);
        }
    }

    /// The entry permits the access: it changed since, or the mapping is not there yet, or was not when the access began.
    fn about_to_be_real(&self, addr: usize, pte: Pte, write: bool) -> Verdict {
        let times = LAST.with(|last| {
            let (before, times) = last.get();
            let times = if before == addr { times + 1 } else { 0 };
            last.set((addr, times));
            times
        });
        if let Some(pfn) = pte.pfn().filter(|pfn| self.kernel.is_locked(*pfn)) {
            return self.wait(pfn);
        }
        // A page that is watched for use is inaccessible until the server has noted the use.
        if times >= AGAIN {
            LAST.with(|last| last.set((0, 0)));
            return self.serve(addr, write);
        }
        self.kernel.faults.count(Kind::Again);
        Verdict::Retry
    }

    /// Waits for a page lock, and lets the access run again.
    fn wait(&self, pfn: Pfn) -> Verdict {
        let begun = Instant::now();
        self.sleep_locked(pfn, begun);
        self.kernel.stalled(begun);
        self.kernel.faults.count(Kind::Again);
        Verdict::Retry
    }

    fn serve(&self, addr: usize, write: bool) -> Verdict {
        let request = Request {
            space: self.space.id.raw().into(),
            addr,
            write,
        };
        let answer = self.kernel.desk.get().map(|desk| desk.ask(request));
        match answer {
            Some(Ok(Answer::Done)) => Verdict::Retry,
            _ => self.foreign(),
        }
    }
}

/// Looks whether what a thread waits for is over, until [`SPIN`] after it began to wait; true where it is.
fn spin(begun: Instant, over: impl Fn() -> bool) -> bool {
    while begun.elapsed() < SPIN {
        for _ in 0..LOOKS {
            if over() {
                return true;
            }
            core::hint::spin_loop();
        }
    }
    false
}

//! Accesses that wait in the kernel for pages of the second engine: who hears of them, and what is done.
//!
//! A thread of the machine reads them from the userfaultfd, and each that it reads is woken by somebody. One that waits for a page in
//! flight is noted, and woken by whoever settles the page when it is back ([`Private::stalls_end`]), if showing it has not done so; by
//! the rules of 2006, where a waiter holds a reference, and in a traced machine, a stand-in does what the waiting thread would have
//! done, and wakes it. Everything else is what the fault handler leaves to the fault server: a first touch, a first store, a page that
//! is watched for use. What is not allowed is made to fault again, as a signal.

use core::panic::AssertUnwindSafe;
use core::sync::atomic::Ordering;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::panic;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use mm_types::{ActorId, Pte};

use crate::fill::Filled;
use crate::handler::{Handler, permits};
use crate::kernel::Kernel;
use crate::mm::Mm;
use crate::private::{Private, Standing};
use crate::stats::Kind;
use crate::sys::fork::say;
use crate::sys::server::block_sent_signals;
use crate::sys::uffd::{self, Event};
use crate::trace::actor_of;

/// The thread that hears of accesses; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Listener {
    thread: Option<JoinHandle<()>>,
    stop: UnixStream,
    private: Arc<Private>,
    pid: u32,
}

impl Listener {
    /// Starts it.
    ///
    /// # Errors
    /// The thread or its socket could not be made.
    pub(crate) fn start(kernel: Arc<Kernel>, private: Arc<Private>) -> io::Result<Self> {
        let (stopped, stop) = UnixStream::pair()?;
        let of_thread = private.clone();
        let thread = thread::Builder::new().name("missing-pages".into()).spawn(move || {
            block_sent_signals();
            let mut events = Vec::new();
            loop {
                match uffd::wait(&of_thread.uffd, stopped.as_fd()) {
                    Ok(true) => {}
                    Ok(false) => return,
                    // A signal, or no memory for the call.
                    Err(_) => {
                        thread::yield_now();
                        continue;
                    }
                }
                of_thread.uffd.read(&mut events);
                let answered = panic::catch_unwind(AssertUnwindSafe(|| {
                    for event in events.drain(..) {
                        kernel.missing(&of_thread, event);
                    }
                }));
                if answered.is_err() {
                    // Those that wait would sleep for ever, and without a word.
                    say(b"backend-user: accesses that wait are not answered any more\n");
                    std::process::abort();
                }
            }
        })?;
        Ok(Self {
            thread: Some(thread),
            stop,
            private,
            pid: std::process::id(),
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        if std::process::id() != self.pid {
            // In a forked child the thread does not exist.
            core::mem::forget(thread);
            return;
        }
        // The thread reads nothing: that there is something ends it.
        let _ = self.stop.write_all(&[0]);
        let _ = thread.join();
        self.private.join_stand_ins();
    }
}

/// Wakes who waits for a page when a stand-in ends, however it does.
struct Waking<'s>(&'s Private, &'s Mm, usize);

impl Drop for Waking<'_> {
    fn drop(&mut self) {
        self.1.wake(self.0, self.2..self.2 + 1);
    }
}

impl Kernel {
    /// Answers one access that waits.
    fn missing(self: &Arc<Self>, private: &Arc<Private>, event: Event) {
        let place = self
            .areas()
            .spaces()
            .find_map(|mm| Some((mm.clone(), mm.range.page_of(event.addr)?)));
        let Some((mm, page)) = place else {
            // A slot is touched by owners of its frame only, who know whether it is there; and a space that is gone has no threads.
            debug_assert!(!private.is_slot(event.addr), "a missing slot was touched");
            return;
        };
        match mm.read(page) {
            Pte::Migration(_) => self.in_flight(private, &mm, page, event),
            Pte::Present { pfn, .. } if self.is_locked(pfn) => self.behind_a_lock(private, mm, page, event.write),
            Pte::Poison(_) => bar(private, &mm, page),
            _ => match self.fill(&mm, page, event.write, self.options.around) {
                Ok(Filled::Accessible) => mm.wake(private, page..page + 1),
                Ok(Filled::Busy(pfn)) => self.wake_unlocked(private, mm, page, pfn),
                // The thread faults again, and the fault server says what there is to say.
                Err(_) => bar(private, &mm, page),
            },
        }
    }

    /// The page is in flight: the access waits until it is back.
    fn in_flight(self: &Arc<Self>, private: &Arc<Private>, mm: &Arc<Mm>, page: usize, event: Event) {
        self.faults.count(Kind::Migration);
        let plain = self.trace.is_none() && self.runs_2006.load(Ordering::Relaxed) == 0;
        if plain || !self.stands_in(private, mm, page, event) {
            private.stalls(mm.id, page);
            // It may have come back before the wait was noted.
            private.stalls_end(self, mm, &[page]);
        }
    }

    /// Has a thread do what the access would do; false where there is none, and where the accessing thread has one already.
    ///
    /// A stand-in that finds the page in flight again waits again, while its thread may have been woken in between by another's stand-in
    /// and have come anew. One thread waits once; so what comes anew is noted only, and woken with the page.
    fn stands_in(self: &Arc<Self>, private: &Arc<Private>, mm: &Arc<Mm>, page: usize, event: Event) -> bool {
        let handler = Handler {
            kernel: self.clone(),
            space: mm.clone(),
        };
        let Some(standing) = Standing::begin(private, event.thread) else {
            return false;
        };
        let who: ActorId = actor_of(event.thread);
        let private_too = private.clone();
        private.stand_in(move || {
            let _woken = Waking(&private_too, &handler.space, page);
            // Over before the thread is woken: it may come again at once.
            let _standing = standing;
            handler.wait_in_flight(page, event.write, who);
        })
    }

    /// The page is locked, and not in flight: on its way back it is shown at once; before it leaves, or while somebody else works
    /// on it, the access waits for the lock.
    fn behind_a_lock(self: &Arc<Self>, private: &Arc<Private>, mm: Arc<Mm>, page: usize, write: bool) {
        let pte = mm.read(page);
        if permits(pte, write) {
            let mut state = mm.lock();
            state.unsettled(page, true);
            let settled = mm.settle(self, &mut state);
            let prot = state.real.get(page).and_then(|real| real.get()).map(|(_, prot)| prot);
            drop(state);
            let shown = prot.is_some_and(|prot| !write || prot == crate::sys::range::Prot::ReadWrite);
            if settled.is_ok() && shown {
                mm.wake(private, page..page + 1);
                return;
            }
        }
        match pte.pfn() {
            Some(pfn) => self.wake_unlocked(private, mm, page, pfn),
            None => mm.wake(private, page..page + 1),
        }
    }

    /// Lets an access look again when a page's lock is open.
    fn wake_unlocked(self: &Arc<Self>, private: &Arc<Private>, mm: Arc<Mm>, page: usize, pfn: mm_types::Pfn) {
        let (kernel, private_too, space) = (self.clone(), private.clone(), mm.clone());
        let begun = private.stand_in(move || {
            let _woken = Waking(&private_too, &space, page);
            let begun = std::time::Instant::now();
            kernel.wait_unlocked(pfn);
            kernel.stalled(begun);
            kernel.faults.count(Kind::Again);
        });
        if !begun {
            // It faults again, and is heard of again, until the lock is open.
            mm.wake(private, page..page + 1);
        }
    }
}

fn bar(private: &Private, mm: &Mm, page: usize) {
    let mut state = mm.lock();
    if !state.is_private(page) {
        // The area is another one since the access was heard of.
        mm.wake(private, page..page + 1);
        return;
    }
    if let Err(error) = mm.bar(private, &mut state, page) {
        // The thread would sleep for ever.
        say(format!("backend-user: an access that is not allowed could not be refused: {error}\n").as_bytes());
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use core::ops::ControlFlow;
    use core::time::Duration;
    use std::sync::mpsc;

    use migrate_core::fixture::Recording;
    use migrate_core::{Entry, Frames as _, LockedPage, Lru as _, PageRef, Rmap as _};
    use mm_types::trace::Event as TraceEvent;
    use mm_types::{MigrationEntry, Pfn, PteFlags};

    use super::*;
    use crate::{Area, Engine, EngineInUse, Machine, Prot, Sharing, Space};

    /// A machine on the second engine, with one page whose first word is 5, and its frame; `None` where the system does not have it.
    fn one_page(recording: Option<Arc<Recording>>) -> Option<(Machine, Space, Area, Pfn)> {
        let mut machine = Machine::builder().frames_per_node(64).engine(Engine::Auto);
        if let Some(recording) = recording {
            machine = machine.trace(recording);
        }
        let machine = machine.build().unwrap();
        let EngineInUse::Private(_) = machine.engine() else {
            println!("not applicable: {}", machine.engine());
            return None;
        };
        let space = machine.space(8).unwrap();
        let area = space.map_anonymous(1, Prot::ReadWrite, Sharing::Private).unwrap();
        area.page(0)[0].store(5, Ordering::Relaxed);
        // Off the way to its list, so that it can be isolated.
        machine.kernel().drain();
        let pfn = space.entry(area.first).pfn().unwrap();
        Some((machine, space, area, pfn))
    }

    /// Replaces the page's entry, and makes the range agree.
    fn replace(kernel: &Kernel, locked: &LockedPage, edit: &dyn Fn(Pte) -> Option<Pte>) {
        let mut gather = kernel.gather();
        kernel.walk(locked, &mut gather, &mut |entry: &mut dyn Entry| {
            assert!(entry.update(edit).is_some());
            ControlFlow::Continue(())
        });
        kernel.flush(gather);
    }

    /// Puts the page into flight, waits until an access to it has been heard of, does what is asked, and brings it back as `back`
    /// says; returns what the access found.
    fn touched_in_flight(
        kernel: &Kernel,
        area: Area,
        pfn: Pfn,
        meanwhile: impl FnOnce(),
        back: &dyn Fn(Pte) -> Option<Pte>,
    ) -> Option<u64> {
        let isolated = kernel.isolate(&PageRef::counted(pfn)).unwrap();
        let locked = kernel.try_lock(isolated).unwrap();
        let out = |pte: Pte| pte.maps(pfn).then_some(Pte::Migration(MigrationEntry::writable(pfn)));
        replace(kernel, &locked, &out);
        let (tell, told) = mpsc::channel();
        let waiter = thread::spawn(move || tell.send(area.page(0)[0].load(Ordering::Relaxed)));
        heard_of(kernel, 1);
        meanwhile();
        replace(kernel, &locked, back);
        kernel.putback(kernel.unlock(locked));
        let found = told.recv_timeout(Duration::from_secs(20)).ok();
        if found.is_some() {
            waiter.join().unwrap().unwrap();
        }
        found
    }

    /// Waits until so many accesses to pages in flight have been heard of.
    fn heard_of(kernel: &Kernel, accesses: u64) {
        while kernel.faults.read().migration < accesses {
            thread::yield_now();
        }
    }

    #[test]
    fn a_thread_that_is_woken_and_comes_again_while_its_stand_in_waits_has_no_second_one() {
        let recording = Arc::new(Recording::with_capacity(256));
        let Some((machine, space, area, pfn)) = one_page(Some(recording.clone())) else {
            return;
        };
        let kernel = machine.kernel();
        let (private, first) = (kernel.private.as_ref().unwrap(), area.first);
        // As another thread's stand-in does that sees the page back, before it is in flight again.
        let woken = || {
            space.mm().wake(private, first..first + 1);
            heard_of(kernel, 2);
        };
        let back = |pte: Pte| pte.is_migration().then_some(Pte::present(pfn, PteFlags::WRITE));
        assert_eq!(touched_in_flight(kernel, area, pfn, woken, &back), Some(5));
        // Whoever hears of accesses is done then, and all stand-ins are.
        drop((space, machine));
        let faults = recording
            .events()
            .filter(|event| matches!(event, TraceEvent::Fault { .. }));
        assert_eq!(faults.count(), 1, "{}", recording.text());
    }

    #[test]
    fn who_waits_for_a_page_in_flight_goes_on_where_it_comes_back_hidden_because_it_is_watched() {
        let Some((machine, space, area, pfn)) = one_page(None) else {
            return;
        };
        assert!(space.touched().is_empty(), "the page is hidden until it is used");
        let back = |pte: Pte| pte.is_migration().then_some(Pte::present(pfn, PteFlags::WRITE));
        let first = area.first;
        assert_eq!(touched_in_flight(machine.kernel(), area, pfn, || {}, &back), Some(5));
        assert!(space.entry(first).young(), "the use was noted");
    }

    #[test]
    fn who_waits_for_a_page_in_flight_goes_on_with_a_new_page_where_it_was_zapped_meanwhile() {
        let Some((machine, _space, area, pfn)) = one_page(None) else {
            return;
        };
        let zap = |pte: Pte| pte.is_migration().then_some(Pte::None);
        assert_eq!(touched_in_flight(machine.kernel(), area, pfn, || {}, &zap), Some(0));
    }
}

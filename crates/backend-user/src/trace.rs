//! Where the events of a machine go.

use core::cell::Cell;
use core::sync::atomic::{AtomicU32, Ordering};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use mm_types::ActorId;
use mm_types::trace::{Event, Observer, Ring, RingSlot};

/// A recorder that fault handlers can write to.
pub type Recording = Ring<Box<[RingSlot]>>;

/// The observer of everything outside of a run: a recorder, or nobody.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tracer<'r>(pub(crate) Option<&'r Recording>);

impl Observer for Tracer<'_> {
    const ENABLED: bool = true;

    fn event(self, event: Event) {
        if let Some(recording) = self.0 {
            recording.push(event);
        }
    }
}

thread_local! {
    // No initialiser and no destructor, so that a signal handler may look.
    static ACTOR: Cell<u32> = const { Cell::new(0) };
}

/// Threads that have faulted; the migrator is actor 0.
static ACTORS: AtomicU32 = AtomicU32::new(0);

/// Returns the calling thread's name in traces. Async-signal-safe.
pub(crate) fn actor() -> ActorId {
    ACTOR.with(|cell| {
        if cell.get() == 0 {
            cell.set(ACTORS.fetch_add(1, Ordering::Relaxed) + 1);
        }
        ActorId::new(cell.get())
    })
}

/// Gives the calling thread a name in traces.
pub fn set_actor(actor: ActorId) {
    ACTOR.with(|cell| cell.set(actor.raw()));
    // SAFETY: no preconditions.
    let thread = unsafe { libc::gettid() }.unsigned_abs();
    let mut named = NAMED.lock().unwrap_or_else(PoisonError::into_inner);
    named.insert(thread, actor);
}

/// Names of threads, for whoever notes something in place of one.
static NAMED: Mutex<BTreeMap<u32, ActorId>> = Mutex::new(BTreeMap::new());

/// Returns the name of another thread, which the kernel calls `thread`.
pub(crate) fn actor_of(thread: u32) -> ActorId {
    let mut named = NAMED.lock().unwrap_or_else(PoisonError::into_inner);
    *named
        .entry(thread)
        .or_insert_with(|| ActorId::new(ACTORS.fetch_add(1, Ordering::Relaxed) + 1))
}

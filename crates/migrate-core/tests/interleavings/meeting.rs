//! How two sides of a pair are seen to have met: a search in whose executions they never did has shown nothing of them.

use core::fmt;

use mm_types::Refusal;
use mm_types::trace::Event;

use crate::traces::{Told, read};

/// Something that happens only where one of two threads comes in the middle of what the other one does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meeting {
    /// Fork copied an entry in flight.
    Copied,
    /// mremap moved one.
    Moved,
    /// One was cleared.
    Cleared,
    /// mprotect changed one.
    Protected,
    /// At least so many threads slept for pages in flight at the same time.
    Asleep(usize),
    /// A thread faulted while a run had a page locked.
    FaultUnderLock,
    /// A page that one was to isolate was isolated already.
    Isolated,
    /// A page that one was to isolate had been freed, or was freed when its run came to it.
    Freed,
    /// A run was refused because somebody else had the page locked, or found it locked and slept.
    Locked,
    /// A run was refused because somebody else held the page.
    Held,
    /// Whoever looked for a reference found the count frozen.
    Frozen,
    /// A run found a buffer under I/O, and I/O found the buffers taken by a run.
    BufferBusy,
    BuffersTaken,
    /// A load or a store went through while a page was lent to its file system.
    Written,
}

impl fmt::Display for Meeting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Copied => f.write_str("copied"),
            Self::Moved => f.write_str("moved"),
            Self::Cleared => f.write_str("cleared"),
            Self::Protected => f.write_str("protected"),
            Self::Asleep(threads) => write!(f, "asleep-{threads}"),
            Self::FaultUnderLock => f.write_str("fault-under-lock"),
            Self::Isolated => f.write_str("isolated"),
            Self::Freed => f.write_str("freed"),
            Self::Locked => f.write_str("locked"),
            Self::Held => f.write_str("held"),
            Self::Frozen => f.write_str("frozen"),
            Self::BufferBusy => f.write_str("buffer-busy"),
            Self::BuffersTaken => f.write_str("buffers-taken"),
            Self::Written => f.write_str("written"),
        }
    }
}

impl Meeting {
    /// True where this happened in an execution: it is in what was told, or was marked where no event tells of it.
    pub(crate) fn happened(self, told: &[Told], marks: &[Self]) -> bool {
        let any = |is: &dyn Fn(&Event) -> bool| told.iter().any(|(_, event)| is(event));
        let in_flight = |event: &Event| read(*event).is_some_and(|(_, pfn)| pfn.is_some());
        let refused = |event: &Event, why: fn(&Refusal) -> bool| match event {
            Event::Refuse { refusal, .. } => why(refusal),
            _ => false,
        };
        marks.contains(&self)
            || match self {
                Self::Copied => any(&|event| matches!(event, Event::CopyPte { .. }) && in_flight(event)),
                Self::Moved => any(&|event| matches!(event, Event::MovePte { .. }) && in_flight(event)),
                Self::Cleared => any(&|event| matches!(event, Event::Zap { .. }) && in_flight(event)),
                Self::Protected => any(&|event| matches!(event, Event::Protect { .. }) && in_flight(event)),
                Self::Asleep(threads) => most_asleep(told) >= threads,
                Self::FaultUnderLock => between(
                    told,
                    |event| matches!(event, Event::Lock(_)),
                    |event| matches!(event, Event::Unlock(_)),
                    |event| matches!(event, Event::Fault { .. }),
                ),
                Self::Locked => any(&|event| refused(event, |why| *why == Refusal::LockBusy)),
                Self::Held => any(&|event| {
                    refused(event, |why| {
                        matches!(why, Refusal::ExtraReference { .. } | Refusal::Pinned { .. })
                    })
                }),
                Self::BufferBusy => any(&|event| refused(event, |why| *why == Refusal::BuffersBusy)),
                Self::Freed => any(&|event| matches!(event, Event::Freed(_))),
                Self::Isolated | Self::Frozen | Self::BuffersTaken | Self::Written => false,
            }
    }
}

/// The most threads that slept at the same time.
fn most_asleep(told: &[Told]) -> usize {
    let (mut asleep, mut most) = (0_usize, 0);
    for (_, event) in told {
        match event {
            Event::Wait { .. } => asleep += 1,
            Event::Wake { .. } => asleep = asleep.saturating_sub(1),
            _ => {}
        }
        most = most.max(asleep);
    }
    most
}

/// True where some thread told of `inner` between another one's `begin` and its next `end`.
fn between(told: &[Told], begin: fn(&Event) -> bool, end: fn(&Event) -> bool, inner: fn(&Event) -> bool) -> bool {
    let mut inside: Vec<usize> = Vec::new();
    for (who, event) in told {
        if inner(event) && inside.iter().any(|other| other != who) {
            return true;
        }
        if begin(event) {
            inside.push(*who);
        } else if end(event) {
            inside.retain(|other| other != who);
        }
    }
    false
}

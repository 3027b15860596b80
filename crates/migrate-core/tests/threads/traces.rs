//! What many threads told, checked: each migrating thread's trace by itself, and of each program's call that it flushed what it met.
//!
//! The trace's checker takes one run at a time, beside threads whose calls do not overlap. So each thread that isolates or moves
//! pages has a checker of its own. It hears its thread's run, and of others what they did to entries: an entry that another run
//! replaced was cleared, as far as this one is concerned, and is mapped again when it is restored. What befalls an entry in flight
//! is told to the run that has its page locked. Whether a reader of entries in flight has flushed by the time a page is copied
//! shows nothing where calls overlap: the batch's own flush may have come between. It must have when its call is over.

use mm_types::trace::{Checker, Event, Room, Slot};
use mm_types::{ActorId, Pfn, Pte, SpaceId};

/// An event, and the number of the thread that told it.
pub(crate) type Told = (usize, Event);

/// Checks everything that an execution's threads told, in its order; it has at most `room` frames, mapped sites, spaces and threads.
///
/// # Errors
/// The first rule that some thread's trace breaks, in words.
pub(crate) fn check_threads(told: &[Told], room: usize) -> Result<(), String> {
    readers_flushed(told)?;
    let mut runs: Vec<usize> = Vec::new();
    for (who, event) in told {
        if matches!(event, Event::Isolate(_) | Event::Start { .. }) && !runs.contains(who) {
            runs.push(*who);
        }
    }
    runs.iter().try_for_each(|me| check_one(*me, told, room))
}

fn check_one(me: usize, told: &[Told], room: usize) -> Result<(), String> {
    let (mut frames, mut sites) = (vec![Slot::FREE; room], vec![Slot::FREE; room]);
    let (mut spaces, mut actors) = (vec![Slot::FREE; room], vec![Slot::FREE; room]);
    let mut checker = Checker::new(Room {
        frames: &mut frames,
        sites: &mut sites,
        spaces: &mut spaces,
        actors: &mut actors,
    });
    let mut heard = Heard {
        me,
        locked: Vec::new(),
        waiting: Vec::new(),
    };
    for (n, (who, event)) in told.iter().enumerate() {
        for event in heard.hear(*who, *event).into_iter().flatten() {
            checker
                .event(event)
                .map_err(|error| format!("event {n}, of thread {who}, for the run of thread {me}: {error}"))?;
        }
    }
    let whole = checker.finish();
    whole.map_err(|error| format!("at the end, for the run of thread {me}: {error}"))?;
    Ok(())
}

/// What one run hears.
struct Heard {
    me: usize,
    /// Whose run locked each page last.
    locked: Vec<(Pfn, usize)>,
    /// Threads that wait for a page of this run.
    waiting: Vec<usize>,
}

impl Heard {
    fn hear(&mut self, who: usize, event: Event) -> [Option<Event>; 2] {
        if let Event::Lock(pfn) = event {
            self.locked.retain(|(locked, _)| *locked != pfn);
            self.locked.push((pfn, who));
        }
        let mine = who == self.me;
        let actor = ActorId::new(u32::try_from(who).unwrap_or(u32::MAX));
        match event {
            Event::Unmap { site, before, .. } if !mine => [Some(Event::Zap { site, before }), None],
            Event::Restore { site, after, .. } if !mine => [Some(Event::Map { site, after }), None],
            Event::Unmap { .. } | Event::Restore { .. } => [Some(event), None],
            // Two threads may use the same CPU, and each sleeps for itself.
            Event::Wait { site, pfn, .. } => {
                let ours = self.has(pfn);
                self.waiting.extend(ours.then_some(who));
                [ours.then_some(Event::Wait { actor, site, pfn }), None]
            }
            Event::Wake { site, .. } => {
                let ours = self.waiting.contains(&who);
                self.waiting.retain(|waiting| *waiting != who);
                [ours.then_some(Event::Wake { actor, site }), None]
            }
            _ => match read(event) {
                Some((space, Some(pfn))) if self.has(pfn) => [Some(event), Some(Event::FlushPending(space))],
                Some((_, Some(_))) => [None, None],
                Some((_, None)) => [Some(event), None],
                None if matches!(event, Event::Map { .. }) => [Some(event), None],
                None => [mine.then_some(event), None],
            },
        }
    }

    fn has(&self, pfn: Pfn) -> bool {
        self.locked.contains(&(pfn, self.me))
    }
}

/// For what a reader of entries did: the space whose translations it has to flush, and the page that the entry named, where it was
/// in flight.
pub(crate) fn read(event: Event) -> Option<(SpaceId, Option<Pfn>)> {
    let (site, pte) = match event {
        Event::Zap { site, before } | Event::Protect { site, before, .. } => (site, before),
        Event::CopyPte { from, parent, .. } => (from, parent),
        Event::MovePte { from, pte, .. } => (from, pte),
        _ => return None,
    };
    Some((site.space, pte.migration().and_then(|_| Pte::pfn(pte))))
}

/// Whoever read or changed an entry in flight has flushed what was pending before its thread does anything else (I33, B22).
fn readers_flushed(told: &[Told]) -> Result<(), String> {
    let mut owing: Vec<(usize, SpaceId)> = Vec::new();
    for (who, event) in told {
        if let Some((space, Some(_))) = read(*event) {
            owing.push((*who, space));
        }
        let over = matches!(
            event,
            Event::Fault { .. } | Event::Wait { .. } | Event::Isolate(_) | Event::Start { .. }
        );
        if over && owing.iter().any(|(owes, _)| owes == who) {
            return Err(format!(
                "I33: thread {who} read an entry in flight, and went on to {event:?} without a flush"
            ));
        }
        if let Event::FlushPending(space) = event {
            owing.retain(|owes| *owes != (*who, *space));
        }
    }
    match owing.first() {
        Some((who, _)) => Err(format!("I33: thread {who} read an entry in flight and never flushed")),
        None => Ok(()),
    }
}

//! A small reference machine that replays a trace against the invariants.
//!
//! It knows nothing of the engine: it keeps, for each frame, whether it is isolated, locked, unmapped, copied, frozen and
//! switched, and for each site the entry that the trace left there, and holds every event against that. So a snapshot
//! that somebody approved by mistake still fails.
//!
//! It takes one run at a time, of one migrator, with any number of faulting threads beside it, and traces that say
//! everything the core's helpers say. Where a trace begins in the middle (pages isolated before the first line, mappings
//! made before it) it believes what it has not seen.

mod entries;
mod pages;
mod run;
#[cfg(test)]
mod tests;
mod violation;

pub use violation::{CheckError, Rule, Violation};

use super::Event;
use super::table::{Full, Slot, Table};
use crate::{Invariant, Mode, Pfn, Pte, Rules, Site};

/// Where a page is, as far as lists go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Hold {
    /// The trace has not said.
    #[default]
    Unknown,
    /// On the LRU, or free.
    Loose,
    /// Isolated, on a caller's list.
    Isolated,
    /// On `moved`: put back later, or released without a word.
    OnMoved,
    /// Taken as a destination.
    New,
    /// A destination that became the page; put back once.
    Arrived,
}

/// What is known of a frame.
#[derive(Clone, Copy, Debug, Default)]
pub struct FrameState {
    hold: Hold,
    locked: bool,
    // The file system may have unlocked it while it wrote.
    lock_unsure: bool,
    // Sites where a migration entry names the frame, and where it is mapped.
    entries: u32,
    mapped: u32,
    partner: Option<u64>,
    // How many barriers there had been when an entry of the page was last replaced, and last restored.
    unmapped_at: Option<u32>,
    restored_at: Option<u32>,
    copied: bool,
    frozen: bool,
    switched: bool,
    in_error: bool,
    in_run: bool,
    done: bool,
    retries: u32,
    mark: Mark,
}

/// What the end of a run has to find of a frame, without looking at all frames there are.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    // The run that `in_run`, `done` and `retries` are about: those of an earlier one count no more.
    run: u32,
    // Changed since the last run ended, and the frame that was before it.
    changed: bool,
    next: Option<u64>,
}

impl FrameState {
    /// The frame as run number `run` sees it.
    const fn seen_in(mut self, run: u32) -> Self {
        if self.mark.run != run {
            (self.in_run, self.done, self.retries) = (false, false, 0);
            self.mark.run = run;
        }
        self
    }
}

/// What is known of a space.
#[derive(Clone, Copy, Debug, Default)]
pub struct SpaceState {
    unmapped_at: Option<u32>,
    // Somebody read or changed an entry in flight before the barrier, and has not flushed yet.
    owes_flush: bool,
}

/// What is known of a run.
#[derive(Clone, Copy, Debug)]
struct Run {
    rules: Rules,
    mode: Mode,
    pass: Option<u32>,
    succeeded: u32,
    failed: u32,
    left: u32,
}

/// Room for a checker: a slot for each frame, each mapped site, each space, each thread that waits.
#[derive(Debug)]
pub struct Room<'s> {
    /// One for each frame that appears.
    pub frames: &'s mut [Slot<u64, FrameState>],
    /// One for each site that is mapped, or in flight, at the same time.
    pub sites: &'s mut [Slot<Site, Pte>],
    /// One for each space.
    pub spaces: &'s mut [Slot<u32, SpaceState>],
    /// One for each thread that waits at the same time.
    pub actors: &'s mut [Slot<u32, Site>],
}

/// What a trace that passed contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Checked {
    /// Events.
    pub events: usize,
    /// Whole runs.
    pub runs: usize,
    /// Pages moved, or freed meanwhile.
    pub succeeded: u32,
}

/// The reference machine.
#[derive(Debug)]
pub struct Checker<'s> {
    frames: Table<'s, u64, FrameState>,
    sites: Table<'s, Site, Pte>,
    spaces: Table<'s, u32, SpaceState>,
    waiting: Table<'s, u32, Site>,
    run: Option<Run>,
    // Runs that have begun.
    begun: u32,
    // The first of the frames that changed since the last run ended.
    changed: Option<u64>,
    // Spaces of which somebody owes a flush.
    owing: u32,
    // Page locks that the migration holds.
    locks: u32,
    // Barriers so far, and entries changed since the last one.
    barriers: u32,
    edits: u32,
    total: Checked,
}

/// Why an event stops the machine, before it has a line number.
enum Stop {
    Broken(Rule, &'static str),
    Full(Full),
}

impl From<Full> for Stop {
    fn from(full: Full) -> Self {
        Self::Full(full)
    }
}

type Step = Result<(), Stop>;

fn ensure(holds: bool, rule: impl Into<Rule>, what: &'static str) -> Step {
    if holds {
        Ok(())
    } else {
        Err(Stop::Broken(rule.into(), what))
    }
}

impl<'s> Checker<'s> {
    /// Makes a machine that has seen nothing.
    #[must_use]
    pub fn new(room: Room<'s>) -> Self {
        Self {
            frames: Table::new("frame", room.frames),
            sites: Table::new("site", room.sites),
            spaces: Table::new("space", room.spaces),
            waiting: Table::new("waiting thread", room.actors),
            run: None,
            begun: 0,
            changed: None,
            owing: 0,
            locks: 0,
            barriers: 0,
            edits: 0,
            total: Checked::default(),
        }
    }

    /// Replays one event, raw or of a [`Line`](super::Line).
    ///
    /// # Errors
    ///
    /// [`CheckError::Violation`] where it breaks an invariant, [`CheckError::Full`] where the room does not do. The
    /// machine is of no more use afterwards.
    pub fn event(&mut self, event: Event) -> Result<(), CheckError> {
        self.total.events = self.total.events.saturating_add(1);
        let line = self.total.events.saturating_add(1);
        self.step(event).map_err(|stop| stop.at(line, Some(event)))
    }

    /// Ends the trace.
    ///
    /// # Errors
    ///
    /// [`CheckError::Violation`] where something is left undone: a run, an entry, a waiting thread.
    pub fn finish(self) -> Result<Checked, CheckError> {
        let line = self.total.events.saturating_add(1);
        self.ended().map_err(|stop| stop.at(line, None))?;
        Ok(self.total)
    }

    fn step(&mut self, event: Event) -> Step {
        match event {
            Event::Start { rules, mode, .. } => self.start(rules, mode),
            Event::Pass { number } => self.pass(number),
            Event::End {
                succeeded,
                failed,
                left,
            } => self.end(succeeded, failed, left),
            Event::Freed(pfn) => self.freed(pfn),
            Event::Moved { old, new } => self.moved(old, new),
            Event::Refuse { pfn, refusal, last } => self.refuse(pfn, refusal, last),
            Event::Isolate(pfn) => self.isolate(pfn),
            Event::Putback(pfn) => self.putback(pfn),
            Event::Lock(pfn) => self.lock(pfn),
            Event::Unlock(pfn) => self.unlock(pfn),
            Event::WaitWriteback(pfn) => self.wait_writeback(pfn),
            Event::NewPage { old, new } => self.new_page(old, new),
            Event::GiveBack(new) => self.give_back(new),
            Event::SetMapping { old, new } => self.set_mapping(old, new),
            Event::Copy { old, new } => self.copy(old, new),
            Event::Freeze { pfn, .. } => self.freeze(pfn),
            Event::Switch { old, new, .. } => self.switch(old, new),
            Event::Transfer { old, new, flags } => self.transfer(old, new, flags),
            Event::Writeout { pfn, .. } => self.writeout(pfn),
            Event::Flush { entries } => self.flush(entries),
            Event::Unmap {
                pfn,
                site,
                before,
                after,
            } => self.unmap(pfn, site, before, after),
            Event::Restore {
                old,
                new,
                site,
                before,
                after,
            } => self.restore(old, new, site, before, after),
            Event::Map { site, after } => self.map(site, after),
            Event::Zap { site, before } => self.zap(site, before),
            Event::Protect { site, before, after } => self.protect(site, before, after),
            Event::CopyPte {
                from,
                to,
                parent,
                child,
            } => self.copy_pte(from, to, parent, child),
            Event::MovePte { from, to, pte } => self.move_pte(from, to, pte),
            Event::FlushPending(space) => self.flush_pending(space),
            Event::Fault { .. } => Ok(()),
            Event::Wait { actor, site, pfn } => self.wait(actor, site, pfn),
            Event::Wake { actor, .. } => self.wake(actor),
        }
    }

    fn frame(&self, pfn: Pfn) -> FrameState {
        let known = self.frames.get(pfn.raw()).copied().unwrap_or_default();
        known.seen_in(self.begun)
    }

    fn edit(&mut self, pfn: Pfn) -> Result<&mut FrameState, Stop> {
        let frame = self.frames.entry(pfn.raw(), FrameState::default)?;
        *frame = frame.seen_in(self.begun);
        if !frame.mark.changed {
            (frame.mark.changed, frame.mark.next) = (true, self.changed);
            self.changed = Some(pfn.raw());
        }
        Ok(frame)
    }

    fn rules(&self) -> Option<Rules> {
        self.run.map(|run| run.rules)
    }
}

impl Stop {
    fn at(self, line: usize, event: Option<Event>) -> CheckError {
        match self {
            Self::Broken(rule, what) => CheckError::Violation(Violation {
                line,
                rule,
                what,
                event,
            }),
            Self::Full(full) => CheckError::Full(full),
        }
    }
}

/// Replays `events` over lent room.
///
/// # Errors
///
/// As [`Checker::event`] and [`Checker::finish`].
pub fn check(room: Room<'_>, events: impl IntoIterator<Item = Event>) -> Result<Checked, CheckError> {
    let mut checker = Checker::new(room);
    for event in events {
        checker.event(event)?;
    }
    checker.finish()
}

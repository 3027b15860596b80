//! What each event changes.
//!
//! This machine believes what it is told: a trace that breaks a rule is shown to its end. Who wants to know whether it
//! may be believed asks the `Checker`.

use mm_types::trace::{Event, Line};
use mm_types::{ActorId, PageFlags, Pfn, Pte, Refusal, Rules, Site, SpaceId};

use super::Was;
use super::state::{Doing, Entry, Frame, List, Pair, References, Refused, Run, State};

/// One event on its way into a state: what it changes is written down in `undo`.
pub(super) struct Apply<'a> {
    pub(super) state: &'a mut State,
    pub(super) undo: &'a mut alloc::vec::Vec<Was>,
    /// The event's number, from 0.
    pub(super) at: usize,
}

impl Apply<'_> {
    fn frame(&mut self, pfn: Pfn, change: impl FnOnce(&mut Frame)) {
        let place = self.state.frames.place(pfn);
        let mut frame = self.state.frames.at(place);
        self.undo.push(Was::Frame(place, frame));
        (frame.pfn, frame.seen) = (pfn, true);
        change(&mut frame);
        self.state.frames.put(place, frame);
    }

    fn list(&mut self, pfn: Pfn, list: List) {
        let at = self.at;
        self.frame(pfn, |frame| {
            if frame.list != list {
                (frame.list, frame.since) = (list, at);
            }
        });
    }

    fn known(&self, pfn: Pfn) -> Frame {
        self.state.frame(pfn).copied().unwrap_or_default()
    }

    /// Puts `pte` at `site`, and keeps the counts of both frames.
    fn put(&mut self, site: Site, pte: Pte, was: Option<Pte>) {
        let at = self.at;
        let place = self.state.entries.place(site);
        let entry = self.state.entries.at(place);
        self.undo.push(Was::Entry(place, entry));
        let new = Entry {
            site,
            pte,
            was: was.unwrap_or(entry.pte),
            since: at,
            replaced: None,
            seen: true,
        };
        self.state.entries.put(place, new);
        // What was mapped before the first line was not counted, and is not taken off.
        if let (true, Some(pfn)) = (entry.seen, entry.pte.pfn()) {
            self.frame(pfn, |frame| {
                if let Some(count) = count(frame, entry.pte) {
                    *count = count.saturating_sub(1);
                }
            });
        }
        if let Some(pfn) = pte.pfn() {
            self.frame(pfn, |frame| {
                if let Some(count) = count(frame, pte) {
                    *count = count.saturating_add(1);
                }
            });
        }
    }

    /// As [`put`](Self::put), by the migration: a barrier has to follow.
    fn replace(&mut self, site: Site, pte: Pte, was: Pte) {
        self.put(site, pte, Some(was));
        let barriers = self.state.barriers;
        let place = self.state.entries.place(site);
        let mut entry = self.state.entries.at(place);
        entry.replaced = Some(barriers);
        self.state.entries.put(place, entry);
        self.space(site.space, |space| {
            let before = if space.edited == barriers { space.edits } else { 0 };
            (space.edits, space.edited) = (before.saturating_add(1), barriers);
        });
    }

    fn space(&mut self, id: SpaceId, change: impl FnOnce(&mut super::Space)) {
        let place = self.state.spaces.place(id);
        let mut space = self.state.spaces.at(place);
        self.undo.push(Was::Space(place, space));
        (space.space, space.seen) = (id, true);
        change(&mut space);
        self.state.spaces.put(place, space);
    }

    /// Who reads or changes an entry in flight before the barrier has to flush before it goes on.
    fn owe(&mut self, site: Site, pte: Pte) {
        let barriers = self.state.barriers;
        if pte.is_migration() {
            self.space(site.space, |space| {
                space.owes_flush |= space.edited == barriers && space.edits > 0;
            });
        }
    }

    fn actor(&mut self, id: ActorId, doing: Doing) {
        let at = self.at;
        let place = self.state.actors.place(id);
        let mut actor = self.state.actors.at(place);
        self.undo.push(Was::Actor(place, actor));
        (actor.actor, actor.seen) = (id, true);
        (actor.doing, actor.since) = (doing, at);
        self.state.actors.put(place, actor);
    }

    fn run(&mut self, change: impl FnOnce(&mut Option<Run>)) {
        self.undo.push(Was::Run(self.state.run));
        change(&mut self.state.run);
    }

    fn in_run(&mut self, change: impl FnOnce(&mut Run)) {
        self.run(|run| {
            if let Some(run) = run.as_mut().filter(|run| !run.over) {
                change(run);
            }
        });
    }

    pub(super) fn line(&mut self, line: &Line) {
        self.event(line.event);
        if let Some(pfn) = line.event.frame()
            && self.known(pfn).content != line.page
        {
            self.frame(pfn, |frame| frame.content = line.page);
        }
        match line.event {
            Event::Copy { new, .. } => self.frame(new, |frame| frame.content = line.page),
            Event::Moved { old, .. } | Event::Freed(old) => self.frame(old, |frame| frame.content = None),
            _ => {}
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Start { rules, mode, reason } => self.run(|run| {
                *run = Some(Run {
                    number: run.map_or(0, |run| run.number).saturating_add(1),
                    rules,
                    mode,
                    reason,
                    pass: None,
                    succeeded: 0,
                    failed: 0,
                    left: 0,
                    over: false,
                });
            }),
            Event::Pass { number } => self.in_run(|run| run.pass = Some(number)),
            Event::End {
                succeeded,
                failed,
                left,
            } => self.in_run(|run| {
                (run.succeeded, run.failed, run.left, run.over) = (succeeded, failed, left, true);
            }),
            Event::Isolate(pfn) => self.isolate(pfn),
            Event::Putback(pfn) => self.putback(pfn),
            Event::Lock(pfn) => self.lock(pfn),
            Event::Unlock(pfn) => self.frame(pfn, |frame| {
                (frame.locked, frame.lock_unsure) = (false, false);
                if !frame.switched {
                    (frame.copied, frame.frozen) = (false, false);
                }
            }),
            Event::WaitWriteback(pfn) => self.frame(pfn, |_| {}),
            Event::NewPage { old, new } => self.new_page(old, new),
            Event::GiveBack(new) => self.give_back(new),
            Event::SetMapping { new, .. } => self.frame(new, |frame| frame.has_mapping = true),
            Event::Unmap {
                site, before, after, ..
            }
            | Event::Restore {
                site, before, after, ..
            } => self.replace(site, after, before),
            Event::Flush { .. } => {
                self.undo.push(Was::Barriers(self.state.barriers));
                self.state.barriers = self.state.barriers.saturating_add(1);
            }
            Event::Copy { old, .. } => {
                let modern = self.state.run.is_some_and(|run| run.rules == Rules::Modern);
                self.frame(old, |frame| {
                    frame.copied = true;
                    // Another attempt: the slot had changed, and the count thawed without a word.
                    frame.frozen &= !modern;
                });
            }
            Event::Freeze { pfn, expected } => self.frame(pfn, |frame| {
                frame.frozen = true;
                frame.references = Some(References {
                    expected,
                    found: expected,
                });
            }),
            Event::Switch { old, new, .. } => {
                self.frame(old, |frame| (frame.frozen, frame.switched) = (false, true));
                self.frame(new, |frame| frame.arrived = true);
            }
            Event::Transfer { old, new, flags } => {
                let copied = self.known(old).copied;
                self.frame(old, |frame| frame.flags = None);
                self.frame(new, |frame| {
                    frame.flags = Some(flags);
                    frame.in_error = !copied && flags.contains(PageFlags::ERROR);
                });
            }
            Event::Writeout { pfn, .. } => {
                self.frame(pfn, |frame| (frame.locked, frame.lock_unsure) = (false, true));
            }
            Event::Moved { old, new } => {
                self.list(old, List::Moved);
                self.frame(old, |frame| frame.pair = None);
                self.frame(new, |frame| frame.pair = None);
                self.in_run(|run| run.succeeded = run.succeeded.saturating_add(1));
            }
            Event::Freed(pfn) => {
                self.list(pfn, List::Moved);
                self.in_run(|run| run.succeeded = run.succeeded.saturating_add(1));
            }
            Event::Refuse { pfn, refusal, last } => self.refuse(pfn, refusal, last),
            Event::Map { site, after } => self.put(site, after, None),
            Event::Zap { site, before } => {
                self.owe(site, before);
                self.put(site, Pte::None, Some(before));
            }
            Event::Protect { site, before, after } => {
                self.owe(site, before);
                self.put(site, after, Some(before));
            }
            Event::CopyPte {
                from,
                to,
                parent,
                child,
            } => {
                self.owe(from, parent);
                self.put(from, parent, None);
                self.put(to, child, None);
            }
            Event::MovePte { from, to, pte } => {
                self.owe(from, pte);
                self.put(from, Pte::None, Some(pte));
                self.put(to, pte, None);
            }
            Event::FlushPending(space) => self.space(space, |space| space.owes_flush = false),
            Event::Fault { actor, site, write } => self.actor(actor, Doing::Faulting { site, write }),
            Event::Wait { actor, site, pfn } => {
                self.frame(pfn, |_| {});
                self.actor(actor, Doing::Waiting { site, pfn });
            }
            Event::Wake { actor, .. } => self.actor(actor, Doing::Running),
        }
    }

    fn isolate(&mut self, pfn: Pfn) {
        let at = self.at;
        // A new user: nothing of an earlier migration counts.
        self.frame(pfn, |frame| {
            *frame = Frame {
                pfn,
                content: frame.content,
                list: List::From,
                since: at,
                isolated: true,
                locked: frame.locked,
                mapped: frame.mapped,
                entries: frame.entries,
                flags: frame.flags,
                seen: true,
                ..Frame::default()
            };
        });
    }

    fn putback(&mut self, pfn: Pfn) {
        let list = if self.known(pfn).list == List::Moved {
            List::Free
        } else {
            List::Lru
        };
        self.list(pfn, list);
        self.frame(pfn, |frame| frame.isolated = false);
    }

    fn lock(&mut self, pfn: Pfn) {
        let at = self.at;
        self.frame(pfn, |frame| {
            (frame.locked, frame.lock_unsure) = (true, false);
            // Isolated before the first line.
            if frame.list == List::Unknown {
                (frame.list, frame.since, frame.isolated) = (List::From, at, true);
            }
        });
    }

    fn new_page(&mut self, old: Pfn, new: Pfn) {
        let at = self.at;
        self.frame(new, |frame| {
            *frame = Frame {
                pfn: new,
                list: List::To,
                since: at,
                locked: true,
                pair: Some(Pair::Source(old)),
                mapped: frame.mapped,
                entries: frame.entries,
                seen: true,
                ..Frame::default()
            };
        });
        self.frame(old, |frame| frame.pair = Some(Pair::Destination(new)));
    }

    fn give_back(&mut self, new: Pfn) {
        let pair = self.known(new).pair;
        self.list(new, List::To);
        self.frame(new, |frame| {
            (frame.pair, frame.has_mapping, frame.content) = (None, false, None);
        });
        if let Some(Pair::Source(old)) = pair {
            self.frame(old, |frame| frame.pair = None);
        }
    }

    fn refuse(&mut self, pfn: Pfn, refusal: Refusal, last: bool) {
        let (at, run) = (self.at, self.state.run.map_or(0, |run| run.number));
        self.frame(pfn, |frame| {
            let before = if frame.run == run { frame.attempts } else { 0 };
            (frame.attempts, frame.run) = (before.saturating_add(1), run);
            frame.refused = Some(Refused { refusal, last, at });
            if let Refusal::ExtraReference { expected, found } = refusal {
                frame.references = Some(References { expected, found });
            }
        });
        if !last {
            return;
        }
        let transient = refusal.is_transient();
        self.list(pfn, if transient { List::From } else { List::Failed });
        self.in_run(|run| {
            let count = if transient { &mut run.left } else { &mut run.failed };
            *count = count.saturating_add(1);
        });
    }
}

fn count(frame: &mut Frame, pte: Pte) -> Option<&mut u32> {
    match pte {
        Pte::Present { .. } => Some(&mut frame.mapped),
        Pte::Migration(_) => Some(&mut frame.entries),
        _ => None,
    }
}

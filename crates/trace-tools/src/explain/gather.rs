//! Finding what a trace says of one page.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;

use mm_types::trace::{Event, Line};
use mm_types::{ActorId, Mode, Pfn, Pte, Reason, Refusal, Rules, Site};

use super::{Asked, Attempt, End, Explanation, Holder, Released, Tried};

/// The number that the text has for the line at `at`.
fn number(at: usize) -> usize {
    at.saturating_add(2)
}

pub(super) fn gather(lines: &[Line], asked: Asked) -> Option<Explanation> {
    let page = match asked {
        Asked::Page(page) => lines.iter().any(|line| line.page == Some(page)).then_some(page),
        Asked::Frame(pfn) => {
            let of = |line: &&Line| line.event.frame() == Some(pfn) || copied_to(line) == Some(pfn);
            lines.iter().rev().filter(of).find_map(|line| line.page)
        }
        Asked::Site(site) => {
            let of = |line: &&Line| sites(&line.event).contains(&Some(site));
            lines.iter().rev().filter(of).find_map(|line| line.page)
        }
    }?;
    let mut story = Story {
        page,
        told: Explanation {
            page: Some(page),
            frames: Vec::new(),
            sites: Vec::new(),
            runs: Vec::new(),
        },
        attempt: None,
        pass: 0,
        run: None,
        waiting: BTreeMap::new(),
        frames: BTreeSet::new(),
        sites: BTreeSet::new(),
        last_taken: None,
    };
    for (at, line) in lines.iter().enumerate() {
        story.line(number(at), line);
    }
    story.end();
    let mut told = story.told;
    for tried in &mut told.runs {
        release(lines, tried);
    }
    Some(told)
}

fn copied_to(line: &Line) -> Option<Pfn> {
    match line.event {
        Event::Copy { new, .. } => Some(new),
        _ => None,
    }
}

fn sites(event: &Event) -> [Option<Site>; 2] {
    match *event {
        Event::Unmap { site, .. }
        | Event::Restore { site, .. }
        | Event::Map { site, .. }
        | Event::Zap { site, .. }
        | Event::Protect { site, .. }
        | Event::Wait { site, .. } => [Some(site), None],
        Event::CopyPte { from, to, .. } | Event::MovePte { from, to, .. } => [Some(from), Some(to)],
        _ => [None; 2],
    }
}

struct Story {
    page: u32,
    told: Explanation,
    attempt: Option<Attempt>,
    pass: u32,
    // The run that goes on, where it has not tried the page yet.
    run: Option<Tried>,
    waiting: BTreeMap<ActorId, (Site, Pfn)>,
    // Those of the story, to look them up.
    frames: BTreeSet<Pfn>,
    sites: BTreeSet<Site>,
    last_taken: Option<usize>,
}

impl Story {
    fn line(&mut self, at: usize, line: &Line) {
        match line.event {
            Event::Start { rules, mode, reason } => self.start(at, rules, mode, reason),
            Event::Pass { number } => self.pass = number,
            Event::End { .. } => {
                self.end();
                self.run = None;
            }
            Event::NewPage { .. } => self.last_taken = Some(at),
            Event::Wait { actor, site, pfn } => {
                self.waiting.insert(actor, (site, pfn));
            }
            Event::Wake { actor, .. } => {
                self.waiting.remove(&actor);
            }
            _ => {}
        }
        if line.page == Some(self.page) {
            self.about(at, line);
        }
    }

    fn start(&mut self, at: usize, rules: Rules, mode: Mode, reason: Reason) {
        self.end();
        let run = self.runs().saturating_add(1);
        (self.pass, self.last_taken) = (0, None);
        self.run = Some(Tried {
            run,
            line: at,
            rules,
            mode,
            reason,
            attempts: Vec::new(),
        });
    }

    fn runs(&self) -> u32 {
        let last = self.told.runs.last().map_or(0, |tried| tried.run);
        last.max(self.run.as_ref().map_or(0, |tried| tried.run))
    }

    /// A line about the page itself.
    fn about(&mut self, at: usize, line: &Line) {
        let frame = match copied_to(line) {
            // Before the switch too: there the contents are.
            Some(new) => Some(new),
            None => line.event.frame(),
        };
        if let Some(pfn) = frame
            && self.frames.insert(pfn)
        {
            self.told.frames.push(pfn);
        }
        for site in sites(&line.event).into_iter().flatten() {
            if self.sites.insert(site) {
                self.told.sites.push(site);
            }
        }
        let by_migration = matches!(
            line.event,
            Event::Lock(_)
                | Event::Unlock(_)
                | Event::WaitWriteback(_)
                | Event::NewPage { .. }
                | Event::SetMapping { .. }
                | Event::Unmap { .. }
                | Event::Restore { .. }
                | Event::Copy { .. }
                | Event::Freeze { .. }
                | Event::Switch { .. }
                | Event::Transfer { .. }
                | Event::Writeout { .. }
        );
        if by_migration {
            self.step(at, line.event.word());
        }
        let end = match line.event {
            Event::Moved { new, .. } => End::Moved(new),
            Event::Freed(_) => End::Freed,
            Event::Refuse { refusal, last, pfn } => {
                self.step(at, line.event.word());
                let holders = self.holders(refusal, pfn);
                if let Some(attempt) = &mut self.attempt {
                    attempt.holders = holders;
                }
                End::Refused { refusal, last }
            }
            _ => return,
        };
        self.step(at, line.event.word());
        if let Some(mut attempt) = self.attempt.take() {
            attempt.end = end;
            // The line that tells of the end is not one of the steps.
            attempt
                .done
                .retain(|(word, _)| !matches!(*word, "moved" | "freed" | "retry" | "refuse"));
            self.tried(attempt);
        }
    }

    fn step(&mut self, at: usize, word: &'static str) {
        let pass = self.pass;
        let attempt = self.attempt.get_or_insert_with(|| Attempt {
            pass,
            lines: (at, at),
            done: Vec::new(),
            end: End::Open,
            holders: Vec::new(),
            released: None,
        });
        attempt.lines.1 = at;
        match attempt.done.iter_mut().find(|(done, _)| *done == word) {
            Some((_, times)) => *times = times.saturating_add(1),
            None => attempt.done.push((word, 1)),
        }
    }

    fn tried(&mut self, attempt: Attempt) {
        if let Some(run) = self.run.take() {
            self.told.runs.push(run);
        }
        match self.told.runs.last_mut() {
            Some(run) => run.attempts.push(attempt),
            // Before the first line of a run: the trace begins in its middle.
            None => self.told.runs.push(Tried {
                run: 0,
                line: attempt.lines.0,
                rules: Rules::Modern,
                mode: Mode::Sync,
                reason: Reason::SyscallOrCpuset,
                attempts: vec![attempt],
            }),
        }
    }

    fn end(&mut self) {
        if let Some(attempt) = self.attempt.take() {
            self.tried(attempt);
        }
    }

    fn holders(&self, refusal: Refusal, pfn: Pfn) -> Vec<Holder> {
        let rules = self.run.as_ref().or(self.told.runs.last()).map(|run| run.rules);
        match refusal {
            Refusal::Mapped { site } | Refusal::Mlocked { site } => site.map(Holder::Entry).into_iter().collect(),
            Refusal::ExtraReference { expected, found } => {
                let waiters = self
                    .waiting
                    .iter()
                    .filter(|(_, (_, on))| *on == pfn && rules == Some(Rules::Linux2617));
                let mut holders: Vec<_> = waiters.map(|(who, (site, _))| Holder::Waiter(*who, *site)).collect();
                let named = u32::try_from(holders.len()).unwrap_or(u32::MAX);
                let unnamed = found.saturating_sub(expected).saturating_sub(named);
                if unnamed > 0 {
                    holders.push(Holder::Unnamed(unnamed));
                }
                holders
            }
            Refusal::Pinned { pins } => vec![Holder::Unnamed(pins)],
            Refusal::WrittenOut => vec![Holder::OwnWrite],
            Refusal::NoTarget => self.last_taken.map(Holder::Taken).into_iter().collect(),
            _ => Vec::new(),
        }
    }
}

/// Finds, for each attempt that was followed by another that got past its obstacle, what released the page.
fn release(lines: &[Line], tried: &mut Tried) {
    for at in 0..tried.attempts.len() {
        let Some((attempt, later)) = tried.attempts.get_mut(at..).and_then(<[Attempt]>::split_first_mut) else {
            return;
        };
        let (End::Refused { refusal, .. }, Some(next)) = (attempt.end, later.first()) else {
            continue;
        };
        // The same rule again: nothing had changed.
        if matches!(next.end, End::Refused { refusal: again, .. } if again.word() == refusal.word()) {
            continue;
        }
        let from = attempt.lines.1.saturating_sub(2);
        let until = next.lines.1.saturating_sub(2);
        let between = lines.get(from..=until).unwrap_or_default().iter().enumerate();
        let mut between = between.map(|(at, line)| (number(from.saturating_add(at)), line));
        let holders = &attempt.holders;
        let seen = between.find(|(_, line)| match line.event {
            Event::Wake { actor, .. } => holders
                .iter()
                .any(|held| matches!(held, Holder::Waiter(who, _) if *who == actor)),
            Event::Zap { site, .. } => holders.contains(&Holder::Entry(site)),
            Event::Unmap { site, after, .. } => {
                !matches!(after, Pte::Present { .. }) && holders.contains(&Holder::Entry(site))
            }
            Event::WaitWriteback(pfn) => {
                matches!(refusal, Refusal::Writeback | Refusal::WrittenOut) && Some(pfn) == next_frame(next, lines)
            }
            _ => false,
        });
        let released = match seen {
            Some((line, _)) => Some((line, true)),
            None => past(refusal, next, lines).map(|line| (line, false)),
        };
        attempt.released = released.and_then(|(line, seen)| {
            let what = *lines.get(line.checked_sub(2)?)?;
            Some(Released { line, what, seen })
        });
    }
}

fn next_frame(next: &Attempt, lines: &[Line]) -> Option<Pfn> {
    lines.get(next.lines.0.checked_sub(2)?)?.event.frame()
}

/// The line of the next attempt that shows that the obstacle is gone: the first step that it would have forbidden;
/// `None` where it did not get so far.
fn past(refusal: Refusal, next: &Attempt, lines: &[Line]) -> Option<usize> {
    let step = match refusal {
        Refusal::LockBusy => "lock",
        Refusal::NoTarget => "new_page",
        Refusal::Mapped { .. } | Refusal::Mlocked { .. } => "freeze",
        Refusal::ExtraReference { .. } | Refusal::Pinned { .. } => "freeze",
        _ => "switch",
    };
    let (first, last) = next.lines;
    let mut at = (first..=last).filter(|number| {
        let line = number.checked_sub(2).and_then(|at| lines.get(at));
        line.is_some_and(|line| line.event.word() == step)
    });
    at.next()
}

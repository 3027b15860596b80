//! The panels: what a trace lets one see, as tables.

use mm_types::{ActorId, Pfn, Pte, Site};
use trace_tools::replay::{Doing, Frame, List, Pair, Run, State};

/// One table of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Panel {
    /// The entries of the page tables.
    Entries,
    /// What a processor may still translate.
    Tlbs,
    /// Threads that met a page in flight.
    Waiters,
    /// The frames, and how far each is in its migration.
    Frames,
    /// Who holds each frame.
    References,
    /// The LRU, and the lists of a run.
    Lists,
    /// The run.
    Run,
}

/// Which row of a panel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Site(Site),
    Frame(Pfn),
    List(List),
    Actor(ActorId),
    Fact(Fact),
}

/// A row of the run's panel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fact {
    Run,
    Rules,
    Reason,
    Pass,
    Outcomes,
    Flushes,
}

impl Fact {
    pub(crate) const ALL: &'static [Self] = &[
        Self::Run,
        Self::Rules,
        Self::Reason,
        Self::Pass,
        Self::Outcomes,
        Self::Flushes,
    ];

    const fn word(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Rules => "rules, mode",
            Self::Reason => "reason",
            Self::Pass => "pass",
            Self::Outcomes => "outcomes",
            Self::Flushes => "flushes",
        }
    }
}

/// What stands where there is nothing to say.
const NONE: &str = "–";

/// Frames of a list that are named; the others are counted.
const NAMED: usize = 24;

impl Panel {
    /// Every panel, in the order of the page.
    pub const ALL: &'static [Self] = &[
        Self::Entries,
        Self::Tlbs,
        Self::Frames,
        Self::References,
        Self::Lists,
        Self::Waiters,
        Self::Run,
    ];

    /// Returns its heading.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Entries => "Entries",
            Self::Tlbs => "TLBs",
            Self::Frames => "Frames",
            Self::References => "References",
            Self::Lists => "Lists",
            Self::Waiters => "Waiters",
            Self::Run => "Run",
        }
    }

    /// Returns the headings of its columns.
    #[must_use]
    pub const fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Entries => &["site", "entry", "frame", "was"],
            Self::Tlbs => &["site", "a CPU may use", "stale until"],
            Self::Frames => &["frame", "page", "list", "lock", "pair", "state", "flags", "outcome"],
            Self::References => &["frame", "isolated", "mapped", "in flight", "expected", "found"],
            Self::Lists => &["list", "pages", "in order of arrival"],
            Self::Waiters => &["thread", "does", "site", "frame"],
            Self::Run => &["", ""],
        }
    }

    /// Returns the cells of a row, but for those of [`lists`]; empty where the state does not have it.
    pub(crate) fn cells(self, state: &State, key: Key) -> Vec<String> {
        let cells = match (self, key) {
            (Self::Entries, Key::Site(site)) => state.entry(site).map(|entry| {
                let pte = entry.pte;
                vec![show(site), pte.to_string(), frame(pte.pfn()), entry.was.to_string()]
            }),
            (Self::Tlbs, Key::Site(site)) => tlb(state, site),
            (Self::Frames, Key::Frame(pfn)) => state.frame(pfn).map(frame_row),
            (Self::References, Key::Frame(pfn)) => state.frame(pfn).map(references),
            (Self::Waiters, Key::Actor(actor)) => waiter(state, actor),
            (Self::Run, Key::Fact(fact)) => Some(vec![fact.word().to_owned(), said(state, fact)]),
            _ => None,
        };
        cells.unwrap_or_default()
    }

    /// True for a row that one should look at: a translation that is stale, a page that stays.
    pub(crate) fn warns(self, state: &State, key: Key) -> bool {
        match (self, key) {
            (Self::Tlbs, Key::Site(site)) => state.entry(site).is_some_and(|entry| state.stale(entry).is_some()),
            (Self::Frames, Key::Frame(pfn)) => state.frame(pfn).is_some_and(|it| it.refused.is_some()),
            _ => false,
        }
    }
}

fn show(site: Site) -> String {
    format!("m{}+{:#x}", site.space.raw(), site.page.raw())
}

fn frame(pfn: Option<Pfn>) -> String {
    pfn.map_or_else(|| NONE.to_owned(), |pfn| format!("f{}", pfn.raw()))
}

fn yes(word: &str, holds: bool) -> String {
    (if holds { word } else { NONE }).to_owned()
}

fn translation(pte: Pte) -> String {
    format!("{pte} {}", frame(pte.pfn()))
}

fn tlb(state: &State, site: Site) -> Option<Vec<String>> {
    let entry = state.entry(site)?;
    let (used, until) = match state.stale(entry) {
        Some(stale) => (translation(stale), "the flush".to_owned()),
        None if entry.pte.is_present() => (translation(entry.pte), NONE.to_owned()),
        None => (NONE.to_owned(), NONE.to_owned()),
    };
    Some(vec![show(site), used, until])
}

fn frame_row(it: &Frame) -> Vec<String> {
    let lock = match (it.locked, it.lock_unsure) {
        (true, _) => "locked",
        (false, true) => "the file system's",
        (false, false) => NONE,
    };
    let pair = match it.pair {
        Some(Pair::Destination(new)) => format!("→ f{}", new.raw()),
        Some(Pair::Source(old)) => format!("← f{}", old.raw()),
        None => NONE.to_owned(),
    };
    let states = [
        (it.has_mapping, "has mapping"),
        (it.copied, "copied"),
        (it.frozen, "frozen"),
        (it.switched, "switched"),
        (it.arrived, "arrived"),
        (it.in_error, "in error"),
    ];
    let states: Vec<_> = states
        .iter()
        .filter(|(holds, _)| *holds)
        .map(|(_, word)| *word)
        .collect();
    let outcome = match it.refused {
        Some(refused) if refused.last => format!("refused: {}", refused.refusal),
        Some(refused) => format!("retry {}: {}", it.attempts, refused.refusal),
        None if it.list == List::Moved => "moved".to_owned(),
        None => NONE.to_owned(),
    };
    vec![
        format!("f{}", it.pfn.raw()),
        it.content.map_or_else(|| NONE.to_owned(), |page| format!("p{page}")),
        it.list.word().to_owned(),
        lock.to_owned(),
        pair,
        if states.is_empty() {
            NONE.to_owned()
        } else {
            states.join(", ")
        },
        it.flags.map_or_else(|| NONE.to_owned(), |flags| flags.to_string()),
        outcome,
    ]
}

fn references(it: &Frame) -> Vec<String> {
    let told = |count: Option<u32>| count.map_or_else(|| NONE.to_owned(), |count| count.to_string());
    let frozen = if it.frozen { " frozen" } else { "" };
    vec![
        format!("f{}", it.pfn.raw()),
        yes("1", it.isolated),
        it.mapped.to_string(),
        it.entries.to_string(),
        told(it.references.map(|references| references.expected)),
        format!("{}{frozen}", told(it.references.map(|references| references.found))),
    ]
}

/// The rows of the panel of lists, in the order of [`List::ALL`].
pub(crate) fn lists(state: &State) -> Vec<Vec<String>> {
    let mut members: Vec<Vec<(usize, Pfn)>> = vec![Vec::new(); List::ALL.len()];
    for it in state.frames() {
        let row = List::ALL.iter().position(|list| *list == it.list);
        if let Some(members) = row.and_then(|row| members.get_mut(row)) {
            members.push((it.since, it.pfn));
        }
    }
    let rows = List::ALL.iter().zip(members);
    rows.map(|(list, mut members)| {
        let count = members.len();
        // Of thousands, only those that came last are put in order: a step must not take longer for all the others.
        let skipped = count.saturating_sub(NAMED);
        if skipped > 0 {
            members.select_nth_unstable(skipped);
        }
        let mut last = members.split_off(skipped);
        last.sort_unstable();
        let mut names: Vec<String> = last.iter().map(|(_, pfn)| frame(Some(*pfn))).collect();
        if skipped > 0 {
            names.insert(0, format!("{skipped} more …"));
        }
        let names = if names.is_empty() {
            NONE.to_owned()
        } else {
            names.join(" ")
        };
        vec![list.word().to_owned(), count.to_string(), names]
    })
    .collect()
}

fn waiter(state: &State, actor: ActorId) -> Option<Vec<String>> {
    let it = state.actors().find(|it| it.actor == actor)?;
    let (does, site, pfn) = match it.doing {
        Doing::Running => ("runs", None, None),
        Doing::Faulting { site, write: true } => ("faults: store", Some(site), None),
        Doing::Faulting { site, write: false } => ("faults: load", Some(site), None),
        Doing::Waiting { site, pfn } => ("waits for the lock", Some(site), Some(pfn)),
    };
    let site = site.map_or_else(|| NONE.to_owned(), show);
    Some(vec![format!("t{}", actor.raw()), does.to_owned(), site, frame(pfn)])
}

fn said(state: &State, fact: Fact) -> String {
    let of_run = |say: fn(&Run) -> String| state.run().map_or_else(|| NONE.to_owned(), say);
    match fact {
        Fact::Run => of_run(|run| format!("{}{}", run.number, if run.over { ", over" } else { "" })),
        Fact::Rules => of_run(|run| format!("{}, {}", run.rules, run.mode)),
        Fact::Reason => of_run(|run| run.reason.to_string()),
        Fact::Pass => of_run(|run| run.pass.map_or_else(|| NONE.to_owned(), |pass| pass.to_string())),
        Fact::Outcomes => of_run(|run| format!("{} moved, {} left, {} failed", run.succeeded, run.left, run.failed)),
        Fact::Flushes => state.barriers().to_string(),
    }
}

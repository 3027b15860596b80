//! What others changed in the middle of a run. Whatever else differs afterwards is the run's doing, and is compared.

use std::collections::BTreeSet;

use migrate_core::invariants::{EntryState, Inspect as _, Snapshot};
use mm_types::{Outcome, PageFlags, Pfn, Site};

use crate::world::World;

/// Entries and frames that somebody else than the run changed.
#[derive(Debug, Default)]
pub(crate) struct Disturbed {
    sites: BTreeSet<Site>,
    frames: BTreeSet<Pfn>,
    /// Pages that were only said to be pinned.
    said_pinned: BTreeSet<Pfn>,
}

/// What is in one of the two and not in the other.
fn differing<'s, T: PartialEq>(one: &'s [T], other: &'s [T]) -> impl Iterator<Item = &'s T> {
    let gone = one.iter().filter(|item| !other.contains(item));
    gone.chain(other.iter().filter(|item| !one.contains(item)))
}

/// The page that moved, and where to.
fn ends(pfn: Pfn, outcome: &Outcome) -> [Option<Pfn>; 2] {
    match outcome {
        Outcome::Moved { to } => [Some(pfn), Some(*to)],
        _ => [Some(pfn), None],
    }
}

impl Disturbed {
    /// Remembers whatever differs between two moments between which only others did something.
    fn compare(&mut self, before: &Snapshot, after: &Snapshot) {
        let changed = |one: &EntryState, in_other: &Snapshot| in_other.entry(one.site) != Some(one);
        let gone = before.entries.iter().filter(|entry| changed(entry, after));
        let new = after.entries.iter().filter(|entry| changed(entry, before));
        self.sites.extend(gone.chain(new).map(|entry| entry.site));
        let frames = (before.first..)
            .map(Pfn::new)
            .zip(before.frames.iter().zip(&before.words));
        let same = |pfn: Pfn, (frame, word): (&Option<_>, &Option<u64>)| {
            after.frame(pfn) == *frame && after.word(pfn) == *word
        };
        let changed: Vec<Pfn> = frames
            .filter(|(pfn, was)| !same(*pfn, *was))
            .map(|(pfn, _)| pfn)
            .collect();
        // How a page of the swap cache comes back into its entries is the profile's affair.
        let cached = |of: &Snapshot, pfn| {
            let page = of.frame(pfn).unwrap_or_default();
            page.flags.contains(PageFlags::SWAPCACHE)
        };
        let moves_otherwise = |pfn: &Pfn| cached(before, *pfn) != cached(after, *pfn);
        for pfn in changed.iter().copied().filter(moves_otherwise) {
            let entries = before.entries.iter().chain(&after.entries);
            let of_page = entries.filter(|entry| entry.pte.pfn() == Some(pfn));
            self.sites.extend(of_page.map(|entry| entry.site));
        }
        self.frames.extend(changed);
        if before.cache_slots != after.cache_slots {
            let slots = differing(&before.cache_slots, &after.cache_slots);
            self.frames.extend(slots.map(|slot| slot.pfn));
        }
        if before.swap_slots != after.swap_slots {
            let slots = differing(&before.swap_slots, &after.swap_slots);
            self.frames.extend(slots.filter_map(|slot| slot.cached));
        }
    }

    /// Adds pages whose holders went on while the run slept.
    pub(crate) fn let_go(&mut self, pages: &[Pfn]) {
        self.frames.extend(pages);
    }

    /// True where nobody changed anything.
    pub(crate) fn is_nothing(&self) -> bool {
        self.sites.is_empty() && self.frames.is_empty()
    }

    /// Returns a moment without the entries that others changed.
    pub(crate) fn without_entries(&self, mut of: Snapshot) -> Snapshot {
        of.entries.retain(|entry| !self.sites.contains(&entry.site));
        of
    }

    /// Returns the moment before a run without the pages that others changed, where they were or where they went.
    pub(crate) fn without_frames(&self, mut before: Snapshot, outcomes: &[(Pfn, Outcome)]) -> Snapshot {
        let touched = |pfn: &Pfn| self.frames.contains(pfn);
        let ended = outcomes.iter().map(|(pfn, outcome)| ends(*pfn, outcome));
        let went = ended.filter(|ends| ends.iter().flatten().any(touched));
        let all: BTreeSet<Pfn> = went.flatten().flatten().chain(self.frames.iter().copied()).collect();
        let first = before.first;
        for (frame, pfn) in before.frames.iter_mut().zip((first..).map(Pfn::new)) {
            if all.contains(&pfn) {
                *frame = None;
            }
        }
        before
    }

    /// Of which pages the run was told nothing about pins that is not so.
    pub(crate) fn heard_the_truth(&self, outcomes: &[(Pfn, Outcome)]) -> Vec<(Pfn, Outcome)> {
        let truly = |(pfn, _): &&(Pfn, Outcome)| !self.said_pinned.contains(pfn);
        outcomes.iter().filter(truly).copied().collect()
    }
}

impl World {
    /// Does what others do, and remembers what they change.
    pub(crate) fn disturb<T>(&self, others: impl FnOnce() -> T) -> T {
        let before = self.disturbed.borrow().is_some().then(|| Snapshot::of(&self.model));
        let done = others();
        if let (Some(before), Some(disturbed)) = (before, self.disturbed.borrow_mut().as_mut()) {
            disturbed.compare(&before, &Snapshot::of(&self.model));
        }
        done
    }

    /// A thread that sleeps for a page goes on when the run lets it, between two steps: what it then touched, and what was there.
    pub(crate) fn disturb_site(&self, site: Site) {
        if let Some(disturbed) = self.disturbed.borrow_mut().as_mut() {
            disturbed.sites.insert(site);
            disturbed.frames.extend(self.model.pte(site).pfn());
        }
    }

    /// The run is told that a page is pinned, which is not so.
    pub(crate) fn say_pinned(&self, pfn: Pfn) {
        if let Some(disturbed) = self.disturbed.borrow_mut().as_mut() {
            disturbed.said_pinned.insert(pfn);
        }
    }
}

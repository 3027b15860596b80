//! What has been done, counted by kind.

use core::cell::RefCell;
use std::collections::BTreeMap;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A call, between runs.
    Call,
    /// A call in the middle of a run.
    Middle,
    /// A call at the end, when everybody lets go and everything is looked at once more: nobody drew it.
    Sweep,
    /// A run, by the rules it followed and its mode.
    Run,
    /// What became of a page of a run.
    Outcome,
    /// A step of a run that was made to fail.
    Fault,
    /// An access that would have had to wait.
    Wait,
    /// A look at what must hold.
    Check,
}

impl Kind {
    /// All kinds, in the order of a report.
    pub const ALL: [Self; 8] = [
        Self::Call,
        Self::Middle,
        Self::Sweep,
        Self::Run,
        Self::Outcome,
        Self::Fault,
        Self::Wait,
        Self::Check,
    ];

    /// Returns the heading of what is counted.
    #[must_use]
    pub const fn heading(self) -> &'static str {
        match self {
            Self::Call => "calls",
            Self::Middle => "calls in the middle of a run",
            Self::Sweep => "calls of the last look at everything",
            Self::Run => "runs",
            Self::Outcome => "what became of pages",
            Self::Fault => "failures injected",
            Self::Wait => "accesses in the way of a run or a holder",
            Self::Check => "checks",
        }
    }
}

/// Counts by kind and word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(BTreeMap<(Kind, &'static str), u64>);

impl Counts {
    /// Counts `n` more.
    pub fn add(&mut self, kind: Kind, word: &'static str, n: u64) {
        *self.0.entry((kind, word)).or_default() += n;
    }

    /// Adds what others counted.
    pub fn merge(&mut self, others: &Self) {
        for ((kind, word), n) in &others.0 {
            self.add(*kind, word, *n);
        }
    }

    /// Returns how many there were of `word`.
    #[must_use]
    pub fn of(&self, kind: Kind, word: &'static str) -> u64 {
        self.0.get(&(kind, word)).copied().unwrap_or(0)
    }

    /// Returns the words of a kind with their counts, by word.
    pub fn words(&self, kind: Kind) -> impl Iterator<Item = (&'static str, u64)> {
        self.0
            .range((kind, "")..)
            .take_while(move |((of, _), _)| *of == kind)
            .map(|((_, word), n)| (*word, *n))
    }

    /// Returns how many different words of a kind there were.
    #[must_use]
    pub fn kinds(&self, kind: Kind) -> usize {
        self.words(kind).count()
    }

    /// Returns how many there were of a kind.
    #[must_use]
    pub fn total(&self, kind: Kind) -> u64 {
        self.words(kind).map(|(_, n)| n).sum()
    }
}

/// Counts that calls share.
#[derive(Debug, Default)]
pub(crate) struct Counter(RefCell<Counts>);

impl Counter {
    pub(crate) fn add(&self, kind: Kind, word: &'static str) {
        self.0.borrow_mut().add(kind, word, 1);
    }

    pub(crate) fn take(&self) -> Counts {
        self.0.take()
    }
}

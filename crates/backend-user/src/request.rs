//! A migration to be made: which pages, where to, and by whose rules.

use core::sync::atomic::AtomicBool;
use core::time::Duration;

use migrate_core::{MODERN, Profile};
use mm_types::{Mode, NodeId, Outcome, Pfn, Reason, Site};

use crate::spaces::Area;

/// Which pages.
#[derive(Clone, Copy, Debug)]
pub enum Pages<'p> {
    /// Those of an area that are there.
    Area(&'p Area),
    /// Those mapped at these places.
    Sites(&'p [Site]),
    /// These frames.
    Frames(&'p [Pfn]),
    /// All pages of a node.
    Node(NodeId),
}

impl<'p> From<&'p Area> for Pages<'p> {
    fn from(area: &'p Area) -> Self {
        Self::Area(area)
    }
}

impl<'p> From<&'p [Site]> for Pages<'p> {
    fn from(sites: &'p [Site]) -> Self {
        Self::Sites(sites)
    }
}

/// A migration to be made.
pub struct Migrate<'m> {
    /// Which pages. Those in neighbouring places go to neighbouring frames, so give them in order.
    pub pages: Pages<'m>,
    /// The node to move them to.
    pub to: NodeId,
    /// Whose rules.
    pub profile: &'m Profile,
    /// What the run may wait for.
    pub mode: Mode,
    /// Why.
    pub reason: Reason,
    /// Pages in flight at a time, at least 1. Each is blocked for about as long as all of them take.
    pub batch: usize,
    /// How long that may be, as far as the machine can tell; `None`: as long as it takes. A batch is cut to be over by then, and
    /// a page that would take longer by itself, as one that many places map, stays ([`Refusal::StallBudget`](mm_types::Refusal)).
    pub stall_budget: Option<Duration>,
    /// Looked at between batches: when it is true, the run ends after the batch it is in.
    pub stop: Option<&'m AtomicBool>,
    /// Told what became of each page, by its frame before.
    pub outcome: Option<&'m mut dyn FnMut(Pfn, Outcome)>,
}

impl core::fmt::Debug for Migrate<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Migrate")
            .field("pages", &self.pages)
            .field("to", &self.to)
            .field("profile", &self.profile.rules)
            .field("mode", &self.mode)
            .field("batch", &self.batch)
            .field("stall_budget", &self.stall_budget)
            .finish_non_exhaustive()
    }
}

impl<'m> Migrate<'m> {
    /// The budget of whoever asks for none. Whoever met a page in flight is to be on its way again after 200 µs: this leaves some for
    /// the waking.
    pub const STALL_BUDGET: Duration = Duration::from_micros(150);

    /// Moves `pages` to node `to`: today's rules, never sleeping, up to 512 pages at a time and within the usual stall budget.
    #[must_use]
    pub fn new(pages: impl Into<Pages<'m>>, to: NodeId) -> Self {
        Self {
            pages: pages.into(),
            to,
            profile: &MODERN,
            mode: Mode::Async,
            reason: Reason::SyscallOrCpuset,
            batch: MODERN.max_batch,
            stall_budget: Some(Self::STALL_BUDGET),
            stop: None,
            outcome: None,
        }
    }

    /// Sets whose rules are followed.
    #[must_use]
    pub fn profile(mut self, profile: &'m Profile) -> Self {
        self.profile = profile;
        self
    }

    /// Sets what the run may wait for.
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Sets why.
    #[must_use]
    pub fn reason(mut self, reason: Reason) -> Self {
        self.reason = reason;
        self
    }

    /// Sets how many pages are in flight at a time.
    #[must_use]
    pub fn batch(mut self, pages: usize) -> Self {
        self.batch = pages.max(1);
        self
    }

    /// Sets how long pages may be in flight; `None`: as long as it takes.
    #[must_use]
    pub fn stall_budget(mut self, budget: Option<Duration>) -> Self {
        self.stall_budget = budget;
        self
    }

    /// Sets what ends the run early.
    #[must_use]
    pub fn stop(mut self, stop: &'m AtomicBool) -> Self {
        self.stop = Some(stop);
        self
    }

    /// Sets who is told what became of each page.
    #[must_use]
    pub fn outcome(mut self, outcome: &'m mut dyn FnMut(Pfn, Outcome)) -> Self {
        self.outcome = Some(outcome);
        self
    }
}

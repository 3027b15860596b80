//! What a migration did.

use core::time::Duration;

use migrate_core::{MAX_PASSES, Tally};
use mm_types::{Pfn, Refusal};

/// Pages that stayed for one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stayed {
    /// The reason, with the holder of the first such page.
    pub refusal: Refusal,
    /// How many.
    pub pages: u64,
    /// One of them.
    pub example: Pfn,
}

/// What a migration did, in pages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Moved to the node.
    pub moved: u64,
    /// Freed by their users meanwhile.
    pub freed: u64,
    /// On the node already.
    pub already: u64,
    /// No page was there.
    pub absent: u64,
    /// Stayed, by the word of their refusal.
    pub stayed: Vec<Stayed>,
    /// Attempts refused for now, by pass.
    pub retried: [u64; MAX_PASSES],
    /// Runs of the core.
    pub batches: u64,
    /// Time from the first isolation to the last putback.
    pub wall: Duration,
    /// It was told to stop before the end.
    pub stopped: bool,
}

impl Report {
    /// Returns how many pages stayed.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.stayed.iter().map(|stayed| stayed.pages).sum()
    }

    /// Returns how many attempts were refused for now.
    #[must_use]
    pub fn retries(&self) -> u64 {
        self.retried.iter().sum()
    }

    pub(crate) fn stay(&mut self, pfn: Pfn, refusal: Refusal) {
        let known = self
            .stayed
            .iter_mut()
            .find(|stayed| stayed.refusal.word() == refusal.word());
        match known {
            Some(stayed) => stayed.pages += 1,
            None => self.stayed.push(Stayed {
                refusal,
                pages: 1,
                example: pfn,
            }),
        }
    }

    /// Adds what another migration did.
    pub fn add(&mut self, other: &Self) {
        self.moved += other.moved;
        self.freed += other.freed;
        self.already += other.already;
        self.absent += other.absent;
        self.batches += other.batches;
        self.wall += other.wall;
        self.stopped |= other.stopped;
        for (sum, n) in self.retried.iter_mut().zip(other.retried) {
            *sum += n;
        }
        for stayed in &other.stayed {
            let known = self
                .stayed
                .iter_mut()
                .find(|s| s.refusal.word() == stayed.refusal.word());
            match known {
                Some(sum) => sum.pages += stayed.pages,
                None => self.stayed.push(*stayed),
            }
        }
    }

    /// Adds the attempts that a run of the core counted as refused for now.
    pub(crate) fn add_retries(&mut self, tally: &Tally) {
        for (sum, n) in self.retried.iter_mut().zip(tally.retried) {
            *sum += u64::from(n);
        }
    }
}

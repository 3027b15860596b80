//! How long programs may be kept from pages in flight, what moving pages has cost of late, and when a mover had better be interrupted.
//!
//! The core cuts a batch so that its pages are held no longer than the budget ([`StallBudget`]); what holding a page costs only the
//! machine knows, and learns from each run.

use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;
use std::thread;
use std::time::Instant;

use migrate_core::StallBudget;

/// What a reference to a page costs where nothing moved yet, in nanoseconds: about twice a copy.
const FIRST_NS: u32 = 1_000;
/// The most that is believed: twice a page alone. A run that was not scheduled for a while says nothing of pages.
const MOST_NS: u32 = 20_000;
/// A run that was slower than expected changes the expectation by one part in so many of the difference, as it may have been
/// disturbed; one that was faster cannot have been.
const SLOWER: i64 = 16;
const FASTER: i64 = 4;

/// What it takes to move a page, for each entry that maps it: its share of the copy, of the calls to the system, and of barriers.
#[derive(Debug)]
pub(crate) struct Cost(AtomicU32);

impl Cost {
    pub(crate) const fn new() -> Self {
        Self(AtomicU32::new(FIRST_NS))
    }

    /// Returns the core's budget for batches that are held no longer than `hold`.
    pub(crate) fn within(&self, hold: Duration) -> StallBudget {
        StallBudget {
            hold_ns: u32::try_from(hold.as_nanos()).unwrap_or(u32::MAX),
            // Barriers are in what each page has cost: a batch that is cut makes that dearer, and the next one shorter, until it fits.
            batch_ns: 0,
            page_ns: 0,
            reference_ns: self.0.load(Ordering::Relaxed),
        }
    }

    /// Learns from a run over pages with so many references besides the isolations', which took so long.
    pub(crate) fn learn(&self, references: u32, took: Duration) {
        let Some(sample) = took.as_nanos().checked_div(u128::from(references)) else {
            return;
        };
        // Two runs at a time may learn: one of them is then forgotten.
        let known = self.0.load(Ordering::Relaxed);
        let sample = u32::try_from(sample).unwrap_or(u32::MAX).min(MOST_NS);
        let difference = i64::from(sample) - i64::from(known);
        let change = difference / if difference > 0 { SLOWER } else { FASTER };
        let learnt = u32::try_from(i64::from(known) + change).unwrap_or(known);
        self.0.store(learnt.max(1), Ordering::Relaxed);
    }

    /// Forgets half of it: no page was within the budget, so nothing would ever be learnt again.
    pub(crate) fn doubt(&self) {
        let known = self.0.load(Ordering::Relaxed);
        self.0.store((known / 2).max(1), Ordering::Relaxed);
    }
}

/// Lets others run while no page is in flight (Linux: `cond_resched`, which `migrate_pages_batch` of 6.18 calls for each folio).
///
/// The system takes a processor from whoever has had it for some milliseconds. Taken in the middle of a batch, it is away for as long, and
/// whoever touches a page of that batch waits. A thread that has just offered it is not asked so soon.
#[derive(Debug)]
pub(crate) struct CondResched(Instant);

impl CondResched {
    /// Less than a slice and than a tick of the systems that are about, some milliseconds each.
    const RUN: Duration = Duration::from_millis(1);

    pub(crate) fn new() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn between_batches(&mut self) {
        if self.0.elapsed() >= Self::RUN {
            thread::yield_now();
            self.0 = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(cost: &Cost) -> u32 {
        cost.within(Duration::ZERO).reference_ns
    }

    #[test]
    fn a_cost_follows_what_runs_take_and_believes_no_single_slow_one() {
        let cost = Cost::new();
        assert_eq!(known(&cost), FIRST_NS);
        cost.learn(10, Duration::from_secs(10));
        assert!(known(&cost) < 3 * FIRST_NS, "{}", known(&cost));
        for _ in 0..200 {
            cost.learn(10, Duration::from_micros(50));
        }
        assert!(known(&cost).abs_diff(5_000) < 20, "{}", known(&cost));
        for _ in 0..50 {
            cost.learn(512, Duration::from_micros(256));
        }
        assert!(known(&cost).abs_diff(500) < 20, "{}", known(&cost));
        cost.learn(0, Duration::from_secs(1));
        assert!(known(&cost).abs_diff(500) < 20, "of no page nothing is learnt");
        (0..1000).for_each(|_| cost.learn(1, Duration::from_secs(1)));
        assert!(known(&cost) <= MOST_NS);
    }

    #[test]
    fn a_cost_that_lets_nothing_move_is_doubted_down_to_a_nanosecond() {
        let cost = Cost::new();
        (0..40).for_each(|_| cost.doubt());
        assert_eq!(known(&cost), 1);
    }

    #[test]
    fn a_budget_beyond_what_can_be_said_is_the_most_that_can() {
        assert_eq!(Cost::new().within(Duration::MAX).hold_ns, u32::MAX);
        assert_eq!(Cost::new().within(Duration::from_micros(200)).hold_ns, 200_000);
    }
}

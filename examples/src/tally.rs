//! What the migrator counts while it works.

use core::time::Duration;

use migrate_core::MAX_PASSES;
use mm_types::{Outcome, Refusal};

use crate::median::median;
use crate::refused::Refused;

/// One trip: everything to the other node, and the same number of pages copied plainly in between.
#[derive(Clone, Copy, Debug, Default)]
struct Trip {
    moved: u64,
    moving: Duration,
    copied: u64,
    copying: Duration,
}

/// The counts of a whole job.
#[derive(Debug, Default)]
pub struct Counts {
    /// Pages moved.
    pub moved: u64,
    /// Pages freed meanwhile.
    pub freed: u64,
    /// Pages that stayed.
    pub refused: Refused,
    /// Attempts tried again, by rule.
    pub retried: Refused,
    /// Attempts tried again, by pass.
    pub retried_by_pass: [u64; MAX_PASSES],
    trip: Trip,
    trips: Vec<Trip>,
}

impl Counts {
    /// Counts what became of a page, or of one attempt.
    pub fn outcome(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Moved { .. } => {
                self.moved += 1;
                self.trip.moved += 1;
            }
            Outcome::Freed => self.freed += 1,
            Outcome::Retry(refusal) => self.retried.add(refusal),
            Outcome::Refused(refusal) => self.refuse(refusal),
        }
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.refused.add(refusal);
    }

    /// Adds the attempts of a run that were tried again, by pass.
    pub fn passes(&mut self, retried: [u64; MAX_PASSES]) {
        for (all, run) in self.retried_by_pass.iter_mut().zip(retried) {
            *all += run;
        }
    }

    /// Adds a part of a trip: how long pages took to move, and how long `copied` pages took to copy.
    pub fn time(&mut self, moving: Duration, copied: usize, copying: Duration) {
        self.trip.moving += moving;
        self.trip.copied += copied as u64;
        self.trip.copying += copying;
    }

    /// Ends a trip.
    pub fn end_trip(&mut self) {
        self.trips.push(core::mem::take(&mut self.trip));
    }

    /// Returns the medians over the trips: nanoseconds for each page moved, and for each page copied. The first round pays for
    /// the first touch of frames and counts only where there is no other; a trip that was cut short, likewise.
    #[must_use]
    pub fn costs(&self) -> (Option<f64>, Option<f64>) {
        let later = self.trips.get(2..).filter(|later| !later.is_empty());
        let trips = match (later, self.trips.first()) {
            (Some(later), _) => later,
            (None, Some(_)) => &self.trips,
            (None, None) => core::slice::from_ref(&self.trip),
        };
        let per = |time: Duration, pages: u64| (pages > 0).then(|| time.as_secs_f64() * 1e9 / pages as f64);
        let moving: Vec<_> = trips.iter().filter_map(|trip| per(trip.moving, trip.moved)).collect();
        let copying: Vec<_> = trips.iter().filter_map(|trip| per(trip.copying, trip.copied)).collect();
        (median(&moving), median(&copying))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mm_types::Pfn;

    fn trip(counts: &mut Counts, ns: u64) {
        for page in 0..10 {
            counts.outcome(Outcome::Moved { to: Pfn::new(page) });
        }
        counts.time(Duration::from_nanos(10 * ns), 10, Duration::from_nanos(10 * 100));
        counts.end_trip();
    }

    #[test]
    fn the_cost_is_the_median_of_the_trips_after_the_first_round() {
        let mut counts = Counts::default();
        assert_eq!(counts.costs(), (None, None));
        trip(&mut counts, 9000);
        trip(&mut counts, 8000);
        assert_eq!(counts.costs(), (Some(8500.0), Some(100.0)));
        for ns in [300, 200, 7000] {
            trip(&mut counts, ns);
        }
        assert_eq!(counts.costs(), (Some(300.0), Some(100.0)));
        assert_eq!(counts.moved, 50);
    }

    #[test]
    fn a_job_that_was_cut_short_has_a_cost_too() {
        let mut counts = Counts::default();
        counts.outcome(Outcome::Moved { to: Pfn::new(1) });
        counts.outcome(Outcome::Retry(Refusal::LockBusy));
        counts.outcome(Outcome::Refused(Refusal::NoTarget));
        counts.time(Duration::from_nanos(500), 1, Duration::from_nanos(250));
        assert_eq!(counts.costs(), (Some(500.0), Some(250.0)));
        assert_eq!((counts.retried.total(), counts.refused.total()), (1, 1));
    }
}

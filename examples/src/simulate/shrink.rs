//! Leaving out the calls that a failure does not need.

use core::sync::atomic::{AtomicBool, Ordering};

use simulation::Care;

use super::play::{Calls, Failure, Plan, play_steps};

/// How often a world is played again at most.
const PLAYS: usize = 600;

/// A failure, as it was found and as short as it became.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// What was played when it was found, up to where it was.
    pub found: Plan,
    /// What was wrong then.
    pub failure: Failure,
    /// The same with fewer calls, where everything is looked at always.
    pub short: Plan,
    /// What is wrong in that one.
    pub last: Failure,
}

/// Makes a failure shorter: takes halves, quarters, … of the calls away for as long as something still goes wrong (Zeller's `ddmin`).
#[must_use]
pub fn shrink(plan: Plan, failure: Failure, stop: &AtomicBool) -> Shrunk {
    let found = Plan {
        calls: match plan.calls {
            Calls::First(calls) => Calls::First(calls.min(failure.call)),
            only @ Calls::Only(_) => only,
        },
        ..plan
    };
    let drawn = found.draw();
    let with = |calls: &[usize], care: Care| Plan {
        calls: Calls::Only(calls.to_vec()),
        care,
        ..found.clone()
    };
    let fails = |calls: &[usize], care: Care| {
        let kept: Vec<_> = drawn.iter().filter(|(call, _)| calls.contains(call)).cloned().collect();
        play_steps(&with(calls, care), &kept, stop).failure
    };
    let mut calls: Vec<usize> = drawn.iter().map(|(call, _)| *call).collect();
    calls.dedup();
    let quick = Care {
        log: false,
        ..found.care
    };
    let mut plays = 0;
    // Takes parts of that many calls away, then smaller ones, and single ones until none can go.
    let mut leave_out = |calls: &mut Vec<usize>, mut part: usize, care: Care| {
        while part > 0 && plays < PLAYS && !stop.load(Ordering::Relaxed) {
            let (mut first, before) = (0, calls.len());
            while first < calls.len() && plays < PLAYS && !stop.load(Ordering::Relaxed) {
                let fewer: Vec<usize> = calls
                    .iter()
                    .enumerate()
                    .filter(|(n, _)| *n < first || *n >= first + part)
                    .map(|(_, call)| *call)
                    .collect();
                plays += 1;
                if fails(&fewer, care).is_some() {
                    *calls = fewer;
                } else {
                    first += part;
                }
            }
            if part > 1 || calls.len() == before {
                part /= 2;
            }
        }
    };
    let half = calls.len().div_ceil(2);
    leave_out(&mut calls, half, quick);
    // A world of few calls is looked at closely, and shows more then; one that stayed long as it was.
    let care = if calls.len() <= 200 {
        leave_out(&mut calls, 1, Care::FULL);
        Care::FULL
    } else {
        Care { log: true, ..quick }
    };
    let (care, last) = match fails(&calls, care) {
        Some(last) => (care, last),
        None => (quick, fails(&calls, quick).unwrap_or_else(|| failure.clone())),
    };
    Shrunk {
        short: with(&calls, care),
        found,
        failure,
        last,
    }
}

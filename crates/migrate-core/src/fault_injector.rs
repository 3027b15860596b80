//! Failures on purpose: a backend whose steps fail when a plan says so.
//!
//! ```
//! use migrate_core::{EdgeKind, Failure, FailurePlan, FaultInjector, HookedTarget, LINUX_2_6_17, MODERN, Injection};
//! # use migrate_core::{Args, Frames, Slot, migrate_pages};
//! # use migrate_core::model::{Model, Op};
//! # use mm_types::{ActorId, Mode, NodeId, Outcome, Reason, Refusal, Site, Vpn};
//! # let model = Model::default();
//! # let site = Site::new(model.new_space(), Vpn::new(1));
//! # model.map_anon(site, 1);
//! # model.access(ActorId::new(0), site, Op::Write(7), ());
//! # let pfn = model.pte(site).pfn().unwrap();
//! # let (mut from, mut failed) = (Some(model.isolate(pfn, ()).unwrap()), None);
//! # let mut last = None;
//! // The first copy fails, and no other.
//! let plan = FailurePlan::once(Injection { edge: EdgeKind::Copy, failure: Failure::Unreadable }, 0);
//! let backend = FaultInjector::new(&model, &plan);
//! let target = HookedTarget(model.target(NodeId::new(1)));
//! // … a run of `backend` with `target` …
//! # migrate_pages(&backend, Args { from: &mut from, target, moved: None, failed: &mut failed,
//! #     slots: &mut [Slot::new()], profile: &MODERN, mode: Mode::Sync, reason: Reason::Compaction,
//! #     outcome: &mut |_, outcome| last = Some(outcome), observer: () })?;
//! assert_eq!(last, Some(Outcome::Refused(Refusal::CopyFailed)));
//! assert_eq!(plan.all_injected(), 1);
//! # Ok::<(), migrate_core::ConfigError>(())
//! ```

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::{Edge, EdgeKind, Failure, Hook, Hooked, Injection, Verdict};

/// A backend whose steps fail as a [`FailurePlan`] says; its target is a [`HookedTarget`](crate::HookedTarget).
pub type FaultInjector<'b, B> = Hooked<'b, B, FailurePlan>;

#[derive(Clone, Copy, Debug)]
enum What {
    Nothing,
    One { pair: Injection, nth: u32, and_later: bool },
    Random { one_in: u32, of: fn(Injection) -> bool },
}

/// Which steps fail, and how: one, all from one on, or any with a rate; and how many did.
///
/// A hook of its own, so that another hook can do its work and ask the plan afterwards. Threads may share it: what is counted is right,
/// and which of them meets the failure is theirs to race for.
#[derive(Debug)]
pub struct FailurePlan {
    what: What,
    came: [AtomicU32; EdgeKind::ALL.len()],
    injected: [AtomicU32; Injection::ALL.len()],
    random: AtomicU32,
    // Somebody was waited for, or woken too early, the last time.
    waited: AtomicBool,
    woken_early: AtomicBool,
}

impl FailurePlan {
    const fn new(what: What, seed: u32) -> Self {
        Self {
            what,
            came: [const { AtomicU32::new(0) }; EdgeKind::ALL.len()],
            injected: [const { AtomicU32::new(0) }; Injection::ALL.len()],
            random: AtomicU32::new(seed),
            waited: AtomicBool::new(false),
            woken_early: AtomicBool::new(false),
        }
    }

    /// Nothing fails; steps are counted.
    #[must_use]
    pub const fn nothing() -> Self {
        Self::new(What::Nothing, 1)
    }

    /// The `nth` step of the pair's kind fails, counted from 0.
    #[must_use]
    pub const fn once(pair: Injection, nth: u32) -> Self {
        let and_later = false;
        Self::new(What::One { pair, nth, and_later }, 1)
    }

    /// The `nth` step of the pair's kind fails, counted from 0, and every one after it.
    #[must_use]
    pub const fn from_then_on(pair: Injection, nth: u32) -> Self {
        let and_later = true;
        Self::new(What::One { pair, nth, and_later }, 1)
    }

    /// One in `one_in` steps that can fail does, in any of its ways; none where `one_in` is 0. The same seed and the same
    /// steps give the same failures: print the seed.
    #[must_use]
    pub const fn random(seed: u32, one_in: u32) -> Self {
        Self::random_of(seed, one_in, |_| true)
    }

    /// As [`FailurePlan::random`], of those pairs that `of` accepts.
    #[must_use]
    pub const fn random_of(seed: u32, one_in: u32, of: fn(Injection) -> bool) -> Self {
        // An odd multiplier keeps seeds apart; xorshift stays at 0 for ever, and no seed becomes that.
        let state = seed.wrapping_mul(0x9e37_79b9) ^ 0x7f4a_7c15;
        Self::new(What::Random { one_in, of }, if state == 0 { 1 } else { state })
    }

    /// Returns how many steps of `kind` there were, failed or not.
    #[must_use]
    pub fn came(&self, kind: EdgeKind) -> u32 {
        self.came.get(kind as usize).map_or(0, |n| n.load(Ordering::Relaxed))
    }

    /// Returns how often the pair happened.
    #[must_use]
    pub fn injected(&self, pair: Injection) -> u32 {
        let counted = Injection::ALL.iter().zip(&self.injected).find(|(at, _)| **at == pair);
        counted.map_or(0, |(_, n)| n.load(Ordering::Relaxed))
    }

    /// Returns how many steps failed.
    #[must_use]
    pub fn all_injected(&self) -> u32 {
        let counts = self.injected.iter().map(|n| n.load(Ordering::Relaxed));
        counts.fold(0, u32::saturating_add)
    }

    fn draw(&self) -> u32 {
        // Marsaglia's 32-bit xorshift: nothing wider is everywhere.
        let next = |mut x: u32| {
            x ^= x << 13;
            x ^= x >> 17;
            x ^= x << 5;
            x
        };
        let drawn = self
            .random
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |x| Some(next(x)));
        next(drawn.unwrap_or_else(|x| x))
    }

    fn pick(&self, kind: EdgeKind, now: u32) -> Option<Failure> {
        match self.what {
            What::Nothing => None,
            What::One { pair, nth, and_later } => {
                let due = if and_later { now >= nth } else { now == nth };
                (pair.edge == kind && due).then_some(pair.failure)
            }
            What::Random { one_in, of } => {
                let ways = || {
                    kind.failures().filter(move |failure| {
                        of(Injection {
                            edge: kind,
                            failure: *failure,
                        })
                    })
                };
                let ways_of_kind = u32::try_from(ways().count()).ok().filter(|n| *n > 0)?;
                if self.draw().checked_rem(one_in)? != 0 {
                    return None;
                }
                let way = self.draw().checked_rem(ways_of_kind)?;
                ways().nth(usize::try_from(way).ok()?)
            }
        }
    }

    /// Whoever holds a buffer lets it go some time, and a run that sleeps for it tries until he has (2.6.17 `lock_buffer`): what
    /// was waited for once is there, and a sleep does not end too early twice.
    fn is_over(&self, kind: EdgeKind) -> bool {
        match kind {
            EdgeKind::TryLockBuffers => self.waited.swap(false, Ordering::Relaxed),
            EdgeKind::WaitBuffers => self.woken_early.swap(false, Ordering::Relaxed),
            _ => false,
        }
    }
}

impl Hook for FailurePlan {
    fn before(&self, edge: Edge) -> Verdict {
        let kind = edge.kind();
        let now = self
            .came
            .get(kind as usize)
            .map_or(0, |n| n.fetch_add(1, Ordering::Relaxed));
        let is_over = self.is_over(kind);
        let Some(failure) = self.pick(kind, now).filter(|_| !is_over) else {
            if kind == EdgeKind::WaitBuffers {
                self.waited.store(true, Ordering::Relaxed);
            }
            return Verdict::Go;
        };
        if kind == EdgeKind::WaitBuffers {
            self.woken_early.store(true, Ordering::Relaxed);
        }
        let pair = Injection { edge: kind, failure };
        if let Some((_, n)) = Injection::ALL.iter().zip(&self.injected).find(|(at, _)| **at == pair) {
            n.fetch_add(1, Ordering::Relaxed);
        }
        Verdict::FailAs(failure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mm_types::Pfn;
    use std::vec::Vec;

    const COPY: Injection = Injection {
        edge: EdgeKind::Copy,
        failure: Failure::Unreadable,
    };

    fn copies(plan: &FailurePlan, n: u64) -> Vec<bool> {
        let copy = |n| Edge::Copy {
            old: Pfn::new(n),
            new: Pfn::new(n),
        };
        (0..n)
            .map(|n| plan.before(copy(n)) == Verdict::FailAs(Failure::Unreadable))
            .collect()
    }

    #[test]
    fn a_step_fails_once_or_from_then_on_and_is_counted() {
        let plan = FailurePlan::once(COPY, 1);
        assert_eq!(plan.before(Edge::Flush), Verdict::Go);
        assert_eq!(copies(&plan, 4), [false, true, false, false]);
        assert_eq!((plan.came(EdgeKind::Copy), plan.injected(COPY)), (4, 1));
        let plan = FailurePlan::from_then_on(COPY, 1);
        assert_eq!(copies(&plan, 4), [false, true, true, true]);
        assert_eq!((plan.all_injected(), plan.injected(COPY)), (3, 3));
        assert_eq!(copies(&FailurePlan::nothing(), 2), [false, false]);
    }

    #[test]
    fn a_seed_replays_and_a_rate_is_about_kept() {
        const DRAWN: u64 = if cfg!(miri) { 200 } else { 4000 };
        const SEEDS: u32 = if cfg!(miri) { 2 } else { 50 };
        // Few draws stray further.
        const ASTRAY: u64 = if cfg!(miri) { DRAWN / 8 } else { DRAWN / 20 };
        let drawn = |seed| copies(&FailurePlan::random(seed, 4), DRAWN);
        assert_eq!(drawn(7), drawn(7));
        assert_ne!(drawn(7), drawn(8));
        for seed in 0..SEEDS {
            let failed = drawn(seed).iter().filter(|fails| **fails).count() as u64;
            let astray = failed.abs_diff(DRAWN / 4);
            assert!(astray < ASTRAY, "seed {seed}: {failed} of {DRAWN}");
        }
        assert_eq!(copies(&FailurePlan::random(7, 0), 9), [false; 9]);
        let other = FailurePlan::random_of(7, 1, |pair| pair.edge != EdgeKind::Copy);
        assert_eq!(copies(&other, 9), [false; 9]);
    }

    #[test]
    fn a_random_step_fails_in_all_of_its_ways() {
        const ROUNDS: u32 = if cfg!(miri) { 80 } else { 400 };
        let plan = FailurePlan::random(1, 2);
        for _ in 0..ROUNDS {
            for kind in [
                Edge::Writeout(Pfn::new(1)),
                Edge::Take(Pfn::new(1)),
                Edge::Unlock(Pfn::new(1)),
            ] {
                plan.before(kind);
            }
        }
        for pair in Injection::ALL {
            let may = matches!(pair.edge, EdgeKind::Writeout | EdgeKind::Take);
            assert_eq!(plan.injected(*pair) > 0, may, "{pair}");
        }
    }

    #[test]
    fn a_buffer_that_was_waited_for_is_free() {
        let pair = Injection {
            edge: EdgeKind::TryLockBuffers,
            failure: Failure::Busy,
        };
        let plan = FailurePlan::from_then_on(pair, 0);
        let busy = || plan.before(Edge::TryLockBuffers(Pfn::new(1))) != Verdict::Go;
        assert!(busy() && busy());
        plan.before(Edge::WaitBuffers(Pfn::new(1)));
        assert!(!busy() && busy());
    }

    #[test]
    fn a_seed_fails_the_same_steps_on_any_machine() {
        // Whoever prints a seed has to be able to play it again tomorrow: these are the copies that failed.
        let failed = |plan: &FailurePlan| -> Vec<i32> {
            let copies = copies(plan, 60);
            (0..60)
                .zip(copies)
                .filter_map(|(n, fails)| fails.then_some(n))
                .collect()
        };
        assert_eq!(
            failed(&FailurePlan::random(1, 8)),
            [0, 12, 18, 21, 24, 25, 26, 30, 31, 39, 51, 53, 54, 55, 59]
        );
        assert_eq!(
            failed(&FailurePlan::random(0xdead_beef, 8)),
            [7, 12, 21, 24, 33, 36, 41, 44]
        );
    }

    #[test]
    fn a_random_step_that_has_no_way_left_draws_nothing() {
        let none = FailurePlan::random_of(7, 1, |pair| pair.edge == EdgeKind::Take);
        assert_eq!(
            none.before(Edge::Copy {
                old: Pfn::new(1),
                new: Pfn::new(1)
            }),
            Verdict::Go
        );
        assert_ne!(none.before(Edge::Take(Pfn::new(1))), Verdict::Go, "one in one does");
        // The draws are those of a run without such steps: the same copies fail.
        let (alone, among) = (FailurePlan::random(1, 8), FailurePlan::random(1, 8));
        for _ in 0..60 {
            among.before(Edge::Unlock(Pfn::new(1)));
            assert_eq!(copies(&among, 1), copies(&alone, 1));
        }
    }

    #[test]
    fn a_sleep_for_a_buffer_does_not_end_too_early_twice() {
        let pair = Injection {
            edge: EdgeKind::WaitBuffers,
            failure: Failure::Early,
        };
        let plan = FailurePlan::from_then_on(pair, 0);
        let early = || plan.before(Edge::WaitBuffers(Pfn::new(1))) != Verdict::Go;
        assert_eq!([early(), early(), early(), early()], [true, false, true, false]);
        assert_eq!(plan.injected(pair), 2);
    }
}

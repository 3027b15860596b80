//! Every step that can fail, failing once and for good: the page moves in a later attempt or is as it was, and nothing is lost.
//!
//! A failure is a hook's answer ([`Hooked`](crate::Hooked)) of a case's own. The whole table of ways in which a step can fail, in every
//! mode, is the matter of `ways.rs`.

use alloc::{format, vec::Vec};
use core::cell::Cell;

use mm_types::scenario::Mover;
use mm_types::{Outcome, Refusal, Rules};

use super::bench::{Bench, Mapped};
use super::contract as promise;
use super::verdict::{Done, Halt, broken, same};
use crate::fixture::{Capabilities, Fixture};
use crate::{Edge, Verdict};

/// A step that is to fail, and the rule by which the page is refused then.
#[derive(Clone, Copy)]
pub(super) struct Fails {
    /// Whether this is the step.
    step: fn(Edge) -> bool,
    rule: &'static str,
    /// The refusal is for good, so that the page is not tried again.
    last: bool,
    /// Nothing fails any more after the first time.
    once: bool,
    /// So many times it does not matter what the answer is.
    skip: u32,
}

impl Fails {
    const fn new(step: fn(Edge) -> bool, rule: &'static str) -> Self {
        Self {
            step,
            rule,
            last: false,
            once: false,
            skip: 0,
        }
    }

    const fn for_good(self) -> Self {
        Self { last: true, ..self }
    }

    const fn once(self) -> Self {
        Self { once: true, ..self }
    }
}

/// One run in which a step fails, and one in which nothing does.
pub(super) fn fails<F: Fixture>(b: &Bench<F>, pages: &[Mapped], failure: Fails) -> Done {
    let mut before = Vec::new();
    for page in pages {
        before.push(b.looks(page.pfn, &page.sites)?);
    }
    let (times, skipped) = (Cell::new(0u32), Cell::new(0u32));
    let hook = |edge: Edge| {
        if !(failure.step)(edge) || (failure.once && times.get() > 0) {
            return Verdict::Go;
        }
        if skipped.get() < failure.skip {
            skipped.set(skipped.get().saturating_add(1));
            return Verdict::Go;
        }
        times.set(times.get().saturating_add(1));
        Verdict::Fail
    };
    let frames: Vec<_> = pages.iter().map(|page| page.pfn).collect();
    let ran = b.call(&frames).hook(&hook).run()?;
    if times.get() == 0 {
        return Err(broken(
            promise::BARRIERS,
            format!("the run has no step that fails with {}", failure.rule),
        ));
    }
    let mut again = Vec::new();
    for (page, before) in pages.iter().zip(before) {
        match ran.outcome(page.pfn) {
            Some(Outcome::Moved { to }) => b.is_at(page, to)?,
            // The new page is in place, in error; whose contents those are nobody can say.
            Some(Outcome::Refused(Refusal::CopiedTooLate)) => {
                let here = page
                    .sites
                    .iter()
                    .all(|site| b.entry(*site).pfn().is_some_and(|pfn| pfn != page.pfn));
                same(
                    promise::EDIT_FRAME,
                    "after the switch the entries map the new page",
                    here,
                    true,
                )?;
            }
            Some(Outcome::Refused(_)) => {
                same(
                    promise::ROLLBACK,
                    &format!("{:?}", page.pfn),
                    b.looks(page.pfn, &page.sites)?,
                    before,
                )?;
                b.is_at(page, page.pfn)?;
                again.push(page);
            }
            other => return Err(broken(promise::LISTS, format!("{:?}: {other:?}", page.pfn))),
        }
    }
    let refused = ran.outcomes.iter().filter(|(_, outcome)| {
        matches!(outcome, Outcome::Refused(refusal) | Outcome::Retry(refusal) if refusal.word() == failure.rule)
    });
    if failure.once && !failure.last {
        // Today a page whose switch failed is tried again at once, without a word.
        same(promise::ROLLBACK, "pages that stayed after one failure", again.len(), 0)?;
    } else {
        same(
            promise::ROLLBACK,
            &format!("a page was refused by {}", failure.rule),
            refused.count() > 0,
            true,
        )?;
    }
    let frames: Vec<_> = again.iter().map(|page| page.pfn).collect();
    let ran = b.call(&frames).run()?;
    again.iter().try_for_each(|page| b.is_at(page, ran.moved_to(page.pfn)?))
}

const LOCK: Fails = Fails::new(
    |edge| matches!(edge, Edge::TryLock(_) | Edge::TryLockNew(_)),
    "lock_busy",
);
const TARGET: Fails = Fails::new(|edge| matches!(edge, Edge::Take(_)), "no_target");
const RESERVED: Fails = Fails::new(|edge| matches!(edge, Edge::Reserve(_)), "mapping_limit");
/// The core asks before it takes the entries, too; a page that is mapped then is nothing special.
const STILL_MAPPED: Fails = Fails {
    skip: 1,
    ..Fails::new(|edge| matches!(edge, Edge::IsMapped(_)), "mapped")
};
const FROZEN: Fails = Fails::new(|edge| matches!(edge, Edge::Freeze(_)), "extra_reference");
const SLOT: Fails = Fails::new(|edge| matches!(edge, Edge::Switch { .. }), "slot_changed");
const BUFFER: Fails = Fails::new(|edge| matches!(edge, Edge::TryLockBuffers(_)), "buffers_busy");

fn copy_fails<F: Fixture>(b: &Bench<F>) -> Fails {
    let rule = match b.profile.rules {
        Rules::Linux2617 => "copied_too_late",
        Rules::Modern => "copy_failed",
    };
    Fails::new(|edge| matches!(edge, Edge::Copy { .. }), rule).for_good()
}

/// Today's kernel ends the call where there is no new page; 2006 goes on.
fn target_fails<F: Fixture>(b: &Bench<F>) -> Fails {
    match b.profile.rules {
        Rules::Linux2617 => TARGET,
        Rules::Modern => TARGET.for_good(),
    }
}

macro_rules! every_failure {
    ($pages:path) => {
        use super::super::bench::Bench;
        use super::super::verdict::Done;
        use super::{FROZEN, LOCK, RESERVED, SLOT, STILL_MAPPED, copy_fails, fails, target_fails};
        use crate::fixture::Fixture;

        pub(in super::super) fn a_busy_page_lock_is_tried_again<F: Fixture>(b: &Bench<F>) -> Done {
            fails(b, &$pages(b)?, LOCK.once())
        }

        pub(in super::super) fn a_page_lock_that_is_always_busy_keeps_the_page_as_it_was<F: Fixture>(
            b: &Bench<F>,
        ) -> Done {
            fails(b, &$pages(b)?, LOCK)
        }

        pub(in super::super) fn one_failed_allocation_loses_nothing<F: Fixture>(b: &Bench<F>) -> Done {
            fails(b, &$pages(b)?, target_fails(b).once())
        }

        pub(in super::super) fn allocations_that_fail_from_the_first_lose_nothing<F: Fixture>(b: &Bench<F>) -> Done {
            fails(b, &$pages(b)?, target_fails(b))
        }

        pub(in super::super) fn a_mapping_limit_met_once_is_tried_again<F: Fixture>(b: &Bench<F>) -> Done {
            fails(b, &$pages(b)?, RESERVED.once())
        }

        pub(in super::super) fn a_mapping_limit_keeps_the_page_as_it_was<F: Fixture>(b: &Bench<F>) -> Done {
            fails(b, &$pages(b)?, RESERVED)
        }

        pub(in super::super) fn a_page_found_mapped_once_is_tried_again<F: Fixture>(b: &Bench<F>) -> Done {
            fails(b, &$pages(b)?, STILL_MAPPED.once())
        }

        pub(in super::super) fn a_page_that_stays_mapped_is_as_it_was<F: Fixture>(b: &Bench<F>) -> Done {
            fails(b, &$pages(b)?, STILL_MAPPED)
        }

        pub(in super::super) fn one_copy_error_is_final_and_leaves_nothing_behind<F: Fixture>(b: &Bench<F>) -> Done {
            fails(b, &$pages(b)?, copy_fails(b).once())
        }

        pub(in super::super) fn copies_that_all_fail_leave_nothing_behind<F: Fixture>(b: &Bench<F>) -> Done {
            fails(b, &$pages(b)?, copy_fails(b))
        }

        pub(in super::super) fn a_reference_gained_once_is_tried_again<F: Fixture>(b: &Bench<F>) -> Done {
            fails(b, &$pages(b)?, FROZEN.once())
        }

        pub(in super::super) fn a_reference_gained_every_time_keeps_the_page_as_it_was<F: Fixture>(
            b: &Bench<F>,
        ) -> Done {
            fails(b, &$pages(b)?, FROZEN)
        }

        pub(in super::super) fn a_slot_changed_once_is_tried_again<F: Fixture>(b: &Bench<F>) -> Done {
            fails(b, &$pages(b)?, SLOT.once())
        }

        pub(in super::super) fn a_slot_that_always_changes_keeps_the_page_as_it_was<F: Fixture>(b: &Bench<F>) -> Done {
            fails(b, &$pages(b)?, SLOT)
        }
    };
}

fn one<F: Fixture>(b: &Bench<F>) -> Result<Vec<Mapped>, Halt> {
    b.pages(1)
}

fn three_sites<F: Fixture>(b: &Bench<F>) -> Result<Vec<Mapped>, Halt> {
    Ok(alloc::vec![b.shared()?])
}

fn batch<F: Fixture>(b: &Bench<F>) -> Result<Vec<Mapped>, Halt> {
    b.pages(4)
}

fn cached<F: Fixture>(b: &Bench<F>) -> Result<Vec<Mapped>, Halt> {
    Ok(alloc::vec![b.file(Mover::Plain)?.1])
}

fn buffered<F: Fixture>(b: &Bench<F>) -> Result<Vec<Mapped>, Halt> {
    Ok(alloc::vec![b.file(Mover::Buffers)?.1])
}

pub(super) mod of_one_page {
    every_failure!(super::one);
}

pub(super) mod of_a_shared_page {
    every_failure!(super::three_sites);
}

pub(super) mod of_a_batch {
    every_failure!(super::batch);
}

pub(super) mod of_a_file {
    every_failure!(super::cached);
}

pub(super) mod of_buffers {
    every_failure!(super::buffered);

    pub(in super::super) fn a_buffer_busy_once_is_tried_again<F: Fixture>(b: &Bench<F>) -> Done {
        fails(b, &super::buffered(b)?, super::BUFFER.once())
    }
}

/// One failure at step `n` of those that can fail, for every `n` there is; then from there on.
pub(super) fn a_failure_at_any_step_loses_nothing<F: Fixture>(b: &Bench<F>) -> Done {
    let mut page = if b.fixture.capabilities().contains(Capabilities::SHARED) {
        b.shared()?
    } else {
        b.page()?
    };
    let mut n = 0u32;
    let steps = loop {
        let mut came = 0;
        for from_there_on in [false, true] {
            let seen = Cell::new(0u32);
            let hook = |edge: Edge| {
                if !edge.can_fail() || matches!(edge, Edge::Copy { .. }) && b.profile.rules == Rules::Linux2617 {
                    return Verdict::Go;
                }
                let step = seen.replace(seen.get().saturating_add(1));
                let fails = if from_there_on { step >= n } else { step == n };
                if fails { Verdict::Fail } else { Verdict::Go }
            };
            let before = b.looks(page.pfn, &page.sites)?;
            let ran = b.call(&[page.pfn]).hook(&hook).run()?;
            if let Some(Outcome::Moved { to }) = ran.outcome(page.pfn) {
                page.pfn = to;
            }
            let after = b.looks(page.pfn, &page.sites)?;
            same(
                promise::ROLLBACK,
                &format!("{:?} after step {n} failed", page.pfn),
                after,
                before,
            )?;
            b.is_at(&page, page.pfn)?;
            came = seen.get();
        }
        if came <= n {
            break n;
        }
        n = n.saturating_add(1);
    };
    super::verdict::hold(promise::LISTS, steps >= 4, || format!("only {steps} steps could fail"))
}

#[cfg(all(test, feature = "model"))]
mod tests {
    use super::*;
    use crate::model::ModelFixture;
    use crate::{LINUX_2_6_17, MODERN};

    #[test]
    fn a_failure_that_refuses_no_page_by_its_rule_fails_the_case() {
        let b = Bench::new(ModelFixture::new(), &MODERN);
        let pages = one(&b).unwrap();
        let frozen = |rule| Fails { rule, ..FROZEN };
        assert!(matches!(fails(&b, &pages, frozen("lock_busy")), Err(Halt::Failed(_))));
    }

    #[test]
    fn a_page_found_mapped_is_one_whose_entries_are_taken() {
        // In 2006 a page that is tried again is told of by the rule; the answer to the first question refuses nothing.
        let b = Bench::new(ModelFixture::new(), &LINUX_2_6_17);
        fails(&b, &one(&b).unwrap(), STILL_MAPPED.once().for_good()).unwrap();
    }
}

//! Several pages in flight at a time: two barriers a batch, and nobody suffers for a neighbour.

use alloc::{format, vec::Vec};
use core::cell::RefCell;

use mm_types::{Pfn, Rules};

use super::bench::{Bench, Mapped};
use super::contract as promise;
use super::verdict::{Done, hold, same};
use crate::fixture::{Capabilities, Fixture};
use crate::{Edge, Frames, Verdict};

fn frames(pages: &[Mapped]) -> Vec<Pfn> {
    pages.iter().map(|page| page.pfn).collect()
}

fn moves<F: Fixture>(b: &Bench<F>, pages: u64, slots: usize) -> Done {
    let pages = b.pages(pages)?;
    let ran = b.call(&frames(&pages)).batch(slots).run()?;
    same(promise::LISTS, "pages moved", ran.moved.len(), pages.len())?;
    pages.iter().try_for_each(|page| b.is_at(page, ran.moved_to(page.pfn)?))
}

pub(super) fn eight_pages_move_in_one_batch<F: Fixture>(b: &Bench<F>) -> Done {
    moves(b, 8, 8)
}

pub(super) fn eight_pages_move_one_by_one<F: Fixture>(b: &Bench<F>) -> Done {
    moves(b, 8, 1)
}

pub(super) fn batches_need_not_divide_the_pages<F: Fixture>(b: &Bench<F>) -> Done {
    moves(b, 7, 3)
}

pub(super) fn a_batch_may_have_more_room_than_pages<F: Fixture>(b: &Bench<F>) -> Done {
    moves(b, 2, 16)
}

fn neighbours<F: Fixture>(b: &Bench<F>, held: usize) -> Done {
    b.needs(Capabilities::EXTRA_REF)?;
    let pages = b.pages(4)?;
    let Some(stays) = pages.get(held) else { return Ok(()) };
    let holder = b.hold(stays.pfn)?;
    let ran = b.call(&frames(&pages)).run();
    b.backend().put(holder);
    let ran = ran?;
    ran.refused(promise::STAYS, stays.pfn, "extra_reference")?;
    for page in pages.iter().filter(|page| page.pfn != stays.pfn) {
        b.is_at(page, ran.moved_to(page.pfn)?)?;
    }
    b.is_at(stays, stays.pfn)
}

pub(super) fn the_first_of_a_batch_stays_alone<F: Fixture>(b: &Bench<F>) -> Done {
    neighbours(b, 0)
}

pub(super) fn one_in_the_middle_of_a_batch_stays_alone<F: Fixture>(b: &Bench<F>) -> Done {
    neighbours(b, 2)
}

pub(super) fn the_last_of_a_batch_stays_alone<F: Fixture>(b: &Bench<F>) -> Done {
    neighbours(b, 3)
}

pub(super) fn shared_and_single_pages_move_together<F: Fixture>(b: &Bench<F>) -> Done {
    let mut pages = alloc::vec![b.shared()?];
    let near = mm_types::Site::new(
        pages
            .iter()
            .map(|page| page.site().space)
            .next()
            .unwrap_or(mm_types::SpaceId::new(0)),
        mm_types::Vpn::new(0x18),
    );
    let pfn = b.anon(near, true)?;
    b.write(near, 7)?;
    pages.push(Mapped {
        pfn,
        sites: alloc::vec![near],
        value: 7,
    });
    let ran = b.call(&frames(&pages)).run()?;
    pages.iter().try_for_each(|page| b.is_at(page, ran.moved_to(page.pfn)?))
}

/// The steps of a run of four pages, in order.
fn steps<F: Fixture>(b: &Bench<F>) -> Result<Vec<Edge>, super::verdict::Halt> {
    let pages = b.pages(4)?;
    let seen = RefCell::new(Vec::new());
    let hook = |edge: Edge| {
        seen.borrow_mut().push(edge);
        Verdict::Go
    };
    let ran = b.call(&frames(&pages)).hook(&hook).run()?;
    pages
        .iter()
        .try_for_each(|page| b.is_at(page, ran.moved_to(page.pfn)?))?;
    Ok(seen.into_inner())
}

/// Whoever takes entries flushes before anything is copied.
fn copied_after_the_flush(steps: &[Edge]) -> Done {
    let mut flushed = false;
    for edge in steps {
        match edge {
            Edge::Flush => flushed = true,
            Edge::Reserve(_) => flushed = false,
            Edge::Copy { .. } => hold(promise::BARRIERS, flushed, || format!("{edge:?} came before the flush"))?,
            _ => {}
        }
    }
    Ok(())
}

/// Whoever edits entries flushes before any lock opens.
fn unlocked_after_the_flush(steps: &[Edge]) -> Done {
    let mut flushed = true;
    for edge in steps {
        match edge {
            Edge::Flush => flushed = true,
            Edge::Walk(_) => flushed = false,
            Edge::Unlock(_) => hold(promise::BARRIERS, flushed, || format!("{edge:?} came before the flush"))?,
            _ => {}
        }
    }
    Ok(())
}

/// The lock of each new page opens before that of the page that moved into it.
fn new_pages_first(steps: &[Edge]) -> Done {
    let unlocked = |pfn: Pfn| steps.iter().position(|edge| *edge == Edge::Unlock(pfn));
    for edge in steps {
        if let Edge::Copy { old, new } = *edge {
            hold(promise::BARRIERS, unlocked(new) < unlocked(old), || {
                format!("{old:?} was unlocked before {new:?}")
            })?;
        }
    }
    Ok(())
}

pub(super) fn a_barrier_comes_between_the_entries_and_the_copy<F: Fixture>(b: &Bench<F>) -> Done {
    copied_after_the_flush(&steps(b)?)
}

pub(super) fn a_barrier_comes_between_the_entries_and_the_locks<F: Fixture>(b: &Bench<F>) -> Done {
    unlocked_after_the_flush(&steps(b)?)
}

pub(super) fn a_batch_has_two_barriers<F: Fixture>(b: &Bench<F>) -> Done {
    let flushes = steps(b)?.iter().filter(|edge| **edge == Edge::Flush).count();
    let must = match b.profile.rules {
        Rules::Linux2617 => 8,
        Rules::Modern => 2,
    };
    same(promise::BARRIERS, "barriers for four pages", flushes, must)
}

pub(super) fn the_new_pages_lock_opens_before_the_old_ones<F: Fixture>(b: &Bench<F>) -> Done {
    new_pages_first(&steps(b)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Pfn = Pfn::new(1);
    const NEW: Pfn = Pfn::new(2);
    const COPY: Edge = Edge::Copy { old: OLD, new: NEW };

    // The core that is here makes its steps in order, and so no backend could show that these look.
    #[test]
    fn each_order_of_steps_that_leaves_a_barrier_out_is_refused() {
        use Edge::{Flush, Reserve, Unlock, Walk};
        type Check = fn(&[Edge]) -> Done;
        let cases: [(Check, &[Edge], bool); 10] = [
            (copied_after_the_flush, &[Reserve(OLD), Flush, COPY], true),
            (copied_after_the_flush, &[Reserve(OLD), COPY, Flush], false),
            (copied_after_the_flush, &[Flush, Reserve(OLD), COPY], false),
            (copied_after_the_flush, &[COPY], false),
            (unlocked_after_the_flush, &[Walk(OLD), Flush, Unlock(OLD)], true),
            (unlocked_after_the_flush, &[Unlock(OLD)], true),
            (unlocked_after_the_flush, &[Flush, Walk(OLD), Unlock(OLD)], false),
            (new_pages_first, &[COPY, Unlock(NEW), Unlock(OLD)], true),
            (new_pages_first, &[COPY, Unlock(OLD), Unlock(NEW)], false),
            (new_pages_first, &[COPY], false),
        ];
        for (check, steps, holds) in cases {
            assert_eq!(check(steps).is_ok(), holds, "{steps:?}");
        }
    }
}

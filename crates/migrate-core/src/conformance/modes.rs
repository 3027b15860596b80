//! What a run may wait for, and when: async never, light for page locks, sync for writeback and buffers too; in 2006 from pass to
//! pass.

use alloc::{format, vec::Vec};
use core::cell::{Cell, RefCell};

use mm_types::scenario::Mover;
use mm_types::{Mode, Outcome, Pfn, Refusal};

use super::bench::{Bench, Mapped};
use super::call::{Nowait, Ran};
use super::contract as promise;
use super::verdict::{Done, Halt, broken, hold, same};
use crate::fixture::{Capabilities, Fixture};
use crate::{Edge, Frames, Verdict};

fn moves<F: Fixture>(b: &Bench<F>, mode: Mode) -> Done {
    let pages = b.pages(3)?;
    let frames: Vec<Pfn> = pages.iter().map(|page| page.pfn).collect();
    let ran = b.call(&frames).mode(mode).run()?;
    pages.iter().try_for_each(|page| b.is_at(page, ran.moved_to(page.pfn)?))
}

pub(super) fn pages_move_in_mode_async<F: Fixture>(b: &Bench<F>) -> Done {
    moves(b, Mode::Async)
}

pub(super) fn pages_move_in_mode_sync_light<F: Fixture>(b: &Bench<F>) -> Done {
    moves(b, Mode::SyncLight)
}

pub(super) fn pages_move_in_mode_sync<F: Fixture>(b: &Bench<F>) -> Done {
    moves(b, Mode::Sync)
}

pub(super) fn pages_move_in_the_call_that_never_sleeps<F: Fixture>(b: &Bench<F>) -> Done {
    let page = b.page()?;
    let call = Nowait::run(b, page.pfn, 1, Mode::Async)?;
    let tally = call.done.map_err(|error| broken(promise::TYPED, format!("{error}")))?;
    same(promise::LISTS, "pages moved", tally.moved, 1)?;
    b.sees(&page)
}

/// A run over a page that somebody has locked, who lets go when the run sleeps for it; in which pass that was.
fn locked<F: Fixture>(b: &Bench<F>, mode: Mode) -> Result<(Mapped, Ran, bool), Halt> {
    b.needs(Capabilities::LOCK_BY_OTHER.union(Capabilities::MIDDLE))?;
    let page = b.page()?;
    let lock = RefCell::new(Some(b.lock(page.pfn)?));
    let slept = Cell::new(false);
    let open = || {
        if let Some(locked) = lock.take() {
            b.backend().put(b.backend().unlock(locked));
        }
    };
    let hook = |edge: Edge| {
        if matches!(edge, Edge::Lock(_)) {
            slept.set(true);
            open();
        }
        Verdict::Go
    };
    let ran = b.call(&[page.pfn]).mode(mode).hook(&hook).afterwards(&open).run()?;
    Ok((page, ran, slept.get()))
}

pub(super) fn async_does_not_sleep_for_a_page_lock<F: Fixture>(b: &Bench<F>) -> Done {
    let (page, ran, slept) = locked(b, Mode::Async)?;
    same(promise::SLEEPS, "the run slept for the page lock", slept, false)?;
    ran.refused(promise::TRY_LOCK, page.pfn, "lock_busy")?;
    b.is_at(&page, page.pfn)
}

pub(super) fn light_sleeps_for_a_page_lock<F: Fixture>(b: &Bench<F>) -> Done {
    let (page, ran, slept) = locked(b, Mode::SyncLight)?;
    same(promise::LOCK, "the run slept for the page lock", slept, true)?;
    b.is_at(&page, ran.moved_to(page.pfn)?)
}

pub(super) fn a_page_lock_is_slept_for<F: Fixture>(b: &Bench<F>) -> Done {
    let (page, ran, slept) = locked(b, Mode::Sync)?;
    same(promise::LOCK, "the run slept for the page lock", slept, true)?;
    // Three passes try before the first that sleeps, in 2006 and today.
    same(promise::PASSES, "passes", ran.tally.passes, 4)?;
    b.is_at(&page, ran.moved_to(page.pfn)?)
}

pub(super) fn a_page_lock_that_opens_in_time_is_not_slept_for<F: Fixture>(b: &Bench<F>) -> Done {
    b.needs(Capabilities::LOCK_BY_OTHER.union(Capabilities::MIDDLE))?;
    let page = b.page()?;
    let lock = RefCell::new(Some(b.lock(page.pfn)?));
    let (tries, slept) = (Cell::new(0u32), Cell::new(false));
    let open = || {
        if let Some(locked) = lock.take() {
            b.backend().put(b.backend().unlock(locked));
        }
    };
    let hook = |edge: Edge| {
        match edge {
            Edge::TryLock(pfn) if pfn == page.pfn => tries.set(tries.get().saturating_add(1)),
            Edge::Lock(_) => slept.set(true),
            _ => {}
        }
        if tries.get() == 3 || slept.get() {
            open();
        }
        Verdict::Go
    };
    let ran = b.call(&[page.pfn]).hook(&hook).afterwards(&open).run()?;
    same(promise::SLEEPS, "the run slept for the page lock", slept.get(), false)?;
    same(promise::PASSES, "passes", ran.tally.passes, 3)?;
    b.is_at(&page, ran.moved_to(page.pfn)?)
}

/// A run over a page under writeback, which ends when the run sleeps for that.
fn writeback<F: Fixture>(b: &Bench<F>, mode: Mode) -> Result<(Mapped, Ran, bool), Halt> {
    b.needs(Capabilities::WRITEBACK.union(Capabilities::MIDDLE))?;
    let (_, page) = b.file(Mover::Plain)?;
    b.fixture.writeback(page.pfn, true)?;
    let slept = Cell::new(false);
    let ended = RefCell::new(Ok(()));
    let hook = |edge: Edge| {
        if let Edge::WaitWriteback(pfn) = edge {
            slept.set(true);
            *ended.borrow_mut() = b.fixture.writeback(pfn, false);
        }
        Verdict::Go
    };
    let ran = b.call(&[page.pfn]).mode(mode).hook(&hook).run();
    if !slept.get() {
        b.fixture.writeback(page.pfn, false)?;
    }
    ended.into_inner()?;
    Ok((page, ran?, slept.get()))
}

pub(super) fn writeback_is_waited_for<F: Fixture>(b: &Bench<F>) -> Done {
    let (page, ran, slept) = writeback(b, Mode::Sync)?;
    same(promise::SLEEPS, "the run waited for writeback", slept, true)?;
    b.is_at(&page, ran.moved_to(page.pfn)?)
}

pub(super) fn async_does_not_wait_for_writeback<F: Fixture>(b: &Bench<F>) -> Done {
    let (page, ran, slept) = writeback(b, Mode::Async)?;
    same(promise::SLEEPS, "the run waited for writeback", slept, false)?;
    ran.refused(promise::STAYS, page.pfn, "writeback")?;
    b.is_at(&page, page.pfn)
}

pub(super) fn light_does_not_wait_for_writeback<F: Fixture>(b: &Bench<F>) -> Done {
    let (page, ran, slept) = writeback(b, Mode::SyncLight)?;
    same(promise::SLEEPS, "the run waited for writeback", slept, false)?;
    ran.refused(promise::STAYS, page.pfn, "writeback")?;
    b.is_at(&page, page.pfn)
}

pub(super) fn the_first_pass_does_not_wait_for_writeback<F: Fixture>(b: &Bench<F>) -> Done {
    let (page, ran, _) = writeback(b, Mode::Sync)?;
    let first = ran
        .outcomes
        .iter()
        .find(|(pfn, _)| *pfn == page.pfn)
        .map(|(_, outcome)| *outcome);
    same(
        promise::SLEEPS,
        "the first word about the page",
        first,
        Some(Outcome::Retry(Refusal::Writeback)),
    )?;
    same(promise::PASSES, "passes", ran.tally.passes, 2)
}

pub(super) fn no_lock_is_slept_for_while_another_is_held<F: Fixture>(b: &Bench<F>) -> Done {
    b.needs(Capabilities::LOCK_BY_OTHER.union(Capabilities::MIDDLE))?;
    let pages = b.pages(4)?;
    let frames: Vec<Pfn> = pages.iter().map(|page| page.pfn).collect();
    let last = frames.last().copied().unwrap_or(Pfn::new(0));
    let lock = RefCell::new(Some(b.lock(last)?));
    let other = Cell::new(None);
    let open = || {
        if let Some(locked) = lock.take() {
            b.backend().put(b.backend().unlock(locked));
        }
    };
    let hook = |edge: Edge| {
        if let Edge::Lock(slept) = edge {
            let held = |pfn: &&Pfn| {
                **pfn != slept
                    && b.flags(**pfn)
                        .is_ok_and(|flags| flags.contains(mm_types::PageFlags::LOCKED))
            };
            other.set(frames.iter().find(held).copied().or(other.get()));
            open();
        }
        Verdict::Go
    };
    let ran = b.call(&frames).hook(&hook).afterwards(&open).run()?;
    hold(promise::SLEEPS, other.get().is_none(), || {
        format!("{:?} was locked while the run slept for {last:?}", other.get())
    })?;
    pages.iter().try_for_each(|page| b.is_at(page, ran.moved_to(page.pfn)?))
}

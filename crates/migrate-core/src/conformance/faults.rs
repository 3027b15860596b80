//! Threads that touch a page in flight: they sleep, hold nothing, and wake on the page where it is then.

use alloc::format;

use mm_types::scenario::{Edge as At, Mover};

use super::bench::{Bench, Mapped};
use super::call::Ran;
use super::contract as promise;
use super::verdict::{Done, Halt, broken, same};
use crate::fixture::{Access, Capabilities, Fixture};
use crate::{Edge, Verdict};

/// One run in which threads touch every site of the page just before its copy: loads, or stores of `store`.
fn touched<F: Fixture>(b: &Bench<F>, page: &Mapped, threads: u32, store: Option<u64>) -> Result<Ran, Halt> {
    b.needs(Capabilities::FAULT_THREAD)?;
    b.while_moving(page.pfn, At::Copy, || {
        for (actor, site) in (1..=threads).zip(page.sites.iter().cycle()) {
            b.falls_asleep(actor, *site, store)?;
        }
        Ok(())
    })
}

/// Every one of `threads` woke, and has `value`.
fn woke(ran: &Ran, threads: u32, value: u64) -> Done {
    for actor in 1..=threads {
        match ran.woken.get(&actor) {
            None => return Err(broken(promise::UNLOCK, format!("thread {actor} did not wake"))),
            Some(saw) => same(promise::COPY, &format!("what thread {actor} has"), *saw, value)?,
        }
    }
    Ok(())
}

pub(super) fn a_reader_sleeps_and_wakes_on_the_new_page<F: Fixture>(b: &Bench<F>) -> Done {
    let page = b.page()?;
    let ran = touched(b, &page, 1, None)?;
    woke(&ran, 1, page.value)?;
    b.is_at(&page, ran.moved_to(page.pfn)?)
}

pub(super) fn a_writer_sleeps_and_stores_to_the_new_page<F: Fixture>(b: &Bench<F>) -> Done {
    let mut page = b.page()?;
    let ran = touched(b, &page, 1, Some(77))?;
    woke(&ran, 1, 77)?;
    page.value = 77;
    b.is_at(&page, ran.moved_to(page.pfn)?)
}

pub(super) fn many_readers_all_wake<F: Fixture>(b: &Bench<F>) -> Done {
    let page = b.page()?;
    let ran = touched(b, &page, 7, None)?;
    woke(&ran, 7, page.value)?;
    b.is_at(&page, ran.moved_to(page.pfn)?)
}

pub(super) fn readers_at_every_site_all_wake<F: Fixture>(b: &Bench<F>) -> Done {
    let page = b.shared()?;
    let ran = touched(b, &page, 6, None)?;
    woke(&ran, 6, page.value)?;
    b.is_at(&page, ran.moved_to(page.pfn)?)
}

pub(super) fn a_reader_of_a_file_sleeps_and_wakes_on_the_new_page<F: Fixture>(b: &Bench<F>) -> Done {
    let (_, page) = b.file(Mover::Plain)?;
    let ran = touched(b, &page, 1, None)?;
    woke(&ran, 1, page.value)?;
    b.is_at(&page, ran.moved_to(page.pfn)?)
}

pub(super) fn waiters_of_a_page_that_stays_wake_on_the_old_page<F: Fixture>(b: &Bench<F>) -> Done {
    b.needs(Capabilities::FAULT_THREAD.union(Capabilities::MIDDLE))?;
    let page = b.page()?;
    let asleep = core::cell::RefCell::new(None);
    let hook = |edge: Edge| match edge {
        Edge::Freeze(_) => {
            if asleep.borrow().is_none() {
                asleep.replace(Some(
                    (1..=2).try_for_each(|actor| b.falls_asleep(actor, page.site(), None)),
                ));
            }
            Verdict::Fail
        }
        _ => Verdict::Go,
    };
    let ran = b.call(&[page.pfn]).hook(&hook).run()?;
    asleep
        .into_inner()
        .unwrap_or_else(|| Err(broken(promise::BARRIERS, "nothing was frozen")))?;
    ran.refused(promise::STAYS, page.pfn, "extra_reference")?;
    woke(&ran, 2, page.value)?;
    b.is_at(&page, page.pfn)
}

pub(super) fn waiters_hold_no_reference<F: Fixture>(b: &Bench<F>) -> Done {
    b.needs(Capabilities::FAULT_THREAD)?;
    let page = b.page()?;
    let ran = b.while_moving(page.pfn, At::Copy, || {
        for actor in 1..=4 {
            b.falls_asleep(actor, page.site(), None)?;
        }
        same(
            promise::WAIT_ON,
            "references while four threads sleep on the page",
            b.count(page.pfn)?,
            1,
        )
    })?;
    // One attempt is enough, however many wait (I24).
    let first = ran.outcomes.first().copied();
    let to = ran.moved_to(page.pfn)?;
    same(
        promise::WAIT_ON,
        "the first word about the page",
        first,
        Some((page.pfn, mm_types::Outcome::Moved { to })),
    )?;
    woke(&ran, 4, page.value)
}

pub(super) fn waiters_of_2006_hold_a_reference_each_until_they_wake<F: Fixture>(b: &Bench<F>) -> Done {
    b.needs(Capabilities::FAULT_THREAD)?;
    let page = b.page()?;
    // After the barrier, before the references are counted.
    let ran = b.while_moving(page.pfn, At::Freeze, || {
        let before = b.count(page.pfn)?;
        for actor in 1..=2 {
            b.falls_asleep(actor, page.site(), None)?;
        }
        same(
            promise::WAIT_ON,
            "references while two threads sleep on the page",
            b.count(page.pfn)?,
            before.saturating_add(2),
        )
    })?;
    woke(&ran, 2, page.value)?;
    let first = ran
        .outcomes
        .first()
        .map(|(_, outcome)| matches!(outcome, mm_types::Outcome::Retry(_)));
    same(
        promise::WAIT_ON,
        "the first attempt failed for the waiters' references",
        first,
        Some(true),
    )?;
    // Nobody waits any more: now it moves.
    match ran.outcome(page.pfn) {
        Some(mm_types::Outcome::Moved { to }) => b.is_at(&page, to),
        _ => b.moves(&page).map(drop),
    }
}

pub(super) fn a_page_that_is_not_in_flight_is_not_waited_for<F: Fixture>(b: &Bench<F>) -> Done {
    b.needs(Capabilities::FAULT_THREAD)?;
    let page = b.page()?;
    let touched = || -> Done {
        for (actor, store) in [(1, None), (2, Some(page.value))] {
            match b.touch(actor, page.site(), store)? {
                Access::Done(value) => same(promise::COPY, &format!("what thread {actor} has"), value, page.value)?,
                Access::Asleep => {
                    return Err(broken(
                        promise::ASLEEP,
                        format!("thread {actor} sleeps, and nothing is in flight"),
                    ));
                }
            }
        }
        Ok(())
    };
    touched()?;
    b.moves(&page)?;
    touched()
}

pub(super) fn a_thread_that_comes_before_the_locks_open_wakes<F: Fixture>(b: &Bench<F>) -> Done {
    b.needs(Capabilities::FAULT_THREAD)?;
    let mut page = b.page()?;
    let ran = b.while_moving(page.pfn, At::Unlock, || match b.touch(1, page.site(), Some(5))? {
        // The entries are back: the store goes through, or waits for what made it real.
        Access::Done(_) | Access::Asleep => Ok(()),
    })?;
    page.value = 5;
    b.is_at(&page, ran.moved_to(page.pfn)?)
}

pub(super) fn waiters_wake_after_each_of_two_moves<F: Fixture>(b: &Bench<F>) -> Done {
    let mut page = b.page()?;
    for _ in 0..2 {
        let ran = touched(b, &page, 2, None)?;
        woke(&ran, 2, page.value)?;
        page.pfn = ran.moved_to(page.pfn)?;
    }
    b.is_at(&page, page.pfn)
}

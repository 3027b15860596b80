//! Waiting: for a page lock, for writeback, and at an entry that names a page in flight.

use alloc::format;
use alloc::sync::Arc;
use core::cell::Cell;
use core::sync::atomic::{AtomicBool, Ordering};

use mm_types::scenario::{Edge as At, Mover};
use mm_types::{PageFlags, Pfn, Pte};

use super::super::bench::{Bench, Mapped};
use super::super::contract as promise;
use super::super::verdict::{Done, Halt, broken, hold, same};
use crate::fixture::{Capabilities, Fixture};
use crate::{Faults, Frames, Wait};

pub(in super::super) fn a_page_lock_that_is_open_is_taken_at_once<F: Fixture>(b: &Bench<F>) -> Done {
    let page = b.page()?;
    let locked = b.backend().lock(b.hold(page.pfn)?);
    let seen = b.backend().page(&locked);
    let (flags, count) = (b.backend().flags(seen), b.backend().count(seen));
    b.backend().put(b.backend().unlock(locked));
    hold(promise::LOCK, flags.contains(PageFlags::LOCKED), || {
        format!("a page whose lock was slept for has flags {flags}")
    })?;
    same(promise::LOCK, "references of a page whose lock was slept for", count, 2)?;
    same(promise::UNLOCK, "references after the lock", b.count(page.pfn)?, 1)
}

/// Another thread has the lock, and opens it once somebody sleeps for it.
pub(in super::super) fn a_page_lock_that_another_has_is_slept_for<F: Fixture>(b: &Bench<F>) -> Done {
    b.needs(Capabilities::LOCK_BY_OTHER.union(Capabilities::LATER))?;
    let page = b.page()?;
    let (held, opened) = (b.hold(page.pfn)?, Arc::new(AtomicBool::new(false)));
    b.unlock_later(page.pfn, opened.clone())?;
    let locked = b.backend().lock(held);
    let in_time = opened.load(Ordering::Acquire);
    b.backend().put(b.backend().unlock(locked));
    hold(promise::LOCK, in_time, || {
        "a lock that another thread has was taken before it was open".into()
    })
}

pub(in super::super) fn a_page_under_writeback_is_waited_for<F: Fixture>(b: &Bench<F>) -> Done {
    b.needs(Capabilities::WRITEBACK.union(Capabilities::LATER))?;
    let (_, page) = b.file(Mover::Plain)?;
    b.fixture.writeback(page.pfn, true)?;
    b.fixture.end_writeback_later(page.pfn)?;
    let flags = b.with_lock(page.pfn, |backend, locked| {
        backend.wait_writeback(locked);
        backend.flags(backend.page(locked))
    })?;
    hold(promise::WAIT_WRITEBACK, !flags.contains(PageFlags::WRITEBACK), || {
        format!("a page whose writeback was waited for has flags {flags}")
    })
}

pub(in super::super) fn a_page_that_is_not_written_is_not_waited_for<F: Fixture>(b: &Bench<F>) -> Done {
    let page = b.page()?;
    let before = b.looks(page.pfn, &page.sites)?;
    b.with_lock(page.pfn, |backend, locked| backend.wait_writeback(locked))?;
    same(
        promise::WAIT_WRITEBACK,
        "the page",
        b.looks(page.pfn, &page.sites)?,
        before,
    )
}

/// What a wait at the page's site saw of the entry, which wants no sleep, and the references before, while and after it looked.
fn look<F: Fixture>(b: &Bench<F>, page: &Mapped) -> Result<(Pte, [u32; 3]), Halt> {
    let (backend, held) = (b.backend(), b.hold(page.pfn)?);
    let seen = Cell::new(None);
    let before = backend.count(&held);
    backend.wait_on(page.site(), &mut |pte| {
        seen.set(Some((pte, backend.count(&held))));
        None
    });
    let after = backend.count(&held);
    backend.put(held);
    match seen.get() {
        Some((pte, during)) => Ok((pte, [before, during, after])),
        None => Err(broken(
            promise::ASLEEP,
            format!("the entry at {:?} was not looked at", page.site()),
        )),
    }
}

/// Whoever looks holds nothing by that (I24).
fn holds_nothing(references: [u32; 3]) -> Done {
    let [before, ..] = references;
    same(
        promise::WAIT_ON,
        "references before, while and after a thread looked at the entry",
        references,
        [before; 3],
    )
}

pub(in super::super) fn a_thread_that_looks_at_an_entry_in_flight_holds_no_reference<F: Fixture>(b: &Bench<F>) -> Done {
    let page = b.page()?;
    let ran = b.while_moving(page.pfn, At::Copy, || {
        let (pte, references) = look(b, &page)?;
        let names = pte.migration().map(|entry| entry.pfn());
        same(
            promise::ASLEEP,
            "the page in flight that the entry names",
            names,
            Some(page.pfn),
        )?;
        holds_nothing(references)
    })?;
    b.is_at(&page, ran.moved_to(page.pfn)?)
}

pub(in super::super) fn a_thread_that_finds_nothing_in_flight_goes_on<F: Fixture>(b: &Bench<F>) -> Done {
    let mut page = b.page()?;
    for _ in 0..2 {
        let (pte, references) = look(b, &page)?;
        let maps: Option<Pfn> = pte.pfn().filter(|_| pte.is_present());
        same(promise::ASLEEP, "the frame that the entry maps", maps, Some(page.pfn))?;
        holds_nothing(references)?;
        page.pfn = b.moves(&page)?;
    }
    Ok(())
}

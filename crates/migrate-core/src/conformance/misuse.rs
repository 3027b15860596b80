//! Calls that cannot be: each gives a typed error, and nothing is touched or lost.

use alloc::format;

use mm_types::{Mode, Outcome, Reason, Refusal, Rules};

use super::bench::Bench;
use super::call::Nowait;
use super::contract as promise;
use super::verdict::{Done, Halt, broken, hold, same};
use crate::fixture::{Capabilities, Fixture};
use crate::{ConfigError, Frames, OnePage, migrate_page};

/// A call that must not begin: the lists are as they were, and so is the page.
fn cannot_begin<F: Fixture>(b: &Bench<F>, slots: usize, mode: Mode, must: ConfigError) -> Done {
    let page = b.page()?;
    let before = b.looks(page.pfn, &page.sites)?;
    let call = Nowait::run(b, page.pfn, slots, mode)?;
    same(promise::TYPED, "the error", call.done.err(), Some(must))?;
    same(
        promise::TYPED,
        "from, moved, failed, new pages",
        call.lists,
        (1, 0, 0, 1),
    )?;
    same(promise::TYPED, "outcomes told", call.told, 0)?;
    same(promise::TYPED, "the page", b.looks(page.pfn, &page.sites)?, before)?;
    b.moves(&page).map(drop)
}

pub(super) fn a_run_without_slots_touches_nothing<F: Fixture>(b: &Bench<F>) -> Done {
    match b.profile.rules {
        // It would also sleep, which is said first.
        Rules::Linux2617 => cannot_begin(b, 0, Mode::Sync, ConfigError::WouldBlock(Mode::Sync)),
        Rules::Modern => cannot_begin(b, 0, Mode::Async, ConfigError::NoSlots),
    }
}

pub(super) fn a_run_that_would_sleep_and_may_not_touches_nothing<F: Fixture>(b: &Bench<F>) -> Done {
    cannot_begin(b, 1, Mode::Sync, ConfigError::WouldBlock(Mode::Sync))
}

pub(super) fn a_light_run_that_would_sleep_and_may_not_touches_nothing<F: Fixture>(b: &Bench<F>) -> Done {
    cannot_begin(b, 1, Mode::SyncLight, ConfigError::WouldBlock(Mode::SyncLight))
}

pub(super) fn a_new_page_that_somebody_has_locked_is_not_moved_to<F: Fixture>(b: &Bench<F>) -> Done {
    b.needs(Capabilities::LOCK_BY_OTHER)?;
    let page = b.page()?;
    let before = b.looks(page.pfn, &page.sites)?;
    // The caller lent a page in use: its lock cannot be had, now or later.
    let new = b.fixture.new_page()?;
    let lock = b.lock(b.backend().pfn(&new))?;
    let isolated = b.isolate(page.pfn)?;
    let done = migrate_page(
        b.backend(),
        isolated,
        new,
        b.profile,
        Mode::Sync,
        Reason::Compaction,
        b.recording(),
    );
    b.backend().put(b.backend().unlock(lock));
    match done.map_err(|error| broken(promise::TYPED, format!("{error}")))? {
        OnePage::Stayed {
            page: isolated,
            unused: Some(unused),
            refusal,
        } => {
            b.put_back(isolated);
            b.pristine(&unused, promise::ROLLBACK)?;
            b.backend().put(unused);
            same(promise::TRY_LOCK, "the refusal", refusal, Refusal::LockBusy)?;
            same(promise::ROLLBACK, "the page", b.looks(page.pfn, &page.sites)?, before)
        }
        _ => Err(broken(
            promise::TRY_LOCK,
            "the page did not stay, and hand its new page back",
        )),
    }
}

pub(super) fn a_page_that_only_its_caller_holds_is_told_as_freed<F: Fixture>(b: &Bench<F>) -> Done {
    let page = b.fixture.new_page()?;
    let pfn = b.backend().pfn(&page);
    let from = [crate::Isolated::from_isolated(page)].into();
    let ran = b.call(&[]).targets(1).run_isolated(from)?;
    same(promise::LISTS, "the outcome", ran.outcome(pfn), Some(Outcome::Freed))?;
    hold(promise::PUTBACK, b.backend().get(pfn).is_none(), || {
        format!("{pfn:?} is in use, and nobody has it")
    })
}

pub(super) fn a_page_isolated_by_somebody_else_cannot_be_isolated<F: Fixture>(b: &Bench<F>) -> Done {
    let page = b.page()?;
    let first = b.isolate(page.pfn)?;
    let second = b.with(page.pfn, |backend, page| crate::isolate_lru_page(backend, page, ()));
    let refusal = match second? {
        Ok(twice) => {
            b.put_back(twice);
            None
        }
        Err(refusal) => Some(refusal),
    };
    b.put_back(first);
    same(promise::ISOLATE, "the refusal", refusal, Some(Refusal::NotOnLru))?;
    b.moves(&page).map(drop)
}

pub(super) fn a_run_over_no_pages_with_no_new_pages_is_nothing<F: Fixture>(b: &Bench<F>) -> Result<(), Halt> {
    let ran = b.call(&[]).targets(0).run()?;
    same(promise::LISTS, "outcomes", ran.outcomes.len(), 0)
}

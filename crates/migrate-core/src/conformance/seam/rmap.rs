//! Walks: which entries they visit, and when they end; whether a page is mapped.

use alloc::format;
use alloc::vec::Vec;
use core::ops::ControlFlow;

use mm_types::{Pfn, Pte, Site};

use super::super::bench::{Bench, Mapped};
use super::super::contract as promise;
use super::super::verdict::{Done, Halt, broken, hold, same};
use crate::fixture::{Capabilities, Fixture};
use crate::{Frames, Rmap};

/// What a walk of the page shows: every entry that maps it or names it.
fn walk<F: Fixture>(b: &Bench<F>, pfn: Pfn) -> Result<Vec<(Site, Pte)>, Halt> {
    b.with_lock(pfn, |backend, locked| {
        let (mut gather, mut seen) = (backend.gather(), Vec::new());
        backend.walk(locked, &mut gather, &mut |entry| {
            if entry.read().pfn() == Some(pfn) {
                seen.push((entry.site(), entry.read()));
            }
            ControlFlow::Continue(())
        });
        backend.flush(gather);
        seen
    })
}

fn visits_all<F: Fixture>(b: &Bench<F>, page: &Mapped) -> Done {
    let seen = walk(b, page.pfn)?;
    for site in &page.sites {
        let times = seen.iter().filter(|(at, _)| at == site).count();
        hold(promise::WALK, times > 0, || {
            format!("{site:?} maps {:?} and was not visited", page.pfn)
        })?;
        same(promise::WALK_ENDS, &format!("visits of {site:?}"), times, 1)?;
    }
    same(promise::WALK, "entries visited", seen.len(), page.sites.len())?;
    for (site, pte) in seen {
        same(
            promise::WALK,
            &format!("the entry read at {site:?}"),
            pte,
            b.entry(site),
        )?;
    }
    Ok(())
}

pub(in super::super) fn a_walk_visits_the_one_entry_of_a_page<F: Fixture>(b: &Bench<F>) -> Done {
    visits_all(b, &b.page()?)
}

pub(in super::super) fn a_walk_visits_every_entry_of_a_shared_page_once<F: Fixture>(b: &Bench<F>) -> Done {
    visits_all(b, &b.shared()?)
}

pub(in super::super) fn a_walk_visits_the_entries_of_a_fork<F: Fixture>(b: &Bench<F>) -> Done {
    b.needs(Capabilities::FORK.union(Capabilities::SEVERAL_SPACES))?;
    let mut page = b.page()?;
    let child = b.fixture.fork(page.site().space)?;
    page.sites.push(Site::new(child, page.site().page));
    visits_all(b, &page)
}

pub(in super::super) fn a_walk_finds_an_entry_that_was_moved<F: Fixture>(b: &Bench<F>) -> Done {
    b.needs(Capabilities::REMAP)?;
    let mut page = b.page()?;
    let to = Site::new(page.site().space, mm_types::Vpn::new(0x20));
    b.fixture.remap(page.site(), to)?;
    page.sites = alloc::vec![to];
    visits_all(b, &page)
}

pub(in super::super) fn a_walk_ends_when_it_is_told<F: Fixture>(b: &Bench<F>) -> Done {
    let page = b.shared()?;
    let visits = b.with_lock(page.pfn, |backend, locked| {
        let (mut gather, mut visits) = (backend.gather(), 0u32);
        backend.walk(locked, &mut gather, &mut |_| {
            visits = visits.saturating_add(1);
            ControlFlow::Break(())
        });
        backend.flush(gather);
        visits
    })?;
    same(
        promise::WALK_ENDS,
        "visits of a walk that was ended by the first",
        visits,
        1,
    )
}

pub(in super::super) fn a_mapped_page_is_told_as_mapped<F: Fixture>(b: &Bench<F>) -> Done {
    let page = b.page()?;
    same(
        promise::IS_MAPPED,
        "a page with one entry",
        b.with_lock(page.pfn, |backend, page| backend.is_mapped(page))?,
        true,
    )?;
    let new = b.fixture.new_page()?;
    let Ok(new) = b.backend().try_lock(new) else {
        return Err(broken(promise::TRY_LOCK, "a new page is locked"));
    };
    let mapped = b.backend().is_mapped(&new);
    b.backend().put(b.backend().unlock(new));
    same(promise::IS_MAPPED, "a page without entries", mapped, false)
}

//! Pages in the swap cache: migration entries today, swap entries and a fault in 2006.

use alloc::format;

use mm_types::scenario::Edge as At;
use mm_types::{Rules, Site};

use super::bench::{Bench, Mapped, VALUE};
use super::contract as promise;
use super::verdict::{Done, Halt, broken, hold, same};
use crate::Cache;
use crate::fixture::{Capabilities, Fixture};

fn cached<F: Fixture>(b: &Bench<F>) -> Result<Mapped, Halt> {
    b.needs(Capabilities::SWAP_CACHE)?;
    let mut pages = b.pages(2)?;
    for page in &pages {
        b.fixture.swap_cache(page.pfn)?;
    }
    // Not the first slot, whose number a page that was never given its own may seem to have.
    pages.pop().ok_or(broken(promise::DONE, "no page"))
}

/// Moves the page, and sees what is in it, by fault where the entries became swap entries.
fn moves<F: Fixture>(b: &Bench<F>, page: &Mapped) -> Result<mm_types::Pfn, Halt> {
    let to = b.call(&[page.pfn]).run()?.moved_to(page.pfn)?;
    b.sees(page)?;
    b.is_at(page, to)?;
    Ok(to)
}

pub(super) fn a_page_in_the_swap_cache_moves_with_its_contents<F: Fixture>(b: &Bench<F>) -> Done {
    moves(b, &cached(b)?).map(drop)
}

pub(super) fn a_page_in_the_swap_cache_keeps_its_slot<F: Fixture>(b: &Bench<F>) -> Done {
    let page = cached(b)?;
    let before = b.with_lock(page.pfn, |backend, locked| backend.swap_entry(locked))?;
    let to = moves(b, &page)?;
    let after = b.with_lock(to, |backend, locked| backend.swap_entry(locked))?;
    hold(promise::SWAP_ENTRY, before.is_some(), || {
        format!("{:?} is in the swap cache, and has no slot", page.pfn)
    })?;
    same(promise::SWAP_ENTRY, "the slot in swap", after, before)
}

pub(super) fn a_page_in_the_swap_cache_has_one_slot_in_it<F: Fixture>(b: &Bench<F>) -> Done {
    let page = cached(b)?;
    same(
        promise::SLOTS,
        "cache slots",
        b.with_lock(page.pfn, |backend, locked| backend.slots(locked))?,
        1,
    )?;
    let to = moves(b, &page)?;
    same(
        promise::SLOTS,
        "cache slots after",
        b.with_lock(to, |backend, locked| backend.slots(locked))?,
        1,
    )
}

pub(super) fn entries_of_the_swap_cache_are_what_the_profile_says<F: Fixture>(b: &Bench<F>) -> Done {
    let page = cached(b)?;
    b.while_moving(page.pfn, At::Freeze, || {
        let pte = b.entry(page.site());
        let holds = match b.profile.rules {
            Rules::Linux2617 => matches!(pte, mm_types::Pte::Swap { .. }),
            Rules::Modern => pte.is_migration(),
        };
        hold(promise::SWAP_ENTRY, holds, || {
            format!("{:?} has {pte:?} in flight", page.site())
        })
    })?;
    b.sees(&page)
}

pub(super) fn a_shared_page_in_the_swap_cache_moves_for_both_sides_of_a_fork<F: Fixture>(b: &Bench<F>) -> Done {
    b.needs(Capabilities::FORK.union(Capabilities::SEVERAL_SPACES))?;
    let mut page = cached(b)?;
    let child = b.fixture.fork(page.site().space)?;
    page.sites.push(Site::new(child, page.site().page));
    moves(b, &page)?;
    b.write(page.site(), !VALUE)?;
    same(
        promise::FORK,
        "what the child sees",
        page.sites.last().map(|site| b.read(*site)).transpose()?,
        Some(page.value),
    )
}

pub(super) fn a_store_after_the_move_goes_to_the_page<F: Fixture>(b: &Bench<F>) -> Done {
    let page = cached(b)?;
    moves(b, &page)?;
    b.write(page.site(), !VALUE)?;
    same(promise::MAPPED, "what was stored", b.read(page.site())?, !VALUE)
}

pub(super) fn a_refused_page_in_the_swap_cache_is_still_there<F: Fixture>(b: &Bench<F>) -> Done {
    b.needs(Capabilities::EXTRA_REF)?;
    let page = cached(b)?;
    b.refuses_held(&page)?;
    b.sees(&page)
}

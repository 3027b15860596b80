//! The reference ledger, moment by moment: k entries map the page, c cache slots hold it, p is its private data's.

use alloc::format;

use mm_types::scenario::{Edge as At, Mover};
use mm_types::trace::Event;
use mm_types::{Outcome, Pfn, Refusal};

use super::bench::{Bench, Mapped};
use super::contract as promise;
use super::verdict::{Done, Halt, same};
use crate::fixture::{Capabilities, Fixture};
use crate::{Edge, Verdict};

/// What holds the page beside its entries.
struct Kept {
    page: Mapped,
    slots: u32,
    private: u32,
}

impl Kept {
    const fn beside(&self) -> u32 {
        self.slots.saturating_add(self.private)
    }
}

fn anon<F: Fixture>(b: &Bench<F>) -> Result<Kept, Halt> {
    Ok(Kept {
        page: b.page()?,
        slots: 0,
        private: 0,
    })
}

fn shared<F: Fixture>(b: &Bench<F>) -> Result<Kept, Halt> {
    Ok(Kept {
        page: b.shared()?,
        slots: 0,
        private: 0,
    })
}

fn file<F: Fixture>(b: &Bench<F>) -> Result<Kept, Halt> {
    Ok(Kept {
        page: b.file(Mover::Plain)?.1,
        slots: 1,
        private: 0,
    })
}

fn buffers<F: Fixture>(b: &Bench<F>) -> Result<Kept, Halt> {
    Ok(Kept {
        page: b.file(Mover::Buffers)?.1,
        slots: 1,
        private: 1,
    })
}

fn swapped<F: Fixture>(b: &Bench<F>) -> Result<Kept, Halt> {
    b.needs(Capabilities::SWAP_CACHE)?;
    let page = b.page()?;
    b.fixture.swap_cache(page.pfn)?;
    Ok(Kept {
        page,
        slots: 1,
        private: 0,
    })
}

/// §1.16, every row, by looking between the steps of a run.
fn rows<F: Fixture>(b: &Bench<F>, kept: &Kept) -> Done {
    let (page, k) = (&kept.page, kept.page.entries());
    same(
        promise::LEDGER,
        "before: references",
        b.count(page.pfn)?,
        k.saturating_add(kept.beside()),
    )?;
    let isolated = b.isolate(page.pfn)?;
    same(
        promise::ISOLATE,
        "after isolation: references",
        b.count(page.pfn)?,
        k.saturating_add(kept.beside()).saturating_add(1),
    )?;
    b.put_back(isolated);
    same(
        promise::PUTBACK,
        "after putback: references",
        b.count(page.pfn)?,
        k.saturating_add(kept.beside()),
    )?;
    b.needs(Capabilities::MIDDLE)?;
    // Unmapped: only the isolation, the cache and the private data hold the page.
    let ran = b.while_moving(page.pfn, At::Freeze, || {
        let found = b.count(page.pfn)?;
        same(
            promise::LEDGER,
            "after unmapping: references",
            found,
            kept.beside().saturating_add(1),
        )?;
        let mapped = page.sites.iter().filter(|site| b.entry(**site).maps(page.pfn)).count();
        same(promise::WALK, "after unmapping: entries that map the page", mapped, 0)
    })?;
    let to = ran.moved_to(page.pfn)?;
    // Not in 2006's way with the swap cache: the entries come back by fault, when they are read.
    b.sees(page)?;
    same(
        promise::LEDGER,
        "at the end: references",
        b.count(to)?,
        k.saturating_add(kept.beside()),
    )
}

pub(super) fn an_anonymous_page_has_the_references_of_every_row<F: Fixture>(b: &Bench<F>) -> Done {
    rows(b, &anon(b)?)
}

pub(super) fn a_page_of_three_sites_has_the_references_of_every_row<F: Fixture>(b: &Bench<F>) -> Done {
    rows(b, &shared(b)?)
}

pub(super) fn a_page_of_a_file_has_the_references_of_every_row<F: Fixture>(b: &Bench<F>) -> Done {
    rows(b, &file(b)?)
}

pub(super) fn a_page_with_buffers_has_the_references_of_every_row<F: Fixture>(b: &Bench<F>) -> Done {
    rows(b, &buffers(b)?)
}

pub(super) fn a_page_in_the_swap_cache_has_the_references_of_every_row<F: Fixture>(b: &Bench<F>) -> Done {
    rows(b, &swapped(b)?)
}

/// What the two pages have while their locks are about to open.
fn switched<F: Fixture>(b: &Bench<F>, kept: &Kept) -> Done {
    b.needs(Capabilities::MIDDLE)?;
    let page = &kept.page;
    let seen = core::cell::RefCell::new(alloc::vec::Vec::new());
    let hook = |edge: Edge| {
        if let Edge::Unlock(pfn) = edge {
            seen.borrow_mut().push((pfn, b.count(pfn)));
        }
        Verdict::Go
    };
    let ran = b.call(&[page.pfn]).hook(&hook).run()?;
    let to = ran.moved_to(page.pfn)?;
    let seen = seen.into_inner();
    let at = |at: Pfn| {
        seen.iter()
            .rev()
            .find(|(pfn, _)| *pfn == at)
            .map_or(Ok(0), |(_, count)| count.clone())
    };
    // The swap cache's page of 2006 has its entries back by fault, later.
    let mapped = page.sites.iter().filter(|site| b.entry(**site).maps(to)).count();
    let entries = u32::try_from(mapped).unwrap_or(u32::MAX);
    same(
        promise::UNFREEZE,
        "the old page before its lock opens: references",
        at(page.pfn)?,
        1,
    )?;
    same(
        promise::SWITCH,
        "the new page before its lock opens: references",
        at(to)?,
        entries.saturating_add(kept.beside()).saturating_add(1),
    )
}

pub(super) fn an_anonymous_page_gives_its_entries_references_to_the_new_page<F: Fixture>(b: &Bench<F>) -> Done {
    switched(b, &anon(b)?)
}

pub(super) fn a_page_of_three_sites_gives_its_entries_references_to_the_new_page<F: Fixture>(b: &Bench<F>) -> Done {
    switched(b, &shared(b)?)
}

pub(super) fn a_page_of_a_file_gives_its_caches_reference_to_the_new_page<F: Fixture>(b: &Bench<F>) -> Done {
    switched(b, &file(b)?)
}

pub(super) fn a_page_with_buffers_gives_their_reference_to_the_new_page<F: Fixture>(b: &Bench<F>) -> Done {
    switched(b, &buffers(b)?)
}

pub(super) fn a_page_in_the_swap_cache_gives_its_caches_reference_to_the_new_page<F: Fixture>(b: &Bench<F>) -> Done {
    switched(b, &swapped(b)?)
}

pub(super) fn a_new_page_has_one_reference_until_the_switch<F: Fixture>(b: &Bench<F>) -> Done {
    b.needs(Capabilities::MIDDLE)?;
    let page = b.page()?;
    let seen = core::cell::RefCell::new(None);
    let new_page = |event| match event {
        Event::NewPage { new, .. } => Some(new),
        _ => None,
    };
    let hook = |edge: Edge| {
        if let (Edge::Freeze(_), Some(new)) = (edge, b.recording().events().find_map(new_page)) {
            seen.replace(Some(b.count(new)));
        }
        Verdict::Go
    };
    let ran = b.call(&[page.pfn]).hook(&hook).run()?;
    ran.moved_to(page.pfn)?;
    same(
        promise::NEW_PAGE,
        "the new page before the switch: references",
        seen.into_inner().unwrap_or(Ok(0))?,
        1,
    )
}

pub(super) fn a_refused_page_has_its_references_again<F: Fixture>(b: &Bench<F>) -> Done {
    b.needs(Capabilities::EXTRA_REF)?;
    let page = b.shared()?;
    let before = b.count(page.pfn)?;
    let held = b.hold(page.pfn)?;
    let ran = b.call(&[page.pfn]).run();
    crate::Frames::put(b.backend(), held);
    let found = ran?.outcome(page.pfn);
    let must = Some(Outcome::Refused(Refusal::ExtraReference { expected: 1, found: 2 }));
    same(promise::LEDGER, "the refusal", found, must)?;
    same(promise::LEDGER, "references", b.count(page.pfn)?, before)
}

pub(super) fn the_expected_count_of_a_page_of_a_file_has_its_caches_reference<F: Fixture>(b: &Bench<F>) -> Done {
    b.needs(Capabilities::EXTRA_REF)?;
    let kept = file(b)?;
    let pfn = kept.page.pfn;
    let held = b.hold(pfn)?;
    let ran = b.call(&[pfn]).run();
    crate::Frames::put(b.backend(), held);
    let must = Some(Outcome::Refused(Refusal::ExtraReference { expected: 2, found: 3 }));
    same(promise::SLOTS, "the refusal", ran?.outcome(pfn), must)
}

pub(super) fn an_old_page_that_nobody_wants_is_freed<F: Fixture>(b: &Bench<F>) -> Done {
    let page = b.page()?;
    let to = b.moves(&page)?;
    super::verdict::hold(
        promise::PUT,
        crate::Frames::get(b.backend(), page.pfn).is_none(),
        || format!("{:?} is in use after it moved to {to:?}", page.pfn),
    )?;
    same(
        promise::PUTBACK,
        "references of the new page, on its list",
        b.count(to)?,
        1,
    )
}

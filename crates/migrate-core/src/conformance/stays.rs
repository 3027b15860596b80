//! Pages that must not move: refused by their rule, and left as they are.

use mm_types::scenario::Mover;
use mm_types::{Outcome, PageFlags, Refusal, Rules};

use super::bench::{Bench, Mapped};
use super::contract as promise;
use super::verdict::{Done, Halt, same};
use crate::fixture::{Capabilities, Fixture};
use crate::{Edge, Frames, Verdict};

/// A run over a page that must stay by `rule`; afterwards it looks as before.
fn stays<F: Fixture>(b: &Bench<F>, page: &Mapped, contract: promise::Contract, rule: &str) -> Done {
    let before = b.looks(page.pfn, &page.sites)?;
    let ran = b.call(&[page.pfn]).run()?;
    ran.refused(contract, page.pfn, rule)?;
    same(
        promise::ROLLBACK,
        "the page that stayed",
        b.looks(page.pfn, &page.sites)?,
        before,
    )?;
    b.is_at(page, page.pfn)
}

fn pinned<F: Fixture>(b: &Bench<F>, pins: u32) -> Result<Mapped, Halt> {
    b.needs(Capabilities::PIN)?;
    let page = b.page()?;
    for _ in 0..pins {
        b.fixture.pin(page.pfn)?;
    }
    Ok(page)
}

pub(super) fn a_pinned_page_stays<F: Fixture>(b: &Bench<F>) -> Done {
    let page = pinned(b, 1)?;
    stays(b, &page, promise::PINS, "pinned")?;
    b.fixture.unpin(page.pfn)
}

pub(super) fn a_pinned_page_says_how_many_pins_it_has<F: Fixture>(b: &Bench<F>) -> Done {
    let page = pinned(b, 3)?;
    let pins = b.with(page.pfn, |backend, page| backend.pins(page))?;
    let ran = b.call(&[page.pfn]).run()?;
    for _ in 0..3 {
        b.fixture.unpin(page.pfn)?;
    }
    same(promise::PINS, "pins", pins, 3)?;
    same(
        promise::PINS,
        "the refusal",
        ran.outcome(page.pfn),
        Some(Outcome::Refused(Refusal::Pinned { pins: 3 })),
    )
}

pub(super) fn a_pinned_pages_entries_are_never_taken<F: Fixture>(b: &Bench<F>) -> Done {
    let page = pinned(b, 1)?;
    let touched = core::cell::Cell::new(false);
    let hook = |edge: Edge| {
        if let Edge::Reserve(_) | Edge::Walk(_) = edge {
            touched.set(true);
        }
        Verdict::Go
    };
    b.call(&[page.pfn]).hook(&hook).run()?;
    b.fixture.unpin(page.pfn)?;
    same(
        promise::PINS,
        "entries of a pinned page were touched",
        touched.get(),
        false,
    )
}

pub(super) fn an_unpinned_page_moves_again<F: Fixture>(b: &Bench<F>) -> Done {
    let page = pinned(b, 2)?;
    b.fixture.unpin(page.pfn)?;
    stays(b, &page, promise::PINS, "pinned")?;
    b.fixture.unpin(page.pfn)?;
    b.moves(&page).map(drop)
}

pub(super) fn a_page_somebody_holds_stays<F: Fixture>(b: &Bench<F>) -> Done {
    b.needs(Capabilities::EXTRA_REF)?;
    let page = b.shared()?;
    let held = b.hold(page.pfn)?;
    let done = stays(b, &page, promise::FREEZE, "extra_reference");
    b.backend().put(held);
    done
}

pub(super) fn a_page_moves_once_its_holder_lets_go<F: Fixture>(b: &Bench<F>) -> Done {
    b.needs(Capabilities::EXTRA_REF)?;
    let page = b.page()?;
    let held = b.hold(page.pfn)?;
    let done = stays(b, &page, promise::FREEZE, "extra_reference");
    b.backend().put(held);
    done?;
    b.moves(&page).map(drop)
}

pub(super) fn a_reference_taken_before_the_freeze_keeps_the_page<F: Fixture>(b: &Bench<F>) -> Done {
    b.needs(Capabilities::EXTRA_REF.union(Capabilities::MIDDLE))?;
    let page = b.page()?;
    let held = core::cell::RefCell::new(alloc::vec::Vec::new());
    let hook = |edge: Edge| {
        if matches!(edge, Edge::Freeze(_)) && held.borrow().is_empty() {
            held.borrow_mut().extend(b.backend().get(page.pfn));
        }
        Verdict::Go
    };
    let ran = b.call(&[page.pfn]).hook(&hook).run();
    let taken = held.into_inner();
    let count = taken.len();
    taken.into_iter().for_each(|page| b.backend().put(page));
    same(promise::GET, "references got before the freeze", count, 1)?;
    ran?.refused(promise::FREEZE, page.pfn, "extra_reference")?;
    b.is_at(&page, page.pfn)
}

pub(super) fn a_page_on_a_bad_frame_stays_and_is_not_read<F: Fixture>(b: &Bench<F>) -> Done {
    let page = b.page()?;
    let set = |set, clear| {
        b.with_lock(page.pfn, |backend, locked| backend.edit_flags(locked, set, clear))
            .map(drop)
    };
    set(PageFlags::HWPOISON, PageFlags::empty())?;
    let read = core::cell::Cell::new(false);
    let hook = |edge: Edge| {
        if let Edge::Copy { .. } = edge {
            read.set(true);
        }
        Verdict::Go
    };
    let ran = b.call(&[page.pfn]).hook(&hook).run();
    set(PageFlags::empty(), PageFlags::HWPOISON)?;
    ran?.refused(promise::STAYS, page.pfn, "poisoned")?;
    same(promise::STAYS, "a bad frame was read", read.get(), false)?;
    b.is_at(&page, page.pfn)
}

pub(super) fn an_mlocked_page_stays_in_2006_and_moves_today<F: Fixture>(b: &Bench<F>) -> Done {
    b.needs(Capabilities::MLOCK)?;
    let page = b.page()?;
    b.fixture.mlock(page.site())?;
    match b.profile.rules {
        Rules::Linux2617 => stays(b, &page, promise::STAYS, "mlocked"),
        Rules::Modern => b.moves(&page).map(drop),
    }
}

pub(super) fn an_mlocked_site_among_several_keeps_all_of_them_as_they_were<F: Fixture>(b: &Bench<F>) -> Done {
    b.needs(Capabilities::MLOCK)?;
    let page = b.shared()?;
    let Some(last) = page.sites.last().copied() else {
        return Ok(());
    };
    b.fixture.mlock(last)?;
    match b.profile.rules {
        Rules::Linux2617 => stays(b, &page, promise::STAYS, "mlocked"),
        Rules::Modern => b.moves(&page).map(drop),
    }
}

pub(super) fn a_page_whose_file_forbids_it_stays<F: Fixture>(b: &Bench<F>) -> Done {
    let (_, page) = b.file(Mover::Never)?;
    stays(b, &page, promise::MOVER, "never_moves")
}

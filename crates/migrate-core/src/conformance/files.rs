//! Pages of files: the cache's slot, dirtiness, buffers, writing.

use alloc::format;
use core::cell::RefCell;

use mm_types::scenario::Mover;
use mm_types::{Mode, PageFlags, Rules, Site};

use super::bench::{Bench, VALUE};
use super::contract as promise;
use super::verdict::{Done, hold, same};
use crate::fixture::{Capabilities, Fixture};
use crate::{Edge, Verdict};

pub(super) fn the_cache_holds_the_new_page_afterwards<F: Fixture>(b: &Bench<F>) -> Done {
    let (file, page) = b.file(Mover::Plain)?;
    same(
        promise::SWITCH,
        "the cached page before",
        b.fixture.cached(file, 1)?,
        Some(page.pfn),
    )?;
    let to = b.moves(&page)?;
    same(
        promise::SWITCH,
        "the cached page after",
        b.fixture.cached(file, 1)?,
        Some(to),
    )
}

pub(super) fn the_cache_holds_one_of_the_two_at_every_step<F: Fixture>(b: &Bench<F>) -> Done {
    b.needs(Capabilities::FILE.union(Capabilities::MIDDLE))?;
    let (file, page) = b.file(Mover::Plain)?;
    let seen = RefCell::new(alloc::vec::Vec::new());
    let hook = |edge: Edge| {
        seen.borrow_mut().push((edge, b.fixture.cached(file, 1)));
        Verdict::Go
    };
    let to = b.call(&[page.pfn]).hook(&hook).run()?.moved_to(page.pfn)?;
    let mut switched = false;
    for (edge, cached) in seen.into_inner() {
        let cached = cached?;
        switched |= cached == Some(to);
        let must = if switched { to } else { page.pfn };
        same(
            promise::SWITCH,
            &format!("the cached page at {edge:?}"),
            cached,
            Some(must),
        )?;
    }
    same(promise::SWITCH, "the slot was seen switched", switched, true)
}

pub(super) fn a_refused_page_stays_in_the_cache<F: Fixture>(b: &Bench<F>) -> Done {
    b.needs(Capabilities::EXTRA_REF)?;
    let (file, page) = b.file(Mover::Plain)?;
    b.refuses_held(&page)?;
    same(
        promise::SWITCH,
        "the cached page",
        b.fixture.cached(file, 1)?,
        Some(page.pfn),
    )
}

pub(super) fn a_page_of_a_file_that_nobody_maps_moves<F: Fixture>(b: &Bench<F>) -> Done {
    b.needs(Capabilities::UNMAP)?;
    let (file, page) = b.file(Mover::Plain)?;
    b.fixture.unmap(page.site())?;
    let to = b.call(&[page.pfn]).run()?.moved_to(page.pfn)?;
    same(promise::SWITCH, "the cached page", b.fixture.cached(file, 1)?, Some(to))?;
    same(promise::LEDGER, "references", b.count(to)?, 1)
}

pub(super) fn a_page_of_a_file_moves_at_every_site<F: Fixture>(b: &Bench<F>) -> Done {
    b.needs(Capabilities::SHARED.union(Capabilities::SEVERAL_SPACES))?;
    let (_, mut page) = b.file(Mover::Plain)?;
    let to = Site::new(b.space()?, page.site().page);
    b.share(page.pfn, to, false)?;
    page.sites.push(to);
    b.moves(&page).map(drop)
}

pub(super) fn a_dirty_entry_stays_dirty<F: Fixture>(b: &Bench<F>) -> Done {
    b.needs(Capabilities::DIRTY_FILE)?;
    let (_, mut page) = b.file(Mover::Plain)?;
    page.value = VALUE;
    b.write(page.site(), VALUE)?;
    let to = b.moves(&page)?;
    hold(promise::BEFORE, b.dirty(to, &page.sites)?, || {
        format!(
            "{:?} was dirty, and {to:?} is clean: what was stored would be forgotten",
            page.pfn
        )
    })
}

pub(super) fn a_dirty_page_stays_dirty<F: Fixture>(b: &Bench<F>) -> Done {
    b.needs(Capabilities::DIRTY_FILE)?;
    let (_, page) = b.file(Mover::Plain)?;
    b.fixture.dirty(page.pfn)?;
    let to = b.moves(&page)?;
    hold(promise::DIRTY, b.dirty(to, &page.sites)?, || {
        format!("{:?} was dirty, and {to:?} is clean", page.pfn)
    })
}

pub(super) fn a_clean_page_stays_clean<F: Fixture>(b: &Bench<F>) -> Done {
    let (_, page) = b.file(Mover::Plain)?;
    let to = b.moves(&page)?;
    hold(promise::DIRTINESS, !b.dirty(to, &page.sites)?, || {
        format!("{:?} was clean, and {to:?} is dirty", page.pfn)
    })
}

pub(super) fn a_dirty_page_that_is_refused_stays_dirty<F: Fixture>(b: &Bench<F>) -> Done {
    b.needs(Capabilities::DIRTY_FILE.union(Capabilities::EXTRA_REF))?;
    let (_, page) = b.file(Mover::Plain)?;
    b.write(page.site(), VALUE)?;
    b.refuses_held(&page)?;
    hold(promise::BEFORE, b.dirty(page.pfn, &page.sites)?, || {
        format!("{:?} was dirty, and is clean", page.pfn)
    })
}

pub(super) fn storage_is_not_touched_by_a_move<F: Fixture>(b: &Bench<F>) -> Done {
    b.needs(Capabilities::DIRTY_FILE)?;
    let (file, page) = b.file(Mover::Plain)?;
    let stored = b.fixture.stored(file, 1)?;
    b.write(page.site(), VALUE)?;
    b.call(&[page.pfn]).run()?.moved_to(page.pfn)?;
    same(
        promise::DIRTINESS,
        "what storage holds",
        b.fixture.stored(file, 1)?,
        stored,
    )
}

pub(super) fn buffers_move_along<F: Fixture>(b: &Bench<F>) -> Done {
    let (file, page) = b.file(Mover::Buffers)?;
    let before = b.flags(page.pfn)?;
    let to = b.moves(&page)?;
    hold(promise::BUFFERS, before.contains(PageFlags::PRIVATE), || {
        format!("a page with buffers has flags {before}")
    })?;
    let after = b.flags(to)?;
    hold(promise::BUFFERS, after.contains(PageFlags::PRIVATE), || {
        format!("the new page has flags {after}")
    })?;
    same(promise::BUFFERS, "references", b.count(to)?, 3)?;
    same(promise::SWITCH, "the cached page", b.fixture.cached(file, 1)?, Some(to))
}

pub(super) fn buffers_can_be_used_after_the_move<F: Fixture>(b: &Bench<F>) -> Done {
    let (_, mut page) = b.file(Mover::Buffers)?;
    for _ in 0..2 {
        page.pfn = b.moves(&page)?;
        b.fixture.buffers_busy(page.pfn, true)?;
        b.fixture.buffers_busy(page.pfn, false)?;
    }
    Ok(())
}

pub(super) fn a_busy_buffer_is_waited_for<F: Fixture>(b: &Bench<F>) -> Done {
    b.needs(Capabilities::MIDDLE)?;
    let (_, page) = b.file(Mover::Buffers)?;
    b.fixture.buffers_busy(page.pfn, true)?;
    let freed = RefCell::new(None);
    let hook = |edge: Edge| {
        if matches!(edge, Edge::WaitBuffers(_)) {
            freed.replace(Some(b.fixture.buffers_busy(page.pfn, false)));
        }
        Verdict::Go
    };
    let ran = b.call(&[page.pfn]).hook(&hook).run();
    match freed.into_inner() {
        Some(done) => done?,
        None => b.fixture.buffers_busy(page.pfn, false)?,
    }
    let ran = ran?;
    b.is_at(&page, ran.moved_to(page.pfn)?)
}

pub(super) fn async_refuses_a_page_with_a_busy_buffer<F: Fixture>(b: &Bench<F>) -> Done {
    let (_, page) = b.file(Mover::Buffers)?;
    b.fixture.buffers_busy(page.pfn, true)?;
    let ran = b.call(&[page.pfn]).mode(Mode::Async).run();
    let refused = ran.and_then(|ran| ran.refused(promise::LOCK_BUFFERS, page.pfn, "buffers_busy"));
    let freed = b.fixture.buffers_busy(page.pfn, false);
    // Where the page moved, nobody can say whose buffers those are.
    refused.and(freed)?;
    b.is_at(&page, page.pfn)
}

pub(super) fn a_clean_page_without_a_mover_moves<F: Fixture>(b: &Bench<F>) -> Done {
    let (_, page) = b.file(Mover::Fallback)?;
    b.moves(&page).map(drop)
}

pub(super) fn a_dirty_page_without_a_mover_is_written_in_2006_and_stays_today<F: Fixture>(b: &Bench<F>) -> Done {
    let (file, mut page) = b.file(Mover::Fallback)?;
    page.value = VALUE;
    b.write(page.site(), VALUE)?;
    let ran = b.call(&[page.pfn]).run()?;
    match b.profile.rules {
        Rules::Linux2617 => {
            same(
                promise::WRITEOUT,
                "what storage holds",
                b.fixture.stored(file, 1)?,
                VALUE,
            )?;
            b.is_at(&page, ran.moved_to(page.pfn)?)
        }
        Rules::Modern => {
            ran.refused(promise::MOVER, page.pfn, "dirty")?;
            hold(promise::BEFORE, b.dirty(page.pfn, &page.sites)?, || {
                format!("{:?} was dirty, and is clean", page.pfn)
            })?;
            b.is_at(&page, page.pfn)
        }
    }
}

pub(super) fn a_dirty_page_that_cannot_be_written_stays_dirty<F: Fixture>(b: &Bench<F>) -> Done {
    b.needs(Capabilities::DIRTY_FILE)?;
    let (_, mut page) = b.file(Mover::FallbackNowrite)?;
    page.value = VALUE;
    b.write(page.site(), VALUE)?;
    let rule = match b.profile.rules {
        Rules::Linux2617 => "no_writepage",
        Rules::Modern => "dirty",
    };
    b.call(&[page.pfn]).run()?.refused(promise::MOVER, page.pfn, rule)?;
    hold(promise::BEFORE, b.dirty(page.pfn, &page.sites)?, || {
        format!("{:?} was dirty, and is clean", page.pfn)
    })?;
    b.is_at(&page, page.pfn)
}

pub(super) fn a_page_that_could_not_be_written_is_dirty_again<F: Fixture>(b: &Bench<F>) -> Done {
    let (_, mut page) = b.file(Mover::Fallback)?;
    page.value = VALUE;
    b.write(page.site(), VALUE)?;
    let hook = |edge: Edge| match edge {
        Edge::Writeout(_) => Verdict::Fail,
        _ => Verdict::Go,
    };
    b.call(&[page.pfn])
        .hook(&hook)
        .run()?
        .refused(promise::WRITEOUT, page.pfn, "write_failed")?;
    hold(promise::DIRTY, b.dirty(page.pfn, &page.sites)?, || {
        format!("{:?} was dirty, and is clean", page.pfn)
    })?;
    b.is_at(&page, page.pfn)
}

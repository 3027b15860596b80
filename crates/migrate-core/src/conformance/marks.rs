//! What a page and its entries remember beside contents and permission: flags, dirtiness.

use alloc::format;

use mm_types::PageFlags;
use mm_types::transfer::transfer;

use super::bench::Bench;
use super::contract as promise;
use super::verdict::{Done, hold, same};
use crate::Frames;
use crate::fixture::{Capabilities, Fixture};

/// Flags that a test may set on any page of anonymous memory without its backend counting something by them.
const FREE: PageFlags = PageFlags::REFERENCED
    .union(PageFlags::CHECKED)
    .union(PageFlags::MAPPEDTODISK);

fn carries<F: Fixture>(b: &Bench<F>, set: PageFlags) -> Done {
    let page = b.page()?;
    b.with_lock(page.pfn, |backend, locked| {
        backend.edit_flags(locked, set, FREE.difference(set))
    })?;
    let plan = transfer(b.profile.rules, b.flags(page.pfn)?);
    let to = b.moves(&page)?;
    same(
        promise::CARRIED,
        "the flags of the new page",
        b.flags(to)? & FREE,
        plan.set_on_new & FREE,
    )
}

pub(super) fn flags_of_the_table_move<F: Fixture>(b: &Bench<F>) -> Done {
    carries(b, FREE)
}

pub(super) fn flags_that_are_not_set_do_not_appear<F: Fixture>(b: &Bench<F>) -> Done {
    carries(b, PageFlags::empty())
}

pub(super) fn each_flag_moves_by_itself<F: Fixture>(b: &Bench<F>) -> Done {
    carries(b, PageFlags::CHECKED)
}

pub(super) fn an_active_page_is_active_isolated_put_back_and_moved<F: Fixture>(b: &Bench<F>) -> Done {
    let page = b.page()?;
    let active = |contract, pfn, what| {
        let flags = b.flags(pfn)?;
        hold(contract, flags.contains(PageFlags::ACTIVE), || {
            format!("{pfn:?}, which was active, has flags {flags} {what}")
        })
    };
    let isolated = b.isolate(page.pfn)?;
    b.with_lock(page.pfn, |backend, locked| {
        backend.edit_flags(locked, PageFlags::ACTIVE, PageFlags::empty())
    })?;
    b.put_back(isolated);
    active(promise::PUTBACK, page.pfn, "where it was put back")?;
    let isolated = b.isolate(page.pfn)?;
    let kept = active(promise::ISOLATE, page.pfn, "while it is isolated");
    b.put_back(isolated);
    kept?;
    active(promise::CARRIED, b.moves(&page)?, "where it moved to")
}

pub(super) fn a_moved_page_is_up_to_date<F: Fixture>(b: &Bench<F>) -> Done {
    let page = b.page()?;
    let to = b.moves(&page)?;
    let flags = b.flags(to)?;
    hold(promise::CARRIED, flags.contains(PageFlags::UPTODATE), || {
        format!("the new page has flags {flags}")
    })
}

pub(super) fn a_new_page_is_not_up_to_date_before_the_copy<F: Fixture>(b: &Bench<F>) -> Done {
    b.needs(Capabilities::MIDDLE)?;
    let page = b.page()?;
    let seen = core::cell::RefCell::new(None);
    let hook = |edge: crate::Edge| {
        if let crate::Edge::Copy { new, .. } = edge {
            seen.replace(Some(b.flags(new)));
        }
        crate::Verdict::Go
    };
    b.call(&[page.pfn]).hook(&hook).run()?.moved_to(page.pfn)?;
    let flags = seen.into_inner().unwrap_or(Ok(PageFlags::UPTODATE))?;
    hold(promise::NEW_PAGE, !flags.contains(PageFlags::UPTODATE), || {
        format!("before the copy the new page has flags {flags}")
    })
}

pub(super) fn what_was_stored_is_remembered_as_dirty<F: Fixture>(b: &Bench<F>) -> Done {
    let page = b.page()?;
    hold(promise::STORE, b.dirty(page.pfn, &page.sites)?, || {
        "a store left entry and page clean".into()
    })?;
    let to = b.moves(&page)?;
    hold(promise::BEFORE, b.dirty(to, &page.sites)?, || {
        format!(
            "{:?} was dirty, and {to:?} is clean: what was stored would be forgotten",
            page.pfn
        )
    })
}

pub(super) fn a_page_that_is_refused_stays_dirty<F: Fixture>(b: &Bench<F>) -> Done {
    let page = b.page()?;
    b.refuses_held(&page)?;
    hold(promise::BEFORE, b.dirty(page.pfn, &page.sites)?, || {
        format!("{:?} was dirty, and is clean", page.pfn)
    })
}

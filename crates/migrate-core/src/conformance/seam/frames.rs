//! References, freezing, the page lock, flags, and what a page belongs to.

use alloc::format;

use mm_types::{PageFlags, Pfn};

use super::super::bench::Bench;
use super::super::contract as promise;
use super::super::verdict::{Done, broken, hold, same};
use crate::Frames;
use crate::fixture::{Capabilities, Fixture};

pub(in super::super) fn a_reference_is_counted_until_it_is_put<F: Fixture>(b: &Bench<F>) -> Done {
    let page = b.page()?;
    let first = b.hold(page.pfn)?;
    same(promise::COUNT, "references with one more", b.backend().count(&first), 2)?;
    let second = b.hold(page.pfn)?;
    same(promise::GET, "references with two more", b.backend().count(&first), 3)?;
    same(
        promise::GET,
        "the frame of a reference",
        b.backend().pfn(&second),
        page.pfn,
    )?;
    b.backend().put(second);
    same(
        promise::PUT,
        "references after one was put",
        b.backend().count(&first),
        2,
    )?;
    b.backend().put(first);
    same(promise::PUT, "references after both were put", b.count(page.pfn)?, 1)
}

pub(in super::super) fn a_page_without_references_cannot_be_got<F: Fixture>(b: &Bench<F>) -> Done {
    let page = b.fixture.new_page()?;
    let pfn = b.backend().pfn(&page);
    b.pristine(&page, promise::NEW_PAGE)?;
    b.backend().put(page);
    // A reference that cannot be is not given back: what that would do nobody can say.
    hold(promise::GET, b.backend().get(pfn).is_none(), || {
        format!("a reference to {pfn:?}, which is free")
    })
}

pub(in super::super) fn a_frame_that_does_not_exist_cannot_be_got<F: Fixture>(b: &Bench<F>) -> Done {
    let far = Pfn::new(u64::from(u32::MAX));
    hold(promise::GET, b.backend().get(far).is_none(), || {
        format!("a reference to {far:?}, which is no frame")
    })
}

pub(in super::super) fn a_frozen_page_cannot_be_got<F: Fixture>(b: &Bench<F>) -> Done {
    let page = b.page()?;
    let count = b.count(page.pfn)?.saturating_add(1);
    b.with_lock(page.pfn, |backend, locked| {
        backend
            .freeze(locked, count)
            .map_err(|found| broken(promise::FREEZE, format!("{found:?}")))?;
        let got = backend.get(page.pfn);
        let frozen = backend.count(backend.page(locked));
        backend.unfreeze(locked, count);
        hold(promise::FREEZE, got.is_none(), || {
            format!("a reference to {:?} was taken while it was frozen", page.pfn)
        })?;
        same(promise::FREEZE, "references of a frozen page", frozen, 0)?;
        same(
            promise::UNFREEZE,
            "references after unfreezing",
            backend.count(backend.page(locked)),
            count,
        )
    })?
}

pub(in super::super) fn a_page_is_frozen_at_its_exact_count_only<F: Fixture>(b: &Bench<F>) -> Done {
    let page = b.page()?;
    let count = b.count(page.pfn)?.saturating_add(1);
    b.with_lock(page.pfn, |backend, locked| {
        for wrong in [count.saturating_sub(1), count.saturating_add(1)] {
            match backend.freeze(locked, wrong) {
                Ok(()) => {
                    backend.unfreeze(locked, count);
                    return Err(broken(
                        promise::FREEZE,
                        format!("frozen at {wrong} with {count} references"),
                    ));
                }
                Err(found) => same(promise::FREEZE, "the count found", found.found, count)?,
            }
        }
        same(
            promise::FREEZE,
            "references after a freeze that failed",
            backend.count(backend.page(locked)),
            count,
        )
    })?
}

pub(in super::super) fn an_unfrozen_page_has_the_count_it_was_given<F: Fixture>(b: &Bench<F>) -> Done {
    b.needs(Capabilities::EXTRA_REF)?;
    let page = b.page()?;
    let held = b.hold(page.pfn)?;
    b.with_lock(page.pfn, |backend, locked| {
        backend
            .freeze(locked, 3)
            .map_err(|found| broken(promise::FREEZE, format!("{found:?}")))?;
        // As the core does with the references of cache slots: one is not given back, but left out of the new count.
        drop(held);
        backend.unfreeze(locked, 2);
        same(
            promise::UNFREEZE,
            "references of a page unfrozen with 2",
            backend.count(backend.page(locked)),
            2,
        )
    })??;
    same(promise::UNFREEZE, "references at the end", b.count(page.pfn)?, 1)
}

pub(in super::super) fn a_locked_page_cannot_be_locked_again<F: Fixture>(b: &Bench<F>) -> Done {
    b.needs(Capabilities::LOCK_BY_OTHER)?;
    let page = b.page()?;
    let first = b.lock(page.pfn)?;
    let second = b.backend().try_lock(b.hold(page.pfn)?);
    let twice = match second {
        Ok(locked) => {
            b.backend().put(b.backend().unlock(locked));
            true
        }
        Err(page) => {
            b.backend().put(page);
            false
        }
    };
    b.backend().put(b.backend().unlock(first));
    hold(promise::TRY_LOCK, !twice, || format!("{:?} was locked twice", page.pfn))
}

pub(in super::super) fn an_unlocked_page_can_be_locked<F: Fixture>(b: &Bench<F>) -> Done {
    let page = b.page()?;
    for _ in 0..2 {
        b.with_lock(page.pfn, |backend, locked| {
            let flags = backend.flags(backend.page(locked));
            hold(promise::TRY_LOCK, flags.contains(PageFlags::LOCKED), || {
                format!("a locked page has flags {flags}")
            })
        })??;
        let flags = b.flags(page.pfn)?;
        hold(promise::UNLOCK, !flags.contains(PageFlags::LOCKED), || {
            format!("an unlocked page has flags {flags}")
        })?;
    }
    Ok(())
}

pub(in super::super) fn a_lock_neither_takes_nor_drops_a_reference<F: Fixture>(b: &Bench<F>) -> Done {
    let page = b.page()?;
    let with = b.with_lock(page.pfn, |backend, locked| backend.count(backend.page(locked)))?;
    same(promise::TRY_LOCK, "references of a locked page", with, 2)?;
    same(promise::UNLOCK, "references after the lock", b.count(page.pfn)?, 1)
}

pub(in super::super) fn flags_are_set_cleared_and_told<F: Fixture>(b: &Bench<F>) -> Done {
    let page = b.page()?;
    let (one, other) = (PageFlags::REFERENCED, PageFlags::CHECKED);
    b.with_lock(page.pfn, |backend, locked| {
        backend.edit_flags(locked, one, other);
        let told = backend.edit_flags(locked, other, one);
        let now = backend.flags(backend.page(locked));
        backend.edit_flags(locked, PageFlags::empty(), one | other);
        let after = backend.flags(backend.page(locked));
        same(promise::FLAGS, "the flags before", told & (one | other), one)?;
        same(promise::FLAGS, "the flags set and cleared", now & (one | other), other)?;
        hold(promise::FLAGS, now.contains(PageFlags::LOCKED), || {
            "the page lock was lost in an edit".into()
        })?;
        same(
            promise::FLAGS,
            "the flags cleared",
            after & (one | other),
            PageFlags::empty(),
        )
    })?
}

pub(in super::super) fn a_page_says_what_it_belongs_to<F: Fixture>(b: &Bench<F>) -> Done {
    let page = b.page()?;
    let mapping = b.with(page.pfn, |backend, page| backend.mapping(page))?;
    hold(promise::MAPPING, mapping.is_anon(), || {
        format!("an anonymous page belongs to {mapping:?}")
    })
}

pub(in super::super) fn an_adopted_page_belongs_to_what_the_old_one_does<F: Fixture>(b: &Bench<F>) -> Done {
    let page = b.page()?;
    let new = b.fixture.new_page()?;
    let Ok(new) = b.backend().try_lock(new) else {
        return Err(broken(promise::TRY_LOCK, "a new page is locked"));
    };
    let done = b.with_lock(page.pfn, |backend, old| {
        backend.adopt(&new, old);
        let (is, must) = (backend.mapping(backend.page(&new)), backend.mapping(backend.page(old)));
        backend.disown(&new);
        let after = backend.mapping(backend.page(&new));
        same(promise::ADOPT, "what the new page belongs to", is, must)?;
        same(
            promise::DISOWN,
            "what a disowned page belongs to",
            after,
            mm_types::Mapping::None,
        )?;
        same(
            promise::DISOWN,
            "what the old page belongs to",
            backend.mapping(backend.page(old)),
            must,
        )
    });
    b.backend().put(b.backend().unlock(new));
    done?
}

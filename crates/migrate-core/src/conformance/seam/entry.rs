//! Edits of entries: what an update answers, and what it does to the page's counts.

use alloc::format;
use alloc::vec::Vec;
use core::ops::ControlFlow;

use mm_types::{PageFlags, Pfn, PteFlags, Restore};

use super::super::bench::{Bench, Mapped};
use super::super::contract as promise;
use super::super::verdict::{Done, broken, hold, same};
use crate::fixture::{Fixture, LockedOf};
use crate::{Cache, Frames, Rmap};

/// What the core does to a page's entries, there and back, with a look in between.
fn there_and_back<F: Fixture>(
    b: &Bench<F>,
    page: &Mapped,
    look: impl FnOnce(&F::Backend, &LockedOf<F>) -> Done,
) -> Done {
    let style = b.profile.entries;
    let pfn = page.pfn;
    b.with_lock(pfn, |backend, locked| {
        let mut gather = backend.gather();
        backend
            .reserve(locked, None, &mut gather)
            .map_err(|refusal| broken(promise::RESERVE, format!("{refusal}")))?;
        let mut told = Ok(());
        backend.walk(locked, &mut gather, &mut |entry| {
            let Some(edited) = entry.update(&|pte| pte.install_migration(pfn, style)) else {
                return ControlFlow::Continue(());
            };
            if edited.before.dirty() {
                backend.set_dirty(locked);
            }
            count_entries(backend, pfn, 1);
            if told.is_ok() {
                told = (|| {
                    hold(promise::BEFORE, edited.before.maps(pfn), || {
                        format!("before: {:?}", edited.before)
                    })?;
                    let must = edited.before.install_migration(pfn, style);
                    same(promise::EDIT, "the entry after the edit", Some(edited.after), must)?;
                    same(
                        promise::EDIT,
                        "the entry read after the edit",
                        entry.read(),
                        edited.after,
                    )
                })();
            }
            ControlFlow::Continue(())
        });
        backend.flush(gather);
        let looked = look(backend, locked);
        let mut gather = backend.gather();
        let dirty = backend.flags(backend.page(locked)).contains(PageFlags::DIRTY);
        backend.walk(locked, &mut gather, &mut |entry| {
            let vma = entry.vma();
            let restore = Restore {
                old: pfn,
                new: pfn,
                vma_may_write: vma.may_write,
                anon: !vma.shared,
                page_dirty: dirty,
                style,
            };
            if entry.update(&|pte| pte.restore(restore)).is_some() {
                count_entries(backend, pfn, -1);
            }
            ControlFlow::Continue(())
        });
        backend.flush(gather);
        told.and(looked)
    })?
}

fn count_entries<B: Frames>(backend: &B, pfn: Pfn, change: i32) {
    if cfg!(debug_assertions) {
        backend.entries_out(pfn, change);
    }
}

pub(in super::super) fn an_update_applies_the_ledger_exactly_once<F: Fixture>(b: &Bench<F>) -> Done {
    let page = b.page()?;
    let before = b.count(page.pfn)?;
    there_and_back(b, &page, |backend, locked| {
        // The lock's own reference is all that is left.
        same(
            promise::LEDGER,
            "references while the entry is out",
            backend.count(backend.page(locked)),
            before,
        )
    })?;
    same(
        promise::LEDGER,
        "references after the entry is back",
        b.count(page.pfn)?,
        before,
    )
}

pub(in super::super) fn updates_of_every_entry_apply_the_ledger_exactly_once<F: Fixture>(b: &Bench<F>) -> Done {
    let page = b.shared()?;
    let before = b.count(page.pfn)?;
    there_and_back(b, &page, |backend, locked| {
        same(
            promise::LEDGER,
            "references while three entries are out",
            backend.count(backend.page(locked)),
            1,
        )
    })?;
    same(
        promise::LEDGER,
        "references after three entries are back",
        b.count(page.pfn)?,
        before,
    )?;
    b.is_at(&page, page.pfn)
}

pub(in super::super) fn a_page_whose_entries_are_out_is_not_mapped<F: Fixture>(b: &Bench<F>) -> Done {
    let page = b.shared()?;
    there_and_back(b, &page, |backend, locked| {
        same(
            promise::IS_MAPPED,
            "a page whose entries are out",
            backend.is_mapped(locked),
            false,
        )
    })
}

pub(in super::super) fn a_walk_finds_the_entries_that_are_out<F: Fixture>(b: &Bench<F>) -> Done {
    let page = b.shared()?;
    there_and_back(b, &page, |backend, locked| {
        let (mut gather, mut seen) = (backend.gather(), Vec::new());
        backend.walk(locked, &mut gather, &mut |entry| {
            let named = entry.read().migration().is_some_and(|entry| entry.pfn() == page.pfn);
            seen.extend(named.then(|| entry.site()));
            ControlFlow::Continue(())
        });
        backend.flush(gather);
        page.sites.iter().try_for_each(|site| {
            hold(promise::WALK, seen.contains(site), || {
                format!("{site:?} names {:?} and was not visited", page.pfn)
            })
        })
    })
}

pub(in super::super) fn entries_that_went_out_come_back_as_they_were<F: Fixture>(b: &Bench<F>) -> Done {
    let page = b.shared()?;
    let before = b.looks(page.pfn, &page.sites)?;
    there_and_back(b, &page, |_, _| Ok(()))?;
    same(
        promise::EDIT,
        "the page after its entries were out",
        b.looks(page.pfn, &page.sites)?,
        before,
    )?;
    b.sees(&page)
}

pub(in super::super) fn an_update_returns_the_dirty_bit_that_was_there<F: Fixture>(b: &Bench<F>) -> Done {
    let page = b.page()?;
    let was = b.entry(page.site());
    let found = b.with_lock(page.pfn, |backend, locked| {
        let (mut gather, mut found) = (backend.gather(), None);
        backend.walk(locked, &mut gather, &mut |entry| {
            // Takes nothing away: an edit that stores the same again.
            found = entry.update(&|pte| pte.maps(page.pfn).then_some(pte)).or(found);
            ControlFlow::Continue(())
        });
        backend.flush(gather);
        found
    })?;
    let Some(found) = found else {
        return Err(broken(promise::WALK, format!("{:?} was not visited", page.site())));
    };
    hold(promise::BEFORE, was.dirty() == found.before.dirty(), || {
        format!("the entry was {was:?}, and the update says {:?}", found.before)
    })?;
    same(
        promise::LEDGER,
        "references after an edit that changes nothing",
        b.count(page.pfn)?,
        1,
    )
}

pub(in super::super) fn an_update_that_declines_changes_nothing<F: Fixture>(b: &Bench<F>) -> Done {
    let page = b.page()?;
    let before = (
        b.entry(page.site()).flags().difference(PteFlags::YOUNG),
        b.count(page.pfn)?,
    );
    let edited = b.with_lock(page.pfn, |backend, locked| {
        let (mut gather, mut edited) = (backend.gather(), false);
        backend.walk(locked, &mut gather, &mut |entry| {
            edited |= entry.update(&|_| None).is_some();
            ControlFlow::Continue(())
        });
        backend.flush(gather);
        edited
    })?;
    hold(promise::DECLINED, !edited, || {
        "an edit that declined is told as done".into()
    })?;
    let after = (
        b.entry(page.site()).flags().difference(PteFlags::YOUNG),
        b.count(page.pfn)?,
    );
    same(promise::DECLINED, "the entry, and references", after, before)
}

//! The seam by itself: each method's promise, asked for without a run where that can be.

use alloc::{format, vec::Vec};
use core::ops::ControlFlow;

use mm_types::trace::{Event, Observer};
use mm_types::{PageFlags, Pfn, Pte, PteFlags, Refusal, Restore, Site};

use super::bench::{Bench, Mapped};
use super::contract as promise;
use super::verdict::{Done, Halt, broken, hold, same};
use crate::fixture::{Capabilities, Fixture, LockedOf};
use crate::{Cache, Frames, Lru, Rmap, isolate_lru_page};

pub(super) fn a_reference_is_counted_until_it_is_put<F: Fixture>(b: &Bench<F>) -> Done {
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

pub(super) fn a_page_without_references_cannot_be_got<F: Fixture>(b: &Bench<F>) -> Done {
    let page = b.fixture.new_page()?;
    let pfn = b.backend().pfn(&page);
    b.pristine(&page, promise::NEW_PAGE)?;
    b.backend().put(page);
    // A reference that cannot be is not given back: what that would do nobody can say.
    hold(promise::GET, b.backend().get(pfn).is_none(), || {
        format!("a reference to {pfn:?}, which is free")
    })
}

pub(super) fn a_frame_that_does_not_exist_cannot_be_got<F: Fixture>(b: &Bench<F>) -> Done {
    let far = Pfn::new(u64::from(u32::MAX));
    hold(promise::GET, b.backend().get(far).is_none(), || {
        format!("a reference to {far:?}, which is no frame")
    })
}

pub(super) fn a_frozen_page_cannot_be_got<F: Fixture>(b: &Bench<F>) -> Done {
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

pub(super) fn a_page_is_frozen_at_its_exact_count_only<F: Fixture>(b: &Bench<F>) -> Done {
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

pub(super) fn an_unfrozen_page_has_the_count_it_was_given<F: Fixture>(b: &Bench<F>) -> Done {
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

pub(super) fn a_locked_page_cannot_be_locked_again<F: Fixture>(b: &Bench<F>) -> Done {
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

pub(super) fn an_unlocked_page_can_be_locked<F: Fixture>(b: &Bench<F>) -> Done {
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

pub(super) fn a_lock_neither_takes_nor_drops_a_reference<F: Fixture>(b: &Bench<F>) -> Done {
    let page = b.page()?;
    let with = b.with_lock(page.pfn, |backend, locked| backend.count(backend.page(locked)))?;
    same(promise::TRY_LOCK, "references of a locked page", with, 2)?;
    same(promise::UNLOCK, "references after the lock", b.count(page.pfn)?, 1)
}

pub(super) fn flags_are_set_cleared_and_told<F: Fixture>(b: &Bench<F>) -> Done {
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

pub(super) fn a_page_says_what_it_belongs_to<F: Fixture>(b: &Bench<F>) -> Done {
    let page = b.page()?;
    let mapping = b.with(page.pfn, |backend, page| backend.mapping(page))?;
    hold(promise::MAPPING, mapping.is_anon(), || {
        format!("an anonymous page belongs to {mapping:?}")
    })
}

pub(super) fn an_adopted_page_belongs_to_what_the_old_one_does<F: Fixture>(b: &Bench<F>) -> Done {
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

pub(super) fn a_page_is_isolated_once<F: Fixture>(b: &Bench<F>) -> Done {
    let page = b.page()?;
    let isolated = b.isolate(page.pfn)?;
    let flags = b.flags(page.pfn)?;
    let again = b.with(page.pfn, |backend, page| isolate_lru_page(backend, page, ()))?;
    let count = b.count(page.pfn)?;
    b.put_back(isolated);
    hold(promise::ISOLATE, !flags.contains(PageFlags::LRU), || {
        format!("an isolated page has flags {flags}")
    })?;
    match again {
        Err(refusal) => same(
            promise::ISOLATE,
            "the refusal of a second isolation",
            refusal,
            Refusal::NotOnLru,
        )?,
        Ok(twice) => {
            b.put_back(twice);
            return Err(broken(promise::ISOLATE, format!("{:?} was isolated twice", page.pfn)));
        }
    }
    same(promise::ISOLATE, "references of an isolated page", count, 2)
}

pub(super) fn a_page_that_is_on_no_list_is_not_isolated<F: Fixture>(b: &Bench<F>) -> Done {
    let page = b.fixture.new_page()?;
    let isolated = isolate_lru_page(b.backend(), &page, ());
    let count = b.backend().count(&page);
    b.backend().put(page);
    hold(promise::ISOLATE, isolated.is_err(), || {
        "a new page, which is on no list, was isolated".into()
    })?;
    same(promise::ISOLATE, "references after an isolation that failed", count, 1)
}

pub(super) fn a_page_put_back_can_be_isolated_again<F: Fixture>(b: &Bench<F>) -> Done {
    let page = b.page()?;
    for _ in 0..3 {
        let isolated = b.isolate(page.pfn)?;
        b.put_back(isolated);
        let flags = b.flags(page.pfn)?;
        hold(promise::PUTBACK, flags.contains(PageFlags::LRU), || {
            format!("a page put back has flags {flags}")
        })?;
        same(promise::PUTBACK, "references of a page put back", b.count(page.pfn)?, 1)?;
    }
    Ok(())
}

pub(super) fn a_page_put_back_directly_is_on_its_list_at_once<F: Fixture>(b: &Bench<F>) -> Done {
    let page = b.page()?;
    let isolated = b.isolate(page.pfn)?;
    b.recording().note(|| Event::Putback(page.pfn));
    b.backend().putback_direct(isolated.into_page());
    let isolated = b.isolate(page.pfn)?;
    b.put_back(isolated);
    same(promise::PUTBACK, "references of a page put back", b.count(page.pfn)?, 1)
}

pub(super) fn a_page_put_back_after_everybody_let_go_is_freed<F: Fixture>(b: &Bench<F>) -> Done {
    b.needs(Capabilities::UNMAP)?;
    let page = b.page()?;
    let isolated = b.isolate(page.pfn)?;
    b.fixture.unmap(page.site())?;
    same(
        promise::ZAP,
        "references of an isolated page without entries",
        b.count(page.pfn)?,
        1,
    )?;
    b.put_back(isolated);
    hold(promise::PUTBACK, b.backend().get(page.pfn).is_none(), || {
        format!("{:?} is in use, and nobody has it", page.pfn)
    })
}

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

pub(super) fn a_walk_visits_the_one_entry_of_a_page<F: Fixture>(b: &Bench<F>) -> Done {
    visits_all(b, &b.page()?)
}

pub(super) fn a_walk_visits_every_entry_of_a_shared_page_once<F: Fixture>(b: &Bench<F>) -> Done {
    visits_all(b, &b.shared()?)
}

pub(super) fn a_walk_visits_the_entries_of_a_fork<F: Fixture>(b: &Bench<F>) -> Done {
    b.needs(Capabilities::FORK.union(Capabilities::SEVERAL_SPACES))?;
    let mut page = b.page()?;
    let child = b.fixture.fork(page.site().space)?;
    page.sites.push(Site::new(child, page.site().page));
    visits_all(b, &page)
}

pub(super) fn a_walk_finds_an_entry_that_was_moved<F: Fixture>(b: &Bench<F>) -> Done {
    b.needs(Capabilities::REMAP)?;
    let mut page = b.page()?;
    let to = Site::new(page.site().space, mm_types::Vpn::new(0x20));
    b.fixture.remap(page.site(), to)?;
    page.sites = alloc::vec![to];
    visits_all(b, &page)
}

pub(super) fn a_walk_ends_when_it_is_told<F: Fixture>(b: &Bench<F>) -> Done {
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

pub(super) fn a_mapped_page_is_told_as_mapped<F: Fixture>(b: &Bench<F>) -> Done {
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

pub(super) fn an_update_applies_the_ledger_exactly_once<F: Fixture>(b: &Bench<F>) -> Done {
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

pub(super) fn updates_of_every_entry_apply_the_ledger_exactly_once<F: Fixture>(b: &Bench<F>) -> Done {
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

pub(super) fn a_page_whose_entries_are_out_is_not_mapped<F: Fixture>(b: &Bench<F>) -> Done {
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

pub(super) fn a_walk_finds_the_entries_that_are_out<F: Fixture>(b: &Bench<F>) -> Done {
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

pub(super) fn entries_that_went_out_come_back_as_they_were<F: Fixture>(b: &Bench<F>) -> Done {
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

pub(super) fn an_update_returns_the_dirty_bit_that_was_there<F: Fixture>(b: &Bench<F>) -> Done {
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

pub(super) fn an_update_that_declines_changes_nothing<F: Fixture>(b: &Bench<F>) -> Done {
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

//! Swap slots, their cache, and whose a page of it is.

use mm_types::{Pfn, PteFlags, Rules, SpaceId, SwapPteFlags, SwapType};

use super::{at, frame, good, locked, model, read, unlock, write};
use crate::model::{Access, Model, WritePage};
use crate::{Cache, EntryVma, LINUX_2_6_17, MODERN, Mover, Rmap};

/// A page that was stored to, at page 0 of a space.
fn stored() -> (Model, SpaceId, Pfn) {
    let (model, space) = model(&MODERN);
    model.map_anon(at(space, 0), 1);
    write(&model, at(space, 0), 7);
    crate::migrate_prep(&model);
    let pfn = frame(&model, at(space, 0));
    (model, space, pfn)
}

#[test]
fn a_page_of_the_swap_cache_finds_its_slot_in_whatever_swap_file_it_is() {
    for profile in [&LINUX_2_6_17, &MODERN] {
        let (model, space) = model(profile);
        for (ty, page) in [0, 3, 21].into_iter().zip(0..) {
            model.swapon(SwapType::new(ty).unwrap()).unwrap();
            model.map_anon(at(space, page), 1);
            write(&model, at(space, page), page);
            let pfn = frame(&model, at(space, page));
            let slot = model.swap_cache(pfn).unwrap();
            assert_eq!((slot.ty().raw(), model.slot_of(pfn)), (ty, slot), "{}", profile.rules);
        }
        let beyond = SwapType::new(if profile.rules == Rules::Modern { 23 } else { 30 }).unwrap();
        assert!(model.swapon(beyond).is_err(), "a migration entry's");
        crate::migrate_prep(&model);
        good(&model);
    }
}

#[test]
fn only_an_anonymous_page_that_is_not_in_the_swap_cache_yet_is_put_there() {
    let (model, space, pfn) = stored();
    let slot = model.swap_cache(pfn).unwrap();
    assert_eq!(model.swap_cache(pfn), None);
    assert_eq!(model.slot_of(pfn), slot);
    let file = model.create_file(1, Mover::Plain, WritePage::Unlocks);
    model.map_file(at(space, 8), 1, file, 0, true);
    read(&model, at(space, 8));
    crate::migrate_prep(&model);
    assert_eq!(model.swap_cache(frame(&model, at(space, 8))), None);
    good(&model);
}

#[test]
fn a_page_that_is_still_mapped_stays_in_the_swap_cache_when_its_slot_has_no_user() {
    let (model, space, pfn) = stored();
    let slot = model.swap_cache(pfn).unwrap();
    model.drop_unused_swap_cache(slot);
    assert_eq!(model.caches.lock().swap.lookup(slot), Some(pfn));
    model.munmap(at(space, 0), 1, ());
    assert_eq!(model.caches.lock().swap.lookup(slot), None);
    crate::migrate_prep(&model);
    good(&model);
}

#[test]
fn a_slot_lives_as_long_as_an_entry_names_it() {
    let (model, parent, pfn) = stored();
    let child = model.fork(parent, ());
    assert!(model.swap_out(pfn));
    let slots = || {
        model
            .caches
            .lock()
            .swap
            .slots
            .values()
            .map(|slot| slot.users)
            .sum::<u32>()
    };
    assert_eq!(slots(), 2);
    model.exit(parent, ());
    assert_eq!(slots(), 1);
    assert_eq!(read(&model, at(child, 0)), Access::Done(7));
    model.exit(child, ());
    assert!(model.caches.lock().swap.slots.is_empty());
}

#[test]
fn a_locked_page_caches_its_own_slot_and_counts_it_while_the_slot_says_so_too() {
    let (model, space, pfn) = stored();
    let slot = model.swap_cache(pfn).unwrap();
    model.map_anon(at(space, 4), 1);
    write(&model, at(space, 4), 8);
    let plain = frame(&model, at(space, 4));
    let (page, other) = (locked(&model, pfn), locked(&model, plain));
    assert!(model.caches_slot(&page, slot) && !model.caches_slot(&other, slot));
    assert_eq!((model.slots(&page), model.slots(&other)), (1, 0));
    let cached = |by: Pfn| model.caches.lock().swap.slots.get_mut(&slot).unwrap().cached = Some(by);
    cached(plain);
    assert_eq!(model.slots(&page), 0, "the slot went to another page");
    model.page(plain).set_private(model.page(pfn).private());
    assert_eq!(model.slots(&other), 0, "a word that looks like a slot is none");
    model.page(plain).set_private(0);
    cached(pfn);
    unlock(&model, page);
    unlock(&model, other);
    crate::migrate_prep(&model);
    good(&model);
}

#[test]
fn a_store_brings_a_page_back_from_swap_with_the_marks_its_entry_kept() {
    let (model, space, pfn) = stored();
    model.mark_soft_dirty(at(space, 0));
    assert!(model.swap_out(pfn));
    let mm_types::Pte::Swap { flags, .. } = model.pte(at(space, 0)) else {
        panic!("it is in swap")
    };
    assert_eq!(flags, SwapPteFlags::SOFT_DIRTY | SwapPteFlags::EXCLUSIVE);
    write(&model, at(space, 0), 8);
    let all = PteFlags::WRITE | PteFlags::DIRTY | PteFlags::YOUNG | PteFlags::SOFT_DIRTY | PteFlags::EXCLUSIVE;
    assert_eq!(model.pte(at(space, 0)).flags(), all);
    crate::migrate_prep(&model);
    good(&model);
}

/// Entries of a page whose slot was never written to, so that what is in its cache is all there is.
fn unwritten(model: &Model, pfn: Pfn, spaces: &[SpaceId]) {
    let slot = model.swap_cache(pfn).unwrap();
    let mut gather = model.gather();
    for space in spaces {
        model.with_entry(at(*space, 0), EntryVma::PLAIN, &mut gather, |entry| {
            entry.update(&|pte| pte.install_swap(pfn, slot))
        });
    }
    model.flush(gather);
}

#[test]
fn a_page_is_nobodys_alone_while_another_maps_it_or_a_slots_entry_leads_to_it() {
    // One stores, and the other finds the page through its slot only.
    let (model, first, pfn) = stored();
    let second = model.fork(first, ());
    unwritten(&model, pfn, &[first, second]);
    write(&model, at(second, 0), 8);
    assert_eq!(read(&model, at(first, 0)), Access::Done(7));
    // One stores, another maps it, and a third finds it through its slot.
    let (model, first, pfn) = stored();
    let (second, third) = (model.fork(first, ()), model.fork(first, ()));
    unwritten(&model, pfn, &[third]);
    write(&model, at(first, 0), 8);
    for space in [second, third] {
        assert_eq!(read(&model, at(space, 0)), Access::Done(7));
    }
    // The last of them stores where the page is.
    model.exit(second, ());
    let pfn = frame(&model, at(third, 0));
    write(&model, at(third, 0), 9);
    assert_eq!(frame(&model, at(third, 0)), pfn);
    assert_eq!(read(&model, at(first, 0)), Access::Done(8));
    crate::migrate_prep(&model);
    good(&model);
}

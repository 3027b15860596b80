//! What a CPU and its faults do that other threads could see in the middle.

use std::sync::Arc;

use mm_types::{PageFlags, Pte, PteFlags, VmaFlags};

use super::{CPU0, CPU1, at, frame, good, model, read, write};
use crate::fixture::Recording;
use crate::model::{Access, Model, Op, WritePage};
use crate::{EntryVma, Faults, LINUX_2_6_17, MODERN, Mover, Rmap};

#[test]
fn a_cpu_that_holds_a_translation_does_not_look_at_the_table_or_the_area() {
    let (model, space) = model(&MODERN);
    model.map_anon(at(space, 0), 1);
    write(&model, at(space, 0), 1);
    let pfn = frame(&model, at(space, 0));
    assert_eq!(model.access(CPU1, at(space, 0), Op::Read, ()), Access::Done(1));
    let mut gather = model.gather();
    model.with_entry(at(space, 0), EntryVma::PLAIN, &mut gather, |entry| {
        entry.update(&|_| Some(Pte::None))
    });
    model.vmas.lock().list[0].flags.remove(VmaFlags::WRITE);
    write(&model, at(space, 0), 2);
    assert_eq!(model.access(CPU1, at(space, 0), Op::Read, ()), Access::Done(2));
    assert_eq!(model.word(pfn), 2);
    model.flush(gather);
    assert_eq!(model.access(CPU0, at(space, 0), Op::Write(3), ()), Access::Segv);
    crate::migrate_prep(&model);
    good(&model);
}

#[test]
fn a_page_that_two_cpus_used_stays_young_and_dirty() {
    let (model, space) = model(&MODERN);
    model.map_anon(at(space, 0), 1);
    for cpu in [CPU0, CPU1] {
        assert_eq!(model.access(cpu, at(space, 0), Op::Write(1), ()), Access::Done(1));
        let marks = PteFlags::YOUNG | PteFlags::DIRTY;
        assert!(model.pte(at(space, 0)).flags().contains(marks), "{cpu:?}");
    }
    crate::migrate_prep(&model);
    good(&model);
}

#[test]
fn a_store_to_a_shared_page_after_a_protection_is_seen_by_everybody() {
    let (model, space) = model(&MODERN);
    let file = model.create_file(1, Mover::Plain, WritePage::Unlocks);
    for page in [0, 8] {
        model.map_file(at(space, page), 1, file, 0, true);
        write(&model, at(space, page), 1);
    }
    model.protect(at(space, 0), 1, false, ());
    model.protect(at(space, 0), 1, true, ());
    write(&model, at(space, 0), 2);
    assert_eq!(frame(&model, at(space, 0)), frame(&model, at(space, 8)));
    assert_eq!(read(&model, at(space, 8)), Access::Done(2));
    good(&model);
}

/// What another CPU finds there before the store is made anew.
#[test]
fn a_fault_of_a_store_leaves_the_entry_writable_dirty_and_young_whatever_it_was() {
    for profile in [&MODERN, &LINUX_2_6_17] {
        let (model, space) = model(profile);
        let file = model.create_file(1, Mover::Plain, WritePage::Unlocks);
        model.map_file(at(space, 0), 1, file, 0, true);
        model.map_anon(at(space, 8), 1);
        for page in [0, 8] {
            write(&model, at(space, page), 1);
            model.protect(at(space, page), 1, false, ());
            model.protect(at(space, page), 1, true, ());
            let (vma, pfn) = (model.vma_at(at(space, page)).unwrap(), frame(&model, at(space, page)));
            let was = model.pte(at(space, page)).flags();
            let marks = PteFlags::DIRTY | PteFlags::YOUNG;
            assert!(was.contains(marks) && !was.contains(PteFlags::WRITE));
            model.write_fault(&vma, at(space, page), pfn, was, ()).unwrap();
            assert_eq!(model.pte(at(space, page)).flags(), was | PteFlags::WRITE);
        }
        good(&model);
    }
}

#[test]
fn a_load_that_finds_its_page_mapped_by_somebody_else_meanwhile_takes_no_copy() {
    let (model, parent) = model(&MODERN);
    model.map_anon(at(parent, 0), 1);
    write(&model, at(parent, 0), 1);
    let child = model.fork(parent, ());
    model.fault(at(child, 0), false, ()).unwrap();
    assert_eq!(frame(&model, at(child, 0)), frame(&model, at(parent, 0)));
    model.fault(at(child, 0), true, ()).unwrap();
    assert_ne!(frame(&model, at(child, 0)), frame(&model, at(parent, 0)));
    good(&model);
}

#[test]
fn an_entry_is_the_same_where_the_hardware_marked_it_and_not_where_it_maps_another_page() {
    let (model, space) = model(&MODERN);
    model.map_anon(at(space, 0), 2);
    for page in [0, 1] {
        write(&model, at(space, page), 1);
    }
    let (vma, site) = (model.vma_at(at(space, 0)).unwrap(), at(space, 0));
    let (pfn, other) = (frame(&model, site), frame(&model, at(space, 1)));
    let now = model.pte(site);
    let cold = Pte::present(pfn, PteFlags::empty());
    assert!(model.install(&vma, site, cold, now, ()), "young and dirty since");
    assert!(!model.install(&vma, site, Pte::present(other, now.flags()), now, ()));
    assert!(!model.install(&vma, site, Pte::None, now, ()));
    assert_eq!(model.pte(site), now);
    good(&model);
}

#[test]
fn a_thread_sleeps_on_a_page_of_the_swap_cache_that_is_locked_until_it_is_not() {
    let (model, space) = model(&MODERN);
    model.map_anon(at(space, 0), 1);
    write(&model, at(space, 0), 7);
    let pfn = frame(&model, at(space, 0));
    assert!(model.pin(pfn));
    assert!(!model.swap_out(pfn), "somebody uses it, so it stays in the swap cache");
    model.unpin(pfn);
    assert!(model.lock_page(pfn));
    let recording = Arc::new(Recording::with_capacity(16));
    assert!(!model.access_in_thread(CPU1, at(space, 0), Op::Read, &recording));
    assert_eq!((model.asleep(), model.take_finished().len()), (1, 0));
    model.unlock_page(pfn);
    assert_eq!(model.asleep(), 0);
    assert_eq!(model.take_finished(), [(CPU1, at(space, 0), Access::Done(7))]);
    crate::migrate_prep(&model);
    good(&model);
}

#[test]
fn who_waits_on_an_entry_sleeps_until_the_lock_of_the_page_it_names_opens() {
    let (model, space) = model(&MODERN);
    model.map_anon(at(space, 0), 1);
    write(&model, at(space, 0), 7);
    let pfn = frame(&model, at(space, 0));
    assert!(model.lock_page(pfn));
    model.on_sleep(move |model: &Model| model.unlock_page(pfn));
    model.wait_on(at(space, 0), &mut |pte| pte.pfn());
    assert!(!model.page(pfn).flags().load().contains(PageFlags::LOCKED));
    // Nobody has it locked: nobody sleeps, or there would be nothing to wake him.
    model.wait_on(at(space, 0), &mut |pte| pte.pfn());
    good(&model);
}

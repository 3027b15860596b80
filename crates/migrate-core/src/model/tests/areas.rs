//! Areas of spaces: their order, what a child inherits, where they may be moved, and what a truncation takes out of them.

use core::ops::ControlFlow;
use std::vec;
use std::vec::Vec;

use mm_types::trace::{Event, Tell};
use mm_types::{Mapping, Pte, PteFlags, SpaceId, VmaFlags, Vpn};

use super::{at, frame, good, locked, model, read, unlock, write};
use crate::invariants::Inspect;
use crate::model::{Access, Model, WritePage};
use crate::{EntryVma, MODERN, Mover, Rmap};

#[test]
fn what_is_cut_off_an_area_stands_right_after_it() {
    let (model, space) = model(&MODERN);
    model.map_anon(at(space, 0), 4);
    model.map_anon(at(space, 8), 1);
    model.cut(at(space, 1), 1, |_| {});
    let starts: Vec<u64> = model.vmas.lock().list.iter().map(|vma| vma.start.raw()).collect();
    assert_eq!(starts, [0, 1, 2, 8]);
}

#[test]
fn each_area_has_an_anon_vma_of_its_own_and_keeps_it() {
    let (model, space) = model(&MODERN);
    for page in [0, 8, 16] {
        model.map_anon(at(space, page), 2);
    }
    let ids = [0, 8, 16].map(|page| model.anon_vma(at(space, page)));
    assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[2] != ids[0], "{ids:?}");
    assert_eq!([1, 9, 17].map(|page| model.anon_vma(at(space, page))), ids);
}

#[test]
fn a_child_inherits_no_lock_on_its_memory() {
    let (model, parent) = model(&MODERN);
    model.map_anon(at(parent, 0), 1);
    model.mlock(at(parent, 0), 1, true);
    let child = model.fork(parent, ());
    let locked = |space: SpaceId| model.vma_at(at(space, 0)).unwrap().flags.contains(VmaFlags::LOCKED);
    assert!(locked(parent) && !locked(child));
}

// Nothing is mapped at the new place in any of these: it is the two places that overlap, or only touch.
#[test]
fn a_move_next_to_itself_is_no_move_onto_itself() {
    for (from, pages, to, moves) in [
        (0, 2, 2, true),
        (2, 2, 0, true),
        (4, 2, 1, true),
        (1, 2, 2, false),
        (1, 2, 0, false),
        (1, 1, 1, false),
        (3, 4, 6, false),
    ] {
        let (model, space) = model(&MODERN);
        // One page of the old place, the one that the new place is not over.
        let mapped = if to > from { from } else { from + pages - 1 };
        if moves || from != to {
            model.map_anon(at(space, mapped), 1);
            write(&model, at(space, mapped), 7);
        }
        assert_eq!(
            model.mremap(at(space, from), pages, Vpn::new(to), ()),
            moves,
            "{from} to {to}"
        );
        if moves {
            assert_eq!(read(&model, at(space, to + mapped - from)), Access::Done(7));
        }
        good(&model);
    }
}

#[test]
fn an_entry_marked_soft_dirty_stays_so_when_it_is_marked_again() {
    let (model, space) = model(&MODERN);
    model.map_anon(at(space, 0), 1);
    read(&model, at(space, 0));
    let before = model.pte(at(space, 0)).flags();
    for _ in 0..2 {
        model.mark_soft_dirty(at(space, 0));
        assert_eq!(model.pte(at(space, 0)).flags(), before | PteFlags::SOFT_DIRTY);
    }
    good(&model);
}

#[test]
fn a_truncation_takes_what_is_beyond_the_end_and_nothing_else() {
    let (model, space) = model(&MODERN);
    let file = model.create_file(4, Mover::Plain, WritePage::Unlocks);
    model.map_file(at(space, 0), 4, file, 0, true);
    model.map_file(at(space, 8), 2, file, 0, true);
    // Where page 0 was there is page 3 now, and the other way about.
    model.remap_file(at(space, 8), 3, ());
    model.remap_file(at(space, 9), 0, ());
    for page in [0, 1, 2, 3, 8, 9] {
        read(&model, at(space, page));
    }
    model.truncate(file, 2, ());
    let left: Vec<u64> = model.entries(space).iter().map(|(site, _)| site.page.raw()).collect();
    assert_eq!(left, [0, 1, 9]);
    good(&model);
}

/// A fault had the last page locked before the size was cut, and maps it after the entries were cleared.
#[test]
fn a_page_mapped_while_its_file_is_truncated_loses_its_mapping_before_its_file() {
    let (model, space) = model(&MODERN);
    let file = model.create_file(2, Mover::Plain, WritePage::Unlocks);
    model.map_file(at(space, 0), 2, file, 0, true);
    for page in [0, 1] {
        read(&model, at(space, page));
    }
    crate::migrate_prep(&model);
    let pfn = frame(&model, at(space, 1));
    assert!(model.lock_page(pfn));
    model.on_sleep(move |model: &Model| {
        let vma = model.vma_at(at(space, 1)).unwrap();
        model.install(&vma, at(space, 1), Pte::None, Pte::present(pfn, PteFlags::empty()), ());
        model.unlock_page(pfn);
    });
    let zapped = core::cell::Cell::new(0);
    let observer = Tell(|event| {
        if let Event::Zap { site, .. } = event {
            assert_eq!(site, at(space, 1));
            assert_eq!(model.page(pfn).mapping(), Mapping::File(file), "its file goes last");
            zapped.set(zapped.get() + 1);
        }
    });
    model.truncate(file, 1, &observer);
    assert_eq!(zapped.get(), 2, "once before, and once what the fault brought");
    assert!(model.pte(at(space, 0)).is_present(), "the page before stays");
    assert_eq!(model.page(pfn).count(), 0);
    good(&model);
}

#[test]
fn a_walk_of_nonlinear_areas_meets_those_of_the_pages_own_file_only() {
    let (model, space) = model(&MODERN);
    let files = [(); 2].map(|()| model.create_file(2, Mover::Plain, WritePage::Unlocks));
    for (file, page) in files.into_iter().zip([0, 8]) {
        model.map_file(at(space, page), 2, file, 0, true);
        model.map_file(at(space, page + 4), 2, file, 0, true);
        model.remap_file(at(space, page + 4), 1, ());
        for page in [page, page + 4] {
            read(&model, at(space, page));
        }
    }
    let page = locked(&model, frame(&model, at(space, 0)));
    let (mut gather, mut met) = (model.gather(), vec![]);
    model.walk_nonlinear(&page, &mut gather, &mut |entry| {
        met.push((entry.site(), entry.vma().nonlinear));
        ControlFlow::Continue(())
    });
    model.flush(gather);
    unlock(&model, page);
    assert_eq!(met, [(at(space, 4), Some(1))]);
}

#[test]
fn only_an_edit_of_an_entry_that_was_mapped_owes_a_flush() {
    let (model, space) = model(&MODERN);
    model.map_anon(at(space, 0), 2);
    write(&model, at(space, 0), 7);
    let edit = |page: u64, after: Pte| {
        let mut gather = model.gather();
        model.with_entry(at(space, page), EntryVma::PLAIN, &mut gather, |entry| {
            entry.update(&|_| Some(after))
        });
        gather
    };
    let pending = || {
        let mut sites = vec![];
        Inspect::pending(&model, &mut |site| sites.push(site));
        sites
    };
    let fresh = edit(1, Pte::File { offset: 3 });
    assert_eq!(pending(), []);
    let flags = model.pte(at(space, 0)).flags();
    let narrowed = Pte::present(frame(&model, at(space, 0)), flags.difference(PteFlags::WRITE));
    let mapped = edit(0, narrowed);
    assert_eq!(pending(), [at(space, 0)]);
    assert!(model.check(&[]).is_err(), "and it is owed until it is made");
    model.flush(mapped);
    model.flush(fresh);
    model.flush(edit(1, Pte::None));
    good(&model);
}

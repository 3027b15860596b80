//! The limit of mappings, and accesses that nothing of ours allows: in children, because they may die.

mod engines;
mod support;

use core::sync::atomic::Ordering;

use backend_user::{Engine, Machine, Migrate, Prot, Sharing};
use mm_types::{Mode, NodeId, Refusal, Site};
use support::{child, died_by, ended_with, exit_now, is_child, stderr};

/// Every second page moves: each is a mapping of its own then, and so is its neighbour.
#[test]
fn at_the_limit_of_mappings_pages_stay_for_that_reason_and_nothing_is_lost() {
    const NAME: &str = "at_the_limit_of_mappings_pages_stay_for_that_reason_and_nothing_is_lost";
    if !is_child() {
        return ended_with(&child(NAME), 42);
    }
    let limit = backend_user::sys::maps::limit().unwrap();
    let pages = limit + 4000;
    let machine = Machine::builder().frames_per_node(pages).build().unwrap();
    let space = machine.space(pages).unwrap();
    let area = space.map_anonymous(pages, Prot::ReadWrite, Sharing::Private).unwrap();
    area.populate().unwrap();
    for page in 0..pages {
        area.page(page)[3].store(page as u64, Ordering::Relaxed);
    }
    let every_second: Vec<Site> = area.sites().step_by(2).collect();
    let report = machine
        .migrate(Migrate::new(every_second.as_slice(), NodeId::new(1)))
        .unwrap();
    assert!(report.moved > 25_000, "{report:?}");
    assert_eq!(report.stayed.len(), 1, "{report:?}");
    assert_eq!(report.stayed[0].refusal, Refusal::MappingLimit);
    assert_eq!(report.moved + report.refused(), every_second.len() as u64);
    let stats = machine.stats();
    assert!(stats.mappings <= limit && stats.ballast > 0, "{stats:?}");
    let (known, real) = (stats.mappings, backend_user::sys::maps::in_use().unwrap());
    assert!(known.abs_diff(real) < 64, "{known} mappings known, {real} there");
    // Under the 2006 rules too, one by one.
    let some = &every_second[every_second.len() - 20..];
    let request = Migrate::new(some, NodeId::new(1))
        .profile(&migrate_core::LINUX_2_6_17)
        .mode(Mode::Sync);
    let report = machine.migrate(request).unwrap();
    assert_eq!(report.stayed[0].refusal, Refusal::MappingLimit);
    space.check().unwrap();
    for page in 0..pages {
        assert_eq!(area.page(page)[3].load(Ordering::Relaxed), page as u64);
    }
    // Those in between follow: neighbours become neighbours again, and mappings few.
    let between: Vec<Site> = area.sites().skip(1).step_by(2).take(20_000).collect();
    machine
        .migrate(Migrate::new(between.as_slice(), NodeId::new(1)))
        .unwrap();
    machine.migrate(Migrate::new(&area, NodeId::new(0))).unwrap();
    for page in 0..pages {
        assert_eq!(area.page(page)[3].load(Ordering::Relaxed), page as u64);
    }
    space.check().unwrap();
    exit_now(42)
}

fn a_store_to_an_area_that_does_not_allow_it_is_an_ordinary_fault(engine: Engine) {
    let name = engines::name(engine, "a_store_to_an_area_that_does_not_allow_it_is_an_ordinary_fault");
    if !is_child() {
        return died_by(&child(&name), libc::SIGSEGV);
    }
    let machine = Machine::builder().engine(engine).frames_per_node(64).build().unwrap();
    let space = machine.space(4).unwrap();
    let area = space.map_anonymous(1, Prot::Read, Sharing::Private).unwrap();
    assert_eq!(area.page(0)[0].load(Ordering::Relaxed), 0);
    area.page(0)[0].store(1, Ordering::Relaxed);
    exit_now(1)
}

fn an_access_outside_of_all_areas_is_an_ordinary_fault(engine: Engine) {
    let name = engines::name(engine, "an_access_outside_of_all_areas_is_an_ordinary_fault");
    if !is_child() {
        return died_by(&child(&name), libc::SIGSEGV);
    }
    let machine = Machine::builder().engine(engine).frames_per_node(64).build().unwrap();
    let space = machine.space(4).unwrap();
    let area = space.map_anonymous(1, Prot::ReadWrite, Sharing::Private).unwrap();
    let beyond = area.as_ptr().wrapping_add(4096);
    // SAFETY: not valid, on purpose: inside the range of the space, outside of its areas.
    let _ = unsafe { beyond.read_volatile() };
    exit_now(1)
}

fn an_access_for_which_there_is_no_frame_says_why_the_program_ends(engine: Engine) {
    let name = engines::name(
        engine,
        "an_access_for_which_there_is_no_frame_says_why_the_program_ends",
    );
    if !is_child() {
        let out = child(&name);
        assert!(stderr(&out).contains("no frame is free on any node"), "{out:?}");
        return died_by(&out, libc::SIGSEGV);
    }
    let machine = Machine::builder()
        .engine(engine)
        .nodes(1)
        .frames_per_node(2)
        .build()
        .unwrap();
    let space = machine.space(3).unwrap();
    let area = space.map_anonymous(3, Prot::ReadWrite, Sharing::Private).unwrap();
    (0..3).for_each(|page| area.page(page)[0].store(1, Ordering::Relaxed));
    exit_now(1)
}

engines::on_both_engines! {
    a_store_to_an_area_that_does_not_allow_it_is_an_ordinary_fault,
    an_access_outside_of_all_areas_is_an_ordinary_fault,
    an_access_for_which_there_is_no_frame_says_why_the_program_ends,
}

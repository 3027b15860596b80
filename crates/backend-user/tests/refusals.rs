//! Why pages stay: every reason that can be had in user space, with its holder; and where it shows.

mod engines;

use core::sync::atomic::Ordering;

use backend_user::{Area, Engine, Holder, Machine, MachineError, Migrate, Pages, Prot, Report, Sharing, Space};
use migrate_core::{Frames, LINUX_2_6_17, MODERN, Wait, isolate_lru_page};
use mm_types::{Mode, NodeId, Outcome, Pfn, Refusal};

const TO: NodeId = NodeId::new(1);

fn one_page(engine: Engine) -> (Machine, Space, Area) {
    let machine = Machine::builder()
        .engine(engine)
        .frames_per_node(64)
        .fault_around(1)
        .build()
        .unwrap();
    let space = machine.space(8).unwrap();
    let area = space.map_anonymous(1, Prot::ReadWrite, Sharing::Private).unwrap();
    area.page(0)[0].store(42, Ordering::Relaxed);
    (machine, space, area)
}

fn pfn(space: &Space) -> Pfn {
    space.entry(0).pfn().unwrap()
}

/// Moves the area's one page; returns the report, and the last outcome told.
fn attempt(machine: &Machine, area: &Area, profile: &migrate_core::Profile, mode: Mode) -> (Report, Option<Outcome>) {
    let mut last = None;
    let mut tell = |_: Pfn, outcome: Outcome| last = Some(outcome);
    let report = machine
        .migrate(Migrate::new(area, TO).profile(profile).mode(mode).outcome(&mut tell))
        .unwrap();
    area.space().check().unwrap();
    (report, last)
}

#[track_caller]
fn stays(machine: &Machine, area: &Area, refusal: Refusal) {
    let (report, last) = attempt(machine, area, &MODERN, Mode::Async);
    assert_eq!(last, Some(Outcome::Refused(refusal)));
    assert_eq!(report.stayed.len(), 1);
    assert_eq!((report.moved, report.stayed[0].refusal), (0, refusal));
    let explained = machine.explain(area.sites().next().unwrap());
    assert_eq!(explained.page.as_ref().unwrap().last_refusal, Some(refusal));
    assert!(
        explained.to_string().ends_with(&format!("{}.", refusal.advice())),
        "{explained}"
    );
    assert_eq!(area.page(0)[0].load(Ordering::Relaxed), 42);
}

#[track_caller]
fn moves(machine: &Machine, area: &Area) {
    let (report, last) = attempt(machine, area, &MODERN, Mode::Async);
    assert_eq!(report.moved, 1, "{last:?}");
    assert_eq!(area.page(0)[0].load(Ordering::Relaxed), 42);
    area.page(0)[0].store(42, Ordering::Relaxed);
}

fn a_locked_page_stays_until_its_lock_opens(engine: Engine) {
    let (machine, space, area) = one_page(engine);
    let kernel = machine.kernel();
    let locked = kernel.lock(kernel.get(pfn(&space)).unwrap());
    stays(&machine, &area, Refusal::LockBusy);
    kernel.put(kernel.unlock(locked));
    moves(&machine, &area);
}

fn a_referenced_page_stays_and_the_refusal_counts_the_references(engine: Engine) {
    let (machine, space, area) = one_page(engine);
    let kernel = machine.kernel();
    let held = kernel.get(pfn(&space)).unwrap();
    stays(&machine, &area, Refusal::ExtraReference { expected: 1, found: 2 });
    let info = machine.explain(area.sites().next().unwrap()).page.unwrap();
    assert!(info.holders.contains(&Holder::Others(1)), "{info:?}");
    kernel.put(held);
    moves(&machine, &area);
}

fn a_pinned_page_stays_and_can_be_used_all_the_while(engine: Engine) {
    let (machine, _space, area) = one_page(engine);
    let pin = machine.pin(&area, 0..1).unwrap();
    let again = machine.pin(&area, 0..1).unwrap();
    stays(&machine, &area, Refusal::Pinned { pins: 2 });
    drop(again);
    stays(&machine, &area, Refusal::Pinned { pins: 1 });
    drop(pin);
    moves(&machine, &area);
    assert!(machine.pin(&area, 0..2).is_err());
}

fn an_isolated_page_stays(engine: Engine) {
    let (machine, space, area) = one_page(engine);
    let kernel = machine.kernel();
    migrate_core::migrate_prep(kernel);
    let page = kernel.get(pfn(&space)).unwrap();
    let isolated = isolate_lru_page(kernel, &page, ()).unwrap();
    kernel.put(page);
    stays(&machine, &area, Refusal::NotOnLru);
    migrate_core::Lru::putback(kernel, isolated.into_page());
    moves(&machine, &area);
}

fn a_page_under_writeback_stays_or_is_waited_for(engine: Engine) {
    let (machine, space, area) = one_page(engine);
    let kernel = machine.kernel();
    let page = kernel.lock(kernel.get(pfn(&space)).unwrap());
    kernel.edit_flags(&page, mm_types::PageFlags::WRITEBACK, mm_types::PageFlags::empty());
    let page = kernel.unlock(page);
    kernel.put(page);
    stays(&machine, &area, Refusal::Writeback);
    std::thread::scope(|s| {
        let mover = s.spawn(|| attempt(&machine, &area, &MODERN, Mode::Sync).0.moved);
        // The run may wait with the page locked: who completes the I/O takes no lock.
        migrate_core::end_page_writeback(kernel, pfn(&space));
        assert_eq!(mover.join().unwrap(), 1);
    });
}

fn a_poisoned_page_stays_for_good(engine: Engine) {
    let (machine, space, area) = one_page(engine);
    let kernel = machine.kernel();
    let page = kernel.lock(kernel.get(pfn(&space)).unwrap());
    kernel.edit_flags(&page, mm_types::PageFlags::HWPOISON, mm_types::PageFlags::empty());
    kernel.put(kernel.unlock(page));
    stays(&machine, &area, Refusal::Poisoned);
}

fn with_no_frame_on_the_node_pages_stay_and_some_move_where_some_are(engine: Engine) {
    let machine = Machine::builder().engine(engine).frames_per_node(8).build().unwrap();
    let space = machine.space(12).unwrap();
    let area = space.map_anonymous(12, Prot::ReadWrite, Sharing::Private).unwrap();
    area.populate().unwrap();
    // 8 on node 0, 4 on node 1: 4 more fit there.
    let report = machine.migrate(Migrate::new(&area, TO)).unwrap();
    assert_eq!(
        (report.moved, report.already, report.refused()),
        (4, 4, 4),
        "{report:?}"
    );
    assert!(report.stayed.iter().all(|stayed| stayed.refusal == Refusal::NoTarget));
    let report = machine.migrate(Migrate::new(&area, TO).profile(&LINUX_2_6_17)).unwrap();
    assert_eq!(
        (report.moved, report.already, report.refused()),
        (0, 8, 4),
        "{report:?}"
    );
    space.check().unwrap();
}

fn a_page_that_is_not_there_is_absent_and_a_node_that_is_not_there_an_error(engine: Engine) {
    let (machine, space, area) = one_page(engine);
    let empty = space.map_anonymous(3, Prot::Read, Sharing::Private).unwrap();
    let report = machine.migrate(Migrate::new(&empty, TO)).unwrap();
    assert_eq!((report.moved, report.absent, report.refused()), (0, 3, 0));
    let sites: Vec<_> = area.sites().chain(empty.sites()).collect();
    let report = machine.migrate(Migrate::new(sites.as_slice(), TO)).unwrap();
    assert_eq!((report.moved, report.absent), (1, 3));
    let report = machine
        .migrate(Migrate::new(Pages::Frames(&[Pfn::new(9999)]), TO))
        .unwrap();
    assert_eq!(report.absent, 1);
    let nowhere = NodeId::new(2);
    for request in [Migrate::new(&area, nowhere), Migrate::new(Pages::Node(nowhere), TO)] {
        let done = machine.migrate(request);
        assert!(
            matches!(done, Err(MachineError::NoNode(node)) if node == nowhere),
            "{done:?}"
        );
    }
}

fn an_area_of_another_machine_is_an_error_and_moves_nothing_of_either(engine: Engine) {
    let (machine, space, area) = one_page(engine);
    let (other, other_space, _other_area) = one_page(engine);
    assert_eq!(pfn(&space), pfn(&other_space), "a frame of the same number");
    let done = other.migrate(Migrate::new(&area, TO));
    assert!(matches!(done, Err(MachineError::Foreign)), "{done:?}");
    assert_eq!((machine.pages_on(TO), other.pages_on(TO)), (0, 0));
}

fn a_batch_without_limit_is_as_many_pages_as_the_machine_has(engine: Engine) {
    let (machine, _space, area) = one_page(engine);
    let report = machine.migrate(Migrate::new(&area, TO).batch(usize::MAX)).unwrap();
    assert_eq!((report.moved, report.batches), (1, 1), "{report:?}");
}

fn a_run_that_is_told_to_stop_puts_everything_back(engine: Engine) {
    let machine = Machine::builder().engine(engine).frames_per_node(256).build().unwrap();
    let space = machine.space(100).unwrap();
    let area = space.map_anonymous(100, Prot::ReadWrite, Sharing::Private).unwrap();
    area.populate().unwrap();
    let stop = core::sync::atomic::AtomicBool::new(false);
    let mut seen = 0;
    let mut tell = |_: Pfn, _: Outcome| {
        seen += 1;
        stop.store(seen >= 20, Ordering::Relaxed);
    };
    let report = machine
        .migrate(Migrate::new(&area, TO).batch(8).stop(&stop).outcome(&mut tell))
        .unwrap();
    assert!(report.stopped && report.moved == 24, "{report:?}");
    space.check().unwrap();
    let report = machine.migrate(Migrate::new(&area, TO)).unwrap();
    assert_eq!((report.moved, report.already), (76, 24));
}

engines::on_both_engines! {
    a_locked_page_stays_until_its_lock_opens,
    a_referenced_page_stays_and_the_refusal_counts_the_references,
    a_pinned_page_stays_and_can_be_used_all_the_while,
    an_isolated_page_stays,
    a_page_under_writeback_stays_or_is_waited_for,
    a_poisoned_page_stays_for_good,
    with_no_frame_on_the_node_pages_stay_and_some_move_where_some_are,
    a_page_that_is_not_there_is_absent_and_a_node_that_is_not_there_an_error,
    an_area_of_another_machine_is_an_error_and_moves_nothing_of_either,
    a_batch_without_limit_is_as_many_pages_as_the_machine_has,
    a_run_that_is_told_to_stop_puts_everything_back,
}

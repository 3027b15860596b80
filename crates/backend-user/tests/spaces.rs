//! Spaces: copies on write, shared pages, protection, moving and unmapping, with pages in motion.

mod engines;

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use std::thread;

use backend_user::{Area, Engine, Machine, MachineError, Migrate, Prot, Sharing, Space};
use migrate_core::{LINUX_2_6_17, MODERN, Profile};
use mm_types::{Mode, NodeId};

const PAGES: usize = 48;

fn machine(engine: Engine) -> Machine {
    Machine::builder().engine(engine).frames_per_node(512).build().unwrap()
}

fn private(space: &Space) -> Area {
    space.map_anonymous(PAGES, Prot::ReadWrite, Sharing::Private).unwrap()
}

fn set(area: &Area, page: usize, value: u64) {
    area.page(page)[7].store(value, Ordering::Relaxed);
}

fn get(area: &Area, page: usize) -> u64 {
    area.page(page)[7].load(Ordering::Relaxed)
}

/// Moves the area from node to node until `stop`, and returns how many pages moved.
fn keep_moving(machine: &Machine, area: &Area, profile: &Profile, stop: &AtomicBool) -> u64 {
    let mut moved = 0;
    let mut to = 1;
    while !stop.load(Ordering::Relaxed) {
        let request = Migrate::new(area, NodeId::new(to))
            .profile(profile)
            .mode(Mode::SyncLight)
            .batch(16);
        moved += machine.migrate(request).unwrap().moved;
        to = 1 - to;
    }
    moved
}

fn first_touched_pages_are_on_the_preferred_node_as_long_as_it_has_frames(engine: Engine) {
    let machine = Machine::builder()
        .engine(engine)
        .frames_per_node(4)
        .fault_around(1)
        .build()
        .unwrap();
    let space = machine.space(16).unwrap();
    let area = space.map_anonymous(8, Prot::ReadWrite, Sharing::Private).unwrap();
    let on = |machine: &Machine| [0, 1].map(|node| machine.pages_on(NodeId::new(node)));
    set(&area, 0, 1);
    assert_eq!(on(&machine), [1, 0]);
    machine.prefer(NodeId::new(1)).unwrap();
    (1..5).for_each(|page| set(&area, page, 1));
    assert_eq!(
        on(&machine),
        [1, 4],
        "neighbours on the other node do not count for more"
    );
    set(&area, 5, 1);
    assert_eq!(on(&machine), [2, 4], "the preferred node is full");
}

#[test]
fn a_copied_space_sees_what_was_there_and_nothing_later() {
    let machine = machine(Engine::Shared);
    let space = machine.space(PAGES + 3).unwrap();
    let area = private(&space);
    for page in 0..PAGES {
        set(&area, page, page as u64 + 1);
    }
    let child = space.fork().unwrap();
    let copy = child.same(&area).unwrap();
    let frames = machine.pages_on(NodeId::new(0));
    set(&area, 0, 100);
    set(&copy, 1, 200);
    assert_eq!((get(&area, 0), get(&copy, 0)), (100, 1));
    assert_eq!((get(&area, 1), get(&copy, 1)), (2, 200));
    assert_eq!((get(&area, 2), get(&copy, 2)), (3, 3));
    assert_eq!(machine.pages_on(NodeId::new(0)), frames + 2, "two pages were copied");
    // The last who has a page writes it in place.
    set(&copy, 0, 300);
    assert_eq!(machine.pages_on(NodeId::new(0)), frames + 2);
    space.check().unwrap();
    child.check().unwrap();
    drop(copy);
    drop(child);
    set(&area, 2, 5);
    assert_eq!(machine.pages_on(NodeId::new(0)), frames);
}

fn copies_under_way(profile: &Profile) {
    let machine = machine(Engine::Shared);
    let space = machine.space(PAGES).unwrap();
    let area = private(&space);
    let stop = AtomicBool::new(false);
    thread::scope(|s| {
        let mover = s.spawn(|| keep_moving(&machine, &area, profile, &stop));
        for round in 0..60u64 {
            for page in 0..PAGES {
                set(&area, page, round * 1000 + page as u64);
            }
            let child = space.fork().unwrap();
            let copy = child.same(&area).unwrap();
            for page in (0..PAGES).step_by(3) {
                set(&area, page, u64::MAX);
            }
            for page in 0..PAGES {
                assert_eq!(get(&copy, page), round * 1000 + page as u64, "round {round}");
                set(&copy, page, 1);
            }
            for page in 0..PAGES {
                let expected = if page % 3 == 0 {
                    u64::MAX
                } else {
                    round * 1000 + page as u64
                };
                assert_eq!(get(&area, page), expected, "round {round}");
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert!(mover.join().unwrap() > 0);
    });
    space.check().unwrap();
    assert_eq!(
        machine.pages_on(NodeId::new(0)) + machine.pages_on(NodeId::new(1)),
        PAGES
    );
}

#[test]
fn a_fork_in_the_middle_of_a_migration_separates_the_two() {
    copies_under_way(&MODERN);
}

#[test]
fn a_fork_in_the_middle_of_a_2006_migration_separates_the_two() {
    copies_under_way(&LINUX_2_6_17);
}

/// One space writes rising numbers, another reads them; between the remapping of one and the other there is a pause.
fn no_stale_read(profile: &Profile, readable: bool) {
    let machine = Machine::builder()
        .frames_per_node(512)
        .readable_while_copied(readable)
        .build()
        .unwrap();
    let (one, other) = (machine.space(PAGES).unwrap(), machine.space(PAGES + 5).unwrap());
    let area = private(&one);
    let view = one.share(&area, &other, Prot::Read).unwrap();
    machine.kernel().pause_between_spaces(Duration::from_micros(300));
    let stop = AtomicBool::new(false);
    let latest: Vec<AtomicU64> = (0..PAGES).map(|_| AtomicU64::new(0)).collect();
    thread::scope(|s| {
        s.spawn(|| {
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                n += 1;
                for (page, latest) in latest.iter().enumerate() {
                    area.page(page)[7].store(n, Ordering::SeqCst);
                    latest.store(n, Ordering::SeqCst);
                }
            }
        });
        s.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for (page, latest) in latest.iter().enumerate() {
                    let written = latest.load(Ordering::SeqCst);
                    let seen = view.page(page)[7].load(Ordering::SeqCst);
                    assert!(
                        seen >= written,
                        "I9: page {page}: {seen} was read after {written} had been written"
                    );
                }
            }
        });
        let mut moved = 0;
        for round in 0..60 {
            let request = Migrate::new(&area, NodeId::new(1 - round % 2))
                .profile(profile)
                .mode(Mode::Sync);
            moved += machine.migrate(request.batch(16)).unwrap().moved;
        }
        stop.store(true, Ordering::Relaxed);
        assert!(moved > 0);
    });
    one.check().unwrap();
    other.check().unwrap();
}

#[test]
fn two_spaces_that_share_every_page_never_disagree() {
    no_stale_read(&MODERN, true);
}

#[test]
fn two_spaces_never_disagree_under_2006_rules() {
    no_stale_read(&LINUX_2_6_17, true);
}

#[test]
fn shared_pages_are_shared_by_a_fork_too() {
    let machine = machine(Engine::Shared);
    let space = machine.space(PAGES).unwrap();
    let area = space.map_anonymous(PAGES, Prot::ReadWrite, Sharing::Shared).unwrap();
    set(&area, 3, 3);
    let child = space.fork().unwrap();
    let copy = child.same(&area).unwrap();
    set(&copy, 20, 20);
    set(&area, 4, 4);
    assert_eq!((get(&area, 20), get(&copy, 4), get(&copy, 3)), (20, 4, 3));
    assert_eq!(machine.pages_on(NodeId::new(0)), PAGES);
    machine.migrate(Migrate::new(&area, NodeId::new(1))).unwrap();
    set(&copy, 20, 21);
    assert_eq!(get(&area, 20), 21);
}

fn a_permission_taken_and_given_again_works_and_keeps_what_was_written(engine: Engine) {
    let machine = machine(engine);
    let space = machine.space(PAGES).unwrap();
    let area = private(&space);
    let stop = AtomicBool::new(false);
    thread::scope(|s| {
        let mover = s.spawn(|| keep_moving(&machine, &area, &MODERN, &stop));
        for round in 0..100 {
            for page in 0..PAGES {
                set(&area, page, round);
            }
            space.protect(&area, Prot::Read).unwrap();
            for page in 0..PAGES {
                assert_eq!(get(&area, page), round);
                assert!(!space.entry(page).writable());
            }
            space.protect(&area, Prot::ReadWrite).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        mover.join().unwrap();
    });
    space.check().unwrap();
    assert!(matches!(
        space.protect(&area, Prot::None),
        Err(MachineError::NothingAllowed)
    ));
}

fn a_moved_area_keeps_its_pages_and_the_old_place_is_free(engine: Engine) {
    let machine = machine(engine);
    let space = machine.space(3 * PAGES).unwrap();
    let mut area = Some(private(&space));
    for page in 0..PAGES {
        set(area.as_ref().unwrap(), page, page as u64);
    }
    for round in 0..40 {
        // The migrator looks for pages wherever they are: frames, not places.
        let moved = thread::scope(|s| {
            let mover = s.spawn(|| {
                let from = NodeId::new(round % 2);
                let request = Migrate::new(backend_user::Pages::Node(from), NodeId::new(1 - round % 2)).batch(8);
                machine.migrate(request).unwrap().moved
            });
            let old = area.take().unwrap();
            area = Some(space.remap(old, PAGES).unwrap());
            mover.join().unwrap()
        });
        for page in 0..PAGES {
            assert_eq!(
                get(area.as_ref().unwrap(), page),
                page as u64,
                "round {round}, {moved} moved"
            );
        }
        space.check().unwrap();
    }
    let bigger = space.remap(area.unwrap(), PAGES + 10).unwrap();
    assert_eq!(
        (get(&bigger, PAGES - 1), get(&bigger, PAGES + 9)),
        (PAGES as u64 - 1, 0)
    );
    let smaller = space.remap(bigger, 2).unwrap();
    assert_eq!(get(&smaller, 1), 1);
    assert_eq!(space.resident(), 2);
}

fn unmapping_in_the_middle_of_migrations_frees_every_frame(engine: Engine) {
    let machine = machine(engine);
    let stop = AtomicBool::new(false);
    thread::scope(|s| {
        s.spawn(|| {
            let mut to = 1;
            while !stop.load(Ordering::Relaxed) {
                let from = backend_user::Pages::Node(NodeId::new(1 - to));
                machine.migrate(Migrate::new(from, NodeId::new(to)).batch(8)).unwrap();
                to = 1 - to;
            }
        });
        for _ in 0..200 {
            let space = machine.space(PAGES).unwrap();
            let area = private(&space);
            area.populate().unwrap();
            set(&area, 5, 5);
            assert_eq!(get(&area, 5), 5);
            space.unmap(area).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(machine.pages_on(NodeId::new(0)) + machine.pages_on(NodeId::new(1)), 0);
}

fn a_space_that_is_full_says_so(engine: Engine) {
    let machine = machine(engine);
    let space = machine.space(4).unwrap();
    let area = space.map_anonymous(3, Prot::ReadWrite, Sharing::Private).unwrap();
    let full = space.map_anonymous(2, Prot::ReadWrite, Sharing::Private);
    assert!(matches!(full, Err(MachineError::SpaceFull(2))), "{full:?}");
    space.unmap(area).unwrap();
    space.map_anonymous(4, Prot::ReadWrite, Sharing::Private).unwrap();
    let none = space.map_anonymous(0, Prot::ReadWrite, Sharing::Private);
    assert!(matches!(none, Err(MachineError::NoPages)));
}

#[test]
fn what_is_refused_says_what_to_do() {
    let machine = Machine::builder().frames_per_node(2).areas(1).build().unwrap();
    let space = machine.space(8).unwrap();
    let of = |pages, prot| space.map_anonymous(pages, prot, Sharing::Private);
    let area = of(6, Prot::ReadWrite).unwrap();
    for (error, advice) in [
        (of(9, Prot::Read).unwrap_err(), "make it larger"),
        (of(1, Prot::None).unwrap_err(), "reading"),
        (of(1, Prot::Read).unwrap_err(), "Builder::areas"),
        (area.populate().unwrap_err(), "more frames"),
    ] {
        assert!(error.to_string().contains(advice), "{error}");
    }
}

engines::on_both_engines! {
    first_touched_pages_are_on_the_preferred_node_as_long_as_it_has_frames,
    a_permission_taken_and_given_again_works_and_keeps_what_was_written,
    a_moved_area_keeps_its_pages_and_the_old_place_is_free,
    unmapping_in_the_middle_of_migrations_frees_every_frame,
    a_space_that_is_full_says_so,
}

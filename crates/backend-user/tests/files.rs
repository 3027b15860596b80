//! Files: their contents, what is written back, and what is cut off, with pages in motion.

use core::sync::atomic::{AtomicBool, Ordering};
use std::fs;
use std::path::PathBuf;
use std::thread;

use backend_user::{Machine, MachineError, Migrate, Pages, Prot, Sharing};
use mm_types::{NodeId, PAGE_SIZE};

const PAGES: usize = 40;

/// A file that is removed at the end.
struct Temporary(PathBuf);

impl Temporary {
    fn new(name: &str, len: usize) -> Self {
        let path = std::env::temp_dir().join(format!("backend-user-{}-{name}", std::process::id()));
        let contents: Vec<u8> = (0..len).map(|n| (n / 8 % 251) as u8).collect();
        fs::write(&path, contents).unwrap();
        Self(path)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn word(page: usize, word: usize) -> u64 {
    u64::from_ne_bytes([((page * 512 + word) % 251) as u8; 8])
}

fn move_all(machine: &Machine, round: u16) -> u64 {
    let from = Pages::Node(NodeId::new(round % 2));
    machine
        .migrate(Migrate::new(from, NodeId::new(1 - round % 2)).batch(16))
        .unwrap()
        .moved
}

#[test]
fn a_directory_is_not_opened() {
    let machine = Machine::builder().frames_per_node(8).build().unwrap();
    let opened = machine.open(std::env::temp_dir());
    assert!(matches!(opened, Err(MachineError::File { .. })), "{opened:?}");
}

#[test]
fn several_spaces_read_a_file_while_its_pages_move() {
    let temporary = Temporary::new("read", PAGES * PAGE_SIZE - 100);
    let machine = Machine::builder().frames_per_node(256).build().unwrap();
    let file = machine.open(&temporary.0).unwrap();
    assert_eq!(file.pages(), PAGES);
    let spaces: Vec<_> = (0..3).map(|_| machine.space(PAGES).unwrap()).collect();
    let views: Vec<_> = spaces
        .iter()
        .map(|space| space.map_file(&file, 0, PAGES, Prot::Read, Sharing::Shared).unwrap())
        .collect();
    let stop = AtomicBool::new(false);
    thread::scope(|s| {
        for view in &views {
            s.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    for page in 0..PAGES - 1 {
                        for at in [0, 100, 511] {
                            assert_eq!(
                                view.page(page)[at].load(Ordering::Relaxed),
                                word(page, at),
                                "page {page}"
                            );
                        }
                    }
                    assert_eq!(view.page(PAGES - 1)[511].load(Ordering::Relaxed), 0, "beyond the end");
                }
            });
        }
        while file.resident() < PAGES {
            thread::yield_now();
        }
        let moved: u64 = (0..50).map(|round| move_all(&machine, round)).sum();
        stop.store(true, Ordering::Relaxed);
        assert!(moved > 0);
    });
    for space in &spaces {
        space.check().unwrap();
    }
    assert_eq!(file.resident(), PAGES, "cached once, however many map it");
    assert_eq!(
        machine.pages_on(NodeId::new(0)) + machine.pages_on(NodeId::new(1)),
        PAGES
    );
}

#[test]
fn what_is_written_reaches_the_file_and_only_then() {
    let temporary = Temporary::new("sync", PAGES * PAGE_SIZE);
    let machine = Machine::builder().frames_per_node(256).build().unwrap();
    let file = machine.open_rw(&temporary.0).unwrap();
    let space = machine.space(2 * PAGES).unwrap();
    let view = space
        .map_file(&file, 0, PAGES, Prot::ReadWrite, Sharing::Shared)
        .unwrap();
    let own = space
        .map_file(&file, 0, PAGES, Prot::ReadWrite, Sharing::Private)
        .unwrap();
    assert_eq!(view.page(3)[0].load(Ordering::Relaxed), word(3, 0));
    assert_eq!(file.sync().unwrap(), 0, "nothing was written");
    for round in 0..6u64 {
        for page in [3, 4, 9] {
            view.page(page)[1].store(round + 1, Ordering::Relaxed);
        }
        own.page(3)[1].store(77, Ordering::Relaxed);
        // A page that is dirty stays so when it moves.
        move_all(&machine, round as u16);
        if round == 5 {
            view.page(4)[1].store(99, Ordering::Relaxed);
        }
        let before = fs::read(&temporary.0).unwrap();
        assert_eq!(
            before[3 * PAGE_SIZE + 8],
            if round == 0 { word(3, 1) as u8 } else { round as u8 }
        );
        assert_eq!(file.sync().unwrap(), 3, "round {round}");
        assert_eq!(file.sync().unwrap(), 0, "round {round}");
        let after = fs::read(&temporary.0).unwrap();
        assert_eq!(after[3 * PAGE_SIZE + 8], round as u8 + 1);
        assert_eq!(after[9 * PAGE_SIZE + 8], round as u8 + 1);
        assert_eq!(after.len(), PAGES * PAGE_SIZE);
    }
    assert_eq!(fs::read(&temporary.0).unwrap()[4 * PAGE_SIZE + 8], 99);
    assert_eq!(own.page(3)[1].load(Ordering::Relaxed), 77);
    space.check().unwrap();
}

#[test]
fn no_store_is_lost_between_writing_back_and_moving() {
    let temporary = Temporary::new("storm", PAGES * PAGE_SIZE);
    let machine = Machine::builder().frames_per_node(256).build().unwrap();
    let file = machine.open_rw(&temporary.0).unwrap();
    let space = machine.space(PAGES).unwrap();
    let view = space
        .map_file(&file, 0, PAGES, Prot::ReadWrite, Sharing::Shared)
        .unwrap();
    let stop = AtomicBool::new(false);
    let last = thread::scope(|s| {
        let writer = s.spawn(|| {
            let mut n = 0u64;
            while !stop.load(Ordering::Relaxed) || n < 10 {
                n += 1;
                for page in 0..PAGES {
                    view.page(page)[2].store(n, Ordering::Relaxed);
                }
            }
            n
        });
        s.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                file.sync().unwrap();
            }
        });
        for round in 0..60 {
            move_all(&machine, round);
        }
        stop.store(true, Ordering::Relaxed);
        writer.join().unwrap()
    });
    file.sync().unwrap();
    let contents = fs::read(&temporary.0).unwrap();
    for page in 0..PAGES {
        let at = page * PAGE_SIZE + 16;
        assert_eq!(contents[at..at + 8], last.to_ne_bytes(), "page {page}");
    }
}

#[test]
fn a_file_opened_for_reading_is_not_mapped_to_be_written_through() {
    let temporary = Temporary::new("ro", PAGE_SIZE);
    let machine = Machine::builder().frames_per_node(64).build().unwrap();
    let file = machine.open(&temporary.0).unwrap();
    let space = machine.space(4).unwrap();
    let refused = space.map_file(&file, 0, 1, Prot::ReadWrite, Sharing::Shared);
    assert!(matches!(refused, Err(MachineError::ReadOnlyFile(_))), "{refused:?}");
    let view = space.map_file(&file, 0, 1, Prot::Read, Sharing::Shared).unwrap();
    assert!(matches!(
        space.protect(&view, Prot::ReadWrite),
        Err(MachineError::ReadOnlyFile(_))
    ));
    let own = space.map_file(&file, 0, 1, Prot::ReadWrite, Sharing::Private).unwrap();
    own.page(0)[0].store(5, Ordering::Relaxed);
    assert_eq!(view.page(0)[0].load(Ordering::Relaxed), word(0, 0));
    let missing = machine.open("/nonexistent/file").unwrap_err();
    assert!(missing.to_string().starts_with("/nonexistent/file: "), "{missing}");
}

#[test]
fn a_truncation_in_the_middle_of_migrations_leaves_no_page_behind() {
    let temporary = Temporary::new("truncate", PAGES * PAGE_SIZE);
    let machine = Machine::builder().frames_per_node(256).build().unwrap();
    let space = machine.space(PAGES).unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|s| {
        s.spawn(|| {
            let mut round = 0;
            while !stop.load(Ordering::Relaxed) {
                move_all(&machine, round);
                round += 1;
            }
        });
        for _ in 0..40 {
            fs::write(&temporary.0, vec![1; PAGES * PAGE_SIZE]).unwrap();
            let file = machine.open_rw(&temporary.0).unwrap();
            let view = space
                .map_file(&file, 0, PAGES, Prot::ReadWrite, Sharing::Shared)
                .unwrap();
            for page in 0..PAGES {
                view.page(page)[0].store(9, Ordering::Relaxed);
            }
            file.truncate(5).unwrap();
            assert_eq!((file.resident(), file.pages()), (5, 5));
            assert_eq!(space.resident(), 5);
            assert_eq!(view.page(4)[0].load(Ordering::Relaxed), 9);
            assert_eq!(fs::metadata(&temporary.0).unwrap().len(), 5 * PAGE_SIZE as u64);
            let sites: Vec<_> = view.sites().skip(5).collect();
            assert!(sites.iter().all(|site| machine.explain(*site).page.is_none()));
            file.truncate(0).unwrap();
            space.unmap(view).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(machine.pages_on(NodeId::new(0)) + machine.pages_on(NodeId::new(1)), 0);
    space.check().unwrap();
}

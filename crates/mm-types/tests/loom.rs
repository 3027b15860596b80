//! The atomics of a page descriptor, each protocol alone: two or three threads, every interleaving, and every value that the orderings,
//! as they are written, let a load return. Built only with `--cfg loom`; `ci/loom` runs it.
#![cfg(loom)]

#[path = "loom/explore.rs"]
mod explore;
#[path = "loom/sleepers.rs"]
mod sleepers;

use std::rc::Rc;

use explore::{Memory, explore};
use loom::cell::Cell;
use loom::thread;
use mm_types::{Page, PageFlags, Sleep};
use sleepers::Sleepers;

/// A page, what it guards, and who sleeps on it.
struct Guarded {
    page: Page,
    contents: Cell<u32>,
    sleepers: Sleepers,
}

impl Guarded {
    fn new() -> Rc<Self> {
        Rc::new(Self {
            page: Page::new(),
            contents: Cell::new(0),
            sleepers: Sleepers::new(),
        })
    }

    fn wait_while(&self, flag: PageFlags) {
        while let Some(seen) = self.page.flags().announce_wait(flag) {
            self.sleepers.wait(self.page.flags().word(), seen);
        }
    }

    fn lock(&self) {
        while !self.page.flags().try_lock() {
            if let Some(seen) = self.page.flags().announce_wait(PageFlags::LOCKED) {
                self.sleepers.wait(self.page.flags().word(), seen);
            }
        }
    }

    fn unlock(&self) {
        if self.page.flags().unlock() {
            self.sleepers.wake_all(self.page.flags().word());
        }
    }
}

/// Explores some threads, the model's own the first of them, and then looks at what is left.
fn search(name: &'static str, first: fn(&Guarded), actors: &'static [fn(&Guarded)], last: fn(&Guarded)) {
    explore(name, actors.len(), None, Memory::AsWritten, move |_| {
        let guarded = Guarded::new();
        first(&guarded);
        let start = |actor: &'static fn(&Guarded)| {
            let guarded = Rc::clone(&guarded);
            thread::spawn(move || actor(&guarded))
        };
        let others: Vec<_> = actors[1..].iter().map(start).collect();
        actors[0](&guarded);
        for other in others {
            other.join().expect("its panic is the model's");
        }
        last(&guarded);
        None
    });
}

fn count_up(guarded: &Guarded) {
    guarded.lock();
    guarded.contents.set(guarded.contents.get() + 1);
    guarded.unlock();
}

#[test]
fn a_page_lock_excludes_and_wakes_whoever_sleeps_for_it() {
    search(
        "lock_lock",
        |_| {},
        &[count_up, count_up],
        |guarded| {
            assert_eq!(guarded.contents.get(), 2);
            assert_eq!(guarded.page.flags().load(), PageFlags::empty());
        },
    );
}

#[test]
fn two_who_wait_for_a_page_lock_are_both_woken() {
    search(
        "unlock_wait_wait",
        |guarded| assert!(guarded.page.flags().try_lock()),
        &[
            Guarded::unlock,
            |guarded| guarded.wait_while(PageFlags::LOCKED),
            |guarded| guarded.wait_while(PageFlags::LOCKED),
        ],
        |guarded| assert_eq!(guarded.page.flags().load(), PageFlags::empty()),
    );
}

#[test]
fn who_waits_for_writeback_is_woken_though_the_lock_opens_first() {
    search(
        "unlock_end_writeback_wait",
        |guarded| {
            assert!(guarded.page.flags().try_lock());
            guarded.page.flags().edit(PageFlags::WRITEBACK, PageFlags::empty());
        },
        &[
            Guarded::unlock,
            |guarded| {
                if guarded.page.flags().end_writeback() {
                    guarded.sleepers.wake_all(guarded.page.flags().word());
                }
            },
            |guarded| guarded.wait_while(PageFlags::WRITEBACK),
        ],
        |guarded| assert_eq!(guarded.page.flags().load(), PageFlags::empty()),
    );
}

fn look(guarded: &Guarded) {
    if guarded.page.get_unless_zero() {
        // Ordered with the store of whoever froze the page before, and kept away from one who would freeze it now.
        let found = guarded.contents.get();
        assert!(found <= 1, "{found}");
        assert!(!guarded.page.put(), "the other reference is still held");
    }
}

#[test]
fn a_frozen_page_is_its_freezers_alone() {
    search(
        "freeze_get_get",
        |guarded| assert!(guarded.page.allocate()),
        &[look, look, |guarded| {
            if guarded.page.freeze(1).is_ok() {
                guarded.contents.set(1);
                guarded.page.unfreeze(1);
            }
        }],
        |guarded| assert_eq!(guarded.page.count(), 1),
    );
}

#[test]
fn an_edit_of_flags_loses_nothing_that_others_change() {
    search(
        "edit_edit_lock",
        |guarded| {
            guarded.page.flags().edit(PageFlags::REFERENCED, PageFlags::empty());
        },
        &[
            |guarded| {
                guarded.page.flags().edit(PageFlags::DIRTY, PageFlags::REFERENCED);
            },
            |guarded| {
                guarded.page.flags().edit(PageFlags::ACTIVE, PageFlags::empty());
            },
            |guarded| {
                assert!(guarded.page.flags().try_lock(), "nobody else takes it");
                guarded.unlock();
            },
        ],
        |guarded| assert_eq!(guarded.page.flags().load(), PageFlags::DIRTY | PageFlags::ACTIVE),
    );
}

fn allocate(guarded: &Guarded) {
    if guarded.page.allocate() {
        // Nobody else has it: the getter looks at the count only.
        guarded.contents.set(guarded.contents.get() + 1);
    }
}

#[test]
fn a_free_frame_is_allocated_once_whoever_tries_to_get_it() {
    search(
        "allocate_allocate_get",
        |_| {},
        &[allocate, allocate, |guarded| {
            if guarded.page.get_unless_zero() {
                assert!(!guarded.page.put(), "who allocated it still holds it");
            }
        }],
        |guarded| {
            assert_eq!(guarded.page.count(), 1);
            assert_eq!(guarded.contents.get(), 1);
        },
    );
}

fn put(guarded: &Guarded) {
    if guarded.page.put() {
        guarded.contents.set(guarded.contents.get() + 1);
    }
}

#[test]
fn the_last_of_three_references_is_known_to_be_the_last() {
    search(
        "put_put_get",
        |guarded| {
            assert!(guarded.page.allocate());
            guarded.page.get();
        },
        &[put, put, |guarded| {
            if guarded.page.get_unless_zero() {
                put(guarded);
            }
        }],
        |guarded| {
            assert_eq!(guarded.page.count(), 0);
            assert_eq!(guarded.contents.get(), 1, "freed once");
        },
    );
}

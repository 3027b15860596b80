//! The program whose instructions `ci/instructions` counts: one case at a time, on the backend that does nothing, and only what is
//! inside [`measured`].
//!
//! Nothing in it depends on the processor, on time or on chance, so that the same program has the same count everywhere.

#[path = "../benches/noop/mod.rs"]
mod noop;

use core::hint::black_box;
use std::process::ExitCode;

use migrate_core::{Frames as _, LINUX_2_6_17, List, MODERN, MapList, PageRef, Profile, Slot, Tally, UsesPageMap as _};
use mm_types::{EntryFormat, MigrationEntry, Mode, NonPresent, Pfn};
use noop::{Noop, bare, prepare, run};

/// Each case is so many pages, or entries.
const PAGES: usize = 4096;

/// The cases, and what their counts are of.
const CASES: &[(&str, &str, fn())] = &[
    ("moved", "a page that moves", || {
        assert_eq!(moved(&MODERN, 1).moved as usize, PAGES);
    }),
    ("moved_2006", "a page that moves under the rules of 2.6.17", || {
        assert_eq!(moved(&LINUX_2_6_17, 1).moved as usize, PAGES);
    }),
    ("moved_from_9", "a page that moves with nine mappings", || {
        assert_eq!(moved(&MODERN, 9).moved as usize, PAGES);
    }),
    (
        "refused",
        "a page that somebody else holds, in all passes of a run",
        refused,
    ),
    ("freed", "a page that its users have freed", freed),
    (
        "bare",
        "a page in the bare loop that the core is compared with",
        bare_loop,
    ),
    ("encode", "a migration entry packed for x86-64", encode),
    ("decode", "a migration entry unpacked for x86-64", decode),
];

/// What is counted.
#[inline(never)]
fn measured<R>(work: impl FnOnce() -> R) -> R {
    work()
}

fn migrate<'n>(noop: &'n Noop, profile: &Profile, (from, news): &mut (MapList<'n>, MapList<'n>)) -> Tally {
    let mut slots: Vec<Slot<Noop>> = (0..512).map(|_| Slot::new()).collect();
    let mut failed = noop.list(14);
    measured(|| run(noop, from, news, &mut failed, &mut slots, profile, Mode::Async, ()))
}

fn moved(profile: &Profile, mappings: usize) -> Tally {
    let noop = Noop::mapped(PAGES, mappings);
    let order: Vec<usize> = (0..PAGES).collect();
    migrate(&noop, profile, &mut prepare(&noop, &order))
}

fn refused() {
    let noop = Noop::new(PAGES);
    let order: Vec<usize> = (0..PAGES).collect();
    let mut lists = prepare(&noop, &order);
    for index in order {
        let held = PageRef::get(noop.page_map(), noop.frame_of(index)).expect("the page is mapped");
        let _ = black_box(held);
    }
    let tally = migrate(&noop, &MODERN, &mut lists);
    assert_eq!(tally.retry as usize, PAGES);
}

fn freed() {
    let noop = Noop::new(PAGES);
    let order: Vec<usize> = (0..PAGES).collect();
    let mut lists = prepare(&noop, &order);
    for index in order {
        noop.put(PageRef::counted(noop.frame_of(index)));
    }
    let tally = migrate(&noop, &MODERN, &mut lists);
    assert_eq!((tally.freed as usize, List::<PageRef>::len(&lists.1)), (PAGES, PAGES));
}

fn bare_loop() {
    let noop = Noop::new(PAGES);
    let order: Vec<usize> = (0..PAGES).collect();
    let (from, news) = prepare(&noop, &order);
    let moves = bare::moves(from, news);
    assert!(measured(|| bare::bare(&noop, &moves)));
}

fn entries() -> Vec<NonPresent> {
    let kinds = [
        MigrationEntry::readable,
        MigrationEntry::readable_exclusive,
        MigrationEntry::writable,
    ];
    (0..PAGES)
        .map(|n| NonPresent::Migration(kinds[n % kinds.len()](Pfn::new(n as u64))))
        .collect()
}

fn encode() {
    let (entries, mut words) = (entries(), vec![0; PAGES]);
    measured(|| {
        for (entry, word) in entries.iter().zip(&mut words) {
            *word = EntryFormat::X86_64.encode(*entry).unwrap_or(0);
        }
    });
    assert!(words.iter().all(|word| *word != 0));
}

fn decode() {
    let format = EntryFormat::X86_64;
    let words: Vec<u64> = entries()
        .iter()
        .map(|entry| format.encode(*entry).unwrap_or(0))
        .collect();
    let found = measured(|| {
        words
            .iter()
            .filter(|word| EntryFormat::X86_64.decode(**word).is_some())
            .count()
    });
    assert_eq!(black_box(found), PAGES);
}

fn main() -> ExitCode {
    let Some(named) = std::env::args().nth(1) else {
        for (name, what, _) in CASES {
            println!("{name} {what}");
        }
        return ExitCode::SUCCESS;
    };
    let Some((.., case)) = CASES.iter().find(|(name, ..)| *name == named) else {
        eprintln!("no case is named {named}");
        return ExitCode::FAILURE;
    };
    case();
    println!("{PAGES}");
    ExitCode::SUCCESS
}

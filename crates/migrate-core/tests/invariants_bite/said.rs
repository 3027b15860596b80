//! What a run said, and how entries are packed.

use migrate_core::invariants::{Looks, check_must_stay, check_outcomes, check_packing, check_targets, check_waiters};
use migrate_core::{LINUX_2_6_17, MODERN, Profile, Tally, WaiterRef};
use mm_types::trace::Event;
use mm_types::{
    EntryFormat, Invariant, MigrationEntry, MigrationFlags, Mode, NonPresent, Outcome, PageFlags, Pfn, Pte, Rules,
};

use super::system::{ANON, moved, named, place, recorded, stayed, traced, waited};

/// Today's rules, but a thread that waits for a page takes a reference, as in 2006.
const WAITERS_HOLD: Profile = Profile {
    waiter: WaiterRef::Take,
    ..MODERN
};

#[test]
fn i24_a_page_that_stays_because_threads_wait_for_it() {
    check_waiters(Rules::Modern, waited(&MODERN), |_| 0).unwrap();
    let events = waited(&WAITERS_HOLD);
    assert_eq!(
        named(check_waiters(Rules::Modern, events.clone(), |_| 0)),
        Invariant::WaitingIsFree
    );
    // In 2006 that was so.
    check_waiters(Rules::Linux2617, events, |_| 0).unwrap();
}

#[test]
fn i29_a_page_without_an_outcome_and_a_wrong_sum() {
    let run = moved(&MODERN);
    check_outcomes(&run.pfns, &run.outcomes, &run.tally).unwrap();
    let silent = check_outcomes(&run.pfns, &run.outcomes[1..], &run.tally);
    assert_eq!(named(silent), Invariant::OneOutcome);
    let tally = Tally { failed: 1, ..run.tally };
    let sum = check_outcomes(&run.pfns, &run.outcomes, &tally);
    assert_eq!(named(sum), Invariant::OneOutcome);
}

#[test]
fn i30_a_new_page_that_is_lost_and_one_pass_too_many() {
    let run = moved(&MODERN);
    check_targets(7, 2, &run.outcomes).unwrap();
    assert_eq!(named(check_targets(7, 1, &run.outcomes)), Invariant::Bounded);
    let passes = traced(recorded(&LINUX_2_6_17, &[ANON], Mode::Sync), |events| {
        let first = place(events, |event| matches!(event, Event::Pass { .. }));
        for number in (1..=11).rev() {
            events.insert(first + 1, Event::Pass { number });
        }
    });
    assert_eq!(passes, Invariant::Bounded);
}

#[test]
fn i35_a_pinned_page_that_moves_and_a_wrong_reason() {
    let run = stayed(&MODERN);
    check_must_stay(&run.before, &run.outcomes).unwrap();
    let to = Pfn::new(0x17f);
    let moved = check_must_stay(&run.before, &[(run.pfns[0], Outcome::Moved { to })]);
    assert_eq!(named(moved), Invariant::MustStay);
    let moved_though = |flag| {
        let mut before = run.before.clone();
        let page = before.frame_mut(run.pfns[0]).unwrap();
        page.pins = 0;
        page.flags.insert(flag);
        check_must_stay(&before, &[(run.pfns[0], Outcome::Moved { to })])
    };
    for flag in [PageFlags::RESERVED, PageFlags::HWPOISON] {
        assert_eq!(named(moved_though(flag)), Invariant::MustStay);
    }
    moved_though(PageFlags::REFERENCED).unwrap();
    let mut before = run.before.clone();
    before.frame_mut(run.pfns[0]).unwrap().pins = 0;
    assert_eq!(named(check_must_stay(&before, &run.outcomes)), Invariant::MustStay);
}

#[test]
fn i37_a_status_that_is_written_twice_and_one_of_a_page_that_was_not_tried() {
    let run = moved(&MODERN);
    let mut outcomes = run.outcomes.clone();
    outcomes.push(outcomes[0]);
    let twice = check_outcomes(&run.pfns, &outcomes, &run.tally);
    assert_eq!(named(twice), Invariant::StatusOnce);
    let foreign = check_outcomes(&run.pfns[1..], &run.outcomes, &run.tally);
    assert_eq!(named(foreign), Invariant::StatusOnce);
}

#[test]
fn i40_an_entry_that_reads_back_as_another_or_looks_like_one_that_is_present() {
    let format = EntryFormat::X86_64;
    let migration = MigrationEntry::writable(Pfn::new(0x1234)).with_flags(MigrationFlags::DIRTY);
    let entry = Pte::Migration(migration);
    let word = format.encode(NonPresent::Migration(migration)).unwrap();
    let looks = |word: u64| Looks {
        present: format.is_present(word),
        none: format.is_none(word),
        file: format.is_file(word),
    };
    let decode = |word: u64| match format.decode(word)? {
        NonPresent::Migration(entry) => Some(Pte::Migration(entry)),
        _ => None,
    };
    check_packing(entry, word, looks, decode).unwrap();
    let forgetful = |word: u64| {
        let entry = decode(word)?.migration()?;
        Some(Pte::Migration(entry.with_flags(MigrationFlags::empty())))
    };
    let lost = check_packing(entry, word, looks, forgetful);
    assert_eq!(named(lost), Invariant::EntryReadsBack);
    let present = check_packing(entry, word | 1, looks, decode);
    assert_eq!(named(present), Invariant::EntryReadsBack);
}

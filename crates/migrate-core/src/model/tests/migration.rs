//! The model under migration: every kind of page, whatever holds it, and whatever happens in the middle.

use std::vec::Vec;

use mm_types::trace::Event;
use mm_types::{Mode, Outcome, PageFlags, Pfn, Pte, Refusal, SpaceId};

use super::{NODE1, at, frame, good, model, outcome, read, write};
use crate::fixture::Recording;
use crate::model::{Access, Model, ModelFixture, WritePage};
use crate::{Frames, LINUX_2_6_17, MODERN, Mover, Profile};

/// Every kind of page, in both profiles: it moves, its contents with it, and everything adds up.
#[test]
fn every_kind_of_page_moves_and_adds_up() {
    type Make = fn(&Model, SpaceId) -> Pfn;
    let kinds: [(&str, Make); 7] = [
        ("anonymous", |model, space| {
            model.map_anon(at(space, 0), 1);
            write(model, at(space, 0), 7);
            frame(model, at(space, 0))
        }),
        ("forked", |model, space| {
            model.map_anon(at(space, 0), 1);
            write(model, at(space, 0), 7);
            model.fork(space, ());
            model.fork(space, ());
            frame(model, at(space, 0))
        }),
        ("in the swap cache", |model, space| {
            model.map_anon(at(space, 0), 1);
            write(model, at(space, 0), 7);
            let pfn = frame(model, at(space, 0));
            model.swap_cache(pfn).unwrap();
            pfn
        }),
        ("shared file", |model, space| {
            let file = model.create_file(2, Mover::Plain, WritePage::Unlocks);
            model.map_file(at(space, 0), 1, file, 0, true);
            write(model, at(space, 0), 7);
            frame(model, at(space, 0))
        }),
        ("file with buffers", |model, space| {
            let file = model.create_file(2, Mover::Buffers, WritePage::Unlocks);
            model.map_file(at(space, 0), 1, file, 0, true);
            write(model, at(space, 0), 7);
            frame(model, at(space, 0))
        }),
        ("private copy of a file", |model, space| {
            let file = model.create_file(2, Mover::Plain, WritePage::Unlocks);
            model.map_file(at(space, 0), 1, file, 0, false);
            write(model, at(space, 0), 7);
            frame(model, at(space, 0))
        }),
        ("nonlinear", |model, space| {
            let file = model.create_file(4, Mover::Plain, WritePage::Unlocks);
            model.map_file(at(space, 0), 2, file, 0, true);
            model.remap_file(at(space, 0), 3, ());
            write(model, at(space, 0), 7);
            frame(model, at(space, 0))
        }),
    ];
    for profile in [&MODERN, &LINUX_2_6_17] {
        for (kind, make) in kinds {
            let (model, space) = model(profile);
            let pfn = make(&model, space);
            let Outcome::Moved { to } = outcome(&model, pfn, profile) else {
                panic!("{kind}: {:?}", outcome(&model, pfn, profile))
            };
            assert_eq!(model.node_of(to), NODE1, "{kind}");
            model
                .check(&[])
                .unwrap_or_else(|violation| panic!("{kind}, {}: {violation}", profile.rules));
            assert_eq!(model.page(pfn).count(), 0, "{kind}: the old page is free");
            assert_eq!(read(&model, at(space, 0)), Access::Done(7), "{kind}");
            assert_eq!(frame(&model, at(space, 0)), to, "{kind}");
            good(&model);
        }
    }
}

#[test]
fn what_holds_a_page_is_named() {
    for profile in [&MODERN, &LINUX_2_6_17] {
        let (model, space) = model(profile);
        model.map_anon(at(space, 0), 1);
        write(&model, at(space, 0), 7);
        let pfn = frame(&model, at(space, 0));
        assert!(model.pin(pfn));
        assert_eq!(
            outcome(&model, pfn, profile),
            Outcome::Refused(Refusal::Pinned { pins: 1 })
        );
        model.check(&[]).unwrap();
        model.unpin(pfn);
        let held = model.get(pfn).unwrap();
        let extra = Refusal::ExtraReference { expected: 1, found: 2 };
        assert_eq!(outcome(&model, pfn, profile), Outcome::Refused(extra));
        model.check(&[pfn]).unwrap();
        model.put(held);
        assert_eq!(read(&model, at(space, 0)), Access::Done(7));
        assert!(matches!(outcome(&model, pfn, profile), Outcome::Moved { .. }));
        good(&model);
    }
}

#[test]
fn a_page_in_a_locked_nonlinear_area_stays_in_2006() {
    let site = Some(at(SpaceId::new(0), 0));
    // For good where there is no other nonlinear area, as far as 2.6.17 looks.
    for (locked, refusal) in [(2, Refusal::Mlocked { site }), (1, Refusal::Mapped { site })] {
        for profile in [&MODERN, &LINUX_2_6_17] {
            let (model, space) = model(profile);
            let file = model.create_file(2, Mover::Plain, WritePage::Unlocks);
            model.map_file(at(space, 0), 2, file, 0, true);
            for (page, index) in [(0, 1), (1, 0)] {
                model.remap_file(at(space, page), index, ());
                read(&model, at(space, page));
            }
            model.mlock(at(space, 0), locked, true);
            let outcome = outcome(&model, frame(&model, at(space, 0)), profile);
            if profile.mlocked_stays {
                assert_eq!(outcome, Outcome::Refused(refusal));
            } else {
                assert!(matches!(outcome, Outcome::Moved { .. }), "{outcome:?}");
            }
            good(&model);
        }
    }
}

#[test]
fn a_run_sleeps_until_writeback_ends_and_the_lock_opens() {
    let (model, space) = model(&MODERN);
    let file = model.create_file(1, Mover::Plain, WritePage::Unlocks);
    model.map_file(at(space, 0), 1, file, 0, true);
    write(&model, at(space, 0), 7);
    let pfn = frame(&model, at(space, 0));
    model.begin_writeback(pfn);
    assert!(model.lock_page(pfn));
    model.on_sleep(move |model| model.unlock_page(pfn));
    model.on_sleep(move |model| model.end_writeback(pfn));
    assert!(matches!(outcome(&model, pfn, &MODERN), Outcome::Moved { .. }));
    assert_eq!(model.stored(file, 0), Some(7));
    good(&model);
}

#[test]
fn many_pages_move_in_one_batch() {
    let (model, space) = model(&MODERN);
    model.map_anon(at(space, 0), 20);
    (0..20).for_each(|page| write(&model, at(space, page), page + 1));
    let child = model.fork(space, ());
    let pfns: Vec<Pfn> = (0..20).map(|page| frame(&model, at(space, page))).collect();
    let (tally, _) = model.migrate(&pfns, NODE1, &MODERN, Mode::Async, 8, ());
    assert_eq!((tally.moved, tally.left()), (20, 0));
    good(&model);
    for page in 0..20 {
        assert_eq!(read(&model, at(child, page)), Access::Done(page + 1));
        assert!(matches!(model.pte(at(space, page)), Pte::Present { .. }));
    }
}

#[test]
fn rules_that_allow_no_page_in_a_batch_move_pages_one_by_one() {
    let none = Profile { max_batch: 0, ..MODERN };
    let (model, space) = model(&MODERN);
    model.map_anon(at(space, 0), 2);
    let pfns = [0, 1].map(|page| {
        write(&model, at(space, page), page + 7);
        frame(&model, at(space, page))
    });
    let (tally, _) = model.migrate(&pfns, NODE1, &none, Mode::Async, 2, ());
    assert_eq!((tally.moved, tally.passes), (2, 1));
    good(&model);
}

#[test]
fn a_page_that_is_tried_again_at_once_keeps_its_new_page() {
    // Today's batches, whose pages are tried again with both locks held, with new pages that are taken late as in 2006.
    let late = Profile {
        new_page_first: false,
        ..MODERN
    };
    let (model, space) = model(&MODERN);
    model.map_anon(at(space, 0), 2);
    let pfns = [0, 1].map(|page| {
        write(&model, at(space, page), page + 7);
        frame(&model, at(space, page))
    });
    let free = model.free_frames(NODE1);
    let held = model.get(pfns[0]).unwrap();
    let (tally, _) = model.migrate(&pfns, NODE1, &late, Mode::Async, 2, ());
    assert_eq!((tally.moved, tally.retry), (1, 1));
    assert_eq!(model.free_frames(NODE1), free - 1, "every new page but one came back");
    model.put(held);
    good(&model);
}

fn play(profile: &'static Profile, text: &str) -> std::string::String {
    use crate::fixture::{Replay, run_scenario};
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let text = std::format!("scenario v1\nspace m0\n{}\n", lines.join("\n"));
    match run_scenario(&mut ModelFixture::new(), &text, Some(profile)) {
        Ok(Replay::Ran(report)) => std::format!("{report}"),
        other => panic!("{}\n{text}{other:?}", profile.rules),
    }
}

#[test]
fn a_thread_that_touches_a_page_in_flight_sleeps_and_goes_on_at_the_unlock() {
    for profile in [&MODERN, &LINUX_2_6_17] {
        let text = "map p0 m0+0x3 anon rw
            write m0+0x3 0x2a
            at flush: fault t1 m0+0x3 read
            migrate p0
            expect moved p0
            expect read m0+0x3 0x2a";
        let trace = play(profile, text);
        let place = |word: &str| trace.find(word).unwrap_or_else(|| panic!("{word}: {trace}"));
        assert!(
            place("\nmigration_entry_wait ") < place("\nunlock ") && place("\nunlock ") < place("\nwake "),
            "{trace}"
        );
    }
}

/// Whatever a scenario can ask for, in the middle of a run where that makes sense; each ends with the fixture's check.
#[test]
fn every_step_of_a_scenario_adds_up() {
    let texts = [
        "map p0 m0+0x0 anon rw
         write m0+0x0 1
         at copy: fork m0 m1
         migrate p0
         expect moved p0
         write m1+0x0 2
         expect read m0+0x0 1
         expect read m1+0x0 2",
        "map p0 m0+0x0 anon rw
         write m0+0x0 1
         at flush: mremap m0+0x0 m0+0x9
         migrate p0
         expect moved p0
         expect read m0+0x9 1",
        "map p0 m0+0x0 anon rw
         at flush: protect m0+0x0 ro
         migrate p0
         protect m0+0x0 rw
         write m0+0x0 4
         expect read m0+0x0 4",
        "map p0 m0+0x0 anon rw
         at flush: unmap m0+0x0
         migrate p0",
        "map p0 m0+0x0 anon rw
         isolate p0
         free p0
         migrate p0
         expect freed p0",
        "space m1
         map p0 m0+0x0 anon rw
         share p0 m1+0x4 rw
         write m0+0x0 1
         migrate p0
         expect moved p0
         write m1+0x4 2
         expect read m0+0x0 2",
        // The first access leaves a translation in the second CPU's TLB, which must not be there any more at the copy.
        "map p0 m0+0x0 anon rw
         fault t2 m0+0x0 write
         write m0+0x0 1
         at copy: fault t2 m0+0x0 write
         migrate p0
         expect moved p0
         expect read m0+0x0 2",
        "map p0 m0+0x0 anon rw
         pin p0
         migrate p0
         expect refused p0 pinned",
        "file b0 pages=4 mover=plain
         map p0 m0+0x0 file=b0+0x0 rw shared
         write m0+0x0 7
         at flush: truncate p0
         migrate p0",
        "file b0 pages=4 mover=buffers
         map p0 m0+0x0 file=b0+0x1 rw shared
         buffers_busy p0
         at wait: buffers_free p0
         migrate p0",
        "file b0 pages=4 mover=fallback
         map p0 m0+0x0 file=b0+0x1 ro private
         dirty p0
         migrate p0",
        "file b0 pages=4 mover=plain
         map p0 m0+0x0 file=b0+0x1 rw shared
         nonlinear m0+0x0
         migrate p0
         write m0+0x0 3
         expect read m0+0x0 3",
        "map p0 m0+0x0 anon rw
         write m0+0x0 3
         swapcache p0
         migrate p0
         expect moved p0
         write m0+0x0 4
         expect read m0+0x0 4",
        "map p0 m0+0x0 anon rw
         mlock m0+0x0
         migrate p0",
    ];
    const EACH: usize = if cfg!(miri) { 4 } else { 1 };
    for text in texts.into_iter().step_by(EACH) {
        for profile in [&MODERN, &LINUX_2_6_17] {
            play(profile, text);
        }
    }
}

/// A dirty page of a file without a mover, under 2006 rules: what its file system does decides.
#[test]
fn a_dirty_page_without_a_mover_is_written_and_moves_in_a_later_pass() {
    let moved = |write_page| {
        let (model, space) = model(&LINUX_2_6_17);
        let file = model.create_file(1, Mover::Fallback, write_page);
        model.map_file(at(space, 0), 1, file, 0, true);
        write(&model, at(space, 0), 7);
        let pfn = frame(&model, at(space, 0));
        if write_page == WritePage::Starts {
            model.on_sleep(move |model| model.end_writeback(pfn));
        }
        let outcome = outcome(&model, pfn, &LINUX_2_6_17);
        good(&model);
        assert_eq!(read(&model, at(space, 0)), Access::Done(7));
        (outcome, model.stored(file, 0) == Some(7))
    };
    for writes in [WritePage::Unlocks, WritePage::Starts] {
        assert!(matches!(moved(writes), (Outcome::Moved { .. }, true)), "{writes:?}");
    }
    for (fails, refusal) in [
        (WritePage::Missing, Refusal::NoWritepage),
        (WritePage::Activates, Refusal::WrittenOut),
        (WritePage::Fails, Refusal::WriteFailed),
        (WritePage::FailsUnlocked, Refusal::WriteFailed),
    ] {
        assert_eq!(moved(fails), (Outcome::Refused(refusal), false), "{fails:?}");
    }
}

#[test]
fn a_clean_page_without_a_mover_gives_up_its_buffers_and_moves_at_the_first_try() {
    for profile in [&MODERN, &LINUX_2_6_17] {
        let (model, space) = model(profile);
        let file = model.create_file(1, Mover::Fallback, WritePage::Unlocks);
        model.map_file(at(space, 0), 1, file, 0, true);
        read(&model, at(space, 0));
        let pfn = frame(&model, at(space, 0));
        model.attach_buffers(pfn);
        let recording = Recording::with_capacity(64);
        let (_, outcomes) = model.migrate(&[pfn], NODE1, profile, Mode::Sync, 1, &recording);
        let [(_, Outcome::Moved { to })] = *outcomes else {
            panic!("{outcomes:?}")
        };
        assert!(!model.page(to).flags().load().contains(PageFlags::PRIVATE));
        let tries = recording.events().filter(|event| *event == Event::Lock(pfn)).count();
        assert_eq!(tries, 1, "{}", profile.rules);
        good(&model);
    }
}

#[test]
fn a_page_cut_off_its_file_that_somebody_holds_is_refused_for_that_alone() {
    for profile in [&MODERN, &LINUX_2_6_17] {
        play(
            profile,
            "file b0 pages=4 mover=plain
             map p0 m0+0x3 file=b0+0x1 rw shared
             isolate p0
             truncate p0
             get p0
             migrate p0
             expect refused p0 extra_reference",
        );
    }
}

#[test]
fn an_unreadable_page_stays_today_and_is_in_error_after_the_switch_of_2006() {
    let (model, space) = model(&MODERN);
    model.map_anon(at(space, 0), 1);
    write(&model, at(space, 0), 7);
    let pfn = frame(&model, at(space, 0));
    model.set_unreadable(pfn, true);
    assert_eq!(outcome(&model, pfn, &MODERN), Outcome::Refused(Refusal::CopyFailed));
    assert_eq!(
        (frame(&model, at(space, 0)), read(&model, at(space, 0))),
        (pfn, Access::Done(7))
    );
    good(&model);
    assert_eq!(
        outcome(&model, pfn, &LINUX_2_6_17),
        Outcome::Refused(Refusal::CopiedTooLate)
    );
    let to = frame(&model, at(space, 0));
    let flags = model.page(to).flags().load();
    assert!(to != pfn && flags.contains(PageFlags::ERROR) && !flags.contains(PageFlags::UPTODATE));
    good(&model);
}

#[test]
#[should_panic(expected = "a thread sleeps for ever")]
fn a_run_that_waits_for_a_buffer_that_nobody_unlocks_is_an_error() {
    let (model, space) = model(&MODERN);
    let file = model.create_file(1, Mover::Buffers, WritePage::Unlocks);
    model.map_file(at(space, 0), 1, file, 0, true);
    write(&model, at(space, 0), 7);
    let pfn = frame(&model, at(space, 0));
    model.set_buffers_busy(pfn, true);
    outcome(&model, pfn, &MODERN);
}

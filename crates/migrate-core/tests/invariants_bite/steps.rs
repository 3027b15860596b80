//! The steps of a run: its trace, and a watch before each step.

use core::ops::ControlFlow;

use migrate_core::invariants::{Violation, Watch};
use migrate_core::model::Model;
use migrate_core::{Edge, Frames, Hook as _, LINUX_2_6_17, MODERN, Profile, Rmap as _, Target as _, Verdict};
use mm_types::trace::Event;
use mm_types::{AnonVmaId, Invariant, Mapping, Mode, PageFlags, Pfn};

use super::system::{ANON, CACHED, NODE1, SHARED, frame, hooked, in_flight, named, place, recorded, system, traced};

#[test]
fn i10_a_new_page_that_is_seen_before_its_contents() {
    let broken = traced(recorded(&LINUX_2_6_17, &[ANON], Mode::Sync), |events| {
        let restore = place(events, |event| matches!(event, Event::Restore { .. }));
        let restore = events.remove(restore);
        let copy = place(events, |event| matches!(event, Event::Copy { .. }));
        events.insert(copy, restore);
    });
    assert_eq!(broken, Invariant::CopyBeforeUse);
}

#[test]
fn i19_a_switch_while_the_count_was_not_frozen() {
    for profile in [&MODERN, &LINUX_2_6_17] {
        let broken = traced(recorded(profile, &[ANON], Mode::Sync), |events| {
            events.retain(|event| !matches!(event, Event::Freeze { .. } | Event::SetMapping { .. }));
        });
        assert_eq!(broken, Invariant::SwitchFrozen);
    }
}

/// Watches a run in which somebody does something before the copy.
fn watched(profile: &Profile, before_copy: impl Fn(&Model, Pfn)) -> Result<(), Violation> {
    let model = system(&MODERN);
    let pfn = frame(&model, ANON);
    let hook = |edge: Edge| {
        if let Edge::Copy { new, .. } = edge {
            before_copy(&model, new);
        }
        Verdict::Go
    };
    let watch = Watch::new(&model, profile, Mode::Sync, hook);
    hooked(&model, &watch, profile, Mode::Sync, pfn);
    watch.finish()
}

#[test]
fn i22_a_new_page_that_is_touched_before_the_point_of_no_return() {
    watched(&MODERN, |_, _| {}).unwrap();
    // Its settings are set early in 2006, and that is exempt.
    watched(&LINUX_2_6_17, |_, _| {}).unwrap();
    let touched = watched(&MODERN, |model, new| {
        model.page(new).flags().edit(PageFlags::REFERENCED, PageFlags::empty());
    });
    assert_eq!(named(touched), Invariant::DestinationUntouched);
    let mapped = watched(&MODERN, |model, new| {
        model.page(new).set_mapping(Mapping::Anon(AnonVmaId::new(0)));
    });
    assert_eq!(named(mapped), Invariant::DestinationUntouched);
    // Somebody who waits for its lock has done nothing to it.
    watched(&MODERN, |model, new| {
        model.page(new).flags().edit(PageFlags::WAITERS, PageFlags::empty());
    })
    .unwrap();
}

/// What a watch says of steps that somebody makes of a run.
fn steps(mode: Mode, steps: impl FnOnce(&Model, &dyn Fn(Edge))) -> Result<(), Violation> {
    let model = system(&MODERN);
    let watch = Watch::new(&model, &MODERN, mode, |_: Edge| Verdict::Go);
    steps(&model, &|edge| {
        watch.before(edge);
    });
    let wrong = watch.wrong();
    let finished = watch.finish();
    assert_eq!(wrong, finished.clone().err());
    finished
}

/// A switch as it should be made: of a page whose count is frozen.
fn switch(model: &Model, step: &dyn Fn(Edge), old: Pfn, new: Pfn) {
    let page = model.page(old);
    let count = page.count();
    page.freeze(count).unwrap();
    step(Edge::Switch { old, new });
    page.unfreeze(count);
}

#[test]
fn a_watch_sees_a_switch_of_a_page_that_others_can_get() {
    let pair = |model: &Model| (frame(model, SHARED), frame(model, ANON));
    steps(Mode::Sync, |model, step| {
        let (old, new) = pair(model);
        switch(model, step, old, new);
    })
    .unwrap();
    let open = steps(Mode::Sync, |model, step| {
        let (old, new) = pair(model);
        step(Edge::Switch { old, new });
    });
    assert_eq!(named(open), Invariant::SwitchFrozen);
}

#[test]
fn a_watch_sees_a_switch_of_a_page_that_could_not_be_read() {
    let switched = |profile: &'static Profile, again: bool| {
        let model = system(profile);
        let page = model.allocate(NODE1).unwrap();
        let (old, new) = (frame(&model, SHARED), page.pfn());
        let fails = core::cell::Cell::new(true);
        let watch = Watch::new(&model, profile, Mode::Sync, |edge: Edge| match edge {
            Edge::Copy { .. } if fails.get() => Verdict::Fail,
            _ => Verdict::Go,
        });
        watch.before(Edge::Copy { old, new });
        if again {
            fails.set(false);
            watch.before(Edge::Copy { old, new });
        }
        let step = |edge| {
            watch.before(edge);
        };
        switch(&model, &step, old, new);
        model.put(page);
        watch.finish()
    };
    assert_eq!(named(switched(&MODERN, false)), Invariant::CopyErrorReported);
    // Where it could be read when it was tried again, and where there was no way back.
    switched(&MODERN, true).unwrap();
    switched(&LINUX_2_6_17, false).unwrap();
}

#[test]
fn a_watch_sees_a_light_run_that_sleeps_for_a_page_that_is_being_read_in() {
    let sleep = |read: bool| {
        move |model: &Model, step: &dyn Fn(Edge)| {
            let pfn = frame(model, ANON);
            let gone = if read { PageFlags::empty() } else { PageFlags::UPTODATE };
            model.page(pfn).flags().edit(PageFlags::empty(), gone);
            step(Edge::Lock(pfn));
        }
    };
    steps(Mode::SyncLight, sleep(true)).unwrap();
    steps(Mode::Sync, sleep(false)).unwrap();
    assert_eq!(named(steps(Mode::SyncLight, sleep(false))), Invariant::AsyncNeverWaits);
}

#[test]
fn i31_a_run_that_sleeps_and_may_not() {
    let sleep = |model: &Model, step: &dyn Fn(Edge)| step(Edge::Lock(frame(model, ANON)));
    steps(Mode::Sync, sleep).unwrap();
    assert_eq!(named(steps(Mode::Async, sleep)), Invariant::AsyncNeverWaits);
    for wait in [Edge::WaitWriteback, Edge::WaitBuffers] {
        let wait = |model: &Model, step: &dyn Fn(Edge)| step(wait(frame(model, SHARED)));
        steps(Mode::Sync, wait).unwrap();
        assert_eq!(named(steps(Mode::Async, wait)), Invariant::AsyncNeverWaits);
    }
    let waited = traced(recorded(&MODERN, &[SHARED], Mode::Sync), |events| {
        let Event::Start { mode, .. } = events
            .iter_mut()
            .find(|event| matches!(event, Event::Start { .. }))
            .unwrap()
        else {
            unreachable!()
        };
        *mode = Mode::Async;
        let lock = place(events, |event| matches!(event, Event::Lock(_)));
        let Event::Lock(pfn) = events[lock] else { unreachable!() };
        events.insert(lock + 1, Event::WaitWriteback(pfn));
    });
    assert_eq!(waited, Invariant::AsyncNeverWaits);
}

#[test]
fn i32_a_run_that_sleeps_with_another_page_locked() {
    let slept = |other: bool| {
        steps(Mode::Sync, |model, step| {
            let (first, second) = (frame(model, ANON), frame(model, SHARED));
            if other {
                step(Edge::TryLock(first));
                assert!(model.page(first).flags().try_lock());
            }
            step(Edge::TryLock(second));
            step(Edge::Lock(second));
            model.page(first).flags().edit(PageFlags::empty(), PageFlags::LOCKED);
        })
    };
    slept(false).unwrap();
    assert_eq!(named(slept(true)), Invariant::NoWaitWithLocks);
    let after_a_sleep = steps(Mode::Sync, |model, step| {
        step(Edge::Lock(frame(model, ANON)));
        step(Edge::WaitWriteback(frame(model, SHARED)));
    });
    assert_eq!(named(after_a_sleep), Invariant::NoWaitWithLocks);
    // Its own lock, and that of the new page which became it, are no other page's.
    let waited = |switched: &[u64], locked: &[u64]| {
        steps(Mode::Sync, |model, step| {
            for page in locked {
                let pfn = frame(model, *page);
                step(Edge::TryLock(pfn));
                assert!(model.page(pfn).flags().try_lock());
            }
            if let [old, new] = switched {
                let (old, new) = (frame(model, *old), frame(model, *new));
                switch(model, step, old, new);
            }
            step(Edge::WaitWriteback(frame(model, SHARED)));
            for page in locked {
                let page = model.page(frame(model, *page));
                page.flags().edit(PageFlags::empty(), PageFlags::LOCKED);
            }
        })
    };
    waited(&[], &[SHARED]).unwrap();
    waited(&[SHARED, ANON], &[SHARED, ANON]).unwrap();
    for switched in [&[][..], &[SHARED, CACHED], &[CACHED, ANON]] {
        assert_eq!(
            named(waited(switched, &[SHARED, ANON])),
            Invariant::NoWaitWithLocks,
            "{switched:?}"
        );
    }
}

#[test]
fn i34_code_of_others_that_is_called_under_a_spinlock() {
    for step in [Edge::Take, Edge::Writeout, Edge::ReleaseBuffers] {
        let called = |locked: bool| {
            let model = system(&MODERN);
            let pfn = frame(&model, SHARED);
            let watch = Watch::new(&model, &MODERN, Mode::Sync, |_: Edge| Verdict::Go);
            let page = model.try_lock(model.get(pfn).unwrap()).unwrap();
            let mut gather = model.gather();
            if locked {
                model.walk(&page, &mut gather, &mut |_| {
                    watch.before(step(pfn));
                    ControlFlow::Break(())
                });
            } else {
                watch.before(step(pfn));
            }
            model.flush(gather);
            model.put(model.unlock(page));
            watch.finish()
        };
        called(false).unwrap();
        assert_eq!(named(called(true)), Invariant::NoEntriesAtCallback, "{step:?}");
    }
}

#[test]
fn i34_an_allocation_under_a_spinlock_is_noticed_where_nobody_watches() {
    let model = system(&MODERN);
    let page = model.try_lock(model.get(frame(&model, ANON)).unwrap()).unwrap();
    let (mut target, mut gather, mut taken) = (model.target(NODE1), model.gather(), None);
    assert_eq!(model.check_noticed(), Ok(()));
    model.walk(&page, &mut gather, &mut |_| {
        taken = target.take(&model, Frames::page(&model, &page)).ok();
        ControlFlow::Break(())
    });
    model.flush(gather);
    assert_eq!(named(model.check_noticed()), Invariant::NoEntriesAtCallback);
    target.give_back(&model, taken.unwrap());
    model.put(model.unlock(page));
}

#[test]
fn i34_a_page_that_is_written_out_while_entries_name_it() {
    let broken = traced(recorded(&LINUX_2_6_17, &[ANON], Mode::Sync), |events| {
        let copy = place(events, |event| matches!(event, Event::Copy { .. }));
        let Event::Copy { old, .. } = events[copy] else {
            unreachable!()
        };
        events.insert(copy, Event::Writeout { pfn: old, ok: true });
    });
    assert_eq!(broken, Invariant::NoEntriesAtCallback);
    // The core counts entries in debug builds.
    if cfg!(debug_assertions) {
        let state = in_flight(|_, _| {});
        let watch = Watch::new(&state, &LINUX_2_6_17, Mode::Sync, |_: Edge| Verdict::Go);
        let pfn = state.frames.iter().zip(state.first..).find_map(|(page, n)| {
            let page = page.as_ref()?;
            (page.entries_out > Some(0)).then_some(Pfn::new(n))
        });
        watch.before(Edge::Writeout(pfn.unwrap()));
        assert_eq!(named(watch.finish()), Invariant::NoEntriesAtCallback);
    }
}

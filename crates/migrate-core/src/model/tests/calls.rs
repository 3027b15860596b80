//! What a caller chooses: whom a light run waits for, where old pages go without a list for them, and a target that is lent.

use std::collections::VecDeque;
use std::vec::Vec;

use mm_types::{Mode, Outcome, PageFlags, Reason, Refusal};

use super::{NODE1, at, frame, good, model, write};
use crate::model::Model;
use crate::{
    Args, Isolated, LINUX_2_6_17, MODERN, NewPages, PageRef, Profile, Slot, Target, migrate_pages, putback_lru_pages,
};

#[test]
fn a_light_run_waits_for_the_lock_of_a_page_that_is_read_and_not_of_one_being_read() {
    for (mode, uptodate, waits) in [
        (Mode::SyncLight, true, true),
        (Mode::SyncLight, false, false),
        (Mode::Sync, true, true),
        (Mode::Sync, false, true),
    ] {
        let (model, space) = model(&MODERN);
        model.map_anon(at(space, 0), 1);
        write(&model, at(space, 0), 7);
        crate::migrate_prep(&model);
        let pfn = frame(&model, at(space, 0));
        if !uptodate {
            model.page(pfn).flags().edit(PageFlags::empty(), PageFlags::UPTODATE);
        }
        assert!(model.lock_page(pfn));
        model.on_sleep(move |model| {
            model.page(pfn).flags().edit(PageFlags::UPTODATE, PageFlags::empty());
            model.unlock_page(pfn);
        });
        let (_, outcomes) = model.migrate(&[pfn], NODE1, &MODERN, mode, 1, ());
        let (_, last) = outcomes.last().unwrap();
        if waits {
            assert!(matches!(last, Outcome::Moved { .. }), "{mode} {uptodate}: {last:?}");
            good(&model);
        } else {
            assert_eq!(*last, Outcome::Refused(Refusal::LockBusy));
        }
    }
}

/// Runs over one page, with what is left of the caller's choice.
fn run(
    model: &Model,
    profile: &'static Profile,
    target: impl Target<Model>,
    from: &mut VecDeque<Isolated<PageRef>>,
) -> Vec<Outcome> {
    let (mut failed, mut outcomes) = (VecDeque::new(), Vec::new());
    let args = Args {
        from: &mut *from,
        target,
        moved: None,
        failed: &mut failed,
        slots: &mut [const { Slot::new() }],
        profile,
        mode: Mode::Sync,
        reason: Reason::SyscallOrCpuset,
        outcome: &mut |_: &PageRef, outcome: Outcome| outcomes.push(outcome),
        observer: (),
    };
    migrate_pages(model, args).unwrap();
    for list in [from, &mut failed] {
        putback_lru_pages(model, list, ());
    }
    outcomes
}

#[test]
fn without_a_list_for_it_an_old_page_is_staged_in_2006_and_freed_today() {
    for (profile, staged) in [(&LINUX_2_6_17, 1), (&MODERN, 0)] {
        let (model, space) = model(profile);
        model.map_anon(at(space, 0), 1);
        write(&model, at(space, 0), 7);
        crate::migrate_prep(&model);
        let pfn = frame(&model, at(space, 0));
        let mut from = VecDeque::from([model.isolate(pfn, ()).unwrap()]);
        let outcomes = run(&model, profile, model.target(NODE1), &mut from);
        assert!(matches!(outcomes.last(), Some(Outcome::Moved { .. })), "{outcomes:?}");
        assert_eq!(model.page(pfn).count(), staged, "{}", profile.rules);
        crate::migrate_prep(&model);
        assert_eq!(model.page(pfn).count(), 0);
        good(&model);
    }
}

#[test]
fn a_target_that_is_lent_is_asked_and_gets_back_what_was_not_used() {
    for profile in [&LINUX_2_6_17, &MODERN] {
        let (model, space) = model(profile);
        model.map_anon(at(space, 0), 1);
        write(&model, at(space, 0), 7);
        crate::migrate_prep(&model);
        let pfn = frame(&model, at(space, 0));
        let isolated = || VecDeque::from([model.isolate(pfn, ()).unwrap()]);
        // Somebody holds the page: what was taken for it comes back.
        let mut news = VecDeque::from([model.allocate(NODE1).unwrap()]);
        let mut target = NewPages(&mut news);
        assert!(!Target::<Model>::is_exhausted(&&mut target));
        assert!(model.pin(pfn));
        run(&model, profile, &mut target, &mut isolated());
        model.unpin(pfn);
        assert_eq!(news.len(), 1);
        crate::migrate_prep(&model);
        let outcomes = run(&model, profile, &mut NewPages(&mut news), &mut isolated());
        assert!(matches!(outcomes.last(), Some(Outcome::Moved { .. })), "{outcomes:?}");
        assert!(news.is_empty());
        let mut target = NewPages(&mut news);
        assert!(Target::<Model>::is_exhausted(&&mut target));
        crate::migrate_prep(&model);
        good(&model);
    }
}

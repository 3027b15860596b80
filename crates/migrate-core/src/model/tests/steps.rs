//! Which steps a run makes, and how often.

use core::cell::RefCell;
use std::collections::VecDeque;
use std::vec::Vec;

use mm_types::{Mode, Outcome, Pfn, Reason, Refusal};

use super::{NODE1, at, frame, good, model, read, write};
use crate::model::{Model, WritePage};
use crate::{
    Args, Edge, EdgeKind, Failure, Hooked, HookedTarget, Isolated, LINUX_2_6_17, MODERN, Mover, PageRef, Profile, Slot,
    Verdict, migrate_pages, migrate_prep, putback_lru_pages,
};

/// A run over pages, so many at a time; its steps, and what became of each page.
fn run(
    model: &Model,
    pfns: &[Pfn],
    slots: usize,
    (profile, mode): (&'static Profile, Mode),
    answer: impl Fn(Edge) -> Verdict,
) -> (Vec<EdgeKind>, Vec<(Pfn, Outcome)>) {
    migrate_prep(model);
    let steps = RefCell::new(Vec::new());
    let hook = |edge: Edge| {
        steps.borrow_mut().push(edge.kind());
        answer(edge)
    };
    let mut from: VecDeque<Isolated<PageRef>> = pfns.iter().map(|pfn| model.isolate(*pfn, ()).unwrap()).collect();
    let (mut moved, mut failed) = (VecDeque::new(), VecDeque::new());
    let mut outcomes = Vec::new();
    let args = Args {
        from: &mut from,
        target: HookedTarget(model.target(NODE1)),
        moved: Some(&mut moved),
        failed: &mut failed,
        slots: &mut (0..slots).map(|_| Slot::new()).collect::<Vec<_>>(),
        profile,
        mode,
        reason: Reason::Compaction,
        outcome: &mut |page: &PageRef, outcome| outcomes.push((page.pfn(), outcome)),
        observer: (),
    };
    migrate_pages(&Hooked::new(model, &hook), args).unwrap();
    for list in [&mut from, &mut moved, &mut failed] {
        putback_lru_pages(model, list, ());
    }
    migrate_prep(model);
    good(model);
    (steps.into_inner(), outcomes)
}

fn count(steps: &[EdgeKind], kind: EdgeKind) -> usize {
    steps.iter().filter(|step| **step == kind).count()
}

#[test]
fn a_page_of_a_batch_that_is_refused_while_it_moves_is_tried_again_before_its_entries_come_back() {
    for mode in [Mode::Async, Mode::SyncLight, Mode::Sync] {
        let (model, space) = model(&MODERN);
        model.map_anon(at(space, 0), 1);
        write(&model, at(space, 0), 7);
        let pfn = frame(&model, at(space, 0));
        let first = core::cell::Cell::new(true);
        let once = |edge: Edge| match edge.kind() {
            EdgeKind::Freeze if first.take() => Verdict::FailAs(Failure::ExtraReference),
            _ => Verdict::Go,
        };
        let (steps, outcomes) = run(&model, &[pfn], 1, (&MODERN, mode), once);
        assert!(matches!(outcomes[..], [(_, Outcome::Moved { .. })]), "{outcomes:?}");
        // Unmapped once and restored once, with one new page.
        assert_eq!(
            [EdgeKind::Freeze, EdgeKind::Walk, EdgeKind::Take].map(|kind| count(&steps, kind)),
            [2, 2, 1]
        );
    }
}

#[test]
fn a_page_that_is_always_refused_while_it_moves_is_tried_as_often_as_its_mode_says() {
    // Batches are tried in as many attempts as they have passes; one by one there is one attempt in each.
    for (mode, attempts) in [
        (Mode::Async, 10 * 10),
        (Mode::SyncLight, 3 * 3 + 7),
        (Mode::Sync, 3 * 3 + 7),
    ] {
        let (model, space) = model(&MODERN);
        model.map_anon(at(space, 0), 1);
        write(&model, at(space, 0), 7);
        let pfn = frame(&model, at(space, 0));
        let always = |edge: Edge| match edge.kind() {
            EdgeKind::Freeze => Verdict::FailAs(Failure::ExtraReference),
            _ => Verdict::Go,
        };
        let (steps, outcomes) = run(&model, &[pfn], 1, (&MODERN, mode), always);
        assert_eq!(count(&steps, EdgeKind::Freeze), attempts, "{mode}");
        assert_eq!(outcomes.len(), 10, "one a pass");
        assert!(matches!(
            outcomes[9].1,
            Outcome::Refused(Refusal::ExtraReference { .. })
        ));
    }
}

#[test]
fn a_page_refused_in_one_batch_of_a_pass_is_not_tried_in_a_later_one_of_the_same_pass() {
    let (model, space) = model(&MODERN);
    model.map_anon(at(space, 0), 3);
    let pfns = [0, 1, 2].map(|page| {
        write(&model, at(space, page), page);
        frame(&model, at(space, page))
    });
    let busy = |edge: Edge| match edge {
        Edge::TryLock(pfn) if pfn == pfns[0] => Verdict::FailAs(Failure::Busy),
        _ => Verdict::Go,
    };
    let (_, outcomes) = run(&model, &pfns, 2, (&MODERN, Mode::Async), busy);
    let of = |pfn: Pfn| outcomes.iter().filter(|(of, _)| *of == pfn).count();
    assert_eq!(pfns.map(of), [10, 1, 1], "{outcomes:?}");
}

#[test]
fn nothing_is_asked_about_buffers_that_a_page_does_not_have() {
    let (model, space) = model(&MODERN);
    for (mover, page, asked) in [(Mover::Plain, 0, 0), (Mover::Buffers, 8, 1)] {
        let file = model.create_file(1, mover, WritePage::Unlocks);
        model.map_file(at(space, page), 1, file, 0, true);
        read(&model, at(space, page));
        let pfn = frame(&model, at(space, page));
        let (steps, outcomes) = run(&model, &[pfn], 1, (&MODERN, Mode::Async), |_| Verdict::Go);
        assert!(matches!(outcomes[..], [(_, Outcome::Moved { .. })]), "{outcomes:?}");
        assert_eq!(count(&steps, EdgeKind::TryLockBuffers), asked, "page {page}");
    }
}

#[test]
fn a_page_without_a_mover_of_its_own_lets_its_buffers_go_or_stays() {
    for profile in [&MODERN, &LINUX_2_6_17] {
        for (buffers, busy, releases) in [(false, false, 0), (true, false, 1), (true, true, 1)] {
            let (model, space) = model(profile);
            let file = model.create_file(1, Mover::Fallback, WritePage::Unlocks);
            model.map_file(at(space, 0), 1, file, 0, true);
            read(&model, at(space, 0));
            let pfn = frame(&model, at(space, 0));
            if buffers {
                model.attach_buffers(pfn);
                model.set_buffers_busy(pfn, busy);
            }
            let (steps, outcomes) = run(&model, &[pfn], 1, (profile, Mode::Sync), |_| Verdict::Go);
            let last = outcomes.last().unwrap().1;
            if busy {
                assert_eq!(last, Outcome::Refused(Refusal::BuffersNotReleasable));
            } else {
                assert!(matches!(last, Outcome::Moved { .. }), "{last:?}");
                assert_eq!(count(&steps, EdgeKind::ReleaseBuffers), releases);
            }
        }
    }
}

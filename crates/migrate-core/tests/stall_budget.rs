//! A batch is cut so that its pages are held no longer than the caller can bear, and a page that would be stays.

#![cfg(feature = "model")]

use core::cell::RefCell;

use migrate_core::model::{Access, Config, Model, Op};
use migrate_core::{Frames, LINUX_2_6_17, MODERN, Profile, StallBudget};
use mm_types::trace::{Event, Tell, check_events};
use mm_types::{ActorId, Mode, NodeId, Outcome, Pfn, Refusal, Site, Vpn};

const ME: ActorId = ActorId::new(0);

/// Two barriers cost 100, a page 10, an entry 1: a page of one entry 11.
const COSTS: StallBudget = StallBudget {
    hold_ns: 0,
    batch_ns: 100,
    page_ns: 10,
    reference_ns: 1,
};

fn within(hold_ns: u32, profile: &Profile) -> Profile {
    Profile {
        stall: Some(StallBudget { hold_ns, ..COSTS }),
        ..*profile
    }
}

/// Written pages of one space, one after the other.
fn pages(model: &Model, n: u64) -> Vec<(Site, Pfn)> {
    let space = model.new_space();
    let sites = (0..n).map(|n| Site::new(space, Vpn::new(n)));
    model.map_anon(Site::new(space, Vpn::new(0)), n);
    sites
        .map(|site| {
            assert_eq!(model.access(ME, site, Op::Write(7), ()), Access::Done(7));
            (site, model.pte(site).pfn().unwrap())
        })
        .collect()
}

/// Moves these pages; returns how many entries each batch took away, and the last words about pages in the order told.
fn moved(model: &Model, pages: &[Pfn], profile: &Profile, batch: usize) -> (Vec<u32>, Vec<(Pfn, Outcome)>) {
    let events = RefCell::new(Vec::new());
    let tell = Tell(|event| events.borrow_mut().push(event));
    let (_, outcomes) = model.migrate(pages, NodeId::new(1), profile, Mode::Async, batch, &tell);
    let events = events.take();
    check_events(&events).unwrap();
    // The first barrier of a batch, and the second one after its pages are restored.
    let flushes = events.iter().filter_map(|event| match event {
        Event::Flush { entries } => Some(*entries),
        _ => None,
    });
    let last = outcomes.into_iter().filter(|(_, outcome)| outcome.is_final());
    (flushes.step_by(2).collect(), last.collect())
}

fn all_moved(outcomes: &[(Pfn, Outcome)]) -> bool {
    outcomes
        .iter()
        .all(|(_, outcome)| matches!(outcome, Outcome::Moved { .. }))
}

#[test]
fn a_batch_ends_before_the_page_that_would_exceed_the_budget() {
    for (hold, batches) in [
        (u32::MAX, vec![8]),
        (100 + 8 * 11, vec![8]),
        (100 + 8 * 11 - 1, vec![7, 1]),
        (100 + 3 * 11, vec![3, 3, 2]),
        (100 + 11, vec![1; 8]),
    ] {
        let model = Model::new(Config::default());
        let frames: Vec<Pfn> = pages(&model, 8).into_iter().map(|(_, pfn)| pfn).collect();
        let (took, outcomes) = moved(&model, &frames, &within(hold, &MODERN), 8);
        assert_eq!(took, batches, "within {hold} ns");
        let order: Vec<Pfn> = outcomes.iter().map(|(pfn, _)| *pfn).collect();
        assert_eq!(order, frames, "the pages keep their order");
        assert!(all_moved(&outcomes), "{outcomes:?}");
    }
}

#[test]
fn without_a_budget_a_batch_is_as_large_as_it_may_be() {
    let model = Model::new(Config::default());
    let frames: Vec<Pfn> = pages(&model, 8).into_iter().map(|(_, pfn)| pfn).collect();
    let (took, outcomes) = moved(&model, &frames, &MODERN, 5);
    assert_eq!(took, [5, 3]);
    assert!(all_moved(&outcomes));
}

#[test]
fn a_page_that_alone_exceeds_the_budget_stays_and_the_others_move() {
    for profile in [&MODERN, &LINUX_2_6_17] {
        let model = Model::new(Config {
            profile,
            ..Config::default()
        });
        let all = pages(&model, 3);
        let frames: Vec<Pfn> = all.iter().map(|(_, pfn)| *pfn).collect();
        // Four children map all of them; the parent writes to two of them again, which are then its own.
        for _ in 0..4 {
            model.fork(all[0].0.space, ());
        }
        let own = |n: usize| {
            assert_eq!(model.access(ME, all[n].0, Op::Write(9), ()), Access::Done(9));
            model.pte(all[n].0).pfn().unwrap()
        };
        let frames = [own(0), frames[1], own(2)];
        let budget = within(100 + 11, profile);
        let (_, outcomes) = moved(&model, &frames, &budget, 3);
        let of = |pfn| outcomes.iter().find(|(at, _)| *at == pfn).map(|(_, outcome)| *outcome);
        assert_eq!(
            of(frames[1]),
            Some(Outcome::Refused(Refusal::StallBudget)),
            "{}",
            profile.rules
        );
        for pfn in [frames[0], frames[2]] {
            assert!(matches!(of(pfn), Some(Outcome::Moved { .. })), "{outcomes:?}");
        }
        assert_eq!(model.pte(all[1].0).pfn(), Some(frames[1]), "nothing was done to it");
        model.check(&[]).unwrap();
    }
}

#[test]
fn a_budget_that_no_batch_keeps_moves_nothing_and_loses_nothing() {
    let model = Model::new(Config::default());
    let frames: Vec<Pfn> = pages(&model, 4).into_iter().map(|(_, pfn)| pfn).collect();
    let (took, outcomes) = moved(&model, &frames, &within(0, &MODERN), 4);
    assert_eq!(took.iter().sum::<u32>(), 0);
    let stayed: Vec<_> = frames
        .iter()
        .map(|pfn| (*pfn, Outcome::Refused(Refusal::StallBudget)))
        .collect();
    assert_eq!(outcomes, stayed);
    model.check(&[]).unwrap();
}

#[test]
fn pages_that_are_refused_for_something_else_use_nothing_up() {
    let model = Model::new(Config::default());
    let all = pages(&model, 4);
    let frames: Vec<Pfn> = all.iter().map(|(_, pfn)| *pfn).collect();
    let locked = [0, 1].map(|n| {
        let page = model.get(frames[n]).unwrap();
        model.try_lock(page).unwrap()
    });
    let (took, outcomes) = moved(&model, &frames, &within(100 + 2 * 11, &MODERN), 4);
    assert_eq!(took.first(), Some(&2), "both that can move, in one batch");
    assert_eq!(
        outcomes
            .iter()
            .filter(|(_, outcome)| matches!(outcome, Outcome::Moved { .. }))
            .count(),
        2
    );
    for locked in locked {
        model.put(model.unlock(locked));
    }
}

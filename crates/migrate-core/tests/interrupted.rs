//! A run that is interrupted by its caller's own code loses nothing: what has not switched is as it was, what has goes
//! forward, and every page is on one of the caller's lists.

#![cfg(feature = "model")]

extern crate alloc;

use alloc::collections::VecDeque;
use core::cell::Cell;
use core::panic::AssertUnwindSafe;
use std::panic::catch_unwind;

use migrate_core::model::{Config, Model, Op};
use migrate_core::{
    Args, FromFn, Isolated, LINUX_2_6_17, MODERN, PageRef, Profile, Slot, migrate_pages, putback_lru_pages,
};
use mm_types::trace::{Event, Tell};
use mm_types::{ActorId, Mode, NodeId, PageFlags, Pfn, Reason, Refusal, Site, SpaceId, Vpn};

const PAGES: u64 = 4;

struct Scene {
    model: Model,
    space: SpaceId,
}

impl Scene {
    fn site(&self, n: u64) -> Site {
        Site::new(self.space, Vpn::new(n))
    }

    fn new() -> Self {
        let model = Model::new(Config::default());
        let space = model.new_space();
        let scene = Self { model, space };
        scene.model.map_anon(scene.site(0), PAGES);
        for n in 0..PAGES {
            scene
                .model
                .access(ActorId::new(0), scene.site(n), Op::Write(100 + n), ());
        }
        scene
    }

    fn frame(&self, n: u64) -> Pfn {
        self.model.pte(self.site(n)).pfn().expect("the page is mapped")
    }
}

/// Runs a migration in which the caller's code panics at its `fatal`-th turn; returns whether it got that far.
fn interrupt(profile: &Profile, who: Who, fatal: u32) -> bool {
    let scene = Scene::new();
    let model = &scene.model;
    migrate_core::migrate_prep(model);
    let before: Vec<Pfn> = (0..PAGES).map(|n| scene.frame(n)).collect();
    let mut from: VecDeque<Isolated<PageRef>> = before
        .iter()
        .map(|pfn| model.isolate(*pfn, ()).expect("the page is on the LRU"))
        .collect();
    let (mut moved, mut failed) = (VecDeque::new(), VecDeque::new());
    let mut slots: [Slot<Model>; 4] = Default::default();
    let turns = Cell::new(0);
    let turn = |whose: Who| {
        if whose == who {
            turns.set(turns.get() + 1);
            assert!(turns.get() != fatal, "interrupted on purpose");
        }
    };
    let observer = Tell(|event: Event| {
        if matches!(
            event,
            Event::Unmap { .. } | Event::Copy { .. } | Event::Switch { .. } | Event::Pass { .. }
        ) {
            turn(Who::Observer);
        }
    });
    let run = catch_unwind(AssertUnwindSafe(|| {
        let args = Args {
            from: &mut from,
            target: FromFn {
                take: |_: &PageRef| {
                    turn(Who::Target);
                    model.allocate(NodeId::new(1)).ok_or(Refusal::NoTarget)
                },
                give_back: |page| migrate_core::Frames::put(model, page),
            },
            moved: Some(&mut moved),
            failed: &mut failed,
            slots: &mut slots,
            profile,
            mode: Mode::Sync,
            reason: Reason::Compaction,
            outcome: &mut |_, _| turn(Who::Outcome),
            observer: &observer,
        };
        migrate_pages(model, args)
    }));
    let interrupted = run.is_err();
    assert_eq!(
        from.len() + moved.len() + failed.len(),
        before.len(),
        "{who:?} at turn {fatal}: a page is lost"
    );
    let slots_empty = format!("{slots:?}").matches("empty: true").count();
    assert_eq!(slots_empty, 4, "{who:?} at turn {fatal}: a slot still holds a page");
    for n in 0..PAGES {
        let pte = model.pte(scene.site(n));
        assert!(pte.is_present(), "{who:?} at turn {fatal}: page {n} is {pte}");
        let pfn = scene.frame(n);
        assert!(
            !model.page(pfn).flags().load().contains(PageFlags::LOCKED),
            "{who:?} at turn {fatal}: locked"
        );
        assert_eq!(model.word(pfn), 100 + n, "{who:?} at turn {fatal}: contents");
    }
    for list in [&mut from, &mut moved, &mut failed] {
        putback_lru_pages(model, list, ());
    }
    migrate_core::migrate_prep(model);
    model.check(&[]).expect("all invariants hold after the run");
    interrupted
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Target,
    Outcome,
    Observer,
}

#[test]
fn an_interrupted_run_loses_nothing_wherever_the_callers_code_panics() {
    for profile in [&LINUX_2_6_17, &MODERN] {
        for who in [Who::Target, Who::Outcome, Who::Observer] {
            let turns = (1..100).take_while(|fatal| interrupt(profile, who, *fatal)).count();
            // Every page takes a turn of each; the observer has several.
            assert!(turns >= PAGES as usize, "{who:?} in {}: {turns} turns", profile.rules);
        }
    }
}

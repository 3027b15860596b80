//! The contract of 2.6.17's `migrate_pages(from, to, moved, failed)`, oddities included, and of the calls around it.

#![cfg(feature = "model")]

extern crate alloc;

use alloc::collections::VecDeque;

use migrate_core::model::{Config, Model, Op};
use migrate_core::{
    Args, ConfigError, Frames, Isolated, LINUX_2_6_17, List, MODERN, NewPages, OnePage, PageRef, Slot, Tally,
    migrate_page, migrate_pages, migrate_pages_nowait, putback_lru_pages,
};
use mm_types::{ActorId, Mode, NodeId, Outcome, Pfn, Reason, Refusal, Site, SpaceId, Vpn};

/// A model with `n` written pages, isolated in order, and `targets` new ones.
struct Scene {
    model: Model,
    space: SpaceId,
}

/// The four lists, as frames.
#[derive(Debug, Default)]
struct Lists {
    from: Vec<Pfn>,
    to: Vec<Pfn>,
    moved: Vec<Pfn>,
    failed: Vec<Pfn>,
    outcomes: Vec<(Pfn, Outcome)>,
}

impl Scene {
    fn new(pages: u64) -> Self {
        let model = Model::new(Config {
            profile: &LINUX_2_6_17,
            ..Config::default()
        });
        let space = model.new_space();
        let scene = Self { model, space };
        scene.model.map_anon(scene.site(0), pages);
        for n in 0..pages {
            scene
                .model
                .access(ActorId::new(0), scene.site(n), Op::Write(100 + n), ());
        }
        scene
    }

    fn site(&self, n: u64) -> Site {
        Site::new(self.space, Vpn::new(n))
    }

    fn frame(&self, n: u64) -> Pfn {
        self.model.pte(self.site(n)).pfn().expect("the page is mapped")
    }

    fn new_page(&self) -> PageRef {
        self.model.allocate(NodeId::new(1)).expect("node 1 has free frames")
    }

    fn isolated(&self, n: u64) -> Isolated<PageRef> {
        self.model.isolate(self.frame(n), ()).expect("the page is on the LRU")
    }

    /// Runs the 2006 call over pages `0..pages` with `targets` new pages; puts everything back afterwards.
    fn run(&self, pages: u64, targets: usize) -> (Tally, Lists) {
        let mut from: VecDeque<_> = (0..pages).map(|n| self.isolated(n)).collect();
        let mut to: VecDeque<_> = (0..targets).map(|_| self.new_page()).collect();
        let (mut moved, mut failed) = (VecDeque::new(), VecDeque::new());
        let mut lists = Lists::default();
        let args = Args {
            from: &mut from,
            target: NewPages(&mut to),
            moved: Some(&mut moved),
            failed: &mut failed,
            slots: &mut [Slot::new()],
            profile: &LINUX_2_6_17,
            mode: Mode::Sync,
            reason: Reason::SyscallOrCpuset,
            outcome: &mut |page: &PageRef, outcome| lists.outcomes.push((page.pfn(), outcome)),
            observer: (),
        };
        let tally = migrate_pages(&self.model, args).expect("a slot was lent");
        let frames = |list: &VecDeque<Isolated<PageRef>>| list.iter().map(|page| page.page().pfn()).collect();
        (lists.from, lists.moved, lists.failed) = (frames(&from), frames(&moved), frames(&failed));
        lists.to = to.iter().map(PageRef::pfn).collect();
        for list in [&mut from, &mut moved, &mut failed] {
            putback_lru_pages(&self.model, list, ());
        }
        while let Some(page) = List::pop_front(&mut to) {
            self.model.put(page);
        }
        (tally, lists)
    }
}

fn last_words(lists: &Lists) -> Vec<(Pfn, Outcome)> {
    lists
        .outcomes
        .iter()
        .filter(|(_, outcome)| outcome.is_final())
        .copied()
        .collect()
}

#[test]
fn pages_never_reached_are_on_from_and_in_no_count() {
    let scene = Scene::new(3);
    let frames = [scene.frame(0), scene.frame(1), scene.frame(2)];
    let (tally, lists) = scene.run(3, 0);
    assert_eq!((tally.return_value(), tally.not_reached, tally.passes), (0, 3, 1));
    assert_eq!(lists.from, frames);
    assert_eq!(
        last_words(&lists),
        frames.map(|pfn| (pfn, Outcome::Refused(Refusal::NoTarget)))
    );
}

#[test]
fn retries_vanish_from_the_return_value_when_the_new_pages_run_out_before_the_next_pass() {
    let scene = Scene::new(2);
    let (held, moves) = (scene.frame(0), scene.frame(1));
    let reference = scene.model.get(held).expect("the page is alive");
    let (tally, lists) = scene.run(2, 1);
    assert_eq!(
        (tally.passes, tally.retried[0]),
        (2, 1),
        "pass 1 finds no new page for the page it should retry"
    );
    assert_eq!(
        (tally.return_value(), tally.moved),
        (0, 1),
        "the odd return value of 2006"
    );
    assert_eq!(
        (lists.from.as_slice(), lists.moved.as_slice()),
        ([held].as_slice(), [moves].as_slice())
    );
    let busy = Refusal::ExtraReference { expected: 1, found: 2 };
    assert_eq!(
        lists.outcomes.first(),
        Some(&(held, Outcome::Retry(busy))),
        "the reason is not lost"
    );
    assert!(last_words(&lists).contains(&(held, Outcome::Refused(Refusal::NoTarget))));
    scene.model.put(reference);
}

#[test]
fn the_new_page_comes_from_the_tail_and_stays_there_for_the_next_when_a_page_is_refused() {
    let scene = Scene::new(2);
    let held = scene.frame(0);
    let reference = scene.model.get(held).expect("the page is alive");
    let (tally, lists) = scene.run(2, 2);
    assert_eq!((tally.passes, tally.return_value()), (11, 1));
    // Two new pages: the tail went to the page that moved, in pass 0, after the refused one had given it back.
    let head = lists.to[0];
    assert_eq!(lists.to.len(), 1);
    assert_eq!(
        scene.frame(1).raw(),
        head.raw() + 1,
        "frames were allocated in order, and the tail is the later one"
    );
    assert_eq!(lists.from, [held]);
    assert_eq!(tally.retried, [1; 11]);
    scene.model.put(reference);
}

#[test]
fn a_page_freed_meanwhile_is_moved_and_uses_no_new_page() {
    let scene = Scene::new(2);
    let freed = scene.frame(0);
    let page = scene.isolated(0);
    scene.model.munmap(scene.site(0), 1, ());
    let mut from = VecDeque::from([page, scene.isolated(1)]);
    let mut to = VecDeque::from([scene.new_page()]);
    let (mut moved, mut failed) = (VecDeque::new(), VecDeque::new());
    let args = Args {
        from: &mut from,
        target: NewPages(&mut to),
        moved: Some(&mut moved),
        failed: &mut failed,
        slots: &mut [Slot::new()],
        profile: &LINUX_2_6_17,
        mode: Mode::Sync,
        reason: Reason::SyscallOrCpuset,
        outcome: &mut |_, _| (),
        observer: (),
    };
    let tally = migrate_pages(&scene.model, args).expect("a slot was lent");
    assert_eq!((tally.freed, tally.moved, tally.return_value()), (1, 1, 0));
    assert_eq!((from.len(), to.len(), failed.len()), (0, 0, 0));
    assert_eq!(moved[0].page().pfn(), freed);
    putback_lru_pages(&scene.model, &mut moved, ());
    migrate_core::migrate_prep(&scene.model);
    scene.model.check(&[]).expect("all invariants hold");
}

#[test]
fn refused_pages_keep_their_order_among_those_that_moved() {
    let scene = Scene::new(6);
    let held: Vec<Pfn> = [0, 2, 5].map(|n| scene.frame(n)).to_vec();
    let references: Vec<_> = held.iter().map(|pfn| scene.model.get(*pfn).expect("alive")).collect();
    let (tally, lists) = scene.run(6, 6);
    assert_eq!((tally.moved, tally.return_value()), (3, 3));
    assert_eq!(lists.from, held);
    assert_eq!(lists.to.len(), 3);
    references.into_iter().for_each(|page| scene.model.put(page));
}

#[test]
fn a_call_that_would_sleep_or_has_no_room_touches_nothing() {
    let scene = Scene::new(1);
    let mut from = VecDeque::from([scene.isolated(0)]);
    let mut to = VecDeque::from([scene.new_page()]);
    let mut failed = VecDeque::new();
    let mut call = |slots: &mut [Slot<Model>], profile, mode| {
        let args = Args {
            from: &mut from,
            target: NewPages(&mut to),
            moved: None,
            failed: &mut failed,
            slots,
            profile,
            mode,
            reason: Reason::Compaction,
            outcome: &mut |_, _| (),
            observer: (),
        };
        migrate_pages_nowait(&scene.model, args)
    };
    assert_eq!(call(&mut [], &MODERN, Mode::Async), Err(ConfigError::NoSlots));
    assert_eq!(
        call(&mut [Slot::new()], &MODERN, Mode::Sync),
        Err(ConfigError::WouldBlock(Mode::Sync))
    );
    assert_eq!(
        call(&mut [Slot::new()], &LINUX_2_6_17, Mode::Async),
        Err(ConfigError::WouldBlock(Mode::Async))
    );
    let tally = call(&mut [Slot::new()], &MODERN, Mode::Async).expect("it never sleeps");
    assert_eq!(tally.moved, 1);
    assert_eq!((from.len(), to.len()), (0, 0));
}

#[test]
fn the_one_page_call_says_moved_freed_or_stayed_and_returns_every_page() {
    let scene = Scene::new(1);
    for profile in [&LINUX_2_6_17, &MODERN] {
        let before = scene.frame(0);
        let done = migrate_page(
            &scene.model,
            scene.isolated(0),
            scene.new_page(),
            profile,
            Mode::Sync,
            Reason::Compaction,
            (),
        );
        let Ok(OnePage::Moved { old }) = done else {
            panic!("{done:?}")
        };
        assert_eq!(old.page().pfn(), before);
        assert_ne!(scene.frame(0), before);
        assert_eq!(scene.model.word(scene.frame(0)), 100);
        scene.model.put(old.into_page());

        let reference = scene.model.get(scene.frame(0)).expect("alive");
        let (page, new) = (scene.isolated(0), scene.new_page());
        let done = migrate_page(&scene.model, page, new, profile, Mode::Sync, Reason::Compaction, ());
        let Ok(OnePage::Stayed {
            page,
            unused: Some(unused),
            refusal,
        }) = done
        else {
            panic!("{done:?}")
        };
        assert_eq!(refusal, Refusal::ExtraReference { expected: 1, found: 2 });
        scene.model.put(unused);
        scene.model.put(reference);
        putback_lru_pages(&scene.model, &mut VecDeque::from([page]), ());
    }
    let page = scene.isolated(0);
    scene.model.munmap(scene.site(0), 1, ());
    let new = scene.new_page();
    let done = migrate_page(&scene.model, page, new, &MODERN, Mode::Sync, Reason::Compaction, ());
    let Ok(OnePage::Freed { old, unused }) = done else {
        panic!("{done:?}")
    };
    scene.model.put(old.into_page());
    scene.model.put(unused);
    migrate_core::migrate_prep(&scene.model);
    scene.model.check(&[]).expect("all invariants hold");
}

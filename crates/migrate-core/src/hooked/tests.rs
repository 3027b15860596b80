//! What a hook lets go reaches the backend, once and with what it was asked; what fails does not, or looks as it says.

use core::cell::RefCell;
use core::ops::ControlFlow;
use core::ptr;
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use mm_types::{CountMismatch, Mapping, MappingId, PageFlags, Pfn, Refusal, Site, SpaceId, Vpn, errno};

use super::{Hooked, HookedTarget};
use crate::told::{Locked, Told};
use crate::{Cache, Edge, Failure, Faults, Frames, Hook, Lru, Pair, Rmap, Target, Verdict, Wait, WriteError, Written};

/// Lets every step go, or none, and keeps the words of those that it saw.
struct Seen {
    verdict: Verdict,
    edges: RefCell<Vec<Edge>>,
}

impl Seen {
    fn new(failure: Option<Failure>) -> Self {
        Self::with(failure.map_or(Verdict::Go, Verdict::FailAs))
    }

    fn with(verdict: Verdict) -> Self {
        Self {
            verdict,
            edges: RefCell::default(),
        }
    }

    fn edges(&self) -> Vec<Edge> {
        self.edges.take()
    }
}

impl Hook for Seen {
    fn before(&self, edge: Edge) -> Verdict {
        self.edges.borrow_mut().push(edge);
        self.verdict
    }
}

fn pfn(n: u64) -> Pfn {
    Pfn::new(n)
}

const SITE: Site = Site::new(SpaceId::new(0), Vpn::new(5));
const OLD: Locked = Locked(1);
const NEW: Locked = Locked(2);

/// Does `what` with a hook that answers so; returns what the hook saw and the backend was asked.
fn by(verdict: Verdict, told: &Told, what: impl FnOnce(&Hooked<'_, Told, Seen>)) -> (Vec<Edge>, Vec<String>) {
    let seen = Seen::with(verdict);
    what(&Hooked::new(told, &seen));
    (seen.edges(), told.asked())
}

#[test]
fn what_no_step_is_about_goes_straight_to_the_backend() {
    let told = Told::default();
    let (edges, asked) = by(Verdict::Fail, &told, |hooked| {
        assert_eq!(hooked.get(pfn(1)), Some(1));
        hooked.put(1);
        assert_eq!(
            hooked.edit_flags(&OLD, PageFlags::DIRTY, PageFlags::ERROR),
            PageFlags::ERROR
        );
        hooked.adopt(&NEW, &OLD);
        hooked.disown(&OLD);
        hooked.unfreeze(&OLD, 3);
        assert_eq!(hooked.entries_out(pfn(1), -1), Some(6));
        hooked.end_writeback(&OLD);
        assert_eq!(hooked.gather(), 9);
        hooked.flush_pending(SpaceId::new(7));
        hooked.walk_nonlinear(&OLD, &mut 9, &mut |_| ControlFlow::Continue(()));
        assert_eq!(hooked.swap_entry(&OLD), None);
        hooked.set_dirty(&OLD);
        hooked.unlock_buffers(&OLD);
        hooked.move_buffers(Pair::new(&OLD, &NEW));
        hooked.drain();
    });
    assert_eq!(edges, []);
    assert_eq!(
        asked,
        [
            "get 1",
            "put 1",
            "edit_flags 1 PageFlags(DIRTY) PageFlags(ERROR)",
            "adopt 2 1",
            "disown 1",
            "unfreeze 1 3",
            "entries_out 1 -1",
            "end_writeback 1",
            "flush_pending 7",
            "walk_nonlinear 1 9",
            "swap_entry 1",
            "set_dirty 1",
            "unlock_buffers 1",
            "move_buffers 1 2",
            "drain",
        ]
    );
}

/// Every step that a hook sees, each once.
fn every_step(hooked: &Hooked<'_, Told, Seen>) -> Vec<String> {
    let pair = Pair::new(&OLD, &NEW);
    let mut answers: Vec<String> = Vec::new();
    let mut answer = |answer: &dyn core::fmt::Debug| answers.push(format!("{answer:?}"));
    answer(&hooked.count(&1));
    answer(&hooked.try_lock(1));
    answer(&hooked.flags(&1));
    answer(&hooked.freeze(&OLD, 2));
    answer(&hooked.copy(pair));
    answer(&hooked.pins(&1));
    answer(&hooked.reserve(&OLD, Some(&NEW), &mut 9));
    answer(&hooked.is_mapped(&OLD));
    answer(&hooked.mover(&OLD));
    answer(&hooked.switch(pair));
    answer(&hooked.clear_dirty_for_io(&OLD));
    answer(&hooked.try_lock_buffers(&OLD));
    answer(&hooked.release_buffers(&OLD));
    answer(&hooked.can_write(&OLD));
    answer(&hooked.isolate(&1));
    answers
}

#[test]
fn a_step_that_is_let_go_is_the_backends() {
    let told = Told::default();
    told.count.set(2);
    told.locked.set(true);
    told.slots.set(1);
    let (edges, asked) = by(Verdict::Go, &told, |hooked| {
        let answers = every_step(hooked);
        assert_eq!(
            answers,
            [
                "2",
                "Ok(Locked(1))",
                "PageFlags(LOCKED | DIRTY)",
                "Ok(())",
                "Ok(())",
                "4",
                "Ok(())",
                "false",
                "Buffers",
                "Ok(3)",
                "true",
                "Ok(())",
                "true",
                "true",
                "Ok(1)",
            ]
        );
    });
    let (old, new) = (pfn(1), pfn(2));
    assert_eq!(
        edges,
        [
            Edge::Count(old),
            Edge::TryLock(old),
            Edge::Flags(old),
            Edge::Freeze(old),
            Edge::Copy { old, new },
            Edge::Pins(old),
            Edge::Reserve(old),
            Edge::IsMapped(old),
            Edge::Mover(old),
            Edge::Switch { old, new },
            Edge::ClearDirty(old),
            Edge::TryLockBuffers(old),
            Edge::ReleaseBuffers(old),
            Edge::CanWrite(old),
            Edge::Isolate(old),
        ]
    );
    assert_eq!(
        asked,
        [
            "try_lock 1",
            "freeze 1 2",
            "copy 1 2",
            "reserve 1 Some(2) 9",
            "is_mapped 1",
            "switch 1 2",
            "clear_dirty_for_io 1",
            "try_lock_buffers 1",
            "release_buffers 1",
            "can_write 1",
            "isolate 1",
        ]
    );
}

#[test]
fn a_step_that_fails_does_not_reach_the_backend_and_answers_as_a_failure_does() {
    let told = Told::default();
    told.count.set(2);
    told.locked.set(true);
    told.slots.set(1);
    let (edges, asked) = by(Verdict::Fail, &told, |hooked| {
        assert_eq!(
            every_step(hooked),
            [
                "3",
                "Err(1)",
                "PageFlags(LOCKED | DIRTY | WRITEBACK)",
                "Err(CountMismatch { expected: 2, found: 3 })",
                "Err(CopyError)",
                "5",
                "Err(MappingLimit)",
                "true",
                "Never",
                "Err(SlotChanged)",
                "false",
                "Err(BuffersBusy)",
                "false",
                "false",
                "Err(NotOnLru)",
            ]
        );
    });
    assert_eq!(edges.len(), 15);
    assert_eq!(asked, Vec::<String>::new());
}

#[test]
fn counts_and_flags_are_falsified_for_a_locked_page_only() {
    let told = Told::default();
    let count = |failure, found, locked| {
        told.count.set(found);
        told.locked.set(locked);
        let seen = Seen::new(Some(failure));
        (Hooked::new(&told, &seen).count(&1), seen.edges().len())
    };
    assert_eq!(count(Failure::ExtraReference, 3, true), (4, 1));
    assert_eq!(count(Failure::FewerReferences, 3, true), (2, 1));
    assert_eq!(
        count(Failure::FewerReferences, 2, true),
        (0, 1),
        "1 would say that it was freed"
    );
    assert_eq!(count(Failure::Backend, 3, true), (3, 1));
    assert_eq!(
        count(Failure::ExtraReference, 3, false),
        (3, 0),
        "nobody's step: nobody sees it"
    );
    let flags = |failure, locked| {
        told.locked.set(locked);
        Hooked::new(&told, &Seen::new(Some(failure))).flags(&1)
    };
    let own = PageFlags::LOCKED | PageFlags::DIRTY;
    assert_eq!(flags(Failure::Writeback, true), own | PageFlags::WRITEBACK);
    assert_eq!(flags(Failure::Poisoned, true), own | PageFlags::HWPOISON);
    assert_eq!(flags(Failure::Backend, true), own);
    assert_eq!(flags(Failure::Writeback, false), PageFlags::DIRTY);
}

#[test]
fn the_lock_of_a_page_that_is_new_is_another_step() {
    let told = Told::default();
    let edge = |count, mapping| {
        told.count.set(count);
        told.mapping.set(Some(mapping));
        by(Verdict::Go, &told, |hooked| drop(hooked.try_lock(1))).0
    };
    let cached = Mapping::File(MappingId::new(0));
    assert_eq!(edge(1, Mapping::None), [Edge::TryLockNew(pfn(1))]);
    assert_eq!(edge(2, Mapping::None), [Edge::TryLock(pfn(1))]);
    assert_eq!(edge(1, cached), [Edge::TryLock(pfn(1))]);
}

#[test]
fn a_freeze_fails_with_a_count_that_is_not_the_one_expected() {
    let told = Told::default();
    let found = |failure| Hooked::new(&told, &Seen::new(Some(failure))).freeze(&OLD, 3);
    let mismatch = |found| Err(CountMismatch { expected: 3, found });
    assert_eq!(found(Failure::FewerReferences), mismatch(2));
    assert_eq!(found(Failure::ExtraReference), mismatch(4));
}

#[test]
fn a_backends_own_refusal_has_its_code() {
    let told = Told::default();
    let seen = Seen::new(Some(Failure::Backend));
    let refused = Hooked::new(&told, &seen).reserve(&OLD, None, &mut 9);
    assert_eq!(refused, Err(Refusal::Backend { code: errno::EIO }));
}

#[test]
fn only_a_page_with_slots_and_private_data_is_said_to_have_lost_its_slots() {
    let told = Told::default();
    for (slots, private, left, asked) in [(3, true, 0, 1), (3, false, 3, 0), (0, true, 0, 0), (0, false, 0, 0)] {
        told.slots.set(slots);
        told.private.set(private);
        let (edges, _) = by(Verdict::Fail, &told, |hooked| assert_eq!(hooked.slots(&OLD), left));
        assert_eq!(edges.len(), asked, "{slots} slots, private data: {private}");
    }
}

#[test]
fn a_page_in_no_slot_is_cleaned_whatever_the_hook_says() {
    let told = Told::default();
    for (slots, reached) in [(0, true), (1, false), (2, false)] {
        told.slots.set(slots);
        let (edges, asked) = by(Verdict::Fail, &told, |hooked| {
            assert_eq!(hooked.clear_dirty_for_io(&OLD), reached);
        });
        assert_eq!((edges.is_empty(), !asked.is_empty()), (reached, reached));
    }
}

#[test]
fn a_write_fails_in_each_of_its_ways_and_leaves_the_page_dirty() {
    let told = Told::default();
    let written = |failure| {
        let seen = Seen::new(failure);
        let written = match Hooked::new(&told, &seen).writeout(Locked(1)) {
            Written::Locked(page, how) => format!("locked {} {how:?}", page.0),
            Written::Unlocked(page, how) => format!("unlocked {page} {how:?}"),
        };
        (written, told.asked().join(", "))
    };
    let of = |written: &str, asked: &str| (written.to_string(), asked.to_string());
    assert_eq!(written(None), of("locked 1 Ok(())", "writeout 1"));
    assert_eq!(
        written(Some(Failure::WriteFailedUnlocked)),
        of("unlocked 1 Err(WriteError)", "set_dirty 1, unlock 1")
    );
    assert_eq!(
        written(Some(Failure::Redirtied)),
        of("unlocked 1 Ok(())", "set_dirty 1, unlock 1")
    );
    assert_eq!(written(Some(Failure::Activate)), of("locked 1 Ok(())", "set_dirty 1"));
    assert_eq!(
        written(Some(Failure::WriteFailed)),
        of("locked 1 Err(WriteError)", "set_dirty 1")
    );
    assert_eq!(format!("{WriteError}"), "writing the page failed");
}

#[test]
fn steps_that_cannot_fail_are_seen_and_go_on() {
    let told = Told::default();
    for verdict in [Verdict::Go, Verdict::Fail] {
        let (edges, asked) = by(verdict, &told, |hooked| {
            assert_eq!(hooked.unlock(Locked(1)), 1);
            hooked.walk(&OLD, &mut 9, &mut |_| ControlFlow::Continue(()));
            hooked.flush(9);
            hooked.putback(1);
            hooked.putback_direct(2);
            hooked.wait_writeback(&OLD);
        });
        let old = pfn(1);
        assert_eq!(
            edges,
            [
                Edge::Unlock(old),
                Edge::Walk(old),
                Edge::Flush,
                Edge::Putback(old),
                Edge::Putback(pfn(2)),
                Edge::WaitWriteback(old)
            ]
        );
        assert_eq!(
            asked,
            [
                "unlock 1",
                "walk 1 9",
                "flush 9",
                "putback 1",
                "putback_direct 2",
                "wait_writeback 1"
            ]
        );
    }
}

#[test]
fn a_sleep_that_fails_is_somebody_elses_turn_first_or_ends_early() {
    let told = Told::default();
    let sleeps = |hooked: &Hooked<'_, Told, Seen>| {
        assert_eq!(hooked.lock(1), Locked(1));
        hooked.wait_buffers(&OLD);
        hooked.wait_on(SITE, &mut |pte| pte.migration().map(|entry| entry.pfn()));
    };
    let edges = [Edge::Lock(pfn(1)), Edge::WaitBuffers(pfn(1)), Edge::WaitOn(SITE)];
    let (seen, asked) = by(Verdict::Go, &told, sleeps);
    assert_eq!(seen, edges);
    assert_eq!(asked, ["lock 1", "wait_buffers 1", "wait_on 5 Some(Pfn(0x1))"]);
    let (seen, asked) = by(Verdict::Fail, &told, sleeps);
    assert_eq!(seen, edges);
    assert_eq!(asked, ["lock 1", "unlock 1", "lock 1", "wait_on 5 None"]);
}

/// Gives page 8, and is not exhausted once it was given something back.
#[derive(Default)]
struct Eight {
    back: Option<u64>,
}

impl Target<Told> for Eight {
    fn is_exhausted(&self) -> bool {
        self.back.is_none()
    }

    fn take(&mut self, _backend: &Told, _old: &u64) -> Result<u64, Refusal> {
        Ok(8)
    }

    fn give_back(&mut self, _backend: &Told, page: u64) {
        self.back = Some(page);
    }
}

#[test]
fn a_taking_fails_in_each_of_its_ways() {
    let told = Told::default();
    for (failure, taken) in [
        (None, Ok(8)),
        (Some(Failure::StallBudget), Err(Refusal::StallBudget)),
        (Some(Failure::Backend), Err(Refusal::Backend { code: errno::EIO })),
        (Some(Failure::NoTarget), Err(Refusal::NoTarget)),
    ] {
        let seen = Seen::new(failure);
        let hooked = Hooked::new(&told, &seen);
        let mut target = HookedTarget(Eight::default());
        assert_eq!(target.take(&hooked, &1), taken);
        assert_eq!(seen.edges(), [Edge::Take(pfn(1))]);
        assert!(Target::<Hooked<'_, Told, Seen>>::is_exhausted(&target));
        target.give_back(&hooked, 8);
        assert_eq!(target.0.back, Some(8));
        assert!(!Target::<Hooked<'_, Told, Seen>>::is_exhausted(&target));
    }
    assert!(ptr::eq(Hooked::new(&told, &Seen::new(None)).inner(), &raw const told));
}

//! The steps of a run as everybody else sees them: before each, everything is looked at, others act, and it may fail.

use core::cell::{Cell, RefCell};
use core::fmt::Display;
use std::sync::LazyLock;

use migrate_core::model::Model;
use migrate_core::{
    Edge, EdgeKind, Failure, Hooked, Injection, Isolated, MoveOrder, PageRef, Profile, Verdict, isolate_lru_page,
};
use mm_types::Refusal;
use mm_types::trace::Observer;

use crate::counts::Kind;
use crate::step::{Fail, Migrate};
use crate::world::{World, pick};

/// Returns the word under which a failure is counted: the step's, and how it failed.
fn failure_word(injection: Injection) -> &'static str {
    static WORDS: LazyLock<Vec<(Injection, String)>> = LazyLock::new(|| {
        let all = Injection::ALL.iter();
        all.map(|injection| (*injection, injection.to_string())).collect()
    });
    let known = WORDS.iter().find(|(of, _)| *of == injection);
    known.map_or("a failure that no step has", |(_, word)| word)
}

/// Returns the words of all failures that a step of a world can have, in the order of [`Injection::ALL`].
///
/// Nobody can wake too early: a thread that sleeps on a page in flight is what the model does when that page is unlocked.
pub fn failures_of_a_world() -> impl Iterator<Item = &'static str> {
    let can_be = |injection: &&Injection| injection.edge != EdgeKind::WaitOn;
    Injection::ALL
        .iter()
        .filter(can_be)
        .map(|injection| failure_word(*injection))
}

/// How far a run has come.
#[derive(Debug, Default)]
pub(crate) struct Course {
    /// Steps at which others can act.
    edges: Cell<usize>,
    /// Steps that can fail, and how many of each kind.
    can_fail: Cell<usize>,
    came: RefCell<[u8; EdgeKind::ALL.len()]>,
    /// How often others slept, in what they did.
    others_slept: Cell<usize>,
    /// The first thing that did not hold.
    trouble: RefCell<Option<String>>,
}

impl Course {
    /// Something does not hold at this step: told if it is the first that does not.
    pub(crate) fn trouble_at(&self, world: &World, edge: Edge, what: &dyn Display) {
        let mut trouble = self.trouble.borrow_mut();
        if trouble.is_none() {
            *trouble = Some(format!("before {edge:?}: {what}"));
            world.mark_here();
        }
    }

    /// Returns the first thing that did not hold.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.take()
    }

    /// Returns how often others slept.
    pub(crate) fn others_slept(&self) -> usize {
        self.others_slept.get()
    }
}

impl World {
    /// Before each step of the core: everything that holds at every moment is looked at, and others do what they do.
    pub(crate) fn before<O: Observer>(
        &self,
        migrate: &Migrate,
        profile: &Profile,
        edge: Edge,
        course: &Course,
        trace: O,
    ) -> Verdict {
        // Looks come in clusters: who acts before one acts before the step as well.
        if !edge.is_look() || matches!(edge, Edge::IsMapped(_)) {
            self.others_act(migrate, edge, course, trace);
        }
        if self.refuses.get() && matches!(edge, Edge::Take(_)) {
            return Verdict::FailAs(Failure::Backend);
        }
        let Some(failure) = self.failure(migrate, profile, edge, course) else {
            return Verdict::Go;
        };
        match (failure, edge.pfn()) {
            (Failure::Pinned, Some(pfn)) => self.say_pinned(pfn),
            (Failure::Dirtied, Some(pfn)) => self.disturb_frame(pfn),
            _ => {}
        }
        self.fail(edge, failure)
    }

    fn fail(&self, edge: Edge, failure: Failure) -> Verdict {
        let kind = edge.kind();
        self.counts
            .add(Kind::Fault, failure_word(Injection { edge: kind, failure }));
        self.log(|| format!("fails {edge:?}: {failure}"));
        Verdict::FailAs(failure)
    }

    fn others_act<O: Observer>(&self, migrate: &Migrate, edge: Edge, course: &Course, trace: O) {
        let now = course.edges.replace(course.edges.get() + 1);
        let slept = || self.held().went_on.len();
        let before = slept();
        self.touched.borrow_mut().clear();
        let mut done = self.finish_waits().and_then(|()| self.look_in_run());
        let due = migrate.middle.iter().filter(|(n, _)| usize::from(*n) == now);
        for (_, step) in due {
            done = done
                .and_then(|()| self.disturb(|| self.act(step, trace)))
                .and_then(|()| self.look_in_run());
        }
        course.others_slept.set(course.others_slept.get() + slept() - before);
        if let Err(what) = done {
            course.trouble_at(self, edge, &what);
        }
    }

    /// How a step fails, where it does.
    fn failure(&self, migrate: &Migrate, profile: &Profile, edge: Edge, course: &Course) -> Option<Failure> {
        if migrate.fails.is_empty() || !edge.can_fail() {
            return None;
        }
        let (now, kind) = (course.can_fail.get(), edge.kind());
        course.can_fail.set(now + 1);
        let nth = {
            let mut came = course.came.borrow_mut();
            let nth = came[kind as usize];
            came[kind as usize] = nth.saturating_add(1);
            nth
        };
        // Contents that cannot be read after the switch of 2006 are lost, and the reference has no word for that.
        if matches!(edge, Edge::Copy { .. }) && profile.order == MoveOrder::SwitchThenCopy {
            return None;
        }
        // Each has its own number, so that a case replays when other failures are taken out of it.
        migrate.fails.iter().find_map(|fail| match *fail {
            Fail::At(n) if usize::from(n) == now => pick(&kind.failures().collect::<Vec<_>>(), u32::from(n)),
            Fail::So { nth: n, .. } if n == nth => fail.way().filter(|way| way.edge == kind).map(|way| way.failure),
            Fail::At(_) | Fail::So { .. } => None,
        })
    }

    /// Isolates a page for a run; that is a step which can fail as any other.
    ///
    /// # Errors
    /// As [`isolate_lru_page`].
    pub(crate) fn isolate_for<O: Observer>(
        &self,
        migrate: &Migrate,
        profile: &Profile,
        page: &PageRef,
        course: &Course,
        trace: O,
    ) -> Result<Isolated<PageRef>, Refusal> {
        let hook = |edge: Edge| {
            let failure = self.failure(migrate, profile, edge, course);
            failure.map_or(Verdict::Go, |failure| self.fail(edge, failure))
        };
        isolate_lru_page(&Hooked::<Model, _>::new(&self.model, &hook), page, trace)
    }
}

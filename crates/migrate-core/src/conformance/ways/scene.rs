//! A page of a kind, and runs over it in which a plan says what fails.

use alloc::{format, vec::Vec};
use core::cell::RefCell;

use mm_types::scenario::{Mover, Sharing};
use mm_types::{ActorId, MappingId, Mode, Outcome, PageFlags, Pfn, Refusal, Site, Vpn};

use super::super::bench::{Bench, HERE, Looks, Mapped, VALUE};
use super::super::call::Ran;
use super::super::contract as promise;
use super::super::verdict::{Done, Halt, broken, hold, same};
use super::kind::Kind;
use crate::fixture::Fixture;
use crate::{
    Edge, EdgeKind, FailurePlan, Frames, Hook, Hooked, Injection, Verdict, isolate_lru_page, migration_entry_wait,
};

/// Pages of the file of which pages are cut off, one for each run.
const CUT: u64 = 64;

/// A page that is to meet one failure after the other.
pub(super) struct Scene<'b, F: Fixture> {
    b: &'b Bench<F>,
    kind: Kind,
    mode: Mode,
    file: Option<MappingId>,
    pub(super) page: Mapped,
    /// Pages cut off their file so far.
    cut: u64,
}

impl<'b, F: Fixture> Scene<'b, F> {
    pub(super) fn new(b: &'b Bench<F>, kind: Kind, mode: Mode) -> Result<Self, Halt> {
        b.needs(kind.needs())?;
        let (file, page) = match kind {
            Kind::Anon | Kind::Locked => (None, b.page()?),
            Kind::Shared => (None, b.shared()?),
            Kind::Swapped => {
                let page = b.page()?;
                b.fixture.swap_cache(page.pfn)?;
                (None, page)
            }
            Kind::File => {
                let (file, mut page) = b.file(Mover::Plain)?;
                page.value = VALUE;
                b.write(page.site(), VALUE)?;
                (Some(file), page)
            }
            Kind::Buffers | Kind::BusyBuffer => {
                let (file, page) = b.file(Mover::Buffers)?;
                (Some(file), page)
            }
            Kind::Fallback | Kind::WrittenOut => {
                let (file, page) = b.file(Mover::Fallback)?;
                (Some(file), page)
            }
            Kind::CutOff => {
                let (space, file) = (b.space()?, b.fixture.file(CUT, Mover::Buffers)?);
                let nowhere = Mapped {
                    pfn: Pfn::new(0),
                    sites: alloc::vec![Site::new(space, HERE)],
                    value: 0,
                };
                (Some(file), nowhere)
            }
        };
        Ok(Self {
            b,
            kind,
            mode,
            file,
            page,
            cut: 0,
        })
    }

    /// One run in which `plan` says what fails; a thread that touches the page in flight is part of it where `touches`. Returns what
    /// the page was refused for, and whether it is gone or moved in the end.
    pub(super) fn run(&mut self, plan: &FailurePlan, touches: bool) -> Result<(Vec<Refusal>, bool), Halt> {
        let b = self.b;
        if self.kind == Kind::CutOff {
            return self.run_cut_off(plan);
        }
        if self.kind == Kind::WrittenOut {
            self.page.value = self.page.value.wrapping_add(1);
            b.write(self.page.site(), self.page.value)?;
        }
        // An entry that is out because of the swap cache comes back when it is used.
        b.sees(&self.page)?;
        let before = b.looks(self.page.pfn, &self.page.sites)?;
        let ran = self.over(plan, touches)?;
        let moved = match ran.outcome(self.page.pfn) {
            Some(Outcome::Moved { to }) => {
                self.page.pfn = to;
                true
            }
            _ => false,
        };
        b.sees(&self.page)?;
        b.is_at(&self.page, self.page.pfn)?;
        let after = b.looks(self.page.pfn, &self.page.sites)?;
        if !moved {
            self.is_as_it_was(before, after)?;
        } else if self.kind.looks_the_same_elsewhere() {
            same(promise::ROUND_TRIP, "the page where it moved to", after, before)?;
        }
        Ok((refusals(&ran), moved))
    }

    /// A page that stayed is as it was; what was written out is clean, and in storage.
    fn is_as_it_was(&self, before: Looks, after: Looks) -> Done {
        let mut before = before;
        if let (Kind::WrittenOut, Some(file)) = (self.kind, self.file) {
            if before.is_dirty() && !after.is_dirty() {
                let stored = self.b.fixture.stored(file, 1)?;
                same(
                    promise::WRITEOUT,
                    "what storage holds of a page that is clean",
                    stored,
                    self.page.value,
                )?;
                before.clean();
            }
        }
        same(
            promise::ROLLBACK,
            &format!("{:?}, which stayed", self.page.pfn),
            after,
            before,
        )
    }

    fn over(&self, plan: &FailurePlan, touches: bool) -> Result<Ran, Halt> {
        let (b, pfn) = (self.b, self.page.pfn);
        let lock = match self.kind {
            Kind::Locked => Some(b.lock(pfn)?),
            _ => None,
        };
        let (lock, touched) = (RefCell::new(lock), RefCell::new(!touches));
        let open = || {
            if let Some(locked) = lock.take() {
                b.backend().put(b.backend().unlock(locked));
            }
        };
        let busy = RefCell::new(self.kind == Kind::BusyBuffer);
        if *busy.borrow() {
            b.fixture.buffers_busy(pfn, true)?;
        }
        let freed = RefCell::new(Ok(()));
        let free = || {
            if busy.replace(false) {
                *freed.borrow_mut() = b.fixture.buffers_busy(pfn, false);
            }
        };
        let hook = |edge: Edge| {
            if matches!(edge, Edge::Copy { .. }) && !touched.replace(true) {
                let watched = Hooked::new(b.backend(), plan);
                migration_entry_wait(&watched, b.profile, self.page.site(), ActorId::new(1), b.recording());
            }
            let verdict = plan.before(edge);
            match edge {
                Edge::Lock(_) => open(),
                // A sleep that ends too early finds it as busy as before.
                Edge::WaitBuffers(_) if verdict == Verdict::Go => free(),
                _ => {}
            }
            verdict
        };
        let over = || {
            open();
            free();
        };
        let ran = b.call(&[pfn]).mode(self.mode).hook(&hook).afterwards(&over).run();
        freed.into_inner()?;
        ran
    }

    /// A page of its own for each run: it is gone when nothing fails.
    fn run_cut_off(&mut self, plan: &FailurePlan) -> Result<(Vec<Refusal>, bool), Halt> {
        let (b, n) = (self.b, self.cut);
        self.cut = n.saturating_add(1);
        let Some(file) = self.file.filter(|_| n < CUT) else {
            return Err(broken(promise::DONE, "the file has no page left"));
        };
        let site = Site::new(self.page.site().space, Vpn::new(HERE.raw().saturating_add(n)));
        let pfn = b.map_file(file, n, site, Sharing::Shared)?;
        let isolated = b.isolate(pfn)?;
        b.fixture.truncate(pfn)?;
        let before = (b.count(pfn)?, b.flags(pfn)?);
        let hook = |edge: Edge| plan.before(edge);
        let call = b.call(&[]).targets(1).mode(self.mode).hook(&hook);
        let ran = call.run_isolated([isolated].into())?;
        let gone = ran.outcome(pfn) == Some(Outcome::Freed)
            || b.backend().get(pfn).is_none_or(|page| {
                b.backend().put(page);
                false
            });
        if !gone {
            // Put back, it has one reference less than while it was isolated; it waits for somebody who can free its data.
            let after = (b.count(pfn)?.saturating_add(1), b.flags(pfn)?);
            let shown =
                |(count, flags): (u32, PageFlags)| (count, flags.difference(PageFlags::LRU | PageFlags::WAITERS));
            same(
                promise::ROLLBACK,
                &format!("{pfn:?}, which stayed"),
                shown(after),
                shown(before),
            )?;
            let again = b.call(&[pfn]).mode(self.mode).run()?;
            let gone = again.outcome(pfn) == Some(Outcome::Freed);
            hold(promise::BUFFERS, gone || self.is_refused_anyway(), || {
                format!("{pfn:?} is cut off its file, and stays for ever: {:?}", again.outcomes)
            })?;
        }
        Ok((refusals(&ran), gone))
    }

    /// The page is to be isolated, and the plan says that it is on no list.
    fn isolate(&self, plan: &FailurePlan) -> Result<Vec<Refusal>, Halt> {
        let (b, pfn) = (self.b, self.page.pfn);
        b.sees(&self.page)?;
        let before = b.looks(pfn, &self.page.sites)?;
        let watched = Hooked::new(b.backend(), plan);
        let done = b.with(pfn, |_, page| isolate_lru_page(&watched, page, b.recording()))?;
        let refusal = match done {
            Ok(isolated) => {
                b.put_back(isolated);
                return Ok(Vec::new());
            }
            Err(refusal) => refusal,
        };
        self.is_as_it_was(before, b.looks(pfn, &self.page.sites)?)?;
        Ok(alloc::vec![refusal])
    }

    /// The page meets the failure that `plan` has for it, and what came of it is looked at.
    pub(super) fn meets(&mut self, pair: Injection, plan: &FailurePlan, once: bool) -> Result<Vec<Refusal>, Halt> {
        if pair.edge == EdgeKind::Isolate {
            return self.isolate(plan);
        }
        let (refusals, moved) = self.run(plan, pair.edge == EdgeKind::WaitOn)?;
        let last = refusals.last().filter(|_| !moved);
        // A run that gets no new page is over, today at once.
        let goes_on = |refusal: &&Refusal| refusal.is_transient() && **refusal != Refusal::NoTarget;
        match last.filter(goes_on).filter(|_| once && plan.injected(pair) > 0) {
            Some(refusal) if !self.is_refused_anyway() => Err(broken(
                promise::ROLLBACK,
                format!("{pair} failed once, and the page stayed: {refusal}"),
            )),
            _ => Ok(refusals),
        }
    }

    /// True where a run that may not sleep cannot move such a page, whatever fails.
    pub(super) fn is_refused_anyway(&self) -> bool {
        matches!(self.kind, Kind::Locked | Kind::BusyBuffer) && !self.b.profile.blocks(self.mode)
            || self.kind == Kind::WrittenOut && !self.b.profile.writes_out
            || self.kind == Kind::CutOff && !self.b.profile.new_page_first
    }
}

/// Every refusal of the run, in the order told.
fn refusals(ran: &Ran) -> Vec<Refusal> {
    let refusals = ran.outcomes.iter().filter_map(|(_, outcome)| match outcome {
        Outcome::Retry(refusal) | Outcome::Refused(refusal) => Some(*refusal),
        Outcome::Moved { .. } | Outcome::Freed => None,
    });
    refusals.collect()
}

//! Every way in which a step can fail, on a page of every kind, in every mode: once at each of the step's occurrences, and for good.
//!
//! What a failure must come to is [`Injection::effect`]'s to say. A step that does not come where the kind of page is there to show it fails
//! the case, as a failure does that nobody sees and should.

use alloc::{format, vec::Vec};
use core::cell::RefCell;

use mm_types::scenario::{Mover, Sharing};
use mm_types::{ActorId, MappingId, Mode, Outcome, Refusal, Site, Vpn};

use super::bench::{Bench, HERE, Looks, Mapped, VALUE};
use super::contract as promise;
use super::verdict::{Done, Halt, broken, hold, same};
use crate::fixture::{Capabilities, Fixture};
use crate::{
    Edge, EdgeKind, Effect, FailurePlan, Frames, Hook, Hooked, Injection, MoveOrder, Profile, Verdict,
    isolate_lru_page, migration_entry_wait,
};

/// A step comes more often than that where passes repeat each other.
const OCCURRENCES: u32 = 6;

/// Pages of the file of which pages are cut off, one for each run.
const CUT: u64 = 64;

/// What a page is, and who is in its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Anon,
    Shared,
    Swapped,
    File,
    Buffers,
    Fallback,
    /// Dirty, without a mover: 2006 writes it out first.
    WrittenOut,
    /// Somebody else has the page lock until the run sleeps for it.
    Locked,
    /// I/O has a buffer until the run sleeps for it.
    BusyBuffer,
    /// Isolated, and cut off its file then: only its private data are left.
    CutOff,
}

impl Kind {
    #[cfg(test)]
    const ALL: [Self; 10] = [
        Self::Anon,
        Self::Shared,
        Self::Swapped,
        Self::File,
        Self::Buffers,
        Self::Fallback,
        Self::WrittenOut,
        Self::Locked,
        Self::BusyBuffer,
        Self::CutOff,
    ];

    /// True where a run over such a page has steps of the kind `edge`, unless they are impossible by profile and mode.
    const fn shows(self, edge: EdgeKind, profile: &Profile) -> bool {
        match self {
            Self::WrittenOut => matches!(edge, EdgeKind::CanWrite | EdgeKind::ClearDirty | EdgeKind::Writeout),
            // Who looks at a page that somebody else has locked counts, too; it matters to nobody, and 2006 has no other place.
            Self::Locked => {
                matches!(edge, EdgeKind::Lock)
                    || (matches!(edge, EdgeKind::Count) && matches!(profile.order, MoveOrder::SwitchThenCopy))
            }
            Self::BusyBuffer => matches!(edge, EdgeKind::TryLockBuffers | EdgeKind::WaitBuffers),
            Self::CutOff => matches!(edge, EdgeKind::ReleaseBuffers),
            Self::Anon | Self::Shared | Self::Swapped | Self::File | Self::Buffers | Self::Fallback => match edge {
                EdgeKind::CanWrite
                | EdgeKind::ClearDirty
                | EdgeKind::Writeout
                | EdgeKind::Lock
                | EdgeKind::WaitBuffers
                | EdgeKind::ReleaseBuffers => false,
                EdgeKind::TryLockBuffers => matches!(self, Self::Buffers),
                // A page without a slot in any cache has no mapping to be asked.
                EdgeKind::Mover => !matches!(self, Self::Anon | Self::Shared),
                // 2006 counts when it switches.
                EdgeKind::Count => matches!(profile.order, MoveOrder::CopyThenSwitch),
                _ => true,
            },
        }
    }

    /// What must come of the failure on such a page.
    const fn effect(self, pair: Injection, profile: &Profile, mode: Mode) -> Effect {
        match self {
            Self::CutOff if profile.new_page_first => Effect::Refused(Refusal::Truncated),
            Self::CutOff => Effect::Impossible("2006 refuses the page before it looks at its private data"),
            _ => pair.effect(profile, mode),
        }
    }

    const fn needs(self) -> Capabilities {
        match self {
            Self::Anon => Capabilities::ANON,
            Self::Shared => Capabilities::SHARED.union(Capabilities::SEVERAL_SPACES),
            Self::Swapped => Capabilities::SWAP_CACHE,
            Self::File => Capabilities::FILE.union(Capabilities::DIRTY_FILE),
            Self::Buffers => Capabilities::FILE.union(Capabilities::BUFFERS),
            Self::Fallback | Self::WrittenOut => Capabilities::FILE.union(Capabilities::WRITEOUT),
            Self::Locked => Capabilities::LOCK_BY_OTHER.union(Capabilities::MIDDLE),
            Self::BusyBuffer => Capabilities::FILE
                .union(Capabilities::BUFFERS)
                .union(Capabilities::MIDDLE),
            Self::CutOff => Capabilities::FILE
                .union(Capabilities::BUFFERS)
                .union(Capabilities::TRUNCATE),
        }
    }
}

/// A page that is to meet one failure after the other.
struct Scene<'b, F: Fixture> {
    b: &'b Bench<F>,
    kind: Kind,
    mode: Mode,
    file: Option<MappingId>,
    page: Mapped,
    /// Pages cut off their file so far.
    cut: u64,
}

impl<'b, F: Fixture> Scene<'b, F> {
    fn new(b: &'b Bench<F>, kind: Kind, mode: Mode) -> Result<Self, Halt> {
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
                    pfn: mm_types::Pfn::new(0),
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
    fn run(&mut self, plan: &FailurePlan, touches: bool) -> Result<(Vec<Refusal>, bool), Halt> {
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
        if !moved {
            let after = b.looks(self.page.pfn, &self.page.sites)?;
            self.is_as_it_was(before, after)?;
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

    fn over(&self, plan: &FailurePlan, touches: bool) -> Result<super::call::Ran, Halt> {
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
            let shown = |(count, flags): (u32, mm_types::PageFlags)| {
                (
                    count,
                    flags.difference(mm_types::PageFlags::LRU | mm_types::PageFlags::WAITERS),
                )
            };
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
    fn meets(&mut self, pair: Injection, plan: &FailurePlan, once: bool) -> Result<Vec<Refusal>, Halt> {
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
    fn is_refused_anyway(&self) -> bool {
        matches!(self.kind, Kind::Locked | Kind::BusyBuffer) && !self.b.profile.blocks(self.mode)
            || self.kind == Kind::WrittenOut && !self.b.profile.writes_out
            || self.kind == Kind::CutOff && !self.b.profile.new_page_first
    }
}

/// Every refusal of the run, in the order told.
fn refusals(ran: &super::call::Ran) -> Vec<Refusal> {
    let refusals = ran.outcomes.iter().filter_map(|(_, outcome)| match outcome {
        Outcome::Retry(refusal) | Outcome::Refused(refusal) => Some(*refusal),
        Outcome::Moved { .. } | Outcome::Freed => None,
    });
    refusals.collect()
}

/// In 2006 the contents are lost when the copy fails after the switch; the groups `failures_of_…` look at what is left.
fn loses_the_contents<F: Fixture>(b: &Bench<F>, pair: Injection) -> bool {
    pair.edge == EdgeKind::Copy && b.profile.order == MoveOrder::SwitchThenCopy
}

/// A page of this kind meets each failure of the table that it can meet. Returns how often each was made to happen.
fn meets_everything<F: Fixture>(b: &Bench<F>, kind: Kind, mode: Mode) -> Result<Vec<(Injection, u32)>, Halt> {
    let mut scene = Scene::new(b, kind, mode)?;
    let middle = b.fixture.capabilities().contains(Capabilities::MIDDLE);
    let counted = FailurePlan::nothing();
    let (_, moved) = scene.run(&counted, false)?;
    hold(promise::LISTS, moved || scene.is_refused_anyway(), || {
        format!("{:?} does not move when nothing fails", scene.page.pfn)
    })?;
    let mut met = Vec::new();
    for pair in Injection::ALL
        .iter()
        .copied()
        .filter(|pair| kind.shows(pair.edge, b.profile))
    {
        if loses_the_contents(b, pair) || (pair.edge == EdgeKind::WaitOn && !middle) {
            continue;
        }
        let effect = kind.effect(pair, b.profile, mode);
        let (mut injected, mut seen) = (0u32, false);
        let times = counted.came(pair.edge).clamp(1, OCCURRENCES);
        let once = (0..times).map(|nth| (FailurePlan::once(pair, nth), true));
        for (plan, once) in once.chain([(FailurePlan::from_then_on(pair, 0), false)]) {
            let refusals = scene.meets(pair, &plan, once)?;
            injected = injected.saturating_add(plan.injected(pair));
            seen |= refusals.iter().any(|refusal| effect.is(*refusal));
        }
        let holds = match effect {
            Effect::Refused(_) => injected > 0 && seen,
            Effect::Unseen => injected > 0,
            Effect::Impossible(_) => injected == 0,
        };
        hold(promise::LISTS, holds, || {
            format!("{pair} on a page of kind {kind:?} happened {injected} times, must come to {effect:?}, and did not")
        })?;
        met.push((pair, injected));
    }
    if !scene.is_refused_anyway() {
        let (_, moved) = scene.run(&FailurePlan::nothing(), false)?;
        hold(promise::ROLLBACK, moved, || {
            format!("{:?} does not move when nothing fails any more", scene.page.pfn)
        })?;
    }
    Ok(met)
}

macro_rules! every_kind {
    ($mode:expr; $($case:ident: $kind:ident;)*) => {
        use mm_types::Mode;

        use super::super::bench::Bench;
        use super::super::verdict::Done;
        use super::{Kind, meets_everything};
        use crate::fixture::Fixture;

        $(
            pub(in super::super) fn $case<F: Fixture>(b: &Bench<F>) -> Done {
                meets_everything(b, Kind::$kind, $mode).map(drop)
            }
        )*
    };
    ($mode:expr) => {
        every_kind! {
            $mode;
            an_anonymous_page_survives_every_failure: Anon;
            a_shared_page_survives_every_failure: Shared;
            a_page_in_the_swap_cache_survives_every_failure: Swapped;
            a_page_of_a_file_survives_every_failure: File;
            a_page_with_buffers_survives_every_failure: Buffers;
            a_page_without_a_mover_survives_every_failure: Fallback;
            a_page_that_is_written_out_survives_every_failure: WrittenOut;
            a_page_that_somebody_has_locked_survives_every_failure: Locked;
            a_page_with_a_busy_buffer_survives_every_failure: BusyBuffer;
            a_page_cut_off_its_file_survives_every_failure: CutOff;
        }
    };
}

pub(super) mod in_mode_async {
    every_kind!(Mode::Async);
}

pub(super) mod in_mode_sync_light {
    every_kind!(Mode::SyncLight);
}

pub(super) mod in_mode_sync {
    every_kind!(Mode::Sync);
}

#[cfg(all(test, feature = "model"))]
mod tests {
    use alloc::collections::BTreeSet;

    use super::*;
    use crate::model::ModelFixture;
    use crate::{LINUX_2_6_17, MODERN};

    #[test]
    #[cfg_attr(miri, ignore = "more events than there is room for")]
    fn every_failure_of_the_table_happens_on_a_page_of_some_kind_in_every_mode() {
        for (profile, mode) in [
            (&LINUX_2_6_17, Mode::Sync),
            (&MODERN, Mode::Async),
            (&MODERN, Mode::SyncLight),
            (&MODERN, Mode::Sync),
        ] {
            let mut happened = BTreeSet::new();
            for kind in Kind::ALL {
                let b = Bench::new(ModelFixture::new(), profile);
                let met = meets_everything(&b, kind, mode).unwrap();
                happened.extend(met.into_iter().filter(|(_, times)| *times > 0).map(|(pair, _)| pair));
            }
            for pair in Injection::ALL {
                let impossible = matches!(pair.effect(profile, mode), Effect::Impossible(_));
                // Of 2006 two are shown elsewhere: the copy that fails too late, by the groups `failures_of_…`; private data that
                // stay, on a kind of page that no fixture is asked for, by `tests/every_failure.rs`.
                let elsewhere = profile.order == MoveOrder::SwitchThenCopy
                    && matches!(pair.edge, EdgeKind::Copy | EdgeKind::ReleaseBuffers);
                assert_eq!(
                    happened.contains(pair),
                    !impossible && !elsewhere,
                    "{pair}, {} {mode}",
                    profile.rules
                );
            }
        }
    }
}

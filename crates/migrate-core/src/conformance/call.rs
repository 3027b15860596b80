//! A run, and the promises that every run keeps whatever became of its pages.

use alloc::{collections::VecDeque, format, string::String, vec::Vec};

use mm_types::{Mapping, Mode, Outcome, PageFlags, Pfn, Reason, Refusal, Rules};

use super::bench::Bench;
use super::contract as promise;
use super::verdict::{Done, Halt, broken, hold, same};
use crate::fixture::{Fixture, PageOf, call};
use crate::invariants::{Violation, check_outcomes, check_targets};
use crate::{
    Args, ConfigError, Edge, Frames, Isolated, NewPages, Slot, Tally, Verdict, migrate_pages_nowait, putback_lru_pages,
};

/// A run to be made.
pub(super) struct Call<'b, F: Fixture> {
    bench: &'b Bench<F>,
    pages: Vec<Pfn>,
    mode: Mode,
    batch: Option<usize>,
    targets: Option<usize>,
    keep_moved: bool,
    hook: &'b dyn Fn(Edge) -> Verdict,
    afterwards: &'b dyn Fn(),
}

/// What a run left. Its pages have been put back.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) tally: Tally,
    pub(super) outcomes: Vec<(Pfn, Outcome)>,
    pub(super) from: Vec<Pfn>,
    pub(super) moved: Vec<Pfn>,
    pub(super) failed: Vec<Pfn>,
    /// The new pages lent, in order, and those that were left.
    pub(super) lent: Vec<Pfn>,
    pub(super) unused: Vec<Pfn>,
    /// What threads that slept saw or stored in the end.
    pub(super) woken: alloc::collections::BTreeMap<u32, u64>,
    /// The pages that had private data.
    private: Vec<Pfn>,
}

impl<'b, F: Fixture> Call<'b, F> {
    pub(super) fn new(bench: &'b Bench<F>, pages: &[Pfn]) -> Self {
        Self {
            bench,
            pages: pages.to_vec(),
            mode: Mode::Sync,
            batch: None,
            targets: None,
            keep_moved: true,
            hook: &|_| Verdict::Go,
            afterwards: &|| {},
        }
    }

    /// What it may wait for; sync where nothing is said.
    pub(super) fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Slots; as many as pages where nothing is said.
    pub(super) fn batch(mut self, slots: usize) -> Self {
        self.batch = Some(slots);
        self
    }

    /// New pages; as many as pages where nothing is said.
    pub(super) fn targets(mut self, pages: usize) -> Self {
        self.targets = Some(pages);
        self
    }

    /// The caller does not want the old pages of those that move.
    pub(super) fn releasing(mut self) -> Self {
        self.keep_moved = false;
        self
    }

    /// Called when the run is over, for who stands in its way no longer than that: before anybody waits for threads, which may
    /// sleep for what he holds.
    pub(super) fn afterwards(mut self, afterwards: &'b dyn Fn()) -> Self {
        self.afterwards = afterwards;
        self
    }

    /// Called before each step.
    pub(super) fn hook(mut self, hook: &'b dyn Fn(Edge) -> Verdict) -> Self {
        self.hook = hook;
        self
    }

    /// Isolates the pages, moves them, looks at what every run promises, and puts everything back.
    pub(super) fn run(self) -> Result<Ran, Halt> {
        let isolated: Result<VecDeque<_>, Halt> = self.pages.iter().map(|pfn| self.bench.isolate(*pfn)).collect();
        self.run_isolated(isolated?)
    }

    /// As [`Call::run`], over pages that are isolated already.
    pub(super) fn run_isolated(self, from: VecDeque<Isolated<PageOf<F>>>) -> Result<Ran, Halt> {
        let (bench, backend) = (self.bench, self.bench.backend());
        let news = new_pages(bench, self.targets.unwrap_or(from.len()))?;
        news.iter()
            .try_for_each(|page| bench.pristine(page, promise::NEW_PAGE))?;
        let lent: Vec<Pfn> = news.iter().map(|page| backend.pfn(page)).collect();
        let given: Vec<Pfn> = from.iter().map(|page| backend.pfn(page.page())).collect();
        let private = |page: &&Isolated<PageOf<F>>| backend.flags(page.page()).contains(PageFlags::PRIVATE);
        let private = from
            .iter()
            .filter(private)
            .map(|page| backend.pfn(page.page()))
            .collect();
        let call = call::Call {
            profile: bench.profile,
            mode: self.mode,
            reason: Reason::Compaction,
            batch: self.batch.unwrap_or(from.len()).max(1),
            keep_moved: self.keep_moved,
            hook: self.hook,
        };
        let called = call.over(bench.fixture.inner(), bench.recording(), from, news);
        (self.afterwards)();
        let mut called = called.map_err(|error| broken(promise::TYPED, format!("{error}")))?;
        // Locks are open: whoever slept on one is awake again, and lets go of what it held.
        let woken = bench.finish_faults();
        let frames = |list: &VecDeque<Isolated<PageOf<F>>>| -> Vec<Pfn> {
            list.iter().map(|page| backend.pfn(page.page())).collect()
        };
        let ran = Ran {
            tally: called.tally,
            from: frames(&called.from),
            moved: frames(&called.moved),
            failed: frames(&called.failed),
            unused: called.news.iter().map(|page| backend.pfn(page)).collect(),
            outcomes: called.outcomes,
            lent,
            woken: woken?,
            private,
        };
        ran.promises(&given, bench.profile.rules, self.keep_moved)?;
        called
            .news
            .iter()
            .try_for_each(|page| bench.pristine(page, promise::ROLLBACK))?;
        for page in &called.moved {
            finished(bench, page.page(), &ran)?;
        }
        for list in [&mut called.from, &mut called.moved, &mut called.failed] {
            putback_lru_pages(backend, list, bench.recording());
        }
        called.news.into_iter().for_each(|page| backend.put(page));
        crate::migrate_prep(backend);
        Ok(ran)
    }
}

/// New pages of the fixture, for a run.
fn new_pages<F: Fixture>(b: &Bench<F>, n: usize) -> Result<VecDeque<PageOf<F>>, Halt> {
    call::new_pages(b.fixture.inner(), n)
        .map_err(|error| b.fixture.halt(promise::of_fixture("Fixture::new_page"), &[], error))
}

/// The call that never sleeps, over one page and one new one; everything is put back afterwards.
pub(super) struct Nowait {
    pub(super) done: Result<Tally, ConfigError>,
    /// Pages on `from`, `moved` and `failed`, and new pages left.
    pub(super) lists: (usize, usize, usize, usize),
    /// Outcomes told.
    pub(super) told: u32,
}

impl Nowait {
    pub(super) fn run<F: Fixture>(b: &Bench<F>, pfn: Pfn, slots: usize, mode: Mode) -> Result<Self, Halt> {
        let mut from = VecDeque::from([b.isolate(pfn)?]);
        let mut news = new_pages(b, 1)?;
        let (mut moved, mut failed) = (VecDeque::new(), VecDeque::new());
        let mut slots: Vec<_> = (0..slots).map(|_| Slot::new()).collect();
        let mut told = 0u32;
        let args = Args {
            from: &mut from,
            target: NewPages(&mut news),
            moved: Some(&mut moved),
            failed: &mut failed,
            slots: &mut slots,
            profile: b.profile,
            mode,
            reason: Reason::Compaction,
            outcome: &mut |_, _| told = told.saturating_add(1),
            observer: b.recording(),
        };
        let done = migrate_pages_nowait(b.backend(), args);
        let lists = (from.len(), moved.len(), failed.len(), news.len());
        let pristine = news.iter().try_for_each(|page| b.pristine(page, promise::TYPED));
        for list in [&mut from, &mut moved, &mut failed] {
            putback_lru_pages(b.backend(), list, b.recording());
        }
        news.into_iter().for_each(|page| b.backend().put(page));
        crate::migrate_prep(b.backend());
        pristine?;
        Ok(Self { done, lists, told })
    }
}

/// An old page that moved, or was freed: only the isolation holds it, and the allocator will take it.
fn finished<F: Fixture>(bench: &Bench<F>, page: &PageOf<F>, ran: &Ran) -> Done {
    let (backend, pfn) = (bench.backend(), bench.backend().pfn(page));
    let (count, flags) = (backend.count(page), backend.flags(page));
    if let Some(Outcome::Moved { to }) = ran.outcome(pfn) {
        if count != 1 {
            // What still holds the page says more than the reference: buffers left behind, an entry that maps it.
            let left = ran.private.contains(&pfn) && !bench.flags(to)?.contains(PageFlags::PRIVATE);
            hold(promise::BUFFERS, !left, || {
                format!("{pfn:?} had buffers, and {to:?}, to which it moved, has none")
            })?;
            let sites = bench.sites(to, pfn)?;
            hold(promise::EDIT_FRAME, sites.is_empty(), || {
                format!("{pfn:?} moved to {to:?}, and is mapped at {sites:?}")
            })?;
        }
    }
    same(promise::LEDGER, &format!("references of {pfn:?} on `moved`"), count, 1)?;
    if ran.outcome(pfn) == Some(Outcome::Freed) {
        return Ok(());
    }
    let left = PageFlags::LOCKED | PageFlags::SWAPCACHE | PageFlags::DIRTY;
    let flags = flags & (left | PageFlags::LRU | PageFlags::WRITEBACK);
    same(
        promise::FLAGS,
        &format!("flags of {pfn:?} on `moved`"),
        flags,
        PageFlags::empty(),
    )?;
    let file = matches!(backend.mapping(page), Mapping::File(_));
    hold(promise::DISOWN, !file, || {
        format!("{pfn:?} on `moved` belongs to {:?}", backend.mapping(page))
    })
}

impl Ran {
    /// The last word about a page.
    pub(super) fn outcome(&self, pfn: Pfn) -> Option<Outcome> {
        let mut words = self.outcomes.iter().rev();
        words
            .find(|(at, outcome)| *at == pfn && outcome.is_final())
            .map(|(_, outcome)| *outcome)
    }

    /// Where a page is now that must have moved. One that stayed accuses whose promise its refusal is about.
    pub(super) fn moved_to(&self, pfn: Pfn) -> Result<Pfn, Halt> {
        let outcome = self.outcome(pfn);
        let contract = match outcome {
            Some(Outcome::Moved { to }) => return Ok(to),
            Some(Outcome::Refused(refusal)) => accused(refusal),
            _ => promise::LISTS,
        };
        Err(broken(contract, format!("{pfn:?} did not move: {}", words(outcome))))
    }

    /// A page that must have stayed, by this rule.
    pub(super) fn refused(&self, contract: promise::Contract, pfn: Pfn, rule: &str) -> Done {
        let outcome = self.outcome(pfn);
        let holds = matches!(outcome, Some(Outcome::Refused(refusal)) if refusal.word() == rule);
        hold(contract, holds, || {
            format!("{pfn:?}: {}, where it must be refused: {rule}", words(outcome))
        })
    }

    /// What holds at the end of any run.
    fn promises(&self, given: &[Pfn], rules: Rules, keep_moved: bool) -> Done {
        for pfn in given {
            let lists = [&self.from, &self.moved, &self.failed];
            let on = lists
                .iter()
                .map(|list| list.iter().filter(|at| *at == pfn).count())
                .sum::<usize>();
            let gone = matches!(self.outcome(*pfn), Some(Outcome::Moved { .. } | Outcome::Freed));
            let must = usize::from(keep_moved || !gone);
            same(promise::LISTS, &format!("lists that {pfn:?} is on"), on, must)?;
            if must == 0 {
                continue;
            }
            let list = match self.outcome(*pfn) {
                Some(Outcome::Moved { .. } | Outcome::Freed) => &self.moved,
                Some(Outcome::Refused(refusal)) if refusal.is_transient() => &self.from,
                _ => &self.failed,
            };
            hold(promise::LISTS, list.contains(pfn), || {
                format!("{pfn:?} ({}) is on the wrong list", words(self.outcome(*pfn)))
            })?;
        }
        let told = |violation: Violation| broken(promise::LISTS, format!("{violation}"));
        check_outcomes(given, &self.outcomes, &self.tally).map_err(told)?;
        let used = |violation: Violation| broken(promise::PASSES, format!("{violation}"));
        check_targets(self.lent.len(), self.unused.len(), &self.outcomes).map_err(used)?;
        let most = match rules {
            Rules::Linux2617 => 11,
            Rules::Modern => 10,
        };
        let passes = self.tally.passes;
        hold(promise::PASSES, passes <= most, || format!("{passes} passes"))
    }
}

fn words(outcome: Option<Outcome>) -> String {
    match outcome {
        None => "no outcome".into(),
        Some(Outcome::Moved { to }) => format!("moved to {to:?}"),
        Some(Outcome::Freed) => "freed".into(),
        Some(Outcome::Retry(refusal) | Outcome::Refused(refusal)) => format!("refused {refusal}"),
    }
}

/// Whose promise a refusal speaks of where nothing in the case could hold the page.
fn accused(refusal: Refusal) -> promise::Contract {
    match refusal {
        Refusal::LockBusy => promise::UNLOCK,
        Refusal::Mapped { .. } => promise::WALK,
        Refusal::ExtraReference { .. } => promise::LEDGER,
        Refusal::Pinned { .. } => promise::PINS,
        Refusal::BuffersBusy => promise::LOCK_BUFFERS,
        Refusal::BuffersNotReleasable | Refusal::Truncated => promise::BUFFERS,
        Refusal::SlotChanged => promise::SWITCH,
        Refusal::NotOnLru => promise::PUTBACK,
        Refusal::MappingLimit | Refusal::StallBudget => promise::RESERVE,
        Refusal::CopyFailed | Refusal::CopiedTooLate => promise::COPY,
        Refusal::Dirty | Refusal::WrittenOut | Refusal::NoWritepage | Refusal::WriteFailed => promise::WRITEOUT,
        Refusal::NeverMoves => promise::MOVER,
        Refusal::Writeback => promise::WAIT_WRITEBACK,
        _ => promise::STAYS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use alloc::string::ToString;

    #[test]
    fn a_page_that_stayed_accuses_whose_promise_its_refusal_is_about() {
        let pfn = Pfn::new(1);
        let ran = |outcome| Ran {
            tally: Tally::default(),
            outcomes: alloc::vec![(pfn, outcome)],
            from: Vec::new(),
            moved: Vec::new(),
            failed: Vec::new(),
            lent: Vec::new(),
            unused: Vec::new(),
            woken: BTreeMap::new(),
            private: Vec::new(),
        };
        let accused = |outcome| match ran(outcome).moved_to(pfn) {
            Err(Halt::Failed(failure)) => failure.to_string(),
            Err(Halt::Lacks(lacks)) => panic!("{lacks:?}"),
            Ok(to) => format!("moved to {to:?}"),
        };
        for (outcome, begins) in [
            (Outcome::Moved { to: Pfn::new(2) }, "moved to".into()),
            (Outcome::Freed, contract_of(promise::LISTS)),
            (
                Outcome::Refused(Refusal::Pinned { pins: 1 }),
                contract_of(promise::PINS),
            ),
            (Outcome::Refused(Refusal::SlotChanged), contract_of(promise::SWITCH)),
        ] {
            let said = accused(outcome);
            assert!(said.starts_with(&begins), "{said}");
        }
    }

    fn contract_of(contract: promise::Contract) -> String {
        format!("broken contract: {} ({}): ", contract.method, contract.invariant)
    }

    #[test]
    fn a_refusal_accuses_whose_answer_it_came_from_and_the_core_of_the_rest() {
        let mut methods: BTreeMap<&str, usize> = BTreeMap::new();
        for refusal in Refusal::EXAMPLES {
            *methods.entry(accused(*refusal).method).or_default() += 1;
        }
        let seam = [
            ("Cache::mover", 1),
            ("Cache::move_buffers", 2),
            ("Cache::switch", 1),
            ("Cache::try_lock_buffers", 1),
            ("Cache::writeout", 4),
            ("Entry::update", 1),
            ("Frames::copy", 2),
            ("Frames::pins", 1),
            ("Frames::unlock", 1),
            ("Lru::putback", 1),
            ("Rmap::reserve", 2),
            ("Rmap::walk", 1),
            ("Wait::wait_writeback", 1),
        ];
        for (method, refusals) in seam {
            assert_eq!(methods.remove(method), Some(refusals), "{method}");
        }
        assert_eq!(methods.into_keys().collect::<Vec<_>>(), ["migrate_pages"]);
    }

    #[test]
    fn an_outcome_reads_as_what_became_of_the_page() {
        assert_eq!(words(None), "no outcome");
        assert_eq!(words(Some(Outcome::Freed)), "freed");
        assert!(words(Some(Outcome::Moved { to: Pfn::new(7) })).starts_with("moved to "));
        for outcome in [Outcome::Retry(Refusal::LockBusy), Outcome::Refused(Refusal::LockBusy)] {
            assert_eq!(words(Some(outcome)), alloc::format!("refused {}", Refusal::LockBusy));
        }
    }
}

//! One execution: mapped pages, warm TLBs, the actors, and the migrator on the model's main thread.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use loom::cell::Cell;
use migrate_core::{
    Args, Frames, Isolated, Lru, PageRef, Slot, Target, UsesPageMap, isolate_lru_page, migrate_pages,
    migrate_pages_nowait, migrate_prep, putback_lru_pages,
};
use mm_types::trace::{Event, Recorder};
use mm_types::{AnonVmaId, Mapping, MappingId, Outcome, PageFlags, Pfn, Pte, PteFlags, Reason, Refusal};

use crate::calls::mapped;
use crate::cpu::Reserve;
use crate::kernel::{Hears, Kernel, Translation, WORDS, at, lock, site};
use crate::scenario::{Actor, COLD, INITIAL, Scenario};
use crate::traces::{Told, read};

/// New pages for so many attempts: a run that is refused ends early, or its passes would be explored one and all.
struct Budget {
    pages: Vec<PageRef>,
    attempts: usize,
}

impl Target<Kernel> for Budget {
    fn is_exhausted(&self) -> bool {
        self.attempts == 0
    }

    fn take(&mut self, _kernel: &Kernel, _old: &PageRef) -> Result<PageRef, Refusal> {
        self.attempts = self.attempts.checked_sub(1).ok_or(Refusal::NoTarget)?;
        self.pages.pop().ok_or(Refusal::NoTarget)
    }

    fn give_back(&mut self, _kernel: &Kernel, page: PageRef) {
        self.pages.push(page);
    }
}

/// The lists of a run.
#[derive(Default)]
pub(crate) struct Lists {
    pub(crate) from: VecDeque<Isolated<PageRef>>,
    moved: VecDeque<Isolated<PageRef>>,
    failed: VecDeque<Isolated<PageRef>>,
}

/// One migration: its lists, and where pages may go.
pub(crate) struct Run {
    pub(crate) lists: Lists,
    budget: Budget,
}

impl Run {
    pub(crate) fn new(attempts: usize, pages: Vec<PageRef>) -> Self {
        Self {
            lists: Lists::default(),
            budget: Budget { pages, attempts },
        }
    }
}

/// What an actor saw, for the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Saw {
    /// Nothing that has to last.
    Nothing,
    /// Its word holds this from now on.
    Word(usize, u64),
    /// It moved this page there.
    Went(Pfn, Pfn),
}

pub(crate) struct World {
    pub(crate) scenario: Scenario,
    pub(crate) kernel: Kernel,
    pub(crate) reserve: Reserve,
    /// Somebody did not get a page that another one had isolated.
    lost: core::cell::Cell<bool>,
}

impl World {
    /// Mapped pages with known contents, warm TLBs, and new frames.
    pub(crate) fn new(scenario: Scenario, trace: &Arc<Recorder>) -> Self {
        let pages = scenario.pages;
        let cpus = scenario.actors.iter().filter(|actor| actor.has_cpu()).count();
        let reserved = if scenario.has(Actor::Fork) { cpus } else { 0 };
        // The new page of the other migration, if there is one, comes last.
        let frames = 2 * pages + reserved + usize::from(scenario.has(Actor::Migrate));
        let kernel = Kernel::new(scenario.profile, frames, cpus, scenario.file, Arc::clone(trace));
        let reserve = (0..reserved).map(|n| Cell::new(Some(allocate(&kernel, 2 * pages + n).pfn())));
        let reserve = Reserve(reserve.collect());
        *lock(&kernel.areas) = scenario.areas();
        for n in 0..pages {
            let page = allocate(&kernel, n);
            let desc = kernel.page_of(page.pfn());
            desc.set_index(n);
            desc.set_mapping(if scenario.file {
                Mapping::File(MappingId::new(0))
            } else {
                Mapping::Anon(AnonVmaId::new(0))
            });
            desc.flags().edit(PageFlags::UPTODATE, PageFlags::empty());
            (0..WORDS).for_each(|word| kernel.word(page.pfn(), word).set(INITIAL[word]));
            let mut flags = PteFlags::WRITE | PteFlags::DIRTY | PteFlags::YOUNG;
            flags.set(PteFlags::EXCLUSIVE, !scenario.file && scenario.lossless());
            let areas = scenario.areas();
            // A late faulter of a file has nothing mapped yet.
            for area in areas.iter().filter(|area| area.site != COLD) {
                let site = site(area.site.space.raw(), area.site.page.raw() + n as u64);
                desc.get();
                desc.add_mapping();
                kernel.table(site.space).entries[at(site).1] = Pte::present(page.pfn(), flags);
            }
            if scenario.lru {
                let added = kernel.with_lru(|lru| lru.add_new(kernel.page_map(), page.pfn(), |_| {}));
                assert_eq!(added, Ok(()));
            } else {
                // As its isolation would.
                desc.get();
            }
            if scenario.file {
                // The caller's reference is the slot's from now on.
                lock(&kernel.slots)[n] = Some(page.pfn());
            } else {
                kernel.put(page);
            }
        }
        migrate_prep(&kernel);
        for (cpu, actor) in scenario.actors.iter().enumerate() {
            if let Actor::Mutator(word) | Actor::Writer(word) = actor {
                let site = scenario.home(*word);
                let pfn = mapped(&kernel, site).expect("mapped above");
                *lock(&kernel.tlbs[cpu]).slot(site) = Some(Translation { pfn, write: true });
            }
        }
        Self {
            scenario,
            kernel,
            reserve,
            lost: core::cell::Cell::new(false),
        }
    }

    pub(crate) const fn obs(&self) -> Hears<'_> {
        self.kernel.obs()
    }

    /// Runs all actors, the migrator on the model's main thread, and looks at what is left; true where they met.
    pub(crate) fn run(self: Rc<Self>) -> bool {
        let news = (0..self.scenario.pages).map(|n| allocate(&self.kernel, self.scenario.pages + n));
        let mut run = Run::new(self.scenario.attempts() * self.scenario.pages, news.collect());
        let start = |(cpu, actor): (usize, &'static Actor)| {
            let world = Rc::clone(&self);
            loom::thread::spawn(move || world.act(cpu, *actor))
        };
        let others: Vec<_> = self.scenario.actors.iter().enumerate().map(start).collect();
        for n in 0..self.scenario.pages {
            run.lists.from.extend(self.isolate(Pfn::new(n as u64)));
        }
        let mut moved = self.migrate(&mut run, self.scenario.pages);
        let saw = others
            .into_iter()
            .map(|other| other.join().expect("its panic is the model's"));
        let saw: Vec<Saw> = saw.collect();
        self.put_back(run);
        self.kernel.drain();
        moved.extend(saw.iter().filter_map(|saw| match saw {
            Saw::Went(old, new) => Some((*old, *new)),
            _ => None,
        }));
        let told = self.kernel.told();
        self.check(&moved, &saw, &told);
        self.met(&told)
    }

    /// True where the migrator met another actor: one of them slept for the page, or found an entry in flight, or did not get the
    /// page; where the search is about the page lock, the migrator slept for it.
    fn met(&self, told: &[Told]) -> bool {
        let me = loom::thread::current().id();
        if self.scenario.is_about_the_lock() {
            return self.kernel.has_slept(Some(me));
        }
        let refused = |event: Event| matches!(event, Event::Refuse { .. } | Event::Freed(_));
        let in_flight = |event: Event| read(event).is_some_and(|(_, pfn)| pfn.is_some());
        self.lost.get()
            || self.kernel.has_slept(None)
            || told.iter().any(|(_, event)| refused(*event) || in_flight(*event))
    }

    /// Ends a run: every page to where it came from, and new pages that were not used to nobody.
    pub(crate) fn put_back(&self, run: Run) {
        let Run { mut lists, budget } = run;
        for list in [&mut lists.from, &mut lists.moved, &mut lists.failed] {
            if self.scenario.lru {
                putback_lru_pages(&self.kernel, list, self.obs());
            } else {
                list.drain(..).for_each(|page| self.kernel.put(page.into_page()));
            }
        }
        budget.pages.into_iter().for_each(|page| self.kernel.put(page));
    }

    /// The new page of the other migration.
    pub(crate) fn take_other(&self) -> Vec<PageRef> {
        vec![allocate(&self.kernel, self.kernel.pages.len() - 1)]
    }

    /// Takes a page off the LRU, where the search is about that; else it was never there. `None` where somebody else has it, or it
    /// is gone.
    pub(crate) fn isolate(&self, pfn: Pfn) -> Option<Isolated<PageRef>> {
        if !self.scenario.lru {
            return Some(Isolated::from_isolated(PageRef::counted(pfn)));
        }
        // What somebody put back is on its list again.
        migrate_prep(&self.kernel);
        let isolated = self.kernel.get(pfn).and_then(|page| {
            let isolated = isolate_lru_page(&self.kernel, &page, self.obs());
            self.kernel.put(page);
            isolated.ok()
        });
        let of_lists = |event: &Event| matches!(event, Event::Isolate(of) | Event::Putback(of) if *of == pfn);
        let told = self.kernel.told();
        let last = told.iter().rev().map(|(_, event)| *event).find(of_lists);
        let taken = isolated.is_none() && matches!(last, Some(Event::Isolate(_)));
        self.lost.set(self.lost.get() || taken);
        isolated
    }

    /// Runs a migration of so many pages at most; returns where pages went.
    pub(crate) fn migrate(&self, run: &mut Run, pages: usize) -> Vec<(Pfn, Pfn)> {
        let scenario = self.scenario;
        let Run { lists, budget } = run;
        let mut slots = [Slot::new(), Slot::new()];
        let mut went = Vec::new();
        let args = Args {
            from: &mut lists.from,
            target: budget,
            moved: Some(&mut lists.moved),
            failed: &mut lists.failed,
            slots: &mut slots[..pages],
            profile: scenario.profile,
            mode: scenario.mode,
            reason: Reason::Compaction,
            outcome: &mut |page: &PageRef, outcome| {
                if let Outcome::Moved { to } = outcome {
                    went.push((page.pfn(), to));
                }
            },
            observer: self.obs(),
        };
        let tally = if scenario.profile.blocks(scenario.mode) {
            migrate_pages(&self.kernel, args)
        } else {
            migrate_pages_nowait(&self.kernel, args)
        };
        let tally = tally.expect("the arguments are right");
        if scenario.only_waiters() {
            let all = (u32::try_from(scenario.pages).expect("a small machine"), 1);
            assert_eq!((tally.moved, tally.passes), all, "I24: waiters made it fail: {tally:?}");
        }
        went
    }
}

fn allocate(kernel: &Kernel, frame: usize) -> PageRef {
    PageRef::allocate(kernel.page_map(), Pfn::new(frame as u64)).expect("a free frame")
}

//! Who takes part, what each of them does, and what must be true of it.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use loom::cell::Cell;
use migrate_core::{
    Args, Frames, Isolated, PageRef, Profile, Slot, Target, UsesPageMap, Lru, migrate_pages,
    migrate_pages_nowait,
};
use mm_types::trace::Recorder;
use mm_types::{
    AnonVmaId, EntryStyle, Mapping, MappingId, Mode, Outcome, PageFlags, Pfn, Pte, PteFlags, Reason, Refusal, Site, SpaceId, Vpn,
};

use crate::cpu::{Cpu, Op, Reserve};
use crate::explore::{Memory, explore};
use crate::calls::mapped;
use crate::kernel::{Area, Kernel, PAGES, SPACES, Translation, WORDS, at, lock, site};

/// What the words hold at first.
const INITIAL: [u64; 4] = [10, 11, 12, 13];
/// What the actor that owns a word stores.
const STORED: [u64; 4] = [20, 21, 22, 23];
/// The word of the mutators, of the faulter, and of the one that interferes.
const FAULTER: usize = 2;
const OTHER: usize = 3;
/// Where a file's late faulter has its area; nothing is mapped there at first.
const COLD: Site = Site::new(SpaceId::new(1), Vpn::new(1));

/// Somebody who acts while the migrator does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Actor {
    /// Stores its word of the page through a translation that its CPU holds already, and reads it back. Two of them: 0 and 1.
    Mutator(usize),
    /// Touches the page with a cold TLB; a file's page through a cold entry.
    Faulter,
    /// Unmaps the space.
    Unmap,
    /// Forks the space, and is the child.
    Fork,
    /// Takes write permission away.
    Protect,
    /// Moves the mapping of the page.
    Remap,
    /// Pins the page and stores its word directly.
    Pin,
    /// Cuts the file off.
    Truncate,
    /// Looks the page up in the page cache.
    Lookup,
}

impl Actor {
    fn has_cpu(self) -> bool {
        !matches!(self, Self::Unmap | Self::Pin | Self::Truncate | Self::Lookup)
    }
}

/// One search.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) profile: &'static Profile,
    pub(crate) mode: Mode,
    pub(crate) pages: usize,
    pub(crate) file: bool,
    /// All but the migrator.
    pub(crate) actors: &'static [Actor],
    pub(crate) bound: Option<usize>,
    /// The orderings of atomics as they are written, or sequential consistency.
    pub(crate) memory: Memory,
}

impl Scenario {
    fn has(&self, actor: Actor) -> bool {
        self.actors.contains(&actor)
    }

    /// Nobody but waiters, who take no reference under today's rules, and mprotect, which takes none either.
    fn only_waiters(&self) -> bool {
        let harmless = |actor: &Actor| match actor {
            Actor::Mutator(_) | Actor::Protect => true,
            // It holds a reference while it maps a file's page.
            Actor::Faulter => !self.file,
            _ => false,
        };
        self.lossless() && self.actors.iter().all(harmless)
    }

    /// Attempts that a page gets: a second one where that is affordable.
    fn attempts(&self) -> usize {
        if self.actors.len() < 3 { 2 } else { 1 }
    }

    fn lossless(&self) -> bool {
        self.profile.entries == EntryStyle::Lossless
    }

    /// A store may come to a signal.
    fn may_fail(&self) -> bool {
        self.has(Actor::Protect) || self.may_vanish()
    }

    /// What a program's access may come to: a signal, where the mapping may go.
    fn may_vanish(&self) -> bool {
        [Actor::Unmap, Actor::Remap, Actor::Truncate].iter().any(|actor| self.has(*actor))
    }

    fn home(&self, word: usize) -> Site {
        match word {
            0 => site(0, 0),
            1 if self.file => site(1, 0),
            FAULTER if self.file => COLD,
            _ => site(0, self.pages as u64 - 1),
        }
    }

    fn areas(&self) -> Vec<Area> {
        let area = |site| Area {
            site,
            index: 0,
            pages: self.pages,
        };
        let mut areas = vec![area(site(0, 0))];
        if self.file {
            areas.push(area(site(1, 0)));
            if self.has(Actor::Faulter) {
                areas.push(area(COLD));
            }
        }
        areas
    }

    /// Explores.
    pub(crate) fn run(self) {
        explore(self.name, self.actors.len() + 1, self.bound, self.memory, move |trace| {
            Rc::new(World::new(self, trace)).run();
        });
    }
}

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
struct Lists {
    from: VecDeque<Isolated<PageRef>>,
    moved: VecDeque<Isolated<PageRef>>,
    failed: VecDeque<Isolated<PageRef>>,
}

/// What an actor saw, for the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Saw {
    /// Nothing that has to last.
    Nothing,
    /// Its word holds this from now on.
    Word(usize, u64),
}

struct World {
    scenario: Scenario,
    kernel: Kernel,
    reserve: Reserve,
}

impl World {
    /// Mapped pages with known contents, warm TLBs, and new frames.
    fn new(scenario: Scenario, trace: &Arc<Recorder>) -> Self {
        let pages = scenario.pages;
        let cpus = scenario.actors.iter().filter(|actor| actor.has_cpu()).count();
        let reserved = if scenario.has(Actor::Fork) { cpus } else { 0 };
        let frames = 2 * pages + reserved;
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
            // As its isolation would; the LRU's own steps are a search of their own.
            desc.get();
            if scenario.file {
                // The caller's reference is the slot's from now on.
                *lock(&kernel.slot) = Some(page.pfn());
            } else {
                kernel.put(page);
            }
        }
        for (cpu, actor) in scenario.actors.iter().enumerate() {
            if let Actor::Mutator(word) = actor {
                let site = scenario.home(*word);
                let pfn = mapped(&kernel, site).expect("mapped above");
                *lock(&kernel.tlbs[cpu]).slot(site) = Some(Translation { pfn, write: true });
            }
        }
        Self {
            scenario,
            kernel,
            reserve,
        }
    }

    fn obs(&self) -> &Recorder {
        &self.kernel.trace
    }

    /// Runs all actors, the migrator on the model's main thread, and looks at what is left.
    fn run(self: Rc<Self>) {
        let mut lists = Lists::default();
        for n in 0..self.scenario.pages {
            let page = PageRef::counted(Pfn::new(n as u64));
            lists.from.push_back(Isolated::from_isolated(page));
        }
        let news = (0..self.scenario.pages).map(|n| allocate(&self.kernel, self.scenario.pages + n));
        let mut budget = Budget {
            pages: news.collect(),
            attempts: self.scenario.attempts() * self.scenario.pages,
        };
        let start = |(cpu, actor): (usize, &'static Actor)| {
            let world = Rc::clone(&self);
            loom::thread::spawn(move || world.act(cpu, *actor))
        };
        let others: Vec<_> = self.scenario.actors.iter().enumerate().map(start).collect();
        let moved = self.migrate(&mut lists, &mut budget);
        let saw = others.into_iter().map(|other| other.join().expect("its panic is the model's"));
        let saw: Vec<Saw> = saw.collect();
        for list in [&mut lists.from, &mut lists.moved, &mut lists.failed] {
            list.drain(..).for_each(|page| self.kernel.put(page.into_page()));
        }
        self.kernel.drain();
        budget.pages.drain(..).for_each(|page| self.kernel.put(page));
        self.check(&moved, &saw);
    }

    /// Runs the migration; returns where pages went.
    fn migrate(&self, lists: &mut Lists, budget: &mut Budget) -> Vec<(Pfn, Pfn)> {
        let scenario = self.scenario;
        let mut slots = [Slot::new(), Slot::new()];
        let mut went = Vec::new();
        let args = Args {
            from: &mut lists.from,
            target: budget,
            moved: Some(&mut lists.moved),
            failed: &mut lists.failed,
            slots: &mut slots[..scenario.pages],
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

    fn act(&self, number: usize, actor: Actor) -> Saw {
        let (kernel, scenario) = (&self.kernel, self.scenario);
        let cpu = Cpu {
            kernel,
            number,
            reserve: &self.reserve,
        };
        let home = site(0, 0);
        let area = scenario.areas()[0];
        match actor {
            Actor::Mutator(word) => {
                let site = scenario.home(word);
                let Some(_) = cpu.access(site, word, Op::Store(STORED[word])) else {
                    assert!(scenario.may_fail(), "a signal");
                    return Saw::Nothing;
                };
                match cpu.access(site, word, Op::Load) {
                    Some(value) => assert_eq!(value, STORED[word], "I9: a stale read, or a write that was lost"),
                    None => assert!(scenario.may_vanish(), "a signal"),
                }
                Saw::Word(word, STORED[word])
            }
            Actor::Faulter => {
                match cpu.access(scenario.home(FAULTER), FAULTER, Op::Load) {
                    Some(value) => assert_eq!(value, INITIAL[FAULTER], "I10: contents that are not the page's"),
                    None => assert!(scenario.may_vanish(), "a signal"),
                }
                Saw::Nothing
            }
            Actor::Unmap => {
                kernel.munmap(area);
                self.nothing_is_mapped(&[area]);
                Saw::Nothing
            }
            Actor::Fork => {
                kernel.fork(area, SpaceId::new(1));
                let mine = site(1, 0);
                let first = cpu.access(mine, 0, Op::Load);
                assert!(first == Some(INITIAL[0]) || first == Some(STORED[0]), "I9: {first:?}");
                assert_eq!(cpu.access(mine, OTHER, Op::Store(STORED[OTHER])), Some(STORED[OTHER]));
                assert_eq!(cpu.access(mine, 0, Op::Load), first, "I15: the parent's write is seen by the child");
                Saw::Word(OTHER, STORED[OTHER])
            }
            Actor::Protect => {
                kernel.protect(area);
                let found = cpu.access(home, 0, Op::Load).expect("mapped");
                assert!(found == INITIAL[0] || found == STORED[0], "I9: {found}");
                Saw::Word(0, found)
            }
            Actor::Remap => {
                let to = site(0, 2);
                kernel.mremap(area, to);
                let found = cpu.access(to, 0, Op::Load).expect("mapped");
                assert!(found == INITIAL[0] || found == STORED[0], "I9: {found}");
                Saw::Word(0, found)
            }
            Actor::Pin => {
                let Some(page) = kernel.pin(home, cpu.id()) else { panic!("nothing is mapped") };
                kernel.word(page.pfn(), OTHER).set(STORED[OTHER]);
                kernel.unpin(page);
                Saw::Word(OTHER, STORED[OTHER])
            }
            Actor::Truncate => {
                let areas = scenario.areas();
                kernel.truncate(&areas);
                self.nothing_is_mapped(&areas);
                Saw::Nothing
            }
            Actor::Lookup => {
                let page = kernel.find_get_page().expect("the file is not cut off");
                let page = kernel.wait_uptodate(page);
                assert_eq!(kernel.word(page.pfn(), OTHER).get(), INITIAL[OTHER], "I10");
                assert_eq!(kernel.cached(), Some(page.pfn()), "I19: a page that somebody holds has moved");
                kernel.put(page);
                Saw::Nothing
            }
        }
    }

    /// What unmapped or cut off is not mapped, and is not about to be, when the call has returned (B39).
    fn nothing_is_mapped(&self, areas: &[Area]) {
        for area in areas {
            let (space, first) = at(area.site);
            let entries = self.kernel.table(area.site.space).entries;
            for page in first..first + area.pages {
                assert_eq!(entries[page], Pte::None, "m{space}+{page} after the call returned");
            }
            self.kernel.assert_flushed(*area, |_| true);
        }
    }

    /// What must hold when everybody is done.
    fn check(&self, moved: &[(Pfn, Pfn)], saw: &[Saw]) {
        let (kernel, scenario) = (&self.kernel, self.scenario);
        let tables: Vec<[Pte; PAGES]> = (0..SPACES as u32).map(|n| kernel.table(SpaceId::new(n)).entries).collect();
        let entries = || tables.iter().flatten();
        assert!(!entries().any(|pte| pte.is_migration()), "I6: {tables:?}");
        for (number, page) in kernel.pages.iter().enumerate() {
            let pfn = Pfn::new(number as u64);
            let mapped = u32::try_from(entries().filter(|pte| pte.maps(pfn)).count()).expect("a small machine");
            let reserved = self.reserve.0.iter().any(|frame| frame.get() == Some(pfn));
            let held = u32::from(scenario.file && kernel.cached() == Some(pfn)) + u32::from(reserved);
            assert_eq!(page.mapcount(), mapped, "I4: map count of {pfn:?}");
            assert_eq!(page.count(), mapped + held, "I5: references of {pfn:?}");
            assert_eq!((page.pins(), page.entries_out(0)), (0, 0), "{pfn:?}");
            let busy = PageFlags::LOCKED | PageFlags::WAITERS;
            assert!(!page.flags().load().intersects(busy), "I23: {:?}", page.flags());
        }
        for (old, new) in moved {
            assert!(!entries().any(|pte| pte.maps(*old)), "I7: {old:?} moved to {new:?} and is mapped");
        }
        for (cpu, tlb) in kernel.tlbs.iter().enumerate() {
            for (space, held) in lock(tlb).0.iter().enumerate() {
                for (page, held) in held.iter().enumerate() {
                    let Some(held) = held else { continue };
                    let pte = tables[space][page];
                    let true_now = pte.maps(held.pfn) && (pte.writable() || !held.write);
                    assert!(true_now, "I33: CPU {cpu} holds {held:?} of m{space}+{page}, which is {pte:?}");
                }
            }
        }
        self.check_contents(&tables, saw);
    }

    fn check_contents(&self, tables: &[[Pte; PAGES]], saw: &[Saw]) {
        let kernel = &self.kernel;
        let forked = self.scenario.has(Actor::Fork);
        for (space, table) in tables.iter().enumerate() {
            for (page, pte) in table.iter().enumerate() {
                let Some(pfn) = pte.pfn() else { continue };
                for (word, initial) in INITIAL.iter().enumerate() {
                    let value = kernel.word(pfn, word).get();
                    let mut expected = *initial;
                    let mut stored = false;
                    for saw in saw {
                        if let Saw::Word(at, last) = saw {
                            if *at == word && self.owns(word, space, page) {
                                (expected, stored) = (*last, true);
                            }
                        }
                    }
                    let copied_before = forked && space == 1 && word < FAULTER && value == STORED[word];
                    assert!(value == expected || copied_before, "I9: word {word} of m{space}+{page} is {value}, not {expected}");
                    if stored && expected != *initial {
                        let dirty = tables.iter().flatten().any(|other| other.maps(pfn) && other.dirty());
                        let dirty = dirty || kernel.page_of(pfn).flags().load().contains(PageFlags::DIRTY);
                        assert!(dirty, "I11: {pfn:?} was written");
                    }
                }
            }
        }
    }

    /// Whether what is stored in `word` by the actor whose it is must be seen at this page.
    fn owns(&self, word: usize, space: usize, page: usize) -> bool {
        let forked = self.scenario.has(Actor::Fork);
        let of_home = |word| at(self.scenario.home(word)).1 == page || self.scenario.pages == 1;
        match word {
            OTHER if forked => space == 1 && page == 0,
            OTHER => page == 0 || self.scenario.pages == 1,
            _ if forked => space == 0 && of_home(word),
            _ => of_home(word),
        }
    }
}

fn allocate(kernel: &Kernel, frame: usize) -> PageRef {
    PageRef::allocate(kernel.page_map(), Pfn::new(frame as u64)).expect("a free frame")
}

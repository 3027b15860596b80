//! The kernel of a scenario, who acts in it, and what they know of what they wrote.

use core::sync::atomic::{AtomicUsize, Ordering};
use std::collections::VecDeque;
use std::sync::Arc;

use migrate_core::invariants::check_outcomes;
use migrate_core::model::{Access, Config, Model, Op};
use migrate_core::{
    Args, Frames, Hooked, HookedTarget, Isolated, Lru, PageRef, Slot, Tally, Wait, migrate_pages, putback_lru_pages,
};
use mm_types::trace::{Event, Observer};
use mm_types::{ActorId, MappingId, NodeId, Outcome, PageFlags, Pfn, Reason, Refusal, Site, SpaceId, Vpn};
use shuttle::thread::JoinHandle;

use crate::explore::{Rules, begin, end, has_moved, is_isolated, mark, record};
use crate::meeting::Meeting;
use crate::schedule::{alone, one_in};
use crate::steps::Steps;

/// Frames of each of the two nodes: few, because all are recounted at the end of every execution.
const FRAMES: u64 = 6;

/// CPUs; each thread that touches memory has one.
const CPUS: usize = 6;

/// In one execution of so many the state is looked at wherever something is told.
pub(crate) const CLOSELY: u64 = 32;

/// A kernel, and whose rules it follows.
pub(crate) struct World {
    pub(crate) model: Model,
    pub(crate) rules: Rules,
    /// Loads and stores that went through. Core's own: counting is no step of the schedule.
    pub(crate) accesses: AtomicUsize,
}

/// What hears the events of a world.
#[derive(Clone, Copy)]
pub(crate) struct Watch<'w>(&'w World);

impl Observer for Watch<'_> {
    const ENABLED: bool = true;

    fn event(self, event: Event) {
        record(event);
        // At these nobody who tells of it holds a lock of the model; at others it may be.
        if matches!(event, Event::Flush { .. } | Event::Switch { .. } | Event::Moved { .. }) || one_in(CLOSELY) {
            self.0.look();
        }
    }
}

impl World {
    pub(crate) fn new(rules: Rules) -> Arc<Self> {
        Self::with_frames(rules, FRAMES)
    }

    /// A world with so many frames on each of its two nodes.
    pub(crate) fn with_frames(rules: Rules, frames: u64) -> Arc<Self> {
        begin();
        let config = Config {
            frames,
            spaces: 3,
            cpus: CPUS,
            profile: rules.profile,
            ..Config::default()
        };
        Arc::new(Self {
            model: Model::new(config),
            rules,
            accesses: AtomicUsize::new(0),
        })
    }

    pub(crate) const fn watch(&self) -> Watch<'_> {
        Watch(self)
    }

    /// Checks what always holds, if nobody is in the middle of something.
    fn look(&self) {
        let found = alone(|| {
            if self.model.is_at_rest() {
                self.model.check_always()
            } else {
                Ok(())
            }
        });
        assert!(found.is_ok(), "{}", found.expect_err("not ok"));
    }

    /// A thread of the world.
    pub(crate) fn spawn(self: &Arc<Self>, act: impl FnOnce(&Self) + Send + 'static) -> JoinHandle<()> {
        let world = Arc::clone(self);
        shuttle::thread::spawn(move || act(&world))
    }

    /// A space with `pages` pages of anonymous memory from page 0 on, the words of which are `first` and those after it.
    pub(crate) fn anon(&self, pages: u64, first: u64) -> SpaceId {
        let space = self.model.new_space();
        self.model.map_anon(site(space, 0), pages);
        for n in 0..pages {
            self.write(0, site(space, n), first + n);
        }
        space
    }

    /// A store that must go through.
    pub(crate) fn write(&self, cpu: u32, at: Site, word: u64) {
        let done = self.access(cpu, at, Op::Write(word));
        assert_eq!(done, Access::Done(word), "I8: a store at {at:?}");
    }

    /// A load that must go through.
    pub(crate) fn read(&self, cpu: u32, at: Site) -> u64 {
        match self.access(cpu, at, Op::Read) {
            Access::Done(word) => word,
            other => panic!("I8: a load at {at:?} ends with {other:?}"),
        }
    }

    pub(crate) fn access(&self, cpu: u32, at: Site, op: Op) -> Access {
        let done = self.model.access_wait(ActorId::new(cpu), at, op, self.watch());
        self.accesses.fetch_add(1, Ordering::Relaxed);
        done
    }

    /// Stores `rounds` words, each one more than the last, and loads each again: nobody else stores here.
    pub(crate) fn count_up(&self, cpu: u32, at: Site, first: u64, rounds: u64) {
        for word in first..first + rounds {
            self.write(cpu, at, word);
            assert_eq!(
                self.read(cpu, at),
                word,
                "I9: a load at {at:?} after the store of {word}"
            );
        }
    }

    /// The frames that are mapped at these sites at this moment.
    pub(crate) fn frames(&self, sites: &[Site]) -> Vec<Pfn> {
        let at = |site: &Site| Some(self.model.pte(*site)).filter(|pte| pte.is_present())?.pfn();
        sites.iter().filter_map(at).collect()
    }

    /// Migrates what is mapped at these sites.
    pub(crate) fn migrate(&self, sites: &[Site], node: u16) -> (Tally, Vec<(Pfn, Outcome)>) {
        self.migrate_frames(&self.frames(sites), node)
    }

    pub(crate) fn migrate_frames(&self, frames: &[Pfn], node: u16) -> (Tally, Vec<(Pfn, Outcome)>) {
        let Rules { profile, mode, .. } = self.rules;
        let mut outcomes = Vec::new();
        let (mut from, mut moved, mut failed) = (VecDeque::new(), VecDeque::new(), VecDeque::new());
        for pfn in frames {
            match self.isolate(*pfn) {
                Ok(page) => from.push_back(page),
                Err(refusal) => outcomes.push((*pfn, Outcome::Refused(refusal))),
            }
        }
        let given: Vec<Pfn> = from.iter().map(|page| page.page().pfn()).collect();
        let steps = Steps::new(self);
        let kernel = Hooked::new(&self.model, &steps);
        let mut slots: Vec<_> = frames.iter().map(|_| Slot::new()).collect();
        slots.extend(frames.is_empty().then(Slot::new));
        let mut said = Vec::new();
        let args = Args {
            from: &mut from,
            target: HookedTarget(self.model.target(NodeId::new(node))),
            moved: Some(&mut moved),
            failed: &mut failed,
            slots: &mut slots,
            profile,
            mode,
            reason: Reason::SyscallOrCpuset,
            outcome: &mut |page: &PageRef, outcome| said.push((page.pfn(), outcome)),
            observer: self.watch(),
        };
        let tally = migrate_pages(&kernel, args).expect("slots were lent");
        for list in [&mut moved, &mut failed, &mut from] {
            putback_lru_pages(&self.model, list, self.watch());
        }
        self.model.drain();
        let whole = check_outcomes(&given, &said, &tally);
        assert!(whole.is_ok(), "{}", whole.expect_err("not ok"));
        outcomes.extend(said);
        (tally, outcomes)
    }

    /// Takes a page off the LRU, as whoever wants to move it does.
    pub(crate) fn isolate(&self, pfn: Pfn) -> Result<Isolated<PageRef>, Refusal> {
        let isolated = self.model.isolate(pfn, self.watch());
        if isolated.is_err() {
            if is_isolated(pfn) {
                mark(Meeting::Isolated);
            } else if !has_moved(pfn) {
                mark(Meeting::Freed);
            }
        }
        isolated
    }

    /// Reads a page of a file that nobody truncates as `read()` does: found in the cache, waited for until it is up to date, then
    /// read without its lock.
    pub(crate) fn read_file(&self, file: MappingId, index: usize) -> Option<u64> {
        loop {
            let Some(page) = self.model.read_page(file, index) else {
                // Frozen by a migration, or not there.
                self.model.cached(file, index)?;
                mark(Meeting::Frozen);
                mm_types::sync::spin_loop();
                continue;
            };
            if self.model.flags(&page).contains(PageFlags::UPTODATE) {
                let pfn = self.model.pfn(&page);
                let word = self.model.word(pfn);
                // Only a truncation takes a page away from under a reference, and nobody cuts this one off.
                let here = self.model.cached(file, index);
                assert_eq!(
                    here,
                    Some(pfn),
                    "I19: the page moved while a reference from its slot was held"
                );
                self.model.put(page);
                return Some(word);
            }
            let page = self.model.lock(page);
            let page = self.model.unlock(page);
            self.model.put(page);
        }
    }

    /// Writes a page of a file as `write()` does: locked, and looked up again under the lock.
    pub(crate) fn write_file(&self, file: MappingId, index: usize, word: u64) -> bool {
        loop {
            let Some(page) = self.model.read_page(file, index) else {
                if self.model.cached(file, index).is_none() {
                    return false;
                }
                mark(Meeting::Frozen);
                mm_types::sync::spin_loop();
                continue;
            };
            let pfn = self.model.pfn(&page);
            let page = self.model.lock(page);
            let here = self.model.cached(file, index) == Some(pfn);
            if here {
                self.model.set_word(pfn, word);
                self.model.dirty_page(pfn);
            }
            let page = self.model.unlock(page);
            self.model.put(page);
            if here {
                return true;
            }
        }
    }

    /// Everything is over: all invariants hold, and every trace is a right one.
    pub(crate) fn finish(&self) {
        migrate_core::migrate_prep(&self.model);
        let found = self.model.check(&[]);
        assert!(found.is_ok(), "{}", found.expect_err("not ok"));
        end().unwrap_or_else(|broken| panic!("{broken}"));
    }
}

pub(crate) const fn site(space: SpaceId, page: u64) -> Site {
    Site::new(space, Vpn::new(page))
}

/// Waits for threads; one that panicked has ended the execution already.
pub(crate) fn join(threads: impl IntoIterator<Item = JoinHandle<()>>) {
    for thread in threads {
        thread.join().expect("the thread returned");
    }
}

//! What each actor does, and what it must see.

use migrate_core::{Frames, putback_lru_pages};
use mm_types::{Pfn, Pte, SpaceId};

use crate::cpu::{Cpu, Op};
use crate::kernel::{Area, at, site};
use crate::scenario::{Actor, FAULTER, INITIAL, OTHER, STORED};
use crate::world::{Run, Saw, World};

impl World {
    pub(crate) fn act(&self, number: usize, actor: Actor) -> Saw {
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
            Actor::Writer(word) => match cpu.access(scenario.home(word), word, Op::Store(STORED[word])) {
                Some(_) => Saw::Word(word, STORED[word]),
                None => {
                    assert!(scenario.may_fail(), "a signal");
                    Saw::Nothing
                }
            },
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
                assert_eq!(
                    cpu.access(mine, 0, Op::Load),
                    first,
                    "I15: the parent's write is seen by the child"
                );
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
                let Some(page) = kernel.pin(home, cpu.id()) else {
                    panic!("nothing is mapped")
                };
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
            Actor::Isolate => {
                let mut list: std::collections::VecDeque<_> = self.isolate(Pfn::new(0)).into_iter().collect();
                putback_lru_pages(kernel, &mut list, self.obs());
                Saw::Nothing
            }
            Actor::Migrate => {
                let mut run = Run::new(1, self.take_other());
                run.lists.from.extend(self.isolate(Pfn::new(0)));
                let went = self.migrate(&mut run, 1);
                self.put_back(run);
                went.first().map_or(Saw::Nothing, |(old, new)| Saw::Went(*old, *new))
            }
            Actor::Lookup => {
                let page = kernel.find_get_page().expect("the file is not cut off");
                let page = kernel.wait_uptodate(page);
                assert_eq!(kernel.word(page.pfn(), OTHER).get(), INITIAL[OTHER], "I10");
                assert_eq!(
                    kernel.cached(0),
                    Some(page.pfn()),
                    "I19: a page that somebody holds has moved"
                );
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
            for (page, pte) in entries.iter().enumerate().skip(first).take(area.pages) {
                assert_eq!(*pte, Pte::None, "m{space}+{page} after the call returned");
            }
            self.kernel.assert_flushed(*area, |_| true);
        }
    }
}

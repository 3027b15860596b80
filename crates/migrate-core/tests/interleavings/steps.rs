//! The steps of a run, looked at before each: who may sleep, with which locks held, and what is untouched until when.
//!
//! [`Watch`](migrate_core::invariants::Watch) tells what a run has locked from the page's flag, which says nothing where other
//! threads lock pages too. Here it is what the run's thread told.

use core::cell::Cell;
use core::sync::atomic::Ordering;

use migrate_core::{Edge, Hook, Verdict};
use mm_types::trace::Event;
use mm_types::{Mapping, PageFlags, Pfn};

use crate::explore::{mark, told_here};
use crate::meeting::Meeting;
use crate::schedule::alone;
use crate::world::World;

/// Looks at the steps of one thread's run (I22, I31, I32, I34).
pub(crate) struct Steps<'w> {
    world: &'w World,
    /// How many accesses there had been when the page was lent to its file system.
    lent: Cell<Option<usize>>,
}

impl<'w> Steps<'w> {
    pub(crate) const fn new(world: &'w World) -> Self {
        let lent = Cell::new(None);
        Self { world, lent }
    }

    fn look(&self, edge: Edge) {
        let World { model, rules, accesses } = self.world;
        let accesses = accesses.load(Ordering::Relaxed);
        if self.lent.take().is_some_and(|before| before < accesses) {
            mark(Meeting::Written);
        }
        let blocks = rules.profile.blocks(rules.mode);
        match edge {
            Edge::Lock(_) => {
                assert!(blocks, "I31: {edge:?} in {} mode", rules.mode);
                let held = locked();
                assert!(held.is_empty(), "I32: {edge:?} while {held:?} are locked");
            }
            Edge::WaitWriteback(_) | Edge::WaitBuffers(_) => assert!(blocks, "I31: {edge:?} in {} mode", rules.mode),
            Edge::Writeout(pfn) => {
                let out = model.page(pfn).entries_out(0);
                assert_eq!(out, 0, "I34: {edge:?} with entries in flight");
                self.lent.set(Some(accesses));
            }
            Edge::Copy { new, .. } if !rules.profile.settings_early => {
                let page = model.page(new);
                let bare = page.mapping() == Mapping::None && page.mapcount() == 0;
                let flags = page.flags().load();
                assert!(
                    bare && (PageFlags::LOCKED | PageFlags::WAITERS).contains(flags),
                    "I22: {edge:?}, and the new page is {page:?}"
                );
            }
            _ => {}
        }
    }
}

impl Hook for Steps<'_> {
    fn before(&self, edge: Edge) -> Verdict {
        alone(|| self.look(edge));
        Verdict::Go
    }
}

/// The pages that the run of this thread has locked, as it told.
fn locked() -> Vec<Pfn> {
    told_here(|told| {
        let mut locked: Vec<Pfn> = Vec::new();
        for event in told {
            match event {
                Event::Lock(pfn) | Event::NewPage { new: pfn, .. } => locked.push(pfn),
                Event::Unlock(pfn) | Event::Writeout { pfn, .. } => locked.retain(|other| *other != pfn),
                _ => {}
            }
        }
        locked
    })
}

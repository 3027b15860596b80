//! The calls: each made of the model and of the reference, whose answers must be the same.

mod accesses;
mod holds;
mod housekeeping;
mod mappings;

use migrate_core::{Frames, LockedPage, PageRef};
use mm_types::trace::Observer;
use mm_types::{Site, SpaceId};

use crate::step::Step;
use crate::world::{World, pick};

/// A call's answer; `None` where its picks found nothing and it was not made.
type Answer = Option<Result<(), String>>;

const DONE: Answer = Some(Ok(()));

impl World {
    /// Makes one call, of the model and of the reference. Picks that find nothing do nothing.
    ///
    /// # Errors
    /// What the two do not agree on.
    pub(crate) fn act<O: Observer>(&self, step: &Step, observer: O) -> Result<(), String> {
        self.touched.borrow_mut().clear();
        let answer = match *step {
            Step::Migrate(ref migrate) if !self.in_run.get() => Some(self.migrate(migrate)),
            Step::Migrate(_) => None,
            Step::Refuse => {
                self.refuses.set(true);
                None
            }
            Step::MapAnon { .. } | Step::MapFile { .. } => self.map(step),
            Step::Read { .. } | Step::Write { .. } | Step::SwapIn { .. } | Step::Again { .. } | Step::Wait { .. } => {
                self.use_memory(step, observer)
            }
            Step::Fork { .. }
            | Step::Exit { .. }
            | Step::Protect { .. }
            | Step::Unmap { .. }
            | Step::Move { .. }
            | Step::Mlock { .. }
            | Step::Remap { .. }
            | Step::SoftDirty { .. }
            | Step::Truncate { .. }
            | Step::CutOff { .. } => {
                let answer = self.change_mappings(step, observer);
                self.changed.borrow_mut().clone_from(&self.touched.borrow());
                answer
            }
            Step::SwapOut { .. }
            | Step::SwapCache { .. }
            | Step::SwapOn { .. }
            | Step::Dirty { .. }
            | Step::DirtyBuffer { .. }
            | Step::WriteBack { .. }
            | Step::BeginWriteback { .. }
            | Step::EndWriteback { .. }
            | Step::Corrupt { .. } => self.keep_house(step, observer),
            Step::Get { .. }
            | Step::Pin { .. }
            | Step::Lock { .. }
            | Step::Reading { .. }
            | Step::Busy { .. }
            | Step::Isolate { .. } => self.hold(step, observer),
            Step::Put { nth }
            | Step::Unpin { nth }
            | Step::Unlock { nth }
            | Step::Idle { nth }
            | Step::Putback { nth } => {
                self.let_go(step, nth, observer);
                None
            }
        };
        answer.unwrap_or(Ok(()))?;
        self.finish_waits()
    }

    /// Remembers what a call is about: it is looked at afterwards.
    fn touch(&self, sites: impl IntoIterator<Item = Site>) {
        self.touched.borrow_mut().extend(sites);
    }

    fn space(&self, at: u32) -> Option<SpaceId> {
        pick(&self.reference.borrow().spaces, at)
    }

    fn try_lock(&self, page: PageRef) -> Result<LockedPage, ()> {
        self.model.try_lock(page).map_err(|page| self.model.put(page))
    }
}

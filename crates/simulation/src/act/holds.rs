//! Somebody takes something (a reference, a pin, a page lock, buffers, a page off the LRU), and lets go of it.

use std::collections::VecDeque;

use migrate_core::{Frames, putback_lru_pages};
use mm_types::trace::Observer;
use mm_types::{PageFlags, Pfn};

use super::{Answer, DONE};
use crate::held::open;
use crate::step::Step;
use crate::world::World;

impl World {
    /// Somebody takes something, and has it until he lets go.
    pub(super) fn hold<O: Observer>(&self, step: &Step, observer: O) -> Answer {
        let (model, most) = (&self.model, self.size.held);
        match *step {
            Step::Get { at } => {
                let room = self.held().refs.len() < most;
                let page = model.get(self.frame(at).filter(|_| room)?)?;
                self.note("get", || self.name(page.pfn()));
                self.held().refs.push(page);
            }
            Step::Pin { at } => {
                let room = self.held().pins.len() < most;
                let pfn = self.frame(at).filter(|pfn| room && model.pin(*pfn))?;
                self.note("pin", || self.name(pfn));
                self.held().pins.push(pfn);
            }
            Step::Lock { at } => {
                let room = self.held().locks.len() < most;
                let page = model.get(self.frame(at).filter(|_| room)?)?;
                if let Ok(locked) = self.try_lock(page) {
                    self.note("lock", || self.name(locked.pfn()));
                    self.held().locks.push(locked);
                }
            }
            Step::Reading { at } => {
                // What is mapped has been read, and so has what a run has looked at.
                let room = self.held().locks.len() < most && !self.in_run.get();
                let unread = |pfn: &Pfn| room && model.page(*pfn).mapcount() == 0;
                let page = model.get(self.frame(at).filter(unread)?)?;
                if let Ok(locked) = self.try_lock(page) {
                    self.note("begin_reading", || self.name(locked.pfn()));
                    model.edit_flags(&locked, PageFlags::empty(), PageFlags::UPTODATE);
                    self.held().locks.push(locked);
                }
            }
            Step::Busy { at } => {
                let pfn = self.frame_with_buffers(at)?;
                if self.is_locked_by_a_run(pfn) || self.held().busy.contains(&pfn) {
                    return None;
                }
                self.note("buffers_busy", || self.name(pfn));
                model.set_buffers_busy(pfn, true);
                self.held().busy.push(pfn);
            }
            Step::Isolate { at } => {
                let room = self.held().isolated.len() < most;
                // The run has isolated its pages: whoever comes to one takes the next that is on a list.
                let near = || self.frames(at, usize::from(self.size.run)).into_iter();
                let mut pages = self.frame(at).into_iter().chain(near()).filter(|_| room);
                let page = pages.find_map(|pfn| model.isolate(pfn, observer).ok())?;
                self.note("isolate", || self.name(page.page().pfn()));
                self.held().isolated.push_back(page);
            }
            _ => return None,
        }
        DONE
    }

    pub(super) fn let_go<O: Observer>(&self, step: &Step, nth: u32, observer: O) {
        fn take<T>(from: &mut Vec<T>, nth: u32) -> Option<T> {
            let n = (nth as usize).checked_rem(from.len())?;
            Some(from.remove(n))
        }
        let model = &self.model;
        match step {
            Step::Put { .. } => {
                let page = take(&mut self.held().refs, nth);
                if let Some(page) = page {
                    self.note("put", || self.name(page.pfn()));
                    model.put(page);
                }
            }
            Step::Unpin { .. } => {
                let pfn = take(&mut self.held().pins, nth);
                if let Some(pfn) = pfn {
                    self.note("unpin", || self.name(pfn));
                    model.unpin(pfn);
                }
            }
            Step::Unlock { .. } => {
                let locked = take(&mut self.held().locks, nth);
                if let Some(locked) = locked {
                    self.note("unlock", || self.name(locked.pfn()));
                    open(model, locked);
                }
            }
            Step::Idle { .. } => {
                let pfn = take(&mut self.held().busy, nth);
                if let Some(pfn) = pfn {
                    self.note("buffers_free", || self.name(pfn));
                    model.set_buffers_busy(pfn, false);
                }
            }
            _ => {
                let mut list = {
                    let mut held = self.held();
                    let n = (nth as usize).checked_rem(held.isolated.len());
                    VecDeque::from_iter(n.and_then(|n| held.isolated.remove(n)))
                };
                if let Some(page) = list.front() {
                    self.note("putback", || self.name(page.page().pfn()));
                    putback_lru_pages(model, &mut list, observer);
                }
            }
        }
    }
}

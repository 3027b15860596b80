//! What somebody has meanwhile: references, pins, locks, isolated pages; and how a thread that waits for it is woken.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use migrate_core::model::Model;
use migrate_core::{Frames, Isolated, LockedPage, PageRef};
use mm_types::{MappingId, PageFlags, Pfn};

use crate::step::Step;

/// What somebody has, and gives up when a thread would sleep for ever otherwise.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) refs: Vec<PageRef>,
    pub(crate) pins: Vec<Pfn>,
    pub(crate) locks: Vec<LockedPage>,
    pub(crate) busy: Vec<Pfn>,
    pub(crate) isolated: VecDeque<Isolated<PageRef>>,
    pub(crate) files: Vec<MappingId>,
    /// The pages whose holders went on because a thread would have slept, one for each time that one would have.
    pub(crate) went_on: Vec<Pfn>,
}

impl Held {
    /// The frames of isolated pages, and of whatever else is held.
    pub(crate) fn frames(&self) -> (Vec<Pfn>, Vec<Pfn>) {
        let refs = self.refs.iter().map(PageRef::pfn);
        let locks = self.locks.iter().map(LockedPage::pfn);
        let isolated = self.isolated.iter().map(|page| page.page().pfn());
        (isolated.collect(), refs.chain(locks).collect())
    }

    /// True where there is something that `step` lets go of.
    pub(crate) fn has(&self, step: &Step) -> bool {
        match step {
            Step::Put { .. } => !self.refs.is_empty(),
            Step::Unpin { .. } => !self.pins.is_empty(),
            Step::Unlock { .. } => !self.locks.is_empty(),
            Step::Idle { .. } => !self.busy.is_empty(),
            Step::Putback { .. } => !self.isolated.is_empty(),
            _ => false,
        }
    }

    /// The pages of files that are being written back.
    pub(crate) fn written(&self, model: &Model) -> Vec<Pfn> {
        self.files
            .iter()
            .flat_map(|file| model.cached_pages(*file))
            .map(|(_, pfn)| pfn)
            .filter(|pfn| model.page(*pfn).flags().load().contains(PageFlags::WRITEBACK))
            .collect()
    }
}

pub(crate) type Shared = Arc<Mutex<Held>>;

pub(crate) fn lock(held: &Shared) -> MutexGuard<'_, Held> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens a page lock that somebody had; whoever was reading the page in has read it.
pub(crate) fn open(model: &Model, locked: LockedPage) {
    model.edit_flags(&locked, PageFlags::UPTODATE, PageFlags::empty());
    let page = model.unlock(locked);
    model.put(page);
}

/// A thread that would sleep makes the holders go on, one thing at a time.
pub(crate) fn wake_by_holders(model: &Model, held: &Shared) {
    let held = Arc::clone(held);
    model.on_sleep(move |model| {
        let (locked, busy) = {
            let mut held = lock(&held);
            let locked = held.locks.pop();
            let busy = if locked.is_none() { held.busy.pop() } else { None };
            let pfn = locked.as_ref().map(LockedPage::pfn).or(busy);
            held.went_on.extend(pfn);
            (locked, busy)
        };
        if let Some(locked) = locked {
            open(model, locked);
        } else if let Some(pfn) = busy {
            model.set_buffers_busy(pfn, false);
        } else {
            let written = lock(&held).written(model);
            let pfn = written.first().expect("a thread sleeps and nobody holds anything");
            lock(&held).went_on.push(*pfn);
            model.end_writeback(*pfn);
        }
        wake_by_holders(model, &held);
    });
}

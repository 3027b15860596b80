//! Checks of the steps of a run, before each of them: who may sleep, with which locks held, and what is untouched until when.

use alloc::collections::BTreeSet;
use alloc::format;
use core::cell::RefCell;

use mm_types::Invariant as I;
use mm_types::{Mapping, Mode, PageFlags, Pfn, Rules};

use super::inspect::Inspect;
use super::{Violation, hold};
use crate::{Edge, Hook, MoveOrder, Profile, Verdict};

/// A hook around another: it looks at each step that the run is about to make (I19, I22, I31, I32, I34, I36).
///
/// The inner hook acts first, so that what it does is seen. Remembers the first step that should not be.
#[derive(Debug)]
pub struct Watch<'w, B, H> {
    backend: &'w B,
    hook: H,
    profile: &'w Profile,
    mode: Mode,
    state: RefCell<State>,
}

/// What is known of the run's page locks.
#[derive(Debug, Default)]
struct State {
    locked: BTreeSet<Pfn>,
    /// Tried for, or lent to a file system: open or not.
    unsure: Option<Pfn>,
    /// Pages whose contents could not be read the last time they were tried.
    unreadable: BTreeSet<Pfn>,
    /// The pair whose slots were to be switched last.
    switched: Option<(Pfn, Pfn)>,
    wrong: Option<Violation>,
}

impl<'w, B: Inspect, H: Hook> Watch<'w, B, H> {
    /// Looks at the steps of a run that follows `profile` in `mode`, before and after `hook` acts.
    pub const fn new(backend: &'w B, profile: &'w Profile, mode: Mode, hook: H) -> Self {
        let state = State {
            locked: BTreeSet::new(),
            unsure: None,
            unreadable: BTreeSet::new(),
            switched: None,
            wrong: None,
        };
        Self {
            backend,
            hook,
            profile,
            mode,
            state: RefCell::new(state),
        }
    }

    /// Returns the first step so far that should not have been.
    #[must_use]
    pub fn wrong(&self) -> Option<Violation> {
        self.state.borrow().wrong.clone()
    }

    /// Ends the watch.
    ///
    /// # Errors
    /// The first step that should not have been.
    pub fn finish(self) -> Result<(), Violation> {
        self.state.into_inner().wrong.map_or(Ok(()), Err)
    }

    fn check(&self, state: &State, edge: Edge) -> Result<(), Violation> {
        // The run's new page is locked with the old one, and nobody could wait for it.
        let own = |pfn: Pfn, locked: Pfn| locked == pfn || state.switched == Some((pfn, locked)) || self.is_new(locked);
        let alone = |pfn: Pfn| state.locked.iter().all(|locked| own(pfn, *locked));
        let sleeps = |pfn: Pfn, alone: bool| {
            hold(I::AsyncNeverWaits, self.profile.blocks(self.mode), || {
                format!("{edge:?} in {} mode", self.mode)
            })?;
            hold(I::NoWaitWithLocks, alone, || {
                format!("{edge:?} while {:?} are locked, {pfn:?} besides", state.locked)
            })
        };
        match edge {
            Edge::Lock(pfn) => {
                // Today's light mode waits for whoever has a page for a moment, and not for a disk.
                let light = self.profile.rules == Rules::Modern && self.mode == Mode::SyncLight;
                let page = self.backend.frame(pfn).unwrap_or_default();
                hold(
                    I::AsyncNeverWaits,
                    !light || page.flags.contains(PageFlags::UPTODATE),
                    || format!("{edge:?} in {} mode, and the page is being read in", self.mode),
                )?;
                sleeps(pfn, state.locked.is_empty())
            }
            Edge::WaitWriteback(pfn) | Edge::WaitBuffers(pfn) => sleeps(pfn, alone(pfn)),
            Edge::Writeout(pfn) => {
                let out = self.backend.frame(pfn).and_then(|page| page.entries_out).unwrap_or(0);
                hold(I::NoEntriesAtCallback, out == 0, || {
                    format!("{edge:?} with {out} entries in flight")
                })
            }
            // Today nothing of the new page is set until the count is frozen; frozen it is at the switch.
            Edge::Copy { new, .. } if !self.profile.settings_early => {
                hold(I::DestinationUntouched, self.is_new(new), || {
                    format!("{edge:?}, and the new page is {:?}", self.backend.frame(new))
                })
            }
            Edge::Switch { old, .. } => {
                hold(I::CopyErrorReported, !state.unreadable.contains(&old), || {
                    format!("{edge:?}, and its contents could not be read")
                })?;
                let count = self.backend.frame(old).map_or(0, |page| page.count);
                hold(I::SwitchFrozen, count == 0, || {
                    format!("{edge:?} of a page that others can get: its count is {count}")
                })
            }
            _ => Ok(()),
        }
    }

    /// True for a page that nothing was done to but locking it.
    fn is_new(&self, pfn: Pfn) -> bool {
        let page = self.backend.frame(pfn).unwrap_or_default();
        let untouched = PageFlags::LOCKED | PageFlags::WAITERS;
        page.mapping == Mapping::None && page.mapcount == 0 && untouched.contains(page.flags)
    }

    fn is_locked(&self, pfn: Pfn) -> bool {
        self.backend
            .frame(pfn)
            .is_some_and(|page| page.flags.contains(PageFlags::LOCKED))
    }
}

impl<B: Inspect, H: Hook> Hook for Watch<'_, B, H> {
    fn before(&self, edge: Edge) -> Verdict {
        // Nobody else has acted since the last step: what is locked now, the run has locked.
        let unsure = self.state.borrow_mut().unsure.take();
        if let Some(pfn) = unsure.filter(|pfn| self.is_locked(*pfn)) {
            self.state.borrow_mut().locked.insert(pfn);
        }
        let verdict = self.hook.before(edge);
        let mut state = self.state.borrow_mut();
        if let Err(wrong) = self.check(&state, edge) {
            state.wrong.get_or_insert(wrong);
        }
        match edge {
            // Locked already, it is somebody else's.
            Edge::TryLock(pfn) => state.unsure = (!self.is_locked(pfn) && verdict == Verdict::Go).then_some(pfn),
            Edge::Lock(pfn) => drop(state.locked.insert(pfn)),
            // After the switch of 2006 there is no way back.
            Edge::Copy { old, .. } if self.profile.order == MoveOrder::CopyThenSwitch => {
                state.unreadable.remove(&old);
                if verdict != Verdict::Go {
                    state.unreadable.insert(old);
                }
            }
            Edge::Switch { old, new } => state.switched = Some((old, new)),
            Edge::Unlock(pfn) => drop(state.locked.remove(&pfn)),
            Edge::Writeout(pfn) => {
                state.locked.remove(&pfn);
                state.unsure = Some(pfn);
            }
            _ => {}
        }
        verdict
    }
}

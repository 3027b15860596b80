//! Checks of the steps of a run, before each of them: who may sleep, with which locks held, what is untouched until when, and what
//! stays until the end.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use core::cell::RefCell;

use mm_types::Invariant as I;
use mm_types::{Mapping, Mode, PageFlags, Pfn, Rules};

use super::inspect::Inspect;
use super::{Violation, hold};
use crate::{Edge, Hook, MoveOrder, Profile, Verdict};

/// A hook around another: it looks at each step that the run is about to make (I19, I22, I26, I31, I32, I34, I36).
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
    /// The old page of each locked new page whose slots were to be switched.
    pairs: BTreeMap<Pfn, Pfn>,
    /// The root that each locked page had when its entries were visited first.
    roots: BTreeMap<Pfn, Option<u64>>,
    wrong: Option<Violation>,
}

impl State {
    /// The page's lock opens: nothing of this attempt counts for the next.
    fn opens(&mut self, pfn: Pfn) {
        self.locked.remove(&pfn);
        self.pairs.remove(&pfn);
        self.roots.remove(&pfn);
    }
}

impl<'w, B: Inspect, H: Hook> Watch<'w, B, H> {
    /// Looks at the steps of a run that follows `profile` in `mode`, before and after `hook` acts.
    pub const fn new(backend: &'w B, profile: &'w Profile, mode: Mode, hook: H) -> Self {
        let state = State {
            locked: BTreeSet::new(),
            unsure: None,
            unreadable: BTreeSet::new(),
            pairs: BTreeMap::new(),
            roots: BTreeMap::new(),
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
        let own =
            |pfn: Pfn, locked: Pfn| locked == pfn || state.pairs.get(&locked) == Some(&pfn) || self.is_new(locked);
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

    /// Nobody frees the root of a page in flight, so that whoever comes back for the entries finds the areas that he left.
    fn check_root(&self, state: &mut State, walked: Pfn) -> Result<(), Violation> {
        let old = state.pairs.get(&walked).copied().unwrap_or(walked);
        let root = self.backend.root(walked);
        let first = *state.roots.entry(old).or_insert(root);
        hold(I::RootPinned, first == root, || {
            format!("{old:?} is reached by {root:x?}, and was by {first:x?} when its entries were visited first")
        })
    }

    /// What belongs to a file system or to an allocator is not called under a spinlock.
    fn check_calls(&self, edge: Edge) -> Result<(), Violation> {
        let calls = matches!(edge, Edge::Take(_) | Edge::Writeout(_) | Edge::ReleaseBuffers(_));
        hold(
            I::NoEntriesAtCallback,
            !(calls && self.backend.holds_spinlock()),
            || format!("{edge:?} under a spinlock"),
        )
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
        if let Err(wrong) = self.check_calls(edge) {
            self.state.borrow_mut().wrong.get_or_insert(wrong);
        }
        // Nobody else has acted since the last step: what is locked now, the run has locked.
        let unsure = self.state.borrow_mut().unsure.take();
        if let Some(pfn) = unsure.filter(|pfn| self.is_locked(*pfn)) {
            self.state.borrow_mut().locked.insert(pfn);
        }
        let verdict = self.hook.before(edge);
        let mut state = self.state.borrow_mut();
        let checked = self.check(&state, edge).and_then(|()| match edge {
            Edge::Walk(pfn) => self.check_root(&mut state, pfn),
            _ => Ok(()),
        });
        if let Err(wrong) = checked {
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
            Edge::Switch { old, new } => drop(state.pairs.insert(new, old)),
            Edge::Unlock(pfn) => state.opens(pfn),
            Edge::Writeout(pfn) => {
                state.opens(pfn);
                state.unsure = Some(pfn);
            }
            _ => {}
        }
        verdict
    }
}

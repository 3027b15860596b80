//! Moving one unmapped page: contents, references, flags (2.6.17 `migrate_page`, `buffer_migrate_page`,
//! `fallback_migrate_page`, `fail_migrate_page`; 6.x `move_to_new_folio`).

use mm_types::museum::{self, Bug};
use mm_types::trace::{Event, Observer};
use mm_types::transfer::transfer;
use mm_types::{CountMismatch, PageFlags, Pfn, Refusal, expected_count};

use crate::guard::pfn_of;
use crate::run::{Cx, Held, Pending, Stage};
use crate::waiting::Waiting;
use crate::{Backend, BufferLock, Mover, Pair, Slot, Target, Written};

impl<B: Backend> Slot<B> {
    /// Takes a new page from `target` and locks it. The old page is locked already, or not yet (by profile): never after.
    ///
    /// # Errors
    /// The target's refusal.
    pub(crate) fn take_new<O: Observer>(
        &mut self,
        cx: Cx<'_, B, O>,
        target: &mut impl Target<B>,
    ) -> Result<(), Refusal> {
        let Some(old) = self.old.page(cx.backend) else {
            return Ok(());
        };
        let new = target.take(cx.backend, old)?;
        self.new = Held::Page(new);
        Ok(())
    }

    /// Locks the new page. Nobody else knows it, so its lock is free; where it is not, the caller lent a page in use.
    ///
    /// # Errors
    /// [`Refusal::LockBusy`].
    pub(crate) fn lock_new<O: Observer>(&mut self, cx: Cx<'_, B, O>) -> Result<(), Refusal> {
        let Held::Page(page) = self.new.take() else {
            return Ok(());
        };
        match cx.backend.try_lock(page) {
            Ok(locked) => {
                let new = pfn_of(cx.backend, &locked);
                self.new = Held::Locked(locked);
                self.state.new_noted = true;
                if let Some(old) = self.old.page(cx.backend) {
                    cx.observer.note(|| Event::NewPage {
                        old: cx.backend.pfn(old),
                        new,
                    });
                }
                Ok(())
            }
            Err(page) => {
                self.new = Held::Page(page);
                Err(Refusal::LockBusy)
            }
        }
    }

    /// Finds out how the page moves: locked, unmapped and flushed, its new page locked.
    ///
    /// # Errors
    /// Why it stays; a dirty page that the profile would write out is [`Refusal::Dirty`], see [`Slot::stay`].
    fn plan<O: Observer>(cx: Cx<'_, B, O>, old: &B::Locked, new: &B::Locked) -> Result<Plan, Refusal> {
        if museum::has(Bug::B45) {
            cx.backend.adopt(new, old);
        }
        if cx.profile.settings_early {
            cx.backend.adopt(new, old);
            let (old, new) = (pfn_of(cx.backend, old), pfn_of(cx.backend, new));
            cx.observer.note(|| Event::SetMapping { old, new });
        }
        let slots = cx.backend.slots(old);
        let mover = if slots == 0 {
            Mover::Plain
        } else {
            cx.backend.mover(old)
        };
        let flags = cx.backend.flags(cx.backend.page(old));
        let private = flags.contains(PageFlags::PRIVATE);
        match mover {
            Mover::Never => return Err(Refusal::NeverMoves),
            Mover::Fallback if flags.contains(PageFlags::DIRTY) && !museum::has(Bug::B17) => {
                return Err(Refusal::Dirty);
            }
            Mover::Fallback if private && !cx.backend.release_buffers(old) => {
                return Err(Refusal::BuffersNotReleasable);
            }
            _ => {}
        }
        // 2.6.17 traps here (`BUG_ON(PageWriteback)`); the flag was looked at before, under the page lock.
        if flags.contains(PageFlags::WRITEBACK) {
            return Err(Refusal::Writeback);
        }
        let private = match mover {
            // Its buffers have been released.
            Mover::Fallback if private => cx.backend.flags(cx.backend.page(old)).contains(PageFlags::PRIVATE),
            _ => private,
        };
        let move_buffers = mover == Mover::Buffers && private;
        if private && !move_buffers && !museum::has(Bug::B37) {
            // Private data that no mover moves would be lost with the old page: of a page cut off its file, or of a mapping
            // whose mover says it has none.
            return Err(if slots == 0 {
                Refusal::Truncated
            } else {
                Refusal::BuffersNotReleasable
            });
        }
        Ok(Plan {
            expected: expected_count(slots, private),
            move_buffers,
        })
    }

    /// Says why a page stays, and writes it out first where the profile does that.
    #[cold]
    fn stay<O: Observer>(&mut self, cx: Cx<'_, B, O>, pending: &mut Pending<B>, refusal: Refusal) -> Refusal {
        match refusal {
            Refusal::Dirty if cx.profile.writes_out => self.write_out(cx, pending),
            _ => refusal,
        }
    }

    /// Refuses a dirty page that has no mover by what is known before it is unmapped (B17).
    ///
    /// # Errors
    /// [`Refusal::Dirty`].
    pub(crate) fn refuse_dirty_early<O: Observer>(&self, cx: Cx<'_, B, O>) -> Result<(), Refusal> {
        let dirty = |old: &B::Locked| cx.backend.flags(cx.backend.page(old)).contains(PageFlags::DIRTY);
        match self.old.locked() {
            Some(old) if dirty(old) && cx.backend.slots(old) > 0 && cx.backend.mover(old) == Mover::Fallback => {
                Err(Refusal::Dirty)
            }
            _ => Ok(()),
        }
    }

    /// Moves the page in the order of 2006: switches references, then copies.
    ///
    /// # Errors
    /// Why it stays; where the page has switched by then ([`Refusal::CopiedTooLate`]) it is the new page that is in error.
    pub(crate) fn switch_then_copy<W: Waiting<B>, O: Observer>(
        &mut self,
        cx: Cx<'_, B, O>,
        pending: &mut Pending<B>,
    ) -> Result<(), Refusal> {
        let (Some(old), Some(new)) = (self.old.locked(), self.new.locked()) else {
            return Err(Refusal::LockBusy);
        };
        let plan = match Self::plan(cx, old, new) {
            Ok(plan) => plan,
            Err(refusal) => return Err(self.stay(cx, pending, refusal)),
        };
        let pair = Pair::new(old, new);
        switch(cx, pair, plan.expected)?;
        // No turning back from here.
        self.state.stage = Stage::Switched;
        if plan.move_buffers {
            if cx.profile.buffers == BufferLock::AfterSwitch {
                // 2.6.17 sleeps here, with both pages locked; the run is one that may.
                while cx.backend.try_lock_buffers(old).is_err() && W::wait_buffers(cx.backend, old) {}
            }
            cx.backend.move_buffers(pair);
        }
        let copied = copy(cx, pair);
        finish_move(cx, pair, plan, copied.is_err());
        copied.map_err(|_| Refusal::CopiedTooLate)
    }

    /// Copies the page; it stays where it is until [`Slot::switch_copied`].
    ///
    /// All pages of a batch are copied before the first switches: a switch is a locked instruction, and would wait until the
    /// stores of the copy before it have left the processor.
    ///
    /// # Errors
    /// Why it stays.
    pub(crate) fn copy_first<W: Waiting<B>, O: Observer>(
        &mut self,
        cx: Cx<'_, B, O>,
        pending: &mut Pending<B>,
        may_wait: bool,
    ) -> Result<(), Refusal> {
        let (Some(old), Some(new)) = (self.old.locked(), self.new.locked()) else {
            return Err(Refusal::LockBusy);
        };
        let plan = match Self::plan(cx, old, new) {
            Ok(plan) => plan,
            Err(refusal) => return Err(self.stay(cx, pending, refusal)),
        };
        // A cheap look before the copy; the freeze decides.
        let found = cx.backend.count(cx.backend.page(old));
        if found != plan.expected {
            return Err(Refusal::ExtraReference {
                expected: plan.expected,
                found,
            });
        }
        if plan.move_buffers && !museum::has(Bug::B26) {
            lock_buffers::<B, W>(cx.backend, old, may_wait)?;
        }
        self.state.copied = Some(plan);
        copy(cx, Pair::new(old, new)).inspect_err(|_| self.abandon(cx))
    }

    /// Switches references of a page that was copied; nothing to do for one that was not.
    ///
    /// # Errors
    /// Why it stays; the copy is then worth nothing, for whoever held the reference may have written.
    pub(crate) fn switch_copied<O: Observer>(&mut self, cx: Cx<'_, B, O>) -> Result<(), Refusal> {
        let (Some(old), Some(new), Some(plan)) = (self.old.locked(), self.new.locked(), self.state.copied) else {
            return Ok(());
        };
        let pair = Pair::new(old, new);
        if let Err(refusal) = switch(cx, pair, plan.expected) {
            self.abandon(cx);
            return Err(refusal);
        }
        // No turning back from here.
        self.state.copied = None;
        self.state.stage = Stage::Switched;
        if plan.move_buffers {
            if museum::has(Bug::B26) {
                // A buffer under I/O is found out about now, and there is nothing left to do about it.
                let _ = cx.backend.try_lock_buffers(old);
            }
            cx.backend.move_buffers(pair);
        }
        finish_move(cx, pair, plan, false);
        Ok(())
    }

    /// Gives up a copy that was not switched to, and the buffer locks it took.
    pub(crate) fn abandon<O: Observer>(&mut self, cx: Cx<'_, B, O>) {
        let Some(plan) = self.state.copied else { return };
        self.state.copied = None;
        if let (true, Some(old)) = (plan.move_buffers, self.old.locked()) {
            cx.backend.unlock_buffers(old);
        }
    }

    /// Writes a dirty page that has no mover (2.6.17 `writeout`); returns the refusal that always follows.
    fn write_out<O: Observer>(&mut self, cx: Cx<'_, B, O>, pending: &mut Pending<B>) -> Refusal {
        let Some(old) = self.old.locked() else {
            return Refusal::Dirty;
        };
        if !cx.backend.can_write(old) {
            return Refusal::NoWritepage;
        }
        if !cx.backend.clear_dirty_for_io(old) {
            return Refusal::WrittenOut;
        }
        // The file system may unlock the page while it writes: nobody may find an entry that names an unlocked page (B50).
        if !museum::has(Bug::B50) {
            self.restore(cx, pending);
            pending.barrier(cx);
        }
        let Held::Locked(old) = self.old.take() else {
            return Refusal::Dirty;
        };
        let pfn = pfn_of(cx.backend, &old);
        // Whether it came back locked or not is in the guard's type. 2.6.17 locked it again, or, after an error, did not and
        // unlocked a page that it did not hold (B51); since the page goes back to its list either way, it stays as it came.
        let written = match cx.backend.writeout(old) {
            Written::Locked(old, written) => {
                self.old = Held::Locked(old);
                written
            }
            Written::Unlocked(old, written) => {
                self.old = Held::Page(old);
                written
            }
        };
        cx.observer.note(|| Event::Writeout {
            pfn,
            ok: written.is_ok(),
        });
        match written {
            Ok(()) => Refusal::WrittenOut,
            Err(_) => Refusal::WriteFailed,
        }
    }
}

/// How a page moves, found out before anything is done to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// References it must have.
    expected: u32,
    /// Its private data are buffers, and move along.
    move_buffers: bool,
}

/// Ends a move after the switch: flags, and the buffers' locks.
fn finish_move<B: Backend, O: Observer>(cx: Cx<'_, B, O>, pair: Pair<'_, B::Locked>, plan: Plan, unreadable: bool) {
    hand_over(cx, pair, unreadable);
    if plan.move_buffers {
        cx.backend.unlock_buffers(pair.new_page());
    }
}

fn pfns<B: Backend>(backend: &B, pair: Pair<'_, B::Locked>) -> (Pfn, Pfn) {
    (pfn_of(backend, pair.old()), pfn_of(backend, pair.new_page()))
}

fn copy<B: Backend, O: Observer>(cx: Cx<'_, B, O>, pair: Pair<'_, B::Locked>) -> Result<(), Refusal> {
    if cx.backend.copy(pair).is_err() && !museum::has(Bug::B28) {
        return Err(Refusal::CopyFailed);
    }
    let (old, new) = pfns(cx.backend, pair);
    cx.observer.note(|| Event::Copy { old, new });
    Ok(())
}

/// Switches references from old to new (2.6.17 `migrate_page_move_mapping`, with the freeze of 2.6.27, which is what the check
/// under the tree lock amounts to: no reference is gained between the check and the store).
fn switch<B: Backend, O: Observer>(cx: Cx<'_, B, O>, pair: Pair<'_, B::Locked>, expected: u32) -> Result<(), Refusal> {
    let (backend, old, new) = (cx.backend, pair.old(), pair.new_page());
    let frozen = if museum::has(Bug::B43) && backend.slots(old) == 0 {
        // No lookup finds it, it is said.
        let found = backend.count(backend.page(old));
        if found == expected {
            Ok(())
        } else {
            Err(CountMismatch { expected, found })
        }
    } else {
        backend.freeze(old, expected)
    };
    frozen.map_err(|count| Refusal::ExtraReference {
        expected,
        found: count.found,
    })?;
    let (old_pfn, new_pfn) = pfns(backend, pair);
    cx.observer.note(|| Event::Freeze { pfn: old_pfn, expected });
    // What is in the swap cache is held by its slot.
    let swap_cache = if expected > expected_count(0, false) {
        backend.flags(backend.page(old)) & PageFlags::SWAPCACHE
    } else {
        PageFlags::empty()
    };
    // Under 2006 rules the new page has its settings already; what is in the swap cache is not, and gets its slot here.
    backend.adopt(new, old);
    if !cx.profile.settings_early {
        cx.observer.note(|| Event::SetMapping {
            old: old_pfn,
            new: new_pfn,
        });
    }
    if !swap_cache.is_empty() {
        backend.edit_flags(new, swap_cache, PageFlags::empty());
    }
    match backend.switch(pair) {
        Ok(slots) => {
            backend.unfreeze(old, expected.saturating_sub(slots));
            cx.observer.note(|| Event::Switch {
                old: old_pfn,
                new: new_pfn,
                slots,
            });
            Ok(())
        }
        Err(_) => {
            backend.edit_flags(new, PageFlags::empty(), swap_cache);
            backend.disown(new);
            backend.unfreeze(old, expected);
            Err(Refusal::SlotChanged)
        }
    }
}

/// Hands flags over and makes the old page freeable (2.6.17 `migrate_page_copy`, steps 2 to 10).
fn hand_over<B: Backend, O: Observer>(cx: Cx<'_, B, O>, pair: Pair<'_, B::Locked>, unreadable: bool) {
    let (backend, old, new) = (cx.backend, pair.old(), pair.new_page());
    let had = backend.flags(backend.page(old));
    let plan = transfer(cx.profile.rules, had);
    // The old page's dirty flag goes before the new page's comes, so that no moment counts one page as two dirty ones; both
    // through the mapping, so that who counts dirty pages counts one less, and then one more.
    if plan.set_on_new.contains(PageFlags::DIRTY) && !museum::has(Bug::B19) {
        backend.clear_dirty_for_io(old);
    }
    if had.intersects(plan.clear_on_old) {
        backend.edit_flags(old, PageFlags::empty(), plan.clear_on_old);
    }
    let (set, clear) = if unreadable {
        (plan.set_on_new.union(PageFlags::ERROR), PageFlags::UPTODATE)
    } else {
        (plan.set_on_new, PageFlags::empty())
    };
    let set = set.difference(PageFlags::DIRTY);
    if !set.union(clear).is_empty() {
        backend.edit_flags(new, set, clear);
    }
    if plan.set_on_new.contains(PageFlags::DIRTY) {
        backend.set_dirty(new);
    }
    backend.disown(old);
    let flags = backend.flags(backend.page(new));
    if flags.intersects(plan.end_on_new) {
        backend.end_writeback(new);
    }
    let (old, new) = pfns(backend, pair);
    cx.observer.note(|| Event::Transfer {
        old,
        new,
        flags: flags.difference(PageFlags::LOCKED.union(PageFlags::WAITERS)),
    });
}

/// Locks all buffers of a page; a run that may sleep waits for a busy one once, and tries the page again in its next pass.
fn lock_buffers<B: Backend, W: Waiting<B>>(backend: &B, page: &B::Locked, may_wait: bool) -> Result<(), Refusal> {
    backend.try_lock_buffers(page).or_else(|refusal| {
        if may_wait && W::wait_buffers(backend, page) {
            backend.try_lock_buffers(page)
        } else {
            Err(refusal)
        }
    })
}

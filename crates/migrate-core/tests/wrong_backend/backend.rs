//! The model behind a wrapper that keeps every promise of the seam but one.

use core::cell::Cell;
use core::ops::ControlFlow;

use migrate_core::fixture::Fixture;
use migrate_core::model::{Gather, Model, ModelFixture};
use migrate_core::{
    Cache, CopyError, Faults, Frames, LockedPage, Lru, Mover, PageRef, Pair, Rmap, SlotChanged, UsesPageMap, Visit,
    Wait, Written,
};
use mm_types::{CountMismatch, Mapping, Page, PageFlags, Pfn, Pte, Refusal, Site, SpaceId, SwapEntry};

use super::entry::WrongEntry;
use super::wrong::Wrong;

/// A backend with one defect.
#[derive(Debug)]
pub(crate) struct Backend {
    pub(crate) inner: ModelFixture,
    pub(crate) wrong: Wrong,
    /// Locks that were tried for, in the one that is busy at first.
    pub(crate) tries: Cell<u32>,
}

impl Backend {
    pub(crate) fn model(&self) -> &Model {
        self.inner.backend()
    }

    pub(crate) fn is(&self, wrong: Wrong) -> bool {
        self.wrong == wrong
    }

    fn descriptor(&self, pfn: Pfn) -> &Page {
        self.model().page_map().page(pfn).expect("a frame of the model")
    }

    /// The page lock is open, whoever has it.
    fn open(&self, pfn: Pfn) {
        let flags = self.descriptor(pfn).flags();
        flags.edit(PageFlags::empty(), PageFlags::LOCKED);
    }

    /// A page whose lock somebody has.
    pub(crate) fn locked_page(&self) -> Option<Pfn> {
        let map = self.model().page_map();
        let mut frames = (map.base().raw()..).map(Pfn::new).take(map.len());
        frames.find(|pfn| self.descriptor(*pfn).flags().load().contains(PageFlags::LOCKED))
    }

    /// Changes every entry that maps the page or names it, though somebody may have the page lock.
    pub(crate) fn edit_entries(&self, pfn: Pfn, edit: &dyn Fn(Pte) -> Option<Pte>) {
        let model = self.model();
        let was = self.descriptor(pfn).flags().load();
        self.open(pfn);
        let page = model.get(pfn).expect("a page in use");
        let locked = model.try_lock(page).expect("it is open");
        let mut gather = model.gather();
        model.walk(&locked, &mut gather, &mut |entry| {
            entry.update(edit);
            ControlFlow::Continue(())
        });
        model.flush(gather);
        model.put(model.unlock(locked));
        let again = was & (PageFlags::LOCKED | PageFlags::WAITERS);
        self.descriptor(pfn).flags().edit(again, PageFlags::empty());
    }

    fn deactivate(&self, pfn: Pfn) {
        let flags = self.descriptor(pfn).flags();
        flags.edit(PageFlags::empty(), PageFlags::ACTIVE);
    }
}

impl Frames for Backend {
    type Page = PageRef;
    type Locked = LockedPage;

    fn pfn(&self, page: &PageRef) -> Pfn {
        page.pfn()
    }

    fn page<'l>(&self, locked: &'l LockedPage) -> &'l PageRef {
        Frames::page(self.model(), locked)
    }

    fn count(&self, page: &PageRef) -> u32 {
        self.model().count(page)
    }

    fn get(&self, pfn: Pfn) -> Option<PageRef> {
        let there = self.model().page_map().page(pfn).is_some();
        let got = self.model().get(pfn);
        got.or_else(|| (there && self.is(Wrong::GetOfAFreePage)).then(|| PageRef::counted(pfn)))
    }

    fn put(&self, page: PageRef) {
        if self.is(Wrong::PutForgotten) && self.count(&page) > 2 {
            return;
        }
        self.model().put(page);
    }

    fn try_lock(&self, page: PageRef) -> Result<LockedPage, PageRef> {
        match self.wrong {
            Wrong::LocksTwice => self.open(page.pfn()),
            // Somebody is always there at first.
            Wrong::LockBusyOnce if self.tries.replace(self.tries.get() + 1) % 4 == 3 => return Err(page),
            _ => {}
        }
        self.model().try_lock(page)
    }

    fn unlock(&self, locked: LockedPage) -> PageRef {
        if matches!(self.wrong, Wrong::LockNotTaken | Wrong::LocksTwice) {
            self.model().edit_flags(&locked, PageFlags::LOCKED, PageFlags::empty());
        }
        if self.is(Wrong::WakeUpLost) {
            self.model().edit_flags(&locked, PageFlags::empty(), PageFlags::WAITERS);
        }
        self.model().unlock(locked)
    }

    fn flags(&self, page: &PageRef) -> PageFlags {
        self.model().flags(page)
    }

    fn edit_flags(&self, locked: &LockedPage, set: PageFlags, clear: PageFlags) -> PageFlags {
        let clear = if set.is_empty() && self.is(Wrong::ClearsOnlyWhereItSets) {
            PageFlags::empty()
        } else {
            clear
        };
        let before = self.model().edit_flags(locked, set, clear);
        if self.is(Wrong::FlagsToldAfter) {
            self.flags(self.page(locked))
        } else {
            before
        }
    }

    fn mapping(&self, page: &PageRef) -> Mapping {
        if self.is(Wrong::MappingForgotten) {
            return Mapping::None;
        }
        self.model().mapping(page)
    }

    fn adopt(&self, new: &LockedPage, old: &LockedPage) {
        if !self.is(Wrong::AdoptForgotten) {
            self.model().adopt(new, old);
        }
        if self.is(Wrong::PrivateWordForgotten) {
            self.descriptor(new.pfn()).set_private(0);
        }
    }

    fn disown(&self, locked: &LockedPage) {
        if !self.is(Wrong::DisownForgotten) {
            self.model().disown(locked);
        }
    }

    fn freeze(&self, locked: &LockedPage, expected: u32) -> Result<(), CountMismatch> {
        let found = self.count(self.page(locked));
        match self.wrong {
            Wrong::FreezeOnlyChecks if found == expected => Ok(()),
            Wrong::FreezeTakesAnyCount => self.model().freeze(locked, found),
            _ => self.model().freeze(locked, expected),
        }
    }

    fn unfreeze(&self, locked: &LockedPage, count: u32) {
        if self.is(Wrong::FreezeOnlyChecks) {
            let found = self.count(self.page(locked));
            self.model().freeze(locked, found).expect("one thread runs the model");
        }
        self.model()
            .unfreeze(locked, count + u32::from(self.is(Wrong::UnfreezeOneTooMany)));
    }

    fn copy(&self, pair: Pair<'_, LockedPage>) -> Result<(), CopyError> {
        let (old, new) = (pair.old().pfn(), pair.new_page().pfn());
        match self.wrong {
            Wrong::CopiesNothing => Ok(()),
            Wrong::CopiesHalf => {
                let half = u64::from(u32::MAX);
                self.model()
                    .set_word(new, self.model().word(old) & half | self.model().word(new) & !half);
                Ok(())
            }
            _ => self.model().copy(pair),
        }
    }

    fn pins(&self, page: &PageRef) -> u32 {
        if self.is(Wrong::PinsForgotten) {
            0
        } else {
            self.model().pins(page)
        }
    }

    fn entries_out(&self, pfn: Pfn, change: i32) -> Option<u32> {
        self.model().entries_out(pfn, change)
    }

    fn end_writeback(&self, locked: &LockedPage) {
        Frames::end_writeback(self.model(), locked);
    }
}

impl Rmap for Backend {
    type Gather = Gather;

    fn gather(&self) -> Gather {
        self.model().gather()
    }

    fn walk(&self, page: &LockedPage, gather: &mut Gather, visit: &mut Visit<'_>) {
        let (mut visits, mut ended) = (0, false);
        self.model().walk(page, gather, &mut |entry| {
            visits += 1;
            if self.is(Wrong::WalkForgetsAMapping) && visits == 2 {
                return ControlFlow::Continue(());
            }
            let mut entry = WrongEntry { entry, backend: self };
            let mut done = visit(&mut entry);
            if self.is(Wrong::WalkVisitsTwice) && done.is_continue() {
                done = visit(&mut entry);
            }
            ended |= done.is_break();
            if self.is(Wrong::WalkGoesOn) {
                ControlFlow::Continue(())
            } else {
                done
            }
        });
    }

    fn flush(&self, gather: Gather) {
        if self.is(Wrong::FlushForgotten) {
            drop(gather);
        } else {
            self.model().flush(gather);
        }
    }

    fn flush_pending(&self, space: SpaceId) {
        if !self.is(Wrong::FlushPendingEmpty) {
            self.model().flush_pending(space);
        }
    }

    fn reserve(&self, page: &LockedPage, new: Option<&LockedPage>, gather: &mut Gather) -> Result<(), Refusal> {
        if self.is(Wrong::ReservesNothing) {
            return Err(Refusal::MappingLimit);
        }
        self.model().reserve(page, new, gather)
    }

    fn is_mapped(&self, page: &LockedPage) -> bool {
        !self.is(Wrong::NeverMapped) && self.model().is_mapped(page)
    }

    fn walk_nonlinear(&self, page: &LockedPage, gather: &mut Gather, visit: &mut Visit<'_>) {
        self.model().walk_nonlinear(page, gather, visit);
    }
}

impl Cache for Backend {
    fn slots(&self, page: &LockedPage) -> u32 {
        if self.is(Wrong::SlotsForgotten) {
            0
        } else {
            self.model().slots(page)
        }
    }

    fn swap_entry(&self, page: &LockedPage) -> Option<SwapEntry> {
        self.model().swap_entry(page)
    }

    fn mover(&self, page: &LockedPage) -> Mover {
        if self.is(Wrong::AnyMover) {
            return Mover::Plain;
        }
        self.model().mover(page)
    }

    fn switch(&self, pair: Pair<'_, LockedPage>) -> Result<u32, SlotChanged> {
        if self.is(Wrong::SlotNotSwitched) {
            Ok(self.model().slots(pair.old()))
        } else {
            self.model().switch(pair)
        }
    }

    fn set_dirty(&self, page: &LockedPage) {
        if !self.is(Wrong::SetDirtyForgotten) {
            self.model().set_dirty(page);
        }
    }

    fn clear_dirty_for_io(&self, page: &LockedPage) -> bool {
        self.model().clear_dirty_for_io(page)
    }

    fn try_lock_buffers(&self, page: &LockedPage) -> Result<(), Refusal> {
        if self.is(Wrong::BuffersLockedTwice) {
            // Whoever does I/O on one of them has it no longer.
            self.model().set_buffers_busy(page.pfn(), false);
        }
        self.model().try_lock_buffers(page)
    }

    fn unlock_buffers(&self, page: &LockedPage) {
        self.model().unlock_buffers(page);
    }

    fn move_buffers(&self, pair: Pair<'_, LockedPage>) {
        if !self.is(Wrong::BuffersNotMoved) {
            self.model().move_buffers(pair);
        }
    }

    fn release_buffers(&self, page: &LockedPage) -> bool {
        self.model().release_buffers(page)
    }

    fn can_write(&self, page: &LockedPage) -> bool {
        self.model().can_write(page)
    }

    fn writeout(&self, page: LockedPage) -> Written<LockedPage, PageRef> {
        if self.is(Wrong::WritesNothing) {
            return Written::Unlocked(self.model().unlock(page), Ok(()));
        }
        self.model().writeout(page)
    }
}

impl Lru for Backend {
    fn isolate(&self, page: &PageRef) -> Result<PageRef, Refusal> {
        let isolated = Lru::isolate(self.model(), page);
        if self.is(Wrong::IsolatedIsInactive) {
            self.deactivate(page.pfn());
        }
        if self.is(Wrong::IsolatesTwice) {
            return isolated.or_else(|refusal| self.get(page.pfn()).ok_or(refusal));
        }
        isolated
    }

    fn putback(&self, page: PageRef) {
        if self.is(Wrong::PutBackIsInactive) {
            self.deactivate(page.pfn());
        }
        if self.is(Wrong::PutbackLosesThePage) {
            self.put(page);
        } else {
            self.model().putback(page);
        }
    }

    fn putback_direct(&self, page: PageRef) {
        self.model().putback_direct(page);
    }

    fn drain(&self) {
        self.model().drain();
    }
}

impl Wait for Backend {
    fn lock(&self, page: PageRef) -> LockedPage {
        let pfn = page.pfn();
        if self.is(Wrong::LockNotSleptFor) {
            // Whoever has it has it no longer.
            self.open(pfn);
        }
        let locked = self.model().lock(page);
        if self.is(Wrong::LockNotTaken) {
            self.open(pfn);
        }
        locked
    }

    fn wait_writeback(&self, page: &LockedPage) {
        if !self.is(Wrong::WritebackNotWaitedFor) {
            self.model().wait_writeback(page);
        }
    }

    fn wait_buffers(&self, page: &LockedPage) {
        Wait::wait_buffers(self.model(), page);
    }
}

impl Faults for Backend {
    fn wait_on(&self, site: Site, look: &mut dyn FnMut(Pte) -> Option<Pfn>) {
        let found = self.model().pte(site).migration();
        let held = found
            .filter(|_| self.is(Wrong::ReferenceWhileLooking))
            .and_then(|entry| self.model().get(entry.pfn()));
        self.model().wait_on(site, look);
        held.into_iter().for_each(|page| self.model().put(page));
    }
}

//! A backend that does nothing and says what it was asked, for tests of what stands between it and the core.

use core::cell::{Cell, RefCell};
use std::format;
use std::string::String;
use std::vec::Vec;

use mm_types::{CountMismatch, Mapping, MigrationEntry, PageFlags, Pfn, Pte, Refusal, Site, SpaceId, SwapEntry};

use crate::{Cache, CopyError, Faults, Frames, Lru, Mover, Pair, Rmap, SlotChanged, Visit, Wait, Written};

/// A backend of pages that are numbers: it only says what it was asked to do.
#[derive(Default)]
pub(crate) struct Told {
    asked: RefCell<Vec<String>>,
    pub(crate) count: Cell<u32>,
    pub(crate) mapping: Cell<Option<Mapping>>,
    pub(crate) locked: Cell<bool>,
    pub(crate) private: Cell<bool>,
    pub(crate) slots: Cell<u32>,
}

impl Told {
    fn tell(&self, what: impl Into<String>) {
        self.asked.borrow_mut().push(what.into());
    }

    /// What it was asked since the last look.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.take()
    }
}

/// A page number whose lock is held.
#[derive(Debug, PartialEq)]
pub(crate) struct Locked(pub(crate) u64);

impl Frames for Told {
    type Page = u64;
    type Locked = Locked;

    fn pfn(&self, page: &u64) -> Pfn {
        Pfn::new(*page)
    }

    fn page<'l>(&self, locked: &'l Locked) -> &'l u64 {
        &locked.0
    }

    fn count(&self, _page: &u64) -> u32 {
        self.count.get()
    }

    fn get(&self, pfn: Pfn) -> Option<u64> {
        self.tell(format!("get {}", pfn.raw()));
        Some(pfn.raw())
    }

    fn put(&self, page: u64) {
        self.tell(format!("put {page}"));
    }

    fn try_lock(&self, page: u64) -> Result<Locked, u64> {
        self.tell(format!("try_lock {page}"));
        Ok(Locked(page))
    }

    fn unlock(&self, locked: Locked) -> u64 {
        self.tell(format!("unlock {}", locked.0));
        locked.0
    }

    fn flags(&self, _page: &u64) -> PageFlags {
        let mut flags = PageFlags::DIRTY;
        flags.set(PageFlags::LOCKED, self.locked.get());
        flags.set(PageFlags::PRIVATE, self.private.get());
        flags
    }

    fn edit_flags(&self, locked: &Locked, set: PageFlags, clear: PageFlags) -> PageFlags {
        self.tell(format!("edit_flags {} {set:?} {clear:?}", locked.0));
        PageFlags::ERROR
    }

    fn mapping(&self, _page: &u64) -> Mapping {
        self.mapping.get().unwrap_or(Mapping::None)
    }

    fn adopt(&self, new: &Locked, old: &Locked) {
        self.tell(format!("adopt {} {}", new.0, old.0));
    }

    fn disown(&self, locked: &Locked) {
        self.tell(format!("disown {}", locked.0));
    }

    fn freeze(&self, locked: &Locked, expected: u32) -> Result<(), CountMismatch> {
        self.tell(format!("freeze {} {expected}", locked.0));
        Ok(())
    }

    fn unfreeze(&self, locked: &Locked, count: u32) {
        self.tell(format!("unfreeze {} {count}", locked.0));
    }

    fn copy(&self, pair: Pair<'_, Locked>) -> Result<(), CopyError> {
        self.tell(format!("copy {} {}", pair.old().0, pair.new_page().0));
        Ok(())
    }

    fn pins(&self, _page: &u64) -> u32 {
        4
    }

    fn entries_out(&self, pfn: Pfn, change: i32) -> Option<u32> {
        self.tell(format!("entries_out {} {change}", pfn.raw()));
        Some(6)
    }

    fn end_writeback(&self, locked: &Locked) {
        self.tell(format!("end_writeback {}", locked.0));
    }
}

impl Rmap for Told {
    type Gather = u8;

    fn gather(&self) -> u8 {
        9
    }

    fn walk(&self, page: &Locked, gather: &mut u8, _visit: &mut Visit<'_>) {
        self.tell(format!("walk {} {gather}", page.0));
    }

    fn flush(&self, gather: u8) {
        self.tell(format!("flush {gather}"));
    }

    fn flush_pending(&self, space: SpaceId) {
        self.tell(format!("flush_pending {}", space.raw()));
    }

    fn reserve(&self, page: &Locked, new: Option<&Locked>, gather: &mut u8) -> Result<(), Refusal> {
        self.tell(format!("reserve {} {:?} {gather}", page.0, new.map(|new| new.0)));
        Ok(())
    }

    fn is_mapped(&self, page: &Locked) -> bool {
        self.tell(format!("is_mapped {}", page.0));
        false
    }

    fn walk_nonlinear(&self, page: &Locked, gather: &mut u8, _visit: &mut Visit<'_>) {
        self.tell(format!("walk_nonlinear {} {gather}", page.0));
    }
}

impl Cache for Told {
    fn slots(&self, _page: &Locked) -> u32 {
        self.slots.get()
    }

    fn swap_entry(&self, page: &Locked) -> Option<SwapEntry> {
        self.tell(format!("swap_entry {}", page.0));
        None
    }

    fn mover(&self, _page: &Locked) -> Mover {
        Mover::Buffers
    }

    fn switch(&self, pair: Pair<'_, Locked>) -> Result<u32, SlotChanged> {
        self.tell(format!("switch {} {}", pair.old().0, pair.new_page().0));
        Ok(3)
    }

    fn set_dirty(&self, page: &Locked) {
        self.tell(format!("set_dirty {}", page.0));
    }

    fn clear_dirty_for_io(&self, page: &Locked) -> bool {
        self.tell(format!("clear_dirty_for_io {}", page.0));
        true
    }

    fn try_lock_buffers(&self, page: &Locked) -> Result<(), Refusal> {
        self.tell(format!("try_lock_buffers {}", page.0));
        Ok(())
    }

    fn unlock_buffers(&self, page: &Locked) {
        self.tell(format!("unlock_buffers {}", page.0));
    }

    fn move_buffers(&self, pair: Pair<'_, Locked>) {
        self.tell(format!("move_buffers {} {}", pair.old().0, pair.new_page().0));
    }

    fn release_buffers(&self, page: &Locked) -> bool {
        self.tell(format!("release_buffers {}", page.0));
        true
    }

    fn can_write(&self, page: &Locked) -> bool {
        self.tell(format!("can_write {}", page.0));
        true
    }

    fn writeout(&self, page: Locked) -> Written<Locked, u64> {
        self.tell(format!("writeout {}", page.0));
        Written::Locked(page, Ok(()))
    }
}

impl Lru for Told {
    fn isolate(&self, page: &u64) -> Result<u64, Refusal> {
        self.tell(format!("isolate {page}"));
        Ok(*page)
    }

    fn putback(&self, page: u64) {
        self.tell(format!("putback {page}"));
    }

    fn putback_direct(&self, page: u64) {
        self.tell(format!("putback_direct {page}"));
    }

    fn drain(&self) {
        self.tell("drain");
    }
}

impl Wait for Told {
    fn lock(&self, page: u64) -> Locked {
        self.tell(format!("lock {page}"));
        Locked(page)
    }

    fn wait_writeback(&self, page: &Locked) {
        self.tell(format!("wait_writeback {}", page.0));
    }

    fn wait_buffers(&self, page: &Locked) {
        self.tell(format!("wait_buffers {}", page.0));
    }
}

impl Faults for Told {
    fn wait_on(&self, site: Site, look: &mut dyn FnMut(Pte) -> Option<Pfn>) {
        let slept = look(Pte::Migration(MigrationEntry::writable(Pfn::new(1))));
        self.tell(format!("wait_on {} {slept:?}", site.page.raw()));
    }
}

//! A backend with somebody looking over its shoulder: before each step of the protocol a [`Hook`] may act, or make the step fail.
//!
//! [`Hooked`] delegates everything to the backend it wraps; guards and gathers are the backend's own. Scenarios do their steps in the
//! middle through it, failures are injected through it. A hook is called with the run's page locks held, but never under an entry
//! lock, so that it may do whatever another thread could do at that moment, short of waiting for the run.

use mm_types::{CountMismatch, Mapping, PageFlags, Pfn, Refusal, SpaceId, SwapEntry};

use crate::{Cache, CopyError, Frames, Lru, Mover, Pair, Rmap, SlotChanged, Target, Visit, Wait, WriteError, Written};

/// A step of the protocol that is about to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Edge {
    /// A page lock is tried for. May fail: it is busy.
    TryLock(Pfn),
    /// The run sleeps for a page lock.
    Lock(Pfn),
    /// The run sleeps for the end of writeback.
    WaitWriteback(Pfn),
    /// The run sleeps for a buffer.
    WaitBuffers(Pfn),
    /// A new page is taken for this one. May fail: there is none.
    Take(Pfn),
    /// The first entry of the page will be replaced; what that needs is reserved. May fail: the mapping limit.
    Reserve(Pfn),
    /// Entries of the page are visited: the old page's, to be replaced or restored to it; the new page's, to be restored.
    Walk(Pfn),
    /// The run asks whether the page is mapped still. May fail: it is.
    IsMapped(Pfn),
    /// A barrier.
    Flush,
    /// Contents are copied. May fail: they cannot be read.
    Copy {
        /// The source.
        old: Pfn,
        /// The destination.
        new: Pfn,
    },
    /// The reference count is frozen. May fail: somebody holds one reference more.
    Freeze(Pfn),
    /// Cache slots are switched. May fail: a slot has changed.
    Switch {
        /// The source.
        old: Pfn,
        /// The destination.
        new: Pfn,
    },
    /// Buffers are tried for. May fail: one is busy.
    TryLockBuffers(Pfn),
    /// Private data are to be freed. May fail: they stay.
    ReleaseBuffers(Pfn),
    /// The page is written out. May fail: an error, and it is locked still.
    Writeout(Pfn),
    /// A page lock opens.
    Unlock(Pfn),
    /// The page is isolated. May fail: it is on no list.
    Isolate(Pfn),
    /// The page goes to the LRU.
    Putback(Pfn),
}

impl Edge {
    /// True where [`Verdict::Fail`] is heeded.
    #[must_use]
    pub const fn can_fail(self) -> bool {
        match self {
            Self::TryLock(_)
            | Self::Take(_)
            | Self::Reserve(_)
            | Self::IsMapped(_)
            | Self::Copy { .. }
            | Self::Freeze(_)
            | Self::Switch { .. }
            | Self::TryLockBuffers(_)
            | Self::ReleaseBuffers(_)
            | Self::Writeout(_)
            | Self::Isolate(_) => true,
            Self::Lock(_)
            | Self::WaitWriteback(_)
            | Self::WaitBuffers(_)
            | Self::Walk(_)
            | Self::Flush
            | Self::Unlock(_)
            | Self::Putback(_) => false,
        }
    }
}

/// What a hook lets happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The step is the backend's.
    Go,
    /// The step fails without reaching the backend, where it can fail; else it is the backend's.
    Fail,
}

/// Who looks over the backend's shoulder.
pub trait Hook {
    /// Called before each step. The caller may hold page locks, and no other lock.
    fn before(&self, edge: Edge) -> Verdict;
}

impl<F: Fn(Edge) -> Verdict> Hook for F {
    fn before(&self, edge: Edge) -> Verdict {
        self(edge)
    }
}

/// A backend whose steps a hook sees first.
#[derive(Clone, Copy, Debug)]
pub struct Hooked<'b, B, H> {
    backend: &'b B,
    hook: &'b H,
}

impl<'b, B: Frames, H: Hook> Hooked<'b, B, H> {
    /// Wraps a backend.
    pub const fn new(backend: &'b B, hook: &'b H) -> Self {
        Self { backend, hook }
    }

    /// Returns the backend inside.
    #[must_use]
    pub const fn inner(&self) -> &'b B {
        self.backend
    }

    fn fails(&self, edge: Edge) -> bool {
        self.hook.before(edge) == Verdict::Fail
    }

    fn locked_pfn(&self, locked: &B::Locked) -> Pfn {
        self.backend.pfn(self.backend.page(locked))
    }

    fn pair_pfns(&self, pair: Pair<'_, B::Locked>) -> (Pfn, Pfn) {
        (self.locked_pfn(pair.old()), self.locked_pfn(pair.new_page()))
    }
}

impl<B: Frames, H: Hook> Frames for Hooked<'_, B, H> {
    type Page = B::Page;
    type Locked = B::Locked;

    fn pfn(&self, page: &B::Page) -> Pfn {
        self.backend.pfn(page)
    }

    fn page<'l>(&self, locked: &'l B::Locked) -> &'l B::Page {
        self.backend.page(locked)
    }

    fn count(&self, page: &B::Page) -> u32 {
        self.backend.count(page)
    }

    fn get(&self, pfn: Pfn) -> Option<B::Page> {
        self.backend.get(pfn)
    }

    fn put(&self, page: B::Page) {
        self.backend.put(page);
    }

    fn try_lock(&self, page: B::Page) -> Result<B::Locked, B::Page> {
        if self.fails(Edge::TryLock(self.backend.pfn(&page))) {
            Err(page)
        } else {
            self.backend.try_lock(page)
        }
    }

    fn unlock(&self, locked: B::Locked) -> B::Page {
        self.hook.before(Edge::Unlock(self.locked_pfn(&locked)));
        self.backend.unlock(locked)
    }

    fn flags(&self, page: &B::Page) -> PageFlags {
        self.backend.flags(page)
    }

    fn edit_flags(&self, locked: &B::Locked, set: PageFlags, clear: PageFlags) -> PageFlags {
        self.backend.edit_flags(locked, set, clear)
    }

    fn mapping(&self, page: &B::Page) -> Mapping {
        self.backend.mapping(page)
    }

    fn adopt(&self, new: &B::Locked, old: &B::Locked) {
        self.backend.adopt(new, old);
    }

    fn disown(&self, locked: &B::Locked) {
        self.backend.disown(locked);
    }

    fn freeze(&self, locked: &B::Locked, expected: u32) -> Result<(), CountMismatch> {
        if self.fails(Edge::Freeze(self.locked_pfn(locked))) {
            return Err(CountMismatch {
                expected,
                found: expected.saturating_add(1),
            });
        }
        self.backend.freeze(locked, expected)
    }

    fn unfreeze(&self, locked: &B::Locked, count: u32) {
        self.backend.unfreeze(locked, count);
    }

    fn copy(&self, pair: Pair<'_, B::Locked>) -> Result<(), CopyError> {
        let (old, new) = self.pair_pfns(pair);
        if self.fails(Edge::Copy { old, new }) {
            Err(CopyError)
        } else {
            self.backend.copy(pair)
        }
    }

    fn pins(&self, page: &B::Page) -> u32 {
        self.backend.pins(page)
    }

    fn entries_out(&self, pfn: Pfn, change: i32) -> Option<u32> {
        self.backend.entries_out(pfn, change)
    }

    fn end_writeback(&self, locked: &B::Locked) {
        self.backend.end_writeback(locked);
    }
}

impl<B: Rmap, H: Hook> Rmap for Hooked<'_, B, H> {
    type Gather = B::Gather;

    fn gather(&self) -> B::Gather {
        self.backend.gather()
    }

    fn walk(&self, page: &B::Locked, gather: &mut B::Gather, visit: &mut Visit<'_>) {
        self.hook.before(Edge::Walk(self.locked_pfn(page)));
        self.backend.walk(page, gather, visit);
    }

    fn flush(&self, gather: B::Gather) {
        self.hook.before(Edge::Flush);
        self.backend.flush(gather);
    }

    fn flush_pending(&self, space: SpaceId) {
        self.backend.flush_pending(space);
    }

    fn reserve(&self, page: &B::Locked, new: Option<&B::Locked>, gather: &mut B::Gather) -> Result<(), Refusal> {
        if self.fails(Edge::Reserve(self.locked_pfn(page))) {
            return Err(Refusal::MappingLimit);
        }
        self.backend.reserve(page, new, gather)
    }

    fn is_mapped(&self, page: &B::Locked) -> bool {
        self.fails(Edge::IsMapped(self.locked_pfn(page))) || self.backend.is_mapped(page)
    }

    fn walk_nonlinear(&self, page: &B::Locked, gather: &mut B::Gather, visit: &mut Visit<'_>) {
        self.backend.walk_nonlinear(page, gather, visit);
    }
}

impl<B: Cache, H: Hook> Cache for Hooked<'_, B, H> {
    fn slots(&self, page: &B::Locked) -> u32 {
        self.backend.slots(page)
    }

    fn swap_entry(&self, page: &B::Locked) -> Option<SwapEntry> {
        self.backend.swap_entry(page)
    }

    fn mover(&self, page: &B::Locked) -> Mover {
        self.backend.mover(page)
    }

    fn switch(&self, pair: Pair<'_, B::Locked>) -> Result<u32, SlotChanged> {
        let (old, new) = self.pair_pfns(pair);
        if self.fails(Edge::Switch { old, new }) {
            Err(SlotChanged)
        } else {
            self.backend.switch(pair)
        }
    }

    fn set_dirty(&self, page: &B::Locked) {
        self.backend.set_dirty(page);
    }

    fn clear_dirty_for_io(&self, page: &B::Locked) -> bool {
        self.backend.clear_dirty_for_io(page)
    }

    fn try_lock_buffers(&self, page: &B::Locked) -> Result<(), Refusal> {
        if self.fails(Edge::TryLockBuffers(self.locked_pfn(page))) {
            return Err(Refusal::BuffersBusy);
        }
        self.backend.try_lock_buffers(page)
    }

    fn unlock_buffers(&self, page: &B::Locked) {
        self.backend.unlock_buffers(page);
    }

    fn move_buffers(&self, pair: Pair<'_, B::Locked>) {
        self.backend.move_buffers(pair);
    }

    fn release_buffers(&self, page: &B::Locked) -> bool {
        !self.fails(Edge::ReleaseBuffers(self.locked_pfn(page))) && self.backend.release_buffers(page)
    }

    fn can_write(&self, page: &B::Locked) -> bool {
        self.backend.can_write(page)
    }

    fn writeout(&self, page: B::Locked) -> Written<B::Locked, B::Page> {
        if self.fails(Edge::Writeout(self.locked_pfn(&page))) {
            self.backend.set_dirty(&page);
            return Written::Locked(page, Err(WriteError));
        }
        self.backend.writeout(page)
    }
}

impl<B: Lru, H: Hook> Lru for Hooked<'_, B, H> {
    fn isolate(&self, page: &B::Page) -> Result<B::Page, Refusal> {
        if self.fails(Edge::Isolate(self.backend.pfn(page))) {
            return Err(Refusal::NotOnLru);
        }
        self.backend.isolate(page)
    }

    fn putback(&self, page: B::Page) {
        self.hook.before(Edge::Putback(self.backend.pfn(&page)));
        self.backend.putback(page);
    }

    fn putback_direct(&self, page: B::Page) {
        self.hook.before(Edge::Putback(self.backend.pfn(&page)));
        self.backend.putback_direct(page);
    }

    fn drain(&self) {
        self.backend.drain();
    }
}

impl<B: Wait, H: Hook> Wait for Hooked<'_, B, H> {
    fn lock(&self, page: B::Page) -> B::Locked {
        self.hook.before(Edge::Lock(self.backend.pfn(&page)));
        self.backend.lock(page)
    }

    fn wait_writeback(&self, page: &B::Locked) {
        self.hook.before(Edge::WaitWriteback(self.locked_pfn(page)));
        self.backend.wait_writeback(page);
    }

    fn wait_buffers(&self, page: &B::Locked) {
        self.hook.before(Edge::WaitBuffers(self.locked_pfn(page)));
        self.backend.wait_buffers(page);
    }
}

/// A target whose takings the same hook sees first.
#[derive(Debug)]
pub struct HookedTarget<T>(pub T);

impl<B: Frames, H: Hook, T: Target<B>> Target<Hooked<'_, B, H>> for HookedTarget<T> {
    fn is_exhausted(&self) -> bool {
        self.0.is_exhausted()
    }

    fn take(&mut self, backend: &Hooked<'_, B, H>, old: &B::Page) -> Result<B::Page, Refusal> {
        if backend.fails(Edge::Take(backend.backend.pfn(old))) {
            return Err(Refusal::NoTarget);
        }
        self.0.take(backend.backend, old)
    }

    fn give_back(&mut self, backend: &Hooked<'_, B, H>, page: B::Page) {
        self.0.give_back(backend.backend, page);
    }
}

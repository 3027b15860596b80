//! A backend with somebody looking over its shoulder: before each step of the protocol a [`Hook`] may act, or make the step fail.
//!
//! [`Hooked`] delegates everything to the backend it wraps; guards and gathers are the backend's own. Scenarios do their steps in the
//! middle through it, failures are injected through it ([`FaultInjector`](crate::FaultInjector)). A hook is called with the
//! run's page locks held, but never under an entry lock, so that it may do whatever another thread could do at that moment,
//! short of waiting for the run.

use mm_types::errno;
use mm_types::{CountMismatch, Mapping, PageFlags, Pfn, Pte, Refusal, Site, SpaceId, SwapEntry};

use crate::{
    Cache, CopyError, Edge, Edited, Entry, EntryVma, Failure, Faults, Frames, Hook, Lru, Mover, Pair, Rmap,
    SlotChanged, Target, Visit, Wait, WriteError, Written,
};

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

    /// Tells the hook of the step, and returns how it fails, if it does.
    fn failure(&self, edge: Edge) -> Option<Failure> {
        self.hook.before(edge).failure(edge.kind())
    }

    fn fails(&self, edge: Edge) -> bool {
        self.failure(edge).is_some()
    }

    /// True for a new page of the run: nobody else knows it, and it belongs to nothing yet. An old page of which only the
    /// isolation is left is not locked at all.
    fn is_new(&self, page: &B::Page) -> bool {
        self.backend.count(page) == 1 && self.backend.mapping(page) == Mapping::None
    }

    /// True where somebody holds the page lock: in a step of a run, the run.
    fn is_locked(&self, page: &B::Page) -> bool {
        self.backend.flags(page).contains(PageFlags::LOCKED)
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
        let failure = self.is_locked(page).then(|| self.failure(Edge::Count(self.pfn(page))));
        let found = self.backend.count(page);
        match failure.flatten() {
            Some(Failure::ExtraReference) => found.saturating_add(1),
            // Not 1, which would say that its users have freed the page.
            Some(Failure::FewerReferences) if found == 2 => 0,
            Some(Failure::FewerReferences) => found.saturating_sub(1),
            _ => found,
        }
    }

    fn get(&self, pfn: Pfn) -> Option<B::Page> {
        self.backend.get(pfn)
    }

    fn put(&self, page: B::Page) {
        self.backend.put(page);
    }

    fn try_lock(&self, page: B::Page) -> Result<B::Locked, B::Page> {
        let pfn = self.backend.pfn(&page);
        let new = self.is_new(&page);
        if self.fails(if new { Edge::TryLockNew(pfn) } else { Edge::TryLock(pfn) }) {
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
        let failure = self.is_locked(page).then(|| self.failure(Edge::Flags(self.pfn(page))));
        let seen = match failure.flatten() {
            Some(Failure::Writeback) => PageFlags::WRITEBACK,
            Some(Failure::Poisoned) => PageFlags::HWPOISON,
            _ => PageFlags::empty(),
        };
        self.backend.flags(page).union(seen)
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
        let found = match self.failure(Edge::Freeze(self.locked_pfn(locked))) {
            None => return self.backend.freeze(locked, expected),
            Some(Failure::FewerReferences) => expected.saturating_sub(1),
            Some(_) => expected.saturating_add(1),
        };
        Err(CountMismatch { expected, found })
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
        let more = u32::from(self.fails(Edge::Pins(self.pfn(page))));
        self.backend.pins(page).saturating_add(more)
    }

    fn entries_out(&self, pfn: Pfn, change: i32) -> Option<u32> {
        self.backend.entries_out(pfn, change)
    }

    fn end_writeback(&self, locked: &B::Locked) {
        self.backend.end_writeback(locked);
    }
}

/// An entry of an area that is locked in memory, or is what it is.
struct InArea<'e> {
    entry: &'e mut dyn Entry,
    locked: bool,
}

impl Entry for InArea<'_> {
    fn site(&self) -> Site {
        self.entry.site()
    }

    fn read(&self) -> Pte {
        self.entry.read()
    }

    fn update(&mut self, edit: &dyn Fn(Pte) -> Option<Pte>) -> Option<Edited> {
        self.entry.update(edit)
    }

    fn vma(&self) -> EntryVma {
        let vma = self.entry.vma();
        EntryVma {
            locked: vma.locked || self.locked,
            ..vma
        }
    }
}

impl<B: Rmap, H: Hook> Rmap for Hooked<'_, B, H> {
    type Gather = B::Gather;

    fn gather(&self) -> B::Gather {
        self.backend.gather()
    }

    fn walk(&self, page: &B::Locked, gather: &mut B::Gather, visit: &mut Visit<'_>) {
        let pfn = self.locked_pfn(page);
        let mut locked = match self.failure(Edge::Walk(pfn)) {
            None => return self.backend.walk(page, gather, visit),
            Some(failure) => failure == Failure::Mlocked,
        };
        self.backend.walk(page, gather, &mut |entry| {
            let maps = entry.read().maps(pfn);
            let flow = visit(&mut InArea { entry, locked });
            locked |= maps;
            flow
        });
    }

    fn flush(&self, gather: B::Gather) {
        self.hook.before(Edge::Flush);
        self.backend.flush(gather);
    }

    fn flush_pending(&self, space: SpaceId) {
        self.backend.flush_pending(space);
    }

    fn reserve(&self, page: &B::Locked, new: Option<&B::Locked>, gather: &mut B::Gather) -> Result<(), Refusal> {
        match self.failure(Edge::Reserve(self.locked_pfn(page))) {
            None => self.backend.reserve(page, new, gather),
            Some(Failure::Backend) => Err(Refusal::Backend { code: errno::EIO }),
            Some(_) => Err(Refusal::MappingLimit),
        }
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
        let slots = self.backend.slots(page);
        // Of one without private data nothing would tell but the count, which is there to fail by itself.
        let flags = || self.backend.flags(self.backend.page(page));
        let tells = slots > 0 && flags().contains(PageFlags::PRIVATE);
        if tells && self.fails(Edge::Slots(self.locked_pfn(page))) {
            0
        } else {
            slots
        }
    }

    fn swap_entry(&self, page: &B::Locked) -> Option<SwapEntry> {
        self.backend.swap_entry(page)
    }

    fn mover(&self, page: &B::Locked) -> Mover {
        match self.failure(Edge::Mover(self.locked_pfn(page))) {
            None => {}
            // Whoever has a reference may, locked or not.
            Some(Failure::Dirtied) => self.backend.set_dirty(page),
            Some(_) => return Mover::Never,
        }
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
        // Once it has switched the old page is in no slot, and nobody else can have cleaned it: no step that could fail.
        let reachable = self.backend.slots(page) > 0;
        !(reachable && self.fails(Edge::ClearDirty(self.locked_pfn(page)))) && self.backend.clear_dirty_for_io(page)
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
        !self.fails(Edge::CanWrite(self.locked_pfn(page))) && self.backend.can_write(page)
    }

    fn writeout(&self, page: B::Locked) -> Written<B::Locked, B::Page> {
        let Some(failure) = self.failure(Edge::Writeout(self.locked_pfn(&page))) else {
            return self.backend.writeout(page);
        };
        // What was not written, or not for good, is dirty again when the file system says so (I11).
        self.backend.set_dirty(&page);
        match failure {
            Failure::WriteFailedUnlocked => Written::Unlocked(self.backend.unlock(page), Err(WriteError)),
            Failure::Redirtied => Written::Unlocked(self.backend.unlock(page), Ok(())),
            Failure::Activate => Written::Locked(page, Ok(())),
            _ => Written::Locked(page, Err(WriteError)),
        }
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
        let late = self.fails(Edge::Lock(self.backend.pfn(&page)));
        let locked = self.backend.lock(page);
        if !late {
            return locked;
        }
        // This was somebody else's turn.
        let page = self.backend.unlock(locked);
        self.backend.lock(page)
    }

    fn wait_writeback(&self, page: &B::Locked) {
        self.hook.before(Edge::WaitWriteback(self.locked_pfn(page)));
        self.backend.wait_writeback(page);
    }

    fn wait_buffers(&self, page: &B::Locked) {
        if !self.fails(Edge::WaitBuffers(self.locked_pfn(page))) {
            self.backend.wait_buffers(page);
        }
    }
}

impl<B: Faults, H: Hook> Faults for Hooked<'_, B, H> {
    fn wait_on(&self, site: Site, look: &mut dyn FnMut(Pte) -> Option<Pfn>) {
        let early = self.fails(Edge::WaitOn(site));
        self.backend.wait_on(site, &mut |pte| look(pte).filter(|_| !early));
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
        match backend.failure(Edge::Take(backend.backend.pfn(old))) {
            None => self.0.take(backend.backend, old),
            Some(Failure::StallBudget) => Err(Refusal::StallBudget),
            Some(Failure::Backend) => Err(Refusal::Backend { code: errno::EIO }),
            Some(_) => Err(Refusal::NoTarget),
        }
    }

    fn give_back(&mut self, backend: &Hooked<'_, B, H>, page: B::Page) {
        self.0.give_back(backend.backend, page);
    }
}

#[cfg(test)]
mod tests;

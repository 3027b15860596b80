//! The model's fixture, over the wrapper.

use core::cell::{Cell, RefCell};
use core::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use migrate_core::fixture::{Access, Capabilities, Fixture, FixtureError, Recording};
use migrate_core::model::ModelFixture;
use migrate_core::{Frames, LockedPage, PageRef, Profile};
use mm_types::scenario::{Mover, Sharing};
use mm_types::trace::{Event, Observer as _};
use mm_types::{ActorId, MappingId, MigrationEntry, PageFlags, Pfn, Pte, PteFlags, Site, SpaceId};

use super::backend::Backend;
use super::wrong::Wrong;

/// A fixture with one defect.
#[derive(Debug)]
pub(crate) struct WrongFixture {
    backend: Backend,
    /// What threads that wait hold, in the one that is wrong so.
    held: RefCell<Vec<PageRef>>,
    /// What the last case recorded and used, for whoever wants to look at it afterwards.
    recorded: Arc<Mutex<Seen>>,
}

/// What a case did with its fixture.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) recording: Option<Arc<Recording>>,
    pub(crate) loads: u32,
    pub(crate) stores: u32,
    /// What was to be stored last.
    pub(crate) last: u64,
    /// How big it had to be: spaces, pages of each, frames that were mapped.
    pub(crate) spaces: u32,
    pub(crate) pages: u64,
    pub(crate) frames: usize,
}

impl WrongFixture {
    pub(crate) fn new(wrong: Wrong) -> Self {
        Self {
            backend: Backend {
                inner: ModelFixture::new(),
                wrong,
                tries: Cell::new(0),
            },
            held: RefCell::default(),
            recorded: Arc::default(),
        }
    }

    /// Without a defect, and with a place for what a case records.
    pub(crate) fn recorded(place: &Arc<Mutex<Seen>>) -> Self {
        Self {
            recorded: Arc::clone(place),
            ..Self::new(Wrong::Nothing)
        }
    }

    fn is(&self, wrong: Wrong) -> bool {
        self.backend.wrong == wrong
    }

    /// True where a system call of the kind that passes entries in flight by has one before it.
    fn passes_by(&self, site: Site, wrong: Wrong) -> bool {
        self.is(wrong) && self.entry(site).is_migration()
    }

    fn see(&self, what: impl FnOnce(&mut Seen)) {
        what(&mut self.recorded.lock().expect("no case panics with it"));
    }

    fn loads(&self) {
        self.see(|seen| seen.loads += 1);
    }

    fn site(&self, site: Site) {
        self.see(|seen| seen.pages = seen.pages.max(site.page.raw() + 1));
    }

    fn mapped(&self, site: Site) {
        self.site(site);
        self.see(|seen| seen.frames += 1);
    }

    fn stores(&self, value: u64) {
        self.see(|seen| (seen.stores, seen.last) = (seen.stores + 1, value));
    }
}

/// Methods that are the model's.
macro_rules! delegate {
    ($(fn $name:ident(&self $(, $arg:ident: $of:ty)*) $(-> $result:ty)?;)*) => {
        $(fn $name(&self $(, $arg: $of)*) $(-> $result)? {
            self.backend.inner.$name($($arg),*)
        })*
    };
}

impl Fixture for WrongFixture {
    type Backend = Backend;

    fn backend(&self) -> &Backend {
        &self.backend
    }

    fn begin(&mut self, profile: &'static Profile, recording: Arc<Recording>) {
        self.see(|seen| {
            *seen = Seen {
                recording: Some(Arc::clone(&recording)),
                ..Seen::default()
            };
        });
        self.backend.inner.begin(profile, recording);
    }

    fn map_anon(&self, site: Site, writable: bool) -> Result<Pfn, FixtureError> {
        let writable = writable || self.is(Wrong::MapsWritable);
        self.mapped(site);
        let pfn = self.backend.inner.map_anon(site, writable)?;
        if self.is(Wrong::TellsOfALock) {
            self.see(|seen| {
                if let Some(recording) = &seen.recording {
                    recording.event(Event::Lock(pfn));
                }
            });
        }
        Ok(pfn)
    }

    fn space(&self) -> Result<SpaceId, FixtureError> {
        self.see(|seen| seen.spaces += 1);
        self.backend.inner.space()
    }

    fn share(&self, pfn: Pfn, to: Site, writable: bool) -> Result<(), FixtureError> {
        self.site(to);
        self.backend.inner.share(pfn, to, writable)
    }

    fn map_file(
        &self,
        file: MappingId,
        index: u64,
        site: Site,
        writable: bool,
        sharing: Sharing,
    ) -> Result<Pfn, FixtureError> {
        self.mapped(site);
        self.backend.inner.map_file(file, index, site, writable, sharing)
    }

    fn read(&self, site: Site) -> Result<u64, FixtureError> {
        self.loads();
        self.backend.inner.read(site)
    }

    fn write(&self, site: Site, value: u64) -> Result<(), FixtureError> {
        self.stores(value);
        self.backend.inner.write(site, value)?;
        if let (true, Some(pfn)) = (self.is(Wrong::StoresClean), self.page_at(site)) {
            self.backend.edit_entries(pfn, &|pte| match pte {
                Pte::Present { pfn, flags } => Some(Pte::present(pfn, flags - PteFlags::DIRTY)),
                _ => None,
            });
        }
        Ok(())
    }

    fn fork(&self, parent: SpaceId) -> Result<SpaceId, FixtureError> {
        self.see(|seen| seen.spaces += 1);
        let child = self.backend.inner.fork(parent)?;
        let raw = |site: Site| match self.entry(site) {
            Pte::Present { pfn, .. } if self.is(Wrong::ForkCopiesRaw) => Some(pfn),
            Pte::Migration(entry) if self.is(Wrong::ForkCopiesRawInFlight) => Some(entry.pfn()),
            _ => None,
        };
        for (site, _) in self.backend.inner.backend().entries(child) {
            if let Some(pfn) = raw(site) {
                self.backend.edit_entries(pfn, &|pte| match pte {
                    Pte::Present { pfn, flags } => Some(Pte::present(pfn, flags | PteFlags::WRITE)),
                    Pte::Migration(entry) => Some(Pte::Migration(
                        MigrationEntry::writable(entry.pfn()).with_flags(entry.flags()),
                    )),
                    _ => None,
                });
            }
        }
        Ok(child)
    }

    fn protect(&self, site: Site, writable: bool) -> Result<(), FixtureError> {
        if self.passes_by(site, Wrong::ProtectPassesByInFlight) {
            return Ok(());
        }
        self.backend.inner.protect(site, writable)
    }

    fn unmap(&self, site: Site) -> Result<(), FixtureError> {
        if self.passes_by(site, Wrong::UnmapPassesByInFlight) {
            return Ok(());
        }
        self.backend.inner.unmap(site)
    }

    fn remap(&self, from: Site, to: Site) -> Result<(), FixtureError> {
        self.site(to);
        let loses = self.passes_by(from, Wrong::RemapLosesInFlight);
        self.backend.inner.remap(from, to)?;
        if loses { self.backend.inner.unmap(to) } else { Ok(()) }
    }

    fn truncate(&self, pfn: Pfn) -> Result<(), FixtureError> {
        let mapped = self.backend.inner.backend().page(pfn).mapcount() > 0;
        if self.is(Wrong::TruncatePassesByInFlight) && !mapped {
            return Ok(());
        }
        self.backend.inner.truncate(pfn)
    }

    fn new_page(&self) -> Result<PageRef, FixtureError> {
        let page = self.backend.inner.new_page()?;
        if !self.is(Wrong::NewPageDirty) {
            return Ok(page);
        }
        let locked = self.backend.try_lock(page).expect("a new page is locked by nobody");
        self.backend.edit_flags(&locked, PageFlags::DIRTY, PageFlags::empty());
        Ok(self.backend.unlock(locked))
    }

    fn fault(&self, actor: ActorId, site: Site, store: Option<u64>) -> Result<Access, FixtureError> {
        store.map_or_else(|| self.loads(), |value| self.stores(value));
        if self.passes_by(site, Wrong::NeverSleeps) {
            return Ok(Access::Done(0));
        }
        let access = self.backend.inner.fault(actor, site, store)?;
        if access == Access::Asleep && self.is(Wrong::ReferenceWhileWaiting) {
            let page = self.entry(site).pfn().and_then(|pfn| self.backend.get(pfn));
            self.held.borrow_mut().extend(page);
        }
        Ok(access)
    }

    fn finish_faults(&self) -> Result<Vec<(ActorId, u64)>, FixtureError> {
        self.held.take().into_iter().for_each(|page| self.backend.put(page));
        // A fixture may sleep here for any page lock.
        if let (true, Some(locked)) = (self.is(Wrong::Nothing), self.backend.locked_page()) {
            panic!("threads are waited for while somebody has the lock of {locked:?}");
        }
        self.backend.inner.finish_faults()
    }

    delegate! {
        fn capabilities(&self) -> Capabilities;
        fn entry(&self, site: Site) -> Pte;
        fn check(&self) -> Result<(), String>;
        fn exit(&self, space: SpaceId) -> Result<(), FixtureError>;
        fn pin(&self, pfn: Pfn) -> Result<(), FixtureError>;
        fn unpin(&self, pfn: Pfn) -> Result<(), FixtureError>;
        fn file(&self, pages: u64, mover: Mover) -> Result<MappingId, FixtureError>;
        fn nonlinear(&self, site: Site) -> Result<(), FixtureError>;
        fn cached(&self, file: MappingId, index: u64) -> Result<Option<Pfn>, FixtureError>;
        fn stored(&self, file: MappingId, index: u64) -> Result<u64, FixtureError>;
        fn free(&self, pfn: Pfn) -> Result<(), FixtureError>;
        fn dirty(&self, pfn: Pfn) -> Result<(), FixtureError>;
        fn buffers_busy(&self, pfn: Pfn, busy: bool) -> Result<(), FixtureError>;
        fn writeback(&self, pfn: Pfn, on: bool) -> Result<(), FixtureError>;
        fn end_writeback_later(&self, pfn: Pfn) -> Result<(), FixtureError>;
        fn unlock_later(&self, locked: LockedPage, opened: Arc<AtomicBool>) -> Result<(), FixtureError>;
        fn swap_cache(&self, pfn: Pfn) -> Result<(), FixtureError>;
        fn mlock(&self, site: Site) -> Result<(), FixtureError>;
    }
}

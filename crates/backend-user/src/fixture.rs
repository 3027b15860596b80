//! A machine as scenarios and the conformance kit drive it: the same texts as on any backend, over real memory and real threads.
//!
//! Loads and stores are the processor's own, through the mappings, and fault. So that its traces are those of every backend, the
//! machine learns of every first store (there is no dirty bit), brings in one page at a time, and says exclusive only in the
//! profile that knows it.
//!
//! What it does at sites is in `fixture/sites.rs`, with loads and stores in `fixture/accesses.rs`, with files in `fixture/files.rs`.

mod accesses;
mod files;
mod sites;

use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use migrate_core::fixture::{Access, Capabilities, Fixture, FixtureError, Recording};
use migrate_core::{Frames, LockedPage, Lru as _, MODERN, PageRef, Profile, UsesPageMap, end_page_writeback};
use mm_types::scenario::{Mover, Sharing};
use mm_types::{ActorId, Backing, MappingId, NodeId, PageFlags, Pfn, Pte, Rules, Site, SpaceId, VmaFlags, Vpn};

use crate::kernel::{Kernel, lock};
use crate::machine::Machine;
use crate::private::{Engine, EngineInUse};
use crate::spaces::Space;

use sites::{page_of, vma_of};

/// Pages of each space.
const PAGES: usize = 1 << 10;
/// Frames of each node.
const FRAMES: usize = 128;
const SOURCE: NodeId = NodeId::new(0);
const TARGET: NodeId = NodeId::new(1);
/// What an area that is mapped by a scenario may be made to allow.
const MAY: VmaFlags = VmaFlags::READ.union(VmaFlags::MAYREAD).union(VmaFlags::MAYWRITE);

/// A machine of its own for each scenario.
#[derive(Debug)]
pub struct UserFixture {
    engine: Engine,
    machine: Machine,
    recording: Arc<Recording>,
    spaces: Mutex<Vec<Option<Space>>>,
    threads: Mutex<Vec<(ActorId, JoinHandle<u64>)>>,
    /// Threads that end a wait.
    wakers: Mutex<Vec<JoinHandle<()>>>,
    /// Pages that were locked when they were to be cut off their file.
    truncating: Mutex<Vec<(MappingId, usize)>>,
}

fn boot(engine: Engine, profile: &'static Profile, recording: Option<Arc<Recording>>) -> Machine {
    let mut builder = Machine::builder()
        .engine(engine)
        .frames_per_node(FRAMES)
        .fault_around(1)
        .ballast(64)
        .hidden_while_copied();
    builder.options.learn_dirty = true;
    builder.options.exclusive = profile.rules == Rules::Modern;
    if let Some(recording) = recording {
        builder = builder.trace(recording);
    }
    #[expect(clippy::expect_used, reason = "a fixture has no way to say that there is no memory")]
    let machine = builder.build().expect("a small machine");
    if profile.rules == Rules::Linux2617 {
        machine.kernel().runs_2006.fetch_add(1, Ordering::Relaxed);
    }
    machine
}

impl Default for UserFixture {
    fn default() -> Self {
        Self::on(Engine::Shared)
    }
}

impl UserFixture {
    /// Makes one whose private pages move by userfaultfd, where the system lets them; what needs two places of a page is not
    /// applicable then.
    #[must_use]
    pub fn private() -> Self {
        Self::on(Engine::Auto)
    }

    /// Returns the engine that moves private pages, and why it is that one.
    #[must_use]
    pub fn engine(&self) -> EngineInUse {
        self.machine.engine()
    }

    fn on(engine: Engine) -> Self {
        Self {
            engine,
            machine: boot(engine, &MODERN, None),
            recording: Arc::new(Recording::with_capacity(0)),
            spaces: Mutex::default(),
            threads: Mutex::default(),
            wakers: Mutex::default(),
            truncating: Mutex::default(),
        }
    }
}

fn other(error: impl core::fmt::Display) -> FixtureError {
    FixtureError::Other(error.to_string())
}

impl UserFixture {
    fn kernel(&self) -> &Kernel {
        self.machine.kernel()
    }

    fn flag(&self, pfn: Pfn, set: PageFlags, clear: PageFlags) -> Result<(), FixtureError> {
        let page = self.kernel().page(pfn).filter(|page| page.count() != 0);
        let page = page.ok_or(FixtureError::BadFrame(pfn))?;
        let _ = page.flags().edit(set, clear);
        Ok(())
    }
}

impl Fixture for UserFixture {
    type Backend = Kernel;

    fn backend(&self) -> &Kernel {
        self.kernel()
    }

    fn capabilities(&self) -> Capabilities {
        let places = match self.engine() {
            EngineInUse::Shared(_) => Capabilities::SHARED | Capabilities::FORK,
            EngineInUse::Private(_) => Capabilities::empty(),
        };
        places
            | Capabilities::ANON
            | Capabilities::SEVERAL_SPACES
            | Capabilities::PROTECT
            | Capabilities::UNMAP
            | Capabilities::REMAP
            | Capabilities::PIN
            | Capabilities::FILE
            | Capabilities::DIRTY_FILE
            | Capabilities::MLOCK
            | Capabilities::TRUNCATE
            | Capabilities::WRITEBACK
            | Capabilities::EXTRA_REF
            | Capabilities::LOCK_BY_OTHER
            | Capabilities::FAULT_THREAD
            | Capabilities::MIDDLE
            | Capabilities::WHOLE_PAGES
            | Capabilities::LATER
    }

    fn begin(&mut self, profile: &'static Profile, recording: Arc<Recording>) {
        lock(&self.spaces).clear();
        self.machine = boot(self.engine, profile, Some(recording.clone()));
        self.recording = recording;
    }

    fn space(&self) -> Result<SpaceId, FixtureError> {
        Ok(self.keep(self.machine.space(PAGES).map_err(other)?))
    }

    fn map_anon(&self, site: Site, writable: bool) -> Result<Pfn, FixtureError> {
        let flags = if writable { MAY | VmaFlags::WRITE } else { MAY };
        if self.kernel().free_on(SOURCE) == 0 {
            return Err(FixtureError::NoFrame);
        }
        self.map(site, vma_of(site, flags)?)
    }

    fn read(&self, site: Site) -> Result<u64, FixtureError> {
        self.access(site, 0, None)
    }

    fn write(&self, site: Site, value: u64) -> Result<(), FixtureError> {
        self.access(site, 0, Some(value)).map(drop)
    }

    fn read_word(&self, site: Site, word: usize) -> Result<u64, FixtureError> {
        self.access(site, word, None)
    }

    fn write_word(&self, site: Site, word: usize, value: u64) -> Result<(), FixtureError> {
        self.access(site, word, Some(value)).map(drop)
    }

    fn entry(&self, site: Site) -> Pte {
        self.mm(site).map_or(Pte::None, |(mm, page)| mm.read(page))
    }

    fn new_page(&self) -> Result<PageRef, FixtureError> {
        self.kernel().allocate_on(TARGET).ok_or(FixtureError::NoFrame)
    }

    fn check(&self) -> Result<(), String> {
        self.finish_truncations();
        self.kernel().drain();
        self.kernel().recount()
    }

    fn share(&self, pfn: Pfn, to: Site, writable: bool) -> Result<(), FixtureError> {
        self.map_again(pfn, to, writable)
    }

    fn fork(&self, parent: SpaceId) -> Result<SpaceId, FixtureError> {
        Ok(self.keep(self.handle(parent)?.fork().map_err(other)?))
    }

    fn protect(&self, site: Site, writable: bool) -> Result<(), FixtureError> {
        self.vma(site)?;
        let (space, page) = (self.handle(site.space)?, page_of(site)?);
        let prot = if writable {
            crate::Prot::ReadWrite
        } else {
            crate::Prot::Read
        };
        space.protect(&space.area(page..page + 1), prot).map_err(other)
    }

    fn unmap(&self, site: Site) -> Result<(), FixtureError> {
        self.vma(site)?;
        let (mm, page) = self.mm(site)?;
        self.kernel().unmap(&mm, page..page + 1).map_err(other)
    }

    fn exit(&self, space: SpaceId) -> Result<(), FixtureError> {
        let gone = lock(&self.spaces).get_mut(space.raw() as usize).and_then(Option::take);
        gone.map(drop)
            .ok_or(FixtureError::BadSite(Site::new(space, Vpn::new(0))))
    }

    fn remap(&self, from: Site, to: Site) -> Result<(), FixtureError> {
        let ((mm, page), into) = (self.mm(from)?, page_of(to)?);
        let areas = self.kernel().areas_mut();
        let done = self.kernel().remap(&mm, areas, page..page + 1, into..into + 1);
        done.map_err(|_| FixtureError::BadSite(to))
    }

    fn pin(&self, pfn: Pfn) -> Result<(), FixtureError> {
        let held = PageRef::get(self.kernel().page_map(), pfn).ok_or(FixtureError::BadFrame(pfn))?;
        let page = self.kernel().page(held.pfn()).ok_or(FixtureError::BadFrame(pfn))?;
        page.add_pin();
        Ok(())
    }

    fn unpin(&self, pfn: Pfn) -> Result<(), FixtureError> {
        let page = self.kernel().page(pfn).filter(|page| page.pins() != 0);
        page.ok_or(FixtureError::BadFrame(pfn))?.remove_pin();
        self.kernel().put(PageRef::counted(pfn));
        Ok(())
    }

    fn file(&self, pages: u64, mover: Mover) -> Result<MappingId, FixtureError> {
        self.new_file(pages, mover)
    }

    fn map_file(
        &self,
        file: MappingId,
        index: u64,
        site: Site,
        writable: bool,
        sharing: Sharing,
    ) -> Result<Pfn, FixtureError> {
        let mut flags = MAY;
        flags.set(VmaFlags::WRITE, writable);
        flags.set(VmaFlags::SHARED, sharing == Sharing::Shared);
        let mut vma = vma_of(site, flags)?;
        vma.backing = Backing::File(file);
        vma.pgoff = usize::try_from(index).map_err(other)?;
        self.map(site, vma)
    }

    fn cached(&self, file: MappingId, index: u64) -> Result<Option<Pfn>, FixtureError> {
        let index = usize::try_from(index).map_err(other)?;
        Ok(lock(&self.kernel().cache).lookup(file, index))
    }

    fn stored(&self, file: MappingId, index: u64) -> Result<u64, FixtureError> {
        self.on_disk(file, index)
    }

    fn truncate(&self, pfn: Pfn) -> Result<(), FixtureError> {
        self.cut_off_or_defer(pfn)
    }

    fn free(&self, pfn: Pfn) -> Result<(), FixtureError> {
        self.sites(pfn).into_iter().try_for_each(|site| self.unmap(site))?;
        if self.kernel().slot_of(pfn).is_some() {
            self.truncate(pfn)?;
        }
        Ok(())
    }

    fn dirty(&self, pfn: Pfn) -> Result<(), FixtureError> {
        self.flag(pfn, PageFlags::DIRTY, PageFlags::empty())
    }

    fn writeback(&self, pfn: Pfn, on: bool) -> Result<(), FixtureError> {
        if on {
            return self.flag(pfn, PageFlags::WRITEBACK, PageFlags::empty());
        }
        self.kernel().page(pfn).ok_or(FixtureError::BadFrame(pfn))?;
        end_page_writeback(self.kernel(), pfn);
        Ok(())
    }

    fn end_writeback_later(&self, pfn: Pfn) -> Result<(), FixtureError> {
        self.kernel().page(pfn).ok_or(FixtureError::BadFrame(pfn))?;
        self.once_slept_for(pfn, move |kernel| end_page_writeback(kernel, pfn));
        Ok(())
    }

    fn unlock_later(&self, locked: LockedPage, opened: Arc<AtomicBool>) -> Result<(), FixtureError> {
        self.once_slept_for(locked.pfn(), move |kernel| {
            opened.store(true, Ordering::Release);
            kernel.put(kernel.unlock(locked));
        });
        Ok(())
    }

    fn mlock(&self, site: Site) -> Result<(), FixtureError> {
        self.vma(site)?;
        let end = Vpn::new(site.page.raw() + 1);
        let locked = self
            .kernel()
            .areas_mut()
            .set_flags(site.space, site.page, end, |f| f | VmaFlags::LOCKED);
        locked.map_err(other)
    }

    fn fault(&self, actor: ActorId, site: Site, store: Option<u64>) -> Result<Access, FixtureError> {
        self.access_on_thread(actor, site, store)
    }

    fn finish_faults(&self) -> Result<Vec<(ActorId, u64)>, FixtureError> {
        self.finish_truncations();
        self.join_threads()
    }
}

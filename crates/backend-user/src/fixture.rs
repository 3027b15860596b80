//! A machine as scenarios and the conformance kit drive it: the same texts as on any backend, over real memory and real threads.
//!
//! Loads and stores are the processor's own, through the mappings, and fault. So that its traces are those of every backend, the
//! machine learns of every first store (there is no dirty bit), brings in one page at a time, and says exclusive only in the
//! profile that knows it.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle};

use migrate_core::fixture::{Access, Capabilities, Fixture, FixtureError, Recording};
use migrate_core::{Entry, Frames, Lru as _, MODERN, PageRef, Profile, UsesPageMap, end_page_writeback};
use mm_types::scenario::{Mover, Sharing};
use mm_types::{
    ActorId, Backing, Mapping, MappingId, NodeId, PAGE_SIZE, PageFlags, Pfn, Pte, PteFlags, Rules, Site, SpaceId, Vma,
    VmaFlags, Vpn,
};

use crate::file::Cached;
use crate::fill::Filled;
use crate::kernel::{Kernel, lock};
use crate::machine::Machine;
use crate::mm::Mm;
use crate::private::{Engine, EngineInUse};
use crate::rmap::Slot;
use crate::spaces::Space;
use crate::trace::{Tracer, set_actor};

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

    fn on(engine: Engine) -> Self {
        Self {
            engine,
            machine: boot(engine, &MODERN, None),
            recording: Arc::new(Recording::with_capacity(0)),
            spaces: Mutex::default(),
            threads: Mutex::default(),
            truncating: Mutex::default(),
        }
    }
}

fn other(error: impl core::fmt::Display) -> FixtureError {
    FixtureError::Other(error.to_string())
}

fn page_of(site: Site) -> Result<usize, FixtureError> {
    let page = usize::try_from(site.page.raw()).ok().filter(|page| *page < PAGES);
    page.ok_or(FixtureError::BadSite(site))
}

fn vma_of(site: Site, flags: VmaFlags) -> Result<Vma, FixtureError> {
    let end = site.page.checked_add(1).ok_or(FixtureError::BadSite(site))?;
    Ok(Vma::anon(site.space, site.page, end, flags))
}

impl UserFixture {
    fn kernel(&self) -> &Kernel {
        self.machine.kernel()
    }

    fn handle(&self, id: SpaceId) -> Result<Space, FixtureError> {
        let spaces = lock(&self.spaces);
        let space = spaces.get(id.raw() as usize).cloned().flatten();
        space.ok_or(FixtureError::BadSite(Site::new(id, Vpn::new(0))))
    }

    fn mm(&self, site: Site) -> Result<(Arc<Mm>, usize), FixtureError> {
        Ok((self.handle(site.space)?.mm().clone(), page_of(site)?))
    }

    fn keep(&self, space: Space) -> SpaceId {
        let id = space.id();
        lock(&self.spaces).push(Some(space));
        id
    }

    fn vma(&self, site: Site) -> Result<Vma, FixtureError> {
        self.kernel()
            .areas()
            .vmas
            .find(site)
            .copied()
            .ok_or(FixtureError::BadSite(site))
    }

    /// Enters an area of one page, and brings the page in; the runner notes that.
    fn map(&self, site: Site, vma: Vma) -> Result<Pfn, FixtureError> {
        let (mm, page) = self.mm(site)?;
        let kernel = self.kernel();
        kernel.areas_mut().add(vma).map_err(|_| FixtureError::BadSite(site))?;
        match kernel.fill_noting(&mm, page, false, 1, Tracer(None)) {
            Ok(Filled::Accessible) => {}
            Ok(Filled::Busy(pfn)) => return Err(FixtureError::BadFrame(pfn)),
            Err(_) => return Err(FixtureError::NoFrame),
        }
        kernel.drain();
        self.page_at(site).ok_or(FixtureError::BadSite(site))
    }

    /// Replaces an entry, and makes that real.
    fn edit(&self, site: Site, edit: impl Fn(Pte) -> Option<Pte>) -> Result<(), FixtureError> {
        let (mm, page) = self.mm(site)?;
        let mut state = mm.lock();
        let _ = Slot::new(self.kernel(), &mm, &mut state, page, &Vma::default()).update(&edit);
        let settled = mm.settle(self.kernel(), &mut state);
        drop(state);
        settled.map_err(other)
    }

    /// The sites of a page's mappings, and of the migration entries that name it.
    fn sites(&self, pfn: Pfn) -> Vec<Site> {
        let mut sites = Vec::new();
        self.kernel()
            .areas()
            .sites(self.kernel().page_map(), pfn, |mm, _, page| {
                if mm.read(page).pfn() == Some(pfn) {
                    sites.push(mm.site(page));
                }
                true
            });
        sites
    }

    /// A word of a page, as a program reaches it; refused where the access would sleep, or end the process.
    fn word(&self, site: Site, word: usize, write: bool) -> Result<(Space, *const AtomicU64), FixtureError> {
        let space = self.handle(site.space)?;
        let needs = if write { VmaFlags::WRITE } else { VmaFlags::READ };
        if !self.vma(site)?.flags.contains(needs) {
            return Err(FixtureError::Killed(site));
        }
        let offset = word.checked_mul(size_of::<u64>()).filter(|offset| *offset < PAGE_SIZE);
        let offset = page_of(site)? * PAGE_SIZE + offset.ok_or(FixtureError::BadSite(site))?;
        let at = space.mm().range.as_ptr().wrapping_add(offset);
        Ok((space, at.cast_const().cast()))
    }

    fn access(&self, site: Site, word: usize, store: Option<u64>) -> Result<u64, FixtureError> {
        let (_space, at) = self.word(site, word, store.is_some())?;
        if self.entry(site).is_migration() {
            return Err(other("the access would sleep"));
        }
        set_actor(ActorId::new(0));
        Ok(touch(at, store))
    }

    fn cut_off(&self, file: MappingId, index: usize) -> bool {
        let kernel = self.kernel();
        let areas = kernel.areas();
        let Some(cached) = areas.file(file).cloned() else {
            return true;
        };
        drop(areas);
        if kernel.zap_file(&cached, |at| at == index).is_err() {
            return false;
        }
        let Some(page) = kernel.cached(file, index) else {
            return true;
        };
        match kernel.try_lock(page) {
            Ok(page) => {
                kernel.cut_off(&cached, index, page);
                true
            }
            Err(page) => {
                kernel.put(page);
                false
            }
        }
    }

    fn finish_truncations(&self) {
        for (file, index) in core::mem::take(&mut *lock(&self.truncating)) {
            if !self.cut_off(file, index) {
                lock(&self.truncating).push((file, index));
            }
        }
    }

    fn flag(&self, pfn: Pfn, set: PageFlags, clear: PageFlags) -> Result<(), FixtureError> {
        let page = self.kernel().page(pfn).filter(|page| page.count() != 0);
        let page = page.ok_or(FixtureError::BadFrame(pfn))?;
        let _ = page.flags().edit(set, clear);
        Ok(())
    }
}

/// Loads or stores the word at `at`, which is in an area that allows it; returns what was loaded, or stored.
fn touch(at: *const AtomicU64, store: Option<u64>) -> u64 {
    // SAFETY: a word of a space that the caller holds, in an area that allows the access: it is there, or comes by a fault.
    let word = unsafe { &*at };
    match store {
        Some(value) => {
            word.store(value, Ordering::SeqCst);
            value
        }
        None => word.load(Ordering::SeqCst),
    }
}

impl Fixture for UserFixture {
    type Backend = Kernel;

    fn backend(&self) -> &Kernel {
        self.kernel()
    }

    fn capabilities(&self) -> Capabilities {
        let places = match self.machine.engine() {
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
        let kernel = self.kernel();
        let page = kernel.page(pfn).ok_or(FixtureError::BadFrame(pfn))?;
        let sites = self.sites(pfn);
        let first = *sites.first().ok_or(FixtureError::BadFrame(pfn))?;
        let mut flags = MAY | VmaFlags::SHARED;
        flags.set(VmaFlags::WRITE, writable);
        let mut vma = vma_of(to, flags)?;
        vma.pgoff = page.index();
        if let Mapping::File(file) = page.mapping() {
            vma.backing = Backing::File(file);
        } else {
            // Nobody has it alone any more, and a store is to be seen by all of them.
            for site in sites {
                let end = Vpn::new(site.page.raw() + 1);
                let shared = kernel
                    .areas_mut()
                    .set_flags(site.space, site.page, end, |flags| flags | VmaFlags::SHARED);
                shared.map_err(other)?;
                self.edit(site, |pte| match pte {
                    Pte::Present { pfn, flags } => Some(Pte::present(pfn, flags - PteFlags::EXCLUSIVE)),
                    _ => None,
                })?;
            }
        }
        let parent = self.vma(first)?;
        kernel
            .areas_mut()
            .add_child(&parent, vma)
            .map_err(|_| FixtureError::BadSite(to))?;
        let flags = if writable { PteFlags::WRITE } else { PteFlags::empty() };
        self.edit(to, |_| Some(Pte::present(pfn, flags)))
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
        let mover = match mover {
            Mover::Plain => migrate_core::Mover::Plain,
            Mover::Never => migrate_core::Mover::Never,
            Mover::FallbackNowrite => migrate_core::Mover::Fallback,
            Mover::Buffers => return Err(FixtureError::NotApplicable(Capabilities::BUFFERS)),
            Mover::Fallback => return Err(FixtureError::NotApplicable(Capabilities::WRITEOUT)),
        };
        let file = scratch_file(pages).map_err(other)?;
        let mut areas = self.kernel().areas_mut();
        let id = MappingId::new(u32::try_from(areas.files.len()).map_err(other)?);
        areas.files.push(Some(Arc::new(Cached {
            id,
            file,
            path: format!("file {}", id.raw()),
            writable: true,
            mover,
            pages: AtomicUsize::new(usize::try_from(pages).map_err(other)?),
            placed: OnceLock::new(),
        })));
        Ok(id)
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
        let cached = self
            .kernel()
            .areas()
            .file(file)
            .cloned()
            .ok_or_else(|| other("no such file"))?;
        let mut word = [0; 8];
        let read = cached.file.read_exact_at(&mut word, index * PAGE_SIZE as u64);
        read.map(|()| u64::from_ne_bytes(word)).map_err(other)
    }

    fn truncate(&self, pfn: Pfn) -> Result<(), FixtureError> {
        let (file, index) = self.kernel().slot_of(pfn).ok_or(FixtureError::BadFrame(pfn))?;
        if !self.cut_off(file, index) {
            lock(&self.truncating).push((file, index));
        }
        Ok(())
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
        let (space, at) = self.word(site, 0, store.is_some())?;
        let sleepers = &self.kernel().sleepers;
        let before = sleepers.load(Ordering::SeqCst);
        let at = at.expose_provenance();
        let thread = thread::spawn(move || {
            set_actor(actor);
            let value = touch(core::ptr::with_exposed_provenance(at), store);
            drop(space);
            value
        });
        while !thread.is_finished() && sleepers.load(Ordering::SeqCst) == before {
            thread::yield_now();
        }
        if thread.is_finished() {
            return thread.join().map(Access::Done).map_err(|_| FixtureError::Killed(site));
        }
        lock(&self.threads).push((actor, thread));
        Ok(Access::Asleep)
    }

    fn finish_faults(&self) -> Result<Vec<(ActorId, u64)>, FixtureError> {
        self.finish_truncations();
        let threads = core::mem::take(&mut *lock(&self.threads));
        let joined = threads.into_iter().map(|(actor, thread)| {
            let saw = thread.join().map_err(|_| other("a thread panicked"))?;
            Ok((actor, saw))
        });
        let seen = joined.collect();
        if let Some(private) = &self.kernel().private {
            private.join_stand_ins();
        }
        seen
    }
}

/// A file without a name, of `pages` pages whose words say which page they are of.
fn scratch_file(pages: u64) -> std::io::Result<File> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("fixture-{}-{number}", std::process::id()));
    let mut file = File::options().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(path)?;
    for page in 0..pages {
        file.write_all(&(page + 1).to_ne_bytes().repeat(PAGE_SIZE / 8))?;
    }
    Ok(file)
}

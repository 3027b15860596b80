//! The machine as a fixture for scenarios: its accesses go through the tables, its threads are threads.

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use backend_x86_64::{FaultError, Kernel, MapError, Paging, Space, Storage};
use core::sync::atomic::Ordering;
use migrate_core::fixture::{Access, Capabilities, Fixture, FixtureError, Recording};
use migrate_core::invariants::{Held, check_at_rest};
use migrate_core::{Frames, Lru as _, MODERN, PageRef, Profile, UsesPageMap};
use mm_types::{
    ActorId, AnonVma, AnonVmaLink, Page, PageMap, Pfn, Pte, Site, SpaceId, VirtAddr, VmaFlags, VmaSlot, Vpn,
};

use super::inspect::Shown;
use super::{BASE, Host, Machine, Op};

const FRAMES: usize = 384;
const PAGES: u64 = 4096;
const SPACES: u32 = 8;
const CPUS: usize = 8;

/// A kernel of its own for each scenario.
pub(crate) struct HostFixture {
    kernel: &'static Host<'static>,
    recording: Arc<Recording>,
    threads: Mutex<Vec<(ActorId, JoinHandle<u64>)>>,
}

fn leak<T>(n: usize, make: impl FnMut() -> T) -> &'static mut [T] {
    let mut make = make;
    Box::leak((0..n).map(|_| make()).collect())
}

fn boot(profile: &'static Profile) -> &'static Host<'static> {
    let storage = Storage {
        pages: PageMap::new(BASE, leak(FRAMES, Page::new)),
        spaces: leak(SPACES as usize, Space::new),
        vmas: leak(128, VmaSlot::default),
        anon_vmas: leak(128, AnonVma::default),
        links: leak(128, AnonVmaLink::default),
    };
    let machine = Machine::new(FRAMES, CPUS, Paging::Four);
    Box::leak(Box::new(Kernel::new(machine, Paging::Four, profile, storage)))
}

impl HostFixture {
    pub(crate) fn new() -> Self {
        Self {
            kernel: boot(&MODERN),
            recording: Arc::new(Recording::with_capacity(0)),
            threads: Mutex::default(),
        }
    }

    fn spaces(&self) -> impl Iterator<Item = SpaceId> {
        (0..SPACES)
            .map(SpaceId::new)
            .filter(|id| self.kernel.space(*id).is_ok())
    }

    fn sites(&self, pfn: Pfn) -> Vec<Site> {
        let all = self
            .spaces()
            .flat_map(|space| (0..PAGES).map(move |page| Site::new(space, Vpn::new(page))));
        all.filter(|site| self.kernel.entry(*site).pfn() == Some(pfn)).collect()
    }
}

fn addr(site: Site) -> Result<VirtAddr, FixtureError> {
    site.page.addr().ok_or(FixtureError::BadSite(site))
}

fn map_error(site: Site) -> impl Fn(MapError) -> FixtureError {
    move |error| match error {
        MapError::NoTable => FixtureError::NoFrame,
        _ => FixtureError::BadSite(site),
    }
}

// An access by the CPU of the actor's number; `None` where it would have to wait and may not.
fn touch(
    kernel: &Host<'_>,
    recording: &Recording,
    actor: ActorId,
    site: Site,
    op: Op,
    may_wait: bool,
) -> Result<Option<u64>, FixtureError> {
    let cpu = actor.raw() as usize % CPUS;
    let space = kernel.space(site.space).map_err(map_error(site))?;
    let root = space.root().ok_or(FixtureError::BadSite(site))?;
    loop {
        let code = match kernel.platform().access(cpu, root, site.space, site.page, 0, op) {
            Ok(before) => {
                return Ok(Some(match op {
                    Op::Store(value) => value,
                    Op::Load | Op::Add(_) => before,
                }));
            }
            Err(code) => code,
        };
        if !may_wait && kernel.entry(site).is_migration() {
            return Ok(None);
        }
        kernel
            .page_fault(site.space, addr(site)?, code, actor, recording)
            .map_err(|error| match error {
                FaultError::OutOfMemory | FaultError::Map(MapError::NoTable) => FixtureError::NoFrame,
                _ => FixtureError::Killed(site),
            })?;
    }
}

impl Fixture for HostFixture {
    type Backend = Host<'static>;

    fn backend(&self) -> &Host<'static> {
        self.kernel
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::ANON
            | Capabilities::SEVERAL_SPACES
            | Capabilities::SHARED
            | Capabilities::FORK
            | Capabilities::PROTECT
            | Capabilities::UNMAP
            | Capabilities::REMAP
            | Capabilities::PIN
            | Capabilities::MLOCK
            | Capabilities::EXTRA_REF
            | Capabilities::LOCK_BY_OTHER
            | Capabilities::FAULT_THREAD
            | Capabilities::MIDDLE
    }

    fn begin(&mut self, profile: &'static Profile, recording: Arc<Recording>) {
        self.kernel = boot(profile);
        self.recording = recording;
    }

    fn space(&self) -> Result<SpaceId, FixtureError> {
        self.kernel
            .create_space(None)
            .map_err(|error| FixtureError::Other(error.to_string()))
    }

    fn map_anon(&self, site: Site, writable: bool) -> Result<Pfn, FixtureError> {
        let mut flags = VmaFlags::READ | VmaFlags::MAYREAD | VmaFlags::MAYWRITE;
        flags.set(VmaFlags::WRITE, writable);
        let at = addr(site)?;
        self.kernel
            .map_area(site.space, at, 1, flags)
            .map_err(map_error(site))?;
        let fault = self.kernel.page_fault(site.space, at, 0, ActorId::new(0), ());
        fault.map_err(|_| FixtureError::NoFrame)?;
        self.kernel.drain();
        self.page_at(site).ok_or(FixtureError::BadSite(site))
    }

    fn read(&self, site: Site) -> Result<u64, FixtureError> {
        touch(self.kernel, &self.recording, ActorId::new(0), site, Op::Load, false)?
            .ok_or_else(|| FixtureError::Other("the load would sleep".into()))
    }

    fn write(&self, site: Site, value: u64) -> Result<(), FixtureError> {
        touch(
            self.kernel,
            &self.recording,
            ActorId::new(0),
            site,
            Op::Store(value),
            false,
        )?
        .map(drop)
        .ok_or_else(|| FixtureError::Other("the store would sleep".into()))
    }

    fn entry(&self, site: Site) -> Pte {
        self.kernel.entry(site)
    }

    fn new_page(&self) -> Result<PageRef, FixtureError> {
        let pfn = self.kernel.platform().take_from(1).ok_or(FixtureError::NoFrame)?;
        PageRef::allocate(self.kernel.page_map(), pfn).ok_or(FixtureError::NoFrame)
    }

    fn check(&self) -> Result<(), String> {
        self.kernel.drain();
        let shown = Shown {
            kernel: self.kernel,
            spaces: SPACES,
            pages: PAGES,
        };
        check_at_rest(&shown, &Held::default()).map_err(|violation| violation.to_string())
    }

    fn share(&self, pfn: Pfn, to: Site, writable: bool) -> Result<(), FixtureError> {
        let from = *self.sites(pfn).first().ok_or(FixtureError::BadFrame(pfn))?;
        self.kernel
            .share(from, to.space, addr(to)?, writable)
            .map_err(map_error(to))
    }

    fn fork(&self, parent: SpaceId) -> Result<SpaceId, FixtureError> {
        let child = self.kernel.fork(parent, &*self.recording);
        child.map_err(|error| FixtureError::Other(error.to_string()))
    }

    fn protect(&self, site: Site, writable: bool) -> Result<(), FixtureError> {
        let mut access = VmaFlags::READ;
        access.set(VmaFlags::WRITE, writable);
        let done = self
            .kernel
            .protect(site.space, addr(site)?, 1, access, &*self.recording);
        done.map_err(map_error(site))
    }

    fn unmap(&self, site: Site) -> Result<(), FixtureError> {
        self.kernel.area(site).map_err(map_error(site))?;
        let done = self.kernel.unmap(site.space, addr(site)?, 1, &*self.recording);
        done.map_err(map_error(site))
    }

    fn exit(&self, space: SpaceId) -> Result<(), FixtureError> {
        let done = self.kernel.destroy_space(space, &*self.recording);
        done.map_err(|error| FixtureError::Other(error.to_string()))
    }

    fn remap(&self, from: Site, to: Site) -> Result<(), FixtureError> {
        self.kernel.area(from).map_err(map_error(from))?;
        let done = self
            .kernel
            .move_range(from.space, addr(from)?, 1, addr(to)?, &*self.recording);
        done.map_err(map_error(to))
    }

    fn pin(&self, pfn: Pfn) -> Result<(), FixtureError> {
        let _counted = PageRef::get(self.kernel.page_map(), pfn).ok_or(FixtureError::BadFrame(pfn))?;
        self.kernel
            .page_map()
            .page(pfn)
            .ok_or(FixtureError::BadFrame(pfn))?
            .add_pin();
        Ok(())
    }

    fn unpin(&self, pfn: Pfn) -> Result<(), FixtureError> {
        self.kernel
            .page_map()
            .page(pfn)
            .ok_or(FixtureError::BadFrame(pfn))?
            .remove_pin();
        self.kernel.put(PageRef::counted(pfn));
        Ok(())
    }

    fn mlock(&self, site: Site) -> Result<(), FixtureError> {
        let done = self.kernel.lock_range(site.space, addr(site)?, 1, true);
        done.map_err(map_error(site))
    }

    fn free(&self, pfn: Pfn) -> Result<(), FixtureError> {
        self.sites(pfn).into_iter().try_for_each(|site| self.unmap(site))
    }

    fn fault(&self, actor: ActorId, site: Site, store: Option<u64>) -> Result<Access, FixtureError> {
        let (kernel, recording) = (self.kernel, Arc::clone(&self.recording));
        let asleep = kernel.platform().asleep.load(Ordering::Acquire);
        let op = store.map_or(Op::Load, Op::Store);
        let thread = std::thread::spawn(move || {
            let done = touch(kernel, &recording, actor, site, op, true);
            done.expect("the access is allowed").expect("it may wait")
        });
        while !thread.is_finished() && kernel.platform().asleep.load(Ordering::Acquire) == asleep {
            std::thread::yield_now();
        }
        if thread.is_finished() {
            let done = thread.join().map_err(|_| FixtureError::Killed(site))?;
            return Ok(Access::Done(done));
        }
        self.threads.lock().unwrap().push((actor, thread));
        Ok(Access::Asleep)
    }

    fn finish_faults(&self) -> Result<Vec<(ActorId, u64)>, FixtureError> {
        let threads = core::mem::take(&mut *self.threads.lock().unwrap());
        let joined = threads.into_iter().map(|(actor, thread)| {
            let saw = thread
                .join()
                .map_err(|_| FixtureError::Other("a thread panicked".into()))?;
            Ok((actor, saw))
        });
        joined.collect()
    }
}

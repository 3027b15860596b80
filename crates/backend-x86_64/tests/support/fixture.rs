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
const PAGES: u64 = 512;
const SPACES: u32 = 8;
const CPUS: usize = 8;

/// A thread that touches a page, and what it saw or stored.
type Thread = JoinHandle<Result<u64, FixtureError>>;

/// A kernel of its own for each scenario.
pub(crate) struct HostFixture {
    kernel: &'static Host<'static>,
    recording: Arc<Recording>,
    threads: Mutex<Vec<(ActorId, Thread)>>,
    /// What the kernel stands on. Given back, the kernel first, when the fixture goes.
    memory: Vec<Lent>,
}

/// Memory that is lent for as long as the fixture lives, and how it is given back.
type Lent = Box<dyn FnOnce()>;

/// Lends a box for ever; `memory` learns how to take it back.
fn lend<T: ?Sized + 'static>(boxed: Box<T>, memory: &mut Vec<Lent>) -> &'static mut T {
    let at = Box::into_raw(boxed);
    memory.push(Box::new(move || {
        // SAFETY: `at` came of `Box::into_raw` and is taken back once, by the fixture's drop, when nobody uses what was lent.
        drop(unsafe { Box::from_raw(at) });
    }));
    // SAFETY: a box's memory, aligned and initialised; there is no other reference to it until it is taken back.
    unsafe { &mut *at }
}

fn lend_many<T: 'static>(n: usize, make: impl FnMut() -> T, memory: &mut Vec<Lent>) -> &'static mut [T] {
    lend(core::iter::repeat_with(make).take(n).collect::<Box<[T]>>(), memory)
}

fn boot(profile: &'static Profile, memory: &mut Vec<Lent>) -> &'static Host<'static> {
    let storage = Storage {
        pages: PageMap::new(BASE, lend_many(FRAMES, Page::new, memory)),
        spaces: lend_many(SPACES as usize, Space::new, memory),
        vmas: lend_many(128, VmaSlot::default, memory),
        anon_vmas: lend_many(128, AnonVma::default, memory),
        links: lend_many(128, AnonVmaLink::default, memory),
    };
    let machine = Machine::new(FRAMES, CPUS, Paging::Four);
    lend(Box::new(Kernel::new(machine, Paging::Four, profile, storage)), memory)
}

impl Drop for HostFixture {
    fn drop(&mut self) {
        // A thread that sleeps for ever, in a test that has failed, still has the kernel.
        if self.threads.get_mut().is_ok_and(|threads| threads.is_empty()) {
            self.memory.drain(..).rev().for_each(|lent| lent());
        } else {
            core::mem::forget(core::mem::take(&mut self.memory));
        }
    }
}

impl HostFixture {
    pub(crate) fn new() -> Self {
        let mut memory = Vec::new();
        Self {
            kernel: boot(&MODERN, &mut memory),
            recording: Arc::new(Recording::with_capacity(0)),
            threads: Mutex::default(),
            memory,
        }
    }

    fn spaces(&self) -> impl Iterator<Item = SpaceId> {
        (0..SPACES)
            .map(SpaceId::new)
            .filter(|id| self.kernel.space(*id).is_ok())
    }

    /// An access of the program's own thread, which must not sleep.
    fn access(&self, at: (Site, usize), op: Op) -> Result<u64, FixtureError> {
        touch(self.kernel, &self.recording, ActorId::new(0), at, op, false)?
            .ok_or_else(|| FixtureError::Other("the access would sleep".into()))
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
    (site, word): (Site, usize),
    op: Op,
    may_wait: bool,
) -> Result<Option<u64>, FixtureError> {
    let cpu = actor.raw() as usize % CPUS;
    let space = kernel.space(site.space).map_err(map_error(site))?;
    let root = space.root().ok_or(FixtureError::BadSite(site))?;
    loop {
        let code = match kernel.platform().access(cpu, root, site.space, site.page, word, op) {
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

fn joined(thread: Thread) -> Result<u64, FixtureError> {
    let panicked = |_| FixtureError::Other("a thread panicked".into());
    thread.join().map_err(panicked)?
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
            | Capabilities::WHOLE_PAGES
    }

    fn begin(&mut self, profile: &'static Profile, recording: Arc<Recording>) {
        // What was lent for the kernel before is given back with the rest.
        self.kernel = boot(profile, &mut self.memory);
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
        self.read_word(site, 0)
    }

    fn write(&self, site: Site, value: u64) -> Result<(), FixtureError> {
        self.write_word(site, 0, value)
    }

    fn read_word(&self, site: Site, word: usize) -> Result<u64, FixtureError> {
        self.access((site, word), Op::Load)
    }

    fn write_word(&self, site: Site, word: usize, value: u64) -> Result<(), FixtureError> {
        self.access((site, word), Op::Store(value)).map(drop)
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
            let done = touch(kernel, &recording, actor, (site, 0), op, true)?;
            done.ok_or_else(|| FixtureError::Other("a thread that may wait did not".into()))
        });
        while !thread.is_finished() && kernel.platform().asleep.load(Ordering::Acquire) == asleep {
            std::thread::yield_now();
        }
        if thread.is_finished() {
            return joined(thread).map(Access::Done);
        }
        self.threads.lock().unwrap().push((actor, thread));
        Ok(Access::Asleep)
    }

    fn finish_faults(&self) -> Result<Vec<(ActorId, u64)>, FixtureError> {
        let threads = core::mem::take(&mut *self.threads.lock().unwrap());
        let joined = threads.into_iter().map(|(actor, thread)| Ok((actor, joined(thread)?)));
        joined.collect()
    }
}

//! These page tables as a fixture for scenarios and the conformance kit. What differs from machine to machine, the host's software
//! walker or a guest's CPUs, is behind [`Machine`].
//!
//! Test code: it allocates.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use migrate_core::fixture::{Access, Capabilities, Fixture, FixtureError, Recording};
use migrate_core::invariants::{Held, TranslationState, check_at_rest};
use migrate_core::{Frames, Lru as _, MODERN, PageRef, Profile, UsesPageMap};
use mm_types::{
    ActorId, AnonVma, AnonVmaLink, NodeId, Page, PageMap, Pfn, Pte, Site, SpaceId, VirtAddr, VmaFlags, VmaSlot, Vpn,
};

use crate::{FaultError, Kernel, MapError, Paging, Platform, Space, Storage};

mod shown;

pub use shown::Shown;

// The pages of a space that scenarios use.
const PAGES: u64 = 512;
const SPACES: u32 = 16;
const AREAS: usize = 256;

/// What a program does with a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Reads it.
    Load,
    /// Writes it.
    Store(u64),
}

/// What an access that faulted does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It runs again.
    Again,
    /// It is given up.
    Stop,
}

/// What a thread does for [`Machine::spawn`]; its result is the value it saw or stored.
pub type Job = Box<dyn FnOnce() -> Result<u64, FixtureError> + Send>;

/// A platform that a test can use: programs run on it.
pub trait Machine: Platform + Sync + Sized + 'static {
    /// Makes a machine like any other, its frames free, and says where its frames begin and how many there are. The one before
    /// is not used any more.
    fn boot(paging: Paging) -> (Self, Pfn, usize);

    /// Returns the root whose upper half new spaces get, where there is one.
    fn template(&self) -> Option<Pfn>;

    /// Gives a free frame of a node: 0 is the source, 1 the target.
    fn take_from(&self, node: NodeId) -> Option<Pfn>;

    /// Visits every free frame.
    fn free_frames(&self, see: &mut dyn FnMut(Pfn));

    /// Returns the first word of a frame.
    fn word(&self, pfn: Pfn) -> Option<u64>;

    /// Visits every translation that a CPU holds, where that can be known.
    fn translations(&self, see: &mut dyn FnMut(TranslationState)) {
        let _ = see;
    }

    /// Lets `actor` load or store a word of the page at `site` in user mode, on a CPU of its own; `on_fault` is called with the
    /// address and the error code. Returns the value read or stored, or `None` where it was given up.
    fn access(
        kernel: &Kernel<'static, Self>,
        actor: ActorId,
        at: (Site, usize),
        op: Op,
        on_fault: &mut dyn FnMut(VirtAddr, u32) -> Then,
    ) -> Option<u64>;

    /// Runs `job` on `actor`'s thread and returns when it is over, or sleeps.
    ///
    /// # Errors
    /// The job's.
    fn spawn(&self, actor: ActorId, job: Job) -> Result<Access, FixtureError>;

    /// True where a job of [`Machine::spawn`] is not over, so that it has the kernel still.
    fn is_busy(&self) -> bool;

    /// Waits until the jobs that slept are over; returns what came of each.
    fn finish(&self) -> Vec<(ActorId, Result<u64, FixtureError>)>;

    /// Called before a space is destroyed, and before the machine is looked at as a whole: no CPU runs any space afterwards.
    fn leave_spaces(&self);

    /// Returns a place where a CPU uses another translation than `kernel`'s tables say, for machines whose translations can only
    /// be used.
    fn stale(kernel: &Kernel<'static, Self>) -> Option<Site> {
        let _ = kernel;
        None
    }
}

/// A kernel of its own for each scenario.
pub struct KernelFixture<M: Machine> {
    kernel: &'static Kernel<'static, M>,
    recording: Arc<Recording>,
    /// What the kernel stands on. Given back, the kernel first, when the fixture goes.
    memory: Vec<Lent>,
}

/// Memory that is lent for as long as the fixture lives, and how it is given back.
type Lent = Box<dyn FnOnce()>;

impl<M: Machine> fmt::Debug for KernelFixture<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KernelFixture")
            .field("kernel", self.kernel)
            .finish_non_exhaustive()
    }
}

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

fn boot<M: Machine>(profile: &'static Profile, memory: &mut Vec<Lent>) -> &'static Kernel<'static, M> {
    let (machine, first, frames) = M::boot(Paging::Four);
    let storage = Storage {
        pages: PageMap::new(first, lend_many(frames, Page::new, memory)),
        spaces: lend_many(SPACES as usize, Space::new, memory),
        vmas: lend_many(AREAS, VmaSlot::default, memory),
        anon_vmas: lend_many(AREAS, AnonVma::default, memory),
        links: lend_many(AREAS, AnonVmaLink::default, memory),
    };
    lend(Box::new(Kernel::new(machine, Paging::Four, profile, storage)), memory)
}

impl<M: Machine> Drop for KernelFixture<M> {
    fn drop(&mut self) {
        self.kernel.platform().leave_spaces();
        // A thread that sleeps for ever, in a test that has failed, still has the kernel.
        if self.kernel.platform().is_busy() {
            core::mem::forget(core::mem::take(&mut self.memory));
        } else {
            self.memory.drain(..).rev().for_each(|lent| lent());
        }
    }
}

impl<M: Machine> Default for KernelFixture<M> {
    fn default() -> Self {
        let mut memory = Vec::new();
        Self {
            kernel: boot(&MODERN, &mut memory),
            recording: Arc::new(Recording::with_capacity(0)),
            memory,
        }
    }
}

impl<M: Machine> KernelFixture<M> {
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

// An access of the actor's; where it would have to wait and may not, that is an error.
fn touch<M: Machine>(
    kernel: &'static Kernel<'static, M>,
    recording: &Recording,
    actor: ActorId,
    (site, word): (Site, usize),
    op: Op,
    may_wait: bool,
) -> Result<u64, FixtureError> {
    let mut ended = FixtureError::Killed(site);
    let seen = M::access(kernel, actor, (site, word), op, &mut |addr, code| {
        if !may_wait && kernel.entry(site).is_migration() {
            ended = FixtureError::Other("the access would sleep".into());
            return Then::Stop;
        }
        match kernel.page_fault(site.space, addr, code, actor, recording) {
            Ok(_) => return Then::Again,
            Err(FaultError::OutOfMemory | FaultError::Map(MapError::NoTable)) => ended = FixtureError::NoFrame,
            Err(_) => {}
        }
        Then::Stop
    });
    seen.ok_or(ended)
}

impl<M: Machine> Fixture for KernelFixture<M> {
    type Backend = Kernel<'static, M>;

    fn backend(&self) -> &Kernel<'static, M> {
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
            .create_space(self.kernel.platform().template())
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
        let at = (site, word);
        touch(self.kernel, &self.recording, ActorId::new(0), at, Op::Load, false)
    }

    fn write_word(&self, site: Site, word: usize, value: u64) -> Result<(), FixtureError> {
        let (at, op) = ((site, word), Op::Store(value));
        touch(self.kernel, &self.recording, ActorId::new(0), at, op, false).map(drop)
    }

    fn entry(&self, site: Site) -> Pte {
        self.kernel.entry(site)
    }

    fn new_page(&self) -> Result<PageRef, FixtureError> {
        let pfn = self
            .kernel
            .platform()
            .take_from(NodeId::new(1))
            .ok_or(FixtureError::NoFrame)?;
        PageRef::allocate(self.kernel.page_map(), pfn).ok_or(FixtureError::NoFrame)
    }

    fn check(&self) -> Result<(), String> {
        self.kernel.drain();
        if let Some(site) = M::stale(self.kernel) {
            return Err(format!("I33: a stale translation at {site:?}"));
        }
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
        self.kernel.platform().leave_spaces();
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
        let op = store.map_or(Op::Load, Op::Store);
        let job = move || touch(kernel, &recording, actor, (site, 0), op, true);
        kernel.platform().spawn(actor, Box::new(job))
    }

    fn finish_faults(&self) -> Result<Vec<(ActorId, u64)>, FixtureError> {
        let jobs = self.kernel.platform().finish().into_iter();
        jobs.map(|(actor, saw)| Ok((actor, saw?))).collect()
    }
}

//! The booted machine as a fixture: accesses are ring 3's, threads are other CPUs.

use alloc::sync::Arc;
use alloc::vec::Vec;

use backend_x86_64::fixture::{Job, Machine as TestMachine, Op, Then};
use backend_x86_64::{HwBits, Paging};
use migrate_core::fixture::{Access, FixtureError};
use mm_types::{ActorId, NodeId, Pfn, Site, SpaceId, VirtAddr, Vpn};
use spin::Mutex;

use crate::cpu::{self, CPUS};
use crate::seam::{Machine, Mm};
use crate::{jobs, memory, user};

const FRAMES: u64 = 384;
// The pages of a space that scenarios use.
const PAGES: u64 = 512;

/// A job on another CPU, and where its result comes.
struct Given {
    actor: ActorId,
    cpu: usize,
    saw: Arc<Mutex<Option<Result<u64, FixtureError>>>>,
}

static GIVEN: Mutex<Vec<Given>> = Mutex::new(Vec::new());

impl Given {
    fn result(self) -> Result<u64, FixtureError> {
        jobs::wait(self.cpu);
        let saw = self.saw.lock().take();
        saw.unwrap_or_else(|| Err(FixtureError::Other("a thread left nothing".into())))
    }
}

impl TestMachine for Machine {
    fn boot(_paging: Paging) -> (Self, Pfn, usize) {
        let first = memory::first_free_frame();
        (Self::new(first, FRAMES), first, FRAMES as usize)
    }

    fn template(&self) -> Option<Pfn> {
        Some(cpu::root())
    }

    fn take_from(&self, node: NodeId) -> Option<Pfn> {
        self.take_from(node)
    }

    fn free_frames(&self, see: &mut dyn FnMut(Pfn)) {
        self.frames().filter(|pfn| self.is_free(*pfn)).for_each(see);
    }

    fn word(&self, pfn: Pfn) -> Option<u64> {
        self.first_word(pfn)
    }

    fn access(
        mm: &Mm,
        _actor: ActorId,
        (site, word): (Site, usize),
        op: Op,
        on_fault: &mut dyn FnMut(VirtAddr, u32) -> Then,
    ) -> Option<u64> {
        let root = mm.space(site.space).ok()?.root()?;
        let addr = VirtAddr::new(site.page.addr()?.raw() + word as u64 * 8);
        user::access((site.space, root), addr, op, on_fault)
    }

    fn spawn(&self, actor: ActorId, job: Job) -> Result<Access, FixtureError> {
        let saw = Arc::new(Mutex::new(None));
        let result = Arc::clone(&saw);
        let mut work: Option<jobs::Work> = Some(alloc::boxed::Box::new(move || *result.lock() = Some(job())));
        let free = (1..cpu::count()).find(|cpu| !jobs::is_busy(*cpu));
        let cpu = free.filter(|cpu| work.take().is_some_and(|work| jobs::give(*cpu, work)));
        let cpu = cpu.ok_or_else(|| FixtureError::Other("no CPU is free for another thread".into()))?;
        let given = Given { actor, cpu, saw };
        while jobs::is_busy(cpu) {
            if CPUS[cpu].is_asleep() {
                GIVEN.lock().push(given);
                return Ok(Access::Asleep);
            }
            cpu::halt_unless(|| !jobs::is_busy(cpu) || CPUS[cpu].is_asleep());
        }
        given.result().map(Access::Done)
    }

    fn is_busy(&self) -> bool {
        !GIVEN.lock().is_empty()
    }

    fn finish(&self) -> Vec<(ActorId, Result<u64, FixtureError>)> {
        let given = core::mem::take(&mut *GIVEN.lock());
        given.into_iter().map(|given| (given.actor, given.result())).collect()
    }

    fn leave_spaces(&self) {
        // The others leave theirs when their work is done.
        cpu::switch_to(None);
    }

    // What a CPU holds cannot be looked at, only used: whoever reads another word than the tables lead to used a stale one. The
    // tables of the space that this CPU is in stay in CR3 meanwhile.
    fn stale(mm: &Mm) -> Option<Site> {
        let current = |id: &SpaceId| mm.space(*id).is_ok() && CPUS[cpu::current()].runs(Some(*id));
        let space = (0..).map(SpaceId::new).take(16).find(current)?;
        let pages = (0..PAGES).map(|page| Site::new(space, Vpn::new(page)));
        let readable = |site: &Site| {
            let word = mm.word(*site);
            word.is_present() && word.hw_bits().contains(HwBits::USER)
        };
        pages.filter(readable).find(|site| {
            let seen = Self::access(mm, ActorId::new(0), (*site, 0), Op::Load, &mut |_, _| Then::Stop);
            seen != mm.platform().first_word(mm.word(*site).frame())
        })
    }
}

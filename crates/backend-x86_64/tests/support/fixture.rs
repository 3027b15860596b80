//! The machine as a fixture sees it: its threads are threads.

use std::sync::Mutex;
use std::thread::JoinHandle;

use backend_x86_64::fixture::{Job, KernelFixture, Machine as TestMachine, Op as Word, Then};
use backend_x86_64::{Kernel, Paging};
use core::sync::atomic::Ordering;
use migrate_core::fixture::{Access, FixtureError};
use migrate_core::invariants::TranslationState;
use mm_types::{ActorId, NodeId, Pfn, Site, VirtAddr};

use super::cpu::Op;
use super::machine::{BASE, Machine};

const FRAMES: usize = 384;
const CPUS: usize = 8;

/// A kernel over this machine.
pub(crate) type HostFixture = KernelFixture<Machine>;

/// Threads that slept when they were left.
pub(crate) type Threads = Mutex<Vec<(ActorId, JoinHandle<Result<u64, FixtureError>>)>>;

impl TestMachine for Machine {
    fn boot(paging: Paging) -> (Self, Pfn, usize) {
        (Self::new(FRAMES, CPUS, paging), BASE, FRAMES)
    }

    fn template(&self) -> Option<Pfn> {
        None
    }

    fn take_from(&self, node: NodeId) -> Option<Pfn> {
        self.take_from(node.raw().into())
    }

    fn free_frames(&self, see: &mut dyn FnMut(Pfn)) {
        self.free_frames().into_iter().for_each(see);
    }

    fn word(&self, pfn: Pfn) -> Option<u64> {
        Some(self.data(pfn, 0).load(Ordering::Acquire))
    }

    fn translations(&self, see: &mut dyn FnMut(TranslationState)) {
        self.translations().into_iter().for_each(see);
    }

    fn access(
        kernel: &Kernel<'static, Self>,
        actor: ActorId,
        (site, word): (Site, usize),
        op: Word,
        on_fault: &mut dyn FnMut(VirtAddr, u32) -> Then,
    ) -> Option<u64> {
        let cpu = actor.raw() as usize % CPUS;
        let root = kernel.space(site.space).ok()?.root()?;
        let done = match op {
            Word::Load => Op::Load,
            Word::Store(value) => Op::Store(value),
        };
        loop {
            let code = match kernel.platform().access(cpu, root, site.space, site.page, word, done) {
                Ok(before) => {
                    return Some(match op {
                        Word::Load => before,
                        Word::Store(value) => value,
                    });
                }
                Err(code) => code,
            };
            if on_fault(site.page.addr()?, code) == Then::Stop {
                return None;
            }
        }
    }

    fn spawn(&self, actor: ActorId, job: Job) -> Result<Access, FixtureError> {
        let asleep = self.asleep.load(Ordering::Acquire);
        let thread = std::thread::spawn(job);
        while !thread.is_finished() && self.asleep.load(Ordering::Acquire) == asleep {
            std::thread::yield_now();
        }
        if thread.is_finished() {
            return join(thread).map(Access::Done);
        }
        self.threads.lock().unwrap().push((actor, thread));
        Ok(Access::Asleep)
    }

    fn is_busy(&self) -> bool {
        !self.threads.lock().unwrap().is_empty()
    }

    fn finish(&self) -> Vec<(ActorId, Result<u64, FixtureError>)> {
        let threads = core::mem::take(&mut *self.threads.lock().unwrap());
        threads
            .into_iter()
            .map(|(actor, thread)| (actor, join(thread)))
            .collect()
    }

    fn leave_spaces(&self) {}
}

fn join(thread: JoinHandle<Result<u64, FixtureError>>) -> Result<u64, FixtureError> {
    let panicked = |_| Err(FixtureError::Other("a thread panicked".into()));
    thread.join().unwrap_or_else(panicked)
}

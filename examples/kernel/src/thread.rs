//! A program's thread on another CPU, one access at a time: between two of them its CPU stays in the space's tables, so what it
//! translated stays with it.

use alloc::boxed::Box;
use alloc::sync::Arc;

use backend_x86_64::fixture::{Op, Then};
use mm_types::{ActorId, SpaceId, VirtAddr};
use spin::Mutex;

use crate::seam::Mm;
use crate::{cpu, jobs, user};

enum Desk {
    Idle,
    Asked(VirtAddr, Op),
    Answered(Option<u64>),
    Over,
}

/// A thread of a space on a CPU of its own.
pub struct Thread {
    cpu: usize,
    desk: Arc<Mutex<Desk>>,
}

/// One access of a program of `space`, on this CPU, with its faults; `None` where it is not allowed.
pub fn access(mm: &Mm, space: SpaceId, addr: VirtAddr, op: Op) -> Option<u64> {
    let root = mm.space(space).ok()?.root()?;
    let actor = ActorId::new(cpu::current() as u32 + 1);
    user::access(
        (space, root),
        addr,
        op,
        &mut |addr, code| match mm.page_fault(space, addr, code, actor, ()) {
            Ok(_) => Then::Again,
            Err(_) => Then::Stop,
        },
    )
}

impl Thread {
    /// Starts one on `cpu`, which has nothing else to do.
    pub fn begin(cpu: usize, mm: &'static Mm, space: SpaceId) -> Self {
        let desk = Arc::new(Mutex::new(Desk::Idle));
        let its = Arc::clone(&desk);
        let given = jobs::give(
            cpu,
            Box::new(move || {
                loop {
                    let asked = match &*its.lock() {
                        Desk::Asked(addr, op) => Some((*addr, *op)),
                        Desk::Over => return,
                        Desk::Idle | Desk::Answered(_) => None,
                    };
                    if let Some((addr, op)) = asked {
                        let seen = access(mm, space, addr, op);
                        *its.lock() = Desk::Answered(seen);
                        cpu::wake_halted();
                    } else {
                        cpu::halt_unless(|| matches!(*its.lock(), Desk::Asked(..) | Desk::Over));
                    }
                }
            }),
        );
        assert!(given, "CPU {cpu} is busy");
        Self { cpu, desk }
    }

    /// Asks for an access.
    pub fn ask(&self, addr: VirtAddr, op: Op) {
        *self.desk.lock() = Desk::Asked(addr, op);
        cpu::wake_halted();
    }

    /// True where it has done what it was asked for.
    pub fn has_answered(&self) -> bool {
        matches!(*self.desk.lock(), Desk::Answered(_))
    }

    /// Waits for what came of the access that was asked for.
    pub fn answer(&self) -> Option<u64> {
        loop {
            if let Desk::Answered(seen) = *self.desk.lock() {
                return seen;
            }
            cpu::halt_unless(|| self.has_answered());
        }
    }

    /// One access, with what came of it.
    pub fn access(&self, addr: VirtAddr, op: Op) -> Option<u64> {
        self.ask(addr, op);
        self.answer()
    }

    /// Ends it; its CPU leaves the space.
    pub fn end(self) {
        *self.desk.lock() = Desk::Over;
        cpu::wake_halted();
        jobs::wait(self.cpu);
    }
}

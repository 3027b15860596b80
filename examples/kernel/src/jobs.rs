//! What other CPUs are asked to do.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicBool, Ordering};

use spin::Mutex;

use crate::cpu;

/// Something for a CPU to do.
pub type Work = Box<dyn FnOnce() + Send>;

struct Desk {
    next: Mutex<Option<Work>>,
    busy: AtomicBool,
}

static DESKS: [Desk; cpu::MAX] = [const {
    Desk {
        next: Mutex::new(None),
        busy: AtomicBool::new(false),
    }
}; cpu::MAX];

/// Gives `work` to another CPU that has none; false where it has.
pub fn give(cpu: usize, work: Work) -> bool {
    let desk = &DESKS[cpu];
    if desk.busy.swap(true, Ordering::AcqRel) {
        return false;
    }
    *desk.next.lock() = Some(work);
    cpu::wake_halted();
    true
}

/// True while a CPU has something to do.
pub fn is_busy(cpu: usize) -> bool {
    DESKS[cpu].busy.load(Ordering::Acquire)
}

/// Waits until a CPU has done what it was given.
pub fn wait(cpu: usize) {
    while is_busy(cpu) {
        cpu::halt_unless(|| !is_busy(cpu));
    }
}

/// What every other CPU does for ever: its work, then out of the program's space, then sleep until there is more.
pub fn serve() -> ! {
    let desk = &DESKS[cpu::current()];
    loop {
        // Taken in a statement of its own: the lock is open while the work runs.
        let work = desk.next.lock().take();
        if let Some(work) = work {
            work();
            cpu::switch_to(None);
            desk.busy.store(false, Ordering::SeqCst);
            cpu::wake_halted();
        } else {
            cpu::halt_unless(|| desk.next.lock().is_some());
        }
    }
}

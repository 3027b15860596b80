//! What other CPUs are asked to do.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicBool, Ordering};

use spin::Mutex;
use x86_64::instructions::interrupts;

use crate::{apic, cpu, trap};

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
    apic::interrupt(cpu, trap::WAKE);
    true
}

/// True while a CPU has something to do.
pub fn is_busy(cpu: usize) -> bool {
    DESKS[cpu].busy.load(Ordering::Acquire)
}

/// Waits until a CPU has done what it was given.
pub fn wait(cpu: usize) {
    while is_busy(cpu) {
        core::hint::spin_loop();
    }
}

/// What every other CPU does for ever: its work, then out of the program's space, then sleep until there is more.
pub fn serve() -> ! {
    let desk = &DESKS[cpu::current()];
    loop {
        interrupts::disable();
        let work = desk.next.lock().take();
        match work {
            Some(work) => {
                interrupts::enable();
                work();
                cpu::switch_to(None);
                desk.busy.store(false, Ordering::Release);
            }
            // The interrupt of somebody who gave work after the look ends the halt.
            None => interrupts::enable_and_hlt(),
        }
    }
}

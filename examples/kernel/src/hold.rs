//! Holding a CPU just before its next shootdown of single pages, so that a test can do something in that moment.

use core::sync::atomic::{AtomicU32, Ordering};

use backend_x86_64::Stale;

use crate::cpu;

const OPEN: u32 = 0;
const ARMED: u32 = 1;
const HELD: u32 = 2;

static GATES: [AtomicU32; cpu::MAX] = [const { AtomicU32::new(OPEN) }; cpu::MAX];

/// Holds `cpu` at its next shootdown of single pages.
pub fn arm(cpu: usize) {
    GATES[cpu].store(ARMED, Ordering::SeqCst);
}

/// True while `cpu` is held.
pub fn is_held(cpu: usize) -> bool {
    GATES[cpu].load(Ordering::SeqCst) == HELD
}

/// Lets `cpu` go on.
pub fn release(cpu: usize) {
    GATES[cpu].store(OPEN, Ordering::SeqCst);
    cpu::wake_halted();
}

/// Where CPUs are held: what they are about to invalidate.
pub fn pass(stale: Stale<'_>) {
    if !matches!(stale, Stale::Pages(..)) {
        return;
    }
    let gate = &GATES[cpu::current()];
    if gate
        .compare_exchange(ARMED, HELD, Ordering::SeqCst, Ordering::SeqCst)
        .is_ok()
    {
        cpu::wake_halted();
        while gate.load(Ordering::SeqCst) == HELD {
            cpu::halt_unless(|| gate.load(Ordering::SeqCst) != HELD);
        }
    }
}

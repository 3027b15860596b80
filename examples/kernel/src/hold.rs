//! Holding a CPU just before its next shootdown of single pages, or of a page that it has copied, so that a test can do something
//! in that moment.

use core::sync::atomic::{AtomicU32, Ordering};

use backend_x86_64::Stale;

use crate::cpu;

const OPEN: u32 = 0;
const ARMED: u32 = 1;
const HELD: u32 = 2;
const ARMED_AFTER_A_FRAME: u32 = 3;
const ARMED_FOR_ANY: u32 = 4;

static GATES: [AtomicU32; cpu::MAX] = [const { AtomicU32::new(OPEN) }; cpu::MAX];

/// Holds `cpu` at its next shootdown of single pages.
pub fn arm(cpu: usize) {
    GATES[cpu].store(ARMED, Ordering::SeqCst);
}

/// Holds `cpu` at its next shootdown of any kind after it has taken a frame: that of a page which it has copied by then.
pub fn arm_after_a_frame(cpu: usize) {
    GATES[cpu].store(ARMED_AFTER_A_FRAME, Ordering::SeqCst);
}

/// Where frames are taken.
pub fn frame_taken() {
    let (from, to) = (ARMED_AFTER_A_FRAME, ARMED_FOR_ANY);
    let _ = GATES[cpu::current()].compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst);
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
    let gate = &GATES[cpu::current()];
    let pages = matches!(stale, Stale::Pages(..));
    let armed = |state: u32| (state == ARMED && pages || state == ARMED_FOR_ANY).then_some(HELD);
    if gate.fetch_update(Ordering::SeqCst, Ordering::SeqCst, armed).is_ok() {
        cpu::wake_halted();
        while gate.load(Ordering::SeqCst) == HELD {
            cpu::halt_unless(|| gate.load(Ordering::SeqCst) != HELD);
        }
    }
}

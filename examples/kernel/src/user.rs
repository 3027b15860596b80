//! Programs that run in ring 3 (user.s), and what they are called with.

use backend_x86_64::fixture::Op;
use mm_types::{Pfn, SpaceId, VirtAddr};

use crate::trap::{Frame, OnFault};
use crate::{cpu, memory, trap};

core::arch::global_asm!(include_str!("user.s"), options(att_syntax));

/// Where every space sees the programs (boot.s: slot 257).
const PROGRAMS: u64 = 0xffff_8080_0000_0000;

unsafe extern "C" {
    static user_start: u8;
    static user_load: u8;
    static user_store: u8;
}

/// Shows the programs to ring 3.
pub fn show_programs() {
    unsafe extern "C" {
        static programs1: [u64; 512];
    }
    // Present, for ring 3, not writable.
    let word = cpu::programs_page() | 1 | 1 << 2;
    let table = memory::direct((&raw const programs1).addr() as u64).cast::<u64>();
    // SAFETY: the first word of a table that boot.s left empty; no translation of it exists.
    unsafe { table.write_volatile(word) };
}

fn at(program: *const u8) -> u64 {
    PROGRAMS + (program.addr() - (&raw const user_start).addr()) as u64
}

/// Runs one load or store of a program of `space`, in ring 3 on this CPU, and stays in that space's tables. Returns the value
/// read or written, or `None` where `on_fault` stopped it.
pub fn access(space: (SpaceId, Pfn), addr: VirtAddr, op: Op, on_fault: &mut OnFault<'_>) -> Option<u64> {
    cpu::switch_to(Some(space));
    let (program, value) = match op {
        Op::Load => (&raw const user_load, 0),
        Op::Store(value) => (&raw const user_store, value),
    };
    let frame = Frame::program(at(program), [addr.raw(), value, 0, 0, 0, 0]);
    trap::run(&frame, on_fault).map(|frame| frame.rax)
}

//! Traps: page faults, the programs' one call, and interrupts from other CPUs.

use core::cell::Cell;

use backend_x86_64::fixture::Then;
use mm_types::VirtAddr as Address;
use spin::Once;
use x86_64::VirtAddr;
use x86_64::instructions::interrupts;
use x86_64::registers::control::Cr2;
use x86_64::structures::idt::{Entry, InterruptDescriptorTable};

use crate::{apic, cpu, seam};

/// A program's call.
const CALL: u8 = 0x80;
/// Another CPU wants translations gone.
pub const SHOOTDOWN: u8 = 0xf0;
/// Another CPU changed the word that this one sleeps on.
pub const WAKE: u8 = 0xf1;
/// Nobody wants anything.
pub const SPURIOUS: u8 = 0xff;

const DOUBLE_FAULT: u8 = 8;
const PAGE_FAULT: u8 = 14;
const ENTRY_BYTES: u64 = 16;
const INTERRUPT_FLAG: u64 = 1 << 9;

core::arch::global_asm!(include_str!("trap.s"), options(att_syntax));

unsafe extern "C" {
    static trap_entries: u8;
    fn enter_user(frame: *const Frame, stack: *mut VirtAddr);
}

/// A program's registers, as trap.s pushes them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Frame {
    r15: u64,
    r14: u64,
    r13: u64,
    r12: u64,
    r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    rdi: u64,
    rsi: u64,
    rbp: u64,
    rbx: u64,
    rdx: u64,
    rcx: u64,
    pub rax: u64,
    vector: u64,
    error: u64,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

impl Frame {
    /// Makes the registers of a program that begins at `rip`, with its arguments in rdi, rsi, rdx, rcx, r8 and r9, and a stack
    /// pointer that points nowhere.
    pub fn program(rip: u64, [rdi, rsi, rdx, rcx, r8, r9]: [u64; 6]) -> Self {
        Self {
            rdi,
            rsi,
            rdx,
            rcx,
            r8,
            r9,
            rip,
            cs: cpu::USER_CODE,
            rflags: INTERRUPT_FLAG | 2,
            ss: cpu::USER_DATA,
            ..Self::default()
        }
    }

    const fn is_programs(&self) -> bool {
        self.cs & 3 == 3
    }
}

/// Handles the page fault of a program at an address with an error code.
pub type OnFault<'f> = dyn FnMut(Address, u32) -> Then + 'f;

/// A program that a CPU runs.
#[derive(Clone, Copy)]
struct Running {
    // To the reference that `run` was given.
    on_fault: *mut (),
    last: *mut Frame,
}

// What each CPU runs; touched by that CPU only.
struct PerCpu([Cell<Option<Running>>; cpu::MAX]);

// SAFETY: element n is touched by CPU n only.
unsafe impl Sync for PerCpu {}

static RUNNING: PerCpu = PerCpu([const { Cell::new(None) }; cpu::MAX]);

/// Loads this CPU's interrupt table, which all share.
pub fn load() {
    static TABLE: Once<InterruptDescriptorTable> = Once::new();
    TABLE.call_once(table).load();
}

fn table() -> InterruptDescriptorTable {
    let mut table = InterruptDescriptorTable::new();
    let at = |vector: u8| VirtAddr::from_ptr(&raw const trap_entries) + u64::from(vector) * ENTRY_BYTES;
    fn set<F>(entry: &mut Entry<F>, at: VirtAddr) -> &mut x86_64::structures::idt::EntryOptions {
        // SAFETY: trap.s has an entry there that keeps registers and returns as the CPU expects.
        unsafe { entry.set_handler_addr(at) }
    }
    set(&mut table.divide_error, at(0));
    set(&mut table.invalid_opcode, at(6));
    let options = set(&mut table.double_fault, at(DOUBLE_FAULT));
    // SAFETY: `cpu::init` gave each CPU that stack, for this alone.
    unsafe { options.set_stack_index(0) };
    set(&mut table.general_protection_fault, at(13));
    set(&mut table.page_fault, at(PAGE_FAULT));
    set(&mut table[CALL], at(CALL)).set_privilege_level(x86_64::PrivilegeLevel::Ring3);
    for vector in [SHOOTDOWN, WAKE, SPURIOUS] {
        set(&mut table[vector], at(vector));
    }
    table
}

/// Runs a program in ring 3, in the tables that this CPU has in CR3, until it calls or `on_fault` stops it. Returns its
/// registers then, or `None` where it was stopped.
pub fn run(frame: &Frame, mut on_fault: &mut OnFault<'_>) -> Option<Frame> {
    let me = cpu::current();
    let mut last = Frame::default();
    let outer = RUNNING.0[me].replace(Some(Running {
        on_fault: (&raw mut on_fault).cast(),
        last: &raw mut last,
    }));
    assert!(outer.is_none(), "a program runs on this CPU already");
    // SAFETY: the frame is one of ring 3 (`Frame::program`), and traps find their stack below this call's.
    unsafe { enter_user(frame, cpu::trap_stack(me)) };
    RUNNING.0[me].set(None);
    (last.vector == u64::from(CALL)).then_some(last)
}

/// Every trap comes here, with interrupts off. Returns 0 to go on where it came from, or the stack of [`run`]'s caller.
#[unsafe(no_mangle)]
extern "C" fn trap(frame: &mut Frame) -> u64 {
    match (frame.vector as u8, frame.is_programs()) {
        (PAGE_FAULT, true) => page_fault(frame),
        (CALL, true) => leave(frame),
        (SHOOTDOWN, _) => {
            seam::on_shootdown();
            apic::end_of_interrupt();
            0
        }
        (WAKE, _) => {
            apic::end_of_interrupt();
            0
        }
        (SPURIOUS, _) => 0,
        (vector, _) => panic!(
            "vector {vector}, error {:#x}, at {:#x}, cr2 {:#x}\n{frame:x?}",
            frame.error,
            frame.rip,
            Cr2::read_raw()
        ),
    }
}

fn page_fault(frame: &mut Frame) -> u64 {
    // Read before interrupts are on: another fault would overwrite it.
    let addr = Address::new(Cr2::read_raw());
    let running = RUNNING.0[cpu::current()].get().expect("programs run in `run`");
    interrupts::enable();
    // SAFETY: a variable of `run`, below on this stack, which waits in `enter_user` for this trap and touches it no other way.
    let on_fault = unsafe { &mut *running.on_fault.cast::<&mut OnFault<'_>>() };
    let handled = on_fault(addr, frame.error as u32);
    interrupts::disable();
    match handled {
        Then::Again => 0,
        Then::Stop => leave(frame),
    }
}

fn leave(frame: &Frame) -> u64 {
    let me = cpu::current();
    let running = RUNNING.0[me].get().expect("programs run in `run`");
    // SAFETY: a variable of `run`, below on this stack, which waits in `enter_user`.
    unsafe { running.last.write(*frame) };
    // SAFETY: this CPU's own field; written by `enter_user` on this CPU only.
    unsafe { cpu::trap_stack(me).read_unaligned() }.as_u64()
}

//! The local APIC, by its registers in memory: interrupts between CPUs, and starting them (SDM vol. 3, chapter 12).

use crate::memory::direct;

const BASE: u64 = 0xfee0_0000;
const ID: u64 = 0x20;
const END_OF_INTERRUPT: u64 = 0xb0;
const SPURIOUS: u64 = 0xf0;
const COMMAND: u64 = 0x300;
const COMMAND_HIGH: u64 = 0x310;

const INIT: u32 = 0x4500;
const START_UP: u32 = 0x4600;
const FIXED: u32 = 0x4000;
const SENDING: u32 = 1 << 12;

fn register(at: u64) -> *mut u32 {
    direct(BASE + at).cast()
}

fn read(at: u64) -> u32 {
    // SAFETY: a register of the local APIC, which the direct map shows; reading these has no effect.
    unsafe { register(at).read_volatile() }
}

fn write(at: u64, value: u32) {
    // SAFETY: a register of the local APIC; what is written here sends interrupts to CPUs that handle them, or none.
    unsafe { register(at).write_volatile(value) };
}

/// Returns this CPU's number: QEMU counts from 0.
pub fn id() -> usize {
    (read(ID) >> 24) as usize
}

/// Lets this CPU take interrupts from others; spurious ones come as `vector`.
pub fn enable(vector: u8) {
    write(SPURIOUS, 1 << 8 | u32::from(vector));
}

/// Says that this interrupt is handled.
pub fn end_of_interrupt() {
    write(END_OF_INTERRUPT, 0);
}

/// Silences the old interrupt controllers, whose timer would come as an exception's vector.
pub fn mask_legacy() {
    for mask in [0x21, 0xa1] {
        let mut port = x86_64::instructions::port::Port::<u8>::new(mask);
        // SAFETY: the mask registers of the two 8259s; nobody here waits for one of their interrupts.
        unsafe { port.write(0xff) };
    }
}

fn send(cpu: usize, command: u32) {
    // Two registers make one command: an interrupt handler here that sent one in between would spoil it.
    x86_64::instructions::interrupts::without_interrupts(|| {
        write(COMMAND_HIGH, (cpu as u32) << 24);
        write(COMMAND, command);
        while read(COMMAND) & SENDING != 0 {
            core::hint::spin_loop();
        }
    });
}

/// Interrupts another CPU.
pub fn interrupt(cpu: usize, vector: u8) {
    send(cpu, FIXED | u32::from(vector));
}

/// Starts another CPU in real mode at the page `page` of the first MiB.
///
/// A real machine wants 10 ms between the two, and the second one again where nothing happens; QEMU does not.
pub fn start(cpu: usize, page: u8) {
    send(cpu, INIT);
    send(cpu, START_UP | u32::from(page));
}

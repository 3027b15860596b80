//! The serial line, and the device that ends the machine with an exit code.

use core::fmt::{self, Write as _};

use spin::Mutex;
use x86_64::instructions::port::Port;

const COM1: u16 = 0x3f8;
const DEBUG_EXIT: u16 = 0xf4;

struct Serial;

static LINE: Mutex<Serial> = Mutex::new(Serial);

impl fmt::Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut data = Port::<u8>::new(COM1);
        for byte in text.bytes() {
            // SAFETY: the first serial port's data register: a write sends the byte, and touches no memory. QEMU's is always ready.
            unsafe { data.write(byte) };
        }
        Ok(())
    }
}

/// Writes to the serial line; used by `print!` and `println!` of this crate.
pub fn write(text: fmt::Arguments<'_>) {
    // Writing to the line does not fail.
    let _ = LINE.lock().write_fmt(text);
}

/// Writes a line to the serial line.
#[macro_export]
macro_rules! println {
    ($($text:tt)*) => { $crate::console::write(format_args!("{}\n", format_args!($($text)*))) };
}

/// Ends the machine. QEMU's exit code is twice the value and 1: 33 for good, 35 for bad.
pub fn exit(good: bool) -> ! {
    let mut port = Port::<u32>::new(DEBUG_EXIT);
    // SAFETY: isa-debug-exit: a write ends the emulator. Without the device nobody listens, and the CPU stops below.
    unsafe { port.write(if good { 16 } else { 17 }) };
    loop {
        x86_64::instructions::hlt();
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    // Another CPU, or this one, may hold the line for ever.
    let mut line = Serial;
    let _ = match info.location() {
        Some(at) => writeln!(line, "\nfailed {}, at {at}", info.message()),
        None => writeln!(line, "\nfailed {}", info.message()),
    };
    exit(false)
}

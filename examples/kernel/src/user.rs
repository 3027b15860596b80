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
    static user_write: u8;
    static user_read: u8;
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

/// Words of one slot in an area of pages: 8 in each page, which say which round wrote them.
#[derive(Clone, Copy, Debug)]
pub struct Words {
    /// The area's first byte.
    pub start: VirtAddr,
    /// Its pages.
    pub pages: u64,
    /// Which of the words are its own: 0 to 63.
    pub slot: u64,
}

/// A word that was not what was written there.
#[derive(Clone, Copy, Debug)]
pub struct WrongWord {
    /// How many there were; the rest is about the last.
    pub count: u64,
    /// Where.
    pub at: VirtAddr,
    /// What was there.
    pub found: u64,
}

impl Words {
    /// How many there are.
    pub const fn len(self) -> u64 {
        self.pages * 8
    }

    /// Checks that each word is that of `round`, and writes that of the next, in ring 3.
    pub fn write(self, space: (SpaceId, Pfn), round: u64, on_fault: &mut OnFault<'_>) -> Option<WrongWord> {
        self.run(&raw const user_write, space, round, on_fault)
    }

    /// Checks that each word is whole, and of `round` or a later one, in ring 3.
    pub fn read(self, space: (SpaceId, Pfn), round: u64, on_fault: &mut OnFault<'_>) -> Option<WrongWord> {
        self.run(&raw const user_read, space, round, on_fault)
    }

    fn run(
        self,
        program: *const u8,
        space: (SpaceId, Pfn),
        round: u64,
        on_fault: &mut OnFault<'_>,
    ) -> Option<WrongWord> {
        cpu::switch_to(Some(space));
        let frame = Frame::program(at(program), [self.start.raw(), self.pages, round, self.slot, 0, 0]);
        let frame = trap::run(&frame, on_fault).expect("the storm stops no program");
        (frame.r8 > 0).then_some(WrongWord {
            count: frame.r8,
            at: VirtAddr::new(frame.r9),
            found: frame.r10,
        })
    }
}

//! A small kernel that boots under QEMU and migrates pages of programs that run in ring 3.
//!
//! | question | module |
//! |---|---|
//! | what does it lend to `backend-x86_64`? | [`seam`], all of it |
//! | how does it start? | `boot.s`, [`start`], [`cpu`], [`memory`] |
//! | how are programs entered and left? | [`trap`], `trap.s`, [`user`], `user.s`, [`apic`] |
//! | what does it show? | [`console`] |

#![no_std]
#![no_main]

extern crate alloc;

mod apic;
mod console;
mod cpu;
mod memory;
mod seam;
mod start;
mod trap;
mod user;

core::arch::global_asm!(include_str!("boot.s"), options(att_syntax));

/// The first CPU, from boot.s, with the physical address of the start information.
#[unsafe(no_mangle)]
extern "C" fn boot_cpu(info: u32) -> ! {
    let start = start::read(info);
    cpu::init();
    user::show_programs();
    cpu::start_others(start.number("cpus").unwrap_or(1) as usize);
    println!("booted {} CPUs, {} MiB", cpu::count(), start.memory_end >> 20);
    smoke(start);
    console::exit(true)
}

fn smoke(start: start::Start) {
    use mm_types::*;
    let mm = seam::new_mm(memory::pool(&start), 384, &migrate_core::MODERN);
    let space = mm.create_space(Some(cpu::root())).unwrap();
    let flags = VmaFlags::READ | VmaFlags::WRITE | VmaFlags::MAYREAD | VmaFlags::MAYWRITE;
    mm.map_area(space, VirtAddr::new(0x3000), 1, flags).unwrap();
    let root = mm.space(space).unwrap().root().unwrap();
    for op in [user::Op::Store(42), user::Op::Load] {
        let got = user::access((space, root), VirtAddr::new(0x3000), op, &mut |addr, code| {
            println!("fault at {addr:?} code {code}");
            match mm.page_fault(space, addr, code, ActorId::new(1), ()) {
                Ok(_) => trap::Handled::Again,
                Err(error) => {
                    println!("{error}");
                    trap::Handled::Stop
                }
            }
        });
        println!("{op:?} {got:?}");
    }
}

/// The other CPUs, from boot.s.
#[unsafe(no_mangle)]
extern "C" fn other_cpu() -> ! {
    cpu::init();
    cpu::started();
    loop {
        x86_64::instructions::hlt();
    }
}

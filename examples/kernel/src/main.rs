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
mod fixture;
mod flushes;
mod hold;
mod jobs;
mod kit;
mod memory;
mod migrator;
mod mutant;
mod scenarios;
mod seam;
mod start;
mod storm;
mod thread;
mod trap;
mod user;

core::arch::global_asm!(include_str!("boot.s"), options(att_syntax));

/// The first CPU, from boot.s, with the physical address of the start information.
#[unsafe(no_mangle)]
extern "C" fn boot_cpu(info: u32) -> ! {
    let start = start::read(info);
    apic::mask_legacy();
    cpu::init();
    user::show_programs();
    cpu::start_others(start.number("cpus").unwrap_or(1) as usize);
    println!("booted cpus={} mib={}", cpu::count(), start.memory_end >> 20);
    if let Some(name) = start.value("missing") {
        mutant::leave_out(name);
    }
    let good = match start.value("mode") {
        Some("scenarios") => scenarios::run(start.value("only")),
        Some("kit") => kit::run(),
        Some("storm") => storm::run(&start.storm()),
        Some("flushes") => flushes::run(start.profile(), start.number("times").unwrap_or(1), start.value("only")),
        other => panic!("mode is kit, scenarios, storm or flushes, not {other:?}"),
    };
    console::exit(good)
}

/// The other CPUs, from boot.s.
#[unsafe(no_mangle)]
extern "C" fn other_cpu() -> ! {
    cpu::init();
    cpu::started();
    jobs::serve()
}

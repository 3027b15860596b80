//! CPUs: their tables, their stacks, what each runs, and starting the others.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering, fence};

use mm_types::{Pfn, PhysAddr, SpaceId};
use x86_64::VirtAddr;
use x86_64::instructions::interrupts;
use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::registers::segmentation::{CS, DS, ES, SS, Segment};
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable, SegmentSelector};
use x86_64::structures::paging::{PhysFrame, Size4KiB};
use x86_64::structures::tss::TaskStateSegment;

use crate::memory::{direct, image_address};
use crate::mutant::Step;
use crate::{apic, trap};

/// The most CPUs.
pub const MAX: usize = 8;

const STACK_BYTES: usize = 256 << 10;
const NOBODY: u32 = u32::MAX;

#[repr(C, align(4096))]
struct Stack(UnsafeCell<[u8; STACK_BYTES]>);

// SAFETY: each is one CPU's, which reaches it through its stack pointer only.
unsafe impl Sync for Stack {}

impl Stack {
    const fn end(&self) -> *mut u8 {
        self.0.get().wrapping_add(1).cast()
    }
}

/// The stack of the CPU that starts the machine (boot.s).
static BOOT_STACK: Stack = Stack(UnsafeCell::new([0; STACK_BYTES]));
static STACKS: [Stack; MAX] = [const { Stack(UnsafeCell::new([0; STACK_BYTES])) }; MAX];
/// Where a CPU goes whose own stack is used up (SDM vol. 3, 6.14.5).
static FAULT_STACKS: [Stack; MAX] = [const { Stack(UnsafeCell::new([0; STACK_BYTES])) }; MAX];

/// Where the next CPU to start has the end of its stack (boot.s).
#[unsafe(no_mangle)]
static next_stack: AtomicPtr<u8> = AtomicPtr::new(BOOT_STACK.end());

unsafe extern "C" {
    static kernel_root: [u64; 512];
    static ap16: u8;
    static ap16_end: u8;
}

/// A CPU's own tables; written by that CPU before it takes interrupts, and by its traps.
struct Tables {
    gdt: UnsafeCell<GlobalDescriptorTable>,
    tss: UnsafeCell<TaskStateSegment>,
}

// SAFETY: element n is touched by CPU n only.
unsafe impl Sync for Tables {}

static TABLES: [Tables; MAX] = [const {
    Tables {
        gdt: UnsafeCell::new(GlobalDescriptorTable::new()),
        tss: UnsafeCell::new(TaskStateSegment::new()),
    }
}; MAX];

/// What others may know of a CPU.
pub struct Cpu {
    /// The space whose tables it has in CR3.
    space: AtomicU32,
    /// It sleeps on a word.
    asleep: AtomicBool,
    /// It is halted, or looks a last time before it is.
    halted: AtomicBool,
}

/// All CPUs, by number.
pub static CPUS: [Cpu; MAX] = [const {
    Cpu {
        space: AtomicU32::new(NOBODY),
        asleep: AtomicBool::new(false),
        halted: AtomicBool::new(false),
    }
}; MAX];

static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// Returns how many CPUs run.
pub fn count() -> usize {
    RUNNING.load(Ordering::Acquire)
}

/// Returns this CPU's number.
pub fn current() -> usize {
    apic::id()
}

impl Cpu {
    /// True where the CPU may have translations of `space`, or any space's for `None`.
    pub fn runs(&self, space: Option<SpaceId>) -> bool {
        let has = self.space.load(Ordering::SeqCst);
        space.map_or(has != NOBODY, |space| has == space.raw())
    }

    /// True while it sleeps on a word.
    pub fn is_asleep(&self) -> bool {
        self.asleep.load(Ordering::SeqCst)
    }

    /// Says whether it sleeps on a word, to whoever waits for that.
    pub fn set_asleep(&self, asleep: bool) {
        self.asleep.store(asleep, Ordering::SeqCst);
        wake_halted();
    }
}

/// Halts this CPU until an interrupt comes, unless `no_need`; interrupts are on afterwards.
///
/// A CPU that spins takes the time of the one it waits for, where there are fewer real CPUs than these.
pub fn halt_unless(no_need: impl FnOnce() -> bool) {
    let halted = &CPUS[current()].halted;
    interrupts::disable();
    // Said before the look: whoever makes it true after the look finds this CPU halted, and its interrupt ends the halt.
    halted.store(true, Ordering::SeqCst);
    if !no_need() {
        interrupts::enable_and_hlt();
    }
    halted.store(false, Ordering::SeqCst);
    interrupts::enable();
}

/// Lets halted CPUs look again; called after what they wait for became true.
pub fn wake_halted() {
    fence(Ordering::SeqCst);
    for cpu in (0..count()).filter(|cpu| CPUS[*cpu].halted.load(Ordering::SeqCst)) {
        apic::interrupt(cpu, trap::WAKE);
    }
}

/// The selectors for programs, as they stand in trap frames.
pub const USER_DATA: u64 = 3 << 3 | 3;
/// See [`USER_DATA`].
pub const USER_CODE: u64 = 4 << 3 | 3;

/// Gives this CPU its tables.
pub fn init() {
    let me = current();
    let tables = &TABLES[me];
    let fault_stack = VirtAddr::from_ptr(FAULT_STACKS[me].end());
    // SAFETY: this CPU's own, and nobody borrows it yet: it is initialised once, before traps.
    let tss = unsafe { &mut *tables.tss.get() };
    tss.interrupt_stack_table[0] = fault_stack;
    // SAFETY: as above; the borrow is shared from now on.
    let tss = unsafe { &*tables.tss.get() };
    // SAFETY: as above.
    let gdt = unsafe { &mut *tables.gdt.get() };
    let code = gdt.append(Descriptor::kernel_code_segment());
    let data = gdt.append(Descriptor::kernel_data_segment());
    let user_data = gdt.append(Descriptor::user_data_segment());
    let user_code = gdt.append(Descriptor::user_code_segment());
    let task = gdt.append(Descriptor::tss_segment(tss));
    assert_eq!((u64::from(user_data.0), u64::from(user_code.0)), (USER_DATA, USER_CODE));
    // SAFETY: as above; nobody writes it any more.
    let gdt = unsafe { &*tables.gdt.get() };
    gdt.load();
    load_segments(code, data, task);
    trap::load();
    apic::enable(trap::SPURIOUS);
    interrupts::enable();
}

fn load_segments(code: SegmentSelector, data: SegmentSelector, task: SegmentSelector) {
    // SAFETY: a 64-bit code segment of ring 0 in the table just loaded.
    unsafe { CS::set_reg(code) };
    // SAFETY: a data segment of ring 0 in that table; the same for the next two.
    unsafe { SS::set_reg(data) };
    // SAFETY: see above.
    unsafe { DS::set_reg(SegmentSelector::NULL) };
    // SAFETY: see above.
    unsafe { ES::set_reg(SegmentSelector::NULL) };
    // SAFETY: a task state segment in that table, there for good.
    unsafe { x86_64::instructions::tables::load_tss(task) };
}

/// Returns where this CPU finds its stack when a program traps.
pub fn trap_stack(me: usize) -> *mut VirtAddr {
    let tss = TABLES[me].tss.get();
    // SAFETY: a field of a static; only its address is taken.
    unsafe { &raw mut (*tss).privilege_stack_table[0] }
}

/// Returns the frame of the kernel's own root table.
pub fn root() -> Pfn {
    PhysAddr::new((&raw const kernel_root).addr() as u64).pfn()
}

/// Puts a space's tables, or the kernel's own, into CR3; nothing where they are there already.
pub fn switch_to(space: Option<(SpaceId, Pfn)>) {
    let word = space.map_or(NOBODY, |(space, _)| space.raw());
    let root = space.map_or_else(root, |(_, root)| root);
    let cpu = &CPUS[current()];
    if cpu.space.load(Ordering::Relaxed) == word {
        return;
    }
    // Said before the load: whoever changes an entry and does not find this CPU here yet changed it before the load reads it.
    cpu.space.store(word, Ordering::SeqCst);
    load_root(root);
}

/// Drops every translation that this CPU has, and what it cached on the way to them.
pub fn flush_all() {
    if Step::Space.is_missing() {
        return;
    }
    let (root, _) = Cr3::read();
    load_root(PhysAddr::new(root.start_address().as_u64()).pfn());
}

/// Drops this CPU's translation of a page.
pub fn flush_page(addr: mm_types::VirtAddr) {
    if !Step::Pages.is_missing() {
        x86_64::instructions::tlb::flush(VirtAddr::new(addr.raw()));
    }
}

/// Returns the CPUs other than this one that may have translations of `space`, or any space's for `None`.
pub fn others_that_run(space: Option<SpaceId>) -> impl Iterator<Item = usize> {
    let me = current();
    let others = (0..count()).filter(move |cpu| *cpu != me && CPUS[*cpu].runs(space));
    others.filter(|_| !Step::Others.is_missing())
}

fn load_root(root: Pfn) {
    let addr = x86_64::PhysAddr::new(root.raw() << 12);
    let frame = PhysFrame::<Size4KiB>::containing_address(addr);
    // SAFETY: the kernel's root, or one that `create_space` made with the kernel's upper half; nothing the kernel uses is below.
    unsafe { Cr3::write(frame, Cr3Flags::empty()) };
}

const START_PAGE: u8 = 8;

/// Starts the CPUs that do not run yet; each calls [`init`] and goes to `other_cpu`. Returns when all run.
pub fn start_others(cpus: usize) {
    assert!(cpus <= MAX, "no more than {MAX} CPUs");
    RUNNING.store(1, Ordering::Release);
    let stub = direct(image_stub());
    let size = (&raw const ap16_end).addr() - (&raw const ap16).addr();
    let there = direct(u64::from(START_PAGE) << 12);
    // SAFETY: the stub in the image, and a page of conventional memory that nobody uses.
    unsafe { core::ptr::copy_nonoverlapping(stub, there, size) };
    for (cpu, stack) in STACKS.iter().enumerate().take(cpus).skip(1) {
        next_stack.store(stack.end(), Ordering::Release);
        apic::start(cpu, START_PAGE);
        while count() <= cpu {
            core::hint::spin_loop();
        }
    }
    // All run in the upper half now; programs get the lower one.
    let first = direct((&raw const kernel_root).addr() as u64).cast::<u64>();
    // SAFETY: the first word of the root table, by the direct map; CPUs read it at any time, and nobody needs what it maps.
    unsafe { first.write_volatile(0) };
    flush_all();
}

fn image_stub() -> u64 {
    // Linked where it is loaded.
    (&raw const ap16).addr() as u64
}

/// Says that this CPU runs.
pub fn started() {
    RUNNING.fetch_add(1, Ordering::AcqRel);
}

/// Returns the physical address of the page with the programs (kernel.ld).
pub fn programs_page() -> u64 {
    unsafe extern "C" {
        static user_start: u8;
    }
    image_address(&raw const user_start)
}

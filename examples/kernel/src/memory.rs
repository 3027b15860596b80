//! Where physical memory is seen, and a heap for the kernel's own tables.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr::{self, NonNull};

use mm_types::{Pfn, PhysAddr};
use spin::Mutex;

/// Where the first GiB of physical memory, and the local APIC, are seen (boot.s: slot 256).
const DIRECT_MAP: u64 = 0xffff_8000_0000_0000;
/// What boot.s maps of it.
pub const DIRECT_MAP_BYTES: u64 = 1 << 30;
/// Where the kernel's own image is seen (kernel.ld).
const IMAGE: u64 = 0xffff_ffff_8000_0000;

/// Returns where the kernel sees physical address `at`.
pub fn direct(at: u64) -> *mut u8 {
    ptr::with_exposed_provenance_mut((DIRECT_MAP + at) as usize)
}

/// Returns the physical address of something in the kernel's image.
pub fn image_address<T>(of: *const T) -> u64 {
    of.expose_provenance() as u64 - IMAGE
}

const HEAP_BYTES: usize = 24 << 20;
// Blocks of 16 bytes, 32, ..., 8 MiB.
const CLASSES: usize = 20;

#[repr(C, align(4096))]
struct Arena(UnsafeCell<[u8; HEAP_BYTES]>);

// SAFETY: reached only through blocks that the heap gave out, each to one owner.
unsafe impl Sync for Arena {}

static ARENA: Arena = Arena(UnsafeCell::new([0; HEAP_BYTES]));

/// Blocks whose sizes are powers of two; freed ones are linked through their first words.
///
/// # Invariants
/// What is on a list is inside the arena, aligned to its size up to a page, and nobody's.
struct Blocks {
    used: usize,
    free: [Option<NonNull<Free>>; CLASSES],
}

struct Free {
    next: Option<NonNull<Free>>,
}

// SAFETY: the blocks are memory without an owner; whoever has the value has them.
unsafe impl Send for Blocks {}

struct Heap(Mutex<Blocks>);

#[global_allocator]
static HEAP: Heap = Heap(Mutex::new(Blocks {
    used: 0,
    free: [None; CLASSES],
}));

fn class(layout: Layout) -> usize {
    let size = layout.size().max(layout.align()).max(16).next_power_of_two();
    size.trailing_zeros() as usize - 4
}

// SAFETY: blocks of a class are as large and as aligned as the class, which `class` chose for the layout; two never overlap,
// for they come from the unused end of the arena, once, or from the list of freed ones.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let class = class(layout);
        let size = 16usize << class.min(CLASSES);
        let mut blocks = self.0.lock();
        let Some(list) = blocks.free.get_mut(class).filter(|_| layout.align() <= 4096) else {
            return ptr::null_mut();
        };
        if let Some(block) = *list {
            // SAFETY: on a list, so it is nobody's and starts with a `Free` (type invariant).
            *list = unsafe { block.read() }.next;
            return block.as_ptr().cast();
        }
        let start = blocks.used.next_multiple_of(size.min(4096));
        if start + size > HEAP_BYTES {
            return ptr::null_mut();
        }
        blocks.used = start + size;
        // SAFETY: inside the arena, by the check above.
        unsafe { ARENA.0.get().cast::<u8>().add(start) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let mut blocks = self.0.lock();
        let list = &mut blocks.free[class(layout)];
        let Some(block) = NonNull::new(block.cast::<Free>()) else {
            return;
        };
        // SAFETY: the caller gives a block of this class up: 16 bytes at least, aligned to 16.
        unsafe { block.write(Free { next: *list }) };
        *list = Some(block);
    }
}

/// Returns the first frame after the kernel's image.
pub fn first_free_frame() -> Pfn {
    unsafe extern "C" {
        static kernel_end: u8;
    }
    PhysAddr::new(image_address(&raw const kernel_end)).pfn()
}

//! What this kernel lends to `backend-x86_64`: memory, frames, interrupts to other CPUs, and sleep. This file is all there is.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

use backend_x86_64::{
    FrameMapping, FrameSource, FrameWords, Kernel, Paging, Purpose, Shootdown, Space, Stale, Storage,
};
use migrate_core::Profile;
use mm_types::{AnonVma, AnonVmaLink, NodeId, Page, PageMap, Pfn, Sleep, SpaceId, VmaSlot, Vpn};
use spin::Mutex;
use x86_64::instructions::interrupts;

use crate::cpu::{self, CPUS};
use crate::memory::{DIRECT_MAP_BYTES, direct};
use crate::{apic, hold, trap};

/// This kernel's memory management.
pub type Mm = Kernel<'static, Machine>;

/// Frames for programs and their tables, in two nodes of the same size.
pub struct Machine {
    first: Pfn,
    frames: u64,
    free: [Mutex<VecDeque<Pfn>>; 2],
}

/// What is in a frame that is free.
pub const POISON: u64 = 0xdead_beef_dead_beef;

// SAFETY: frames are in the first GiB, which the direct map shows to the end, each at its own place (1, 2, 4). The kernel's image,
// heap and stacks are outside the frames of `Machine::new`, and ring 3 reaches frames by translations only (3).
unsafe impl FrameMapping for Machine {
    fn frame(&self, pfn: Pfn) -> Option<NonNull<FrameWords>> {
        let at = pfn.addr()?.raw();
        NonNull::new(direct(at).cast()).filter(|_| at < DIRECT_MAP_BYTES)
    }
}

impl FrameSource for Machine {
    fn take(&self, _purpose: Purpose) -> Option<Pfn> {
        hold::frame_taken();
        self.take_from(NodeId::new(0))
            .or_else(|| self.take_from(NodeId::new(1)))
    }

    fn give_back(&self, pfn: Pfn) {
        // Whoever reads it by an old translation shall see that.
        let words = self.frame(pfn).expect("a frame of this machine");
        // SAFETY: valid for as long as the machine (condition 1 of `FrameMapping`), and atomics.
        unsafe { words.as_ref() }
            .iter()
            .for_each(|word| word.store(POISON, Ordering::Relaxed));
        self.free[usize::from(self.node(pfn).raw())].lock().push_back(pfn);
    }
}

impl Machine {
    /// Makes a machine of the frames from `first` on, all free.
    pub fn new(first: Pfn, frames: u64) -> Self {
        let half = |node: u64| {
            (0..frames / 2)
                .map(|n| Pfn::new(first.raw() + node * (frames / 2) + n))
                .collect()
        };
        Self {
            first,
            frames,
            free: [Mutex::new(half(0)), Mutex::new(half(1))],
        }
    }

    /// Returns the node that a frame is in.
    pub fn node(&self, pfn: Pfn) -> NodeId {
        NodeId::new(u16::from(pfn.raw() - self.first.raw() >= self.frames / 2))
    }

    /// Gives a free frame of one node.
    pub fn take_from(&self, node: NodeId) -> Option<Pfn> {
        self.free[usize::from(node.raw())].lock().pop_front()
    }

    /// True where a frame is free.
    pub fn is_free(&self, pfn: Pfn) -> bool {
        self.free[usize::from(self.node(pfn).raw())].lock().contains(&pfn)
    }

    /// Returns all frames.
    pub fn frames(&self) -> impl Iterator<Item = Pfn> {
        (self.first.raw()..self.first.raw() + self.frames).map(Pfn::new)
    }

    /// Returns the first word of a frame.
    pub fn first_word(&self, pfn: Pfn) -> Option<u64> {
        // SAFETY: valid for as long as the machine (condition 1 of `FrameMapping`), and atomics.
        Some(unsafe { self.frame(pfn)?.as_ref() }[0].load(Ordering::Acquire))
    }
}

/// What the CPUs are asked to drop; one request at a time.
struct Request {
    /// Held by who asks, with interrupts on, so that it answers others meanwhile.
    asking: Mutex<()>,
    kind: AtomicU32,
    space: AtomicU32,
    pages: AtomicPtr<Vpn>,
    len: AtomicUsize,
    /// CPUs that have not answered.
    waiting: AtomicU32,
}

const PAGES: u32 = 0;
const SPACE: u32 = 1;
const EVERYTHING: u32 = 2;

static REQUEST: Request = Request {
    asking: Mutex::new(()),
    kind: AtomicU32::new(PAGES),
    space: AtomicU32::new(0),
    pages: AtomicPtr::new(core::ptr::null_mut()),
    len: AtomicUsize::new(0),
    waiting: AtomicU32::new(0),
};

/// Shootdowns, and interrupts sent for them.
pub static SHOOTDOWNS: AtomicU64 = AtomicU64::new(0);
/// See [`SHOOTDOWNS`].
pub static INTERRUPTS: AtomicU64 = AtomicU64::new(0);

impl Shootdown for Machine {
    fn shootdown(&self, stale: Stale<'_>) {
        debug_assert!(interrupts::are_enabled(), "a CPU that asks must be able to answer");
        SHOOTDOWNS.fetch_add(1, Ordering::Relaxed);
        let (kind, space, pages) = match stale {
            Stale::Pages(space, pages) => (PAGES, Some(space), pages),
            Stale::Space(space) => (SPACE, Some(space), [].as_slice()),
            Stale::Everything => (EVERYTHING, None, [].as_slice()),
        };
        hold::pass(stale);
        let _one = REQUEST.asking.lock();
        // The entries were written before; a CPU that is not found to run the space loads CR3 after this, and reads them.
        fence(Ordering::SeqCst);
        REQUEST.kind.store(kind, Ordering::Relaxed);
        REQUEST.space.store(space.map_or(0, SpaceId::raw), Ordering::Relaxed);
        REQUEST.pages.store(pages.as_ptr().cast_mut(), Ordering::Relaxed);
        REQUEST.len.store(pages.len(), Ordering::Relaxed);
        for cpu in cpu::others_that_run(space) {
            REQUEST.waiting.fetch_add(1, Ordering::Release);
            INTERRUPTS.fetch_add(1, Ordering::Relaxed);
            apic::interrupt(cpu, trap::SHOOTDOWN);
        }
        drop_translations(space, pages);
        while REQUEST.waiting.load(Ordering::Acquire) != 0 {
            cpu::halt_unless(|| REQUEST.waiting.load(Ordering::SeqCst) == 0);
        }
    }
}

/// The other half, on a CPU that was asked; in its interrupt handler, so it takes no lock.
pub fn on_shootdown() {
    // Pairs with the asker's addition, which comes after it wrote the request.
    REQUEST.waiting.load(Ordering::Acquire);
    let len = REQUEST.len.load(Ordering::Relaxed);
    let pages = REQUEST.pages.load(Ordering::Relaxed);
    // SAFETY: the asker's slice; it waits below for this CPU's answer and keeps it until then.
    let pages = unsafe { core::slice::from_raw_parts(pages, len) };
    let space = SpaceId::new(REQUEST.space.load(Ordering::Relaxed));
    let everything = REQUEST.kind.load(Ordering::Relaxed) == EVERYTHING;
    drop_translations((!everything).then_some(space), pages);
    if REQUEST.waiting.fetch_sub(1, Ordering::SeqCst) == 1 {
        cpu::wake_halted();
    }
}

// No pages named: all of the space, and what is cached on the way to them. One tag: there are no PCIDs here.
fn drop_translations(space: Option<SpaceId>, pages: &[Vpn]) {
    if !CPUS[cpu::current()].runs(space) {
        // It is in another space, or left this one meanwhile; loading CR3 dropped all.
    } else if pages.is_empty() {
        cpu::flush_all();
    } else {
        pages.iter().filter_map(|page| page.addr()).for_each(cpu::flush_page);
    }
}

impl Sleep for Machine {
    fn wait(&self, word: &AtomicU32, seen: u32) {
        let me = &CPUS[cpu::current()];
        me.set_asleep(true);
        // An interrupt that was another CPU's business wakes nobody: a waiter of 2006 would give up its reference, and take one
        // anew, while somebody counts them.
        while word.load(Ordering::SeqCst) == seen {
            cpu::halt_unless(|| word.load(Ordering::SeqCst) != seen);
        }
        me.set_asleep(false);
    }

    fn wake_all(&self, _word: &AtomicU32) {
        cpu::wake_halted();
    }
}

fn leak<T>(n: usize, make: impl FnMut() -> T) -> &'static mut [T] {
    let mut make = make;
    Box::leak((0..n).map(|_| make()).collect())
}

/// Makes a memory management of its own over `frames` frames from `first` on.
pub fn new_mm(first: Pfn, frames: u64, profile: &'static Profile) -> &'static Mm {
    let (areas, spaces) = (256, 16);
    let storage = Storage {
        pages: PageMap::new(first, leak(frames as usize, Page::new)),
        spaces: leak(spaces, Space::new),
        vmas: leak(areas, VmaSlot::default),
        anon_vmas: leak(areas, AnonVma::default),
        links: leak(areas, AnonVmaLink::default),
    };
    Box::leak(Box::new(Kernel::new(
        Machine::new(first, frames),
        Paging::Four,
        profile,
        storage,
    )))
}

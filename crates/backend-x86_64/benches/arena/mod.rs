//! A machine without CPUs: frames in ordinary memory, and a kernel over them with a space full of pages.
//!
//! Shared by the benchmarks here and by the program that compares all engines.

#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "each of the files that include this uses a part of it"
)]

pub(crate) mod moves;

use core::cell::{Cell, RefCell};
use core::ptr::NonNull;
use core::sync::atomic::AtomicU32;
use std::collections::VecDeque;

use backend_x86_64::{
    FrameMapping, FrameSource, FrameWords, Kernel, Paging, Purpose, Shootdown, Space, Stale, Storage,
};
use migrate_core::{Lru as _, MODERN};
use mm_types::{
    ActorId, AnonVma, AnonVmaLink, PAGE_SIZE, Page, PageMap, Pfn, Site, Sleep, VirtAddr, VmaFlags, VmaSlot,
};

const FIRST: Pfn = Pfn::new(0x100);
const START: VirtAddr = VirtAddr::new(0x4000_0000);

#[repr(C, align(4096))]
#[derive(Clone)]
pub(crate) struct Bytes([u8; PAGE_SIZE]);

/// What was asked to be invalidated.
#[derive(Clone, Copy, Default)]
pub(crate) struct Flushes {
    pub(crate) by_page: usize,
    pub(crate) pages: usize,
    pub(crate) spaces: usize,
    pub(crate) everything: usize,
}

/// Frames; a page that leaves one goes to the other end of the queue. One thread uses it.
pub(crate) struct Arena {
    memory: NonNull<Bytes>,
    frames: usize,
    free: RefCell<VecDeque<Pfn>>,
    pub(crate) flushes: Cell<Flushes>,
}

impl Arena {
    fn new(frames: usize) -> Self {
        // Written once, so that no page of it is the system's page of zeros.
        let memory = vec![Bytes([1; PAGE_SIZE]); frames].leak();
        Self {
            memory: NonNull::from(memory).cast(),
            frames,
            free: RefCell::new((0..frames as u64).map(|n| Pfn::new(FIRST.raw() + n)).collect()),
            flushes: Cell::default(),
        }
    }

    pub(crate) fn take_one(&self) -> Option<Pfn> {
        self.free.borrow_mut().pop_front()
    }

    /// Returns the frames that will be taken next.
    pub(crate) fn free_frames(&self, n: usize) -> Vec<Pfn> {
        self.free.borrow().iter().copied().take(n).collect()
    }
}

// SAFETY: a vector that was leaked (1, 4), one element for each frame (2), which only the kernel and this program's copies use, never
// at one time (3).
unsafe impl FrameMapping for Arena {
    fn frame(&self, pfn: Pfn) -> Option<NonNull<FrameWords>> {
        let n = usize::try_from(pfn.raw().checked_sub(FIRST.raw())?)
            .ok()
            .filter(|n| *n < self.frames)?;
        // SAFETY: inside the vector.
        Some(unsafe { self.memory.add(n) }.cast())
    }
}

impl FrameSource for Arena {
    fn take(&self, _purpose: Purpose) -> Option<Pfn> {
        self.take_one()
    }
    fn give_back(&self, pfn: Pfn) {
        self.free.borrow_mut().push_back(pfn);
    }
}

impl Shootdown for Arena {
    fn shootdown(&self, stale: Stale<'_>) {
        let mut flushes = self.flushes.get();
        match stale {
            Stale::Pages(_, pages) => {
                flushes.by_page += 1;
                flushes.pages += pages.len();
            }
            Stale::Space(_) => flushes.spaces += 1,
            Stale::Everything => flushes.everything += 1,
        }
        self.flushes.set(flushes);
    }
}

impl Sleep for Arena {
    fn wait(&self, _word: &AtomicU32, _seen: u32) {}
    fn wake_all(&self, _word: &AtomicU32) {}
}

pub(crate) type Host = Kernel<'static, Arena>;

fn leak<T>(n: usize, make: impl FnMut() -> T) -> &'static mut [T] {
    let mut make = make;
    Box::leak((0..n).map(|_| make()).collect())
}

/// Makes the kernel, and a space in which each of `pages` pages was written to once, and `spaces` less one that map the same pages since
/// a fork; returns where the pages are in the first.
pub(crate) fn boot(pages: usize, spaces: usize) -> (Host, Vec<Site>) {
    // Two nodes, and the tables: a page of entries for 512 pages of each space, and what leads to it.
    let frames = 2 * pages + spaces * (pages / 512 + 8) + 512;
    let links = spaces * (spaces + 1) / 2 + 4;
    let storage = Storage {
        pages: PageMap::new(FIRST, leak(frames, Page::new)),
        spaces: leak(spaces, Space::new),
        vmas: leak(spaces + 3, VmaSlot::default),
        anon_vmas: leak(spaces + 3, AnonVma::default),
        links: leak(links, AnonVmaLink::default),
    };
    let kernel = Kernel::new(Arena::new(frames), Paging::Four, &MODERN, storage);
    let space = kernel.create_space(None).unwrap();
    let flags = VmaFlags::READ | VmaFlags::WRITE | VmaFlags::MAYREAD | VmaFlags::MAYWRITE;
    kernel.map_area(space, START, pages as u64, flags).unwrap();
    let addr = |n: u64| VirtAddr::new(START.raw() + n * PAGE_SIZE as u64);
    let sites: Vec<Site> = (0..pages as u64).map(|n| Site::new(space, addr(n).vpn())).collect();
    for site in &sites {
        let write = 1 << 1;
        kernel
            .page_fault(space, addr_of(*site), write, ActorId::new(1), ())
            .unwrap();
    }
    for _ in 1..spaces {
        kernel.fork(space, ()).unwrap();
    }
    kernel.drain();
    (kernel, sites)
}

/// Returns the address of a page.
pub(crate) const fn addr_of(site: Site) -> VirtAddr {
    VirtAddr::new(site.page.raw() * PAGE_SIZE as u64)
}

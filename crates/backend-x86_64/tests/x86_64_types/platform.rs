//! What a kernel built on the `x86_64` crate lends: its frame allocator, its physical memory offset, its addresses.

use core::ptr::NonNull;
use core::sync::atomic::AtomicU32;
use std::sync::Mutex;

use backend_x86_64::{FrameMapping, FrameSource, FrameWords, MapError, Purpose, Shootdown, Stale};
use mm_types::{Pfn, PhysAddr, Sleep, SpaceId, VirtAddr, Vpn};
use x86_64::structures::paging::{FrameAllocator, FrameDeallocator, Page, PhysFrame};

/// Returns the number of a frame of theirs.
pub(crate) fn pfn(frame: PhysFrame) -> Pfn {
    PhysAddr::new(frame.start_address().as_u64()).pfn()
}

/// Returns their frame of a number; `None` where it has no address.
pub(crate) fn frame(pfn: Pfn) -> Option<PhysFrame> {
    let addr = x86_64::PhysAddr::try_new(pfn.addr()?.raw()).ok()?;
    Some(PhysFrame::containing_address(addr))
}

/// Returns the address of a page of theirs.
pub(crate) fn addr(page: Page) -> VirtAddr {
    VirtAddr::new(page.start_address().as_u64())
}

/// Returns their page of a number; `None` where it is not canonical.
pub(crate) fn page(vpn: Vpn) -> Option<Page> {
    let addr = x86_64::VirtAddr::try_new(vpn.addr()?.raw()).ok()?;
    Some(Page::containing_address(addr))
}

/// What the shootdown is left to do: their `tlb::flush` and `tlb::flush_all`, and an interrupt to the CPUs that run the space.
pub(crate) trait Flush {
    fn page(&self, space: SpaceId, page: Page);
    fn space(&self, space: Option<SpaceId>);
}

/// A kernel's memory: where all of it is mapped, which frames there are, and who gives them.
pub(crate) struct Memory<A, F> {
    offset: x86_64::VirtAddr,
    frames: core::ops::Range<PhysFrame>,
    allocator: Mutex<A>,
    pub(crate) flush: F,
}

impl<A, F> Memory<A, F> {
    /// # Safety
    /// All of `frames` is mapped at its physical address plus `offset`, for reads and writes, for as long as this is there and
    /// wherever it is moved to. `allocator` gives each of them to one owner at a time, and nobody else touches what it gave.
    pub(crate) unsafe fn new(
        offset: x86_64::VirtAddr,
        frames: core::ops::Range<PhysFrame>,
        allocator: A,
        flush: F,
    ) -> Self {
        Self {
            offset,
            frames,
            allocator: Mutex::new(allocator),
            flush,
        }
    }
}

// SAFETY: the caller of `new` promised all four conditions: mapped for good (1, 4), each at its own address (2), and nobody else's (3).
unsafe impl<A, F> FrameMapping for Memory<A, F> {
    fn frame(&self, pfn: Pfn) -> Option<NonNull<FrameWords>> {
        let frame = frame(pfn).filter(|frame| self.frames.contains(frame))?;
        let at = self.offset + frame.start_address().as_u64();
        NonNull::new(core::ptr::with_exposed_provenance_mut(
            usize::try_from(at.as_u64()).ok()?,
        ))
    }
}

impl<
    A: FrameAllocator<x86_64::structures::paging::Size4KiB> + FrameDeallocator<x86_64::structures::paging::Size4KiB>,
    F,
> FrameSource for Memory<A, F>
{
    fn take(&self, _purpose: Purpose) -> Option<Pfn> {
        self.allocator.lock().unwrap().allocate_frame().map(pfn)
    }

    fn give_back(&self, pfn: Pfn) {
        if let Some(frame) = frame(pfn) {
            // SAFETY: it came from `take`, no translation names it any more, and the backend gives it back once.
            unsafe { self.allocator.lock().unwrap().deallocate_frame(frame) };
        }
    }
}

impl<A, F: Flush> Shootdown for Memory<A, F> {
    fn shootdown(&self, stale: Stale<'_>) {
        match stale {
            Stale::Pages(space, pages) => {
                let pages = pages.iter().filter_map(|vpn| page(*vpn));
                pages.for_each(|page| self.flush.page(space, page));
            }
            Stale::Space(space) => self.flush.space(Some(space)),
            Stale::Everything => self.flush.space(None),
        }
    }
}

// One CPU and one thread: there is nobody to wait for.
impl<A, F> Sleep for Memory<A, F> {
    fn wait(&self, _word: &AtomicU32, _seen: u32) {}
    fn wake_all(&self, _word: &AtomicU32) {}
}

/// Maps their frame at their page (their `Mapper::map_to`), with the backend's errors.
pub(crate) fn map_to<P: backend_x86_64::Platform>(
    kernel: &backend_x86_64::Kernel<'_, P>,
    space: SpaceId,
    page: Page,
    frame: PhysFrame,
    flags: mm_types::PteFlags,
) -> Result<(), MapError> {
    let frame = PhysAddr::new(frame.start_address().as_u64());
    kernel.map_frame(space, addr(page), frame, flags).map(drop)
}

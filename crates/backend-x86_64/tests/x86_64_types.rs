//! The backend under a kernel that is built on the `x86_64` crate; that crate's own mapper says what the tables mean.

#![cfg(target_arch = "x86_64")]

#[path = "x86_64_types/platform.rs"]
mod platform;

use std::sync::Mutex;

use backend_x86_64::{HwBits, Kernel, MapError, Paging, Space, Storage};
use migrate_core::{Frames, Lru as _, MODERN, OnePage, PageRef, UsesPageMap, isolate_lru_page, migrate_page};
use mm_types::trace::{Event, Observer};
use mm_types::{
    ActorId, AnonVma, AnonVmaLink, Mode, Page as Descriptor, PageMap, PteFlags, Reason, Site, SpaceId, VmaFlags,
    VmaSlot,
};
use x86_64::structures::paging::mapper::{MappedFrame, TranslateResult};
use x86_64::structures::paging::{
    FrameAllocator, FrameDeallocator, Mapper, OffsetPageTable, Page, PageTable, PageTableFlags, PhysFrame, Size4KiB,
    Translate,
};
use x86_64::{PhysAddr, VirtAddr};

use platform::{Flush, Memory, addr, frame, map_to, pfn};

const FRAMES: usize = 64;
const FIRST: u64 = 0x10_0000;
const FLAGS: VmaFlags = VmaFlags::READ
    .union(VmaFlags::WRITE)
    .union(VmaFlags::MAYREAD)
    .union(VmaFlags::MAYWRITE);

/// An allocator as such kernels have it.
struct Free(Vec<PhysFrame>);

// SAFETY: a frame is given once until it comes back.
unsafe impl FrameAllocator<Size4KiB> for Free {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        self.0.pop()
    }
}

impl FrameDeallocator<Size4KiB> for Free {
    unsafe fn deallocate_frame(&mut self, frame: PhysFrame) {
        assert!(!self.0.contains(&frame), "{frame:?} was freed twice");
        self.0.push(frame);
    }
}

/// Pages that were flushed.
#[derive(Default)]
struct Flushed(Mutex<Vec<Page>>);

impl Flush for Flushed {
    fn page(&self, _space: SpaceId, page: Page) {
        self.0.lock().unwrap().push(page);
    }
    fn space(&self, _space: Option<SpaceId>) {}
}

type Theirs<'s> = Kernel<'s, Memory<Free, Flushed>>;

#[repr(C, align(4096))]
struct Frame([u64; 512]);

fn physical(n: usize) -> PhysFrame {
    PhysFrame::containing_address(PhysAddr::new(FIRST + n as u64 * 4096))
}

/// Runs `f` on a kernel whose physical memory is ordinary memory, and with the offset where it is mapped.
fn with_kernel(f: impl FnOnce(&Theirs<'_>, VirtAddr)) {
    let mut memory: Vec<Frame> = (0..FRAMES).map(|_| Frame([0; 512])).collect();
    let start = memory.as_mut_ptr().expose_provenance() as u64;
    let offset = VirtAddr::new(start - FIRST);
    let all = physical(0)..physical(FRAMES);
    let free = Free((0..FRAMES).rev().map(physical).collect());
    // SAFETY: the vector is there until the end of this function and is not touched; each of its elements is one frame.
    let platform = unsafe { Memory::new(offset, all, free, Flushed::default()) };
    let pages: Vec<Descriptor> = (0..FRAMES).map(|_| Descriptor::new()).collect();
    let spaces = [const { Space::new() }; 4];
    let (mut vmas, mut roots, mut links) = (
        [VmaSlot::default(); 16],
        [AnonVma::default(); 16],
        [AnonVmaLink::default(); 16],
    );
    let storage = Storage {
        pages: PageMap::new(pfn(physical(0)), &pages),
        spaces: &spaces,
        vmas: &mut vmas,
        anon_vmas: &mut roots,
        links: &mut links,
    };
    f(&Kernel::new(platform, Paging::Four, &MODERN, storage), offset);
}

fn user_page(n: u64) -> Page {
    Page::containing_address(VirtAddr::new(0x40_0000 + n * 4096))
}

/// What the `x86_64` crate's own mapper does with a root.
fn with_mapper<R>(root: PhysFrame, offset: VirtAddr, f: impl FnOnce(&mut OffsetPageTable<'_>) -> R) -> R {
    let table = (offset + root.start_address().as_u64()).as_mut_ptr::<PageTable>();
    // SAFETY: a root's frame in memory, and this thread is the only one; the backend is not called meanwhile.
    let table = unsafe { &mut *table };
    // SAFETY: all frames that the tables name are mapped at the offset.
    f(&mut unsafe { OffsetPageTable::new(table, offset) })
}

/// Where their mapper says that a page is. It calls every word that is not 0 a mapping, and a migration entry is not 0: whoever
/// asks it looks at the flags too.
fn translated(kernel: &Theirs<'_>, offset: VirtAddr, space: SpaceId, page: Page) -> Option<PhysFrame> {
    let root = kernel.space(space).unwrap().root().and_then(frame).unwrap();
    let there = with_mapper(root, offset, |mapper| mapper.translate(page.start_address()));
    match there {
        TranslateResult::Mapped {
            frame: MappedFrame::Size4KiB(frame),
            flags,
            ..
        } => flags.contains(PageTableFlags::PRESENT).then_some(frame),
        _ => None,
    }
}

fn word(offset: VirtAddr, frame: PhysFrame) -> *mut u64 {
    (offset + frame.start_address().as_u64()).as_mut_ptr()
}

#[test]
#[cfg_attr(
    miri,
    ignore = "their mapper and this crate share tables, which Miri's models of aliasing do not allow"
)]
fn their_mapper_finds_the_page_where_it_was_migrated_to() {
    with_kernel(|kernel, offset| {
        let space = kernel.create_space(None).unwrap();
        let page = user_page(3);
        kernel.map_area(space, addr(page), 1, FLAGS).unwrap();
        assert_eq!(translated(kernel, offset, space, page), None);
        kernel
            .page_fault(space, addr(page), 1 << 1, ActorId::new(1), ())
            .unwrap();
        kernel.drain();
        let before = translated(kernel, offset, space, page).unwrap();
        // SAFETY: a frame of the arena that no reference names; the program's store.
        unsafe { word(offset, before).write(42) };

        let found = PageRef::get(kernel.page_map(), pfn(before)).unwrap();
        let isolated = isolate_lru_page(kernel, &found, ()).unwrap();
        kernel.put(found);
        let new = kernel.allocate().unwrap();
        let target = frame(new.pfn()).unwrap();
        // In the middle their mapper sees that nothing is mapped.
        let looked = Mutex::new(0);
        let look = Look(|event: Event| {
            if matches!(event, Event::Copy { .. }) {
                assert_eq!(translated(kernel, offset, space, page), None);
                *looked.lock().unwrap() += 1;
            }
        });
        let moved = migrate_page(
            kernel,
            isolated,
            new,
            kernel.profile(),
            Mode::Sync,
            Reason::Compaction,
            &look,
        );
        let Ok(OnePage::Moved { old }) = moved else {
            panic!("{moved:?}");
        };
        kernel.put(old.into_page());
        assert_eq!(*looked.lock().unwrap(), 1);

        assert_eq!(translated(kernel, offset, space, page), Some(target));
        // SAFETY: as above.
        assert_eq!(unsafe { word(offset, target).read() }, 42);
        assert!(
            kernel.platform().flush.0.lock().unwrap().contains(&page),
            "the old translation was flushed"
        );
        assert_eq!(kernel.destroy_space(space, ()), Ok(()));
    });
}

#[test]
#[cfg_attr(
    miri,
    ignore = "their mapper and this crate share tables, which Miri's models of aliasing do not allow"
)]
fn their_frames_and_pages_go_in_and_mistakes_come_back_typed() {
    with_kernel(|kernel, offset| {
        let space = kernel.create_space(None).unwrap();
        kernel.map_area(space, addr(user_page(0)), 4, FLAGS).unwrap();
        let mine = kernel.allocate().unwrap();
        let at = frame(mine.pfn()).unwrap();
        assert_eq!(map_to(kernel, space, user_page(1), at, PteFlags::WRITE), Ok(()));
        assert_eq!(translated(kernel, offset, space, user_page(1)), Some(at));
        let word = kernel.word(Site::new(space, addr(user_page(1)).vpn()));
        let (theirs, bits) = (PageTableFlags::from_bits_truncate(word.bits()), word.hw_bits());
        assert!(theirs.contains(PageTableFlags::PRESENT | PageTableFlags::WRITABLE | PageTableFlags::USER_ACCESSIBLE));
        assert!(theirs.contains(PageTableFlags::NO_EXECUTE) && bits.contains(HwBits::NO_EXECUTE));

        let again = map_to(kernel, space, user_page(1), at, PteFlags::WRITE);
        assert!(matches!(again, Err(MapError::AlreadyMapped { .. })), "{again:?}");
        let outside = physical(FRAMES);
        let map = map_to(kernel, space, user_page(2), outside, PteFlags::WRITE);
        assert_eq!(map, Err(MapError::FrameOutOfRange(pfn(outside))));
        let kernels = Page::containing_address(VirtAddr::new(0xffff_8000_0000_0000));
        let map = map_to(kernel, space, kernels, at, PteFlags::WRITE);
        assert_eq!(map, Err(MapError::KernelHalf(addr(kernels))));
        kernel.put(mine);
        assert_eq!(kernel.destroy_space(space, ()), Ok(()));
    });
}

#[test]
#[cfg_attr(
    miri,
    ignore = "their mapper and this crate share tables, which Miri's models of aliasing do not allow"
)]
fn what_their_mapper_mapped_in_the_kernels_half_is_in_every_space() {
    with_kernel(|kernel, offset| {
        let page = Page::containing_address(VirtAddr::new(0xffff_9000_0000_0000));
        let template = kernel.create_space(None).unwrap();
        let root = kernel.space(template).unwrap().root().unwrap();
        let held = kernel.allocate().unwrap();
        let target = frame(held.pfn()).unwrap();
        // The template's upper half is mapped by theirs, with frames of the same kind.
        let mut tables = Free((FRAMES - 8..FRAMES).map(physical).collect());
        with_mapper(frame(root).unwrap(), offset, |mapper| {
            let flags = PageTableFlags::PRESENT | PageTableFlags::WRITABLE;
            // SAFETY: a frame that nobody else has; nobody runs these tables.
            let mapped = unsafe { mapper.map_to(page, target, flags, &mut tables) };
            mapped.unwrap().ignore();
        });
        let space = kernel.create_space(Some(root)).unwrap();
        assert_eq!(translated(kernel, offset, space, page), Some(target));
        assert_eq!(kernel.destroy_space(space, ()), Ok(()));
        assert_eq!(
            translated(kernel, offset, template, page),
            Some(target),
            "the kernel's half stays"
        );
        kernel.put(held);
    });
}

/// Calls a function for each event.
struct Look<F>(F);

impl<F: Fn(Event)> Observer for &Look<F> {
    const ENABLED: bool = true;

    fn event(self, event: Event) {
        (self.0)(event);
    }
}

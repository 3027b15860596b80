//! What a page costs to move in batches of 512, on page tables in ordinary memory, beside a plain copy of the same pages in the same
//! order: `cargo bench -p backend-x86_64 --bench batch`. The ratio is printed at the end.
//!
//! 256 MiB move, so that neither side lives in a cache. No CPU uses the tables, so a shootdown costs nothing here: this is the
//! price of the bookkeeping. The two alternate, round by round, so that the clock of the machine and other work on it meet both.

use core::cell::RefCell;
use core::hint::black_box;
use core::ptr::NonNull;
use core::sync::atomic::AtomicU32;
use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Instant;

use backend_x86_64::{
    FrameMapping, FrameSource, FrameWords, Kernel, Paging, Purpose, Shootdown, Space, Stale, Storage,
};
use criterion::{Criterion, Throughput};
use migrate_core::{
    Args, Frames, FromFn, Isolated, Lru as _, MODERN, PageRef, Slot, UsesPageMap, isolate_lru_page, migrate_pages,
    putback_lru_pages,
};
use mm_types::{
    ActorId, AnonVma, AnonVmaLink, Mode, PAGE_SIZE, Page, PageMap, Pfn, Reason, Refusal, Site, Sleep, SpaceId,
    VirtAddr, VmaFlags, VmaSlot,
};

const PAGES: usize = (256 << 20) / PAGE_SIZE;
const BATCH: usize = 512;
// Two nodes, and the tables.
const FRAMES: usize = 2 * PAGES + 1024;
const FIRST: Pfn = Pfn::new(0x100);
const START: VirtAddr = VirtAddr::new(0x4000_0000);

#[repr(C, align(4096))]
#[derive(Clone)]
struct Bytes([u8; PAGE_SIZE]);

/// Frames; a page that leaves one goes to the other end of the queue.
struct Arena {
    memory: NonNull<Bytes>,
    free: Mutex<VecDeque<Pfn>>,
}

impl Arena {
    fn new() -> Self {
        // Written once, so that no page of it is the system's page of zeros.
        let memory = vec![Bytes([1; PAGE_SIZE]); FRAMES].leak();
        Self {
            memory: NonNull::from(memory).cast(),
            free: Mutex::new((0..FRAMES as u64).map(|n| Pfn::new(FIRST.raw() + n)).collect()),
        }
    }

    fn take_one(&self) -> Option<Pfn> {
        self.free.lock().unwrap().pop_front()
    }
}

// SAFETY: the memory is there for good, and reached as `FrameMapping` says.
unsafe impl Sync for Arena {}

// SAFETY: a vector that was leaked (1, 4), one element for each frame (2), which only the kernel and this program's copies use, never
// at one time (3).
unsafe impl FrameMapping for Arena {
    fn frame(&self, pfn: Pfn) -> Option<NonNull<FrameWords>> {
        let n = usize::try_from(pfn.raw().checked_sub(FIRST.raw())?)
            .ok()
            .filter(|n| *n < FRAMES)?;
        // SAFETY: inside the vector.
        Some(unsafe { self.memory.add(n) }.cast())
    }
}

impl FrameSource for Arena {
    fn take(&self, _purpose: Purpose) -> Option<Pfn> {
        self.take_one()
    }
    fn give_back(&self, pfn: Pfn) {
        self.free.lock().unwrap().push_back(pfn);
    }
}

impl Shootdown for Arena {
    fn shootdown(&self, stale: Stale<'_>) {
        black_box(stale);
    }
}

impl Sleep for Arena {
    fn wait(&self, _word: &AtomicU32, _seen: u32) {}
    fn wake_all(&self, _word: &AtomicU32) {}
}

type Host = Kernel<'static, Arena>;

fn leak<T>(n: usize, make: impl FnMut() -> T) -> &'static mut [T] {
    let mut make = make;
    Box::leak((0..n).map(|_| make()).collect())
}

fn boot() -> (Host, SpaceId, Vec<Site>) {
    let storage = Storage {
        pages: PageMap::new(FIRST, leak(FRAMES, Page::new)),
        spaces: leak(1, Space::new),
        vmas: leak(4, VmaSlot::default),
        anon_vmas: leak(4, AnonVma::default),
        links: leak(4, AnonVmaLink::default),
    };
    let kernel = Kernel::new(Arena::new(), Paging::Four, &MODERN, storage);
    let space = kernel.create_space(None).unwrap();
    let flags = VmaFlags::READ | VmaFlags::WRITE | VmaFlags::MAYREAD | VmaFlags::MAYWRITE;
    kernel.map_area(space, START, PAGES as u64, flags).unwrap();
    let addr = |n: u64| VirtAddr::new(START.raw() + n * PAGE_SIZE as u64);
    for n in 0..PAGES as u64 {
        kernel.page_fault(space, addr(n), 1 << 1, ActorId::new(1), ()).unwrap();
    }
    kernel.drain();
    let sites = (0..PAGES as u64).map(|n| Site::new(space, addr(n).vpn()));
    let sites = sites.collect();
    (kernel, space, sites)
}

/// What it took to move every page to the frames that were free for longest.
struct Took {
    /// The runs alone.
    runs: Duration,
    /// From looking each page up to putting it back on the LRU.
    all: Duration,
}

fn move_all(kernel: &Host, sites: &[Site], slots: &mut [Slot<Host>]) -> Took {
    let begun = Instant::now();
    let (mut moved, mut runs) = (0, Duration::ZERO);
    for batch in sites.chunks(BATCH) {
        let mut from: VecDeque<Isolated<PageRef>> = VecDeque::with_capacity(BATCH);
        for site in batch {
            let pfn = kernel.entry(*site).pfn().unwrap();
            let page = PageRef::get(kernel.page_map(), pfn).unwrap();
            from.push_back(isolate_lru_page(kernel, &page, ()).unwrap());
            kernel.put(page);
        }
        let mut failed = VecDeque::new();
        let args = Args {
            from: &mut from,
            target: FromFn {
                take: |_: &PageRef| {
                    let pfn = kernel.platform().take_one().ok_or(Refusal::NoTarget)?;
                    PageRef::allocate(kernel.page_map(), pfn).ok_or(Refusal::NoTarget)
                },
                give_back: |page| kernel.put(page),
            },
            moved: None,
            failed: &mut failed,
            slots,
            profile: &MODERN,
            mode: Mode::Sync,
            reason: Reason::Compaction,
            outcome: &mut |_, _| {},
            observer: (),
        };
        let run = Instant::now();
        moved += migrate_pages(kernel, args).unwrap().moved;
        runs += run.elapsed();
        putback_lru_pages(kernel, &mut from, ());
        putback_lru_pages(kernel, &mut failed, ());
        kernel.drain();
    }
    let all = begun.elapsed();
    assert_eq!(moved as usize, PAGES, "every page moves");
    Took { runs, all }
}

/// Copies every page to where it would be moved to.
fn copy_all(kernel: &Host, sites: &[Site]) -> Duration {
    let frames: Vec<Pfn> = sites.iter().map(|site| kernel.entry(*site).pfn().unwrap()).collect();
    let targets: Vec<Pfn> = kernel
        .platform()
        .free
        .lock()
        .unwrap()
        .iter()
        .copied()
        .take(PAGES)
        .collect();
    let begun = Instant::now();
    for (from, to) in frames.iter().zip(&targets) {
        let at = |pfn: &Pfn| kernel.platform().frame(*pfn).unwrap().cast::<Bytes>();
        // SAFETY: different frames of the arena, the target a free one; this is the only thread.
        unsafe { at(from).copy_to_nonoverlapping(at(to), 1) };
    }
    begun.elapsed()
}

fn main() {
    let (kernel, _space, sites) = boot();
    let slots = RefCell::new((0..BATCH).map(|_| Slot::new()).collect::<Vec<Slot<Host>>>());
    let (mut running, mut moving, mut copying) = (Vec::new(), Vec::new(), Vec::new());
    // The first rounds take the memory.
    for _ in 0..2 {
        move_all(&kernel, &sites, &mut slots.borrow_mut());
    }
    for _ in 0..10 {
        copying.push(copy_all(&kernel, &sites));
        let took = move_all(&kernel, &sites, &mut slots.borrow_mut());
        running.push(took.runs);
        moving.push(took.all);
    }

    let mut criterion = Criterion::default().configure_from_args().sample_size(10);
    let mut group = criterion.benchmark_group("batch_of_512");
    group.throughput(Throughput::Bytes((PAGES * PAGE_SIZE) as u64));
    group.bench_function("migrate", |b| {
        b.iter_custom(|rounds| {
            (0..rounds)
                .map(|_| move_all(&kernel, &sites, &mut slots.borrow_mut()).runs)
                .sum()
        });
    });
    group.bench_function("memcpy", |b| {
        b.iter_custom(|rounds| (0..rounds).map(|_| copy_all(&kernel, &sites)).sum());
    });
    group.finish();
    criterion.final_summary();

    let per_page = |rounds: &mut Vec<Duration>| {
        rounds.sort_unstable();
        rounds[rounds.len() / 2].as_nanos() as f64 / PAGES as f64
    };
    let (running, moving, copying) = (per_page(&mut running), per_page(&mut moving), per_page(&mut copying));
    println!(
        "{PAGES} pages, batches of {BATCH}: {running:.0} ns a page to move, {copying:.0} to copy: ratio {:.2}; with looking up, isolating \
         and putting back {moving:.0} ns: ratio {:.2}",
        running / copying,
        moving / copying
    );
}

//! What a page costs to move in batches of 512, on page tables in ordinary memory, beside a plain copy of the same pages in the same
//! order: `cargo bench -p backend-x86_64 --bench batch`. The figures are printed at the end.
//!
//! 256 MiB move, so that neither side lives in a cache. No CPU uses the tables, so a shootdown costs nothing here: this is the
//! price of the bookkeeping and of the copy, which goes past the caches: a page's next reader fetches it from memory, as it would after
//! a plain copy of so much, but for the last of it. Frames come from a queue that takes no lock, as from a CPU's own list. The two sides alternate, round by
//! round, so that the clock of the machine and other work on it meet both; what counts is the ratio.

mod arena;

use core::cell::RefCell;
use core::hint::black_box;
use core::ops::ControlFlow;
use core::time::Duration;
use std::time::Instant;

use arena::Host;
use arena::moves::{copy_all, memcpy, move_all};
use criterion::{Criterion, Throughput};
use migrate_core::{Entry, Frames, PageRef, Rmap, Slot, UsesPageMap};
use mm_types::{Pfn, Pte, Site};

const PAGES: usize = (256 << 20) / mm_types::PAGE_SIZE;
const BATCH: usize = 512;

/// Copies the first half of the free frames to the second half: as a run copies, and by `memcpy`.
fn copy_free(kernel: &Host) -> [Duration; 2] {
    let free = kernel.platform().free_frames(PAGES);
    let (from, to) = free.split_at(PAGES / 2);
    let lock = |pfn: &Pfn| {
        let page = PageRef::allocate(kernel.page_map(), *pfn).unwrap();
        kernel.try_lock(page).unwrap()
    };
    let locked: Vec<_> = free.iter().map(lock).collect();
    let begun = Instant::now();
    for (from, to) in from.iter().zip(to) {
        kernel.copy_frame(*from, *to).unwrap();
    }
    let ours = begun.elapsed();
    let plain = memcpy(kernel, from.iter().copied().zip(to.iter().copied()));
    for locked in locked {
        // The frame is in the queue already.
        let page = kernel.unlock(locked);
        assert!(kernel.page_map().page(page.pfn()).unwrap().put());
    }
    [ours, plain]
}

/// Walks the reverse map of every page, and does `edit` to each entry found.
fn walk_all(kernel: &Host, sites: &[Site], edit: &dyn Fn(&mut dyn Entry)) -> Duration {
    let mut took = Duration::ZERO;
    for batch in sites.chunks(BATCH) {
        let lock = |site: &Site| kernel.try_lock(kernel.get(kernel.entry(*site).pfn().unwrap()).unwrap());
        let locked: Vec<_> = batch.iter().map(|site| lock(site).unwrap()).collect();
        let mut found = 0;
        let begun = Instant::now();
        let mut gather = kernel.gather();
        for page in &locked {
            kernel.walk(page, &mut gather, &mut |entry| {
                edit(entry);
                found += 1;
                ControlFlow::Continue(())
            });
        }
        kernel.flush(gather);
        took += begun.elapsed();
        assert_eq!(found, batch.len(), "every page is mapped once");
        for page in locked {
            let page = kernel.unlock(page);
            kernel.put(page);
        }
    }
    took
}

fn look(entry: &mut dyn Entry) {
    black_box(entry.read());
}

// Makes an old entry young and a young one old: an exchange of the word, and its translation noted.
fn change(entry: &mut dyn Entry) {
    let edited = entry.update(&|pte| match pte {
        Pte::Present { pfn, flags } => Some(Pte::present(pfn, flags.symmetric_difference(mm_types::PteFlags::YOUNG))),
        _ => None,
    });
    assert!(edited.is_some());
}

/// Durations of one thing, one a round.
#[derive(Default)]
struct Rounds(Vec<f64>);

impl Rounds {
    fn add(&mut self, took: Duration, pages: usize) {
        self.0.push(took.as_nanos() as f64 / pages as f64);
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    fn median(&self) -> f64 {
        self.sorted()[self.0.len() / 2]
    }

    /// The median, and the spread.
    fn text(&self) -> String {
        let sorted = self.sorted();
        format!(
            "{:.0} ns ({:.0} to {:.0})",
            self.median(),
            sorted[0],
            sorted[sorted.len() - 1]
        )
    }

    /// This over `other`, round by round.
    fn over(&self, other: &Self) -> String {
        let ratios = Self(self.0.iter().zip(&other.0).map(|(a, b)| a / b).collect());
        let sorted = ratios.sorted();
        format!(
            "{:.2} ({:.2} to {:.2})",
            ratios.median(),
            sorted[0],
            sorted[sorted.len() - 1]
        )
    }
}

const ROUNDS: usize = 11;

fn main() {
    let (kernel, sites) = arena::boot(PAGES, 1);
    let new_slots = |n: usize| (0..n).map(|_| Slot::new()).collect::<Vec<Slot<Host>>>();
    let slots = RefCell::new(new_slots(BATCH));
    // The first rounds take the memory.
    for _ in 0..2 {
        move_all(&kernel, &sites, &mut slots.borrow_mut());
    }
    let [mut running, mut moving, mut copying] = [(); 3].map(|()| Rounds::default());
    for _ in 0..ROUNDS {
        copying.add(copy_all(&kernel, &sites), PAGES);
        let took = move_all(&kernel, &sites, &mut slots.borrow_mut());
        running.add(took.runs, PAGES);
        moving.add(took.all, PAGES);
    }

    let mut criterion = Criterion::default().configure_from_args().sample_size(10);
    let mut group = criterion.benchmark_group("batch_of_512");
    group.throughput(Throughput::Bytes((PAGES * mm_types::PAGE_SIZE) as u64));
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

    println!("{PAGES} pages, batches of {BATCH}, {ROUNDS} rounds of each in turn; medians, and the spread; a page:");
    println!("  memcpy                           {}", copying.text());
    println!("  migrate_pages                    {}", running.text());
    println!("    ratio to memcpy                {}", running.over(&copying));
    println!("  with look up, isolate, put back  {}", moving.text());
    println!("    ratio to memcpy                {}", moving.over(&copying));

    let [mut ours, mut plain, mut walking, mut editing] = [(); 4].map(|()| Rounds::default());
    for _ in 0..ROUNDS {
        let [copied, memcpyed] = copy_free(&kernel);
        ours.add(copied, PAGES / 2);
        plain.add(memcpyed, PAGES / 2);
        walking.add(walk_all(&kernel, &sites, &look), PAGES);
        editing.add(walk_all(&kernel, &sites, &change), PAGES);
    }
    println!("of that, measured alone:");
    println!(
        "  the copy, past the caches        {}; memcpy of the same {}",
        ours.text(),
        plain.text()
    );
    println!("  a walk of the reverse map        {}; there are two", walking.text());
    println!("  a walk that edits its entry      {}", editing.text());
    println!(
        "    the edit                       {:.0} ns",
        editing.median() - walking.median()
    );

    println!("flushes, by the size of a batch, for {} pages:", FEW);
    for batch in [1, 8, 32, 64, 512] {
        let mut slots = new_slots(batch);
        kernel.platform().flushes.take();
        let took = move_all(&kernel, &sites[..FEW], &mut slots);
        let flushes = kernel.platform().flushes.take();
        println!(
            "  {batch:>4}: {:>6} calls for {:>6} pages one by one, {:>4} for a whole space, {} for everything; {:.0} ns a page",
            flushes.by_page,
            flushes.pages,
            flushes.spaces,
            flushes.everything,
            took.runs.as_nanos() as f64 / FEW as f64
        );
        assert_eq!(flushes.everything, 0, "there is one space");
        assert_eq!(flushes.by_page == 0, batch > backend_x86_64::Gather::PAGES);
    }
}

// Enough for the counts of flushes.
const FEW: usize = 32 * 512;

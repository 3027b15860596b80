//! What it costs to find the entries that map a page, by how many there are, and what a fault costs that meets one in flight.

mod arena;

use core::hint::black_box;
use core::ops::ControlFlow;
use core::time::Duration;
use std::time::Instant;

use arena::{Host, addr_of};
use backend_x86_64::Faulted;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use migrate_core::{Frames as _, LockedPage, Rmap as _};
use mm_types::{ActorId, EntryStyle, Site};

const PAGES: usize = 512;

fn locked(kernel: &Host, site: Site) -> LockedPage {
    let pfn = kernel.entry(site).pfn().expect("a mapping");
    let page = kernel.get(pfn).expect("a page in use");
    kernel.try_lock(page).expect("nobody else is here")
}

fn let_go(kernel: &Host, page: LockedPage) {
    let page = kernel.unlock(page);
    kernel.put(page);
}

fn walks(c: &mut Criterion) {
    let mut group = c.benchmark_group("walk");
    for mappings in [1, 8, 64] {
        let (kernel, sites) = arena::boot(PAGES, mappings);
        group.throughput(Throughput::Elements(mappings as u64));
        group.bench_with_input(BenchmarkId::new("mappings", mappings), &mappings, |b, _| {
            b.iter_custom(|rounds| {
                let mut took = Duration::ZERO;
                for site in sites.iter().cycle().take(usize::try_from(rounds).unwrap_or(usize::MAX)) {
                    let page = locked(&kernel, *site);
                    let mut found = 0;
                    let begun = Instant::now();
                    let mut gather = kernel.gather();
                    kernel.walk(&page, &mut gather, &mut |entry| {
                        black_box(entry.read());
                        found += 1;
                        ControlFlow::Continue(())
                    });
                    kernel.flush(gather);
                    took += begun.elapsed();
                    assert_eq!(found, mappings, "every space maps the page");
                    let_go(&kernel, page);
                }
                took
            });
        });
    }
    group.finish();
}

/// Nobody is there to open the lock: what is measured is the way to sleep and back, without the sleep.
fn faults(c: &mut Criterion) {
    let (kernel, sites) = arena::boot(PAGES, 1);
    let site = sites[0];
    let page = locked(&kernel, site);
    let pfn = kernel.entry(site).pfn().expect("a mapping");
    let mut gather = kernel.gather();
    kernel.walk(&page, &mut gather, &mut |entry| {
        let edited = entry.update(&|pte| pte.install_migration(pfn, EntryStyle::Lossless));
        assert!(edited.is_some());
        ControlFlow::Continue(())
    });
    kernel.flush(gather);
    let mut group = c.benchmark_group("fault");
    group.bench_function("of a page in flight, without the sleep", |b| {
        b.iter(|| {
            let faulted = kernel.page_fault(site.space, addr_of(site), 1 << 1, ActorId::new(1), ());
            assert_eq!(black_box(faulted), Ok(Faulted::Waited));
        });
    });
    group.bench_function("of a page that is there", |b| {
        b.iter(|| {
            let faulted = kernel.page_fault(site.space, addr_of(sites[1]), 1 << 1, ActorId::new(1), ());
            assert_eq!(black_box(faulted), Ok(Faulted::Spurious));
        });
    });
    group.finish();
    let_go(&kernel, page);
}

criterion_group!(benches, walks, faults);
criterion_main!(benches);

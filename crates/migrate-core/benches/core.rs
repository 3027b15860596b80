//! What a page costs in the core itself, on a backend that does nothing: by number of pages and by their order.

mod noop;

use core::hint::black_box;
use core::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use migrate_core::Slot;
use noop::{Noop, shuffled, timed};

const BATCH: usize = 512;

fn cost(noop: &Noop, order: &[usize], rounds: u64) -> Duration {
    let mut spent = Duration::ZERO;
    let mut slots: Vec<Slot<Noop>> = (0..BATCH).map(|_| Slot::new()).collect();
    for _ in 0..rounds {
        let (took, tally) = timed(noop, order, &mut slots);
        spent += took;
        assert_eq!(black_box(tally).moved as usize, order.len());
    }
    spent
}

fn pages(c: &mut Criterion) {
    let mut group = c.benchmark_group("core");
    group.sample_size(10);
    for n in [512, 4096, 65_536, 1 << 20] {
        let noop = Noop::new(n);
        let sequential: Vec<usize> = (0..n).collect();
        group.throughput(Throughput::Elements(n as u64));
        group.bench_with_input(BenchmarkId::new("sequential", n), &n, |b, _| {
            b.iter_custom(|rounds| cost(&noop, &sequential, rounds));
        });
        let random = shuffled(n);
        group.bench_with_input(BenchmarkId::new("random", n), &n, |b, _| {
            b.iter_custom(|rounds| cost(&noop, &random, rounds));
        });
    }
    group.finish();
}

criterion_group!(benches, pages);
criterion_main!(benches);

//! How long an access waits that meets a page in flight, in user space: a real fault, a real sleep, and the way back.
//!
//! One page moves all the time, alone in its batch, and another thread writes to it. What is measured is the mean over the accesses that
//! took longer than any does that meets nothing. It says something where both threads have a processor.

use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::thread;
use std::time::Instant;

use backend_user::{Area, Machine, Migrate, Prot, Sharing};
use criterion::{Criterion, criterion_group, criterion_main};
use mm_types::NodeId;

/// No access takes so long that meets nothing: a fault does.
const FAULT: Duration = Duration::from_micros(2);

/// Writes to the page until `waits` accesses have waited; returns how long they did.
fn waited(area: &Area, waits: u64) -> Duration {
    let (mut all, mut met) = (Duration::ZERO, 0);
    while met < waits {
        let begun = Instant::now();
        for word in area.words().iter().take(1) {
            word.fetch_add(1, Ordering::Relaxed);
        }
        let took = begun.elapsed();
        if took > FAULT {
            all += took;
            met += 1;
        }
    }
    all
}

fn fault_wait(c: &mut Criterion) {
    let machine = Machine::builder()
        .nodes(2)
        .frames_per_node(64)
        .build()
        .expect("a machine");
    let space = machine.space(1).expect("a space");
    let area = space
        .map_anonymous(1, Prot::ReadWrite, Sharing::Private)
        .expect("an area");
    area.populate().expect("memory");
    let mut to = 1;
    let mut group = c.benchmark_group("user space");
    group.sample_size(10);
    group.bench_function("an access that meets a page in flight", |b| {
        b.iter_custom(|waits| {
            let met = AtomicBool::new(false);
            thread::scope(|scope| {
                let writer = scope.spawn(|| {
                    let all = waited(&area, waits);
                    met.store(true, Ordering::Relaxed);
                    all
                });
                while !met.load(Ordering::Relaxed) {
                    machine
                        .migrate(Migrate::new(&area, NodeId::new(to)).batch(1))
                        .expect("a node");
                    to = 1 - to;
                }
                writer.join().expect("the thread that writes")
            })
        });
    });
    group.finish();
}

criterion_group!(benches, fault_wait);
criterion_main!(benches);

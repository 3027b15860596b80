//! What a line of a trace costs as text: written, read, and held against the rules; and of the kernel's own text.

#[path = "../tests/tools/long.rs"]
mod long;

use core::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use migrate_core::conformance::scenarios;
use mm_types::trace::check_events;
use trace_tools::convert::ftrace;
use trace_tools::kernel::{Records, judge};
use trace_tools::parse;

const EVENTS: usize = 10_000;

fn ours(c: &mut Criterion) {
    let made = long::long(EVENTS);
    let text = long::text(&made);
    let lines = parse(text.as_bytes()).expect("a sound trace");
    let events: Vec<_> = lines.iter().map(|line| line.event).collect();
    let mut group = c.benchmark_group("trace");
    group.throughput(Throughput::Elements(made.len() as u64));
    group.bench_function("written", |b| b.iter(|| black_box(long::text(black_box(&made)))));
    group.bench_function("read", |b| {
        b.iter(|| parse(black_box(text.as_bytes())).expect("a sound trace"));
    });
    group.bench_function("checked", |b| {
        b.iter(|| check_events(black_box(&events)).expect("a sound trace"));
    });
    group.finish();
}

fn the_kernels(c: &mut Criterion) {
    // Not every scenario is one that the kernel's events can show: this one is.
    let batch = scenarios().iter().find(|scenario| scenario.name == "batch_of_eight");
    let batch = batch.expect("a scenario of the kit").trace();
    let text = ftrace(&long::repeat(&[batch], EVENTS));
    let lines = text.lines().count() as u64;
    let mut group = c.benchmark_group("ftrace");
    group.throughput(Throughput::Elements(lines));
    group.bench_function("read", |b| {
        b.iter(|| {
            let records = Records::new(black_box(text.as_bytes())).expect("text");
            records.map(|record| record.expect("an event").line).max()
        });
    });
    group.bench_function("judged", |b| {
        b.iter(|| judge(black_box(text.as_bytes())).expect("a sound trace"));
    });
    group.finish();
}

criterion_group!(benches, ours, the_kernels);
criterion_main!(benches);

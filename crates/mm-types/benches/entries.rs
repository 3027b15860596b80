//! What it costs to make a migration entry of a mapping and a mapping of it again, and to pack entries into words and read them.

use core::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mm_types::{EntryFormat, EntryStyle, MigrationEntry, NonPresent, Pfn, Pte, PteFlags, Restore};

/// Entries of one measurement: more than anybody could guess ahead.
const ENTRIES: u64 = 1024;

fn mappings() -> Vec<Pte> {
    let flags = |n: u64| PteFlags::from_bits_truncate((n.wrapping_mul(0x9e37) & 0x7fff) as u16);
    (0..ENTRIES).map(|n| Pte::present(Pfn::new(n), flags(n))).collect()
}

fn migration_entries() -> Vec<NonPresent> {
    let entry = |n: u64| {
        let pfn = Pfn::new(n);
        let entry = if n % 3 == 0 {
            MigrationEntry::writable(pfn)
        } else {
            MigrationEntry::readable(pfn)
        };
        Pte::Migration(entry).non_present().expect("a migration entry")
    };
    (0..ENTRIES).map(entry).collect()
}

fn edits(c: &mut Criterion) {
    let mut group = c.benchmark_group("entries");
    group.throughput(Throughput::Elements(ENTRIES));
    let mappings = mappings();
    for style in [EntryStyle::Lossy, EntryStyle::Lossless] {
        group.bench_function(format!("there and back, {style:?}"), |b| {
            b.iter(|| {
                for mapping in &mappings {
                    let old = mapping.pfn().expect("a mapping");
                    let entry = black_box(*mapping).install_migration(old, style).expect("mapped there");
                    let restore = Restore {
                        old,
                        new: Pfn::new(old.raw() + ENTRIES),
                        vma_may_write: true,
                        anon: true,
                        page_dirty: true,
                        style,
                    };
                    black_box(black_box(entry).restore(restore)).expect("in flight there");
                }
            });
        });
    }
    group.finish();
}

fn words(c: &mut Criterion) {
    let mut group = c.benchmark_group("words");
    group.throughput(Throughput::Elements(ENTRIES));
    let entries = migration_entries();
    let format = EntryFormat::X86_64;
    group.bench_function("packed", |b| {
        b.iter(|| {
            for entry in &entries {
                black_box(format.encode(black_box(*entry))).expect("the format has room");
            }
        });
    });
    let words: Vec<u64> = entries
        .iter()
        .map(|entry| format.encode(*entry).expect("the format has room"))
        .collect();
    group.bench_function("read", |b| {
        b.iter(|| {
            for word in &words {
                black_box(format.decode(black_box(*word))).expect("an entry");
            }
        });
    });
    group.finish();
}

criterion_group!(benches, edits, words);
criterion_main!(benches);

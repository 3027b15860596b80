//! Pages move under live threads: nothing written is lost, nothing read is stale.

mod engines;

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use backend_user::{Engine, Machine, Migrate, Prot, Sharing};
use migrate_core::{LINUX_2_6_17, MODERN, Profile};
use mm_types::{Mode, NodeId};

const SEED: u64 = 0x5eed_0001;
const PAGES: usize = 300;

/// xorshift64*
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n
    }
}

/// Each writer owns one word in eight of every page; it remembers what it wrote, and looks each time.
fn write_and_check(words: &[AtomicU64], writer: usize, stop: &AtomicBool, seed: u64) -> u64 {
    let mut random = Random(seed ^ (writer as u64 + 1) << 32);
    let mut remembered = vec![0u64; PAGES];
    let mut n = 0;
    while !stop.load(Ordering::Relaxed) || n < 1000 {
        let page = random.below(PAGES);
        for at in (writer..512).step_by(64) {
            let word = &words[page * 512 + at];
            let found = word.load(Ordering::Relaxed);
            assert_eq!(found, remembered[page], "seed {seed:#x}: page {page} word {at}");
            word.store(found + 1, Ordering::Relaxed);
        }
        remembered[page] += 1;
        n += 1;
    }
    n
}

fn storm(engine: Engine, profile: &Profile, mode: Mode, batch: usize, readable: bool) {
    let machine = Machine::builder()
        .engine(engine)
        .frames_per_node(PAGES + 100)
        .readable_while_copied(readable)
        .build()
        .unwrap();
    let space = machine.space(PAGES + 10).unwrap();
    let area = space.map_anonymous(PAGES, Prot::ReadWrite, Sharing::Private).unwrap();
    area.populate().unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|s| {
        for writer in 0..3 {
            let (words, stop) = (area.words(), &stop);
            s.spawn(move || write_and_check(words, writer, stop, SEED));
        }
        for round in 0..30 {
            let to = NodeId::new(1 - round % 2);
            let report = machine
                .migrate(Migrate::new(&area, to).profile(profile).mode(mode).batch(batch))
                .unwrap();
            assert_eq!(
                report.moved + report.refused() + report.already,
                PAGES as u64,
                "{report:?}"
            );
        }
        stop.store(true, Ordering::Relaxed);
    });
    space.check().unwrap();
    assert_eq!(space.resident(), PAGES);
    let report = machine
        .migrate(Migrate::new(&area, NodeId::new(1)).mode(Mode::Sync))
        .unwrap();
    assert_eq!(report.refused(), 0, "{report:?}");
    assert_eq!(machine.pages_on(NodeId::new(1)), PAGES);
    assert_eq!(machine.pages_on(NodeId::new(0)), 0);
    space.unmap(area).unwrap();
    assert_eq!(machine.pages_on(NodeId::new(1)), 0);
}

fn nothing_is_lost_in_big_batches(engine: Engine) {
    storm(engine, &MODERN, Mode::Async, 512, true);
}

fn nothing_is_lost_in_small_batches_and_without_reading_meanwhile(engine: Engine) {
    storm(engine, &MODERN, Mode::SyncLight, 7, false);
}

fn nothing_is_lost_under_2006_rules(engine: Engine) {
    storm(engine, &LINUX_2_6_17, Mode::Sync, 64, true);
}

engines::on_both_engines! {
    nothing_is_lost_in_big_batches,
    nothing_is_lost_in_small_batches_and_without_reading_meanwhile,
    nothing_is_lost_under_2006_rules,
}

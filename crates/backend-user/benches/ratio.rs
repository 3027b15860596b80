//! What a page costs to move, beside what the same pages cost to copy, in processor time of the thread that does it, while another
//! thread writes to them: `cargo bench -p backend-user --bench ratio -- [PAGES [BATCH [WRITERS [ROUNDS]]]]`.
//!
//! Processor time, so that other work on the machine does not show; the two alternate, so that its clock does not either.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;

use backend_user::{Machine, Migrate, Prot, Report, Sharing};
use mm_types::{NodeId, PAGE_SIZE};

fn processor_time() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is live for the call.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut now) };
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

fn write(words: &[AtomicU64], writer: usize, stop: &AtomicBool) -> u64 {
    let mut state = 0x9e37_79b9_7f4a_7c15 + writer as u64;
    let mut visits = 0;
    while !stop.load(Ordering::Relaxed) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let page = (state % (words.len() / 512) as u64) as usize;
        for line in 0..8 {
            words[page * 512 + line * 64 + writer].fetch_add(1, Ordering::Relaxed);
        }
        visits += 1;
    }
    visits
}

fn main() {
    let given: Vec<usize> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    let given = |n: usize, default| given.get(n).copied().unwrap_or(default);
    let (pages, batch, writers, rounds) = (given(0, 65_536), given(1, 512), given(2, 1), given(3, 10));
    let machine = Machine::builder()
        .frames_per_node(pages + 1024)
        .build()
        .expect("a machine");
    let space = machine.space(pages).expect("a space");
    let area = space
        .map_anonymous(pages, Prot::ReadWrite, Sharing::Private)
        .expect("an area");
    area.populate().expect("memory");
    let (mut from, mut to) = (vec![1u8; pages * PAGE_SIZE], vec![2u8; pages * PAGE_SIZE]);
    let stop = AtomicBool::new(false);
    let (mut moving, mut copying, mut all) = (Duration::ZERO, Duration::ZERO, Report::default());
    let visits: u64 = std::thread::scope(|s| {
        let threads: Vec<_> = (0..writers)
            .map(|writer| {
                let (words, stop) = (area.words(), &stop);
                s.spawn(move || write(words, writer, stop))
            })
            .collect();
        // The first two rounds take the memory.
        for round in 0..rounds + 2 {
            let node = NodeId::new(u16::from(round % 2 == 0));
            let begun = processor_time();
            let report = machine.migrate(Migrate::new(&area, node).batch(batch)).expect("a node");
            let moved = processor_time();
            for (to, from) in to.chunks_mut(PAGE_SIZE).zip(from.chunks(PAGE_SIZE)) {
                to.copy_from_slice(from);
            }
            if round >= 2 {
                moving += moved - begun;
                copying += processor_time() - moved;
                all.add(&report);
            }
            core::mem::swap(&mut from, &mut to);
        }
        stop.store(true, Ordering::Relaxed);
        threads.into_iter().map(|thread| thread.join().unwrap_or(0)).sum()
    });
    let per_page = |time: Duration, pages: u64| time.as_nanos() as f64 / pages.max(1) as f64;
    let (move_ns, copy_ns) = (per_page(moving, all.moved), per_page(copying, (pages * rounds) as u64));
    println!(
        "{pages} pages, batches of {batch}, {writers} writers: {} moved, {} stayed",
        all.moved,
        all.refused()
    );
    println!(
        "{move_ns:.0} ns a page to move, {copy_ns:.0} to copy: ratio {:.2}; {visits} visits",
        move_ns / copy_ns
    );
    println!("{:?}", machine.stats());
}

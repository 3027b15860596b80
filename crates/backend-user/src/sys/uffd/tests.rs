//! A page that has moved is known to have, whatever the kernel says of it.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;

use super::*;
use crate::sys::arena::{BLOCK, advise};
use crate::sys::node::HUGE;

/// Two blocks of private anonymous memory at multiples of [`BLOCK`], the first for a large page; never given back, as a thread may
/// be asleep on them. An access to the second makes a table of pages: for a large page the system would make none.
fn two_blocks() -> [*mut u8; 2] {
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: the kernel picks a free place; no memory in use is touched.
    let got = unsafe { libc::mmap(core::ptr::null_mut(), 3 * BLOCK, prot, flags, -1, 0) };
    assert_ne!(got, libc::MAP_FAILED);
    let start = got.wrapping_byte_add(got.addr().next_multiple_of(BLOCK) - got.addr());
    advise(start, BLOCK, libc::MADV_HUGEPAGE).unwrap();
    advise(start.wrapping_byte_add(BLOCK), BLOCK, libc::MADV_NOHUGEPAGE).unwrap();
    [start.cast(), start.wrapping_byte_add(BLOCK).cast()]
}

// The access that comes while a large page is about to be moved is made by another thread, some time after it is told to: every
// time a little later, from before the move to after it.
#[test]
fn a_large_page_whose_destination_is_touched_meanwhile_moves_and_is_known_to_have() {
    const ROUNDS: u32 = 4_000;
    let Ok(uffd) = Uffd::open(false) else {
        return println!("not applicable: no userfaultfd that moves pages");
    };
    let [source, place] = two_blocks();
    uffd.register(place, HUGE, false).unwrap();
    // SAFETY: the first words of pages of the place, which is mapped for good; all accesses to them are atomic.
    let word = move |page: usize, of: usize| unsafe {
        &*core::ptr::with_exposed_provenance::<AtomicU64>(of + page * PAGE_SIZE)
    };
    let (source_at, place_at) = (source.expose_provenance(), place.expose_provenance());
    let (told, seen) = (AtomicU32::new(0), AtomicU32::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 1..=ROUNDS {
                while told.load(Ordering::Acquire) < round {
                    core::hint::spin_loop();
                }
                for _ in 0..round % 512 {
                    core::hint::spin_loop();
                }
                // Sleeps in the kernel until the page is there.
                let found = word(HUGE - 1, place_at).load(Ordering::Relaxed);
                assert_eq!(found, u64::from(round) * 1000 + 511);
                seen.store(round, Ordering::Release);
            }
        });
        for round in 1..=ROUNDS {
            // A new large page, where the system has one, and no tables at the place.
            advise(source.cast(), BLOCK, libc::MADV_DONTNEED).unwrap();
            advise(place.cast(), BLOCK, libc::MADV_DONTNEED).unwrap();
            for page in 0..HUGE {
                word(page, source_at).store(u64::from(round) * 1000 + page as u64, Ordering::Relaxed);
            }
            told.store(round, Ordering::Release);
            // SAFETY: both runs are this test's; words of them are atomic, and found missing at any time.
            let moved = unsafe { uffd.move_run(place, source, HUGE, true) };
            if moved != Ok(()) {
                // A panic would wait for the other thread, which may sleep in the kernel for ever.
                eprintln!("round {round}: {moved:?}");
                std::process::abort();
            }
            while seen.load(Ordering::Acquire) < round {
                thread::yield_now();
            }
            for page in 0..HUGE {
                let found = word(page, place_at).load(Ordering::Relaxed);
                assert_eq!(
                    found,
                    u64::from(round) * 1000 + page as u64,
                    "page {page} in round {round}"
                );
            }
        }
    });
}

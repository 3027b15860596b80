//! Which pages were used since the last look.

mod engines;

use core::sync::atomic::Ordering;

use backend_user::{Area, Engine, Machine, Migrate, Prot, Sharing, Space};
use mm_types::{NodeId, Vpn};

const PAGES: usize = 64;

fn space(engine: Engine) -> (Machine, Space, Area) {
    let machine = Machine::builder().engine(engine).frames_per_node(256).build().unwrap();
    let space = machine.space(PAGES).unwrap();
    let area = space.map_anonymous(PAGES, Prot::ReadWrite, Sharing::Private).unwrap();
    area.populate().unwrap();
    assert!(space.touched().is_empty(), "nothing was watched before");
    (machine, space, area)
}

fn pages(numbers: &[u64]) -> Vec<Vpn> {
    numbers.iter().copied().map(Vpn::new).collect()
}

fn a_look_returns_what_was_used_since_the_last_and_nothing_else(engine: Engine) {
    let (_machine, space, area) = space(engine);
    for page in [3, 3, 40] {
        area.page(page)[0].load(Ordering::Relaxed);
    }
    area.page(9)[5].store(1, Ordering::Relaxed);
    assert_eq!(space.touched(), pages(&[3, 9, 40]));
    assert_eq!(space.touched(), pages(&[]));
    area.page(9)[5].store(2, Ordering::Relaxed);
    assert_eq!(area.page(9)[5].load(Ordering::Relaxed), 2);
    space.check().unwrap();
    assert_eq!(space.touched(), pages(&[9]));
    space.stop_watching();
    space.check().unwrap();
}

fn a_page_that_moved_is_not_called_used_for_that_and_does_not_forget_that_it_was(engine: Engine) {
    let (machine, space, area) = space(engine);
    area.page(7)[0].load(Ordering::Relaxed);
    let report = machine.migrate(Migrate::new(&area, NodeId::new(1))).unwrap();
    assert_eq!(report.moved, PAGES as u64);
    space.check().unwrap();
    assert_eq!(space.touched(), pages(&[7]));
    machine.migrate(Migrate::new(&area, NodeId::new(0))).unwrap();
    assert_eq!(space.touched(), pages(&[]));
    area.page(7)[0].store(5, Ordering::Relaxed);
    assert_eq!(space.touched(), pages(&[7]));
}

fn a_pinned_page_stays_visible_and_counts_as_used(engine: Engine) {
    let (machine, space, area) = space(engine);
    let pin = machine.pin(&area, 4..5).unwrap();
    assert_eq!(space.touched(), pages(&[4]));
    assert_eq!(space.touched(), pages(&[4]));
    // A system call that met a hidden page would answer EFAULT.
    let zeroes = std::fs::File::open("/dev/zero").unwrap();
    let at = area.as_ptr().wrapping_add(4 * 4096);
    // SAFETY: the page is pinned and the area's, and the kernel checks it.
    let n = unsafe { libc::read(std::os::fd::AsRawFd::as_raw_fd(&zeroes), at.cast(), 4096) };
    assert_eq!(n, 4096);
    drop(pin);
    let _ = space.touched();
    assert_eq!(space.touched(), pages(&[]));
}

engines::on_both_engines! {
    a_look_returns_what_was_used_since_the_last_and_nothing_else,
    a_page_that_moved_is_not_called_used_for_that_and_does_not_forget_that_it_was,
    a_pinned_page_stays_visible_and_counts_as_used,
}

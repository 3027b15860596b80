//! `fork` in the host process: the parent goes on, the child has none of the pages.

mod support;

use core::sync::atomic::{AtomicBool, Ordering};
use std::os::fd::AsFd;

use backend_user::{Machine, Migrate, Prot, Sharing};
use mm_types::NodeId;
use support::{Demand, child, ended_with, exit_now, forked, is_child};

#[test]
fn a_child_that_touches_a_page_dies_and_the_parent_goes_on() {
    const NAME: &str = "a_child_that_touches_a_page_dies_and_the_parent_goes_on";
    if !is_child() {
        let out = child(NAME);
        assert!(
            support::stderr(&out).contains("a child touched a migrating page of its parent"),
            "{out:?}"
        );
        return ended_with(&out, 0);
    }
    let (demand, _registration) = Demand::new(4);
    demand.store(0, 7);
    let status = forked(|| demand.store(0, 8));
    assert!(libc::WIFSIGNALED(status));
    assert_eq!(libc::WTERMSIG(status), libc::SIGSEGV);
    // The direct map is gone from the child too.
    let status = forked(|| {
        let frame = demand.node.frame(0).unwrap();
        // SAFETY: valid in the parent; in the child it faults, on purpose.
        unsafe { frame.write_volatile(9) };
    });
    assert!(libc::WIFSIGNALED(status));
    assert_eq!(demand.load(0), 7);
    assert_eq!(
        demand.faults.load(Ordering::Relaxed),
        1,
        "the child's fault was not answered"
    );
    demand.store(1, 1);
}

#[test]
fn a_child_that_uses_its_parents_machine_is_told_why_it_dies() {
    const NAME: &str = "a_child_that_uses_its_parents_machine_is_told_why_it_dies";
    if !is_child() {
        let out = child(NAME);
        assert!(
            support::stderr(&out).contains("of its parent, or its machine"),
            "{out:?}"
        );
        return ended_with(&out, 0);
    }
    let machine = Machine::builder().frames_per_node(8).build().unwrap();
    let space = machine.space(4).unwrap();
    let area = space.map_anonymous(1, Prot::ReadWrite, Sharing::Private).unwrap();
    area.page(0)[0].store(7, Ordering::Relaxed);
    let to = NodeId::new(1);
    // No word of the space is touched: the migration copies from frame to frame.
    let status = forked(|| drop(machine.migrate(Migrate::new(&area, to))));
    assert!(libc::WIFSIGNALED(status));
    assert_eq!(libc::WTERMSIG(status), libc::SIGSEGV);
    assert_eq!(machine.migrate(Migrate::new(&area, to)).unwrap().moved, 1);
    assert_eq!(area.page(0)[0].load(Ordering::Relaxed), 7);
}

#[test]
fn a_child_that_leaves_the_pages_alone_lives_and_may_make_its_own() {
    let (demand, _registration) = Demand::new(4);
    demand.store(2, 7);
    let status = forked(|| {
        let (own, _registration) = Demand::new(4);
        own.store(1, 3);
        exit_now(i32::from(own.load(1)));
    });
    assert!(libc::WIFEXITED(status));
    assert_eq!(libc::WEXITSTATUS(status), 3);
    assert_eq!(demand.load(2), 7);
}

#[test]
fn a_command_runs_while_ranges_live() {
    let (demand, _registration) = Demand::new(4);
    demand.store(2, 7);
    assert!(std::process::Command::new("true").status().unwrap().success());
    assert_eq!(demand.load(2), 7);
}

#[test]
fn a_fork_while_runs_are_remapped_gives_the_child_none_of_them() {
    let (demand, _registration) = Demand::new(64);
    let stop = AtomicBool::new(false);
    std::thread::scope(|s| {
        s.spawn(|| {
            let mut first = 0;
            while !stop.load(Ordering::Relaxed) {
                first = (first + 7) % 48;
                demand
                    .range
                    .map_run(first, 16, demand.node.as_fd(), first, Prot::ReadWrite, false)
                    .unwrap();
            }
        });
        for _ in 0..20 {
            let status = forked(|| {
                let dead = demand.range.addresses();
                // `mincore` fails with ENOMEM on a hole only; ask the one who knows: a write from the page.
                let (at, mut fds) = (dead.start, [0; 2]);
                // SAFETY: the array has room for two descriptors.
                assert_eq!(unsafe { libc::pipe(fds.as_mut_ptr()) }, 0);
                for page in 0..64 {
                    let from = core::ptr::with_exposed_provenance(at + page * mm_types::PAGE_SIZE);
                    // SAFETY: the kernel checks the address.
                    if unsafe { libc::write(fds[1], from, 1) } != -1 {
                        exit_now(1);
                    }
                }
            });
            assert_eq!(status, 0, "the child could read a page");
        }
        stop.store(true, Ordering::Relaxed);
    });
}

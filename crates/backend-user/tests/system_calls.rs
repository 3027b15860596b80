//! Which system calls fail, and how, when a buffer of theirs is in flight; and that a pin prevents it.

mod flight;

use core::cell::RefCell;
use core::ffi::c_void;
use core::fmt::Write as _;
use core::sync::atomic::{AtomicU32, Ordering};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixDatagram, UnixStream};

use backend_user::{Area, Machine, Prot, Sharing};
use flight::in_flight;
use mm_types::PAGE_SIZE;

const HALF: usize = PAGE_SIZE / 2;

fn answer(rc: isize) -> String {
    if rc >= 0 {
        return rc.to_string();
    }
    match std::io::Error::last_os_error().raw_os_error() {
        Some(libc::EFAULT) => "EFAULT".into(),
        other => format!("{other:?}"),
    }
}

/// Makes every call with half a page of `good` where two buffers are needed, and `bad` as the other.
fn calls(good: *mut c_void, bad: *mut c_void) -> String {
    let mut table = String::new();
    let zero = File::open("/dev/zero").unwrap();
    // The tests of this file are threads of one process.
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("backend-user-calls-{}-{call}", std::process::id()));
    let mut file = File::create_new(&dir).unwrap();
    file.write_all(&[7; 4 * PAGE_SIZE]).unwrap();
    let file = File::options().read(true).write(true).open(&dir).unwrap();
    std::fs::remove_file(&dir).unwrap();
    let iov = |base| libc::iovec {
        iov_base: base,
        iov_len: HALF,
    };
    let both = [iov(good), iov(bad)];
    let mut say = |call: &str, rc: isize| writeln!(table, "{call}: {}", answer(rc)).unwrap();
    // SAFETY (all calls below): the buffers are half a page of areas that live as long as the test; the kernel checks them,
    // which is what is tested. Descriptors are open.
    // SAFETY: as above.
    say("read of a file", unsafe { libc::pread(file.as_raw_fd(), bad, HALF, 0) });
    // SAFETY: as above.
    say("read of a device", unsafe { libc::read(zero.as_raw_fd(), bad, HALF) });
    // SAFETY: as above.
    say("readv, second buffer", unsafe {
        libc::preadv(file.as_raw_fd(), both.as_ptr(), 2, 0)
    });
    // SAFETY: as above.
    say("write to a file", unsafe {
        libc::pwrite(file.as_raw_fd(), bad, HALF, 0)
    });
    // SAFETY: as above.
    say("writev, second buffer", unsafe {
        libc::pwritev(file.as_raw_fd(), both.as_ptr(), 2, 0)
    });
    let (a, b) = UnixDatagram::pair().unwrap();
    b.set_nonblocking(true).unwrap();
    // SAFETY: as above.
    say("send of a datagram", unsafe { libc::send(a.as_raw_fd(), bad, HALF, 0) });
    let mut rest = [0; 8];
    while b.recv(&mut rest).is_ok() {}
    a.send(&[9; 100]).unwrap();
    // SAFETY: as above.
    say("recv of a datagram", unsafe { libc::recv(b.as_raw_fd(), bad, HALF, 0) });
    say(
        "  the datagram afterwards",
        if b.recv(&mut rest).is_ok() { 1 } else { 0 },
    );
    let (mut r, mut w) = UnixStream::pair().unwrap();
    w.write_all(&[3; 100]).unwrap();
    // SAFETY: as above.
    say("read of a stream", unsafe { libc::read(r.as_raw_fd(), bad, 100) });
    drop(w);
    let mut left = Vec::new();
    r.read_to_end(&mut left).unwrap();
    say("  bytes in the stream afterwards", left.len() as isize);
    // SAFETY: as above.
    let rc = unsafe { libc::syscall(libc::SYS_futex, bad, libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG, 1, 0) };
    let value = std::io::Error::last_os_error().raw_os_error();
    // A word that can be read is 0 here, not 1.
    if rc < 0 && value == Some(libc::EAGAIN) {
        say("futex wait", 0);
    } else {
        say("futex wait", rc as isize);
    }
    let pid = libc::pid_t::try_from(std::process::id()).unwrap();
    let (local, remote) = ([iov(good)], [iov(bad)]);
    // SAFETY: as above.
    let rc = unsafe { libc::process_vm_readv(pid, local.as_ptr(), 1, remote.as_ptr(), 1, 0) };
    say("process_vm_readv from it", rc);
    table
}

struct Pages {
    machine: Machine,
    good: Area,
    bad: Area,
}

fn pages(readable: bool) -> Pages {
    let builder = Machine::builder().frames_per_node(64).fault_around(1);
    let machine = builder.readable_while_copied(readable).build().unwrap();
    let space = machine.space(4).unwrap();
    let good = space.map_anonymous(1, Prot::ReadWrite, Sharing::Private).unwrap();
    let bad = space.map_anonymous(1, Prot::ReadWrite, Sharing::Private).unwrap();
    good.page(0)[0].store(0, Ordering::Relaxed);
    bad.page(0)[0].store(0, Ordering::Relaxed);
    Pages { machine, good, bad }
}

fn during(pages: &Pages) -> String {
    let table = RefCell::new(String::new());
    in_flight(&pages.machine, &pages.bad, &|| {
        *table.borrow_mut() = calls(pages.good.as_ptr().cast(), pages.bad.as_ptr().cast());
    });
    table.into_inner()
}

const HIDDEN: &str = "\
read of a file: EFAULT
read of a device: EFAULT
readv, second buffer: 2048
write to a file: EFAULT
writev, second buffer: 2048
send of a datagram: EFAULT
recv of a datagram: EFAULT
  the datagram afterwards: 0
read of a stream: EFAULT
  bytes in the stream afterwards: 100
futex wait: EFAULT
process_vm_readv from it: EFAULT
";

#[test]
fn calls_given_a_page_in_flight_fail_or_stop_short() {
    assert_eq!(during(&pages(false)), HIDDEN);
}

#[test]
fn a_page_that_may_be_read_meanwhile_serves_the_calls_that_only_read_it() {
    let expected = "\
read of a file: EFAULT
read of a device: EFAULT
readv, second buffer: 2048
write to a file: 2048
writev, second buffer: 4096
send of a datagram: 2048
recv of a datagram: EFAULT
  the datagram afterwards: 0
read of a stream: EFAULT
  bytes in the stream afterwards: 100
futex wait: 0
process_vm_readv from it: 2048
";
    assert_eq!(during(&pages(true)), expected);
}

#[test]
fn a_pinned_page_serves_every_call_while_others_try_to_move_it() {
    use backend_user::Migrate;
    use mm_types::NodeId;
    let expected = "\
read of a file: 2048
read of a device: 2048
readv, second buffer: 4096
write to a file: 2048
writev, second buffer: 4096
send of a datagram: 2048
recv of a datagram: 100
  the datagram afterwards: 0
read of a stream: 100
  bytes in the stream afterwards: 0
futex wait: 0
process_vm_readv from it: 2048
";
    let p = pages(false);
    let pins = (
        p.machine.pin(&p.good, 0..1).unwrap(),
        p.machine.pin(&p.bad, 0..1).unwrap(),
    );
    let stop = core::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|s| {
        s.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let report = p.machine.migrate(Migrate::new(&p.bad, NodeId::new(1))).unwrap();
                assert_eq!(report.moved, 0);
            }
        });
        for _ in 0..50 {
            p.bad.page(0)[0].store(0, Ordering::Relaxed);
            // The first word of what was read is not 0: look at the table without the futex.
            let table = calls(p.good.as_ptr().cast(), p.bad.as_ptr().cast());
            let without = |t: &str| {
                t.lines()
                    .filter(|l| !l.starts_with("futex"))
                    .collect::<Vec<_>>()
                    .join("\n")
            };
            assert_eq!(without(&table), without(expected));
        }
        stop.store(true, Ordering::Relaxed);
    });
    drop(pins);
}

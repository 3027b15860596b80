//! Private pages by userfaultfd: what the second engine does that the first cannot, and what it refuses.

mod engines;
mod flight;
mod support;

use core::cell::Cell;
use core::sync::atomic::{AtomicU32, Ordering};
use std::io::Write as _;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::thread;

use backend_user::{Area, Engine, EngineInUse, Machine, MachineError, Migrate, Prot, Sharing, Space, SystemCalls};
use flight::in_flight;
use mm_types::{NodeId, PAGE_SIZE, Refusal};
use support::{child, ended_with, exit_now, forked, is_child};

const TO: NodeId = NodeId::new(1);

/// A machine with the second engine, and an area of `pages` pages that are there; `None`, said, where the system has none.
fn machine(pages: usize) -> Option<(Machine, Space, Area)> {
    if engines::private() != Engine::Private {
        return None;
    }
    let builder = Machine::builder().frames_per_node(pages + 64).fault_around(1);
    let machine = builder.engine(Engine::Private).build().unwrap();
    let space = machine.space(2 * pages).unwrap();
    let area = space.map_anonymous(pages, Prot::ReadWrite, Sharing::Private).unwrap();
    for page in 0..pages {
        area.page(page)[7].store(page as u64 + 1, Ordering::Relaxed);
    }
    Some((machine, space, area))
}

fn contents(area: &Area) -> Vec<u64> {
    (0..area.pages())
        .map(|page| area.page(page)[7].load(Ordering::Relaxed))
        .collect()
}

/// Makes `call` on a thread of its own while the area's page is in flight, and returns what it answers: the page comes back only once
/// the call waits for it, or has ended without.
fn called_in_flight(machine: &Machine, area: &Area, call: impl FnOnce() -> isize + Send + 'static) -> isize {
    let (call, caller) = (Cell::new(Some(call)), Cell::new(None));
    let waits = || machine.stats().faults.migration;
    let before = waits();
    in_flight(machine, area, &|| {
        let call = call.take().unwrap();
        let thread = thread::spawn(move || {
            let rc = call();
            if rc < 0 {
                -(std::io::Error::last_os_error().raw_os_error().unwrap() as isize)
            } else {
                rc
            }
        });
        while waits() == before && !thread.is_finished() {
            thread::yield_now();
        }
        caller.set(Some(thread));
    });
    caller.take().unwrap().join().unwrap()
}

/// Calls with half a page at the area's page, which each is made in flight.
fn system_calls(machine: &Machine, area: &Area) -> String {
    const HALF: usize = PAGE_SIZE / 2;
    let at = area.as_ptr().expose_provenance();
    let buffer = move || core::ptr::with_exposed_provenance_mut::<core::ffi::c_void>(at);
    let mut table = String::new();
    let mut say = |word: &str, rc: isize| {
        let answer = if rc == -(libc::EFAULT as isize) {
            "EFAULT".into()
        } else {
            rc.to_string()
        };
        table.push_str(&format!("{word}: {answer}\n"));
        machine.migrate(Migrate::new(area, NodeId::new(0))).unwrap();
    };
    static FILES: AtomicU32 = AtomicU32::new(0);
    let number = FILES.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("private-calls-{}-{number}", std::process::id()));
    std::fs::write(&path, [7; 2 * PAGE_SIZE]).unwrap();
    let file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let fd = file.as_raw_fd();
    // SAFETY (all calls below): the buffer is half a page of an area that lives as long as the test; the kernel checks it.
    // SAFETY: as above.
    let rc = called_in_flight(machine, area, move || unsafe { libc::pread(fd, buffer(), HALF, 0) });
    say("read of a file", rc);
    // SAFETY: as above.
    let rc = called_in_flight(machine, area, move || unsafe { libc::pwrite(fd, buffer(), HALF, 0) });
    say("write to a file", rc);
    let (a, b) = UnixDatagram::pair().unwrap();
    b.set_nonblocking(true).unwrap();
    let (sender, receiver) = (a.as_raw_fd(), b.as_raw_fd());
    // SAFETY: as above.
    let rc = called_in_flight(machine, area, move || unsafe { libc::send(sender, buffer(), HALF, 0) });
    say("send of a datagram", rc);
    let mut rest = [0; 8];
    while b.recv(&mut rest).is_ok() {}
    a.send(&[9; 100]).unwrap();
    // SAFETY: as above.
    let rc = called_in_flight(machine, area, move || unsafe {
        libc::recv(receiver, buffer(), HALF, 0)
    });
    say("recv of a datagram", rc);
    say(
        "  the datagram afterwards",
        if b.recv(&mut rest).is_ok() { 1 } else { 0 },
    );
    let (r, mut w) = UnixStream::pair().unwrap();
    w.write_all(&[3; 100]).unwrap();
    let stream = r.as_raw_fd();
    // SAFETY: as above.
    let rc = called_in_flight(machine, area, move || unsafe { libc::read(stream, buffer(), 100) });
    say("read of a stream", rc);
    area.page(0)[0].store(0, Ordering::Relaxed);
    let rc = called_in_flight(machine, area, move || {
        // A wait for a value that is not there: it looks at the word, and ends.
        // SAFETY: as above.
        let rc = unsafe {
            libc::syscall(
                libc::SYS_futex,
                buffer(),
                libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
                1,
                0,
            )
        };
        let looked = rc < 0 && std::io::Error::last_os_error().raw_os_error() == Some(libc::EAGAIN);
        if looked { 0 } else { rc as isize }
    });
    say("futex wait", rc);
    table
}

#[test]
fn system_calls_wait_for_a_page_in_flight() {
    let Some((machine, _space, area)) = machine(1) else {
        return;
    };
    if machine.engine() != EngineInUse::Private(SystemCalls::Wait) {
        return println!("not applicable: {}", machine.engine());
    }
    let expected = "\
read of a file: 2048
write to a file: 2048
send of a datagram: 2048
recv of a datagram: 100
  the datagram afterwards: 0
read of a stream: 100
futex wait: 0
";
    assert_eq!(system_calls(&machine, &area), expected);
}

#[test]
fn without_the_permission_system_calls_fail_as_on_the_first_engine() {
    if engines::private() != Engine::Private {
        return;
    }
    let builder = Machine::builder().frames_per_node(64).engine(Engine::Private);
    let machine = builder.user_faults_only(true).build().unwrap();
    assert_eq!(machine.engine(), EngineInUse::Private(SystemCalls::Fail));
    let space = machine.space(4).unwrap();
    let area = space.map_anonymous(1, Prot::ReadWrite, Sharing::Private).unwrap();
    area.page(0)[0].store(0, Ordering::Relaxed);
    let expected = "\
read of a file: EFAULT
write to a file: EFAULT
send of a datagram: EFAULT
recv of a datagram: EFAULT
  the datagram afterwards: 0
read of a stream: EFAULT
futex wait: EFAULT
";
    assert_eq!(system_calls(&machine, &area), expected);
    // Instructions wait all the same.
    let at = area.as_ptr().expose_provenance();
    let seen = called_in_flight(&machine, &area, move || {
        let word = core::ptr::with_exposed_provenance::<core::sync::atomic::AtomicU64>(at);
        // SAFETY: the first word of the area, which outlives the call.
        let word = unsafe { &*word };
        word.store(5, Ordering::Relaxed);
        word.load(Ordering::Relaxed) as isize
    });
    assert_eq!((seen, area.page(0)[0].load(Ordering::Relaxed)), (5, 5));
}

#[test]
fn scattered_pages_cost_no_mappings() {
    // Alone: other tests map and unmap meanwhile.
    const NAME: &str = "scattered_pages_cost_no_mappings";
    if !is_child() {
        return ended_with(&child(NAME), 42);
    }
    let Some((machine, space, area)) = machine(3000) else {
        exit_now(42)
    };
    let mappings = || backend_user::sys::maps::in_use().unwrap();
    let before = mappings();
    let scattered: Vec<_> = area.sites().step_by(2).collect();
    let report = machine.migrate(Migrate::new(scattered.as_slice(), TO)).unwrap();
    assert_eq!((report.moved, report.refused()), (1500, 0), "{report:?}");
    // The other node's memory, in blocks of its own.
    let after = mappings();
    assert!(after < before + 20, "{before} mappings before, {after} after");
    space.check().unwrap();
    assert!(contents(&area).iter().zip(1..).all(|(found, word)| *found == word));
    exit_now(42)
}

#[test]
fn whole_blocks_move_and_come_back_in_parts() {
    let Some((machine, space, area)) = machine(2048) else {
        return;
    };
    let expected: Vec<u64> = (1..=2048).collect();
    for (round, batch) in [512, 512, 100, 512, 1, 512, 512, 7, 512].into_iter().enumerate() {
        let to = NodeId::new(u16::from(round % 2 == 0));
        let report = machine.migrate(Migrate::new(&area, to).batch(batch)).unwrap();
        // The frames between areas and spares do not fit a batch more than there are spares.
        assert_eq!(report.refused(), 0, "{report:?}");
        assert_eq!(contents(&area), expected, "batches of {batch}");
        space.check().unwrap();
    }
    space.unmap(area).unwrap();
    machine.check().unwrap();
    assert_eq!((machine.pages_on(NodeId::new(0)), machine.pages_on(TO)), (0, 0));
}

#[test]
fn a_child_gets_none_of_the_pages_and_they_move_on() {
    let Some((machine, space, area)) = machine(16) else {
        return;
    };
    let at = area.page(0)[7].as_ptr();
    let status = forked(|| {
        // SAFETY: a word of the area in the parent; in the child it faults, on purpose.
        let _ = unsafe { at.read_volatile() };
    });
    assert!(libc::WIFSIGNALED(status));
    assert_eq!(libc::WTERMSIG(status), libc::SIGSEGV);
    let report = machine.migrate(Migrate::new(&area, TO)).unwrap();
    assert_eq!((report.moved, report.refused()), (16, 0));
    space.check().unwrap();
    assert_eq!(contents(&area), (1..=16).collect::<Vec<_>>());
}

#[test]
fn pages_that_a_fork_has_shared_stay_and_say_so_until_they_are_stored_to() {
    let Some((machine, space, area)) = machine(4) else {
        return;
    };
    // Against our own advice: children get the mapping.
    shared_with_a_child(&area);
    let report = machine.migrate(Migrate::new(&area, TO)).unwrap();
    let busy = Refusal::Backend {
        code: mm_types::errno::EBUSY,
    };
    assert_eq!((report.moved, report.refused()), (0, 4), "{report:?}");
    assert_eq!(report.stayed[0].refusal, busy);
    let explained = machine.explain(area.sites().next().unwrap());
    assert_eq!(explained.page.unwrap().last_refusal, Some(busy));
    space.check().unwrap();
    // A store makes a page its writer's own again.
    area.page(2)[7].store(30, Ordering::Relaxed);
    let report = machine.migrate(Migrate::new(&area, TO)).unwrap();
    assert_eq!((report.moved, report.refused()), (1, 3), "{report:?}");
    assert_eq!(contents(&area), [1, 2, 30, 4]);
    space.check().unwrap();
    // And an area can be given back whoever else has its pages.
    space.unmap(area).unwrap();
    machine.check().unwrap();
    let area = space.map_anonymous(4, Prot::ReadWrite, Sharing::Private).unwrap();
    assert_eq!(contents(&area), [0; 4]);
}

/// An area whose pages a child of the process has too.
fn shared_with_a_child(area: &Area) {
    let (at, len) = (area.as_ptr(), area.pages() * PAGE_SIZE);
    // SAFETY: the advice is about forks.
    assert_eq!(unsafe { libc::madvise(at.cast(), len, libc::MADV_DOFORK) }, 0);
    assert_eq!(forked(|| {}), 0);
}

#[test]
fn pages_that_a_fork_has_shared_keep_their_contents_when_their_area_moves_elsewhere() {
    let Some((machine, space, area)) = machine(4) else {
        return;
    };
    shared_with_a_child(&area);
    let area = space.remap(area, 4).unwrap();
    assert_eq!(contents(&area), [1, 2, 3, 4]);
    space.check().unwrap();
    // They are copies now, which nobody else has.
    let report = machine.migrate(Migrate::new(&area, TO)).unwrap();
    assert_eq!((report.moved, report.refused()), (4, 0), "{report:?}");
    assert_eq!(contents(&area), [1, 2, 3, 4]);
}

#[test]
fn a_page_that_cannot_be_hidden_does_not_keep_others_from_being_used() {
    let Some((machine, space, area)) = machine(4) else {
        return;
    };
    let other = space.map_anonymous(2, Prot::ReadWrite, Sharing::Private).unwrap();
    shared_with_a_child(&area);
    // Watched pages are hidden, which these cannot be.
    assert!(space.touched().is_empty());
    for value in [8, 9] {
        other.page(1)[7].store(value, Ordering::Relaxed);
    }
    assert_eq!(contents(&other), [0, 9]);
    assert_eq!(contents(&area), [1, 2, 3, 4]);
    assert_eq!(machine.stats().faults.foreign, 0, "no access was refused");
    space.stop_watching();
    space.check().unwrap();
}

#[test]
fn what_needs_a_second_place_is_refused_and_shared_areas_are_the_first_engines() {
    let Some((machine, space, area)) = machine(4) else {
        return;
    };
    let other = machine.space(16).unwrap();
    for refused in [space.fork().map(drop), space.share(&area, &other, Prot::Read).map(drop)] {
        assert!(matches!(refused, Err(MachineError::OnePlace)), "{refused:?}");
    }
    let shared = space.map_anonymous(4, Prot::ReadWrite, Sharing::Shared).unwrap();
    let seen = space.share(&shared, &other, Prot::ReadWrite).unwrap();
    shared.page(1)[3].store(9, Ordering::Relaxed);
    assert_eq!(seen.page(1)[3].load(Ordering::Relaxed), 9);
    for to in [TO, NodeId::new(0), TO] {
        let node = NodeId::new(1 - to.raw());
        let report = machine
            .migrate(Migrate::new(backend_user::Pages::Node(node), to))
            .unwrap();
        assert_eq!(report.refused(), 0, "{report:?}");
    }
    assert_eq!(seen.page(1)[3].load(Ordering::Relaxed), 9);
    assert_eq!(contents(&area), [1, 2, 3, 4]);
    machine.check().unwrap();
}

#[test]
fn a_refused_access_leaves_the_page_usable_once_it_is_allowed() {
    const NAME: &str = "a_refused_access_leaves_the_page_usable_once_it_is_allowed";
    if !is_child() {
        return ended_with(&child(NAME), 42);
    }
    let Some((machine, space, area)) = machine(2) else {
        exit_now(42)
    };
    space.protect(&area, Prot::Read).unwrap();
    // A system call is told, and does not sleep for ever.
    let zero = std::fs::File::open("/dev/zero").unwrap();
    // SAFETY: the kernel checks the address.
    let n = unsafe { libc::read(zero.as_raw_fd(), area.as_ptr().cast(), 8) };
    assert_eq!(
        (n, std::io::Error::last_os_error().raw_os_error()),
        (-1, Some(libc::EFAULT))
    );
    assert_eq!(contents(&area), [1, 2], "it can be read all the while");
    let report = machine.migrate(Migrate::new(&area, TO)).unwrap();
    assert_eq!(report.moved, 2);
    assert_eq!(contents(&area), [1, 2]);
    space.protect(&area, Prot::ReadWrite).unwrap();
    area.page(0)[7].store(5, Ordering::Relaxed);
    assert_eq!(contents(&area), [5, 2]);
    space.check().unwrap();
    exit_now(42)
}

/// Lets no process of this kind have a userfaultfd, by a filter of system calls.
fn forbid_userfaultfd() {
    let stmt = |code: u32, k: u32| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    };
    let jump = |k: u32, jt: u8, jf: u8| libc::sock_filter {
        code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
        jt,
        jf,
        k,
    };
    let load = |offset: u32| stmt(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset);
    let answer = |what: u32| stmt(libc::BPF_RET | libc::BPF_K, what);
    let forbidden = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    // `struct seccomp_data`: the number is first, the second argument's lower half at 24.
    let mut filter = [
        load(0),
        jump(libc::SYS_userfaultfd as u32, 3, 0),
        jump(libc::SYS_ioctl as u32, 0, 3),
        load(24),
        // USERFAULTFD_IOC_NEW, of the device.
        jump(0xAA00, 0, 1),
        answer(forbidden),
        answer(libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: no preconditions.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    // SAFETY: the program is live for the call; the filter is for this process, a child of the test.
    let rc = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    assert_eq!(rc, 0);
}

#[test]
fn where_userfaultfd_is_forbidden_the_first_engine_serves_and_says_why() {
    const NAME: &str = "where_userfaultfd_is_forbidden_the_first_engine_serves_and_says_why";
    if !is_child() {
        return ended_with(&child(NAME), 42);
    }
    forbid_userfaultfd();
    let build = |engine| Machine::builder().frames_per_node(8).engine(engine).build();
    let machine = build(Engine::Auto).unwrap();
    assert_eq!(
        machine.engine().to_string(),
        "private pages by mprotect and mmap, because userfaultfd: Operation not permitted (os error 1)"
    );
    let space = machine.space(4).unwrap();
    let area = space.map_anonymous(4, Prot::ReadWrite, Sharing::Private).unwrap();
    area.page(0)[0].store(3, Ordering::Relaxed);
    assert_eq!(machine.migrate(Migrate::new(&area, TO)).unwrap().refused(), 0);
    assert_eq!(area.page(0)[0].load(Ordering::Relaxed), 3);
    assert!(matches!(build(Engine::Private), Err(MachineError::Engine(_))));
    exit_now(42)
}

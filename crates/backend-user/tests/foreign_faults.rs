//! Faults that are not ours reach the handler that was there before, as it was installed.

mod support;

use core::ffi::{c_int, c_void};
use core::sync::atomic::{AtomicUsize, Ordering};

use backend_user::sys::fault;
use support::{Demand, NOBODYS, child, died_by, ended_with, exit_now, install, is_blocked, is_child, touch_nobodys};

type WithInfo = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);

fn address(handler: WithInfo) -> usize {
    (handler as *const ()).expose_provenance()
}

/// A range of ours, registered after whatever the test installed, and used once.
fn ours() -> (std::sync::Arc<Demand>, fault::Registration) {
    let ours = Demand::new(2);
    ours.0.store(0, 1);
    assert!(fault::is_outermost());
    ours
}

extern "C" fn checks_everything(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the handler's own siginfo.
    let info = unsafe { &*info };
    // SAFETY: the fault is one of memory.
    let addr = unsafe { info.si_addr() }.addr();
    let seen = [
        signal == libc::SIGSEGV,
        info.si_code == 1,
        addr == NOBODYS,
        !context.is_null(),
        is_blocked(libc::SIGUSR1),
        !is_blocked(libc::SIGUSR2),
        !is_blocked(libc::SIGSEGV),
    ];
    exit_now(if seen == [true; 7] { 42 } else { 1 });
}

#[test]
fn a_handler_installed_before_gets_the_fault_with_its_siginfo_and_mask() {
    const NAME: &str = "a_handler_installed_before_gets_the_fault_with_its_siginfo_and_mask";
    if is_child() {
        install(
            address(checks_everything),
            libc::SA_SIGINFO | libc::SA_NODEFER,
            &[libc::SIGUSR1],
        );
        let _ours = ours();
        return touch_nobodys();
    }
    ended_with(&child(NAME), 42);
}

extern "C" fn plain_and_deferred(signal: c_int) {
    let seen = [
        signal == libc::SIGSEGV,
        is_blocked(libc::SIGSEGV),
        !is_blocked(libc::SIGUSR1),
    ];
    exit_now(if seen == [true; 3] { 43 } else { 1 });
}

#[test]
fn a_handler_of_one_argument_runs_with_the_signal_blocked() {
    const NAME: &str = "a_handler_of_one_argument_runs_with_the_signal_blocked";
    if is_child() {
        install((plain_and_deferred as *const ()).expose_provenance(), 0, &[]);
        let _ours = ours();
        return touch_nobodys();
    }
    ended_with(&child(NAME), 43);
}

static CALLS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn returns(_: c_int, _: *mut libc::siginfo_t, _: *mut c_void) {
    if CALLS.fetch_add(1, Ordering::Relaxed) == 1 {
        exit_now(1);
    }
    let said = b"called once\n";
    // SAFETY: the bytes are live.
    unsafe { libc::write(2, said.as_ptr().cast(), said.len()) };
}

#[test]
fn a_handler_that_resets_itself_is_called_once_and_then_the_process_dies() {
    const NAME: &str = "a_handler_that_resets_itself_is_called_once_and_then_the_process_dies";
    if is_child() {
        install(address(returns), libc::SA_SIGINFO | libc::SA_RESETHAND, &[]);
        let _ours = ours();
        return touch_nobodys();
    }
    let out = child(NAME);
    assert!(support::stderr(&out).contains("called once"), "{out:?}");
    died_by(&out, libc::SIGSEGV);
}

#[test]
fn without_a_handler_the_process_dies_by_the_signal() {
    const NAME: &str = "without_a_handler_the_process_dies_by_the_signal";
    if is_child() {
        install(libc::SIG_DFL, 0, &[]);
        let _ours = ours();
        return touch_nobodys();
    }
    died_by(&child(NAME), libc::SIGSEGV);
}

#[test]
fn without_a_handler_a_sent_signal_kills_too() {
    const NAME: &str = "without_a_handler_a_sent_signal_kills_too";
    if is_child() {
        install(libc::SIG_DFL, 0, &[]);
        let _ours = ours();
        // SAFETY: no preconditions.
        unsafe { libc::raise(libc::SIGSEGV) };
        exit_now(1);
    }
    died_by(&child(NAME), libc::SIGSEGV);
}

#[test]
fn an_ignored_signal_is_ignored_when_sent_and_kills_when_it_is_a_fault() {
    const NAME: &str = "an_ignored_signal_is_ignored_when_sent_and_kills_when_it_is_a_fault";
    if is_child() {
        install(libc::SIG_IGN, 0, &[]);
        let (demand, _registration) = ours();
        // SAFETY: no preconditions.
        unsafe { libc::raise(libc::SIGSEGV) };
        demand.store(1, 1);
        eprintln!("still here");
        return touch_nobodys();
    }
    let out = child(NAME);
    assert!(support::stderr(&out).contains("still here"), "{out:?}");
    died_by(&out, libc::SIGSEGV);
}

#[test]
fn rusts_own_handler_lets_the_process_die() {
    const NAME: &str = "rusts_own_handler_lets_the_process_die";
    if is_child() {
        let _ours = ours();
        return touch_nobodys();
    }
    died_by(&child(NAME), libc::SIGSEGV);
}

/// The handler that was there before [`goes_on`].
static GOES_ON_TO: AtomicUsize = AtomicUsize::new(0);

#[repr(C)]
union Code {
    raw: *const (),
    handler: WithInfo,
}

extern "C" fn goes_on(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    CALLS.fetch_add(1, Ordering::Relaxed);
    // SAFETY: the handler's own siginfo.
    let siginfo = unsafe { &*info };
    // SAFETY: the fault is one of memory.
    if unsafe { siginfo.si_addr() }.addr() == NOBODYS {
        exit_now(if CALLS.load(Ordering::Relaxed) == 3 { 44 } else { 1 });
    }
    let code = Code {
        raw: core::ptr::with_exposed_provenance(GOES_ON_TO.load(Ordering::Relaxed)),
    };
    // SAFETY: the address is that of a handler of three arguments: ours.
    let next = unsafe { code.handler };
    next(signal, info, context);
}

#[test]
fn a_handler_installed_after_ours_that_goes_on_leaves_our_ranges_working() {
    const NAME: &str = "a_handler_installed_after_ours_that_goes_on_leaves_our_ranges_working";
    if is_child() {
        let (demand, _registration) = ours();
        let before = install(address(goes_on), libc::SA_SIGINFO | libc::SA_ONSTACK, &[]);
        assert_ne!(before.sa_flags & libc::SA_SIGINFO, 0);
        assert_ne!(before.sa_flags & libc::SA_ONSTACK, 0);
        assert_eq!(before.sa_flags & libc::SA_NODEFER, 0);
        GOES_ON_TO.store(before.sa_sigaction, Ordering::Relaxed);
        assert!(!fault::is_outermost());
        assert_eq!(demand.load(1), 0);
        demand.store(1, 5);
        assert_eq!(demand.load(1), 5);
        assert_eq!(demand.faults.load(Ordering::Relaxed), 3);
        return touch_nobodys();
    }
    ended_with(&child(NAME), 44);
}

//! The handler keeps to the stack that is set aside for it.

mod support;

use core::ptr;

use backend_user::sys::altstack::{self, HANDLER_BYTES};
use support::Demand;

/// A byte that the kernel's frame and the handler are unlikely to leave everywhere.
const PAINT: u8 = 0xa5;

#[test]
fn a_fault_uses_less_than_is_set_aside() {
    std::thread::spawn(|| {
        let size = altstack::required() * 4;
        let stack = Box::leak(vec![PAINT; size].into_boxed_slice()).as_mut_ptr();
        let mut before = libc::stack_t {
            ss_sp: ptr::null_mut(),
            ss_flags: 0,
            ss_size: 0,
        };
        let own = libc::stack_t {
            ss_sp: stack.cast(),
            ss_flags: 0,
            ss_size: size,
        };
        // SAFETY: the memory is leaked, and so the thread's for as long as it lives.
        assert_eq!(unsafe { libc::sigaltstack(&raw const own, &raw mut before) }, 0);
        let (demand, _registration) = Demand::new(2);
        demand.store(0, 1);
        demand.load(1);
        // SAFETY: `before` names what std set up for this thread.
        assert_eq!(unsafe { libc::sigaltstack(&raw const before, ptr::null_mut()) }, 0);
        let clean = (0..size).take_while(|&i| {
            let at = stack.wrapping_add(i);
            // SAFETY: inside the leaked memory, which nobody uses any more.
            unsafe { at.read_volatile() == PAINT }
        });
        let used = size - clean.count();
        println!("{used} bytes used, {} set aside", altstack::required());
        assert!(used > 0, "the handler ran on this stack");
        assert!(
            used <= altstack::required(),
            "{used} bytes used, {HANDLER_BYTES} and the kernel's frame set aside"
        );
    })
    .join()
    .unwrap();
}

//! Events: which accesses found a page missing, or write-protected, and wait for an answer.

use core::ffi::c_void;
use core::mem::size_of;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::Uffd;
use super::abi::{EVENT_PAGEFAULT, Message, PAGEFAULT_FLAG_WP, PAGEFAULT_FLAG_WRITE};

/// What of a page an access found missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The address, rounded down to its page.
    pub addr: usize,
    /// The access wanted to write.
    pub write: bool,
    /// The thread, as the kernel numbers it.
    pub thread: u32,
}

impl Uffd {
    /// Reads which accesses wait, as many as `events` has room for; never sleeps.
    pub fn read(&self, events: &mut Vec<Event>) {
        const AT_ONCE: usize = 32;
        let empty = Message {
            event: 0,
            reserved: [0; 7],
            flags: 0,
            address: 0,
            thread: 0,
            unused: 0,
        };
        let mut messages = [empty; AT_ONCE];
        let len = size_of::<[Message; AT_ONCE]>();
        // SAFETY: the buffer is live and has room for as much; any bytes are messages.
        let got = unsafe { libc::read(self.fd.as_raw_fd(), messages.as_mut_ptr().cast::<c_void>(), len) };
        let n = usize::try_from(got).unwrap_or(0) / size_of::<Message>();
        let faults = messages
            .iter()
            .take(n)
            .filter(|message| message.event == EVENT_PAGEFAULT);
        events.extend(faults.map(|message| Event {
            addr: usize::try_from(message.address).unwrap_or(usize::MAX),
            write: message.flags & (PAGEFAULT_FLAG_WRITE | PAGEFAULT_FLAG_WP) != 0,
            thread: message.thread,
        }));
    }
}

/// Sleeps until an access waits, or `other` is readable; true for an access.
///
/// # Errors
/// What `poll` answers.
pub fn wait(uffd: &Uffd, other: BorrowedFd<'_>) -> io::Result<bool> {
    let of = |fd| libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    let mut both = [of(uffd.fd.as_raw_fd()), of(other.as_raw_fd())];
    // SAFETY: the array is live for the call.
    let rc = unsafe { libc::poll(both.as_mut_ptr(), 2, -1) };
    if rc < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(both[1].revents == 0)
}

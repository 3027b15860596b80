//! What a system call can answer, as types.

use core::fmt;

/// An error number of the operating system (`errno(3)`).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(i32);

impl Errno {
    /// Wraps a raw number.
    #[must_use]
    pub const fn new(raw: i32) -> Self {
        Self(raw)
    }

    /// Returns the calling thread's `errno`. Async-signal-safe.
    #[must_use]
    pub fn last() -> Self {
        // SAFETY: no preconditions; the C library returns the calling thread's own cell.
        let cell = unsafe { libc::__errno_location() };
        // SAFETY: the cell lives as long as the thread and only this thread accesses it.
        Self(unsafe { cell.read() })
    }

    /// Sets the calling thread's `errno`. Async-signal-safe.
    ///
    /// A signal handler that makes system calls puts the interrupted code's value back with it.
    pub fn set_last(self) {
        // SAFETY: no preconditions; the C library returns the calling thread's own cell.
        let cell = unsafe { libc::__errno_location() };
        // SAFETY: the cell lives as long as the thread and only this thread accesses it.
        unsafe { cell.write(self.0) };
    }

    /// Returns the raw number.
    #[must_use]
    pub const fn raw(self) -> i32 {
        self.0
    }
}

impl From<std::io::Error> for Errno {
    /// Takes the number out; an error that has none becomes `EIO`.
    fn from(e: std::io::Error) -> Self {
        Self(e.raw_os_error().unwrap_or(libc::EIO))
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Errno({})", self.0)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        std::io::Error::from_raw_os_error(self.0).fmt(f)
    }
}

impl core::error::Error for Errno {}

/// Why mappings could not be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// The process has as many mappings as it may have (`vm.max_map_count`), or the kernel has no memory for one more.
    ///
    /// The kernel says `ENOMEM` for both. What the pages hold and allow was not changed (but see
    /// [`protect_run`](super::range::PageRange::protect_run)); a mapping may have been split in two alike halves, which the next
    /// successful call over them merges. Giving up ballast and trying again helps against the first.
    #[error("{call}: the limit of mappings or of memory is reached")]
    MappingLimit {
        /// The system call.
        call: &'static str,
    },
    /// The system call failed for another reason.
    #[error("{call}: {errno}")]
    Os {
        /// The system call.
        call: &'static str,
        /// What it answered.
        errno: Errno,
    },
    /// The run does not lie inside the range, or is empty.
    #[error("{pages} pages from page {page} do not lie in a range of {len}")]
    OutOfRange {
        /// First page of the run.
        page: usize,
        /// Pages in the run.
        pages: usize,
        /// Pages in the range.
        len: usize,
    },
    /// A size or an offset in bytes does not fit the machine's words.
    #[error("a size or an offset does not fit an address")]
    TooLarge,
    /// The table of regions that a fork must take from the child is full.
    #[error("more than {0} regions at a time")]
    TooManyRegions(usize),
}

impl MapError {
    /// Reads `errno` after `call` failed.
    pub(crate) fn last(call: &'static str) -> Self {
        match Errno::last() {
            errno if errno.raw() == libc::ENOMEM => Self::MappingLimit { call },
            errno => Self::Os { call, errno },
        }
    }

    /// True where the limit of mappings may be the reason.
    #[must_use]
    pub const fn is_mapping_limit(&self) -> bool {
        matches!(self, Self::MappingLimit { .. })
    }
}

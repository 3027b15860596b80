//! The structures and numbers of `include/uapi/linux/userfaultfd.h` (Linux 6.8, which has `UFFDIO_MOVE`).

use core::ffi::{c_int, c_ulong};
use core::mem::size_of;

#[repr(C)]
pub(super) struct Api {
    pub(super) api: u64,
    pub(super) features: u64,
    pub(super) ioctls: u64,
}

#[repr(C)]
pub(super) struct Range {
    pub(super) start: u64,
    pub(super) len: u64,
}

#[repr(C)]
pub(super) struct Register {
    pub(super) range: Range,
    pub(super) mode: u64,
    pub(super) ioctls: u64,
}

/// `struct uffdio_copy`, and `struct uffdio_move`, which has the same fields.
#[repr(C)]
pub(super) struct Transfer {
    pub(super) dst: u64,
    pub(super) src: u64,
    pub(super) len: u64,
    pub(super) mode: u64,
    pub(super) done: i64,
}

#[repr(C)]
pub(super) struct WriteProtect {
    pub(super) range: Range,
    pub(super) mode: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Message {
    pub(super) event: u8,
    pub(super) reserved: [u8; 7],
    pub(super) flags: u64,
    pub(super) address: u64,
    pub(super) thread: u32,
    pub(super) unused: u32,
}

const IN: c_ulong = 2;
const IN_OUT: c_ulong = 3;

const fn request(direction: c_ulong, number: c_ulong, size: usize) -> c_ulong {
    direction << 30 | (size as c_ulong) << 16 | 0xAA << 8 | number
}

pub(super) const UFFDIO_REGISTER: c_ulong = request(IN_OUT, 0x00, size_of::<Register>());
pub(super) const UFFDIO_UNREGISTER: c_ulong = request(IN, 0x01, size_of::<Range>());
pub(super) const UFFDIO_WAKE: c_ulong = request(IN, 0x02, size_of::<Range>());
pub(super) const UFFDIO_COPY: c_ulong = request(IN_OUT, 0x03, size_of::<Transfer>());
pub(super) const UFFDIO_MOVE: c_ulong = request(IN_OUT, 0x05, size_of::<Transfer>());
pub(super) const UFFDIO_WRITEPROTECT: c_ulong = request(IN_OUT, 0x06, size_of::<WriteProtect>());
pub(super) const UFFDIO_API: c_ulong = request(IN_OUT, 0x3F, size_of::<Api>());
/// Of `/dev/userfaultfd`.
pub(super) const USERFAULTFD_IOC_NEW: c_ulong = 0xAA << 8;

pub(super) const UFFD_API: u64 = 0xAA;
pub(super) const UFFD_USER_MODE_ONLY: c_int = 1;
pub(super) const FEATURE_PAGEFAULT_FLAG_WP: u64 = 1 << 0;
pub(super) const FEATURE_THREAD_ID: u64 = 1 << 8;
pub(super) const FEATURE_MOVE: u64 = 1 << 16;
pub(super) const REGISTER_MODE_MISSING: u64 = 1 << 0;
pub(super) const REGISTER_MODE_WP: u64 = 1 << 1;
pub(super) const COPY_MODE_WP: u64 = 1 << 1;
pub(super) const MODE_DONTWAKE: u64 = 1 << 0;
pub(super) const WRITEPROTECT_MODE_WP: u64 = 1 << 0;
pub(super) const EVENT_PAGEFAULT: u8 = 0x12;
pub(super) const PAGEFAULT_FLAG_WRITE: u64 = 1 << 0;
pub(super) const PAGEFAULT_FLAG_WP: u64 = 1 << 1;

//! The memory of one emulated node: a memfd, and a linear, always-writable view of it.
//!
//! Frame `n` is page `n` of the memfd. The view is what a kernel calls its direct map: copying and clearing go through it,
//! whatever the address spaces have mapped or protected.

use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd};

use memmap2::{Advice, MmapOptions, MmapRaw};
use mm_types::{NodeId, PAGE_SIZE};

use super::copy;
use super::error::{Errno, MapError};
use super::fork::NotInChild;
use super::numa::{self, Binding};

/// Frames of a large page.
pub const HUGE: usize = 512;

/// Why a node could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// A node of no frames.
    #[error("a node needs at least one frame")]
    Empty,
    /// The size in bytes does not fit a file offset.
    #[error("{0} frames do not fit a file")]
    TooLarge(usize),
    /// More than the machine has to give (`MemAvailable` in `/proc/meminfo`).
    #[error("{asked} bytes of memory asked for, {available} available")]
    BeyondMemory {
        /// Bytes asked for.
        asked: u64,
        /// Bytes available.
        available: u64,
    },
    /// The kernel refused.
    #[error("{call}: {errno}")]
    Os {
        /// The system call.
        call: &'static str,
        /// What it answered.
        errno: Errno,
    },
    /// The direct map could not be kept from children.
    #[error(transparent)]
    Map(#[from] MapError),
}

/// A frame number that the node does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("frame {frame} of node {}, which has {frames}", node.raw())]
pub struct NoFrame {
    /// The node.
    pub node: NodeId,
    /// The frame asked for.
    pub frame: usize,
    /// How many the node has.
    pub frames: usize,
}

/// Memory of one emulated node.
///
/// # Invariants
/// 1. `view` maps `frames * PAGE_SIZE` bytes of `file`, readable and writable, from its start, and the file is never shortened.
#[derive(Debug)]
pub struct NodeMemory {
    /// Dropped before `view`: the region must be out of the fork table when its addresses become free.
    _not_in_child: NotInChild,
    id: NodeId,
    frames: usize,
    file: File,
    view: MmapRaw,
    binding: Binding,
}

impl NodeMemory {
    /// Makes a node of `frames` zeroed frames, on real node `real` where one is given.
    ///
    /// The memory is taken when a frame is first touched. A binding that fails is reported by [`binding`](Self::binding).
    ///
    /// # Errors
    /// A size of zero, beyond `MemAvailable` or beyond a file; what `memfd_create`, `ftruncate` and `mmap` answer.
    pub fn new(id: NodeId, frames: usize, real: Option<u32>) -> Result<Self, NodeError> {
        if frames == 0 {
            return Err(NodeError::Empty);
        }
        let len = frames.checked_mul(PAGE_SIZE).filter(|&l| isize::try_from(l).is_ok());
        let len = len.ok_or(NodeError::TooLarge(frames))?;
        let asked = u64::try_from(len).map_err(|_| NodeError::TooLarge(frames))?;
        if let Some(available) = available_memory().filter(|&a| asked > a) {
            return Err(NodeError::BeyondMemory { asked, available });
        }
        let os = |call| move |e: io::Error| NodeError::Os { call, errno: e.into() };
        // SAFETY: the name is a C string that lives for the call.
        let fd = unsafe { libc::memfd_create(c"node".as_ptr(), libc::MFD_CLOEXEC) };
        if fd < 0 {
            return Err(NodeError::Os {
                call: "memfd_create",
                errno: Errno::last(),
            });
        }
        // SAFETY: the descriptor was just made and nobody else has it.
        let file = unsafe { File::from_raw_fd(fd) };
        file.set_len(asked).map_err(os("ftruncate"))?;
        // INVARIANT 1: the whole file, shared and writable; nothing here or above calls set_len again.
        let view = MmapOptions::new()
            .len(len)
            .map_raw(file.as_raw_fd())
            .map_err(os("mmap"))?;
        let start = view.as_mut_ptr().expose_provenance();
        let not_in_child = NotInChild::enter(start..start + len)?;
        let binding = real.map_or(Binding::Unbound, |node| numa::bind(view.as_mut_ptr(), len, node));
        Ok(Self {
            _not_in_child: not_in_child,
            id,
            frames,
            file,
            view,
            binding,
        })
    }

    /// Returns the node's number.
    #[must_use]
    pub const fn id(&self) -> NodeId {
        self.id
    }

    /// Returns how many frames the node has.
    #[must_use]
    pub const fn frames(&self) -> usize {
        self.frames
    }

    /// Tells whether the memory lies on a real node.
    #[must_use]
    pub const fn binding(&self) -> Binding {
        self.binding
    }

    /// Takes the memory of every frame now, so that no later touch is the first.
    ///
    /// # Errors
    /// What `madvise(MADV_POPULATE_WRITE)` answers; `EINVAL` before Linux 5.14. The frames work all the same.
    pub fn populate(&self) -> Result<(), Errno> {
        Ok(self.view.advise(Advice::PopulateWrite)?)
    }

    /// Asks that frames `first..first + n`, as far as they fill whole blocks of [`HUGE`], lie in large pages of memory; true where
    /// they do now.
    ///
    /// Mapping and unmapping neighbouring pages of a large page costs the kernel a tenth, or less, of what single ones cost
    /// (`MADV_COLLAPSE`, Linux 6.1). It takes the memory of the blocks at once, and some milliseconds for the call, however
    /// many they are. Best effort: what is in the frames stays, and they work all the same where it fails.
    pub fn make_large(&self, first: usize, n: usize) -> bool {
        const LEN: usize = HUGE * PAGE_SIZE;
        /// `MADV_COLLAPSE` of `madvise(2)`.
        const MADV_COLLAPSE: i32 = 25;
        let first = first.div_ceil(HUGE);
        let end = first.saturating_mul(HUGE).saturating_add(n).min(self.frames) / HUGE;
        let Some(blocks) = end.checked_sub(first).filter(|blocks| *blocks != 0) else {
            return false;
        };
        let (Ok(offset), len) = (libc::off_t::try_from(first * LEN), blocks * LEN) else {
            return false;
        };
        // The memory belongs to the file: it is made large through a mapping of our own, aligned as it must be.
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: the kernel picks a free place; no memory in use is touched.
        let room = unsafe { libc::mmap(ptr::null_mut(), len + LEN, libc::PROT_NONE, flags, -1, 0) };
        if room == libc::MAP_FAILED {
            return false;
        }
        let at = room.wrapping_byte_add(room.addr().next_multiple_of(LEN) - room.addr());
        let flags = libc::MAP_SHARED | libc::MAP_FIXED;
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: aligned blocks inside the room just made, which nobody else uses.
        let mapped = unsafe { libc::mmap(at, len, prot, flags, self.file.as_raw_fd(), offset) };
        let mut large = mapped != libc::MAP_FAILED;
        if large {
            // A block without any memory is not made large. An exchange that changes nothing takes some, whoever else uses it; through
            // the new mapping, which then has tables to be replaced.
            for block in 0..blocks {
                let word = at.wrapping_byte_add(block * LEN).cast::<AtomicU64>();
                // SAFETY: the first word of a block just mapped; others access the same frame by whole words, or have the page to
                // themselves and are the thread that calls.
                let _ = unsafe { &*word }.compare_exchange(0, 0, Ordering::Relaxed, Ordering::Relaxed);
            }
            // SAFETY: the mapping is ours; the advice changes where the contents lie and not what they are.
            large &= unsafe { libc::madvise(at, len, MADV_COLLAPSE) } == 0;
        }
        // SAFETY: the room is ours and nobody uses it any more.
        let _ = unsafe { libc::munmap(room, len + LEN) };
        large
    }

    /// Returns the first byte of `frame` in the direct map; valid for reads and writes while the node lives.
    ///
    /// # Errors
    /// The node has no such frame.
    pub fn frame(&self, frame: usize) -> Result<*mut u8, NoFrame> {
        if frame >= self.frames {
            return Err(NoFrame {
                node: self.id,
                frame,
                frames: self.frames,
            });
        }
        // SAFETY: invariant 1: the offset of a frame below `frames` lies inside the view.
        Ok(unsafe { self.view.as_mut_ptr().add(frame * PAGE_SIZE) })
    }

    /// Copies `frame` over frame `to_frame` of `to` (which may be this node); for other threads, it is there after
    /// [`copy::done`].
    ///
    /// # Safety
    /// For the length of the call, and the second until [`copy::done`]:
    /// 1. Nobody writes the source. Readers may race: through a read-only mapping of it, or the direct map. (Every writable
    ///    mapping has been protected, and that `mprotect` has returned: stale translations are gone then.)
    /// 2. Nobody else reads or writes the destination. (It is a new page: mapped nowhere.)
    /// 3. Source and destination are different frames.
    ///
    /// # Errors
    /// One of the nodes has no such frame; nothing was copied.
    pub unsafe fn copy_frame(&self, frame: usize, to: &Self, to_frame: usize) -> Result<(), NoFrame> {
        let source = self.frame(frame)?;
        let target = to.frame(to_frame)?;
        // SAFETY: both pointers come from `frame`, so a page's length is valid at each. Frames are page-aligned in their
        // views and views do not overlap, so different frames (3) do not either. The source has readers only (1) and the
        // destination nobody (2): no byte is written while another thread accesses it, so a plain copy does not race.
        unsafe { copy::page(source.cast_const(), target) };
        Ok(())
    }

    /// Copies `frame` over frame `to_frame` of `to`, word by word, while others may access both.
    ///
    /// Slower than [`copy_frame`](Self::copy_frame); each word is whole, the page need not be of one moment.
    ///
    /// # Errors
    /// One of the nodes has no such frame; nothing was copied.
    pub fn copy_frame_shared(&self, frame: usize, to: &Self, to_frame: usize) -> Result<(), NoFrame> {
        let source = self.words(frame)?;
        let target = to.words(to_frame)?;
        for (from, into) in source.iter().zip(target) {
            into.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        Ok(())
    }

    /// Reads page `page` of `file` into `frame`; beyond the end of the file there are zeroes.
    ///
    /// The frame is a new page's: nobody else uses it.
    ///
    /// # Errors
    /// What `pread` answers, or `EINVAL` where there is no such frame or page.
    pub fn read_from(&self, frame: usize, file: &File, page: usize) -> io::Result<()> {
        let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
        let words = self.words(frame).map_err(|_| invalid())?;
        let start = page.checked_mul(PAGE_SIZE).ok_or_else(invalid)?;
        let mut done = 0;
        while done < PAGE_SIZE {
            let offset = libc::off_t::try_from(start + done).map_err(|_| invalid())?;
            // SAFETY: `done < PAGE_SIZE`, so the pointer stays in the frame.
            let at = unsafe { words.as_ptr().cast_mut().byte_add(done) };
            // SAFETY: the bytes up to the frame's end are mapped writable; the kernel writes them, which is no access of ours.
            let n = unsafe { libc::pread(file.as_raw_fd(), at.cast(), PAGE_SIZE - done, offset) };
            match usize::try_from(n) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(_) => match io::Error::last_os_error() {
                    e if e.kind() == io::ErrorKind::Interrupted => {}
                    e => return Err(e),
                },
            }
        }
        // SAFETY: as above.
        let rest = unsafe { words.as_ptr().cast_mut().byte_add(done) };
        // SAFETY: the rest of a frame that nobody else uses.
        unsafe { ptr::write_bytes(rest.cast::<u8>(), 0, PAGE_SIZE - done) };
        Ok(())
    }

    /// Writes the first `len` bytes of `frame`, a page at most, to page `page` of `file`. Others may write the frame meanwhile.
    ///
    /// # Errors
    /// What `pwrite` answers, or `EINVAL` where there is no such frame or page.
    pub fn write_to(&self, frame: usize, file: &File, page: usize, len: usize) -> io::Result<()> {
        let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
        let words = self.words(frame).map_err(|_| invalid())?;
        let start = page.checked_mul(PAGE_SIZE).ok_or_else(invalid)?;
        let len = len.min(PAGE_SIZE);
        let mut done = 0;
        while done < len {
            let offset = libc::off_t::try_from(start + done).map_err(|_| invalid())?;
            // SAFETY: `done < PAGE_SIZE`, so the pointer stays in the frame.
            let at = unsafe { words.as_ptr().byte_add(done) };
            // SAFETY: the bytes up to `len` are mapped; the kernel reads them, which is no access of ours.
            let n = unsafe { libc::pwrite(file.as_raw_fd(), at.cast(), len - done, offset) };
            match usize::try_from(n) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => done += n,
                Err(_) => match io::Error::last_os_error() {
                    e if e.kind() == io::ErrorKind::Interrupted => {}
                    e => return Err(e),
                },
            }
        }
        Ok(())
    }

    /// Returns a frame as words that others may change at any time.
    ///
    /// # Errors
    /// The node has no such frame.
    pub fn words(&self, frame: usize) -> Result<&[AtomicU64], NoFrame> {
        let at = self.frame(frame)?.cast::<AtomicU64>();
        // SAFETY: a page's length is valid at a pointer from `frame`, as long as the node (invariant 1), and page-aligned;
        // everything else that accesses the frame at the same time does so by atomic words or is excluded by its contract.
        Ok(unsafe { core::slice::from_raw_parts(at, PAGE_SIZE / 8) })
    }

    /// Sets every byte of `frame` to `byte`.
    ///
    /// # Safety
    /// 1. Nobody else reads or writes the frame for the length of the call.
    ///
    /// # Errors
    /// The node has no such frame.
    pub unsafe fn fill(&self, frame: usize, byte: u8) -> Result<(), NoFrame> {
        let at = self.frame(frame)?;
        // SAFETY: a page's length is valid at a pointer from `frame`; alone with it by (1).
        unsafe { ptr::write_bytes(at, byte, PAGE_SIZE) };
        Ok(())
    }

    /// Copies `frame` into `buf`.
    ///
    /// # Safety
    /// 1. Nobody writes the frame for the length of the call.
    ///
    /// # Errors
    /// The node has no such frame.
    pub unsafe fn read(&self, frame: usize, buf: &mut [u8; PAGE_SIZE]) -> Result<(), NoFrame> {
        let at = self.frame(frame)?;
        // SAFETY: a page's length is valid at both; `buf` is borrowed for us alone, so it is not the frame; no writer by (1).
        unsafe { ptr::copy_nonoverlapping(at.cast_const(), buf.as_mut_ptr(), PAGE_SIZE) };
        Ok(())
    }

    /// Copies `bytes` to the start of `frame` (a page's length at most) and clears the rest.
    ///
    /// # Safety
    /// 1. Nobody else reads or writes the frame for the length of the call.
    ///
    /// # Errors
    /// The node has no such frame.
    pub unsafe fn write(&self, frame: usize, bytes: &[u8]) -> Result<(), NoFrame> {
        let at = self.frame(frame)?;
        let n = bytes.len().min(PAGE_SIZE);
        // SAFETY: `n` bytes are valid at both; a slice that overlapped the frame would break (1).
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), at, n) };
        // SAFETY: `n <= PAGE_SIZE`, so the pointer stays in the frame or one past it.
        let rest = unsafe { at.add(n) };
        // SAFETY: the remaining bytes of the frame; alone with it by (1).
        unsafe { ptr::write_bytes(rest, 0, PAGE_SIZE - n) };
        Ok(())
    }
}

impl AsFd for NodeMemory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Returns `MemAvailable` in bytes, or `None` where the kernel does not say.
#[must_use]
pub fn available_memory() -> Option<u64> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u16, frames: usize) -> NodeMemory {
        NodeMemory::new(NodeId::new(id), frames, None).unwrap()
    }

    #[test]
    fn a_node_without_frames_is_refused() {
        assert_eq!(NodeMemory::new(NodeId::new(0), 0, None).err(), Some(NodeError::Empty));
    }

    #[test]
    fn a_node_beyond_memory_is_refused_with_both_sizes() {
        let available = available_memory().unwrap();
        let frames = usize::try_from(available / PAGE_SIZE as u64).unwrap() * 2;
        let e = NodeMemory::new(NodeId::new(0), frames, None).err();
        assert!(
            matches!(e, Some(NodeError::BeyondMemory { asked, available }) if asked > available),
            "{e:?}"
        );
        assert_eq!(
            NodeMemory::new(NodeId::new(0), usize::MAX, None).err(),
            Some(NodeError::TooLarge(usize::MAX))
        );
    }

    #[test]
    fn a_frame_is_copied_between_nodes() {
        let (a, b) = (node(0, 2), node(1, 3));
        // SAFETY: the nodes are this test's own; the frame is nobody else's.
        unsafe { a.fill(1, 0x5a) }.unwrap();
        // SAFETY: as above, and the frames are of different nodes.
        unsafe { a.copy_frame(1, &b, 2) }.unwrap();
        let mut page = [0; PAGE_SIZE];
        // SAFETY: as above.
        unsafe { b.read(2, &mut page) }.unwrap();
        assert!(page.iter().all(|&x| x == 0x5a));
        // SAFETY: as above.
        unsafe { b.write(2, b"end") }.unwrap();
        // SAFETY: as above.
        unsafe { b.read(2, &mut page) }.unwrap();
        assert_eq!(page.get(..4), Some(b"end\0".as_slice()));
        // SAFETY: as above.
        let e = unsafe { a.copy_frame(2, &b, 0) };
        assert_eq!(
            e,
            Err(NoFrame {
                node: NodeId::new(0),
                frame: 2,
                frames: 2
            })
        );
    }

    #[test]
    fn a_binding_that_fails_leaves_a_working_node() {
        let n = NodeMemory::new(NodeId::new(0), 1, Some(5000)).unwrap();
        assert!(matches!(n.binding(), Binding::Failed(_)));
        // SAFETY: the node is this test's own.
        unsafe { n.fill(0, 1) }.unwrap();
    }

    #[test]
    fn memory_is_bound_where_the_machine_has_a_node() {
        let Some(&real) = numa::real_nodes().first() else {
            return;
        };
        let n = NodeMemory::new(NodeId::new(0), 1, Some(real)).unwrap();
        // A kernel or a sandbox without mbind says so; anything else must be the node asked for.
        assert!(matches!(n.binding(), Binding::Bound(r) if r == real) || matches!(n.binding(), Binding::Failed(_)));
    }
}

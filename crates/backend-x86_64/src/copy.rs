//! Copying a frame past the caches.
//!
//! A batch of migrations copies more than a cache holds, and most of what it writes is not read soon. Ordinary stores would first
//! read each line of the new frame, and push out the descriptors and entries that the run comes back to; non-temporal stores do
//! neither, and a non-temporal prefetch keeps the source from doing the second. MOVNTI takes general registers, so a kernel that
//! keeps the vector registers for its programs can use it (Linux does: `__copy_user_nocache`); every x86-64 processor has it.

use mm_types::PAGE_SIZE;

/// Copies a frame's bytes. When it returns the stores are visible like ordinary ones.
///
/// # Safety
/// `from` is valid for reads and `to` for writes of [`PAGE_SIZE`] bytes, both are aligned to 8, they do not overlap, and nobody
/// writes the source or accesses the target meanwhile.
#[cfg(all(target_arch = "x86_64", not(miri)))]
pub(crate) unsafe fn copy_frame(from: *const u8, to: *mut u8) {
    // How far ahead the source is fetched: measured, 1024 was best of 256, 512 and 1024. A prefetch past the end of the frame is
    // of the next one, which a batch often copies next; it cannot fault.
    const AHEAD: usize = 1024;
    // SAFETY: reads PAGE_SIZE bytes at `from` and writes as many at `to`, 64 in a turn, which the caller allows; the prefetch is a hint.
    // Non-temporal stores are not ordered with other stores, so the fence is inside: at the end they have been made like any.
    unsafe {
        core::arch::asm!(
            "2:",
            "prefetchnta [{from} + {ahead}]",
            "mov {a}, [{from}]",
            "mov {b}, [{from} + 8]",
            "mov {c}, [{from} + 16]",
            "mov {d}, [{from} + 24]",
            "movnti [{to}], {a}",
            "movnti [{to} + 8], {b}",
            "movnti [{to} + 16], {c}",
            "movnti [{to} + 24], {d}",
            "mov {a}, [{from} + 32]",
            "mov {b}, [{from} + 40]",
            "mov {c}, [{from} + 48]",
            "mov {d}, [{from} + 56]",
            "movnti [{to} + 32], {a}",
            "movnti [{to} + 40], {b}",
            "movnti [{to} + 48], {c}",
            "movnti [{to} + 56], {d}",
            "add {from}, 64",
            "add {to}, 64",
            "sub {left:e}, 64",
            "jnz 2b",
            "sfence",
            ahead = const AHEAD,
            from = inout(reg) from => _,
            to = inout(reg) to => _,
            left = inout(reg) PAGE_SIZE => _,
            a = out(reg) _,
            b = out(reg) _,
            c = out(reg) _,
            d = out(reg) _,
            options(nostack),
        );
    }
}

/// Copies a frame's bytes, where there is no such instruction to name.
///
/// # Safety
/// `from` is valid for reads and `to` for writes of [`PAGE_SIZE`] bytes, they do not overlap, and nobody writes the source or
/// accesses the target meanwhile.
#[cfg(any(not(target_arch = "x86_64"), miri))]
pub(crate) unsafe fn copy_frame(from: *const u8, to: *mut u8) {
    // SAFETY: the caller's promise.
    unsafe { core::ptr::copy_nonoverlapping(from, to, PAGE_SIZE) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[repr(align(4096))]
    struct Frames([[u8; PAGE_SIZE]; 3]);

    #[test]
    fn every_byte_of_a_frame_is_copied_and_none_around_it() {
        let mut frames = Frames([[0xee; PAGE_SIZE]; 3]);
        let source: Vec<u64> = (0..PAGE_SIZE as u64 / 8)
            .map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15))
            .collect();
        let [before, target, after] = &mut frames.0;
        // SAFETY: a frame's bytes each, apart, and this thread's alone; a vector of words and an aligned frame.
        unsafe { copy_frame(source.as_ptr().cast(), target.as_mut_ptr()) };
        let copied = target
            .chunks_exact(8)
            .map(|word| u64::from_ne_bytes(word.try_into().unwrap()));
        assert!(copied.eq(source.iter().copied()));
        assert!(before.iter().chain(after.iter()).all(|byte| *byte == 0xee));
    }
}

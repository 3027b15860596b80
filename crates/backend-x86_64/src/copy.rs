//! Copying a frame past the caches.
//!
//! A batch of migrations copies more than a cache holds, and most of what it writes is not read soon. Ordinary stores would first
//! read each line of the new frame, and push out the descriptors and entries that the run comes back to; non-temporal stores do
//! neither, and a non-temporal prefetch keeps the source from doing the second.
//!
//! Where the compiler may use vector registers, so does the copy. A kernel mostly may not, because it keeps them for its programs:
//! there it is MOVNTI, from general registers (Linux: `__copy_user_nocache`).

use mm_types::PAGE_SIZE;

// How far ahead the source is fetched, in bytes; `benches/batch.rs` measures the copy alone. Past the end of the frame it is the next
// one, which a batch often copies next; a prefetch cannot fault.
#[cfg(all(target_arch = "x86_64", not(miri)))]
const AHEAD: usize = 1024;

/// Copies a frame's bytes. When it returns the stores are visible like ordinary ones.
///
/// # Safety
/// `from` is valid for reads and `to` for writes of [`PAGE_SIZE`] bytes, they do not overlap, and nobody writes the source or
/// accesses the target meanwhile.
pub(crate) unsafe fn copy_frame(from: *const u8, to: *mut u8) {
    // Vector stores past the caches want this much. Every frame has it that is not mapped in some strange way.
    if cfg!(all(target_arch = "x86_64", not(miri))) && (from.addr() | to.addr()).trailing_zeros() >= 4 {
        // SAFETY: the caller's promise, and the alignment.
        unsafe { stream(from, to) };
    } else {
        // SAFETY: the caller's promise.
        unsafe { core::ptr::copy_nonoverlapping(from, to, PAGE_SIZE) };
    }
}

// Copies 64 bytes in a turn, by the lines given, which use the registers a to d of one class.
#[cfg(all(target_arch = "x86_64", not(miri)))]
macro_rules! past_the_caches {
    ($from:ident, $to:ident, $class:ident, $($line:literal),+) => {
        core::arch::asm!(
            "2:",
            "prefetchnta [{from} + {ahead}]",
            $($line,)+
            "add {from}, 64",
            "add {to}, 64",
            "sub {left:e}, 64",
            "jnz 2b",
            "sfence",
            ahead = const AHEAD,
            from = inout(reg) $from => _,
            to = inout(reg) $to => _,
            left = inout(reg) PAGE_SIZE => _,
            a = out($class) _,
            b = out($class) _,
            c = out($class) _,
            d = out($class) _,
            options(nostack),
        )
    };
}

/// # Safety
/// As [`copy_frame`], and both are aligned to 16.
#[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
unsafe fn stream(from: *const u8, to: *mut u8) {
    // SAFETY: reads PAGE_SIZE bytes at `from` and writes as many at `to`, which the caller allows; the prefetch is a hint.
    // Non-temporal stores are not ordered with other stores, so the fence is inside: after it they have been made like any.
    unsafe {
        past_the_caches!(
            from,
            to,
            xmm_reg,
            "movdqa {a}, [{from}]",
            "movdqa {b}, [{from} + 16]",
            "movdqa {c}, [{from} + 32]",
            "movdqa {d}, [{from} + 48]",
            "movntdq [{to}], {a}",
            "movntdq [{to} + 16], {b}",
            "movntdq [{to} + 32], {c}",
            "movntdq [{to} + 48], {d}"
        );
    }
}

/// # Safety
/// As [`copy_frame`].
#[cfg(all(target_arch = "x86_64", not(target_feature = "sse2"), not(miri)))]
unsafe fn stream(from: *const u8, to: *mut u8) {
    // SAFETY: as above.
    unsafe {
        past_the_caches!(
            from,
            to,
            reg,
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
            "movnti [{to} + 56], {d}"
        );
    }
}

/// # Safety
/// As [`copy_frame`].
#[cfg(any(not(target_arch = "x86_64"), miri))]
unsafe fn stream(from: *const u8, to: *mut u8) {
    // SAFETY: the caller's promise.
    unsafe { core::ptr::copy_nonoverlapping(from, to, PAGE_SIZE) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[repr(align(4096))]
    struct Frames([[u8; PAGE_SIZE]; 4]);

    fn pattern(len: usize) -> Vec<u8> {
        (0..len as u32)
            .map(|n| (n.wrapping_mul(0x9e37_79b9) >> 24) as u8)
            .collect()
    }

    #[test]
    fn every_byte_of_a_frame_is_copied_and_none_around_it() {
        // Aligned, and as little as `FrameMapping` asks for: another way each.
        for offset in [0, 8] {
            let mut frames = Frames([[0xee; PAGE_SIZE]; 4]);
            let bytes = frames.0.as_flattened_mut();
            let (source, rest) = bytes.split_at_mut(PAGE_SIZE);
            source.copy_from_slice(&pattern(PAGE_SIZE));
            let target = &mut rest[PAGE_SIZE - offset..][..PAGE_SIZE];
            // SAFETY: a frame's bytes each, apart, and this thread's alone.
            unsafe { copy_frame(source.as_ptr(), target.as_mut_ptr()) };
            assert_eq!(target, pattern(PAGE_SIZE));
            let around = rest
                .iter()
                .enumerate()
                .filter(|(n, _)| !(PAGE_SIZE - offset..2 * PAGE_SIZE - offset).contains(n));
            assert!(around.map(|(_, byte)| *byte).all(|byte| byte == 0xee));
        }
    }
}

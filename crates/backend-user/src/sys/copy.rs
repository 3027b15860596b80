//! Copying a page past the caches.
//!
//! A batch copies more than a cache holds, and the thread that copies reads none of it afterwards. Ordinary stores read each line of
//! the new page first, and push out the descriptors and entries that the run comes back to; non-temporal ones do neither.
//!
//! They are not ordered with other stores. What makes copies of a batch visible is the barrier after them: it calls [`done`]
//! before any place shows a new page. A page that is mapped nowhere has no barrier; whoever reads it has its lock, and a lock opens by
//! a locked instruction, which waits for such stores too (Intel SDM vol. 3, "Buffering of Write Combining Memory Locations").

use core::ptr;

use mm_types::PAGE_SIZE;

/// Copies a page's bytes; for others they are there after [`done`].
///
/// # Safety
/// 1. `source` is valid for reads and `target` for writes of [`PAGE_SIZE`] bytes, both are aligned to it, and they do not overlap.
/// 2. Nobody writes the source or accesses the target until [`done`].
pub unsafe fn page(source: *const u8, target: *mut u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if std::arch::is_x86_feature_detected!("avx") {
        // SAFETY: the processor has the instructions; the rest is the caller's promise.
        return unsafe { stream(source, target) };
    }
    // SAFETY: the caller's promise.
    unsafe { ptr::copy_nonoverlapping(source, target, PAGE_SIZE) };
}

/// Makes what the calling thread has copied visible to others, as ordinary stores are.
pub fn done() {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: every processor of this architecture has it; it orders stores and does nothing else.
    unsafe {
        core::arch::x86_64::_mm_sfence();
    }
}

/// # Safety
/// As [`page`], and the processor has AVX.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[target_feature(enable = "avx")]
unsafe fn stream(source: *const u8, target: *mut u8) {
    use core::arch::x86_64::{__m256i, _mm256_load_si256, _mm256_stream_si256};
    const AT_ONCE: usize = 4;
    let source = source.cast::<__m256i>();
    let target = target.cast::<__m256i>();
    for line in (0..PAGE_SIZE / size_of::<__m256i>()).step_by(AT_ONCE) {
        // SAFETY: inside the page, which may be read, and aligned as it is.
        let words: [__m256i; AT_ONCE] =
            core::array::from_fn(|n| unsafe { _mm256_load_si256(source.wrapping_add(line + n)) });
        for (n, word) in words.into_iter().enumerate() {
            // SAFETY: inside the page, which may be written, and aligned as it is.
            unsafe { _mm256_stream_si256(target.wrapping_add(line + n), word) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(align(4096))]
    struct Pages([[u8; PAGE_SIZE]; 4]);

    #[test]
    fn every_byte_of_a_page_is_copied_and_none_around_it() {
        let mut pages = Box::new(Pages([[0xee; PAGE_SIZE]; 4]));
        let [source, before, target, after] = &mut pages.0;
        for (byte, n) in source.iter_mut().zip(0u32..) {
            *byte = (n.wrapping_mul(0x9e37_79b9) >> 24) as u8;
        }
        // SAFETY: pages of their own, aligned, and this thread's alone.
        unsafe { page(source.as_ptr(), target.as_mut_ptr()) };
        done();
        assert_eq!(target, source);
        assert!(before.iter().chain(after.iter()).all(|byte| *byte == 0xee));
    }
}

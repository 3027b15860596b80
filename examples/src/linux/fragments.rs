//! Memory in pieces, so that a kernel that is asked to compact has mapped pages to move.

use core::ops::RangeInclusive;
use core::sync::atomic::{AtomicU64, Ordering};
use std::io;

use memmap2::{Advice, MmapMut, MmapOptions, UncheckedAdvice};
use mm_types::PAGE_SIZE;

use crate::random::mix;
use crate::words::WORDS;

/// Pages that were touched one after the other, of which every other one was given back.
#[derive(Debug)]
pub struct Fragments {
    map: MmapMut,
}

/// No two pages alike, and none like a page of zeros.
const fn stamp(page: usize) -> u64 {
    mix(page as u64 + 1)
}

impl Fragments {
    /// Touches `pages` pages, at least two, and gives half of them back.
    ///
    /// # Errors
    /// What `mmap(2)` and `madvise(2)` answer.
    pub fn new(pages: usize) -> io::Result<Self> {
        let pages = pages.max(2);
        let mut map = MmapOptions::new().len(pages * PAGE_SIZE).map_anon()?;
        // A large page would have no neighbour to lose. A kernel without them says that it knows no such advice.
        let _ = map.advise(Advice::NoHugePage);
        for (page, bytes) in map.chunks_exact_mut(PAGE_SIZE).enumerate() {
            for word in bytes.chunks_exact_mut(8) {
                word.copy_from_slice(&stamp(page).to_ne_bytes());
            }
        }
        // Neighbours have come from one run of frames: with every other one gone, what is left is in the way.
        for page in (0..pages).step_by(2) {
            // SAFETY: a page of the mapping, which nobody refers to and nobody looks at again.
            unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, page * PAGE_SIZE, PAGE_SIZE) }?;
        }
        Ok(Self { map })
    }

    /// Returns the numbers of the pages that it kept.
    fn kept(&self) -> impl Iterator<Item = usize> {
        (1..self.map.len() / PAGE_SIZE).step_by(2)
    }

    /// Returns how many pages it keeps.
    #[must_use]
    pub fn pages(&self) -> usize {
        self.kept().count()
    }

    /// Returns the addresses among which they are.
    #[must_use]
    pub fn addresses(&self) -> RangeInclusive<usize> {
        let start = self.map.as_ptr().addr();
        start..=start + (self.map.len() - 1)
    }

    /// Returns the words of each page, which any thread may use.
    #[must_use]
    pub fn words(&self) -> Vec<&[AtomicU64]> {
        let words = |page: usize| {
            let start = self.map.as_ptr().wrapping_add(page * PAGE_SIZE).cast::<AtomicU64>();
            // SAFETY: a page of the mapping, which lives as long as this, on a page boundary; nobody takes it mutably any more, and all
            // that use it do so by these words.
            unsafe { core::slice::from_raw_parts(start, WORDS) }
        };
        self.kept().map(words).collect()
    }

    /// Counts the pages that do not hold what they held. What somebody stored there is not told from damage.
    #[must_use]
    pub fn lost(&self) -> usize {
        let words = self.words();
        let pages = self.kept().zip(words);
        let lost = pages.filter(|(page, words)| words.iter().any(|word| word.load(Ordering::Relaxed) != stamp(*page)));
        lost.count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_pages_is_kept_and_damage_is_seen() {
        let fragments = Fragments::new(9).unwrap();
        assert_eq!((fragments.pages(), fragments.lost()), (4, 0));
        let words = fragments.words();
        words[2][WORDS - 1].fetch_add(1, Ordering::Relaxed);
        assert_eq!(fragments.lost(), 1);
        let within = fragments.addresses();
        assert!(words.iter().all(|page| within.contains(&page.as_ptr().addr())));
        assert_eq!(Fragments::new(0).unwrap().pages(), 1, "two at least");
    }
}

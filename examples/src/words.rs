//! What writers write: every word says whose it is, where it belongs and how often it was written.
//!
//! The high half of a word is a hash of the seed and the word's index, the low half its generation. One thread owns a
//! word, knows the generation it wrote last, and looks at the word before it writes the next. A write that went to
//! the old frame after the copy shows as an old generation (*lost*), one that came twice or too early as a newer one,
//! a page that landed in another's place as a stranger's hash.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::random::mix;

/// Words in a page.
pub const WORDS: usize = mm_types::PAGE_SIZE / 8;

/// Returns the word that belongs at `index` in generation `generation`; generation 0 is memory nobody wrote: zero.
#[must_use]
pub const fn word(seed: u64, index: u64, generation: u32) -> u64 {
    if generation == 0 {
        return 0;
    }
    (tag(seed, index) << 32) | generation as u64
}

const fn tag(seed: u64, index: u64) -> u64 {
    mix(seed ^ mix(index)) >> 32
}

/// What was wrong with a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// An older generation: a write was lost.
    Lost {
        /// The generation written last.
        expected: u32,
        /// The one found.
        found: u32,
    },
    /// A generation its owner has not written: a write came twice, or from nowhere.
    Duplicated {
        /// The generation written last.
        expected: u32,
        /// The one found.
        found: u32,
    },
    /// Another place's word, or none.
    Foreign {
        /// The word found.
        found: u64,
    },
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost { expected, found } => write!(f, "lost write: generation {expected} expected, {found} found"),
            Self::Duplicated { expected, found } => {
                write!(f, "write from nowhere: generation {expected} expected, {found} found")
            }
            Self::Foreign { found } => write!(f, "not a word of this place: {found:#018x}"),
        }
    }
}

/// Compares a word found at `index` with the one its owner wrote last.
///
/// # Errors
/// What is wrong with it.
pub const fn verify(seed: u64, index: u64, generation: u32, found: u64) -> Result<(), Damage> {
    if found == word(seed, index, generation) {
        return Ok(());
    }
    let low = (found & 0xffff_ffff) as u32;
    if found != word(seed, index, low) {
        return Err(Damage::Foreign { found });
    }
    Err(if low < generation {
        Damage::Lost {
            expected: generation,
            found: low,
        }
    } else {
        Damage::Duplicated {
            expected: generation,
            found: low,
        }
    })
}

/// One writer: owns every `of`th word of every page, from the `number`th on.
#[derive(Debug)]
pub struct Writer {
    seed: u64,
    number: usize,
    of: usize,
    /// The generation of this writer's words of each page; ordinary memory, which does not move.
    generations: Vec<u32>,
}

impl Writer {
    /// Makes writer `number` of `of` for `pages` pages that nobody has written.
    #[must_use]
    pub fn new(seed: u64, number: usize, of: usize, pages: usize) -> Self {
        Self {
            seed,
            number,
            of: of.max(1),
            generations: vec![0; pages],
        }
    }

    /// Returns how many words of a page are this writer's.
    #[must_use]
    pub const fn words_per_page(&self) -> usize {
        WORDS.saturating_sub(self.number).div_ceil(self.of)
    }

    /// Checks this writer's words of `page` and writes their next generation; reports each damaged word, once.
    ///
    /// Each word is looked at just before it is written: a page that moves in the middle is seen in the middle.
    pub fn visit(&mut self, memory: &[AtomicU64], page: usize, damaged: impl FnMut(usize, Damage)) {
        let Some(&generation) = self.generations.get(page) else {
            return;
        };
        // Generation 0 means never written; the 32 bits wrap past it.
        let next = generation.checked_add(1).unwrap_or(1);
        self.sweep(memory, page, Some(next), damaged);
        if let Some(now) = self.generations.get_mut(page) {
            *now = next;
        }
    }

    /// Checks this writer's words of `page` without writing.
    pub fn check(&self, memory: &[AtomicU64], page: usize, damaged: impl FnMut(usize, Damage)) {
        self.sweep(memory, page, None, damaged);
    }

    fn sweep(&self, memory: &[AtomicU64], page: usize, next: Option<u32>, mut damaged: impl FnMut(usize, Damage)) {
        let first = page * WORDS;
        let (Some(words), Some(&generation)) = (memory.get(first..first + WORDS), self.generations.get(page)) else {
            return;
        };
        for (at, slot) in words.iter().enumerate().skip(self.number).step_by(self.of) {
            let index = (first + at) as u64;
            // One owner: nothing is published through a word, and a stale one is exactly what is looked for.
            if let Err(damage) = verify(self.seed, index, generation, slot.load(Ordering::Relaxed)) {
                damaged(first + at, damage);
            }
            if let Some(next) = next {
                slot.store(word(self.seed, index, next), Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(pages: usize) -> Vec<AtomicU64> {
        (0..pages * WORDS).map(|_| AtomicU64::new(0)).collect()
    }

    fn found(writer: &Writer, memory: &[AtomicU64], page: usize) -> Vec<(usize, Damage)> {
        let mut all = Vec::new();
        writer.check(memory, page, |at, damage| all.push((at, damage)));
        all
    }

    #[test]
    fn writers_share_a_page_and_find_their_own_words_again() {
        let memory = memory(3);
        let mut writers: Vec<_> = (0..3).map(|n| Writer::new(9, n, 3, 3)).collect();
        assert_eq!(writers.iter().map(Writer::words_per_page).sum::<usize>(), WORDS);
        for _ in 0..4 {
            for writer in &mut writers {
                writer.visit(&memory, 1, |at, damage| panic!("{at}: {damage}"));
            }
        }
        assert!(writers.iter().all(|writer| found(writer, &memory, 1).is_empty()));
        assert!(
            memory[WORDS..2 * WORDS]
                .iter()
                .all(|word| word.load(Ordering::Relaxed) as u32 == 4)
        );
        assert!(memory[..WORDS].iter().all(|word| word.load(Ordering::Relaxed) == 0));
    }

    #[test]
    fn a_lost_write_is_found_once_and_told_from_a_misplaced_one() {
        let memory = memory(2);
        let mut writer = Writer::new(1, 0, 2, 2);
        for _ in 0..3 {
            writer.visit(&memory, 0, |_, damage| panic!("{damage}"));
        }
        memory[4].store(word(1, 4, 2), Ordering::Relaxed);
        memory[6].store(word(1, 4, 3), Ordering::Relaxed);
        memory[8].store(word(1, 8, 9), Ordering::Relaxed);
        let lost = Damage::Lost { expected: 3, found: 2 };
        let foreign = Damage::Foreign { found: word(1, 4, 3) };
        let duplicated = Damage::Duplicated { expected: 3, found: 9 };
        assert_eq!(found(&writer, &memory, 0), [(4, lost), (6, foreign), (8, duplicated)]);
        let mut all = 0;
        writer.visit(&memory, 0, |_, _| all += 1);
        assert_eq!(all, 3);
        assert!(found(&writer, &memory, 0).is_empty(), "written over, so counted once");
    }

    #[test]
    fn a_page_that_became_zero_or_came_from_another_seed_is_damage() {
        let memory = memory(1);
        let mut writer = Writer::new(1, 0, 1, 1);
        writer.visit(&memory, 0, |_, damage| panic!("{damage}"));
        memory[0].store(0, Ordering::Relaxed);
        memory[1].store(word(2, 1, 1), Ordering::Relaxed);
        let all = found(&writer, &memory, 0);
        assert_eq!(all[0], (0, Damage::Lost { expected: 1, found: 0 }));
        assert!(matches!(all[1], (1, Damage::Foreign { .. })));
    }
}

//! What readers do: compare a mapped page of a file, word by word, with what an ordinary read of the file gave.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::words::WORDS;

/// A word that was not what the file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongRead {
    /// The word's index in the file.
    pub at: usize,
    /// What the file has there.
    pub expected: u64,
    /// What was read.
    pub found: u64,
}

impl fmt::Display for WrongRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, expected, found } = self;
        write!(
            f,
            "file page {} word {}: {expected:#018x} in the file, {found:#018x} read",
            at / WORDS,
            at % WORDS
        )
    }
}

/// Compares page `page` of `view` with the file's `contents`; reports each word that differs. Behind the end of the file there are zeroes.
pub fn check(view: &[AtomicU64], contents: &[u8], page: usize, mut wrong: impl FnMut(WrongRead)) {
    let first = page * WORDS;
    let Some(words) = view.get(first..first + WORDS) else {
        return;
    };
    let end = contents.len().min((first + WORDS) * 8);
    let bytes = contents.get(first * 8..end).unwrap_or_default();
    let (whole, rest) = bytes.as_chunks::<8>();
    let mut tail = [0; 8];
    if let Some(start) = tail.get_mut(..rest.len()) {
        start.copy_from_slice(rest);
    }
    let expected = whole.iter().copied().chain([tail]).chain(core::iter::repeat([0; 8]));
    for (at, (slot, expected)) in words.iter().zip(expected).enumerate() {
        let (expected, found) = (u64::from_ne_bytes(expected), slot.load(Ordering::Relaxed));
        if expected != found {
            wrong(WrongRead {
                at: first + at,
                expected,
                found,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(contents: &[u8], pages: usize) -> Vec<AtomicU64> {
        let mut bytes = contents.to_vec();
        bytes.resize(pages * WORDS * 8, 0);
        let (words, _) = bytes.as_chunks::<8>();
        words.iter().map(|w| AtomicU64::new(u64::from_ne_bytes(*w))).collect()
    }

    fn wrong(view: &[AtomicU64], contents: &[u8], page: usize) -> Vec<usize> {
        let mut all = Vec::new();
        check(view, contents, page, |wrong| all.push(wrong.at));
        all
    }

    #[test]
    fn a_page_that_is_the_files_is_right_to_the_last_byte_and_zero_after_it() {
        let contents: Vec<u8> = (0..9001u32).map(|i| (i % 251) as u8 + 1).collect();
        let view = view(&contents, 3);
        for page in 0..3 {
            assert!(wrong(&view, &contents, page).is_empty());
        }
        let last = 9001 / 8;
        view[last].fetch_xor(1 << 63, Ordering::Relaxed);
        view[last + 1].store(1, Ordering::Relaxed);
        view[3].store(0, Ordering::Relaxed);
        assert_eq!(
            wrong(&view, &contents, 2),
            [last, last + 1],
            "a byte behind the end counts"
        );
        assert_eq!(wrong(&view, &contents, 0), [3]);
    }

    #[test]
    fn a_whole_page_of_another_place_is_found() {
        let contents: Vec<u8> = (0..8192u32).map(|i| (i / 4096) as u8 + 1).collect();
        let view = view(&contents, 2);
        for at in 0..WORDS {
            view[at].store(view[WORDS + at].load(Ordering::Relaxed), Ordering::Relaxed);
        }
        assert_eq!(wrong(&view, &contents, 0).len(), WORDS);
    }
}

//! The check of how entries are packed into words.

use alloc::format;
use core::fmt::{Debug, LowerHex};

use mm_types::Invariant as I;
use mm_types::Pte;

use super::{Violation, hold};

/// What a kernel tells apart by looking at a word, before it decodes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Looks {
    /// Present.
    pub present: bool,
    /// Empty.
    pub none: bool,
    /// A page of a nonlinear mapping.
    pub file: bool,
}

/// Checks that a migration entry which was packed into `word` reads back, and looks like nothing else (I40).
///
/// # Errors
/// What it reads back as, or looks like.
pub fn check_packing<W: Copy + Debug + LowerHex>(
    entry: Pte,
    word: W,
    looks: impl Fn(W) -> Looks,
    decode: impl Fn(W) -> Option<Pte>,
) -> Result<(), Violation> {
    let seen = looks(word);
    hold(I::EntryReadsBack, seen == Looks::default(), || {
        format!("{entry} is {word:#x}, which looks like {seen:?}")
    })?;
    let read = decode(word);
    hold(I::EntryReadsBack, read == Some(entry), || {
        format!("{entry} is {word:#x}, which reads back as {read:?}")
    })
}

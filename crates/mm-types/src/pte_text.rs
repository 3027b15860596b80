//! The text form of a page-table entry, as traces print it.
//!
//! `none`, `ro`, `rw+young+dirty`, `read`, `write+young`, `read-exclusive`, `swap:3:0x10+exclusive`,
//! `file:0x4`, `poison`: one word, no spaces, marks in a fixed order. The frame is not part of it,
//! because traces name frames and do not number them. Every entry has exactly one text: parsing
//! refuses any other spelling of the same value, so that a trace compares byte for byte.

use core::fmt::{self, Write};

use crate::{MigrationEntry, MigrationFlags, MigrationKind, Pfn, Pte, PteFlags, SwapEntry, SwapPteFlags, SwapType};

const PTE_MARKS: [(PteFlags, &str); 5] = [
    (PteFlags::YOUNG, "young"),
    (PteFlags::DIRTY, "dirty"),
    (PteFlags::SOFT_DIRTY, "soft-dirty"),
    (PteFlags::UFFD_WP, "uffd-wp"),
    (PteFlags::EXCLUSIVE, "exclusive"),
];
const MIGRATION_MARKS: [(MigrationFlags, &str); 4] = [
    (MigrationFlags::YOUNG, "young"),
    (MigrationFlags::DIRTY, "dirty"),
    (MigrationFlags::SOFT_DIRTY, "soft-dirty"),
    (MigrationFlags::UFFD_WP, "uffd-wp"),
];
const SWAP_MARKS: [(SwapPteFlags, &str); 3] = [
    (SwapPteFlags::SOFT_DIRTY, "soft-dirty"),
    (SwapPteFlags::UFFD_WP, "uffd-wp"),
    (SwapPteFlags::EXCLUSIVE, "exclusive"),
];

/// Text that is not the text of a page-table entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ParsePteError {
    /// No entry prints like this.
    #[error("not the text of a page-table entry")]
    Syntax,
    /// The entry names a frame and none was supplied.
    #[error("the entry names a frame and none was given")]
    NoFrame,
    /// An entry of this meaning exists, and is spelled differently.
    #[error("not the canonical text of the entry")]
    NotCanonical,
}

impl fmt::Display for Pte {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::None => f.write_str("none"),
            Self::Present { flags, .. } => {
                f.write_str(if flags.contains(PteFlags::WRITE) { "rw" } else { "ro" })?;
                PTE_MARKS
                    .iter()
                    .try_for_each(|&(bit, word)| mark(f, flags.contains(bit), word))
            }
            Self::Swap { entry, flags } => {
                write!(f, "swap:{entry}")?;
                SWAP_MARKS
                    .iter()
                    .try_for_each(|&(bit, word)| mark(f, flags.contains(bit), word))
            }
            Self::Migration(entry) => {
                f.write_str(entry.kind().word())?;
                MIGRATION_MARKS
                    .iter()
                    .try_for_each(|&(bit, word)| mark(f, entry.flags().contains(bit), word))
            }
            Self::File { offset } => write!(f, "file:{offset:#x}"),
            Self::Poison(_) => f.write_str("poison"),
        }
    }
}

fn mark(f: &mut fmt::Formatter<'_>, set: bool, word: &str) -> fmt::Result {
    if set { write!(f, "+{word}") } else { Ok(()) }
}

impl Pte {
    /// Reads an entry back from its text and the frame the trace printed beside it.
    ///
    /// The frame is used by entries that have one and ignored by the rest.
    ///
    /// # Errors
    ///
    /// [`ParsePteError`]: unknown text, a missing frame, or a spelling `Display` would not choose.
    pub fn parse(text: &str, pfn: impl Into<Option<Pfn>>) -> Result<Self, ParsePteError> {
        let pte = Self::read(text, pfn.into())?;
        let mut rest = Unread(text);
        match write!(rest, "{pte}") {
            Ok(()) if rest.0.is_empty() => Ok(pte),
            _ => Err(ParsePteError::NotCanonical),
        }
    }

    fn read(text: &str, pfn: Option<Pfn>) -> Result<Self, ParsePteError> {
        let (head, marks) = match text.split_once('+') {
            Some((head, marks)) => (head, Some(marks)),
            None => (text, None),
        };
        let framed = || pfn.ok_or(ParsePteError::NoFrame);
        let moving = |make: fn(Pfn) -> MigrationEntry| {
            let flags = union(marks, &MIGRATION_MARKS, MigrationFlags::empty(), MigrationFlags::union)?;
            Ok(Self::Migration(make(framed()?).with_flags(flags)))
        };
        let mapped = |flags| {
            Ok(Self::present(
                framed()?,
                union(marks, &PTE_MARKS, flags, PteFlags::union)?,
            ))
        };
        match head {
            "ro" => mapped(PteFlags::empty()),
            "rw" => mapped(PteFlags::WRITE),
            _ if head == MigrationKind::Read.word() => moving(MigrationEntry::readable),
            _ if head == MigrationKind::ReadExclusive.word() => moving(MigrationEntry::readable_exclusive),
            _ if head == MigrationKind::Write.word() => moving(MigrationEntry::writable),
            "none" => Ok(Self::None),
            "poison" => Ok(Self::Poison(framed()?)),
            _ => match head.split_once(':') {
                Some(("file", offset)) => Ok(Self::File { offset: hex(offset)? }),
                Some(("swap", place)) => {
                    let (ty, offset) = place.split_once(':').ok_or(ParsePteError::Syntax)?;
                    let ty = ty.parse().ok().and_then(SwapType::new).ok_or(ParsePteError::Syntax)?;
                    let entry = SwapEntry::new(ty, hex(offset)?).ok_or(ParsePteError::Syntax)?;
                    let flags = union(marks, &SWAP_MARKS, SwapPteFlags::empty(), SwapPteFlags::union)?;
                    Ok(Self::Swap { entry, flags })
                }
                _ => Err(ParsePteError::Syntax),
            },
        }
    }
}

fn hex(text: &str) -> Result<u64, ParsePteError> {
    let digits = text.strip_prefix("0x").ok_or(ParsePteError::Syntax)?;
    u64::from_str_radix(digits, 16).map_err(|_| ParsePteError::Syntax)
}

fn union<F: Copy>(marks: Option<&str>, known: &[(F, &str)], start: F, or: fn(F, F) -> F) -> Result<F, ParsePteError> {
    marks
        .into_iter()
        .flat_map(|marks| marks.split('+'))
        .try_fold(start, |flags, word| {
            let found = known
                .iter()
                .find(|&&(_, name)| name == word)
                .ok_or(ParsePteError::Syntax)?;
            Ok(or(flags, found.0))
        })
}

/// Text that a second printing of the value has to repeat.
struct Unread<'a>(&'a str);

impl Write for Unread<'_> {
    fn write_str(&mut self, printed: &str) -> fmt::Result {
        self.0 = self.0.strip_prefix(printed).ok_or(fmt::Error)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    const PFN: Pfn = Pfn::new(0x10);

    #[test]
    fn entries_print_as_one_short_word() {
        let swap = SwapEntry::new(SwapType::new(3).unwrap(), 0x10).unwrap();
        let texts = [
            (Pte::None, "none"),
            (Pte::present(PFN, PteFlags::empty()), "ro"),
            (
                Pte::present(PFN, PteFlags::WRITE | PteFlags::YOUNG | PteFlags::DIRTY),
                "rw+young+dirty",
            ),
            (Pte::Migration(MigrationEntry::readable(PFN)), "read"),
            (
                Pte::Migration(MigrationEntry::writable(PFN).with_flags(MigrationFlags::YOUNG)),
                "write+young",
            ),
            (
                Pte::Migration(MigrationEntry::readable_exclusive(PFN)),
                "read-exclusive",
            ),
            (
                Pte::Swap {
                    entry: swap,
                    flags: SwapPteFlags::empty(),
                },
                "swap:3:0x10",
            ),
            (
                Pte::Swap {
                    entry: swap,
                    flags: SwapPteFlags::all(),
                },
                "swap:3:0x10+soft-dirty+uffd-wp+exclusive",
            ),
            (Pte::File { offset: 4 }, "file:0x4"),
            (Pte::Poison(PFN), "poison"),
        ];
        for (pte, text) in texts {
            assert_eq!(pte.to_string(), text);
            assert_eq!(Pte::parse(text, PFN), Ok(pte));
        }
    }

    #[test]
    fn other_spellings_of_an_entry_are_refused() {
        for text in [
            "rw+dirty+young",
            "ro+young+young",
            "swap:03:0x10",
            "swap:3:0x010",
            "file:0x0A",
            "none+young",
        ] {
            assert_eq!(Pte::parse(text, PFN), Err(ParsePteError::NotCanonical), "{text}");
        }
        for text in [
            "",
            "r",
            "rw+",
            "rw+hot",
            "swap:3",
            "swap:32:0x1",
            "swap:3:0x800000000000000",
            "file:4",
            "write ",
        ] {
            assert_eq!(Pte::parse(text, PFN), Err(ParsePteError::Syntax), "{text}");
        }
    }

    #[test]
    fn an_entry_with_a_frame_cannot_be_read_without_one() {
        for text in ["ro", "rw", "read", "write", "read-exclusive", "poison"] {
            assert_eq!(Pte::parse(text, None), Err(ParsePteError::NoFrame), "{text}");
        }
        assert_eq!(Pte::parse("none", None), Ok(Pte::None));
    }
}

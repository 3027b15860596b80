//! What the two text forms, traces and scenarios, have in common: words with columns, and errors that say where.
//!
//! A reader here never panics and never looks at more than the line it was given, whatever is in it: a line of ten
//! megabytes is one word that nobody knows.

use core::fmt::{self, Write};

use crate::{ActorId, Pfn, Refusal, Site, SpaceId, UnknownWord, Vpn};

/// Where a text is wrong, and what would have been right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {kind}")]
pub struct ParseError {
    /// The line, from 1; 1 where a single line was parsed.
    pub line: usize,
    /// The column in bytes, from 1.
    pub column: usize,
    /// What is wrong.
    pub kind: ParseErrorKind,
}

/// What is wrong with a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseErrorKind {
    /// The first line is not the one that names the format and a version this crate reads.
    #[error("expected the version line \"{0}\"")]
    Version(&'static str),
    /// The line's first word is none of the format's.
    #[error("unknown word; expected {0}")]
    UnknownWord(&'static str),
    /// Something else stands where this belongs, or the line ends before it.
    #[error("expected {0}")]
    Expected(&'static str),
    /// A key that the line has had already.
    #[error("this key is there twice")]
    Repeated,
    /// More words than the line has a use for.
    #[error("the line should end here")]
    Trailing,
    /// A number beyond the range of what it counts.
    #[error("number out of range: expected {0}")]
    OutOfRange(&'static str),
    /// The same thing is spelled differently in a text that compares byte for byte.
    #[error("not the canonical spelling")]
    NotCanonical,
    /// Two parts of the line do not fit together.
    #[error("{0}")]
    Contradiction(&'static str),
}

impl ParseError {
    pub(crate) const fn at(column: usize, kind: ParseErrorKind) -> Self {
        Self { line: 1, column, kind }
    }

    pub(crate) const fn on_line(self, line: usize) -> Self {
        Self { line, ..self }
    }
}

/// A word of a line and the column it starts in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Word<'a> {
    pub(crate) text: &'a str,
    pub(crate) column: usize,
}

impl Word<'_> {
    pub(crate) const fn err(self, kind: ParseErrorKind) -> ParseError {
        ParseError::at(self.column, kind)
    }

    /// Cuts `prefix` off, if it is there.
    pub(crate) fn strip(self, prefix: &str) -> Option<Self> {
        let text = self.text.strip_prefix(prefix)?;
        Some(Self {
            text,
            column: self.column.saturating_add(prefix.len()),
        })
    }

    /// Splits at the first `mark`; the mark belongs to neither part.
    pub(crate) fn split(self, mark: char) -> Option<(Self, Self)> {
        let (head, tail) = self.text.split_once(mark)?;
        let column = self.column.saturating_add(head.len()).saturating_add(mark.len_utf8());
        Some((
            Self {
                text: head,
                column: self.column,
            },
            Self { text: tail, column },
        ))
    }

    /// Reads the whole word as a decimal number without sign or leading zeros.
    pub(crate) fn decimal<T: TryFrom<u64>>(self, what: &'static str) -> Result<T, ParseError> {
        self.number(self.text, 10, what)
    }

    /// Reads the whole word as `0x` and a number in lower-case hexadecimal without leading zeros.
    pub(crate) fn hex<T: TryFrom<u64>>(self, what: &'static str) -> Result<T, ParseError> {
        match self.text.strip_prefix("0x") {
            Some(digits) => self.number(digits, 16, what),
            None => Err(self.err(ParseErrorKind::Expected(what))),
        }
    }

    fn number<T: TryFrom<u64>>(self, digits: &str, radix: u32, what: &'static str) -> Result<T, ParseError> {
        let known = |byte: u8| byte.is_ascii_digit() || (radix == 16 && matches!(byte, b'a'..=b'f'));
        if digits.is_empty() || !digits.bytes().all(known) {
            return Err(self.err(ParseErrorKind::Expected(what)));
        }
        if digits.len() > 1 && digits.starts_with('0') {
            return Err(self.err(ParseErrorKind::NotCanonical));
        }
        u64::from_str_radix(digits, radix)
            .ok()
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| self.err(ParseErrorKind::OutOfRange(what)))
    }

    /// Reads `letter` and a number, such as `m3`.
    pub(crate) fn id(self, letter: &str, what: &'static str) -> Result<u32, ParseError> {
        match self.strip(letter) {
            Some(number) if number.text.starts_with(|first: char| first.is_ascii_digit()) => number.decimal(what),
            _ => Err(self.err(ParseErrorKind::Expected(what))),
        }
    }

    /// Reads a page of a space, such as `m0+0x3`.
    pub(crate) fn site(self) -> Result<Site, ParseError> {
        const WHAT: &str = "a site such as m0+0x3";
        let Some((space, page)) = self.split('+') else {
            return Err(self.err(ParseErrorKind::Expected(WHAT)));
        };
        Ok(Site::new(SpaceId::new(space.id("m", WHAT)?), Vpn::new(page.hex(WHAT)?)))
    }

    /// Reads a word of an enumeration.
    pub(crate) fn known<T: core::str::FromStr<Err = UnknownWord>>(self) -> Result<T, ParseError> {
        self.text
            .parse()
            .map_err(|unknown: UnknownWord| self.err(ParseErrorKind::Expected(unknown.known)))
    }
}

/// The words of one line, in order, one space between them.
#[derive(Clone, Debug)]
pub(crate) struct Words<'a> {
    line: &'a str,
    rest: Option<&'a str>,
    column: usize,
}

impl<'a> Words<'a> {
    pub(crate) const fn new(line: &'a str) -> Self {
        Self {
            line,
            rest: Some(line),
            column: 1,
        }
    }

    pub(crate) fn peek(&self) -> Option<Word<'a>> {
        self.clone().next()
    }

    /// Takes the next word, which must be there.
    pub(crate) fn need(&mut self, what: &'static str) -> Result<Word<'a>, ParseError> {
        let end = ParseError::at(self.column, ParseErrorKind::Expected(what));
        self.next().ok_or(end)
    }

    /// Takes the next word if it starts with `letter` and a digit, such as `f3`.
    pub(crate) fn maybe_id(&mut self, letter: &str, what: &'static str) -> Result<Option<u32>, ParseError> {
        let Some(word) = self.peek() else { return Ok(None) };
        let digits = word
            .strip(letter)
            .is_some_and(|number| number.text.starts_with(|c: char| c.is_ascii_digit()));
        if !digits {
            return Ok(None);
        }
        self.next();
        word.id(letter, what).map(Some)
    }

    pub(crate) fn id(&mut self, letter: &str, what: &'static str) -> Result<u32, ParseError> {
        self.need(what)?.id(letter, what)
    }

    /// Takes the value of `key` (given with its `=`), which must come next.
    pub(crate) fn value(&mut self, key: &'static str) -> Result<Word<'a>, ParseError> {
        let word = self.need(key)?;
        match word.strip(key) {
            Some(value) => Ok(value),
            None if self.had(word) => Err(word.err(ParseErrorKind::Repeated)),
            None => Err(word.err(ParseErrorKind::Expected(key))),
        }
    }

    /// Refuses anything after the last word.
    pub(crate) fn end(&mut self) -> Result<(), ParseError> {
        match self.next() {
            None => Ok(()),
            Some(word) if self.had(word) => Err(word.err(ParseErrorKind::Repeated)),
            Some(word) => Err(word.err(ParseErrorKind::Trailing)),
        }
    }

    fn had(&self, word: Word<'_>) -> bool {
        let Some((key, _)) = word.split('=') else { return false };
        let mut before = Words::new(self.line);
        core::iter::from_fn(|| before.next())
            .take_while(|earlier| earlier.column < word.column)
            .any(|earlier| earlier.split('=').is_some_and(|(earlier, _)| earlier.text == key.text))
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = Word<'a>;

    fn next(&mut self) -> Option<Word<'a>> {
        let rest = self.rest?;
        if rest.is_empty() {
            self.rest = None;
            return None;
        }
        let column = self.column;
        let text = match rest.split_once(' ') {
            Some((text, rest)) => {
                self.rest = Some(rest);
                self.column = column.saturating_add(text.len()).saturating_add(1);
                text
            }
            None => {
                self.rest = None;
                self.column = column.saturating_add(rest.len()).saturating_add(1);
                rest
            }
        };
        Some(Word { text, column })
    }
}

/// Refuses a line that its value would not print: two spellings of one line do not compare.
pub(crate) fn canonical(line: &str, value: &impl fmt::Display) -> Result<(), ParseError> {
    let mut rest = Unread { rest: line, column: 1 };
    let same = write!(rest, "{value}").is_ok() && rest.rest.is_empty();
    if same {
        Ok(())
    } else {
        Err(ParseError::at(rest.column, ParseErrorKind::NotCanonical))
    }
}

/// Text that a printing has to repeat.
struct Unread<'a> {
    rest: &'a str,
    column: usize,
}

impl Write for Unread<'_> {
    fn write_str(&mut self, printed: &str) -> fmt::Result {
        self.rest = self.rest.strip_prefix(printed).ok_or(fmt::Error)?;
        self.column = self.column.saturating_add(printed.len());
        Ok(())
    }
}

/// Prints a site as traces do: `m0+0x3`.
pub(crate) struct ShowSite(pub(crate) Site);

impl fmt::Display for ShowSite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m{}+{:#x}", self.0.space.raw(), self.0.page.raw())
    }
}

/// Reads the rest of a line as a refusal: its word, then what it tells of the holder.
pub(crate) fn refusal(word: Word<'_>, words: &mut Words<'_>) -> Result<Refusal, ParseError> {
    let rule = Refusal::EXAMPLES.iter().find(|example| example.word() == word.text);
    let Some(rule) = rule else {
        return Err(word.err(ParseErrorKind::Expected("the word of a refusal such as lock_busy")));
    };
    Ok(match *rule {
        Refusal::Mapped { .. } => Refusal::Mapped {
            site: maybe_site(words)?,
        },
        Refusal::Mlocked { .. } => Refusal::Mlocked {
            site: maybe_site(words)?,
        },
        Refusal::ExtraReference { .. } => Refusal::ExtraReference {
            expected: words.value("expected=")?.decimal("a count of references")?,
            found: words.value("found=")?.decimal("a count of references")?,
        },
        Refusal::Pinned { .. } => Refusal::Pinned {
            pins: words.value("pins=")?.decimal("a count of pins")?,
        },
        Refusal::Backend { .. } => Refusal::Backend {
            code: signed(words.value("code=")?)?,
        },
        plain => plain,
    })
}

fn maybe_site(words: &mut Words<'_>) -> Result<Option<Site>, ParseError> {
    match words.peek() {
        None => Ok(None),
        Some(_) => words.value("site=")?.site().map(Some),
    }
}

fn signed(word: Word<'_>) -> Result<i32, ParseError> {
    const WHAT: &str = "a code of 32 bits";
    let number: i64 = match word.strip("-") {
        Some(digits) => digits
            .decimal::<u32>(WHAT)
            .map(|number| i64::from(number).wrapping_neg())?,
        None => word.decimal::<u32>(WHAT).map(i64::from)?,
    };
    i32::try_from(number).map_err(|_| word.err(ParseErrorKind::OutOfRange(WHAT)))
}

impl core::str::FromStr for Refusal {
    type Err = ParseError;

    /// Reads what `Display` prints: the rule's word, then `key=value` pairs of the holder.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut words = Words::new(text);
        let word = words.need("the word of a refusal")?;
        let refusal = refusal(word, &mut words)?;
        words.end()?;
        canonical(text, &refusal)?;
        Ok(refusal)
    }
}

/// Reads an actor's id, such as `t1`.
pub(crate) fn actor(words: &mut Words<'_>) -> Result<ActorId, ParseError> {
    words.id("t", "an actor such as t1").map(ActorId::new)
}

/// Reads a frame's id, such as `f1`, as a word of its own.
pub(crate) fn frame(words: &mut Words<'_>) -> Result<Pfn, ParseError> {
    words.id("f", "a frame such as f0").map(|id| Pfn::new(id.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn every_refusal_reads_back_as_itself() {
        let site = Site::new(SpaceId::new(1), Vpn::new(3));
        let mut all = std::vec::Vec::from(Refusal::EXAMPLES);
        all.push(Refusal::Mapped { site: Some(site) });
        all.push(Refusal::Mlocked { site: Some(site) });
        all.push(Refusal::Backend { code: i32::MIN });
        for refusal in all {
            assert_eq!(refusal.to_string().parse(), Ok(refusal));
        }
    }

    #[test]
    fn a_wrong_refusal_says_where_it_is_wrong() {
        let error = |text: &str| {
            let error = text.parse::<Refusal>().unwrap_err();
            (error.column, error.kind)
        };
        assert_eq!(
            error("extra_reference found=2"),
            (17, ParseErrorKind::Expected("expected="))
        );
        assert_eq!(
            error("pinned pins=4294967296"),
            (13, ParseErrorKind::OutOfRange("a count of pins"))
        );
        assert_eq!(error("pinned pins=1 pins=1"), (15, ParseErrorKind::Repeated));
        assert_eq!(error("lock_busy now"), (11, ParseErrorKind::Trailing));
        assert_eq!(error("mapped site=m0+0x03"), (16, ParseErrorKind::NotCanonical));
    }
}

//! Reading a trace whole, from bytes that may be anything.

use alloc::vec::Vec;
use core::fmt;

use mm_types::trace::{Line, Lines, ParseError};

/// Why some bytes are not a trace, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {what}")]
pub struct Unreadable {
    /// The line, from 1.
    pub line: usize,
    /// The column in bytes, from 1.
    pub column: usize,
    /// What is wrong, and what was expected.
    pub what: alloc::string::String,
}

impl Unreadable {
    pub(crate) fn new(line: usize, column: usize, what: impl fmt::Display) -> Self {
        Self {
            line,
            column,
            what: alloc::format!("{what}"),
        }
    }
}

impl From<ParseError> for Unreadable {
    fn from(error: ParseError) -> Self {
        Self::new(error.line, error.column, error.kind)
    }
}

/// Returns the text that `bytes` are.
///
/// # Errors
///
/// The place of the first byte that is not UTF-8, or of the end, where the last line has none: a text that was cut in the
/// middle of a number reads like one with another number.
pub(crate) fn text(bytes: &[u8]) -> Result<&str, Unreadable> {
    let text = core::str::from_utf8(bytes).map_err(|error| {
        let (line, column) = place(bytes.get(..error.valid_up_to()).unwrap_or_default());
        Unreadable::new(line, column, "not UTF-8")
    })?;
    if !text.is_empty() && !text.ends_with('\n') {
        let (line, column) = place(bytes);
        return Err(Unreadable::new(
            line,
            column,
            "the last line is cut off: no newline ends it",
        ));
    }
    Ok(text)
}

/// The line and column that come after `bytes`.
fn place(bytes: &[u8]) -> (usize, usize) {
    let line = bytes.iter().filter(|byte| **byte == b'\n').count();
    let column = bytes.iter().rev().take_while(|byte| **byte != b'\n').count();
    (line.saturating_add(1), column.saturating_add(1))
}

/// Reads a whole trace.
///
/// # Errors
///
/// The first place where `bytes` are not what a trace's writer writes.
pub fn parse(bytes: &[u8]) -> Result<Vec<Line>, Unreadable> {
    Ok(Lines::new(text(bytes)?)?.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    fn error(bytes: &[u8]) -> std::string::String {
        parse(bytes).unwrap_err().to_string()
    }

    #[test]
    fn what_is_no_trace_is_told_with_line_and_column() {
        assert_eq!(error(b""), "line 1, column 1: expected the version line \"trace v1\"");
        assert_eq!(
            error(b"trace v2\n"),
            "line 1, column 1: expected the version line \"trace v1\""
        );
        assert_eq!(error(b"trace v1\nlock f0\nlock \xff\n"), "line 3, column 6: not UTF-8");
        assert_eq!(
            error(b"trace v1\nfrobnicate f0\n"),
            "line 2, column 1: unknown word; expected the word of an event such as lock"
        );
        assert_eq!(
            error(b"trace v1\nfreeze f0 expected=1"),
            "line 2, column 21: the last line is cut off: no newline ends it"
        );
    }

    #[test]
    fn a_whole_trace_is_read() {
        assert_eq!(parse(b"trace v1\n"), Ok(Vec::new()));
        assert_eq!(parse(b"trace v1\nlock p0 f0\n").map(|lines| lines.len()), Ok(1));
    }
}

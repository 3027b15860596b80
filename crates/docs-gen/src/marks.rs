//! The comments between which a file's blocks stand.

use core::fmt::Write;

use crate::blocks::Blocks;

const OPEN: &str = "<!-- docs-gen: ";
const CLOSE: &str = " -->";
const END: &str = "<!-- end -->";

/// What is wrong with a file's markers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// A block has a beginning and no end.
    #[error("line {line}: block {block} has no {END}")]
    NoEnd {
        /// The line of its beginning, from 1.
        line: usize,
        /// Its name.
        block: String,
    },
    /// There is no block of this name.
    #[error("line {line}: there is no block {block:?}")]
    Unknown {
        /// The line, from 1.
        line: usize,
        /// The name.
        block: String,
    },
    /// An end without a beginning.
    #[error("line {line}: {END} ends no block")]
    NoBeginning {
        /// The line, from 1.
        line: usize,
    },
}

/// A piece of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece<'t> {
    /// The block's name; `None` for what stands between blocks.
    pub(crate) block: Option<&'t str>,
    /// Its text, without the markers.
    pub(crate) text: &'t str,
    /// Its first line in the file, from 1.
    pub(crate) line: usize,
}

/// Puts markers around a block's text.
pub(crate) fn marked(name: &str, text: &str) -> String {
    format!("{OPEN}{name}{CLOSE}\n{}{END}\n", body(text))
}

/// A block as it stands between its markers: markdown wants an empty line on either side of a table.
fn body(text: &str) -> String {
    format!("\n{}\n\n", text.trim_end())
}

/// Takes a file apart at its markers, which stand alone on their lines, outside code.
pub(crate) fn pieces(file: &str) -> Result<Vec<Piece<'_>>, Wrong> {
    let mut pieces = Vec::new();
    let (mut block, mut from, mut first, mut fenced) = (None, 0, 1, false);
    let mut at = 0;
    for (n, whole) in file.split_inclusive('\n').enumerate() {
        let (line, text) = (n + 1, whole.trim_end());
        let next = at + whole.len();
        fenced ^= block.is_none() && text.starts_with("```");
        let opened = text.strip_prefix(OPEN).and_then(|rest| rest.strip_suffix(CLOSE));
        let marker = match (block, opened) {
            _ if fenced => None,
            (None, Some(name)) => Some(Some((name, line))),
            (Some((name, line)), Some(_)) => return Err(no_end(name, line)),
            (Some(_), None) if text == END => Some(None),
            (None, None) if text == END => return Err(Wrong::NoBeginning { line }),
            _ => None,
        };
        if let Some(then) = marker {
            pieces.push(Piece {
                block: block.map(|(name, _)| name),
                text: &file[from..at],
                line: first,
            });
            (block, from, first) = (then, next, line + 1);
        }
        at = next;
    }
    if let Some((name, line)) = block {
        return Err(no_end(name, line));
    }
    pieces.push(Piece {
        block: None,
        text: &file[from..],
        line: first,
    });
    Ok(pieces)
}

fn no_end(block: &str, line: usize) -> Wrong {
    Wrong::NoEnd {
        line,
        block: block.to_owned(),
    }
}

/// Returns the file with every block between markers as it should be.
pub(crate) fn refill(file: &str, blocks: &Blocks) -> Result<String, Wrong> {
    for piece in pieces(file)? {
        if let Some(name) = piece.block.filter(|name| !blocks.contains_key(name)) {
            return Err(Wrong::Unknown {
                line: piece.line - 1,
                block: name.to_owned(),
            });
        }
    }
    refill_known(file, blocks)
}

/// Returns the file with those of its blocks that are in `blocks` as they should be, and all else as it is.
pub(crate) fn refill_known(file: &str, blocks: &Blocks) -> Result<String, Wrong> {
    let mut filled = String::new();
    for piece in pieces(file)? {
        match piece.block.map(|name| (name, blocks.get(name))) {
            None => filled.push_str(piece.text),
            Some((name, Some(text))) => filled.push_str(&marked(name, text)),
            // Writing to a string does not fail.
            Some((name, None)) => drop(write!(filled, "{OPEN}{name}{CLOSE}\n{}{END}\n", piece.text)),
        }
    }
    Ok(filled)
}

/// The line that says where a file comes from, so that nobody edits it by hand.
pub(crate) fn made_from(source: &str) -> String {
    let mut line = String::new();
    // Writing to a string does not fail.
    let _ = writeln!(line, "{MADE} {source}; `cargo run -p docs-gen` makes it again -->");
    line
}

/// How the first line of a file begins that is ours to remove.
pub(crate) const MADE: &str = "<!-- made by docs-gen from";

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str =
        "# Head\n\n<!-- docs-gen: one -->\nold\n<!-- end -->\nmiddle\n<!-- docs-gen: two -->\n<!-- end -->\ntail\n";

    fn blocks() -> Blocks {
        Blocks::from([("one", "1\n".to_owned()), ("two", "| 2 |\n".to_owned())])
    }

    #[test]
    fn only_what_stands_between_markers_is_replaced() {
        let filled = refill(FILE, &blocks()).unwrap();
        assert_eq!(
            filled,
            "# Head\n\n<!-- docs-gen: one -->\n\n1\n\n<!-- end -->\nmiddle\n\
             <!-- docs-gen: two -->\n\n| 2 |\n\n<!-- end -->\ntail\n"
        );
        assert_eq!(
            refill(&filled, &blocks()).unwrap(),
            filled,
            "and again it changes nothing"
        );
    }

    #[test]
    fn blocks_that_nobody_knows_yet_stay_as_they_are() {
        let known = Blocks::from([("two", "| 2 |\n".to_owned())]);
        let filled = refill_known(FILE, &known).unwrap();
        assert!(filled.contains("<!-- docs-gen: one -->\nold\n<!-- end -->\nmiddle\n"));
        assert!(filled.contains("<!-- docs-gen: two -->\n\n| 2 |\n\n<!-- end -->\n"));
    }

    #[test]
    fn pieces_say_where_they_begin() {
        let pieces = pieces(FILE).unwrap();
        let seen: Vec<_> = pieces.iter().map(|piece| (piece.block, piece.line)).collect();
        assert_eq!(
            seen,
            [(None, 1), (Some("one"), 4), (None, 6), (Some("two"), 8), (None, 9)]
        );
    }

    #[test]
    fn markers_that_do_not_match_are_named_with_their_line() {
        let wrong = |file: &str| refill(file, &blocks()).unwrap_err().to_string();
        assert_eq!(
            wrong("a\n<!-- docs-gen: one -->\nb\n"),
            "line 2: block one has no <!-- end -->"
        );
        assert_eq!(
            wrong("<!-- docs-gen: one -->\n<!-- docs-gen: two -->\n<!-- end -->\n"),
            "line 1: block one has no <!-- end -->"
        );
        assert_eq!(wrong("a\n<!-- end -->\n"), "line 2: <!-- end --> ends no block");
        assert_eq!(
            wrong("\n<!-- docs-gen: three -->\n<!-- end -->\n"),
            "line 2: there is no block \"three\""
        );
    }

    #[test]
    fn markers_shown_as_code_are_no_markers() {
        let shown = "```text\n<!-- docs-gen: one -->\n<!-- end -->\n```\n";
        assert_eq!(refill(shown, &blocks()).unwrap(), shown);
    }
}

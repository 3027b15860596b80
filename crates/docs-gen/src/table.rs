//! Tables in markdown. Cells are not padded: a changed word changes its own line and no other.

use core::fmt::{self, Display, Write};

/// A table: a head, and rows of as many cells.
pub(crate) struct Table<const N: usize> {
    text: String,
}

impl<const N: usize> Table<N> {
    pub(crate) fn new(head: [&str; N]) -> Self {
        let mut table = Self { text: String::new() };
        table.row(head);
        table.text.push_str(&"|---".repeat(N));
        table.text.push_str("|\n");
        table
    }

    pub(crate) fn row(&mut self, cells: [impl Display; N]) {
        for cell in cells {
            // A bar would begin a new cell, a line end a new row.
            let cell = cell.to_string().replace('|', "\\|").replace('\n', " ");
            // Writing to a string does not fail.
            let _ = write!(self.text, "| {} ", cell.trim());
        }
        self.text.push_str("|\n");
    }
}

impl<const N: usize> Display for Table<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Marks a word as code.
pub(crate) fn code(word: impl Display) -> String {
    format!("`{word}`")
}

/// Says a truth value.
pub(crate) const fn yes(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

/// Takes `SwitchThenCopy` apart: `switch then copy`.
pub(crate) fn plain(camel: &str) -> String {
    let mut words = String::new();
    for letter in camel.chars() {
        if letter.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(letter.to_lowercase());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_can_break_neither_row_nor_column() {
        let mut table = Table::new(["a", "b"]);
        table.row(["x|y", "two\nlines"]);
        assert_eq!(table.to_string(), "| a | b |\n|---|---|\n| x\\|y | two lines |\n");
    }

    #[test]
    fn names_of_variants_read_as_words() {
        assert_eq!(plain("SwitchThenCopy"), "switch then copy");
    }
}

//! Documents made from the code, so that they cannot become false.
//!
//! A *block* is a table, a drawing or a recorded trace, made from what the code itself uses: its constants, its
//! functions, its doc comments, its runs. A *chapter* is prose with the names of blocks in it. Chapters become files in
//! `docs/`; other files (the README) have blocks between two comments:
//!
//! ```text
//! <!-- docs-gen: refusals -->
//! whatever stands here is replaced
//! <!-- end -->
//! ```
//!
//! A *figure* is a block that is a drawing, and a file of its own in `docs/figures/`, which chapters show as an image.
//!
//! [`blocks::render`] makes the blocks, [`Book::make`] the files, [`Book::check`] compares them with what is on disk,
//! block by block, and [`Book::write`] stores them. [`Site::of`] renders the chapters to pages. The same commit gives the same bytes
//! on any machine.

#![forbid(unsafe_code)]

pub mod blocks;
mod book;
pub mod checks;
mod diff;
pub mod exhibits;
mod figures;
mod html;
pub mod looks;
mod marks;
pub mod performance;
mod source;
pub mod stepper;
mod table;
mod template;

pub use book::{Book, CHAPTERS, Chapter, Drift, GENERATED_IN_PLACE};
pub use html::Site;
pub use marks::Wrong;

/// Why the documents could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The code's tables and their descriptions do not fit together.
    #[error("block {block}: {what}")]
    Gap {
        /// The block.
        block: &'static str,
        /// What is missing where.
        what: String,
    },
    /// A chapter names a block that is not there.
    #[error("{file}, line {line}: there is no block {block:?}")]
    NoBlock {
        /// The chapter's source.
        file: &'static str,
        /// The line, from 1.
        line: usize,
        /// What it names.
        block: String,
    },
    /// A file could not be read or written.
    #[error("{file}: {error}")]
    File {
        /// The file, from the root of the repository.
        file: String,
        /// Why not.
        error: std::io::Error,
    },
    /// A file's markers are wrong.
    #[error("{file}, {wrong}")]
    Marks {
        /// The file, from the root of the repository.
        file: String,
        /// What is wrong with them.
        wrong: Wrong,
    },
}

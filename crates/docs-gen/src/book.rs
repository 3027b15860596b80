//! The files that are made, and how they compare with those on disk.

use core::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use crate::Error;
use crate::blocks::Blocks;
use crate::diff::{Change, changes};
use crate::figures::{DIRECTORY, is_figure};
use crate::marks::{MADE, Wrong, made_from, pieces, refill, refill_known};
use crate::template::fill;

/// A chapter of the book.
#[derive(Clone, Copy, Debug)]
pub struct Chapter {
    /// The file it becomes, in `docs/`.
    pub file: &'static str,
    /// Where its prose is, from the root of the repository.
    pub source: &'static str,
    /// Its prose, with the names of blocks.
    pub template: &'static str,
}

impl Chapter {
    /// Returns its title: the first line, without the mark.
    #[must_use]
    pub fn title(&self) -> &'static str {
        let line = self.template.lines().next().unwrap_or("");
        line.strip_prefix("# ").unwrap_or(line)
    }
}

macro_rules! chapters {
    ($($file:literal,)*) => {
        /// The chapters, in the order of reading; the first is the front page.
        pub const CHAPTERS: &[Chapter] = &[$(Chapter {
            file: concat!("docs/", $file),
            source: concat!("crates/docs-gen/src/book/", $file),
            template: include_str!(concat!("book/", $file)),
        }),*];
    };
}

chapters! {
    "README.md",
    "what-it-is.md",
    "one-page.md",
    "four-lists.md",
    "holders.md",
    "entry.md",
    "fault.md",
    "batching.md",
    "what-goes-wrong.md",
    "then-and-now.md",
    "your-kernel.md",
    "trace-format.md",
    "trace-tools.md",
    "PERFORMANCE.md",
    "invariants.md",
    "glossary.md",
}

/// Files written by hand, and the blocks each of them must have a place for.
pub const GENERATED_IN_PLACE: &[(&str, &[&str])] = &[("README.md", &["refusals", "profiles"])];

/// Where figures are made.
const FIGURES: &str = "crates/docs-gen/src/figures";

/// Lines of one difference that are shown.
const SHOWN: usize = 20;

/// How a file on disk differs from what the code says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Drift {
    /// A file is not there.
    Missing {
        /// The file.
        file: String,
    },
    /// A file that this program once made belongs to no chapter.
    Stale {
        /// The file.
        file: String,
    },
    /// A file has no place for a block that it must have.
    NoPlace {
        /// The file.
        file: String,
        /// The block.
        block: String,
    },
    /// Lines differ.
    Lines {
        /// The file.
        file: String,
        /// The block; `None` where the prose around the blocks differs.
        block: Option<String>,
        /// The first line that differs, on disk, from 1.
        line: usize,
        /// The lines: on disk and wrong with `-` before them, right and not on disk with `+`.
        lines: Vec<String>,
    },
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { file } => write!(f, "{file} is missing"),
            Self::Stale { file } => write!(f, "{file} belongs to no chapter any more"),
            Self::NoPlace { file, block } => {
                write!(
                    f,
                    "{file} has no place for block {block}: <!-- docs-gen: {block} --> and <!-- end -->"
                )
            }
            Self::Lines {
                file,
                block,
                line,
                lines,
            } => {
                match block {
                    Some(block) => write!(f, "{file}, line {line}: block {block} has drifted")?,
                    None => write!(f, "{file}, line {line}: text outside the blocks has drifted")?,
                }
                for line in lines.iter().take(SHOWN) {
                    write!(f, "\n  {line}")?;
                }
                match lines.len().checked_sub(SHOWN) {
                    Some(more @ 1..) => write!(f, "\n  … and {more} lines more"),
                    _ => Ok(()),
                }
            }
        }
    }
}

/// The files as they should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Book {
    files: Vec<(String, String)>,
    stale: Vec<String>,
    no_place: Vec<Drift>,
}

impl Book {
    /// Makes all files of the repository at `root` from `blocks`. Reads, and writes nothing.
    ///
    /// # Errors
    /// A chapter names no block, a file's markers are wrong, or a file cannot be read.
    pub fn make(root: &Path, blocks: &Blocks) -> Result<Self, Error> {
        let mut book = Self {
            files: Vec::new(),
            stale: Vec::new(),
            no_place: Vec::new(),
        };
        for (n, chapter) in CHAPTERS.iter().enumerate() {
            let mut text = made_from(chapter.source);
            text.push('\n');
            text.push_str(&fill(chapter.source, chapter.template, blocks)?);
            text.push_str(&links(n));
            book.files.push((chapter.file.to_owned(), text));
        }
        book.files.extend(figures(blocks));
        for (file, needed) in GENERATED_IN_PLACE {
            let Some(now) = read(root, file)? else { continue };
            let text = refill(&now, blocks).map_err(wrong_in(file))?;
            for block in *needed {
                if !pieces(&now)
                    .map_err(wrong_in(file))?
                    .iter()
                    .any(|piece| piece.block == Some(block))
                {
                    book.no_place.push(Drift::NoPlace {
                        file: (*file).to_owned(),
                        block: (*block).to_owned(),
                    });
                }
            }
            book.files.push(((*file).to_owned(), text));
        }
        book.stale = stale(root, &book.files)?;
        Ok(book)
    }

    /// Makes what `blocks` say of the files at `root` that are there, and leaves the rest of each as it is. Reads, and writes nothing.
    ///
    /// # Errors
    /// A file's markers are wrong, or a file cannot be read.
    pub fn make_known(root: &Path, blocks: &Blocks) -> Result<Self, Error> {
        let mut book = Self {
            files: Vec::new(),
            stale: Vec::new(),
            no_place: Vec::new(),
        };
        let chapters = CHAPTERS.iter().map(|chapter| chapter.file);
        for file in chapters.chain(GENERATED_IN_PLACE.iter().map(|(file, _)| *file)) {
            if let Some(now) = read(root, file)? {
                let text = refill_known(&now, blocks).map_err(wrong_in(file))?;
                book.files.push((file.to_owned(), text));
            }
        }
        book.files.extend(figures(blocks));
        Ok(book)
    }

    /// Returns the files and their texts.
    pub fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(file, text)| (file.as_str(), text.as_str()))
    }

    /// Compares with what is on disk.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn check(&self, root: &Path) -> Result<Vec<Drift>, Error> {
        let mut drifts = Vec::new();
        for (file, text) in &self.files {
            match read(root, file)? {
                None => drifts.push(Drift::Missing { file: file.clone() }),
                Some(now) => drifts.extend(differences(file, &now, text)),
            }
        }
        for (file, _) in GENERATED_IN_PLACE {
            if !self.files.iter().any(|(made, _)| made == file) {
                drifts.push(Drift::Missing {
                    file: (*file).to_owned(),
                });
            }
        }
        drifts.extend(self.stale.iter().map(|file| Drift::Stale { file: file.clone() }));
        drifts.extend(self.no_place.iter().cloned());
        Ok(drifts)
    }

    /// Writes the files that differ and removes those that belong to no chapter; returns which.
    ///
    /// # Errors
    /// A file cannot be read, written or removed.
    pub fn write(&self, root: &Path) -> Result<Vec<String>, Error> {
        let mut changed = Vec::new();
        for (file, text) in &self.files {
            if read(root, file)?.as_deref() == Some(text) {
                continue;
            }
            let path = root.join(file);
            let dir = path.parent().map_or(Ok(()), fs::create_dir_all);
            dir.and_then(|()| fs::write(&path, text)).map_err(at(file))?;
            changed.push(file.clone());
        }
        for file in &self.stale {
            fs::remove_file(root.join(file)).map_err(at(file))?;
            changed.push(file.clone());
        }
        Ok(changed)
    }
}

/// The blocks that are files of their own.
fn figures(blocks: &Blocks) -> impl Iterator<Item = (String, String)> {
    let drawings = blocks.iter().filter(|(name, _)| is_figure(name));
    drawings.map(|(name, drawing)| {
        let text = format!("{}\n{drawing}", made_from(FIGURES));
        (format!("docs/{DIRECTORY}/{name}"), text)
    })
}

fn wrong_in(file: &str) -> impl FnOnce(Wrong) -> Error + '_ {
    |wrong| Error::Marks {
        file: file.to_owned(),
        wrong,
    }
}

fn at(file: &str) -> impl FnOnce(std::io::Error) -> Error + '_ {
    |error| Error::File {
        file: file.to_owned(),
        error,
    }
}

fn read(root: &Path, file: &str) -> Result<Option<String>, Error> {
    match fs::read_to_string(root.join(file)) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at(file)(error)),
    }
}

/// Files of `docs/` that say they are ours and are none of `made`.
fn stale(root: &Path, made: &[(String, String)]) -> Result<Vec<String>, Error> {
    let mut found = Vec::new();
    for dir in ["docs".to_owned(), format!("docs/{DIRECTORY}")] {
        let entries = match fs::read_dir(root.join(&dir)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(at(&dir)(error)),
        };
        for entry in entries {
            let file = format!("{dir}/{}", entry.map_err(at(&dir))?.file_name().to_string_lossy());
            let known = made.iter().any(|(made, _)| *made == file);
            let ours = file.ends_with(".md") || is_figure(&file);
            if !known && ours && read(root, &file)?.is_some_and(|text| text.starts_with(MADE)) {
                found.push(file);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The way on from a chapter, at its end.
fn links(n: usize) -> String {
    let link = |chapter: &Chapter| format!("[{}]({})", chapter.title(), chapter.file.trim_start_matches("docs/"));
    match (CHAPTERS.get(n + 1), CHAPTERS.first()) {
        _ if n == 0 => String::new(),
        (Some(next), _) => format!("\nNext: {}\n", link(next)),
        (None, Some(front)) => format!("\nBack to the front: {}\n", link(front)),
        (None, None) => String::new(),
    }
}

/// The changed lines of one file, together for each block.
fn differences(file: &str, now: &str, right: &str) -> Vec<Drift> {
    let places = |text: &str| match file.rsplit_once('/') {
        // A figure is a block and nothing else.
        Some((_, name)) if is_figure(name) => vec![Some(name.to_owned()); text.lines().count()],
        _ => places(text),
    };
    let (on_disk, wanted) = (places(now), places(right));
    let mut drifts: Vec<Drift> = Vec::new();
    let mut last = 0;
    for change in changes(now, right) {
        let (place, text) = match change {
            Change::Old(n, line) => {
                last = n + 1;
                (on_disk.get(n), format!("- {line}"))
            }
            Change::New(n, line) => (wanted.get(n), format!("+ {line}")),
        };
        let place = place.cloned().flatten();
        match drifts.last_mut() {
            Some(Drift::Lines { block, lines, .. }) if *block == place => lines.push(text),
            _ => drifts.push(Drift::Lines {
                file: file.to_owned(),
                block: place,
                line: last.max(1),
                lines: vec![text],
            }),
        }
    }
    drifts
}

/// The block that each line belongs to. A file whose markers are wrong has none.
fn places(file: &str) -> Vec<Option<String>> {
    let mut places = vec![None; file.lines().count()];
    for piece in pieces(file).unwrap_or_default() {
        let lines = places.iter_mut().skip(piece.line - 1).take(piece.text.lines().count());
        lines.for_each(|place| *place = piece.block.map(str::to_owned));
    }
    places
}

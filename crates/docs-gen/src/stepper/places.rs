//! Lines of the source that a page can lead to.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::Error;

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file, from the root of the repository.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// What stands there.
    pub code: String,
}

impl Place {
    pub(super) fn json(&self) -> Value {
        json!({ "file": self.file, "line": self.line, "code": self.code })
    }
}

/// A source file that was read.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) file: String,
    pub(super) text: String,
}

impl Source {
    pub(super) fn read(root: &Path, file: &str) -> Result<Self, Error> {
        let text = fs::read_to_string(root.join(file)).map_err(|error| Error::File {
            file: file.to_owned(),
            error,
        })?;
        Ok(Self {
            file: file.to_owned(),
            text,
        })
    }

    /// Reads the Rust files of a folder and of those in it, in order.
    pub(super) fn folder(root: &Path, folder: &str) -> Result<Vec<Self>, Error> {
        let failed = |error| Error::File {
            file: folder.to_owned(),
            error,
        };
        let mut names = Vec::new();
        for entry in fs::read_dir(root.join(folder)).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = format!("{folder}/{}", entry.file_name().to_string_lossy());
            names.push((name, entry.path().is_dir()));
        }
        names.sort_unstable();
        let mut sources = Vec::new();
        for (name, is_folder) in names {
            if is_folder {
                sources.extend(Self::folder(root, &name)?);
            } else if name.ends_with(".rs") {
                sources.push(Self::read(root, &name)?);
            }
        }
        Ok(sources)
    }

    /// The place of line `n`, counted from 0.
    pub(super) fn place(&self, n: usize) -> Place {
        Place {
            file: self.file.clone(),
            line: n + 1,
            code: self.text.lines().nth(n).unwrap_or_default().trim().to_owned(),
        }
    }

    /// The places of the lines that `is` says are meant.
    pub(super) fn all(&self, is: impl Fn(&str) -> bool) -> Vec<Place> {
        let lines = self.text.lines().enumerate().filter(|(_, line)| is(line.trim()));
        lines.map(|(n, _)| self.place(n)).collect()
    }

    /// The first line meant after the one that contains `head`.
    pub(super) fn after(&self, head: &str, is: impl Fn(&str) -> bool) -> Result<Place, String> {
        let mut lines = self
            .text
            .lines()
            .enumerate()
            .skip_while(|(_, line)| !line.contains(head));
        let found = lines.find(|(_, line)| is(line.trim()));
        found
            .map(|(n, _)| self.place(n))
            .ok_or_else(|| format!("{}: nothing of the kind after {head:?}", self.file))
    }
}

/// True where `name` begins `line` and no longer name does.
pub(super) fn begins(line: &str, name: &str) -> bool {
    line.strip_prefix(name)
        .is_some_and(|rest| !rest.starts_with(|next: char| next.is_alphanumeric() || next == '_'))
}

/// True where `name` is in `line`, and not as the beginning of a longer one.
pub(super) fn names(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| begins(&line[at..], name))
}

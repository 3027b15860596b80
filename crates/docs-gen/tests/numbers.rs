//! A number that a comment, a test or an error text names is one that a reader can look up.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use mm_types::Invariant;
use mm_types::museum::ABSENT;

/// Words like I3 and B22.
fn numbers(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| {
        let digits = word.strip_prefix(['I', 'B']).unwrap_or("");
        (1..=2).contains(&digits.len()) && digits.chars().all(|c| c.is_ascii_digit())
    })
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The rows of the chapter that begin with a number, each number once.
fn defined() -> Vec<String> {
    let chapter = fs::read_to_string(root().join("docs/invariants.md")).unwrap();
    let first = chapter
        .lines()
        .filter_map(|row| row.strip_prefix("| ")?.split(" |").next());
    let mut seen = BTreeSet::new();
    first
        .filter(|cell| numbers(cell).eq([*cell]) && seen.insert(*cell))
        .map(str::to_owned)
        .collect()
}

/// Rust sources and documents below `dir`, without what a build made and what tools keep for themselves.
fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        let name = entry.file_name();
        if kind.is_dir() && name != "target" && !name.to_string_lossy().starts_with('.') {
            sources(&path, found);
        } else if kind.is_file() && path.extension().is_some_and(|end| end == "rs" || end == "md") {
            found.push(path);
        }
    }
}

#[test]
fn a_number_is_a_word_of_one_letter_and_at_most_two_digits() {
    let text = "I3: x (I1–I28), \"B22\" `I5`, I100 I 3I1 MI1 I1_ B2x C4 i3";
    assert!(numbers(text).eq(["I3", "I1", "I28", "B22", "I5"]));
}

#[test]
fn each_number_has_one_row_in_order_and_no_invariant_is_left_out() {
    let defined = defined();
    let wanted: Vec<_> = Invariant::ALL.iter().map(|invariant| invariant.id()).collect();
    let (invariants, bugs) = defined.split_at(wanted.len());
    assert_eq!(invariants, wanted);
    let order = |bugs: &[String]| -> Vec<u32> {
        let numbers = bugs.iter().filter_map(|id| id.strip_prefix('B'));
        numbers.map(|number| number.parse().unwrap()).collect()
    };
    let (had, absent) = bugs.split_at(bugs.len() - ABSENT.len());
    for bugs in [had, absent] {
        assert!(order(bugs).is_sorted_by(|a, b| a < b), "{bugs:?}");
    }
}

#[test]
fn every_number_that_the_sources_name_is_in_the_chapter() {
    let defined: BTreeSet<_> = defined().into_iter().collect();
    let root = root();
    let mut files = Vec::new();
    sources(&root, &mut files);
    files.sort();
    let mut named = BTreeSet::new();
    let mut unknown: BTreeMap<String, Vec<String>> = BTreeMap::new();
    // This file has numbers that are none.
    for path in files.iter().filter(|path| !path.ends_with("docs-gen/tests/numbers.rs")) {
        let text = fs::read_to_string(path).unwrap();
        for (n, line) in text.lines().enumerate() {
            for number in numbers(line) {
                named.insert(number.to_owned());
                if !defined.contains(number) {
                    let at = format!("{}:{}", path.strip_prefix(&root).unwrap().display(), n + 1);
                    unknown.entry(number.to_owned()).or_default().push(at);
                }
            }
        }
    }
    assert!(
        unknown.is_empty(),
        "crates/docs-gen/src/book/invariants.md has no row for {unknown:?}"
    );
    // A walk that saw nothing would find no fault.
    assert!(named.contains("I33") && named.contains("B22"), "{named:?}");
}

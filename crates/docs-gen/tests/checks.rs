//! The table of checks says what is there: each check and each test exists, and is about the invariant that it stands for.

use std::fs;
use std::path::Path;

use docs_gen::checks::{CHECKS, Place};
use mm_types::Invariant;
use mm_types::trace::Rule;

/// The text of the file, and of the file that counts for it.
fn source(place: Place) -> String {
    let read = |file: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(file);
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{file}: {error}"))
    };
    match place.file.strip_suffix("/invariants/state.rs") {
        Some(dir) => read(place.file) + &read(&format!("{dir}/invariants/count.rs")),
        None => read(place.file),
    }
}

/// The name of an invariant in the code.
fn variant(invariant: Invariant) -> String {
    format!("{invariant:?}")
}

/// True where `text` has `word`, and not only as a part of a longer one.
fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
        .any(|found| found == word)
}

/// A function, from its name to the end of its body; `None` where the file has none, or it is a test that does not run.
fn function<'s>(source: &'s str, name: &str) -> Option<(&'s str, &'s str)> {
    let (before, after) = source.split_once(&format!("fn {name}("))?;
    let end = after.find("\n}\n").unwrap_or(after.len());
    Some((before, &after[..end]))
}

#[test]
fn every_invariant_has_its_row_with_a_check_and_a_test() {
    assert!(
        CHECKS
            .iter()
            .map(|row| row.invariant)
            .eq(Invariant::ALL.iter().copied())
    );
    for row in CHECKS {
        assert!(!row.checked.is_empty() && !row.broken.is_empty(), "{}", row.invariant);
    }
}

#[test]
fn every_check_is_where_the_table_says_and_names_its_invariant() {
    for row in CHECKS {
        for place in row.checked {
            let source = source(*place);
            let declared = [format!("fn {}", place.name), format!("{}<", place.name)];
            let is_there = declared.iter().any(|declared| source.contains(declared));
            assert!(is_there, "{} is not in {}", place.name, place.file);
            let named = has_word(&source, &variant(row.invariant)) || place.file.contains("/tests/");
            assert!(named, "{} does not name {}", place.file, row.invariant);
        }
    }
}

#[test]
fn every_test_that_breaks_an_invariant_exists_runs_and_names_it() {
    for row in CHECKS {
        for place in row.broken {
            let source = source(*place);
            let (before, body) =
                function(&source, place.name).unwrap_or_else(|| panic!("{} has no test {}", place.file, place.name));
            assert!(before.trim_end().ends_with("#[test]"), "{} is no test", place.name);
            assert!(
                has_word(body, &variant(row.invariant)),
                "{} does not name {}",
                place.name,
                row.invariant
            );
            let number = row.invariant.id().to_lowercase();
            let in_name = place.name.split('_').any(|word| word == number);
            // A test of the checker may stand for a neighbour besides.
            assert!(in_name || row.broken.len() > 1, "{} is not about {number}", place.name);
        }
    }
}

#[test]
fn the_checker_has_a_part_in_exactly_the_rules_that_it_says_it_has() {
    let by_checker = |places: &[Place]| places.iter().any(|place| place.name == "Checker");
    let rows = CHECKS
        .iter()
        .filter(|row| by_checker(row.checked))
        .map(|row| row.invariant);
    let rules = Rule::ALL.iter().filter_map(|rule| rule.invariant());
    assert_eq!(rows.collect::<Vec<_>>(), rules.collect::<Vec<_>>());
}

#[test]
fn a_test_that_is_not_there_is_not_found() {
    assert!(function("#[test]\nfn a() {\n}\n", "b").is_none());
    assert!(!has_word("OneListed", "OneList") && has_word("I::OneList,", "OneList"));
}

//! What is written is good markdown, the same on every machine, and speaks of what there is.

use std::collections::BTreeSet;
use std::path::Path;

use docs_gen::blocks::render;
use docs_gen::{Book, CHAPTERS};

fn book() -> Book {
    Book::make(Path::new(env!("CARGO_TARGET_TMPDIR")), &render().unwrap()).unwrap()
}

/// Cells of a row: bars that are not escaped separate them.
fn cells(row: &str) -> usize {
    row.replace("\\|", "").matches('|').count() - 1
}

/// Lines outside of code, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter(move |(_, line)| {
        let fence = line.starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

#[test]
fn every_table_has_a_head_and_rows_of_as_many_cells() {
    let mut tables = 0;
    for (file, text) in book().files() {
        let mut width = None;
        let mut before = 0;
        for (n, line) in prose(text) {
            if !line.starts_with('|') || before + 1 != n {
                width = None;
            }
            before = n;
            if !line.starts_with('|') {
                continue;
            }
            assert!(line.ends_with('|'), "{file}, line {}: {line}", n + 1);
            match width {
                None => {
                    tables += 1;
                    width = Some(cells(line));
                    let rule = text.lines().nth(n + 1).unwrap();
                    assert!(rule.chars().all(|c| "|-".contains(c)), "{file}, line {}: {rule}", n + 2);
                }
                Some(width) => assert_eq!(cells(line), width, "{file}, line {}: {line}", n + 1),
            }
        }
        assert_eq!(text.matches("```").count() % 2, 0, "{file}: a code block is not closed");
    }
    assert!(tables > 20, "{tables} tables were looked at");
}

#[test]
fn no_path_of_a_machine_is_in_the_text() {
    let here = env!("CARGO_MANIFEST_DIR").trim_end_matches("/crates/docs-gen");
    for (file, text) in book().files() {
        for path in [here, "/home/", "/root/", "/tmp/", "/Users/", ":\\"] {
            assert!(!text.contains(path), "{file} has {path}");
        }
    }
}

#[test]
fn the_same_code_makes_the_same_text() {
    assert_eq!(render().unwrap(), render().unwrap());
}

#[test]
fn links_lead_to_chapters_and_figures() {
    let book = book();
    let files: BTreeSet<_> = book.files().map(|(file, _)| file.trim_start_matches("docs/")).collect();
    for (file, text) in book.files() {
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let elsewhere = target.starts_with("https://");
            assert!(elsewhere || files.contains(target), "{file} links to {target}");
        }
    }
}

/// All sources of the libraries.
fn code() -> String {
    fn read(dir: &Path, code: &mut String) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                read(&path, code);
            } else if path.extension().is_some_and(|end| end == "rs") {
                code.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
    }
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut code = String::new();
    for member in [
        "mm-types",
        "migrate-core",
        "backend-x86_64",
        "backend-user",
        "trace-tools",
    ] {
        read(&crates.join(member).join("src"), &mut code);
    }
    code
}

#[test]
fn words_that_prose_quotes_are_words_of_the_code() {
    let (blocks, code) = (render().unwrap(), code());
    for chapter in CHAPTERS {
        let mut linux = false;
        for (n, line) in prose(chapter.template) {
            // The last column of such a table has Linux's names.
            linux = line.starts_with('|') && (linux || line.ends_with("Linux has it |"));
            let of_ours = if linux {
                line.trim_end_matches('|')
                    .rsplit_once('|')
                    .map_or(line, |(ours, _)| ours)
            } else {
                line
            };
            for word in of_ours.split('`').skip(1).step_by(2) {
                // A lower-case word with an underscore is an event, a rule, a flag or a field, a function, or a key of a line that
                // the code prints.
                let ours =
                    word.trim_matches('_').contains('_') && word.chars().all(|c| c.is_ascii_lowercase() || c == '_');
                let known = blocks.values().any(|text| text.contains(&format!("`{word}`")))
                    || code.contains(&format!("fn {word}"))
                    || code.contains(&format!(" {word}="));
                assert!(
                    !ours || known,
                    "{}, line {}: nothing is called {word}",
                    chapter.source,
                    n + 1
                );
            }
        }
    }
}

#[test]
fn chapters_have_titles_of_their_own() {
    let titles: BTreeSet<_> = CHAPTERS.iter().map(|chapter| chapter.title()).collect();
    assert_eq!(titles.len(), CHAPTERS.len());
    assert!(CHAPTERS.iter().all(|chapter| chapter.template.starts_with("# ")));
}

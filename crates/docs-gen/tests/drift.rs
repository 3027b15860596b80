//! Drift is found and named, whatever it is that drifted; nothing else is.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use docs_gen::blocks::{Blocks, render};
use docs_gen::{Book, CHAPTERS, Drift, GENERATED_IN_PLACE};

/// A repository with documents as they should be; removed when dropped.
struct Repository(PathBuf);

impl Repository {
    fn new(name: &str) -> Self {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(&root).unwrap();
        for (file, blocks) in GENERATED_IN_PLACE {
            let marks: String = blocks
                .iter()
                .map(|block| format!("words\n<!-- docs-gen: {block} -->\n<!-- end -->\n"))
                .collect();
            fs::write(root.join(file), marks).unwrap();
        }
        Self(root)
    }

    fn written(name: &str) -> Self {
        let repository = Self::new(name);
        let book = Book::make(&repository.0, &render().unwrap()).unwrap();
        book.write(&repository.0).unwrap();
        assert_eq!(book.check(&repository.0).unwrap(), []);
        repository
    }

    fn drifts(&self, blocks: &Blocks) -> Vec<Drift> {
        Book::make(&self.0, blocks).unwrap().check(&self.0).unwrap()
    }

    fn edit(&self, file: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.0.join(file)).unwrap();
        assert!(text.contains(from), "{file} has no {from:?}");
        fs::write(self.0.join(file), text.replacen(from, to, 1)).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_docs-gen"))
            .args(arguments)
            .current_dir(&self.0)
            .output()
            .unwrap()
    }
}

impl Drop for Repository {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Changes one word in the middle of a block, as a change in the code would.
fn one_word_changed(text: &str) -> String {
    let words: Vec<_> = text
        .match_indices(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .collect();
    let (at, _) = words[words.len() / 2];
    format!("{}Drifted{}", &text[..at], &text[at + 1..])
}

#[test]
fn a_word_that_changes_in_any_block_is_found_and_named() {
    let repository = Repository::written("any-block");
    let blocks = render().unwrap();
    let templates: String = CHAPTERS
        .iter()
        .map(|chapter| format!("\n{}\n", chapter.template))
        .collect();
    for (name, text) in &blocks {
        let mut changed = blocks.clone();
        changed.insert(name, one_word_changed(text));
        let drifts = repository.drifts(&changed);
        assert!(!drifts.is_empty(), "{name}");
        // A value within a line of prose has no markers: there the file and the line are named.
        let alone = templates.contains(&format!("\n{{{{ {name} }}}}\n")) || name.ends_with(".svg");
        for drift in &drifts {
            let told = drift.to_string();
            assert!(told.contains("Drifted"), "{told}");
            assert_eq!(told.contains(&format!("block {name} has drifted")), alone, "{told}");
            assert!(told.contains("docs/") || told.contains("README.md"), "{told}");
        }
    }
}

#[test]
fn a_word_changed_by_hand_is_shown_with_what_it_should_be() {
    let repository = Repository::written("by-hand");
    repository.edit(
        "docs/four-lists.md",
        "another thread holds the page lock",
        "nobody holds the page lock",
    );
    let told = repository.run(&["--check", "--root", "."]);
    let text = String::from_utf8(told.stderr).unwrap();
    assert_eq!(told.status.code(), Some(1), "{text}");
    assert!(text.contains("docs/four-lists.md, line "), "{text}");
    assert!(
        text.contains("block refusals has drifted\n  - | `lock_busy` | nobody holds"),
        "{text}"
    );
    assert!(text.contains("\n  + | `lock_busy` | another thread holds"), "{text}");
}

#[test]
fn a_figure_changed_by_hand_or_left_over_is_named() {
    let repository = Repository::written("figures");
    repository.edit("docs/figures/lists-modern.svg", ">p3 in f3<", ">p3 in f9<");
    fs::write(
        repository.0.join("docs/figures/old.svg"),
        "<!-- made by docs-gen from somewhere -->\n<svg/>\n",
    )
    .unwrap();
    let told: Vec<_> = repository
        .drifts(&render().unwrap())
        .iter()
        .map(Drift::to_string)
        .collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("docs/figures/lists-modern.svg, line "), "{told:?}");
    assert!(
        told[0].contains(": block lists-modern.svg has drifted\n  - "),
        "{told:?}"
    );
    assert_eq!(told[1], "docs/figures/old.svg belongs to no chapter any more");
}

#[test]
fn prose_changed_in_place_is_drift_in_a_chapter_and_nobodys_business_in_the_readme() {
    let repository = Repository::written("prose");
    repository.edit("docs/glossary.md", "# Glossary", "# Words");
    repository.edit("README.md", "words\n", "other words\n");
    let drifts = repository.drifts(&render().unwrap());
    assert_eq!(drifts.len(), 1, "{drifts:?}");
    assert!(
        drifts[0]
            .to_string()
            .starts_with("docs/glossary.md, line 3: text outside"),
        "{}",
        drifts[0]
    );
}

#[test]
fn files_that_are_missing_or_left_over_are_named() {
    let repository = Repository::written("files");
    fs::remove_file(repository.0.join("docs/entry.md")).unwrap();
    fs::write(
        repository.0.join("docs/old.md"),
        "<!-- made by docs-gen from somewhere -->\n",
    )
    .unwrap();
    fs::write(repository.0.join("docs/own.md"), "# written by hand\n").unwrap();
    let blocks = render().unwrap();
    let told: Vec<_> = repository.drifts(&blocks).iter().map(Drift::to_string).collect();
    assert_eq!(
        told,
        ["docs/entry.md is missing", "docs/old.md belongs to no chapter any more"]
    );
    Book::make(&repository.0, &blocks)
        .unwrap()
        .write(&repository.0)
        .unwrap();
    assert_eq!(repository.drifts(&blocks), []);
    assert!(repository.0.join("docs/own.md").exists() && !repository.0.join("docs/old.md").exists());
}

#[test]
fn a_file_without_a_place_for_a_block_it_needs_is_told_so() {
    let repository = Repository::written("no-place");
    fs::write(repository.0.join("README.md"), "# nothing\n").unwrap();
    let told: Vec<_> = repository
        .drifts(&render().unwrap())
        .iter()
        .map(Drift::to_string)
        .collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told[0].starts_with("README.md has no place for block refusals: "),
        "{told:?}"
    );
    fs::write(repository.0.join("README.md"), "<!-- docs-gen: refusals -->\n").unwrap();
    let broken = repository.run(&["--check", "--root", "."]);
    let text = String::from_utf8(broken.stderr).unwrap();
    assert_eq!(broken.status.code(), Some(2), "{text}");
    assert_eq!(
        text,
        "docs-gen: README.md, line 1: block refusals has no <!-- end -->\n"
    );
}

#[test]
fn the_program_writes_checks_and_says_what_it_does_not_understand() {
    let repository = Repository::new("program");
    let check = || repository.run(&["--check", "--root", "."]).status.code();
    assert_eq!(check(), Some(1));
    assert!(!repository.0.join("docs").exists(), "a check writes nothing");
    let written = repository.run(&["--root", "."]);
    let figures = render().unwrap().keys().filter(|name| name.ends_with(".svg")).count();
    assert_eq!(written.status.code(), Some(0));
    assert_eq!(
        String::from_utf8(written.stdout).unwrap().lines().count(),
        CHAPTERS.len() + figures + 1
    );
    assert!(repository.0.join("target/book/index.html").exists());
    assert_eq!(check(), Some(0));
    assert!(
        repository.run(&["--root", "."]).stdout.is_empty(),
        "the second time nothing is written"
    );

    let elsewhere = repository.run(&["--check", "--root", ".", "--html", "pages"]);
    assert_eq!(elsewhere.status.code(), Some(0));
    assert!(repository.0.join("pages/figures/entry-bits.svg").exists());

    for wrong in [
        &["--chekc"][..],
        &["--root"],
        &["--root", "nowhere"],
        &["--html"],
        &["docs"],
    ] {
        let told = repository.run(wrong);
        let text = String::from_utf8(told.stderr).unwrap();
        assert_eq!(told.status.code(), Some(2), "{wrong:?}: {text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
    let help = repository.run(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(help.stdout.starts_with(b"usage: "));
}

#[test]
fn every_block_has_a_reader() {
    let mut named = BTreeSet::new();
    for chapter in CHAPTERS {
        let between = |open, close| {
            let after = chapter.template.split(open).skip(1);
            after.filter_map(move |rest: &'static str| rest.split(close).next())
        };
        named.extend(between("{{ ", " }}"));
        named.extend(between("](figures/", ")"));
    }
    named.extend(GENERATED_IN_PLACE.iter().flat_map(|(_, blocks)| blocks.iter().copied()));
    let made: BTreeSet<_> = render().unwrap().into_keys().collect();
    assert_eq!(made, named);
}

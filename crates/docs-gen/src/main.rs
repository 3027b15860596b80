//! Makes the documents, or with `--check` says where they have drifted from the code.
//!
//! Exits with 0 where the documents are (now) what the code says, with 1 where they have drifted, and with 2 where it
//! could not do what was asked.

#![forbid(unsafe_code)]

use std::env;
use std::panic;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use docs_gen::{Book, Site, blocks, stepper};

const USAGE: &str = "usage: docs-gen [--check | --stepper FILE] [--root DIRECTORY] [--html DIRECTORY]";

/// Where the pages go, in the repository.
const PAGES: &str = "target/book";

struct Asked {
    check: bool,
    html: Option<PathBuf>,
    stepper: Option<PathBuf>,
    root: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("docs-gen: {error}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<ExitCode, String> {
    let Some(asked) = arguments(env::args_os().skip(1))? else {
        println!(
            "{USAGE}\n\n\
             Makes docs/*.md, docs/figures/*.svg and the marked blocks of README.md from the code's own tables, and \
             renders the book to HTML.\n\n  \
             --check           write no document; exit with 1 where one differs, and show how\n  \
             --root DIRECTORY  the repository, instead of the one around the current directory\n  \
             --html DIRECTORY  where the pages go, instead of {PAGES} in the repository; with --check there are none without it\n  \
             --stepper FILE    make this page instead, which steps through a trace; needs the target wasm32-unknown-unknown"
        );
        return Ok(ExitCode::SUCCESS);
    };
    let root = match asked.root {
        Some(root) => root,
        None => around()?,
    };
    if let Some(file) = asked.stepper {
        stepper::write(&root, &file).map_err(|error| error.to_string())?;
        println!("{}", file.display());
        return Ok(ExitCode::SUCCESS);
    }
    let began = Instant::now();
    panic::set_hook(Box::new(name_the_block));
    let mut told = Vec::new();
    if asked.check {
        // Before anything is recorded: a wrong table can make the model stop the program, and is to be named all the same.
        let tables = blocks::tables().map_err(|error| error.to_string())?;
        let known = Book::make_known(&root, &tables).map_err(|error| error.to_string())?;
        told = known.check(&root).map_err(|error| error.to_string())?;
        told.iter().for_each(|drift| eprintln!("{drift}"));
    }
    let blocks = blocks::render().map_err(|error| error.to_string())?;
    let book = Book::make(&root, &blocks).map_err(|error| error.to_string())?;
    if !asked.check {
        for file in book.write(&root).map_err(|error| error.to_string())? {
            println!("{file}");
        }
    }
    let pages = asked.html.clone().or_else(|| (!asked.check).then(|| root.join(PAGES)));
    if let Some(pages) = pages {
        Site::of(&book).write(&pages).map_err(|error| error.to_string())?;
        let (front, took) = (pages.join("index.html"), began.elapsed().as_secs_f64());
        eprintln!("docs-gen: the book is in {}, made in {took:.1} s", front.display());
    }
    let drifts = book.check(&root).map_err(|error| error.to_string())?;
    // What was stale is gone now; what is missing in a file written by hand is for a person to add.
    let drifts: Vec<_> = drifts
        .iter()
        .filter(|drift| asked.check || !matches!(drift, docs_gen::Drift::Stale { .. }))
        .collect();
    if drifts.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    for drift in drifts.iter().filter(|drift| !told.contains(drift)) {
        eprintln!("{drift}");
    }
    if asked.check {
        eprintln!("docs-gen: the code says otherwise; `cargo run -p docs-gen` writes it down");
    }
    Ok(ExitCode::from(1))
}

/// Says which block a panic is about: it is the model's, which was given wrong tables, and may end the program.
fn name_the_block(panic: &panic::PanicHookInfo<'_>) {
    match blocks::being_made() {
        Some(block) => eprintln!("docs-gen: block {block} could not be recorded: {panic}"),
        None => eprintln!("docs-gen: {panic}"),
    }
}

/// Reads the arguments; `None` asks for help.
fn arguments(given: impl Iterator<Item = std::ffi::OsString>) -> Result<Option<Asked>, String> {
    let mut asked = Asked {
        check: false,
        html: None,
        stepper: None,
        root: None,
    };
    let mut given = given;
    while let Some(argument) = given.next() {
        match argument.to_str() {
            Some("--check") => asked.check = true,
            Some("--root") => match given.next() {
                Some(root) => asked.root = Some(root.into()),
                None => return Err(format!("--root needs a directory; {USAGE}")),
            },
            Some("--html") => match given.next() {
                Some(html) => asked.html = Some(html.into()),
                None => return Err(format!("--html needs a directory; {USAGE}")),
            },
            Some("--stepper") => match given.next() {
                Some(file) => asked.stepper = Some(file.into()),
                None => return Err(format!("--stepper needs a file; {USAGE}")),
            },
            Some("--help" | "-h") => return Ok(None),
            _ => return Err(format!("unknown argument {argument:?}; {USAGE}")),
        }
    }
    if let Some(root) = &asked.root
        && !root.is_dir()
    {
        return Err(format!("{} is not a directory", root.display()));
    }
    Ok(Some(asked))
}

/// Finds the repository around the current directory.
fn around() -> Result<PathBuf, String> {
    let here = env::current_dir().map_err(|error| format!("the current directory: {error}"))?;
    here.ancestors()
        .find(|dir| dir.join("crates/docs-gen/Cargo.toml").is_file())
        .map(PathBuf::from)
        .ok_or_else(|| format!("not inside the repository; go there, or name it; {USAGE}"))
}

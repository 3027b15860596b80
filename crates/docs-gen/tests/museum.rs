//! Records the museum's exhibits again, each in a process of its own with the bug switched on, and compares with what the book
//! has. `RECORD=1` writes the recordings instead.
#![cfg(museum)]

use std::process::Command;
use std::{env, fs};

use docs_gen::exhibits::EXHIBITS;

/// What the process that records one exhibit is told.
const ONE: &str = "EXHIBIT";
const BEGIN: &str = "---- recorded\n";
const END: &str = "---- end\n";

#[test]
fn each_recording_is_what_the_bug_leaves() {
    if let Ok(id) = env::var(ONE) {
        let exhibit = EXHIBITS.iter().find(|exhibit| exhibit.id == id).unwrap();
        print!("{BEGIN}{}{END}", exhibit.record());
        return;
    }
    let mut differ = Vec::new();
    for exhibit in EXHIBITS {
        let told = Command::new(env::current_exe().unwrap())
            .args(["--nocapture", "each_recording_is_what_the_bug_leaves"])
            .env("MUSEUM", exhibit.id)
            .env(ONE, exhibit.id)
            .output()
            .unwrap();
        let told = String::from_utf8(told.stdout).unwrap();
        let (_, rest) = told
            .split_once(BEGIN)
            .unwrap_or_else(|| panic!("{}: {told}", exhibit.id));
        let (trace, _) = rest.split_once(END).unwrap();
        if env::var_os("RECORD").is_some() {
            let file = format!("{}/src/book/museum/{}.trace", env!("CARGO_MANIFEST_DIR"), exhibit.id);
            fs::write(file, trace).unwrap();
        } else if trace != exhibit.recorded {
            differ.push(format!("{}:\n{trace}", exhibit.id));
        }
    }
    assert!(
        differ.is_empty(),
        "RECORD=1 writes down what is recorded now of {}",
        differ.join("\n")
    );
}

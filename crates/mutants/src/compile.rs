//! Puts all mutants into a copy of the sources, and takes out again those that the compiler refuses.

use crate::mutant::{Genre, Mutant, by_file};
use crate::schema;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The libraries, the lower one first: what is above does not compile before it.
pub(crate) const LIBRARIES: [&str; 2] = ["mm-types", "migrate-core"];

/// Where the switch goes, and how the two crates call it.
const SWITCH: &str = "crates/mm-types/src/switch.rs";
const ROOT: &str = "crates/mm-types/src/lib.rs";

/// What became of the mutants while the programs were made.
pub(crate) struct Compiled {
    /// These are in the programs.
    pub(crate) inside: BTreeSet<usize>,
    /// These do not compile.
    pub(crate) unviable: BTreeSet<usize>,
    /// These have no place beside the original, or not as this program would write them: they take a build each.
    pub(crate) apart: BTreeSet<usize>,
}

/// A copy of the workspace that may be written to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tree<'a>(pub(crate) &'a Path);

impl Tree<'_> {
    /// Instruments the copy, as often as it takes until it compiles.
    pub(crate) fn instrument(self, mutants: &[Mutant]) -> Result<Compiled, String> {
        let mut compiled = Compiled {
            inside: mutants.iter().map(|mutant| mutant.id).collect(),
            unviable: BTreeSet::new(),
            apart: BTreeSet::new(),
        };
        let originals = by_file(mutants)
            .into_iter()
            .map(|(file, mutants)| Ok((self.0.join(file), self.read(file)?, mutants)))
            .collect::<Result<Vec<_>, String>>()?;
        let root = self.read(ROOT)?;
        self.write(SWITCH, include_str!("switch.rs.txt"))?;
        loop {
            for (path, source, mutants) in &originals {
                let mutants: Vec<_> = mutants
                    .iter()
                    .copied()
                    .filter(|mutant| compiled.inside.contains(&mutant.id))
                    .collect();
                let own = path.starts_with(self.0.join("crates/mm-types"));
                let switch = if own {
                    "crate::switch::on"
                } else {
                    "mm_types::switch::on"
                };
                let (text, out) = schema::with_all(source, &mutants, switch)
                    .map_err(|error| format!("{}: {error}", path.display()))?;
                compiled.apart.extend(&out);
                compiled.inside.retain(|id| !out.contains(id));
                fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
            }
            self.write(ROOT, &with_switch(&self.read(ROOT)?))?;
            let refused = self.refused()?;
            if refused.is_empty() {
                return Ok(compiled);
            }
            println!("{} mutants do not compile", refused.len());
            for id in refused {
                compiled.inside.remove(&id);
                // An answer has to be of the function's type wherever it stands; the form of the rest is this program's own.
                match mutants[id - 1].genre {
                    Genre::FnValue => compiled.unviable.insert(id),
                    _ => compiled.apart.insert(id),
                };
            }
            self.write(ROOT, &root)?;
        }
    }

    /// The mutants the compiler objects to.
    fn refused(self) -> Result<BTreeSet<usize>, String> {
        for library in LIBRARIES {
            let (messages, done) = self.cargo(&["check", "--package", library, "--all-features"])?;
            if done {
                continue;
            }
            let mut refused = BTreeSet::new();
            let mut others = String::new();
            for message in messages.iter().filter_map(|message| message.get("message")) {
                if message["level"] != "error" {
                    continue;
                }
                let ids = self.own_lines(message);
                if ids.is_empty() {
                    others += message["rendered"].as_str().unwrap_or_default();
                }
                refused.extend(ids);
            }
            // What is left over may follow from what was refused.
            return match refused.is_empty() {
                true => Err(format!(
                    "the instrumented {library} does not compile, and no mutant is to blame:\n{others}"
                )),
                false => Ok(refused),
            };
        }
        Ok(BTreeSet::new())
    }

    fn own_lines(self, message: &Value) -> Vec<usize> {
        let mut ids = Vec::new();
        for span in message["spans"].as_array().into_iter().flatten() {
            let line = |key: &str| {
                span[key]
                    .as_u64()
                    .and_then(|line| usize::try_from(line).ok())
                    .unwrap_or(0)
            };
            let (first, last) = (line("line_start"), line("line_end"));
            let named = span["file_name"].as_str().and_then(|name| self.read(name).ok());
            if let (true, Some(text), 0..3) = (span["is_primary"] == true, named, last - first) {
                let lines = text.lines().skip(first.saturating_sub(1)).take(last - first + 1);
                ids.extend(lines.flat_map(schema::on_line));
            }
        }
        ids
    }

    /// Builds the tests of the libraries; the programs, each with its package's directory.
    pub(crate) fn tests(self, left_out: &[String]) -> Result<Vec<(String, PathBuf, PathBuf)>, String> {
        let mut arguments = vec![
            "test",
            "--no-run",
            "--profile",
            "mutants",
            "--all-features",
            "--lib",
            "--tests",
        ];
        arguments.extend(LIBRARIES.iter().flat_map(|library| ["--package", library]));
        let (messages, done) = self.cargo(&arguments)?;
        if !done {
            return Err("the instrumented tests do not compile".into());
        }
        let mut programs = Vec::new();
        for message in &messages {
            let (Some(program), Some(manifest), Some(name)) = (
                message["executable"].as_str(),
                message["manifest_path"].as_str(),
                message.pointer("/target/name").and_then(Value::as_str),
            ) else {
                continue;
            };
            let directory = Path::new(manifest).parent().unwrap_or(self.0).to_path_buf();
            if !left_out.iter().any(|left_out| left_out == name) {
                programs.push((name.to_owned(), program.into(), directory));
            }
        }
        Ok(programs)
    }

    /// Runs cargo with messages for a program to read, and says whether it was content.
    fn cargo(self, arguments: &[&str]) -> Result<(Vec<Value>, bool), String> {
        let (command, rest) = arguments.split_first().ok_or("no command")?;
        let output = Command::new("cargo")
            .args([command, "--quiet", "--message-format=json"])
            .args(rest)
            .current_dir(self.0)
            // The switch asks the compiler whether it is running the code or compiling it, which is no stable feature.
            .env("RUSTC_BOOTSTRAP", "1")
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| format!("cargo: {error}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let messages = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        Ok((messages, output.status.success()))
    }

    fn read(self, file: &str) -> Result<String, String> {
        fs::read_to_string(self.0.join(file)).map_err(|error| format!("{file}: {error}"))
    }

    fn write(self, file: &str, text: &str) -> Result<(), String> {
        fs::write(self.0.join(file), text).map_err(|error| format!("{file}: {error}"))
    }
}

/// The root of mm-types with the switch in it, which wants std always.
fn with_switch(root: &str) -> String {
    let mut text = String::new();
    for line in root.lines() {
        match line {
            "#![no_std]" => text
                .push_str("#![no_std]\n#![feature(core_intrinsics, const_eval_select)]\n#![allow(internal_features)]"),
            "mod addr;" => text.push_str("extern crate std;\n/// Which mutant is on.\npub mod switch;\nmod addr;"),
            "extern crate std;" => text.push_str("use {}; // above"),
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

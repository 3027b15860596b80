//! Running the main job as a person would.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// The main job, with nothing on its standard input.
pub(crate) fn migrate() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_migrate"));
    command.stdin(Stdio::null()).env("RUST_BACKTRACE", "1");
    command
}

/// Runs the main job to its end.
pub(crate) fn run(args: &[&str]) -> Output {
    migrate().args(args).output().unwrap()
}

/// Returns what a program wrote to standard error.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Returns the one object that a program wrote to standard output.
pub(crate) fn object(output: &Output) -> Value {
    let text = str::from_utf8(&output.stdout).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}\n{}", stderr(output));
    serde_json::from_str(text).unwrap()
}

/// Returns a number of an object.
pub(crate) fn number(object: &Value, key: &str) -> f64 {
    object[key]
        .as_f64()
        .unwrap_or_else(|| panic!("{key} is no number in {object}"))
}

/// A file or directory of a test's own, gone at its end.
pub(crate) struct Temp(pub(crate) PathBuf);

impl Temp {
    /// Names a path that no other test uses.
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("migrate-{}-{name}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        Self(path)
    }

    /// Returns the path as an argument.
    pub(crate) fn arg(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

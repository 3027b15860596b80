//! The book's chapter about the tools shows what they print.
//!
//! With `CHAPTER_UPDATE=1` the chapter is written anew instead, each answer whole.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use migrate_core::conformance::scenarios;

use crate::support::name;

const CHAPTER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs-gen/src/book/trace-tools.md");
const KERNELS: &[u8] = include_bytes!("fixtures/linux-6.18.ftrace");

/// A directory with all that the chapter's commands read.
fn traces() -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("chapter");
    fs::create_dir_all(&directory).unwrap();
    for scenario in scenarios() {
        fs::write(directory.join(format!("{}.trace", name(scenario))), scenario.trace()).unwrap();
    }
    fs::write(directory.join("linux-6.18.ftrace"), KERNELS).unwrap();
    directory
}

/// What a shell prints for the command, both outputs together.
fn answer(command: &str, directory: &Path) -> String {
    let tools = Path::new(env!("CARGO_BIN_EXE_trace")).parent().unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new("sh")
        .args(["-c", &format!("{{ {command}\n}} 2>&1")])
        .current_dir(directory)
        .env("PATH", format!("{}:{path}", tools.display()))
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// True where `shown` is `printed` but for lines that `…` stands for.
fn shows(shown: &[&str], printed: &[&str]) -> bool {
    match (shown.split_first(), printed.split_first()) {
        (None, None) => true,
        (Some((&"…", rest)), _) => (0..=printed.len()).any(|skipped| shows(rest, &printed[skipped..])),
        (Some((a, shown)), Some((b, printed))) => a == b && shows(shown, printed),
        _ => false,
    }
}

#[test]
fn every_command_of_the_chapter_prints_what_stands_there() {
    let chapter = fs::read_to_string(CHAPTER).unwrap();
    let directory = traces();
    let update = std::env::var_os("CHAPTER_UPDATE").is_some();
    let (mut commands, mut wrong, mut anew) = (0, String::new(), String::new());
    let mut in_console = false;
    let mut lines = chapter.lines().peekable();
    while let Some(line) = lines.next() {
        anew += &format!("{line}\n");
        match line {
            "```console" => in_console = true,
            "```" => in_console = false,
            _ => {}
        }
        let Some(command) = line.strip_prefix("$ ").filter(|_| in_console) else {
            continue;
        };
        commands += 1;
        let mut shown = Vec::new();
        while let Some(line) = lines.next_if(|line| !line.starts_with("$ ") && *line != "```") {
            shown.push(line);
        }
        let printed = answer(command, &directory);
        anew += &printed;
        if !shows(&shown, &printed.lines().collect::<Vec<_>>()) {
            wrong += &format!(
                "$ {command}\nthe chapter shows:\n{}\nit prints:\n{printed}\n",
                shown.join("\n")
            );
        }
    }
    if update {
        fs::write(CHAPTER, anew).unwrap();
        return;
    }
    assert!(commands >= 10, "the chapter has {commands} commands");
    assert!(wrong.is_empty(), "{wrong}");
}

//! What a person asks of a trace of page migration.
//!
//! Exits with 0 where the answer is yes (no rule is broken, the traces mean the same) or the work was done, with 1 where a
//! rule is broken or the traces differ, and with 2 where the question or the trace cannot be read.

#![forbid(unsafe_code)]

mod args;
mod command;
mod input;

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use command::Answer;
use input::Mistake;

fn main() -> ExitCode {
    let answer = match args::Args::try_parse() {
        Ok(asked) => command::answer(asked.command),
        Err(help) if !help.use_stderr() => Ok(Answer {
            text: help.to_string().into_bytes(),
            found: false,
        }),
        Err(mistake) => Err(Mistake(one_line(&mistake))),
    };
    let answer = match answer {
        Ok(answer) => answer,
        Err(mistake) => return refuse(mistake),
    };
    match say(&answer) {
        // Whoever stopped reading has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => refuse(format_args!("standard output: {error}")),
        _ => ExitCode::from(u8::from(answer.found)),
    }
}

fn refuse(mistake: impl fmt::Display) -> ExitCode {
    // Where nobody can be told, the exit code says it.
    let _ = writeln!(io::stderr(), "trace: {mistake}");
    ExitCode::from(2)
}

/// What clap says in many lines: the first paragraph is what is wrong, the rest is how to ask for help.
fn one_line(mistake: &clap::Error) -> String {
    let text = mistake.to_string();
    let first = text.split("\n\n").next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    let line = first.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    format!("{line} (see --help)")
}

fn say(answer: &Answer) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(&answer.text)?;
    out.flush()
}

//! What a person asks of a trace of page migration.
//!
//! Exits with 0 where the answer is yes (no rule is broken, the traces mean the same) or the work was done, with 1 where a
//! rule is broken or the traces differ, and with 2 where the question or the trace cannot be read.

#![forbid(unsafe_code)]

mod args;
mod command;
mod input;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use command::Answer;

fn main() -> ExitCode {
    let asked = args::Args::parse();
    let answer = match command::answer(asked.command) {
        Ok(answer) => answer,
        Err(mistake) => {
            // Where nobody can be told, the exit code says it.
            let _ = writeln!(io::stderr(), "trace: {mistake}");
            return ExitCode::from(2);
        }
    };
    match say(&answer) {
        Ok(()) => {}
        // Whoever reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        Err(error) => {
            let _ = writeln!(io::stderr(), "trace: standard output: {error}");
            return ExitCode::from(2);
        }
    }
    ExitCode::from(u8::from(answer.found))
}

fn say(answer: &Answer) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(&answer.text)?;
    out.flush()
}

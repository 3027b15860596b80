//! Saying things: results to standard output, everything else to standard error, and never a panic about either.
//!
//! Rust ignores SIGPIPE, so a reader that went away (`migrate | head -1`) shows as an error of the write. The job does not
//! depend on being listened to: what nobody reads is dropped, and the exit code still tells. A result that is wanted and
//! cannot be written (a full disk) is a failure.

use core::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

/// The arguments make no sense, or the job could not be started.
pub const USAGE: u8 = 2;

/// Writes a result, and a line end; ends the program with exit code 1 where that fails and somebody would have read it.
pub fn result(text: impl fmt::Display) {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            remark(format_args!("the result cannot be written: {error}"));
            std::process::exit(1);
        }
        _ => {}
    }
}

/// Writes a remark, and a line end.
pub fn remark(text: impl fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Ends the program that was asked for something it cannot do: one line, exit code 2.
#[must_use]
pub fn refuse(program: &str, why: impl fmt::Display) -> ExitCode {
    remark(format_args!("{program}: {}", one_line(&why.to_string())));
    ExitCode::from(USAGE)
}

/// Makes one line of a text: what would break it is written out.
#[must_use]
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.trim_end().chars() {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_one_line_whatever_is_in_it() {
        assert_eq!(one_line("no such file: a\nb\x1b[2J\n"), "no such file: a\\nb\\u{1b}[2J");
    }
}

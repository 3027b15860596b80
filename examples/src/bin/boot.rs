//! A kernel of its own, booted: pages of ring-3 programs move between two CPUs' page tables, and nothing is lost.
//!
//! `cargo run --release -p examples --bin boot -- --help`

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use examples::boot::{self, Cli};
use examples::console;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(asked) if matches!(asked.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            console::result(asked.to_string().trim_end());
            return ExitCode::SUCCESS;
        }
        Err(mistake) => {
            let text = mistake.to_string();
            let line = text.lines().next().unwrap_or_default();
            return console::refuse("boot", line.trim_start_matches("error: "));
        }
    };
    let say = |text: &str| {
        if !cli.quiet {
            console::remark(text);
        }
    };
    match boot::run(&cli, &say) {
        Ok(report) => {
            console::result(if cli.json { report.json() } else { report.text() });
            if report.is_good() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(why) => console::refuse("boot", why),
    }
}

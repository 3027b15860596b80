//! A storm: everything that a busy system does to its memory, while all of it moves.
//!
//! `cargo run --release -p examples --bin storm -- --help`

use std::process::ExitCode;

use examples::args::ArgsError;
use examples::storm::{self, args};
use examples::{console, stop};

fn main() -> ExitCode {
    let storm = match args::storm(std::env::args_os()) {
        Ok(storm) => storm,
        Err(ArgsError::Asked(text)) => {
            console::result(text.trim_end());
            return ExitCode::SUCCESS;
        }
        Err(ArgsError::Mistake(line)) => return console::refuse("storm", line),
    };
    let stop = match stop::on_interrupt() {
        Ok(stop) => stop,
        Err(error) => return console::refuse("storm", format_args!("signals: {error}")),
    };
    match storm::run(&storm, stop) {
        Ok(report) => {
            console::result(&report);
            if report.is_good() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(why) => console::refuse("storm", why),
    }
}

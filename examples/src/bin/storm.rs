//! A storm: everything that a busy system does to its memory, while all of it moves.
//!
//! `cargo run --release -p examples --bin storm -- --help`

use std::process::ExitCode;

use examples::args::ready;
use examples::console;
use examples::storm::{self, args};

fn main() -> ExitCode {
    let (storm, stop) = match ready("storm", args::storm(std::env::args_os())) {
        Ok(ready) => ready,
        Err(end) => return end,
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

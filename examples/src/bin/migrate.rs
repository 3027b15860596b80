//! The main job: pages of a running program move between two emulated nodes, and nothing is lost.
//!
//! `cargo run --release -p examples --bin migrate -- --help`

use std::process::ExitCode;

use examples::args::ArgsError;
use examples::{args, console, job, stop};

fn main() -> ExitCode {
    let job = match args::job(std::env::args_os()) {
        Ok(job) => job,
        Err(ArgsError::Asked(text)) => {
            console::result(text.trim_end());
            return ExitCode::SUCCESS;
        }
        Err(ArgsError::Mistake(line)) => return console::refuse("migrate", line),
    };
    let stop = match stop::on_interrupt() {
        Ok(stop) => stop,
        Err(error) => return console::refuse("migrate", format_args!("signals: {error}")),
    };
    let json = job.json;
    match job::run(job, stop) {
        Ok(report) => {
            console::result(if json { report.json() } else { report.text() });
            if report.is_good() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(why) => console::refuse("migrate", why),
    }
}

//! The main job: pages of a running program move between two emulated nodes, and nothing is lost.
//!
//! `cargo run --release -p examples --bin migrate -- --help`

use std::process::ExitCode;

use examples::{args, console, job};

fn main() -> ExitCode {
    let (job, stop) = match args::ready("migrate", args::job(std::env::args_os())) {
        Ok(ready) => ready,
        Err(end) => return end,
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

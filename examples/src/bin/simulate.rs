//! The simulator: everything that programs and kernels do, in any order and with failures, while pages move; against a plain reference.
//!
//! `ci/simulate --help`, which builds it with every assertion on: `cargo run --profile simulate -p examples --bin simulate`

use std::process::ExitCode;

use examples::args::ArgsError;
use examples::simulate::{args, run};
use examples::{console, stop};

fn main() -> ExitCode {
    let simulation = match args::simulation(std::env::args_os()) {
        Ok(simulation) => simulation,
        Err(ArgsError::Asked(text)) => {
            console::result(text.trim_end());
            return ExitCode::SUCCESS;
        }
        Err(ArgsError::Mistake(line)) => return console::refuse("simulate", line),
    };
    let stop = match stop::on_interrupt() {
        Ok(stop) => stop,
        Err(error) => return console::refuse("simulate", format_args!("signals: {error}")),
    };
    let report = run(&simulation, stop);
    console::result(&report);
    if report.is_good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

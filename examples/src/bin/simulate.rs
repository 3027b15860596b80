//! The simulator: everything that programs and kernels do, in any order and with failures, while pages move; against a plain reference.
//!
//! `ci/simulate --help`, which builds it with every assertion on: `cargo run --profile explore -p examples --bin simulate`

use std::process::ExitCode;

use examples::args::ready;
use examples::console;
use examples::simulate::{args, run};

fn main() -> ExitCode {
    let (simulation, stop) = match ready("simulate", args::simulation(std::env::args_os())) {
        Ok(ready) => ready,
        Err(end) => return end,
    };
    let report = run(&simulation, stop);
    console::result(&report);
    if report.is_good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

//! Everything that moves pages, side by side: one table of ratios to a plain copy, and charts.
//!
//! `cargo run --release -p examples --bin compare -- --help`

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use docs_gen::performance::Results;
use examples::args::ready;
use examples::compare::args::{Comparison, comparison};
use examples::compare::{self, table};
use examples::console;

fn write(path: &Path, text: &str) -> Result<(), String> {
    let made = path.parent().map_or(Ok(()), fs::create_dir_all);
    made.and_then(|()| fs::write(path, text))
        .map_err(|error| format!("{}: {error}", path.display()))
}

fn keep(asked: &Comparison, results: &Results) -> Result<(), String> {
    if let Some(file) = &asked.record {
        write(file, &results.json())?;
    }
    for (name, chart) in results.charts() {
        let path = asked.charts.join(name);
        write(&path, &chart)?;
        console::remark(path.display());
    }
    Ok(())
}

fn main() -> ExitCode {
    let (asked, stop) = match ready("compare", comparison(std::env::args_os())) {
        Ok(ready) => ready,
        Err(end) => return end,
    };
    let results = match compare::run(&asked, stop) {
        Ok(results) => results,
        Err(why) => {
            console::remark(format_args!("compare: {why}"));
            return ExitCode::FAILURE;
        }
    };
    console::result(table::text(&results));
    match keep(&asked, &results) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => console::refuse("compare", why),
    }
}

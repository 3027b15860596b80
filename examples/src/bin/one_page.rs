//! The smallest migration there is: one page, mapped once, printed as its trace, with the numbers that the kernel's
//! documentation gives the steps.
//!
//! `cargo run -p examples --bin one_page [linux-2.6.17|modern]`

use std::process::ExitCode;

use examples::console;
use migrate_core::fixture::{Replay, run_scenario};
use migrate_core::model::ModelFixture;
use migrate_core::{LINUX_2_6_17, MODERN};
use mm_types::Rules;
use mm_types::trace::{Lines, Stepper, check_text, steps};

/// What happens to the page, as a scenario: any backend can replay it.
const SCENARIO: &str = "scenario v1
space m0
map p0 m0+0x3 anon rw
write m0+0x3 0x2a
migrate p0
expect moved p0
expect read m0+0x3 0x2a
";

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let rules = match (args.next(), args.next()) {
        (None, _) => Rules::Modern,
        (Some(word), None) => match word.to_string_lossy().parse() {
            Ok(rules) => rules,
            Err(error) => return console::refuse("one_page", format_args!("{}: {error}", word.display())),
        },
        (Some(_), Some(_)) => return console::refuse("one_page", "takes one argument, the profile"),
    };
    match run(rules) {
        Ok(text) => {
            console::result(text);
            ExitCode::SUCCESS
        }
        Err(error) => {
            console::remark(format_args!("one_page: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(rules: Rules) -> Result<String, String> {
    let profile = match rules {
        Rules::Linux2617 => &LINUX_2_6_17,
        Rules::Modern => &MODERN,
    };
    let replay = run_scenario(&mut ModelFixture::new(), SCENARIO, Some(profile));
    let report = match replay.map_err(|error| error.to_string())? {
        Replay::Ran(report) => report,
        Replay::NotApplicable { lacks } => return Err(format!("the model lacks {lacks}")),
    };
    let trace = report.trace();
    check_text(&trace).map_err(|error| error.to_string())?;

    let mut text = format!("profile {rules}: one page, mapped once, and what happens to it\n\n");
    let mut stepper = Stepper::new(rules);
    for line in Lines::new(&trace).map_err(|error| error.to_string())? {
        text += &format!("{}\n", stepper.number(line.map_err(|error| error.to_string())?));
    }
    text += "\nthe documented steps\n\n";
    for step in steps(rules) {
        text += &format!("[{:>5}] {}\n", step.number, step.text);
    }
    text +=
        "\np is a page's contents, f a frame, m0+0x3 page 3 of space 0; lines without a number are not in the document";
    Ok(text)
}

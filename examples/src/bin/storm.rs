//! A storm: everything that a busy system does to its memory, while all of it moves.
//!
//! `cargo run --release -p examples --bin storm -- --help`

use std::process::ExitCode;

use backend_user::Engine;
use examples::args::ready;
use examples::console;
use examples::storm::{self, args};

fn main() -> ExitCode {
    let (storms, stop) = match ready("storm", args::storms(std::env::args_os())) {
        Ok(ready) => ready,
        Err(end) => return end,
    };
    let mut good = true;
    let both = storms.len() > 1;
    for asked in &storms {
        // Who named it wants it, and is told why there is none.
        let may_be_missing = both && asked.engine == Engine::Private;
        if let Some(why) = may_be_missing.then(storm::second_engine).and_then(Result::err) {
            console::result(format_args!(
                "proof: storms engine={} not_applicable=1 ({why})",
                asked.engine
            ));
            continue;
        }
        match storm::run(asked, stop) {
            Ok(report) => {
                console::result(&report);
                good &= report.is_good();
                if report.interrupted {
                    break;
                }
            }
            Err(why) => return console::refuse("storm", why),
        }
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

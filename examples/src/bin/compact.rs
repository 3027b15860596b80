//! Has the running kernel move pages of this program, records what it traces of that, and looks whether they kept their contents.
//!
//! `cargo run -p examples --bin compact -- --help`

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use examples::console;
use examples::linux::{Fragments, Tracing, cannot_compact, compact, vmstat};
use trace_tools::kernel::names;

/// What a check exits with that cannot be done on this machine.
const LEFT_OUT: u8 = 77;

/// Fragments some memory, asks the kernel for compaction, and records its migrate:* events.
///
/// Prints where the program's own pages are, what became of them, and how many pages `/proc/vmstat` counted as moved. Exits with 77 where
/// the kernel does not have it or does not permit it.
#[derive(Debug, Parser)]
#[command(name = "compact", version)]
struct Cli {
    /// Pages that are touched one by one; every other one is given back
    #[arg(long, value_name = "N", default_value_t = 30_000)]
    pages: usize,
    /// The kernel's buffer for each processor, in KiB
    #[arg(long, value_name = "N", default_value_t = 16_384)]
    buffer_kb: usize,
    /// Where the recording goes
    #[arg(value_name = "FILE")]
    recording: PathBuf,
}

/// Why it came to no good end.
enum End {
    LeftOut(String),
    Failed(String),
}

fn run(cli: &Cli) -> Result<usize, End> {
    if let Some(why) = cannot_compact() {
        return Err(End::LeftOut(why));
    }
    let events = [names::START, names::END, names::SET, names::REMOVE];
    let tracing = Tracing::new(&events, cli.buffer_kb).map_err(End::LeftOut)?;
    let failed = |error: std::io::Error| End::Failed(format!("{} pages: {error}", cli.pages));
    let fragments = Fragments::new(cli.pages).map_err(failed)?;
    let within = fragments.addresses();
    tracing.on(true).map_err(End::Failed)?;
    let before = vmstat("pgmigrate_success");
    let compacted = compact();
    let moved = vmstat("pgmigrate_success").saturating_sub(before);
    tracing.on(false).map_err(End::Failed)?;
    compacted.map_err(|error| End::Failed(error.to_string()))?;
    let text = tracing.text().map_err(End::Failed)?;
    let name = cli.recording.display();
    fs::write(&cli.recording, text).map_err(|error| End::Failed(format!("{name}: {error}")))?;
    let lost = fragments.lost();
    console::result(format_args!(
        "within={:x}-{:x} pages={} lost={lost} moved={moved}",
        within.start(),
        within.end(),
        fragments.pages()
    ));
    Ok(lost)
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(End::LeftOut(why)) => {
            console::remark(why);
            ExitCode::from(LEFT_OUT)
        }
        Err(End::Failed(why)) => console::refuse("compact", why),
    }
}

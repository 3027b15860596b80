//! The command line.

use core::ops::RangeInclusive;
use std::path::PathBuf;

use clap::{Args as Group, Parser, Subcommand, ValueEnum};
use trace_tools::explain::Asked;

/// Checks, compares, explains and converts traces of page migration.
#[derive(Debug, Parser)]
#[command(name = "trace", version, arg_required_else_help = false)]
#[command(
    after_help = "Exit code: 0 for yes, or done; 1 where a rule is broken or the traces differ; 2 where something cannot be read."
)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Holds a trace against the invariants, and names the line and the rule that it breaks
    Check {
        #[command(flatten)]
        source: Source,
        /// The kernel's trace: only entries at these addresses must come back, hexadecimal; of others' it is not known that
        /// nobody unmaps, remaps or forks them in flight
        #[arg(long, value_name = "FROM-TO", value_parser = addresses)]
        within: Option<RangeInclusive<u64>>,
    },
    /// Says how two traces differ, by what they mean: ids that are only called differently are the same
    Diff {
        /// A trace
        a: PathBuf,
        /// Another; `-` is standard input
        b: PathBuf,
    },
    /// Says why a page stayed: each attempt, what refused it, who held the page, what released it
    Explain {
        /// A content such as p0, a frame such as f3, or a site such as m0+0x3
        page: Asked,
        /// A trace; `-` is standard input
        #[arg(default_value = "-")]
        file: PathBuf,
    },
    /// Counts, under the names that /proc/vmstat has
    Stats(Source),
    /// Writes a trace in the form of another tool
    Convert {
        /// Which form
        #[arg(long, value_name = "FORM")]
        to: Form,
        /// Where to, instead of standard output
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Heat map: at most so many columns
        #[arg(long, default_value_t = 80, value_parser = clap::value_parser!(u16).range(1..=4096))]
        columns: u16,
        /// Heat map: at most so many rows
        #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u16).range(1..=4096))]
        rows: u16,
        /// A trace; `-` is standard input
        #[arg(default_value = "-")]
        file: PathBuf,
    },
}

/// A trace of this project's or of the kernel's.
#[derive(Debug, Group)]
pub(crate) struct Source {
    /// The trace is the kernel's own ftrace text, of its migrate:* events; without this, the first line tells
    #[arg(long)]
    pub(crate) kernel: bool,
    /// A trace; `-` is standard input
    #[arg(default_value = "-")]
    pub(crate) file: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// The kernel's ftrace text, of the events that the kernel has
    Ftrace,
    /// Perfetto's protobuf, for ui.perfetto.dev: threads, pages, waiters; a nanosecond is an event
    Perfetto,
    /// A heat map in digits, pages across and events down, as damo prints it
    Heat,
    /// Folded stacks of blocked time, for flame graphs; the counts are events
    Folded,
}

fn addresses(text: &str) -> Result<RangeInclusive<u64>, String> {
    let address = |text: &str| u64::from_str_radix(text, 16).ok();
    let ends = text
        .split_once('-')
        .and_then(|(from, to)| Some((address(from)?, address(to)?)));
    match ends {
        Some((from, to)) if from <= to => Ok(from..=to),
        _ => Err("give the first address and the last, such as 7f0000000000-7f0000ffffff".into()),
    }
}

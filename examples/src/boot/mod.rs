//! The small kernel on an emulated machine: built, booted, and what it said.
//!
//! | question | module |
//! |---|---|
//! | what was asked for? | [`Cli`] |
//! | how is it built and booted? | [`machine`] |
//! | what do its lines say? | [`mod@line`] |
//! | is it what the model says? | [`same_trace`] |
//! | what came of it? | [`report`] |

pub mod line;
pub mod machine;
pub mod report;
pub mod same_trace;

use std::path::PathBuf;

use clap::Parser;
use migrate_core::{LINUX_2_6_17, MODERN, Profile};
use mm_types::Rules;

use machine::{Accelerator, Machine, MachineError};
use report::{Kit, Report, Storm};

/// Migrations of a storm when nobody says.
pub const DEFAULT_MIGRATIONS: u64 = 20_000;

/// CPUs of the machine that runs the conformance kit: one for each thread of a case.
pub const KIT_CPUS: u8 = 8;

/// Builds a small kernel, boots it under QEMU, and migrates pages of programs that run in ring 3 on another CPU.
///
/// First the conformance kit, then the canonical scenarios, whose traces are compared with the model's, then a storm for each
/// profile: programs write, read and fork while all their pages move. Exits with 0 only when no case fails, all traces are the same, no
/// write was lost and no read was wrong.
#[derive(Clone, Debug, Parser)]
#[command(name = "boot", version, disable_help_subcommand = true)]
pub struct Cli {
    /// Pages that each storm moves, at least
    #[arg(long, value_name = "N", default_value_t = DEFAULT_MIGRATIONS)]
    pub migrations: u64,
    /// Whose rules: linux-2.6.17 or modern [default: both, one after the other]
    #[arg(long, value_name = "PROFILE")]
    pub profile: Option<Rules>,
    /// CPUs: one migrates, the others run programs
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(2..=8))]
    pub cpus: u8,
    /// Who runs the machine's instructions: tcg, or kvm for a second opinion
    #[arg(long, value_name = "WHO", default_value = "tcg")]
    pub accel: Accelerator,
    /// Report as one JSON object
    #[arg(long)]
    pub json: bool,
    /// Say nothing while it runs
    #[arg(long, short)]
    pub quiet: bool,
}

/// Returns the root of the source tree that this program was built from.
#[must_use]
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns the kernel's word for a profile.
#[must_use]
pub const fn word(rules: Rules) -> &'static str {
    match rules {
        Rules::Linux2617 => "linux",
        Rules::Modern => "modern",
    }
}

/// Returns the profile of some rules.
#[must_use]
pub const fn profile(rules: Rules) -> &'static Profile {
    match rules {
        Rules::Linux2617 => &LINUX_2_6_17,
        Rules::Modern => &MODERN,
    }
}

/// Builds the kernel and runs what was asked for; `say` is told how it goes on.
///
/// # Errors
/// [`MachineError`] where it could not be built or started. What goes wrong later is in the report.
pub fn run(cli: &Cli, say: &dyn Fn(&str)) -> Result<Report, MachineError> {
    let qemu = machine::find_qemu()?;
    say("building the kernel");
    let machine = Machine {
        kernel: machine::build(&[])?,
        cpus: cli.cpus,
        accelerator: cli.accel,
        more: Vec::new(),
    };
    let mut report = Report::new(machine::version(&qemu)?, cli.cpus, cli.accel);
    say("the conformance kit");
    let kit = Machine {
        cpus: KIT_CPUS,
        ..machine.clone()
    };
    report.kit = Kit::new(&kit.run(&qemu, "mode=kit", |_| ())?);
    say("the canonical scenarios");
    let ran = machine.run(&qemu, "mode=scenarios", |_| ())?;
    report.compare(&ran);
    let all = [Rules::Linux2617, Rules::Modern];
    for rules in all
        .into_iter()
        .filter(|rules| cli.profile.is_none_or(|only| only == *rules))
    {
        say(&format!("a storm by the rules of {rules}"));
        let line = format!("mode=storm migrations={} profile={}", cli.migrations, word(rules));
        let ran = machine.run(&qemu, &line, |line| {
            if let Some(moved) = line.strip_prefix("moved ") {
                say(&format!("    moved {moved} of {}", cli.migrations));
            }
        })?;
        report.storms.push(Storm::new(&ran));
    }
    Ok(report)
}

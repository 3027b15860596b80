//! The storm's command line.

use backend_user::Engine;
use clap::Parser;

use super::Storm;
use crate::args::{ArgsError, MAX_THREADS, from_clap, time, within};
use crate::size::{count, number};

/// Pages that move when nobody says how many.
pub const PAGES: u64 = 1_000_000;

/// Moves everything of a program that writes, reads, copies spaces, protects, maps, moves, unmaps, truncates, pins and watches its
/// memory meanwhile, and proves that nothing was lost.
///
/// Ends with a report; exits with 0 only when no word was lost and everything is where it should be.
#[derive(Debug, Parser)]
#[command(name = "storm", version, disable_help_subcommand = true)]
struct Cli {
    /// Pages to move; also as 1e8 [default: 1e6]
    #[arg(long, value_name = "N", value_parser = count, conflicts_with = "seconds")]
    pages: Option<u64>,
    /// How long to go on, instead of how many pages to move
    #[arg(long, value_name = "S")]
    seconds: Option<f64>,
    /// Writers and readers together
    #[arg(long, value_name = "N", default_value_t = 3)]
    threads: usize,
    /// What is done depends on it (how threads meet does not); decimal, or 0x…
    #[arg(long, value_name = "X", default_value = "1", value_parser = number)]
    seed: u64,
    /// Which engine moves private pages: shared, private (userfaultfd) or auto [default: a storm on the first, and then one on the
    /// second where the system has it]
    #[arg(long, value_name = "ENGINE")]
    engine: Option<Engine>,
    /// Print nothing but the report
    #[arg(long)]
    quiet: bool,
}

/// Reads the command line, with the program's name first: the storms that were asked for, one after the other.
///
/// # Errors
/// The first mistake found, or what was asked for instead.
pub fn storms(args: impl IntoIterator<Item = std::ffi::OsString>) -> Result<Vec<Storm>, ArgsError> {
    let cli = Cli::try_parse_from(args).map_err(|error| from_clap(&error))?;
    within("--threads", cli.threads, MAX_THREADS)?;
    if cli.pages == Some(0) {
        return Err("--pages 0: at least 1".into());
    }
    let pages = match cli.seconds {
        Some(_) => None,
        None => Some(cli.pages.unwrap_or(PAGES)),
    };
    let time = cli.seconds.map(time).transpose()?;
    let engines = cli
        .engine
        .map_or(vec![Engine::Shared, Engine::Private], |engine| vec![engine]);
    let storm = |engine| Storm {
        pages,
        time,
        threads: cli.threads,
        seed: cli.seed,
        engine,
        quiet: cli.quiet,
    };
    Ok(engines.into_iter().map(storm).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn try_storms(args: &str) -> Result<Vec<Storm>, String> {
        let args = core::iter::once("storm").chain(args.split_whitespace());
        storms(args.map(Into::into)).map_err(|error| match error {
            ArgsError::Asked(text) => panic!("{text}"),
            ArgsError::Mistake(line) => line,
        })
    }

    fn try_storm(args: &str) -> Result<Storm, String> {
        try_storms(args).map(|storms| storms[0].clone())
    }

    #[test]
    fn both_engines_have_a_storm_unless_one_is_named() {
        let engines = |args| -> Vec<Engine> {
            let storms = try_storms(args).unwrap();
            storms.iter().map(|storm| storm.engine).collect()
        };
        assert_eq!(engines("--pages 12"), [Engine::Shared, Engine::Private]);
        assert_eq!(engines("--engine auto"), [Engine::Auto]);
    }

    #[test]
    fn what_is_said_is_done() {
        assert_eq!(try_storm("").unwrap().pages, Some(PAGES));
        assert_eq!(try_storm("--pages 1e8").unwrap().pages, Some(100_000_000));
        let storm = try_storm("--seconds 2 --threads 5 --seed 0x10").unwrap();
        assert_eq!(
            (storm.pages, storm.time),
            (None, Some(core::time::Duration::from_secs(2)))
        );
        assert_eq!((storm.threads, storm.seed, storm.engine), (5, 16, Engine::Shared));
        assert_eq!(try_storm("--engine private").unwrap().engine, Engine::Private);
    }

    #[test]
    fn each_mistake_is_one_line_that_names_what_was_wrong() {
        for (args, words) in [
            ("--pages 0", "--pages 0"),
            ("--pages many", "many"),
            ("--pages 5 --seconds 5", "cannot be used with"),
            ("--seconds -1", "-1"),
            ("--threads 0", "--threads 0"),
            ("--seed y", "y"),
            ("--engine steam", "shared, private, auto"),
            ("soon", "soon"),
        ] {
            let line = try_storm(args).unwrap_err();
            assert!(line.contains(words), "{args}: {line}");
        }
    }
}

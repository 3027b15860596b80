//! Tries every mutant that cargo-mutants lists, in one build.
//!
//! cargo-mutants builds the tests anew for each mutant, which takes hours for some thousands. Here all of them are compiled into one
//! set of test programs, each behind a question whether it is the one that is on; a first run without any tells which tests come
//! by which mutants, and then each is tried by those tests alone. Which mutants there are is cargo-mutants' word, and what has no
//! place in a common program is left to it. `ci/mutants` puts the two together.
//!
//! Exits with 0 when every mutant was tried, caught or not, and with 2 where that could not be done.

#![forbid(unsafe_code)]

mod compile;
mod mutant;
mod run;
mod schema;
mod splice;

use compile::Tree;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use mutant::Mutant;
use run::{Outcome, Suite};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

const USAGE: &str = "usage: mutants LIST TREE OUTPUT JOBS SECONDS [TEST_PROGRAM_LEFT_OUT...]

  LIST    what `cargo mutants --list --json` said
  TREE    a copy of the workspace, which is written to
  OUTPUT  a directory for caught.txt, timeout.txt, missed.txt, unviable.txt, as cargo-mutants writes them; unreached.txt, those of
          the missed that no test comes by; given_up.txt, those of them that SECONDS were too few for; and apart.txt, those
          that were not tried
  JOBS    how many tests to run at a time
  SECONDS how much processor time each mutant is worth, the short tests first";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [list, tree, output, jobs, seconds, left_out @ ..] = arguments.as_slice() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match try_all(list, Path::new(tree), Path::new(output), (jobs, seconds), left_out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mutants: {error}");
            ExitCode::from(2)
        }
    }
}

fn try_all(
    list: &str,
    tree: &Path,
    output: &Path,
    (jobs, seconds): (&str, &str),
    left_out: &[String],
) -> Result<(), String> {
    let jobs = jobs.parse().map_err(|_| format!("not a number of jobs: {jobs}"))?;
    let most = seconds
        .parse()
        .map_err(|_| format!("not a number of seconds: {seconds}"))?;
    let text = fs::read_to_string(list).map_err(|error| format!("{list}: {error}"))?;
    let mutants = mutant::list(&text)?;
    let tree = Tree(tree);
    let compiled = tree.instrument(&mutants)?;
    println!(
        "{} mutants in one program, {} do not compile, {} have to be tried apart",
        compiled.inside.len(),
        compiled.unviable.len(),
        compiled.apart.len()
    );
    let suite = Suite::measure(tree.tests(left_out)?, output, jobs)?;
    println!("{} tests", suite.tests());

    let inside: Vec<&Mutant> = mutants
        .iter()
        .filter(|mutant| compiled.inside.contains(&mutant.id))
        .collect();
    let count = AtomicUsize::new(0);
    let outcomes = suite.try_all(&inside, jobs, Duration::from_secs(most), |mutant, outcome| {
        let count = count.fetch_add(1, Ordering::Relaxed) + 1;
        match outcome {
            Outcome::Missed | Outcome::GivenUp | Outcome::Unreached => println!("{outcome:?}: {}", mutant.name),
            _ if count.is_multiple_of(100) => println!("{count} of {} tried", inside.len()),
            _ => {}
        }
    })?;

    let with = |wanted: &[Outcome]| {
        let both = inside.iter().zip(&outcomes);
        both.filter(|(_, outcome)| wanted.contains(outcome))
            .map(|(mutant, _)| mutant.id)
            .collect()
    };
    let files: [(&str, BTreeSet<usize>); 7] = [
        ("caught", with(&[Outcome::Caught])),
        ("timeout", with(&[Outcome::TimedOut])),
        ("missed", with(&[Outcome::Missed, Outcome::GivenUp, Outcome::Unreached])),
        ("given_up", with(&[Outcome::GivenUp])),
        ("unreached", with(&[Outcome::Unreached])),
        ("unviable", compiled.unviable),
        ("apart", compiled.apart),
    ];
    for (name, ids) in files {
        let names: String = ids.iter().map(|id| mutants[id - 1].name.clone() + "\n").collect();
        let path = output.join(format!("{name}.txt"));
        fs::write(&path, names).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

//! Each subcommand, from files to an answer.

use core::ops::RangeInclusive;
use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use mm_types::trace::{CheckError, Event, check_events};
use trace_tools::convert::{self, Grid};
use trace_tools::explain::Asked;
use trace_tools::kernel::{Judged, Wrong, judge_within};
use trace_tools::stats::Stats;
use trace_tools::{diff, explain};

use crate::args::{Command, Form, Source};
use crate::input::{Input, Mistake, is_stdin};

/// What is printed, and whether something was found that ought not to be.
pub(crate) struct Answer {
    pub(crate) text: Vec<u8>,
    pub(crate) found: bool,
}

fn done(text: impl Into<Vec<u8>>) -> Result<Answer, Mistake> {
    Ok(Answer {
        text: text.into(),
        found: false,
    })
}

fn found(text: impl Into<Vec<u8>>) -> Result<Answer, Mistake> {
    Ok(Answer {
        text: text.into(),
        found: true,
    })
}

pub(crate) fn answer(command: Command) -> Result<Answer, Mistake> {
    match command {
        Command::Check { source, within } => check(&source, within.as_ref()),
        Command::Diff { a, b } => differ(&a, &b),
        Command::Explain { page, file } => why(page, &file),
        Command::Stats(source) => count(&source),
        Command::Convert {
            to,
            output,
            columns,
            rows,
            file,
        } => {
            let grid = Grid {
                columns: columns.into(),
                rows: rows.into(),
            };
            write(to, output.as_ref(), grid, &file)
        }
    }
}

fn check(source: &Source, within: Option<&RangeInclusive<u64>>) -> Result<Answer, Mistake> {
    let input = Input::read(&source.file)?;
    if source.kernel || input.is_kernels() {
        return match judge_within(&input.bytes, within.unwrap_or(&(0..=u64::MAX))) {
            Ok(judged) => done(format!("{}: {}\n", input.name, accepted(&judged))),
            Err(Wrong::Broken(broken)) => found(format!("{}: {broken}\n", input.name)),
            Err(Wrong::Unreadable(wrong)) => Err(input.wrong(wrong)),
        };
    }
    if within.is_some() {
        return Err(input.wrong("--within is for the kernel's trace, and this is none"));
    }
    let events: Vec<Event> = input.lines()?.iter().map(|line| line.event).collect();
    match check_events(&events) {
        Ok(checked) => done(format!(
            "{}: no rule is broken; events={} runs={} succeeded={}\n",
            input.name, checked.events, checked.runs, checked.succeeded
        )),
        Err(CheckError::Violation(violation)) => found(format!("{}: {violation}\n", input.name)),
        Err(other) => Err(input.wrong(other)),
    }
}

fn accepted(judged: &Judged) -> String {
    let Judged {
        events,
        runs,
        pairs,
        moved,
        succeeded,
        failed,
        copied,
        before,
        after,
        elsewhere,
    } = judged;
    format!(
        "no rule is broken; events={events} runs={runs} pairs={pairs} moved={moved} nr_succeeded={succeeded} \
         nr_failed={failed} copied_in_flight={copied} from_before={before} in_flight_at_the_end={after} \
         alone_elsewhere={elsewhere}"
    )
}

fn differ(a: &Path, b: &Path) -> Result<Answer, Mistake> {
    if is_stdin(a) && is_stdin(b) {
        return Err(Mistake("standard input can be one of the traces, not both".into()));
    }
    let (a, b) = (Input::read(a)?, Input::read(b)?);
    match diff(&a.lines()?, &b.lines()?) {
        None => done("the traces mean the same\n"),
        Some(difference) => found(format!("A {}\nB {}\n{difference}", a.name, b.name)),
    }
}

fn why(page: Asked, file: &Path) -> Result<Answer, Mistake> {
    let input = Input::read(file)?;
    match explain(&input.lines()?, page) {
        Some(explanation) => done(explanation.to_string()),
        None => Err(input.wrong("the trace says nothing of that page")),
    }
}

fn count(source: &Source) -> Result<Answer, Mistake> {
    let input = Input::read(&source.file)?;
    if source.kernel || input.is_kernels() {
        let stats = Stats::of_kernels(&input.bytes).map_err(|wrong| input.wrong(wrong))?;
        return done(stats.to_string());
    }
    done(Stats::of(&input.lines()?).to_string())
}

fn write(to: Form, output: Option<&PathBuf>, grid: Grid, file: &Path) -> Result<Answer, Mistake> {
    if to == Form::Perfetto && output.is_none() && io::stdout().is_terminal() {
        return Err(Mistake(
            "perfetto is binary, and standard output is a terminal; use --output FILE".into(),
        ));
    }
    let lines = Input::read(file)?.lines()?;
    let bytes = match to {
        Form::Ftrace => convert::ftrace(&lines).into_bytes(),
        Form::Perfetto => convert::perfetto(&lines),
        Form::Heat => convert::heat(&lines, grid).into_bytes(),
        Form::Folded => convert::folded(&lines).into_bytes(),
    };
    let Some(output) = output else { return done(bytes) };
    fs::write(output, bytes).map_err(|error| Mistake(format!("{}: {error}", output.display())))?;
    done("")
}

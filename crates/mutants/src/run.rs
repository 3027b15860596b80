//! Runs the tests that reach a mutant, the short ones first, until one of them fails.

use crate::mutant::Mutant;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc;
use std::thread;

/// Tests of one program are run in one process as long as they take about this long together, in milliseconds: first the quick ones.
const BATCHES: [u64; 5] = [20, 100, 500, 2_000, 10_000];

/// A program's limits; where the time it took is asked for, the shell stays to tell it.
const SHELL: &str = r#"
ulimit -t "$CPU_LIMIT"
ulimit -v 8000000
[ -n "$CPU_TIMES" ] || exec "$0" "$@"
"$0" "$@"
code=$?
times >"$CPU_TIMES"
exit $code
"#;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    Caught,
    /// It ran for so much longer than the original that it will not end: the tests notice.
    TimedOut,
    Missed,
    /// It lived through as many seconds of tests as were allowed, and there were more.
    GivenUp,
    /// No test comes by.
    Unreached,
}

/// One test of one program, and how much processor time it takes.
#[derive(Clone, Debug)]
struct Test {
    program: usize,
    name: String,
    took: Duration,
}

/// The programs, their tests, and which mutants each test reaches.
pub(crate) struct Suite {
    programs: Vec<(String, PathBuf, PathBuf)>,
    tests: Vec<Test>,
    reaching: BTreeMap<usize, Vec<usize>>,
}

enum Ended {
    Passed,
    Failed,
    TooLong,
}

impl Suite {
    /// Runs each test once with no mutant on. A test that fails here is an error.
    pub(crate) fn measure(
        programs: Vec<(String, PathBuf, PathBuf)>,
        scratch: &Path,
        jobs: usize,
    ) -> Result<Self, String> {
        let mut suite = Self {
            programs,
            tests: Vec::new(),
            reaching: BTreeMap::new(),
        };
        let mut names = Vec::new();
        for program in 0..suite.programs.len() {
            let ignored = suite.list(program, &["--ignored"])?;
            names.extend(
                suite
                    .list(program, &[])?
                    .into_iter()
                    .filter(|name| !ignored.contains(name))
                    .map(|name| (program, name)),
            );
        }
        let measured = each(&names, jobs, |worker, (program, name)| {
            let (log, times) = (
                scratch.join(format!("reached.{worker}")),
                scratch.join(format!("times.{worker}")),
            );
            let _ = fs::remove_file(&log);
            let env = [
                ("MUTANTS_REACHED", &*log.to_string_lossy()),
                ("CPU_TIMES", &*times.to_string_lossy()),
            ];
            // An hour by the clock: six minutes of processor time.
            let ended = suite.run(*program, &[name], &env, Duration::from_secs(3600))?;
            if !matches!(ended, Ended::Passed) {
                return Err(format!(
                    "{}: {name} fails without a mutant, or does not end",
                    suite.programs[*program].0
                ));
            }
            let reached = fs::read_to_string(&log).unwrap_or_default();
            let reached: Vec<usize> = reached.lines().filter_map(|id| id.parse().ok()).collect();
            let times = fs::read_to_string(&times).map_err(|error| format!("{}: {error}", times.display()))?;
            Ok((children(&times).ok_or("the shell's times read otherwise")?, reached))
        });
        for ((program, name), result) in names.into_iter().zip(measured) {
            let (took, reached) = result?;
            for id in reached {
                suite.reaching.entry(id).or_default().push(suite.tests.len());
            }
            suite.tests.push(Test { program, name, took });
        }
        for tests in suite.reaching.values_mut() {
            tests.sort_by_key(|test| suite.tests[*test].took);
        }
        Ok(suite)
    }

    pub(crate) fn tests(&self) -> usize {
        self.tests.len()
    }

    /// What becomes of each of these mutants, tried by no more than about `most` of tests; `told` hears of each as it is known.
    pub(crate) fn try_all(
        &self,
        mutants: &[&Mutant],
        jobs: usize,
        most: Duration,
        told: impl Fn(&Mutant, Outcome) + Sync,
    ) -> Result<Vec<Outcome>, String> {
        let outcomes = each(mutants, jobs, |_, mutant| {
            let outcome = self.try_one(mutant.id, most)?;
            told(mutant, outcome);
            Ok(outcome)
        });
        outcomes.into_iter().collect()
    }

    fn try_one(&self, id: usize, most: Duration) -> Result<Outcome, String> {
        let Some(tests) = self.reaching.get(&id) else {
            return Ok(Outcome::Unreached);
        };
        let (mut left, mut spent) = (tests.as_slice(), Duration::ZERO);
        for budget in BATCHES.map(Duration::from_millis).into_iter().chain([Duration::MAX]) {
            let mut took = Duration::ZERO;
            let here = left.iter().take_while(|test| {
                took = took.saturating_add(self.tests[**test].took);
                took <= budget
            });
            let (batch, rest) = left.split_at(here.count());
            left = rest;
            if spent >= most && !batch.is_empty() {
                return Ok(Outcome::GivenUp);
            }
            let mut programs: BTreeMap<usize, Vec<&Test>> = BTreeMap::new();
            for test in batch.iter().map(|test| &self.tests[*test]) {
                programs.entry(test.program).or_default().push(test);
            }
            for (program, tests) in programs {
                let names: Vec<&String> = tests.iter().map(|test| &test.name).collect();
                let alone: Duration = tests.iter().map(|test| test.took).sum();
                spent += alone;
                // By the clock far more than what a loaded machine makes of it: a mutant that waits for ever is rare.
                let limit = alone * 60 + Duration::from_secs(60);
                match self.run(program, &names, &[("MUTANT", &id.to_string())], limit)? {
                    Ended::Passed => {}
                    Ended::Failed => return Ok(Outcome::Caught),
                    Ended::TooLong => return Ok(Outcome::TimedOut),
                }
            }
        }
        Ok(Outcome::Missed)
    }

    fn command(&self, program: usize) -> Command {
        let (_, executable, directory) = &self.programs[program];
        // A mutant's endless loop ends after so many seconds of processor time, whatever else the machine does; one that
        // takes all memory ends there.
        let mut command = Command::new("sh");
        command.args(["-c", SHELL]);
        command.arg(executable).current_dir(directory);
        command.env("CARGO_MANIFEST_DIR", directory).env("INSTA_UPDATE", "no");
        command
            .env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1")
            .env("CPU_LIMIT", "600")
            .env("CPU_TIMES", "");
        command
    }

    fn list(&self, program: usize, more: &[&str]) -> Result<Vec<String>, String> {
        let output = self
            .command(program)
            .args(["--list", "--format=terse"])
            .args(more)
            .output();
        let output = output.map_err(|error| format!("{}: {error}", self.programs[program].0))?;
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text
            .lines()
            .filter_map(|line| line.strip_suffix(": test"))
            .map(str::to_owned)
            .collect())
    }

    fn run<S: AsRef<std::ffi::OsStr>>(
        &self,
        program: usize,
        names: &[S],
        env: &[(&str, &str)],
        limit: Duration,
    ) -> Result<Ended, String> {
        let error = |error: std::io::Error| format!("{}: {error}", self.programs[program].0);
        let mut child = self
            .command(program)
            .args(["--exact", "--test-threads=1", "--quiet"])
            .args(names)
            .env("CPU_LIMIT", (limit.as_secs() / 10 + 1).to_string())
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(error)?;
        let (ended, end) = mpsc::channel();
        let mut output = child.stdout.take();
        let reader = thread::spawn(move || {
            let _ = output.as_mut().map(|output| output.read_to_end(&mut Vec::new()));
            let _ = ended.send(());
        });
        let late = end.recv_timeout(limit).is_err();
        if late {
            child.kill().map_err(error)?;
        }
        let status = child.wait().map_err(error)?;
        let _ = reader.join();
        // SIGXCPU, or SIGKILL where that was not heard.
        Ok(match status.signal() {
            _ if late => Ended::TooLong,
            Some(9 | 24) => Ended::TooLong,
            _ if status.success() => Ended::Passed,
            _ => Ended::Failed,
        })
    }
}

/// What a shell's `times` says of its children: user and system time on the second line, such as `0m1.250s 0m0.010s`.
fn children(times: &str) -> Option<Duration> {
    let of = |word: &str| {
        let (minutes, seconds) = word.strip_suffix('s')?.split_once('m')?;
        let minutes = Duration::from_secs(60 * minutes.parse::<u64>().ok()?);
        Some(minutes + Duration::try_from_secs_f64(seconds.parse().ok()?).ok()?)
    };
    times.lines().nth(1)?.split_whitespace().map(of).sum()
}

/// Does the work for each item, so many at a time, and keeps the order.
fn each<T: Sync, R: Send>(
    items: &[T],
    jobs: usize,
    work: impl Fn(usize, &T) -> Result<R, String> + Sync,
) -> Vec<Result<R, String>> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(items.len()));
    thread::scope(|scope| {
        for worker in 0..jobs {
            let (next, done, work) = (&next, &done, &work);
            scope.spawn(move || {
                while let Some((index, item)) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|index| Some((index, items.get(index)?)))
                {
                    let result = work(worker, item);
                    done.lock()
                        .unwrap_or_else(|poison| poison.into_inner())
                        .push((index, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(|poison| poison.into_inner());
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_of_a_shells_children_are_added() {
        let times = "0m0.010s 0m0.020s\n1m1.250s 0m0.500s\n";
        assert_eq!(children(times), Some(Duration::from_millis(61_750)));
        assert_eq!(children("0m0.010s 0m0.020s\n"), None);
    }

    #[test]
    fn each_item_is_done_once_and_the_order_is_kept() {
        let items: Vec<usize> = (0..100).collect();
        for jobs in [1, 3] {
            let done = each(&items, jobs, |_, item| Ok(item * 2));
            assert!(done.into_iter().map(Result::unwrap).eq((0..100).map(|item| item * 2)));
        }
    }
}

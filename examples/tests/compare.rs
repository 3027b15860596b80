//! The comparison, as a person would run it: small, and without looking at how fast anything was.

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use docs_gen::performance::{Against, Results};
use examples::compare::{core_only, host, main_job, rounds, user};

/// A directory of a test's own, gone at its end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("compare-{}-{name}", std::process::id())))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn compare(directory: &Path, args: &[&str]) -> Output {
    let record = directory.join("results.json");
    Command::new(env!("CARGO_BIN_EXE_compare"))
        .args(["--size", "2M", "--rounds", "1", "--charts"])
        .arg(directory)
        .arg("--record")
        .arg(record)
        .args(args)
        .output()
        .unwrap()
}

fn results(directory: &Path) -> Results {
    let text = std::fs::read_to_string(directory.join("results.json")).unwrap();
    Results::parse(&text).unwrap()
}

#[test]
fn everything_that_moves_pages_has_a_row_or_a_reason_and_every_chart_is_written() {
    let directory = Directory::new("all");
    let output = compare(&directory.0, &["--most-pages", "1000"]);
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}\n{}", support::stderr(&output));
    let results = results(&directory.0);
    let named: BTreeSet<&str> = results
        .rows
        .iter()
        .map(|row| row.engine.as_str())
        .chain(results.left_out.iter().map(|left| left.what.as_str()))
        .collect();
    for engine in [
        rounds::COPY,
        user::NAME,
        user::PRIVATE,
        core_only::NAME,
        host::NAME,
        main_job::NAME,
    ] {
        assert!(named.contains(engine) && text.contains(engine), "{engine} in {text}");
    }
    for word in ["Linux migrate_pages()", "Linux move_pages(2)"] {
        assert!(
            named.iter().any(|name| name.starts_with(word)) && text.contains(word),
            "{word} in {text}"
        );
    }
    let batches: Vec<_> = results
        .rows
        .iter()
        .filter(|row| row.engine == user::NAME)
        .map(|row| row.batch)
        .collect();
    assert_eq!(batches, [Some(1), Some(64), Some(512)]);
    for row in &results.rows {
        let costs = [row.alone, row.loaded.map(|loaded| loaded.cost)];
        let known: Vec<_> = costs.into_iter().flatten().collect();
        assert!(
            !known.is_empty() && known.iter().all(|cost| cost.ns.least > 0.0),
            "{row:?}"
        );
        assert!(row.moved > 0, "{row:?}");
    }
    assert!(text.contains("for a look only"), "one round: {text}");
    let mappings = results.against(Against::Mappings).unwrap();
    assert!(
        mappings
            .curves
            .iter()
            .all(|curve| curve.points.iter().any(|point| point.0 == 64))
    );
    for against in Against::ALL {
        let chart = directory.0.join(format!("performance-{}.svg", against.word()));
        assert!(
            std::fs::read_to_string(&chart).unwrap().starts_with("<svg "),
            "{}",
            chart.display()
        );
    }
    assert!(directory.0.join("performance-ratios.svg").is_file());
}

#[test]
fn rows_can_be_chosen() {
    let directory = Directory::new("one");
    let output = compare(
        &directory.0,
        &["--only", "core alone", "--no-scaling", "--batches", "7"],
    );
    assert_eq!(output.status.code(), Some(0), "{}", support::stderr(&output));
    let results = results(&directory.0);
    let rows: Vec<_> = results
        .rows
        .iter()
        .map(|row| (row.engine.as_str(), row.batch, row.moved))
        .collect();
    assert_eq!(rows, [(rounds::COPY, None, 512), (core_only::NAME, Some(7), 512)]);
    assert!(results.scaling.is_empty());
}

#[test]
fn what_makes_no_sense_is_one_line() {
    let directory = Directory::new("none");
    for (args, word) in [
        (&["--size", "0"][..], "--size 0"),
        (&["--size", "9999T"], "available"),
        (&["--batches", "1,513"], "at most 512"),
        (&["--rounds", "0"], "--rounds 0"),
        (&["--writers", "999"], "at most 256"),
        (&["--loud"], "--loud"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_compare")).args(args).output().unwrap();
        let said = support::stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(word) && said.lines().count() == 1, "{said}");
    }
    assert!(!directory.0.exists());
}

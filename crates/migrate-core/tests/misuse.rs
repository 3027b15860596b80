//! Every illegal order of the seam fails to compile, for the reason its file states: `misuse/NAME.rs`, with the compiler's words in
//! `misuse/NAME.stderr`.
//!
//! What is merely dropped, a lock or an isolated page, is refused by the lint `unused_must_use`, which those programs deny: in a
//! crate that does not, it is a warning.
//!
//! The words are those of the pinned toolchain; another compiler finds the same mistakes in other words and is not asked. After a
//! change of toolchain or of a signature, `TRYBUILD=overwrite cargo test -p migrate-core --test misuse` writes them anew: read
//! the difference before it is committed, each file must still fail for its own reason.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The channel that `rust-toolchain.toml` pins.
fn pinned() -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../rust-toolchain.toml");
    let text = std::fs::read_to_string(file).expect("the workspace pins its toolchain");
    let channel = text.lines().find_map(|line| line.strip_prefix("channel = "));
    channel.expect("a channel").trim_matches('"').to_owned()
}

fn is_pinned() -> bool {
    let version = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .arg("--version")
        .output()
        .expect("a compiler");
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    version.starts_with(&format!("rustc {} ", pinned()))
}

/// The programs, each with the compiler's words about it.
fn orders() -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/misuse");
    let mut orders = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            let words = path.with_extension("stderr");
            let words = std::fs::read_to_string(&words).unwrap_or_else(|error| panic!("{words:?}: {error}"));
            orders.push((path, words));
        }
    }
    orders
}

/// Whether it is a lint that refuses: a warning to whoever has not forbidden it.
fn is_lint(words: &str) -> bool {
    words.contains("unused_must_use")
}

#[test]
#[cfg_attr(miri, ignore = "starts a compiler")]
fn every_illegal_order_is_refused_for_its_own_reason() {
    let lints = orders().iter().filter(|(_, words)| is_lint(words)).count();
    let errors = orders().len() - lints;
    if !is_pinned() {
        println!("not applicable: the messages are those of toolchain {}", pinned());
        return;
    }
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/misuse/*.rs");
    // The programs are compiled, and a difference is a panic, when the cases go.
    drop(cases);
    // The harness may have begun a line.
    println!("\nproof: misuse errors={errors} lints={lints}");
}

#[test]
fn every_illegal_order_says_which_rule_it_breaks_and_whether_an_error_or_a_lint_refuses_it() {
    let orders = orders();
    assert!(orders.len() >= 25, "{} programs", orders.len());
    for (path, words) in orders {
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("//! Rule: "), "{path:?} states no rule");
        assert!(words.starts_with("error"), "{path:?} compiles");
        // What only a lint refuses has to say so, and nothing else may lean on one.
        let denies = text.contains("#![deny(unused_must_use)]");
        assert_eq!(denies, is_lint(&words), "{path:?}");
    }
}

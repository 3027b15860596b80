//! Every illegal order of the seam fails to compile, for the reason its file states: `misuse/NAME.rs`, with the compiler's words in
//! `misuse/NAME.stderr`.
//!
//! The words are those of the pinned toolchain; another compiler finds the same mistakes in other words and is not asked. After a
//! change of toolchain or of a signature, `TRYBUILD=overwrite cargo test -p migrate-core --test misuse` writes them anew: read
//! the difference before it is committed, each file must still fail for its own reason.

use std::path::Path;
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

#[test]
#[cfg_attr(miri, ignore = "starts a compiler")]
fn every_illegal_order_is_refused_for_its_own_reason() {
    if is_pinned() {
        trybuild::TestCases::new().compile_fail("tests/misuse/*.rs");
    } else {
        println!("not applicable: the messages are those of toolchain {}", pinned());
    }
}

#[test]
fn every_illegal_order_says_which_rule_it_breaks_and_in_whose_words() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/misuse");
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            files += 1;
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.starts_with("//! Rule: "), "{path:?} states no rule");
            assert!(path.with_extension("stderr").exists(), "{path:?} has no message");
        }
    }
    assert!(files >= 25, "{files} files");
    println!("proof: misuse orders={files} pinned_compiler={}", is_pinned());
}

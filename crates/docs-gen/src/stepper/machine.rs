//! The machine inside the page: the crate `stepper`, compiled to WebAssembly.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::Error;

const TARGET: &str = "wasm32-unknown-unknown";
const PROFILE: &str = "page";

/// Builds the machine, and returns its bytes as base64.
pub(super) fn base64(root: &Path) -> Result<String, Error> {
    let file = build(root).map_err(|what| Error::Gap { block: "stepper", what })?;
    let bytes = fs::read(&file).map_err(|error| Error::File {
        file: file.display().to_string(),
        error,
    })?;
    Ok(BASE64_STANDARD.encode(bytes))
}

fn build(root: &Path) -> Result<PathBuf, String> {
    let directory = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build
        .current_dir(root)
        .args(["build", "--locked", "--quiet", "--package", "stepper", "--lib"]);
    build
        .args(["--target", TARGET, "--profile", PROFILE])
        .arg("--target-dir")
        .arg(&directory);
    // What the caller sets for this machine's processor is not meant for the page's.
    for name in [
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_BUILD_TARGET",
        "CARGO_BUILD_RUSTFLAGS",
    ] {
        build.env_remove(name);
    }
    let built = build
        .output()
        .map_err(|error| format!("cargo does not start: {error}"))?;
    if built.status.success() {
        return Ok(directory.join(TARGET).join(PROFILE).join("stepper.wasm"));
    }
    let said = String::from_utf8_lossy(&built.stderr);
    let hint = if said.contains("E0463") {
        format!("\nthe target is missing: `rustup target add {TARGET}`, or `ci/setup wasm`")
    } else {
        String::new()
    };
    Err(format!("the machine does not compile: {}{hint}", said.trim_end()))
}

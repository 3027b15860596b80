//! Links the kernel by its script, and takes the canonical scenarios in.

use std::path::Path;
use std::{env, fs};

fn main() {
    let root = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    println!("cargo:rustc-link-arg=-T{root}/kernel.ld");
    println!("cargo:rustc-link-arg=-no-pie");
    for file in ["kernel.ld", "src/boot.s", "src/trap.s", "src/user.s"] {
        println!("cargo:rerun-if-changed={file}");
    }
    println!("cargo:rerun-if-changed=build.rs");
    // The same files that the model's snapshots are made from.
    let folder = Path::new(&root).join("../../crates/migrate-core/tests/scenarios");
    println!("cargo:rerun-if-changed={}", folder.display());
    let entries = fs::read_dir(&folder).expect("the scenarios are there");
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "scn"))
        .collect();
    files.sort();
    let one = |path: &std::path::PathBuf| {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).expect("plain names");
        format!("    ({stem:?}, include_str!({path:?})),\n")
    };
    let table: String = files.iter().map(one).collect();
    let out = Path::new(&env::var("OUT_DIR").expect("cargo sets it")).join("scenarios.rs");
    fs::write(out, format!("&[\n{table}]\n")).expect("the output folder is writable");
}

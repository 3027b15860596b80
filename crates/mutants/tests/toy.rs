//! The whole of it, on a workspace that is as small as can be: what is caught, missed, never reached, refused by the compiler, and
//! what has to be tried apart.

use std::fs;
use std::path::Path;
use std::process::Command;

const WORKSPACE: &str = r#"[workspace]
resolver = "3"
members = ["crates/mm-types", "crates/migrate-core"]

[profile.mutants]
inherits = "dev"
"#;

const WORDS: &str = r#"#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;
mod addr;
pub use addr::{MASK, is_odd, nobody_asks, odd_below};
"#;

const ADDR: &str = r#"pub const MASK: u32 = 1 << 0;

pub const fn is_odd(n: u32) -> bool {
    n & MASK == 1
}

pub fn nobody_asks() -> bool {
    true
}

pub fn odd_below(end: u32) -> impl Iterator<Item = u32> {
    (0..end).filter(|n| is_odd(*n))
}
"#;

const CORE: &str = r#"#![no_std]

pub struct Plain(pub u32);

pub fn plain(n: u32) -> Plain {
    let mut all = 0;
    while all < n {
        all += 1;
    }
    Plain(all)
}

#[cfg(test)]
mod tests {
    #[test]
    fn odd_is_odd_and_all_is_all() {
        assert!(mm_types::is_odd(3) && !mm_types::is_odd(4));
        assert_eq!(super::plain(3).0, 3);
    }
}
"#;

/// One mutant as cargo-mutants lists it; the names are for the test.
fn mutant(
    name: &str,
    file: &str,
    genre: &str,
    replacement: &str,
    (line, column): (u32, u32),
    answers: &str,
) -> serde_json::Value {
    serde_json::json!({
        "name": name,
        "file": format!("crates/{file}"),
        "genre": genre,
        "replacement": replacement,
        "span": { "start": { "line": line, "column": column } },
        "function": { "return_type": answers },
    })
}

#[test]
fn each_mutant_ends_where_it_belongs() {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("toy");
    let _ = fs::remove_dir_all(&root);
    let tree = root.join("tree");
    let write = |file: &str, text: &str| {
        let path = tree.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("Cargo.toml", WORKSPACE);
    for (name, dependencies) in [
        ("mm-types", ""),
        ("migrate-core", "mm-types = { path = \"../mm-types\" }"),
    ] {
        let manifest = format!("[package]\nname = \"{name}\"\nedition = \"2024\"\n\n[dependencies]\n{dependencies}\n");
        write(&format!("crates/{name}/Cargo.toml"), &manifest);
    }
    write("crates/mm-types/src/lib.rs", WORDS);
    write("crates/mm-types/src/addr.rs", ADDR);
    write("crates/migrate-core/src/lib.rs", CORE);

    let (addr, core) = ("mm-types/src/addr.rs", "migrate-core/src/lib.rs");
    let list = [
        mutant("constant", addr, "BinaryOperator", ">>", (1, 25), ""),
        mutant("always odd", addr, "FnValue", "true", (4, 5), "-> bool"),
        mutant("never odd", addr, "FnValue", "false", (4, 5), "-> bool"),
        mutant("even", addr, "BinaryOperator", "!=", (4, 14), "-> bool"),
        mutant("the same by chance", addr, "BinaryOperator", "|", (4, 7), "-> bool"),
        mutant("unreached", addr, "FnValue", "false", (8, 5), "-> bool"),
        mutant(
            "unnamed",
            addr,
            "FnValue",
            "::std::iter::empty()",
            (12, 5),
            "-> impl Iterator<Item = u32>",
        ),
        mutant("no default", core, "FnValue", "Default::default()", (6, 5), "-> Plain"),
        mutant("endless", core, "BinaryOperator", "*=", (8, 13), "-> Plain"),
        mutant("one less", core, "BinaryOperator", "==", (7, 15), "-> Plain"),
    ];
    let path = root.join("list.json");
    fs::write(&path, serde_json::to_string(&list).unwrap()).unwrap();
    let done = Command::new(env!("CARGO_BIN_EXE_mutants"))
        .args([&path, &tree, &root])
        .args(["2", "60", "left_out"])
        .env("CARGO_TARGET_DIR", root.join("target"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(
        done.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&done.stderr)
    );

    let told = |file: &str| fs::read_to_string(root.join(file).with_extension("txt")).unwrap();
    assert_eq!(
        told("caught"),
        "always odd\nnever odd\neven\nthe same by chance\none less\n"
    );
    assert_eq!(told("timeout"), "endless\n");
    assert_eq!(told("missed"), "unreached\n");
    assert_eq!(told("unreached"), "unreached\n");
    assert_eq!(told("given_up"), "");
    assert_eq!(told("unviable"), "no default\n");
    assert_eq!(told("apart"), "constant\nunnamed\n");
}

//! One word is changed in each kind of source of truth, and `docs-gen --check` has to fail and name what it made of it.
//!
//! The sources are compiled into the program, so this is a copy of the workspace that is built anew, with all the changes but one at
//! once: each must be told by the block it belongs to. `ci/drift` runs it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// A word of a source of truth.
struct Change {
    kind: &'static str,
    file: &'static str,
    from: &'static str,
    to: &'static str,
    /// The blocks that say so, each of which must be named.
    blocks: &'static [&'static str],
}

const fn change(
    kind: &'static str,
    file: &'static str,
    from: &'static str,
    to: &'static str,
    blocks: &'static [&'static str],
) -> Change {
    Change {
        kind,
        file,
        from,
        to,
        blocks,
    }
}

const CHANGES: &[Change] = &[
    change(
        "the documented steps of 2006",
        "crates/mm-types/src/trace/steps.rs",
        "allocate a list of new pages",
        "reserve a list of new pages",
        &["steps-2006"],
    ),
    change(
        "the documented steps of today",
        "crates/mm-types/src/trace/steps.rs",
        "have a function that allocates",
        "have a routine that allocates",
        &["steps-modern"],
    ),
    change(
        "what the code does, as recorded traces and figures show it",
        "crates/migrate-core/src/profile.rs",
        "    settings_early: true,",
        "    settings_early: false,",
        &[
            "profiles",
            "steps-order",
            "run-2006",
            "run-refused",
            "run-fault-2006",
            "timeline-2006.svg",
        ],
    ),
    change(
        "a recorded trace, as its transitions are counted",
        "crates/migrate-core/tests/snapshots/batch_of_eight.modern.snap",
        "[   17] unlock p7 f7\n",
        "",
        &["states-modern.svg"],
    ),
    change(
        "a scenario of a figure",
        "crates/docs-gen/src/book/passes.scn",
        "migrate p1 p0 p2..p4",
        "migrate p0 p1 p2..p4",
        &["lists-2006.svg", "lists-modern.svg"],
    ),
    change(
        "a scenario of a chapter",
        "crates/docs-gen/src/book/fault.scn",
        "write m0+0x3 0x2a",
        "write m0+0x3 0x2b",
        &["scenario-fault"],
    ),
    change(
        "a profile's comments",
        "crates/migrate-core/src/profile.rs",
        "A locked VMA refuses the migration.",
        "A locked VMA forbids the migration.",
        &["profiles"],
    ),
    change(
        "the flag table",
        "crates/mm-types/src/transfer.rs",
        "row(PageFlags::ERROR, Carry::Copied, Carry::Left)",
        "row(PageFlags::ERROR, Carry::Moved, Carry::Left)",
        &["transfer"],
    ),
    change(
        "what flags mean",
        "crates/mm-types/src/flags.rs",
        "I/O on the page failed.",
        "I/O on the page broke.",
        &["transfer"],
    ),
    change(
        "what becomes of flags",
        "crates/mm-types/src/transfer.rs",
        "Neither page is touched.",
        "Neither page is changed.",
        &["carries"],
    ),
    change(
        "the table of the reference ledger",
        "crates/docs-gen/src/blocks/ledger.rs",
        "SwapCache2006 => swap()?,",
        "SwapCache2006 => Pte::Migration(MigrationEntry::make(OLD, false)),",
        &["ledger"],
    ),
    change(
        "outcomes and their lists",
        "crates/mm-types/src/outcome.rs",
        "This attempt was refused;",
        "This attempt was rejected;",
        &["outcomes"],
    ),
    change(
        "refusals",
        "crates/mm-types/src/outcome.rs",
        "another thread holds the page lock",
        "another task holds the page lock",
        &["refusals"],
    ),
    change(
        "errnos",
        "crates/mm-types/src/outcome.rs",
        "(Self::NoWritepage, _) => errno::EINVAL",
        "(Self::NoWritepage, _) => errno::EIO",
        &["errnos"],
    ),
    change(
        "modes",
        "crates/mm-types/src/mode.rs",
        "Never blocks.",
        "Never waits.",
        &["modes"],
    ),
    change(
        "reasons",
        "crates/mm-types/src/mode.rs",
        "The frame is failing.",
        "The frame is dying.",
        &["reasons"],
    ),
    change(
        "swap-type layouts",
        "crates/mm-types/src/swap_entry.rs",
        "        TypeKind::DeviceWrite,\n        TypeKind::DeviceRead,",
        "        TypeKind::DeviceRead,\n        TypeKind::DeviceWrite,",
        &["swap-types"],
    ),
    change(
        "entry bit layouts",
        "crates/mm-types/src/format.rs",
        "exclusive_bit: Some(3),",
        "exclusive_bit: Some(4),",
        &["entry-bits", "entry-bits.svg"],
    ),
    change(
        "the kinds of entries",
        "crates/mm-types/src/migration_entry.rs",
        "Read-only, and no other space maps the page",
        "Read-only, and no other process maps the page",
        &["entry-kinds"],
    ),
    change(
        "the trait tables",
        "crates/migrate-core/src/seam.rs",
        "/// Returns the frame number.",
        "/// Tells the frame number.",
        &["seam-traits"],
    ),
    change(
        "exemptions",
        "crates/mm-types/src/invariant.rs",
        "\"restored entries are old\",",
        "\"restored entries are stale\",",
        &["exemptions"],
    ),
    change(
        "invariants",
        "crates/mm-types/src/invariant.rs",
        "/// A page is on at most one list",
        "/// A page is on at most one chain",
        &["invariants"],
    ),
    change(
        "the checker's rules",
        "crates/mm-types/src/invariant.rs",
        "no migration entry survives, and none vanishes",
        "no migration entry survives, and none disappears",
        &["trace-rules"],
    ),
    change(
        "invariants with their tests",
        "crates/docs-gen/src/checks.rs",
        "\"check_packing\"",
        "\"check_packed\"",
        &["invariants-checked"],
    ),
    change(
        "what a search looks at",
        "crates/migrate-core/tests/loom/check.rs",
        "\"I11: {pfn:?} was written\"",
        "\"{pfn:?} was written\"",
        &["invariants-looked-at"],
    ),
    change(
        "counters",
        "crates/mm-types/src/counters.rs",
        "Huge pages moved whole.",
        "Huge pages moved intact.",
        &["counters"],
    ),
    change(
        "capabilities",
        "crates/migrate-core/src/fixture/capability.rs",
        "More than one address space.",
        "More than one address range.",
        &["capabilities"],
    ),
    change(
        "a trace's words",
        "crates/mm-types/src/trace/event.rs",
        "A page was taken off the LRU.",
        "A page was removed from the LRU.",
        &["events"],
    ),
    change(
        "the museum's catalogue",
        "crates/mm-types/src/museum.rs",
        "and every clean buffer became a dirty one",
        "and every clean buffer became a stale one",
        &["museum"],
    ),
    change(
        "the museum's recordings",
        "crates/docs-gen/src/book/museum/B22.trace",
        "flush entries=2",
        "flush entries=3",
        &["exhibit-b22"],
    ),
    change(
        "what was measured",
        "crates/docs-gen/src/book/performance.json",
        "\"engine\":\"plain copy\"",
        "\"engine\":\"simple copy\"",
        &["performance-table"],
    ),
    change(
        "code of the kernel that boots",
        "examples/kernel/src/seam.rs",
        "Whoever reads it by an old translation shall see that.",
        "Whoever reads it by an old translation will see that.",
        &["seam-frame-source"],
    ),
];

/// A word of the function that says what each edit of an entry does to counts: a migration that restores an entry would drop the
/// reference that it has to take. The model stops at that, so it is a change of its own.
const LEDGER: Change = change(
    "the reference ledger",
    "crates/mm-types/src/ledger.rs",
    "            get: Some(pfn),",
    "            put: Some(pfn),",
    &["ledger", "edits"],
);

/// A sentence of a chapter: it belongs to no block.
const PROSE: Change = change(
    "prose",
    "crates/docs-gen/src/book/glossary.md",
    "The kernel's words, as they are used here.",
    "The kernel's words, as they are spoken here.",
    &[],
);

/// Copies what is needed to build and check, but for what a build made.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, name) = (entry.path(), entry.file_name());
        if name == "target" || name.to_string_lossy().starts_with('.') {
            continue;
        }
        if path.is_dir() {
            copy(&path, &to.join(name));
        } else {
            fs::copy(&path, to.join(name)).unwrap();
        }
    }
}

fn apply(tree: &Path, file: &str, from: &str, to: &str) {
    let path = tree.join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
    assert!(text.contains(from), "{file} has no {from:?}");
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

/// Builds the program of the copy and runs its check.
fn check(tree: &Path) -> (Option<i32>, String) {
    let told = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--package", "docs-gen", "--target-dir"])
        .arg(tree.with_file_name("build"))
        .args(["--", "--check", "--root", "."])
        .current_dir(tree)
        .output()
        .unwrap();
    (told.status.code(), String::from_utf8(told.stderr).unwrap())
}

/// What the check of a copy of the workspace with these changes says. One copy at a time: they are built in the same place.
fn checked_with(changes: &[&Change]) -> (Option<i32>, String) {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let tree: PathBuf = root.join("target/drift/tree");
    let _ = fs::remove_dir_all(&tree);
    copy(&root, &tree);
    for change in changes {
        apply(&tree, change.file, change.from, change.to);
    }
    check(&tree)
}

fn not_named(changes: &[&Change], told: &str) -> Vec<String> {
    changes
        .iter()
        .flat_map(|change| change.blocks.iter().map(move |block| (change.kind, block)))
        .filter(|(_, block)| !told.contains(&format!(": block {block} has drifted")))
        .map(|(kind, block)| format!("{kind}: {block} is not named"))
        .collect()
}

#[test]
#[ignore = "builds a copy of the workspace: ci/drift runs it"]
fn a_word_changed_in_any_kind_of_source_is_drift_and_named() {
    let (code, told) = checked_with(&CHANGES.iter().chain([&PROSE]).collect::<Vec<_>>());
    assert_eq!(code, Some(1), "{told}");
    let missing = not_named(&CHANGES.iter().collect::<Vec<_>>(), &told);
    assert!(missing.is_empty(), "{missing:#?}\n{told}");
    assert!(
        told.contains("docs/glossary.md, line 5: text outside the blocks has drifted"),
        "{told}"
    );
    let kinds = CHANGES.len() + 1;
    let drifts = told.matches(" has drifted").count();
    println!("{kinds} words changed in as many kinds of sources; {drifts} places named");
}

#[test]
#[ignore = "builds a copy of the workspace: ci/drift runs it"]
fn a_ledger_that_stops_the_model_is_named_all_the_same() {
    let (code, told) = checked_with(&[&LEDGER]);
    assert_ne!(code, Some(0), "{told}");
    let missing = not_named(&[&LEDGER], &told);
    assert!(missing.is_empty(), "{missing:#?}\n{told}");
    assert!(told.contains("could not be recorded"), "{told}");
}

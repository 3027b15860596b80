//! Code that the guide for kernel authors shows: copied from the kernel that boots and from those of tests, so that it compiles and runs.

use crate::table::{Table, code};

const SEAM: &str = include_str!("../../../../examples/kernel/src/seam.rs");
const MIGRATOR: &str = include_str!("../../../../examples/kernel/src/migrator.rs");
const TYPES: &str = include_str!("../../../backend-x86_64/tests/x86_64_types/platform.rs");
const TOY: &str = include_str!("../../../migrate-core/tests/kernel_shape.rs");
const SMALL: &str = include_str!("../../../migrate-core/tests/page_map_shape.rs");
const CORE: &str = include_str!("../../../migrate-core/src/seam.rs");

/// Returns an item of the outermost level, with the comments above it: from the line that begins with `head` to its end.
fn item(source: &str, head: &str) -> Result<String, String> {
    let lines: Vec<&str> = source.lines().collect();
    let at = lines.iter().position(|line| line.starts_with(head));
    let at = at.ok_or_else(|| format!("no item begins with {head:?}"))?;
    let before = lines
        .iter()
        .take(at)
        .rev()
        .take_while(|line| line.starts_with("//"))
        .count();
    let length = lines.iter().skip(at).position(|line| *line == "}");
    let length = length.ok_or_else(|| format!("{head:?} has no end"))?;
    let lines = lines.get(at - before..=at + length).unwrap_or_default();
    Ok(lines.join("\n"))
}

fn fenced(source: &str, heads: &[&str]) -> Result<String, String> {
    let items: Result<Vec<_>, _> = heads.iter().map(|head| item(source, head)).collect();
    Ok(format!("```rust\n{}\n```\n", items?.join("\n\n")))
}

pub(super) fn frame_mapping() -> Result<String, String> {
    fenced(SEAM, &["unsafe impl FrameMapping"])
}

pub(super) fn frame_source() -> Result<String, String> {
    fenced(SEAM, &["impl FrameSource"])
}

pub(super) fn shootdown() -> Result<String, String> {
    fenced(SEAM, &["impl Shootdown"])
}

pub(super) fn on_shootdown() -> Result<String, String> {
    fenced(SEAM, &["pub fn on_shootdown", "fn drop_translations"])
}

pub(super) fn sleep() -> Result<String, String> {
    fenced(SEAM, &["impl Sleep"])
}

pub(super) fn new_mm() -> Result<String, String> {
    fenced(SEAM, &["pub fn new_mm"])
}

pub(super) fn migrate() -> Result<String, String> {
    fenced(MIGRATOR, &["pub fn migrate"])
}

pub(super) fn toy_entry() -> Result<String, String> {
    fenced(
        TOY,
        &["impl<const F: usize, const S: usize, const P: usize> mc::Entry for Slot"],
    )
}

pub(super) fn toy_run() -> Result<String, String> {
    fenced(TOY, &["fn migrate(kernel: &Kernel"])
}

pub(super) fn page_map_kernel() -> Result<String, String> {
    fenced(SMALL, &["impl UsesPageMap", "impl Entry", "impl Rmap"])
}

pub(super) fn page_map_first_page() -> Result<String, String> {
    fenced(SMALL, &["fn fault_in", "fn move_one"])
}

pub(super) fn types() -> Result<String, String> {
    fenced(
        TYPES,
        &[
            "pub(crate) fn pfn",
            "pub(crate) fn frame",
            "pub(crate) fn addr",
            "pub(crate) fn page",
        ],
    )
}

/// What Linux calls what the seam's methods do, by their comments.
pub(super) fn traits() -> Result<String, String> {
    let mut rows: Vec<[String; 3]> = Vec::new();
    let (mut of, mut doc) = ("", String::new());
    for line in CORE.lines() {
        let text = line.trim_start();
        if let Some(more) = text.strip_prefix("///") {
            doc.push_str(more);
            continue;
        }
        let name = |keyword| {
            let rest: &str = text.strip_prefix(keyword)?;
            rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()
        };
        let linux = |doc: &str| {
            let (_, rest) = doc.split_once("(Linux: ")?;
            rest.split_once(')').map(|(linux, _)| linux.to_owned())
        };
        if let Some(name) = name("pub trait ") {
            of = name;
            if let Some(linux) = linux(&doc) {
                rows.push([code(of), String::new(), linux]);
            }
        } else if let (Some(name), Some(linux)) = (name("fn "), linux(&doc)) {
            rows.push([code(of), code(name), linux]);
        }
        doc.clear();
    }
    if rows.is_empty() {
        return Err("the seam has no traits".into());
    }
    let mut table = Table::new(["trait", "method", "Linux"]);
    rows.into_iter().for_each(|row| table.row(row));
    Ok(table.to_string())
}

//! Code that the guide for kernel authors shows: copied from the kernel that boots and from those of tests, so that it compiles and runs.

use crate::source::prose;
use crate::table::{Table, code, yes};

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

/// A trait of the seam, or a method of one, with its comment.
struct Said {
    of: String,
    method: Option<String>,
    required: bool,
    doc: String,
}

/// The seam's traits and their methods, in order.
fn seam() -> Vec<Said> {
    let mut said: Vec<Said> = Vec::new();
    let (mut of, mut doc) = (String::new(), String::new());
    for line in CORE.lines() {
        let text = line.trim_start();
        if let Some(more) = text.strip_prefix("///") {
            doc.push_str(more);
            continue;
        }
        let name = |keyword| {
            let rest: &str = text.strip_prefix(keyword)?;
            rest.split(|c: char| !c.is_alphanumeric() && c != '_')
                .next()
                .map(str::to_owned)
        };
        let method = name("fn ").filter(|_| !of.is_empty());
        if let Some(name) = name("pub trait ") {
            of.clone_from(&name);
            let doc = prose(&doc);
            said.push(Said {
                of: name,
                method: None,
                required: false,
                doc,
            });
        } else if line == "}" {
            of.clear();
        } else if method.is_some() {
            let doc = prose(&doc);
            said.push(Said {
                of: of.clone(),
                method,
                required: true,
                doc,
            });
        }
        // A method with a body has a default.
        if let Some(last) = said.last_mut().filter(|last| {
            last.method.is_some() && line.starts_with("    ") && (line.ends_with('{') || line.ends_with("{}"))
        }) {
            last.required &= !line.starts_with("    fn ") && !line.starts_with("    )");
        }
        if !text.starts_with("#[") {
            doc.clear();
        }
    }
    said
}

/// Every trait with every method: what it has to do, whether it has to be written, and what Linux calls it.
pub(super) fn traits() -> Result<String, String> {
    let mut table = Table::new(["trait", "method", "must be written", "what it does", "Linux"]);
    let seam = seam();
    for Said {
        of,
        method,
        required,
        doc,
    } in &seam
    {
        let (sentence, linux) = parted(doc);
        if sentence.is_empty() {
            return Err(format!("{of} {method:?} has no comment"));
        }
        let written = match method {
            None => "",
            Some(_) => yes(*required),
        };
        table.row([
            code(of),
            method.as_ref().map_or_else(String::new, code),
            written.to_owned(),
            sentence,
            linux,
        ]);
    }
    if seam.iter().filter(|said| said.method.is_none()).count() < 5 {
        return Err("the seam has fewer traits than it had".into());
    }
    Ok(table.to_string())
}

/// The first sentence of a comment, and what Linux has for it.
fn parted(doc: &str) -> (String, String) {
    let sentence = doc
        .split_once(". ")
        .map_or(doc, |(first, _)| first)
        .trim_end_matches('.');
    let Some((before, rest)) = sentence.split_once(" (Linux: ") else {
        return (format!("{sentence}."), String::new());
    };
    let (linux, after) = rest.split_once(')').unwrap_or((rest, ""));
    (format!("{before}{after}."), linux.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seam_is_read_whole_and_methods_with_a_body_need_not_be_written() {
        let seam = seam();
        let traits: Vec<_> = seam
            .iter()
            .filter(|said| said.method.is_none())
            .map(|said| said.of.as_str())
            .collect();
        assert_eq!(
            traits,
            ["Frames", "Entry", "Rmap", "Cache", "Lru", "Wait", "Faults", "Backend"]
        );
        let required = |name: &str| {
            let found = seam.iter().find(|said| said.method.as_deref() == Some(name));
            found.unwrap_or_else(|| panic!("no {name}")).required
        };
        assert!(required("pfn") && required("freeze") && required("walk") && required("wait_on"));
        assert!(!required("pins") && !required("vma") && !required("reserve") && !required("drain"));
    }

    #[test]
    fn a_comment_is_parted_into_its_sentence_and_linuxs_name() {
        let parts = |doc| parted(doc);
        assert_eq!(
            parts("Does it (Linux: `do_it`). More."),
            ("Does it.".to_owned(), "`do_it`".to_owned())
        );
        assert_eq!(parts("Does it."), ("Does it.".to_owned(), String::new()));
    }
}

//! The stepper: one HTML page that goes through a trace, event by event, with nothing but itself.
//!
//! Into it go the machine (the crate `stepper`, as WebAssembly), what shows it (`crates/stepper/page/`), the traces of the
//! scenarios, and a guide: for each event, step, rule and refusal what the code's own comments say of it, and on which line.

mod checker;
mod guide;
mod machine;
mod places;
mod traces;

use std::path::{Component, Path, PathBuf};
use std::{fs, io};

pub use checker::{Check, Held, checks};
pub use places::Place;
pub use traces::{Trace, traces};

use crate::Error;

const PAGE: &str = include_str!("../../../stepper/page/page.html");
const STYLE: &str = include_str!("../../../stepper/page/page.css");
/// The scripts, in the order in which one needs the other.
const SCRIPTS: &[&str] = &[
    include_str!("../../../stepper/page/machine.js"),
    include_str!("../../../stepper/page/list.js"),
    include_str!("../../../stepper/page/panels.js"),
    include_str!("../../../stepper/page/app.js"),
];

/// Makes the page as `file`, for the repository at `root`: the links to code lead from one to the other.
///
/// # Errors
/// A source file cannot be read or says something unexpected, the machine cannot be built, or `file` cannot be written.
pub fn write(root: &Path, file: &Path) -> Result<(), Error> {
    let failed = |error: io::Error| Error::File {
        file: file.display().to_string(),
        error,
    };
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let base = way_to(root, file).map_err(failed)?;
    let page = page(root, &base)?;
    fs::write(file, page).map_err(failed)
}

/// Makes the page's text; `base` is where the source tree is, seen from the page.
fn page(root: &Path, base: &str) -> Result<String, Error> {
    let gap = |what| Error::Gap { block: "stepper", what };
    let guide = guide::guide(root, base)?;
    let traces = traces().map_err(gap)?;
    let parts = [
        ("style", STYLE.to_owned()),
        ("guide", embedded(&guide)),
        ("traces", embedded(&traces::json(&traces))),
        ("wasm", machine::base64(root)?),
        ("script", SCRIPTS.concat()),
    ];
    fill(PAGE, &parts).map_err(gap)
}

/// Puts each part in its place, which must be there once.
fn fill(page: &str, parts: &[(&str, String)]) -> Result<String, String> {
    let mut filled = String::new();
    let mut rest = page;
    for (name, text) in parts {
        let place = format!("{{{{{name}}}}}");
        let (before, after) = rest
            .split_once(&place)
            .ok_or_else(|| format!("the page has no {place}"))?;
        filled.extend([before, text.trim_end()]);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

/// JSON that a script element can hold: nothing in it ends the element.
fn embedded(value: &serde_json::Value) -> String {
    value.to_string().replace('<', "\\u003c")
}

/// Returns how one comes from `file` to `root`, as a relative address where one is above the other.
fn way_to(root: &Path, file: &Path) -> io::Result<String> {
    let root = root.canonicalize()?;
    let folder = match file.parent() {
        Some(folder) if folder != Path::new("") => folder.to_path_buf(),
        _ => PathBuf::from("."),
    };
    let folder = folder.canonicalize()?;
    let below = |path: &Path| {
        path.components()
            .filter(|part| matches!(part, Component::Normal(_)))
            .count()
    };
    let common = root
        .ancestors()
        .find(|above| folder.starts_with(above))
        .unwrap_or(Path::new("/"));
    let up = folder.strip_prefix(common).map_or(0, below);
    let down = root.strip_prefix(common).unwrap_or(Path::new(""));
    let mut way = if up == 0 { "./".to_owned() } else { "../".repeat(up) };
    for part in down {
        way.push_str(&part.to_string_lossy());
        way.push('/');
    }
    Ok(way)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_has_its_place_and_no_other() {
        let parts = [("a", "1".to_owned()), ("b", "{{a}}\n".to_owned())];
        assert_eq!(fill("<{{a}}|{{b}}>", &parts), Ok("<1|{{a}}>".to_owned()));
        assert!(fill("<{{b}}|{{c}}>", &parts).is_err());
    }

    #[test]
    fn what_is_embedded_does_not_end_its_element() {
        let text = embedded(&serde_json::json!({ "says": "</script><!--" }));
        assert!(!text.contains('<'), "{text}");
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["says"], "</script><!--");
    }

    #[test]
    fn the_way_to_the_sources_is_relative() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let way = |file: &str| way_to(root, &root.join(file)).unwrap();
        assert_eq!(way("page.html"), "./");
        assert_eq!(way("src/blocks/page.html"), "../../");
        let name = root.file_name().unwrap().to_str().unwrap();
        assert_eq!(way("../page.html"), format!("./{name}/"));
        assert_eq!(way("../stepper/page.html"), format!("../{name}/"));
    }
}

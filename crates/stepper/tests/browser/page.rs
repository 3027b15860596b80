//! The page in a browser: what a person does with it, and what it shows.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::Value;

use crate::chrome::Chrome;

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap()
}

/// A directory of these tests.
pub(crate) fn scratch() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// The page, made once for all tests.
pub(crate) fn file() -> &'static Path {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| {
        let file = scratch().join("stepper.html");
        docs_gen::stepper::write(root(), &file).unwrap_or_else(|error| panic!("{error}"));
        file
    })
}

/// Writes a file to open in the page.
pub(crate) fn trace_file(name: &str, bytes: &[u8]) -> PathBuf {
    let file = scratch().join(name);
    fs::write(&file, bytes).unwrap();
    file
}

pub(crate) struct Page(pub(crate) Chrome);

impl Page {
    /// Opens the page in a browser of its own; `fragment` is what follows its name.
    pub(crate) fn open(fragment: &str) -> Self {
        let mut chrome = Chrome::start();
        chrome.resize(1500, 950);
        let mut page = Self(chrome);
        page.visit(fragment);
        page
    }

    /// Opens the page again.
    pub(crate) fn visit(&mut self, fragment: &str) {
        // Another fragment alone would not load it again.
        self.0.open("about:blank");
        self.0.open(&format!("file://{}{fragment}", file().display()));
        self.wait("document.documentElement.dataset.ready");
        assert_eq!(self.0.text("document.documentElement.dataset.ready"), "yes");
    }

    /// Waits until an expression holds.
    pub(crate) fn wait(&mut self, expression: &str) {
        self.0.eval(&format!(
            "new Promise((done) => {{ const look = () => ({expression}) ? done() : setTimeout(look, 5); look(); }})"
        ));
    }

    /// Opens a file through the file input.
    pub(crate) fn pick(&mut self, file: &Path) {
        let name = file.file_name().unwrap().to_str().unwrap();
        self.0.pick("#file", file);
        self.wait(&format!("document.title.startsWith({name:?})"));
    }

    pub(crate) fn press(&mut self, key: &str) {
        self.0.press(key);
    }

    /// The visible text of what a selector finds; empty where it is hidden.
    pub(crate) fn shown(&mut self, selector: &str) -> String {
        self.0.text(&format!(
            "((it) => it.checkVisibility() ? it.innerText : '')(document.querySelector({selector:?}))"
        ))
    }

    /// The number of the step, as the page says it.
    pub(crate) fn step(&mut self) -> usize {
        let place = self.shown("#place");
        place
            .split(' ')
            .nth(1)
            .and_then(|step| step.parse().ok())
            .unwrap_or_else(|| panic!("{place}"))
    }

    /// How many steps there are, as the page says it.
    pub(crate) fn steps(&mut self) -> usize {
        let place = self.shown("#place");
        place
            .split(' ')
            .nth(3)
            .and_then(|step| step.parse().ok())
            .unwrap_or_else(|| panic!("{place}"))
    }

    /// The line of the event that is marked as the step's.
    pub(crate) fn event(&mut self) -> String {
        self.0
            .text("document.querySelector('#events .row[aria-selected=true]:not([hidden]) .text')?.textContent ?? ''")
    }

    /// The cells of the rows of a panel that are in view: what each says now, and what is struck out.
    pub(crate) fn cells(&mut self, panel: &str) -> Vec<Vec<(String, String)>> {
        let rows = self.0.eval(&format!(
            "[...document.querySelectorAll('.panel.{panel} .list .row:not([hidden])')]
                .sort((a, b) => a.dataset.index - b.dataset.index)
                .map((row) => [...row.children].map((cell) => cell.classList.contains('changed')
                    ? [cell.querySelector('ins').textContent, cell.querySelector('del')?.textContent ?? '']
                    : [cell.textContent, null]))"
        ));
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let rows = rows.as_array().unwrap().iter();
        rows.map(|row| {
            let cells = row.as_array().unwrap().iter();
            cells
                .map(|cell| {
                    (
                        text(&cell[0]).unwrap(),
                        text(&cell[1]).map_or(UNCHANGED.to_owned(), |was| was),
                    )
                })
                .collect()
        })
        .collect()
    }

    /// Stores a picture of the window under target/stepper/, for a person to look at.
    pub(crate) fn picture(&mut self, name: &str) {
        use base64::Engine;
        let picture = self.0.picture();
        let bytes = base64::prelude::BASE64_STANDARD.decode(picture).unwrap();
        assert!(bytes.starts_with(b"\x89PNG"));
        let folder = scratch().parent().unwrap().join("stepper");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("{name}.png")), bytes).unwrap();
    }
}

/// What [`Page::cells`] gives as the former text of a cell that is not marked.
pub(crate) const UNCHANGED: &str = "\u{0}";

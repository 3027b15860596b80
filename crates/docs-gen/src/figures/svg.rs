//! A drawing, written as SVG: one element a line, whole numbers, and colours that follow the reader's.
//!
//! The drawing stands alone as a file and within a page: its colours are classes of its own, light by default and for print,
//! dark where a screen asks for it.

use core::fmt::Write;

/// What all drawings look like. Every class begins with `f-`, so that nothing of the page around has it.
const STYLE: &str = "\
.f-paper{fill:#fff}
.f-ink,.f-mono,.f-head{fill:#1c2128;font:13px system-ui,-apple-system,'Segoe UI',sans-serif}
.f-mono{font:12px ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace}
.f-head{font-weight:600}
.f-soft{fill:#59636e}
.f-bad{fill:#b3261e}
.f-mid{text-anchor:middle}
.f-end{text-anchor:end}
.f-rule{stroke:#d1d9e0;stroke-width:1;fill:none}
.f-edge{stroke:#59636e;stroke-width:1.5;fill:none}
.f-edge.f-back{stroke:#b3261e;stroke-dasharray:5 3}
.f-tip{fill:#59636e}
.f-tip.f-back{fill:#b3261e}
.f-box{fill:#f6f8fa;stroke:#8c959f;stroke-width:1}
.f-old{fill:#dbe9ff;stroke:#2f6fd0;stroke-width:1}
.f-fly{fill:#fff0c7;stroke:#a86a00;stroke-width:1;stroke-dasharray:4 2}
.f-new{fill:#d6f2dc;stroke:#23803c;stroke-width:1}
.f-stay{fill:#ffdfdb;stroke:#b3261e;stroke-width:1}
.f-curve,.f-ring{fill:none;stroke-width:2}
.f-dot{fill:none;stroke-width:9;stroke-linecap:round}
.f-one{stroke:#2f6fd0}
.f-two{stroke:#23803c}
.f-three{stroke:#a86a00}
.f-four{stroke:#8b3fb8}
.f-five{stroke:#b3261e}
.f-six{stroke:#59636e}
@media screen and (prefers-color-scheme:dark){
.f-paper{fill:#12161c}
.f-ink,.f-mono,.f-head{fill:#e6edf3}
.f-soft{fill:#9aa5b1}
.f-bad{fill:#ff8f85}
.f-rule{stroke:#30363d}
.f-edge{stroke:#9aa5b1}
.f-edge.f-back{stroke:#ff8f85}
.f-tip{fill:#9aa5b1}
.f-tip.f-back{fill:#ff8f85}
.f-box{fill:#1d232b;stroke:#6e7681}
.f-old{fill:#12305c;stroke:#6ea8fe}
.f-fly{fill:#4a3500;stroke:#e3b341}
.f-new{fill:#0f3d1e;stroke:#56d364}
.f-stay{fill:#5a1b17;stroke:#ff8f85}
.f-one{stroke:#6ea8fe}
.f-two{stroke:#56d364}
.f-three{stroke:#e3b341}
.f-four{stroke:#d2a8ff}
.f-five{stroke:#ff8f85}
.f-six{stroke:#9aa5b1}
}
";

/// The width that a character of the monospaced text takes at most, in hundredths.
const MONO: usize = 750;

/// Returns how wide a monospaced text is at most.
pub(super) fn mono_width(text: &str) -> i32 {
    let hundredths = text.chars().count().saturating_mul(MONO);
    i32::try_from(hundredths.div_ceil(100)).unwrap_or(i32::MAX)
}

/// A drawing that is being made.
#[derive(Debug)]
pub(super) struct Svg {
    width: i32,
    height: i32,
    title: String,
    says: String,
    body: String,
}

impl Svg {
    /// Begins a drawing: how large it is, what it is called, and what it says to somebody who cannot see it.
    pub(super) fn new(width: i32, height: i32, title: &str, says: &str) -> Self {
        Self {
            width,
            height,
            title: escaped(title),
            says: escaped(says),
            body: String::new(),
        }
    }

    fn element(&mut self, text: core::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = writeln!(self.body, "{text}");
    }

    /// Writes a line of text; `class` says how, without the `f-`.
    pub(super) fn text(&mut self, x: i32, y: i32, class: &str, text: &str) {
        self.element(format_args!(
            "<text x=\"{x}\" y=\"{y}\" class=\"{}\">{}</text>",
            classes(class),
            escaped(text)
        ));
    }

    /// Draws a box.
    pub(super) fn rect(&mut self, [x, y, width, height]: [i32; 4], class: &str) {
        let class = classes(class);
        self.element(format_args!(
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"4\" class=\"{class}\"/>"
        ));
    }

    /// Draws a straight line.
    pub(super) fn line(&mut self, [x1, y1, x2, y2]: [i32; 4], class: &str) {
        let class = classes(class);
        self.element(format_args!(
            "<line x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\" class=\"{class}\"/>"
        ));
    }

    /// Draws a path, given as SVG has it.
    pub(super) fn path(&mut self, path: &str, class: &str) {
        let class = classes(class);
        self.element(format_args!("<path d=\"{path}\" class=\"{class}\"/>"));
    }

    /// Returns the file's text.
    pub(super) fn finish(self) -> String {
        let Self {
            width,
            height,
            title,
            says,
            body,
        } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" role=\"img\">\n<title>{title}</title>\n<desc>{says}</desc>\n\
             <style>\n{STYLE}</style>\n<rect width=\"{width}\" height=\"{height}\" class=\"f-paper\"/>\n{body}</svg>\n"
        )
    }
}

/// `mono soft` is the classes `f-mono f-soft`.
fn classes(words: &str) -> String {
    let classes: Vec<String> = words.split(' ').map(|word| format!("f-{word}")).collect();
    classes.join(" ")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_become_markup_and_every_class_is_a_drawings_own() {
        let mut svg = Svg::new(10, 20, "a & b", "<c>");
        svg.text(1, 2, "mono soft", "x < y");
        let text = svg.finish();
        assert!(text.contains("<title>a &amp; b</title>\n<desc>&lt;c&gt;</desc>"));
        assert!(text.contains("class=\"f-mono f-soft\">x &lt; y</text>"));
        assert!(
            STYLE
                .lines()
                .all(|line| line.starts_with(".f-") || line.starts_with('@') || line == "}")
        );
    }
}

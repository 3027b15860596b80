//! The book as pages: the chapters' markdown rendered to HTML, with navigation, and nothing that comes from a network.

mod code;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use pulldown_cmark::{CodeBlockKind, Event, HeadingLevel, Options, Parser, Tag, TagEnd, html};

use crate::figures::DIRECTORY;
use crate::{Book, CHAPTERS, Error};
use code::{code, escaped};

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("style.css");

/// The pages and what they need, by their names in one directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    files: Vec<(String, String)>,
}

/// A chapter as HTML, and the headings in it: their anchors and their texts.
struct Rendered {
    text: String,
    sections: Vec<(String, String)>,
}

impl Site {
    /// Renders every chapter of `book`.
    #[must_use]
    pub fn of(book: &Book) -> Self {
        let texts: BTreeMap<&str, &str> = book.files().collect();
        let figure = |name: &str| texts.get(format!("docs/{DIRECTORY}/{name}").as_str()).copied();
        let mut files = vec![("style.css".to_owned(), STYLE.to_owned())];
        for (n, chapter) in CHAPTERS.iter().enumerate() {
            let markdown = texts.get(chapter.file).copied().unwrap_or_default();
            let rendered = render(markdown, &figure);
            let page = PAGE
                .replace("{title}", &escaped(&title(n)))
                .replace("{contents}", &contents(n, &rendered.sections))
                .replace("{on}", &on(n))
                .replace("{text}", &rendered.text);
            files.push((page_of(chapter.file), page));
        }
        for (file, text) in book.files() {
            if let Some(name) = file.strip_prefix("docs/").filter(|name| name.starts_with(DIRECTORY)) {
                files.push((name.to_owned(), text.to_owned()));
            }
        }
        Self { files }
    }

    /// Returns the files and their texts.
    pub fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(file, text)| (file.as_str(), text.as_str()))
    }

    /// Writes all files into `directory`, which is made where there is none.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(&self, directory: &Path) -> Result<(), Error> {
        for (file, text) in &self.files {
            let path = directory.join(file);
            let made = path.parent().map_or(Ok(()), fs::create_dir_all);
            made.and_then(|()| fs::write(&path, text))
                .map_err(|error| Error::File {
                    file: path.display().to_string(),
                    error,
                })?;
        }
        Ok(())
    }
}

/// The page that a chapter's file becomes.
fn page_of(file: &str) -> String {
    match file.trim_start_matches("docs/").trim_end_matches(".md") {
        "README" => "index.html".to_owned(),
        name => format!("{name}.html"),
    }
}

fn title(n: usize) -> String {
    let of = |n: usize| CHAPTERS.get(n).map_or("", |chapter| chapter.title());
    if n == 0 {
        of(0).to_owned()
    } else {
        format!("{} – {}", of(n), of(0))
    }
}

/// The contents beside the text; of the chapter that is shown, its sections too.
fn contents(here: usize, sections: &[(String, String)]) -> String {
    let link = |n: usize| {
        let Some(chapter) = CHAPTERS.get(n) else {
            return String::new();
        };
        let current = if n == here { " aria-current=\"page\"" } else { "" };
        let (page, title) = (page_of(chapter.file), escaped(chapter.title()));
        format!("<a href=\"{page}\"{current}>{title}</a>")
    };
    let mut list = format!("<p class=\"front\">{}</p>\n<ol>\n", link(0));
    for n in 1..CHAPTERS.len() {
        list.push_str(&format!("<li>{}", link(n)));
        if n == here && !sections.is_empty() {
            list.push_str("\n<ul>\n");
            for (anchor, text) in sections {
                list.push_str(&format!("<li><a href=\"#{anchor}\">{}</a></li>\n", escaped(text)));
            }
            list.push_str("</ul>\n");
        }
        list.push_str("</li>\n");
    }
    list.push_str("</ol>\n");
    list
}

/// The way back and the way on, at the end of a chapter.
fn on(n: usize) -> String {
    let link = |n: Option<usize>, rel: &str, before: &str, after: &str| {
        let chapter = n.and_then(|n| CHAPTERS.get(n));
        chapter.map_or_else(
            || "<span></span>".to_owned(),
            |chapter| {
                let (page, title) = (page_of(chapter.file), escaped(chapter.title()));
                format!("<a rel=\"{rel}\" href=\"{page}\">{before}{title}{after}</a>")
            },
        )
    };
    let (back, next) = (
        link(n.checked_sub(1), "prev", "← ", ""),
        link(Some(n + 1), "next", "", " →"),
    );
    format!("<nav class=\"on\" aria-label=\"On\">{back}{next}</nav>\n")
}

/// The words of a heading as an anchor.
fn anchor(text: &str) -> String {
    let words = text.to_lowercase().replace(|c: char| !c.is_alphanumeric(), " ");
    words.split_whitespace().collect::<Vec<_>>().join("-")
}

/// Renders a chapter.
fn render<'f>(markdown: &str, figure: &dyn Fn(&str) -> Option<&'f str>) -> Rendered {
    // The way on from a chapter is its page's own.
    let body = markdown.rsplit_once("\nNext: [").map_or(markdown, |(body, _)| body);
    let body = body
        .rsplit_once("\nBack to the front: [")
        .map_or(body, |(body, _)| body);
    let events: Vec<Event<'_>> = Parser::new_ext(body, Options::ENABLE_TABLES).collect();
    let mut sections = Vec::new();
    let mut made: Vec<Event<'_>> = Vec::new();
    let mut rest = events.as_slice();
    while let Some((event, after)) = rest.split_first() {
        rest = after;
        match event {
            Event::Start(Tag::Paragraph) if matches!(after.first(), Some(Event::Start(Tag::Image { .. }))) => {
                let (html, after) = drawing(after, figure);
                made.push(raw(html));
                rest = after;
            }
            Event::Start(Tag::Heading { level, .. }) if *level != HeadingLevel::H1 => {
                let text = text_until(after, |end| matches!(end, TagEnd::Heading(_)));
                let anchor = anchor(&text);
                made.push(raw(format!(
                    "<{level} id=\"{anchor}\"><a class=\"self\" href=\"#{anchor}\">"
                )));
                if *level == HeadingLevel::H2 {
                    sections.push((anchor, text));
                }
            }
            Event::End(TagEnd::Heading(level)) if *level != HeadingLevel::H1 => {
                made.push(raw(format!("</a></{level}>\n")));
            }
            Event::Start(Tag::CodeBlock(kind)) => {
                let language = match kind {
                    CodeBlockKind::Fenced(language) => language,
                    CodeBlockKind::Indented => "",
                };
                let text = text_until(after, |end| matches!(end, TagEnd::CodeBlock));
                made.push(raw(format!("<pre><code>{}</code></pre>\n", code(language, &text))));
                rest = past(after, |end| matches!(end, TagEnd::CodeBlock));
            }
            Event::Start(Tag::Table(columns)) => {
                made.push(raw("<div class=\"wide\">".to_owned()));
                made.push(Event::Start(Tag::Table(columns.clone())));
            }
            Event::End(TagEnd::Table) => {
                made.push(event.clone());
                made.push(raw("</div>\n".to_owned()));
            }
            Event::Start(Tag::Link { dest_url, .. }) => {
                made.push(raw(format!("<a href=\"{}\">", escaped(&target(dest_url)))));
            }
            Event::End(TagEnd::Link) => made.push(raw("</a>".to_owned())),
            // The marks of the blocks.
            Event::Html(text) | Event::InlineHtml(text) if text.trim_start().starts_with("<!--") => {}
            _ => made.push(event.clone()),
        }
    }
    let mut text = String::new();
    html::push_html(&mut text, made.into_iter());
    Rendered { text, sections }
}

fn raw(html: String) -> Event<'static> {
    Event::InlineHtml(html.into())
}

/// A link from chapter to chapter is one from page to page.
fn target(link: &str) -> String {
    let (file, place) = link
        .split_once('#')
        .map_or((link, None), |(file, place)| (file, Some(place)));
    let page = if file.ends_with(".md") && !file.contains('/') {
        page_of(file)
    } else {
        file.to_owned()
    };
    place.map_or_else(|| page.clone(), |place| format!("{page}#{place}"))
}

/// A figure and its caption: the drawing is part of the page, so that its words are found and its colours are the reader's.
fn drawing<'e, 'm, 'f>(events: &'e [Event<'m>], figure: &dyn Fn(&str) -> Option<&'f str>) -> (String, &'e [Event<'m>]) {
    let Some(Event::Start(Tag::Image { dest_url, .. })) = events.first() else {
        return (String::new(), events);
    };
    let caption = escaped(&text_until(events, |end| matches!(end, TagEnd::Image)));
    let name = dest_url.trim_start_matches(DIRECTORY).trim_start_matches('/');
    let drawing = figure(name)
        .and_then(|text| text.split_once('\n'))
        .map_or("", |(_, svg)| svg);
    let width = drawing
        .split("width=\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .unwrap_or("0");
    let html = format!(
        "<figure style=\"--natural:{width}px\">\n<div class=\"wide\" tabindex=\"0\">\n{drawing}</div>\n\
         <figcaption>{caption} (<a href=\"{dest_url}\">the drawing alone</a>)</figcaption>\n</figure>\n"
    );
    (html, past(events, |end| matches!(end, TagEnd::Paragraph)))
}

/// The text up to where something ends.
fn text_until(events: &[Event<'_>], end: fn(&TagEnd) -> bool) -> String {
    let inside = events
        .iter()
        .take_while(|event| !matches!(event, Event::End(tag) if end(tag)));
    inside
        .filter_map(|event| match event {
            Event::Text(text) | Event::Code(text) => Some(text.as_ref()),
            Event::SoftBreak => Some(" "),
            _ => None,
        })
        .collect()
}

/// What comes behind where something ends.
fn past<'e, 'm>(events: &'e [Event<'m>], end: fn(&TagEnd) -> bool) -> &'e [Event<'m>] {
    let at = events
        .iter()
        .position(|event| matches!(event, Event::End(tag) if end(tag)));
    at.and_then(|at| events.get(at + 1..)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(markdown: &str) -> String {
        let svg = |name: &str| (name == "x.svg").then_some("<!-- made -->\n<svg><text>7</text></svg>\n");
        render(markdown, &svg).text
    }

    #[test]
    fn links_between_chapters_lead_to_pages_and_others_stay() {
        let made = text("[a](README.md) [b](entry.md#how) [c](https://example.org/x.md)\n");
        assert!(
            made.contains("href=\"index.html\"") && made.contains("href=\"entry.html#how\""),
            "{made}"
        );
        assert!(made.contains("href=\"https://example.org/x.md\""), "{made}");
    }

    #[test]
    fn a_figure_is_part_of_the_page_with_its_caption() {
        let made = text("before\n\n![A *fine* one](figures/x.svg)\n\nafter\n");
        assert!(
            made.contains("<svg><text>7</text></svg>") && made.contains("<figcaption>A fine one"),
            "{made}"
        );
        assert!(!made.contains("<p><figure") && made.contains("<p>after</p>"), "{made}");
    }

    #[test]
    fn sections_have_anchors_and_marks_of_blocks_are_gone() {
        let made = render(
            "# Head\n\n## How `it` is *done*\n\n<!-- docs-gen: x -->\n\n| a |\n|---|\n| 1 |\n\n<!-- end -->\n\nNext: [b](b.md)\n",
            &|_| None,
        );
        assert_eq!(
            made.sections,
            [("how-it-is-done".to_owned(), "How it is done".to_owned())]
        );
        assert!(made.text.contains("<h2 id=\"how-it-is-done\">") && made.text.contains("<div class=\"wide\"><table>"));
        assert!(
            !made.text.contains("docs-gen") && !made.text.contains("Next"),
            "{}",
            made.text
        );
    }
}

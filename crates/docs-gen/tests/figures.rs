//! A figure can be read: it is well formed, nothing lies outside of it, and no two texts lie on each other.

use std::collections::BTreeSet;

use docs_gen::blocks::render;
use roxmltree::{Document, Node};

/// How wide a character is, at least, in hundredths of a pixel: what overlaps by this measure does so in every font.
const NARROWEST: usize = 620;

fn figures() -> Vec<(&'static str, String)> {
    let blocks = render().unwrap();
    blocks.into_iter().filter(|(name, _)| name.ends_with(".svg")).collect()
}

fn number(node: Node<'_, '_>, name: &str) -> i32 {
    let value = node.attribute(name).unwrap_or_else(|| panic!("{node:?} has no {name}"));
    value.parse().unwrap_or_else(|_| panic!("{name}={value} in {node:?}"))
}

/// Where a text is: from left to right, and its line.
struct Placed<'d> {
    left: i32,
    right: i32,
    line: i32,
    text: &'d str,
}

fn placed<'d>(node: Node<'d, 'd>) -> Placed<'d> {
    let text = node.text().unwrap_or("");
    let width = i32::try_from(text.chars().count() * NARROWEST / 100).unwrap();
    let x = number(node, "x");
    let class = node.attribute("class").unwrap_or("");
    let left = match class {
        _ if class.contains("f-mid") => x - width / 2,
        _ if class.contains("f-end") => x - width,
        _ => x,
    };
    Placed {
        left,
        right: left + width,
        line: number(node, "y"),
        text,
    }
}

#[test]
fn every_figure_is_well_formed_and_says_what_it_shows() {
    let figures = figures();
    assert!(figures.len() >= 7, "{}", figures.len());
    for (name, text) in &figures {
        let document = Document::parse(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let root = document.root_element();
        for child in ["title", "desc"] {
            let said = root
                .children()
                .find(|node| node.has_tag_name(child))
                .and_then(|node| node.text());
            assert!(said.is_some_and(|said| said.len() > 20), "{name}: {child}");
        }
        assert!(
            !text.contains("href") && !text.contains("url(") && !text.contains("<script"),
            "{name}"
        );
    }
}

#[test]
fn nothing_lies_outside_and_no_text_on_another() {
    for (name, text) in figures() {
        let document = Document::parse(&text).unwrap();
        let root = document.root_element();
        let (width, height) = (number(root, "width"), number(root, "height"));
        let of = |tag| {
            root.children()
                .filter(move |node: &Node<'_, '_>| node.has_tag_name(tag))
        };
        for node in of("rect") {
            let x = node.attribute("x").map_or(0, |_| number(node, "x"));
            let y = node.attribute("y").map_or(0, |_| number(node, "y"));
            let (right, bottom) = (x + number(node, "width"), y + number(node, "height"));
            assert!(
                x >= 0 && y >= 0 && right <= width && bottom <= height,
                "{name}: {node:?}"
            );
        }
        let texts: Vec<_> = of("text").map(placed).collect();
        assert!(texts.len() > 10, "{name}");
        for (n, one) in texts.iter().enumerate() {
            assert!(one.left >= 0 && one.right <= width, "{name}: {} is cut off", one.text);
            assert!(one.line >= 10 && one.line <= height, "{name}: {} is cut off", one.text);
            for other in texts.iter().skip(n + 1) {
                let apart = one.right <= other.left || other.right <= one.left || one.line.abs_diff(other.line) >= 12;
                assert!(apart, "{name}: {} and {} lie on each other", one.text, other.text);
            }
        }
    }
}

#[test]
fn every_class_has_a_look_by_day_and_every_colour_one_by_night() {
    for (name, text) in figures() {
        let (style, body) = text.split_once("</style>").unwrap();
        let (day, night) = style
            .split_once("@media screen and (prefers-color-scheme:dark)")
            .unwrap();
        let classes: BTreeSet<_> = body
            .split("class=\"")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
            .flat_map(|classes| classes.split(' '))
            .collect();
        for class in classes {
            assert!(day.contains(&format!(".{class}")), "{name}: {class}");
        }
        let coloured = |style: &str| -> BTreeSet<String> {
            let rules = style
                .lines()
                .filter(|rule| rule.contains("fill:#") || rule.contains("stroke:#"));
            rules
                .filter_map(|rule| rule.split('{').next())
                .flat_map(|classes| classes.split(','))
                .map(str::to_owned)
                .collect()
        };
        assert_eq!(coloured(day), coloured(night), "{name}");
    }
}

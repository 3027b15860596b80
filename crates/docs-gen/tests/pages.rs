//! The pages can be opened from a disk: they are well formed, need no network, and every link leads somewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use docs_gen::blocks::render;
use docs_gen::{Book, CHAPTERS, Site};
use roxmltree::{Document, ParsingOptions};

fn site() -> Site {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR"));
    Site::of(&Book::make(root, &render().unwrap()).unwrap())
}

fn parsed<'p>(file: &str, page: &'p str) -> Document<'p> {
    let options = ParsingOptions {
        allow_dtd: true,
        ..ParsingOptions::default()
    };
    Document::parse_with_options(page, options).unwrap_or_else(|error| panic!("{file}: {error}"))
}

#[test]
fn each_chapter_is_a_page_that_leads_to_all_others() {
    let site = site();
    let pages: BTreeMap<_, _> = site.files().filter(|(file, _)| file.ends_with(".html")).collect();
    assert_eq!(pages.len(), CHAPTERS.len());
    for (file, page) in &pages {
        let document = parsed(file, page);
        let of = |tag| document.descendants().filter(move |node| node.has_tag_name(tag));
        assert_eq!(of("h1").count(), 1, "{file}");
        let side = of("nav").find(|nav| nav.attribute("class") == Some("side")).unwrap();
        let links: BTreeSet<_> = side.descendants().filter_map(|node| node.attribute("href")).collect();
        assert!(pages.keys().all(|page| links.contains(page)), "{file}: {links:?}");
        let current = side
            .descendants()
            .filter(|node| node.attribute("aria-current") == Some("page"));
        assert_eq!(
            current.filter_map(|node| node.attribute("href")).collect::<Vec<_>>(),
            [*file]
        );
        assert!(
            !page.contains("<!-- docs-gen") && !page.contains("{{"),
            "{file} has marks of blocks"
        );
    }
}

#[test]
fn every_link_leads_to_a_file_and_a_place_in_it() {
    let site = site();
    let files: BTreeMap<_, _> = site.files().collect();
    let pages = files.iter().filter(|(file, _)| file.ends_with(".html"));
    let anchors: BTreeMap<&str, BTreeSet<String>> = pages
        .map(|(file, page)| {
            let document = parsed(file, page);
            let ids: Vec<_> = document
                .descendants()
                .filter_map(|node| node.attribute("id").map(str::to_owned))
                .collect();
            let set: BTreeSet<_> = ids.iter().cloned().collect();
            assert_eq!(set.len(), ids.len(), "{file}: an anchor twice");
            (*file, set)
        })
        .collect();
    let mut followed = 0;
    for (file, page) in files.iter().filter(|(file, _)| file.ends_with(".html")) {
        let document = parsed(file, page);
        for link in document.descendants().filter_map(|node| node.attribute("href")) {
            if link.starts_with("https://") {
                // Somebody may follow it; nothing does by itself.
                continue;
            }
            let (target, place) = link
                .split_once('#')
                .map_or((link, None), |(target, place)| (target, Some(place)));
            let target = if target.is_empty() { file } else { target };
            assert!(files.contains_key(target), "{file} links to {link}");
            assert!(
                place.is_none_or(|place| anchors[target].contains(place)),
                "{file} links to {link}"
            );
            followed += 1;
        }
    }
    assert!(
        followed > CHAPTERS.len() * CHAPTERS.len(),
        "{followed} links were followed"
    );
}

#[test]
fn nothing_comes_from_a_network_and_nothing_runs() {
    for (file, text) in site().files() {
        for from_elsewhere in [
            "<script",
            "src=",
            "url(",
            "@import",
            "<iframe",
            "<object",
            " onload",
            "<img",
            "rel=\"stylesheet\" href=\"http",
        ] {
            assert!(!text.contains(from_elsewhere), "{file} has {from_elsewhere}");
        }
    }
}

#[test]
fn every_figure_is_part_of_a_page_and_a_file_beside_it() {
    let site = site();
    let files: BTreeMap<_, _> = site.files().collect();
    for (name, drawing) in render().unwrap().iter().filter(|(name, _)| name.ends_with(".svg")) {
        let shown = files
            .iter()
            .filter(|(file, text)| file.ends_with(".html") && text.contains(drawing.as_str()));
        assert!(shown.count() > 0, "{name} is on no page");
        assert!(files[format!("figures/{name}").as_str()].contains(drawing.as_str()));
    }
}

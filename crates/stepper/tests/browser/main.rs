//! The stepper in a real headless Chromium: keys, slider, search, files, what is wrong with a trace, and how long a step takes.
//!
//! `ci/stepper` runs it, and installs what it needs. Pictures of the page are left in `target/stepper/`, for a person to look at.

mod chrome;
mod looks;
mod page;
mod speed;
mod wrong;

use serde_json::Value;
use stepper::{Panel, Session};

use page::{Page, UNCHANGED, trace_file};

const MOVES: &str = "#trace=one_anonymous_page.modern";

/// The text of a trace that comes with the page.
fn text_of(name: &str) -> String {
    let traces = docs_gen::stepper::traces().unwrap();
    traces.into_iter().find(|trace| trace.name == name).unwrap().text
}

#[test]
fn the_page_opens_from_disk_and_asks_for_nothing_else() {
    let mut page = Page::open("");
    assert_eq!(page.step(), 0);
    assert!(page.shown("#events-title").contains("fault_in_the_middle.modern"));
    assert!(page.shown("#now-body").contains("Before the first event"));
    page.press("End");
    let asked: Vec<_> = page
        .0
        .heard("Network.requestWillBeSent")
        .map(|asked| asked["request"]["url"].clone())
        .collect();
    assert!(
        asked
            .iter()
            .all(|url| url.as_str().unwrap().starts_with("file:") && url.as_str().unwrap().contains("stepper.html")),
        "{asked:?}"
    );
    assert!(!asked.is_empty());
    let said: Vec<_> = page
        .0
        .heard("Log.entryAdded")
        .chain(page.0.heard("Runtime.exceptionThrown"))
        .collect();
    assert!(said.is_empty(), "{said:#?}");
    assert!(
        page.shown("#now-body").contains("(Linux: tracepoint mm_migrate_pages)"),
        "code without its backticks"
    );
    let elsewhere = "document.querySelectorAll('script[src], link, img, iframe, object').length";
    assert_eq!(page.0.eval(elsewhere), 0);
}

#[test]
fn keys_go_forward_and_back_and_to_the_ends() {
    let mut page = Page::open(MOVES);
    let steps = page.steps();
    assert_eq!(steps, text_of("one_anonymous_page.modern").lines().count() - 1);
    for (key, step) in [
        ("ArrowRight", 1),
        ("ArrowRight", 2),
        ("ArrowLeft", 1),
        ("ArrowLeft", 0),
        ("ArrowLeft", 0),
        ("PageDown", 10),
        ("ArrowUp", 9),
        ("ArrowDown", 10),
        ("End", steps),
        ("ArrowRight", steps),
        ("PageUp", steps - 10),
        ("Home", 0),
    ] {
        page.press(key);
        assert_eq!(page.step(), step, "after {key}");
    }
    // The same wherever the focus is: on the slider, on a button, on the list.
    for focus in ["#slider", "#forward", "#events"] {
        page.0.eval(&format!("document.querySelector('{focus}').focus()"));
        page.press("ArrowRight");
        page.press("PageDown");
        assert_eq!(page.step(), 11, "from {focus}");
        assert!(
            page.event()
                .starts_with(text_of("one_anonymous_page.modern").lines().nth(11).unwrap())
        );
        page.press("Home");
    }
    for (button, step) in [
        ("#last", steps),
        ("#back", steps - 1),
        ("#forward", steps),
        ("#first", 0),
    ] {
        page.0.click(button);
        assert_eq!(page.step(), step, "{button}");
    }
}

#[test]
fn every_control_is_reached_with_the_tab_key() {
    let mut page = Page::open(MOVES);
    page.press("ArrowRight");
    page.press("ArrowRight");
    let mut reached = Vec::new();
    for _ in 0..60 {
        page.press("Tab");
        let id = page
            .0
            .text("document.activeElement.id || document.activeElement.tagName");
        if reached.contains(&id) && id == "samples" {
            break;
        }
        reached.push(id);
    }
    for id in [
        "samples",
        "open",
        "query",
        "first",
        "back",
        "forward",
        "last",
        "slider",
        "permalink",
        "events",
    ] {
        assert!(
            reached.iter().any(|reached| reached == id),
            "{id} is not among {reached:?}"
        );
    }
    let unnamed = "[...document.querySelectorAll('button, input, select, [role=listbox], [role=table]')].filter((it) =>
        !it.innerText?.trim() && !it.ariaLabel && !it.getAttribute('aria-labelledby') && !it.labels?.length).map((it) => it.outerHTML)";
    assert_eq!(page.0.eval(unnamed), serde_json::json!([]));
}

#[test]
fn the_slider_goes_anywhere() {
    let mut page = Page::open(MOVES);
    let steps = page.steps();
    let slider = page.0.eval("(({ x, y, width, height }) => [x, y + height / 2, width])(document.querySelector('#slider').getBoundingClientRect())");
    let (x, y, width) = (
        slider[0].as_f64().unwrap(),
        slider[1].as_f64().unwrap(),
        slider[2].as_f64().unwrap(),
    );
    page.0.drag(&[(x + width / 2.0, y)]);
    assert!(page.step().abs_diff(steps / 2) <= 1, "{} of {steps}", page.step());
    page.0
        .drag(&[(x + width / 2.0, y), (x + width * 0.8, y), (x + width + 40.0, y)]);
    assert_eq!(page.step(), steps);
    let said = page
        .0
        .text("document.querySelector('#slider').getAttribute('aria-valuetext')");
    assert_eq!(
        said,
        format!(
            "step {steps}: {}",
            text_of("one_anonymous_page.modern").lines().last().unwrap()
        )
    );
}

#[test]
fn a_search_finds_a_page_an_event_and_a_site() {
    let mut page = Page::open("#trace=batch_of_eight.modern");
    let text = text_of("batch_of_eight.modern");
    let steps_with = |is: &dyn Fn(&str) -> bool| -> Vec<usize> {
        text.lines()
            .enumerate()
            .skip(1)
            .filter(|(_, line)| is(line))
            .map(|(n, _)| n)
            .collect()
    };
    for (query, expected) in [
        (
            "p3",
            steps_with(&|line| line.split([' ', '=']).any(|word| word == "p3")),
        ),
        (
            "set_migration_pte",
            steps_with(&|line| line.starts_with("set_migration_pte ")),
        ),
        (
            "copy p2",
            steps_with(&|line| line.contains("copy") && line.contains(" p2 ")),
        ),
        (
            "f1",
            steps_with(&|line| line.split([' ', '=']).any(|word| word == "f1")),
        ),
    ] {
        assert!(!expected.is_empty(), "{query}");
        page.press("Home");
        page.press("/");
        page.0.write(query);
        assert_eq!(page.shown("#hits"), format!("{} found", expected.len()), "{query}");
        page.press("Escape");
        for step in &expected {
            page.press("n");
            assert_eq!(page.step(), *step, "{query}");
        }
        assert_eq!(page.shown("#hits"), format!("{0} of {0} found", expected.len()));
        page.press("n");
        assert_eq!(page.step(), expected[0], "from the last on to the first");
        page.press("N");
        assert_eq!(page.step(), *expected.last().unwrap());
        page.0.eval("document.querySelector('#query').value = ''; document.querySelector('#query').dispatchEvent(new Event('input'))");
    }
    page.press("/");
    page.0.write("p99");
    assert_eq!(page.shown("#hits"), "nothing found");
    page.press("Escape");
    let before = page.step();
    page.press("n");
    assert_eq!(page.step(), before);
}

#[test]
fn enter_in_the_search_goes_to_the_next_hit() {
    let mut page = Page::open(MOVES);
    page.press("/");
    page.0.write("flush");
    let enter = serde_json::json!({ "type": "keyDown", "key": "Enter", "code": "Enter", "text": "\r", "windowsVirtualKeyCode": 13 });
    page.0.call("Input.dispatchKeyEvent", enter);
    assert!(page.event().starts_with("flush "));
    assert_eq!(
        page.0
            .eval("document.querySelectorAll('#events .row.hit:not([hidden])').length > 0"),
        true
    );
}

#[test]
fn a_trace_is_picked_from_the_list_from_a_file_or_dropped() {
    let mut page = Page::open("");
    page.0.eval("document.querySelector('#samples').value = 'pinned.linux'; document.querySelector('#samples').dispatchEvent(new Event('change'))");
    assert!(page.shown("#events-title").contains("pinned.linux"));
    assert!(page.shown("#about").contains("pinned for direct access"));

    let text = text_of("three_spaces.modern");
    let file = trace_file("picked.trace", text.as_bytes());
    page.pick(&file);
    assert_eq!(page.steps(), text.lines().count() - 1);
    assert_eq!(page.shown("#problem"), "");

    page.0.eval(
        "(() => { const drop = new DataTransfer();
            drop.items.add(new File(['trace v1\\nisolate p0 f0\\nputback p0 f0\\n'], 'dropped.trace'));
            for (const name of ['dragover', 'drop'])
                document.body.dispatchEvent(new DragEvent(name, { dataTransfer: drop, bubbles: true, cancelable: true })); })()",
    );
    page.wait("document.title.startsWith('dropped.trace')");
    page.press("End");
    assert_eq!((page.step(), page.event()), (2, "putback p0 f0".to_owned()));

    // The same file again: it may have changed.
    let file = trace_file("picked.trace", b"trace v1\nisolate p0 f0\n");
    page.pick(&file);
    assert_eq!(page.steps(), 1);
}

#[test]
fn a_fragment_leads_to_a_step_and_follows_it() {
    let mut page = Page::open("#step=12");
    assert_eq!(page.step(), 12);
    page.visit("#trace=pinned.modern&step=7");
    assert!(page.event().starts_with("retry p0 f0 reason=pinned"));
    page.press("ArrowRight");
    page.wait("location.hash === '#trace=pinned.modern&step=8'");
    assert!(
        page.0
            .text("document.querySelector('#permalink').href")
            .ends_with("#trace=pinned.modern&step=8")
    );
    page.0.eval("location.hash = '#trace=one_anonymous_page.linux&step=3'");
    page.wait("document.title.startsWith('one_anonymous_page.linux')");
    assert_eq!(page.step(), 3);
    page.visit("#step=999999");
    assert_eq!(page.step(), page.steps(), "beyond the end is the end");
    page.visit("#trace=no_such_trace&step=x");
    assert_eq!(page.step(), 0);
}

#[test]
fn the_panels_show_what_the_replay_says_and_mark_what_changed() {
    for name in ["fault_in_the_middle.modern", "fork_in_the_middle.linux"] {
        let text = text_of(name);
        let mut session = Session::open(text.as_bytes());
        let mut page = Page::open(&format!("#trace={name}"));
        let mut marked = 0;
        // There and back: a row that was drawn for another step must not keep anything of it.
        let there = 0..=session.steps();
        for step in there.clone().chain(there.rev()) {
            page.0.eval(&format!("location.hash = '#trace={name}&step={step}'"));
            page.wait(&format!(
                "document.querySelector('#place').textContent.startsWith('step {step} ')"
            ));
            let state = session.go(step);
            for (n, panel) in Panel::ALL.iter().enumerate() {
                let rows = session.rows(*panel, 0, usize::MAX);
                let expected: Vec<Vec<(String, String)>> = rows.as_array().unwrap().iter().map(cells).collect();
                let shown = page.cells(&panel.title().to_lowercase());
                assert_eq!(shown, expected, "{panel:?} at step {step} of {name}");
                assert_eq!(state["panels"][n]["count"], expected.len());
                marked += expected.iter().flatten().filter(|(_, was)| was != UNCHANGED).count();
            }
        }
        assert!(marked > 100, "{marked} cells were marked");
    }
}

/// The cells of a row of the session, as [`Page::cells`] reads them off the page.
fn cells(row: &Value) -> Vec<(String, String)> {
    let cells = row["cells"].as_array().unwrap().iter().enumerate();
    cells
        .map(|(n, cell)| {
            let was = row["was"][n].as_str().unwrap_or(UNCHANGED);
            (cell.as_str().unwrap().to_owned(), was.to_owned())
        })
        .collect()
}

#[test]
fn a_step_shows_its_rules_and_where_the_code_says_so() {
    let mut page = Page::open(MOVES);
    page.press("/");
    page.0.write("remove_migration_pte");
    page.press("Escape");
    page.press("n");
    let card = page.shown("#now-body");
    assert!(card.contains("A migration entry became a mapping again."), "{card}");
    assert!(card.contains("replace the migration entries by mappings"), "{card}");
    assert!(
        card.contains("a restored entry maps the new page if it moved, the old one if not"),
        "{card}"
    );
    // Each link leads to a file that is there, and to the line that its title quotes.
    let links = page
        .0
        .eval("[...document.querySelectorAll('#now-body a.code')].map((link) => [link.href, link.title])");
    let links = links.as_array().unwrap();
    assert!(links.len() > 5);
    for link in links {
        let (href, title) = (link[0].as_str().unwrap(), link[1].as_str().unwrap());
        let (file, line) = href
            .strip_prefix("file://")
            .and_then(|rest| rest.split_once("#L"))
            .unwrap();
        let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{file}: {error}"));
        let line = text.lines().nth(line.parse::<usize>().unwrap() - 1).unwrap();
        let quoted = title.split_once('\n').unwrap().1;
        assert!(
            line.contains(quoted) || quoted.starts_with("not: "),
            "{href}: {line} is not {quoted}"
        );
    }
    // A page that was put somewhere else is told where the sources are.
    page.visit("?source=https://example.org/tree/main#step=5");
    let href = page.0.text("document.querySelector('#now-body a.code').href");
    assert!(href.starts_with("https://example.org/tree/main/crates/"), "{href}");
    page.visit("?source=javascript:alert(1)#step=5");
    let href = page.0.text("document.querySelector('#now-body a.code').href");
    assert!(href.starts_with("file:"), "{href}");
}

#[test]
fn a_refused_page_shows_its_refusal() {
    for (trace, last, value, advice) in [
        (
            "pinned.modern",
            "stays: refused for now",
            "Refusal::Pinned { pins: 1 }",
            "unpin it",
        ),
        (
            "mlocked.linux",
            "stays: refused for good",
            "Refusal::Mlocked",
            "munlock it",
        ),
        (
            "extra_reference.modern",
            "stays: refused for now",
            "Refusal::ExtraReference { expected:",
            "find and drop it",
        ),
    ] {
        let mut page = Page::open(&format!("#trace={trace}"));
        page.press("/");
        page.0.write("refuse reason=");
        page.press("Escape");
        page.press("n");
        let card = page.shown(".refusal");
        for words in [last, value, advice, "errno"] {
            assert!(card.contains(words), "{trace}: no {words:?} in {card}");
        }
        let outcome = page.cells("frames")[0].last().unwrap().0.clone();
        assert!(outcome.starts_with("refused: "), "{outcome}");
        // It stays with the page when the trace goes on.
        page.press("End");
        assert_eq!(page.cells("frames")[0].last().unwrap().0, outcome);
    }
}

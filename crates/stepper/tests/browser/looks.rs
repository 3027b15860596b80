//! How the page looks: light and dark, on paper, in a narrow window. Pictures are left in `target/stepper/`.

use serde_json::Value;

use crate::page::Page;

/// Text and background of each kind of text there is, as `[what, contrast]`, computed from what the browser paints.
const CONTRASTS: &str = "(() => {
    const parse = (color) => color.match(/[\\d.]+/g).map(Number);
    const channel = (c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
    const behind = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const color = parse(getComputedStyle(at).backgroundColor);
            if (color.length === 3 || color[3] === 1) return color;
        }
        return parse(getComputedStyle(document.documentElement).backgroundColor);
    };
    const seen = new Map();
    for (const element of document.querySelectorAll('body *')) {
        const texts = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
        if (!texts || !element.checkVisibility() || element.disabled || element.closest('.beyond')) continue;
        const [one, other] = [light(parse(getComputedStyle(element).color)), light(behind(element))];
        const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
        const what = `${element.tagName} ${element.className} in ${element.parentElement.className}`;
        if (!(seen.get(what) <= contrast)) seen.set(what, contrast);
    }
    return [...seen];
})()";

fn assert_readable(page: &mut Page, where_: &str) {
    let contrasts = page.0.eval(CONTRASTS);
    let contrasts = contrasts.as_array().unwrap();
    assert!(contrasts.len() > 15, "{where_}: {contrasts:?}");
    for kind in contrasts {
        // WCAG's AA for text of this size.
        assert!(kind[1].as_f64().unwrap() >= 4.5, "{where_}: {kind}");
    }
}

fn background(page: &mut Page) -> Value {
    page.0.eval("getComputedStyle(document.body).backgroundColor")
}

#[test]
fn it_reads_well_in_light_and_in_dark() {
    let mut page = Page::open("#trace=fault_in_the_middle.modern&step=16");
    let mut backgrounds = Vec::new();
    for scheme in ["light", "dark"] {
        page.0.media("screen", scheme);
        for (name, fragment) in [
            ("step", "#trace=fault_in_the_middle.modern&step=16"),
            ("refusal", "#trace=extra_reference.linux&step=135"),
            ("violation", "#trace=flush_left_out&step=10"),
            ("unreadable", "#trace=cut_off&step=5"),
        ] {
            page.visit(fragment);
            page.press("/");
            page.0.write("p0");
            page.press("Escape");
            if name == "step" {
                page.0.click("summary");
            }
            assert_readable(&mut page, &format!("{name} in {scheme}"));
            page.picture(&format!("{name}-{scheme}"));
        }
        backgrounds.push(background(&mut page));
    }
    assert_eq!(backgrounds[0], "rgb(255, 255, 255)");
    assert_ne!(backgrounds[0], backgrounds[1]);
}

#[test]
fn a_narrow_window_scrolls_one_way_only() {
    let mut page = Page::open("#trace=fault_in_the_middle.modern&step=16");
    for (width, height) in [(360, 740), (800, 1000), (1200, 620)] {
        page.0.resize(width, height);
        let over = page
            .0
            .eval("document.documentElement.scrollWidth - document.documentElement.clientWidth");
        assert_eq!(over, 0, "at {width} pixels");
        page.picture(&format!("width-{width}"));
        // A step there shows its rows as well.
        page.press("ArrowRight");
        assert!(
            page.0
                .eval("document.querySelectorAll('.panel.frames .list .row:not([hidden])').length")
                .as_u64()
                >= Some(2)
        );
    }
}

#[test]
fn it_prints_black_on_white_without_its_controls() {
    let mut page = Page::open("#trace=fault_in_the_middle.modern&step=16");
    page.0.resize(794, 1123);
    page.0.media("print", "dark");
    assert_eq!(background(&mut page), "rgb(255, 255, 255)");
    for control in ["#slider", "#query", "#open", "#forward"] {
        let shown = page
            .0
            .eval(&format!("document.querySelector('{control}').checkVisibility()"));
        assert_eq!(shown, false, "{control}");
    }
    assert!(
        page.shown("#now-body")
            .contains("replace the migration entries by mappings")
    );
    assert_readable(&mut page, "on paper");
    page.picture("print");
}

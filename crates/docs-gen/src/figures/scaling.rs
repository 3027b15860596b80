//! What a page costs, against how many pages move, how often each is mapped, or how many threads are busy.

use crate::performance::{Scaling, Spread};

use super::chart::{Axis, colour, dot, number};
use super::svg::Svg;

const WIDTH: i32 = 860;
const LEFT: i32 = 70;
const RIGHT: i32 = WIDTH - 76;
/// The least distance between the figures at the ends of curves.
const APART: i32 = 16;
const TOP: i32 = 48;
const BOTTOM: i32 = 348;
const LEGEND: i32 = 22;

/// Draws every curve.
pub(super) fn draw(scaling: &Scaling) -> String {
    let points = || scaling.curves.iter().flat_map(|curve| &curve.points);
    let across = Axis::new(points().map(|(at, _)| *at as f64), [LEFT + 12, RIGHT - 12]);
    let up = Axis::new(points().flat_map(|(_, ns)| [ns.least, ns.most]), [BOTTOM - 8, TOP + 8]);
    let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX / LEGEND);
    let height = BOTTOM + 62 + count(scaling.curves.len()) * LEGEND;
    let title = format!("What a page costs, by {}", scaling.against.axis());
    let says = "Both axes go by powers. Each curve is what moves pages; an upright line at a point is the spread of its rounds.";
    let mut svg = Svg::new(WIDTH, height, &title, says);
    svg.text(LEFT, 26, "ink soft", "nanoseconds a page");
    svg.text(
        RIGHT,
        26,
        "ink soft end",
        "medians, and the spread; 512 pages at a time",
    );
    svg.text((LEFT + RIGHT) / 2, BOTTOM + 42, "ink soft mid", scaling.against.axis());
    for tick in up.ticks() {
        let y = up.at(tick);
        svg.line([LEFT, y, RIGHT, y], "rule");
        svg.text(LEFT - 8, y + 4, "mono soft end", &number(tick));
    }
    // What was measured, not what is round.
    let mut measured: Vec<u64> = points().map(|(at, _)| *at).collect();
    measured.sort_unstable();
    measured.dedup();
    for at in measured {
        let x = across.at(at as f64);
        svg.line([x, TOP, x, BOTTOM], "rule");
        svg.text(x, BOTTOM + 20, "mono soft mid", &number(at as f64));
    }
    for (n, curve) in scaling.curves.iter().enumerate() {
        let colour = colour(n);
        let places: Vec<[i32; 2]> = curve
            .points
            .iter()
            .map(|(at, ns)| [across.at(*at as f64), up.at(ns.median)])
            .collect();
        let path: Vec<String> = places.iter().map(|[x, y]| format!("{x} {y}")).collect();
        if places.len() > 1 {
            svg.path(&format!("M{}", path.join("L")), &format!("curve {colour}"));
        }
        for ([x, y], (_, ns)) in places.into_iter().zip(&curve.points) {
            svg.line([x, up.at(ns.least), x, up.at(ns.most)], &format!("curve {colour}"));
            dot(&mut svg, [x, y], false, colour);
        }
        let y = BOTTOM + 66 + count(n) * LEGEND;
        svg.line([LEFT, y, LEFT + 28, y], &format!("curve {colour}"));
        dot(&mut svg, [LEFT + 14, y], false, colour);
        svg.text(LEFT + 38, y + 4, "ink", &curve.name);
    }
    let last = |points: &[(u64, Spread)]| {
        points
            .last()
            .map(|(at, ns)| (up.at(ns.median), across.at(*at as f64), ns.median))
    };
    let mut ends: Vec<_> = scaling.curves.iter().filter_map(|curve| last(&curve.points)).collect();
    ends.sort_by_key(|(y, ..)| *y);
    let mut free = TOP;
    for (y, x, ns) in ends {
        let y = y.max(free);
        svg.text(x + 10, y + 4, "mono soft", &short(ns));
        free = y + APART;
    }
    svg.finish()
}

/// Writes a figure in a few signs.
fn short(ns: f64) -> String {
    if ns < 1e4 {
        format!("{ns:.0}")
    } else {
        format!("{:.1}k", ns / 1e3)
    }
}

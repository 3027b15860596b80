//! What a page costs to move, in plain copies of a page: a line for each engine and size of batch.

use crate::performance::{Results, Row, Spread};

use super::chart::{Axis, colour, dot, number};
use super::svg::{Svg, mono_width};

const WIDTH: i32 = 860;
const TOP: i32 = 52;
const ROW: i32 = 24;
/// Room between the rows of two engines.
const GAP: i32 = 10;
const BATCH: i32 = 44;
const FIGURE: i32 = 120;

/// What is drawn of a row: the ratio, and the one with faults where there is one.
fn shown(row: &Row) -> Option<(Spread, Option<Spread>)> {
    row.batch?;
    match (row.loaded, row.alone) {
        (Some(loaded), _) => Some((loaded.cost.ratio, loaded.with_faults)),
        (None, Some(alone)) => Some((alone.ratio, None)),
        (None, None) => None,
    }
}

/// Draws the table's ratios.
pub(super) fn draw(results: &Results) -> String {
    let rows: Vec<_> = results
        .rows
        .iter()
        .filter_map(|row| shown(row).map(|shown| (row, shown)))
        .collect();
    let engines: Vec<_> = rows.chunk_by(|(a, _), (b, _)| a.engine == b.engine).collect();
    let names = engines.iter().flat_map(|rows| rows.first());
    let left = names.map(|(row, _)| mono_width(&row.engine)).max().unwrap_or(0) + 12 + BATCH;
    let all = rows.iter().flat_map(|(_, (ratio, with))| {
        let with = with.unwrap_or(*ratio);
        [ratio.least, ratio.most, with.least, with.most, 1.0]
    });
    let axis = Axis::new(all, [left + 16, WIDTH - FIGURE - 16]);
    let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX / ROW);
    let bottom = TOP + count(rows.len()) * ROW + count(engines.len()) * GAP;
    let says = "Each line is what moves pages, and how many at a time; a dot is the cost of a page beside that of copying it, with threads \
                that write to the memory where they can; a ring has the time in it that these threads spend on faults. Lines through them are the spread.";
    let mut svg = Svg::new(
        WIDTH,
        bottom + 74,
        "What a page costs to move, in plain copies of a page",
        says,
    );
    svg.text(left - 6, 26, "ink soft end", "batch");
    svg.text(WIDTH - FIGURE, 26, "ink soft", "ratio, with faults");
    for tick in axis.ticks() {
        let x = axis.at(tick);
        svg.line([x, TOP - 8, x, bottom], if tick == 1.0 { "edge" } else { "rule" });
        svg.text(x, bottom + 18, "mono soft mid", &number(tick));
    }
    svg.text(axis.at(1.0), TOP - 14, "ink soft mid", "a plain copy");
    let mut y = TOP;
    for (n, rows) in engines.iter().enumerate() {
        for (at, (row, (ratio, with))) in rows.iter().enumerate() {
            let middle = y + ROW / 2;
            if at == 0 {
                svg.text(12, middle + 4, "mono", &row.engine);
            }
            let batch = row.batch.map_or(String::new(), |batch| batch.to_string());
            svg.text(left - 6, middle + 4, "mono soft end", &batch);
            let mut figure = format!("{:.2}", ratio.median);
            if let Some(with) = with {
                mark(&mut svg, &axis, middle, *with, true, colour(n));
                figure = format!("{figure}, {:.2}", with.median);
            }
            mark(&mut svg, &axis, middle, *ratio, false, colour(n));
            svg.text(WIDTH - FIGURE, middle + 4, "mono", &figure);
            y += ROW;
        }
        y += GAP;
    }
    let y = bottom + 50;
    dot(&mut svg, [left + 20, y], false, "six");
    svg.text(left + 32, y + 4, "ink soft", "what the mover spends");
    dot(&mut svg, [left + 232, y], true, "six");
    svg.text(left + 244, y + 4, "ink soft", "and the faults of those who write");
    svg.finish()
}

/// Draws a median and the line from the least to the most.
fn mark(svg: &mut Svg, axis: &Axis, y: i32, spread: Spread, hollow: bool, colour: &str) {
    let [from, to] = [spread.least, spread.most].map(|value| axis.at(value));
    svg.line([from, y, to, y], &format!("curve {colour}"));
    dot(svg, [axis.at(spread.median), y], hollow, colour);
}

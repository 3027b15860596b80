//! Results as tables.

use crate::table::Table;

use super::{Cost, Results, Row, Scaling, Spread, Waits};

fn ratio(spread: Spread) -> String {
    let Spread { median, least, most } = spread;
    format!("{median:.2} ({least:.2}–{most:.2})")
}

fn cost(cost: Option<Cost>) -> [String; 2] {
    cost.map_or(["–".to_owned(), "–".to_owned()], |cost| {
        [format!("{:.0}", cost.ns.median), ratio(cost.ratio)]
    })
}

fn waits(waits: Waits) -> [String; 2] {
    let us = |ns: f64| format!("{:.1}", ns / 1000.0);
    let Waits { p50, p99, worst, .. } = waits;
    let times = if waits.waited == 0 {
        "–".to_owned()
    } else {
        [p50, p99, worst].map(us).join(" / ")
    };
    let share = waits.waited as f64 / waits.visits.max(1) as f64 * 100.0;
    [format!("{share:.2} %"), times]
}

fn cells(row: &Row) -> [String; 9] {
    let [alone_ns, alone] = cost(row.alone);
    let [loaded_ns, loaded] = cost(row.loaded.map(|loaded| loaded.cost));
    let of = |part: Option<String>| part.unwrap_or_else(|| "–".to_owned());
    let with_faults = of(row.loaded.and_then(|loaded| loaded.with_faults).map(ratio));
    let [waited, times] = row
        .loaded
        .map_or(["–".to_owned(), "–".to_owned()], |loaded| waits(loaded.waits));
    let batch = of(row.batch.map(|batch| batch.to_string()));
    [
        row.engine.clone(),
        batch,
        alone_ns,
        alone,
        loaded_ns,
        loaded,
        with_faults,
        waited,
        times,
    ]
}

/// Returns the table of ratios in markdown.
#[must_use]
pub fn ratio_table(results: &Results) -> String {
    let mut table = Table::new([
        "what moves the pages",
        "batch",
        "alone, ns a page",
        "ratio",
        "with writers, ns a page",
        "ratio",
        "with their faults",
        "visits that waited",
        "for µs: p50 / p99 / worst",
    ]);
    for row in &results.rows {
        table.row(cells(row));
    }
    table.to_string()
}

/// Returns the points of a chart as a table in markdown: a row for each curve.
#[must_use]
pub fn scaling_table(scaling: &Scaling) -> String {
    let mut at: Vec<u64> = scaling
        .curves
        .iter()
        .flat_map(|curve| &curve.points)
        .map(|point| point.0)
        .collect();
    at.sort_unstable();
    at.dedup();
    let mut text = format!("| ns a page, by {} |", scaling.against.axis());
    let heads: Vec<String> = at.iter().map(|at| format!(" {at} |")).collect();
    text.push_str(&heads.concat());
    text.push_str(&format!("\n|{}\n", "---|".repeat(at.len() + 1)));
    for curve in &scaling.curves {
        let cell = |at: &u64| {
            let point = curve.points.iter().find(|point| point.0 == *at);
            point.map_or(" – |".to_owned(), |(_, ns)| format!(" {:.0} |", ns.median))
        };
        let cells: Vec<String> = at.iter().map(cell).collect();
        text.push_str(&format!("| {} |{}\n", curve.name, cells.concat()));
    }
    text
}

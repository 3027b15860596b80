//! What was measured, read off the recorded results.

use crate::performance::{Against, GOALS, Results, goal_table, ratio_table, scaling_table};

fn recorded() -> Result<Results, String> {
    Results::recorded().map_err(|error| error.to_string())
}

/// The machine, the commit and the numbers of the method.
pub(super) fn machine() -> Result<String, String> {
    let Results {
        commit, host, method, ..
    } = recorded()?;
    let gib = host.memory as f64 / f64::from(1 << 30);
    let disturbed = (method.disturbed - 1.0) * 100.0;
    Ok(format!(
        "Recorded at commit `{commit}` on {}, {} processors, {gib:.0} GiB of memory in {} {}, Linux {}: {} pages of each engine, \
         {} rounds, {} beside the one that moves pages. Other work on the machine made the plain copies take \
         {disturbed:.1} % longer; that time is in no figure.\n",
        host.processor,
        host.cores,
        host.nodes,
        if host.nodes == 1 { "node" } else { "nodes" },
        host.kernel,
        method.pages,
        method.rounds,
        if method.writers == 1 {
            "1 thread that writes".to_owned()
        } else {
            format!("{} threads that write", method.writers)
        },
    ))
}

/// The table of ratios.
pub(super) fn ratios() -> Result<String, String> {
    Ok(ratio_table(&recorded()?))
}

/// What is asked of the rows, and whether they have it.
pub(super) fn goals() -> Result<String, String> {
    let results = recorded()?;
    let missing = GOALS.iter().find(|goal| goal.row(&results).is_none());
    match missing {
        Some(goal) => Err(missing_row(goal.engine, goal.batch)),
        None => Ok(goal_table(&results)),
    }
}

fn missing_row(engine: &str, batch: u32) -> String {
    missing(&format!("{engine} in batches of {batch}"))
}

/// What was not measured.
pub(super) fn left_out() -> Result<String, String> {
    let left_out = recorded()?.left_out;
    if left_out.is_empty() {
        return Ok("Nothing was left out.\n".to_owned());
    }
    Ok(left_out
        .iter()
        .map(|left| format!("- {}: {}\n", left.what, left.why))
        .collect())
}

/// The points of a chart.
pub(super) fn points(against: Against) -> Result<String, String> {
    let results = recorded()?;
    let scaling = results.against(against).ok_or_else(|| missing(against.word()))?;
    Ok(scaling_table(scaling))
}

/// A chart, by its name.
pub(super) fn chart(name: &str) -> Result<String, String> {
    let charts = recorded()?.charts();
    let chart = charts.into_iter().find(|(chart, _)| chart == name);
    chart.map(|(_, text)| text).ok_or_else(|| missing(name))
}

fn missing(what: &str) -> String {
    format!("no results of {what} were recorded")
}

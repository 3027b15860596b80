//! What was measured, as text for a person.

use docs_gen::performance::{Results, goal_table, ratio_table, scaling_table};

/// The most that a quiet machine disturbs a copy.
const QUIET: f64 = 1.03;

/// Returns a table of markdown with columns that stand below each other.
fn aligned(table: &str) -> String {
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells
            .filter(|cell| **cell != "---")
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(n, (cell, wide))| match (n, *cell) {
                (_, "---") => "-".repeat(*wide),
                (0, cell) => format!("{cell:<wide$}"),
                (_, cell) => format!("{cell:>wide$}"),
            });
        let line: Vec<String> = cells.collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Returns everything that was measured.
#[must_use]
pub fn text(results: &Results) -> String {
    let (host, method) = (&results.host, &results.method);
    let mut text = format!(
        "{}; processors: {}, nodes: {}; Linux {}; commit {}\npages of each engine: {}, rounds: {}, threads that write: {}; medians, and the spread\n\n",
        host.processor,
        host.cores,
        host.nodes,
        host.kernel,
        results.commit,
        method.pages,
        method.rounds,
        method.writers
    );
    text.push_str(&aligned(&ratio_table(results)));
    let stayed = results.rows.iter().filter(|row| row.stayed > 0);
    for row in stayed {
        let batch = row.batch.map_or(String::new(), |batch| format!(", batches of {batch}"));
        text.push_str(&format!(
            "{}{batch}: {} pages stayed in all rounds\n",
            row.engine, row.stayed
        ));
    }
    for left in &results.left_out {
        text.push_str(&format!("left out: {}: {}\n", left.what, left.why));
    }
    let goals = goal_table(results);
    // The head and the rule are always there.
    if goals.lines().count() > 2 {
        text.push('\n');
        text.push_str(&aligned(&goals));
    }
    for scaling in results.scaling.iter().filter(|scaling| !scaling.curves.is_empty()) {
        text.push('\n');
        text.push_str(&aligned(&scaling_table(scaling)));
    }
    if method.disturbed > QUIET {
        let more = (method.disturbed - 1.0) * 100.0;
        text.push_str(&format!(
            "\nthe machine did other work meanwhile: plain copies took {more:.0} % longer for it; that time is taken off, what it does to caches and waits is not\n"
        ));
    }
    if method.rounds < 5 {
        text.push_str("\nfewer than five rounds: for a look only\n");
    }
    text.truncate(text.trim_end().len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other() {
        let text = aligned("| a | long head |\n|---|---|\n| longer | 7 |\n");
        assert_eq!(text, "a       long head\n------  ---------\nlonger          7\n");
    }

    #[test]
    fn what_was_recorded_can_be_printed() {
        let mut results = Results::recorded().unwrap();
        results.method.disturbed = 1.5;
        results.method.rounds = 1;
        let text = text(&results);
        assert!(results.rows.iter().all(|row| text.contains(&row.engine)), "{text}");
        assert!(results.left_out.iter().all(|left| text.contains(&left.why)), "{text}");
        assert!(
            text.contains("50 % longer for it") && text.contains("for a look only"),
            "{text}"
        );
    }
}

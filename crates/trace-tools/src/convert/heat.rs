//! A heat map in digits, as `damo report heatmap` prints it: time down, pages across.

use alloc::string::String;
use alloc::{vec, vec::Vec};
use core::fmt::Write;

use mm_types::trace::Line;

/// How large a map is at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Columns: pages, or ranges of them.
    pub columns: usize,
    /// Rows: events, or ranges of them.
    pub rows: usize,
}

impl Default for Grid {
    fn default() -> Self {
        Self { columns: 80, rows: 40 }
    }
}

const HOTTEST: u64 = 9;
// Nobody reads a wider line than this, and the cells of a larger map need not fit into memory.
const MOST: usize = 4096;

/// Returns how often each page was dealt with, and when: a digit for each cell, 0 for never, 9 for the busiest cell's share.
///
/// Pages are contents, `p0` on the left; where there are more pages than columns, a column stands for several, and a row for
/// several events.
#[must_use]
pub fn heat(lines: &[Line], grid: Grid) -> String {
    let pages = lines
        .iter()
        .filter_map(|line| line.page)
        .max()
        .map_or(0, |last| u64::from(last).saturating_add(1));
    let events = u64::try_from(lines.len()).unwrap_or(u64::MAX);
    let (wide, per_column) = cut(pages, grid.columns);
    let (high, per_row) = cut(events, grid.rows);
    let mut cells: Vec<u64> = vec![0; wide.saturating_mul(high)];
    for (at, line) in lines.iter().enumerate() {
        let Some(page) = line.page else { continue };
        let row = at.checked_div(index(per_row)).unwrap_or(0);
        let column = index(u64::from(page)).checked_div(index(per_column)).unwrap_or(0);
        if let Some(cell) = cells.get_mut(row.saturating_mul(wide).saturating_add(column)) {
            *cell = cell.saturating_add(1);
        }
    }
    let hottest = cells.iter().copied().max().unwrap_or(0);
    let mut text = String::new();
    for row in cells.chunks(wide.max(1)) {
        for cell in row {
            // Whatever was touched at all is not 0.
            let digit = cell.saturating_mul(HOTTEST).div_ceil(hottest.max(1));
            let _ = write!(text, "{digit}");
        }
        text.push('\n');
    }
    text.push_str("# access_frequency:  0  1  2  3  4  5  6  7  8  9\n");
    // A string takes all that is written to it.
    let _ = writeln!(text, "# x-axis: space (p0-p{}: {pages} pages)", pages.saturating_sub(1));
    let _ = writeln!(text, "# y-axis: time (events 1-{events})");
    let _ = writeln!(
        text,
        "# resolution: {wide}x{high} ({per_column} pages and {per_row} events for each character; 9 is {hottest} of them)"
    );
    text
}

/// How many cells `n` things take in at most `room`, and how many things each has.
fn cut(n: u64, room: usize) -> (usize, u64) {
    let room = u64::try_from(room.clamp(1, MOST)).unwrap_or(u64::MAX);
    let each = n.div_ceil(room).max(1);
    (index(n.div_ceil(each)), each)
}

fn index(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

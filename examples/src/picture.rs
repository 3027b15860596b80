//! The live picture: a row for each node, a cell for each group of pages, darker where more of the group is there.

use core::sync::atomic::{AtomicU8, Ordering};

/// From nothing to everything.
const SHADES: [char; 5] = [' ', '░', '▒', '▓', '█'];

/// Returns the cell for `part` of `whole` pages: empty and full only where that is exactly so.
#[must_use]
pub const fn shade(part: usize, whole: usize) -> char {
    let [none, few, half, most, all] = SHADES;
    if part == 0 || whole == 0 {
        none
    } else if part >= whole {
        all
    } else {
        match part.saturating_mul(3) / whole {
            0 => few,
            1 => half,
            _ => most,
        }
    }
}

/// On which node each page is. Written by the migrator, read by whoever draws.
#[derive(Debug)]
pub struct Board {
    nodes: Box<[AtomicU8]>,
}

impl Board {
    /// Makes a board of `pages` pages, all on node 0.
    #[must_use]
    pub fn new(pages: usize) -> Self {
        Self {
            nodes: (0..pages).map(|_| AtomicU8::new(0)).collect(),
        }
    }

    /// Notes that `page` is on `node` now.
    pub fn moved(&self, page: usize, node: u8) {
        if let Some(at) = self.nodes.get(page) {
            at.store(node, Ordering::Relaxed);
        }
    }

    /// Returns how many pages are on `node`.
    #[must_use]
    pub fn on(&self, node: u8) -> usize {
        count(&self.nodes, node)
    }

    /// Draws the row of `node` with at most `cells` cells.
    #[must_use]
    pub fn row(&self, node: u8, cells: usize) -> String {
        let group = self.nodes.len().div_ceil(cells.max(1)).max(1);
        let groups = self.nodes.chunks(group);
        groups.map(|pages| shade(count(pages, node), pages.len())).collect()
    }
}

fn count(pages: &[AtomicU8], node: u8) -> usize {
    pages.iter().filter(|at| at.load(Ordering::Relaxed) == node).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_empty_or_full_only_where_that_is_so() {
        assert_eq!(shade(0, 100), ' ');
        assert_eq!(shade(1, 100), '░');
        assert_eq!(shade(50, 100), '▒');
        assert_eq!(shade(99, 100), '▓');
        assert_eq!(shade(100, 100), '█');
        assert_eq!(shade(0, 0), ' ');
    }

    #[test]
    fn pages_leave_one_row_and_appear_in_the_other() {
        let board = Board::new(8);
        assert_eq!((board.row(0, 4), board.row(1, 4)), ("████".into(), "    ".into()));
        for page in 0..3 {
            board.moved(page, 1);
        }
        assert_eq!((board.row(0, 4), board.row(1, 4)), (" ▒██".into(), "█▒  ".into()));
        assert_eq!((board.on(0), board.on(1)), (5, 3));
    }

    #[test]
    fn a_small_board_has_a_cell_a_page_and_a_large_one_fits_the_line() {
        assert_eq!(Board::new(3).row(0, 60).chars().count(), 3);
        for pages in [59, 60, 61, 1000, 12345] {
            assert!(Board::new(pages).row(0, 60).chars().count() <= 60);
        }
        assert_eq!(Board::new(0).row(0, 60), "");
    }
}

//! The live picture: a row for each node, a cell for each group of pages, darker where more of the group is there.

/// Nodes in the picture.
pub const NODES: usize = 2;

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

/// Where pages are, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// A row of cells for each node.
    pub rows: [String; NODES],
    /// Pages on each node.
    pub on: [usize; NODES],
}

/// Draws `pages` pages with at most `cells` cells a row; `node_of` tells where a page is now.
#[must_use]
pub fn draw(pages: usize, cells: usize, node_of: impl Fn(usize) -> Option<usize>) -> Picture {
    let group = pages.div_ceil(cells.max(1)).max(1);
    let mut picture = Picture {
        rows: [const { String::new() }; NODES],
        on: [0; NODES],
    };
    for first in (0..pages).step_by(group) {
        let end = pages.min(first + group);
        let mut on = [0; NODES];
        for page in first..end {
            if let Some(count) = node_of(page).and_then(|node| on.get_mut(node)) {
                *count += 1;
            }
        }
        for ((row, all), here) in picture.rows.iter_mut().zip(&mut picture.on).zip(on) {
            row.push(shade(here, end - first));
            *all += here;
        }
    }
    picture
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
        let before = draw(8, 4, |_| Some(0));
        assert_eq!(before.rows, ["████", "    "]);
        let after = draw(8, 4, |page| Some(usize::from(page < 3)));
        assert_eq!((after.rows, after.on), ([" ▒██".into(), "█▒  ".into()], [5, 3]));
    }

    #[test]
    fn a_page_that_is_nowhere_is_on_no_node() {
        let picture = draw(4, 4, |page| [Some(0), None, Some(1), Some(7)][page]);
        assert_eq!((picture.rows, picture.on), (["█   ".into(), "  █ ".into()], [1, 1]));
    }

    #[test]
    fn a_small_picture_has_a_cell_a_page_and_a_large_one_fits_the_line() {
        let width = |pages| draw(pages, 60, |_| Some(0)).rows[0].chars().count();
        assert_eq!((width(3), width(0)), (3, 0));
        for pages in [59, 60, 61, 1000, 12345] {
            assert!(width(pages) <= 60);
        }
    }
}

//! Runs and lists of a scenario's pages.

use core::fmt;

/// Pages `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PageRange {
    first: u32,
    last: u32,
}

impl PageRange {
    /// Names a run, or `None` where it ends before it begins.
    #[must_use]
    pub const fn new(first: u32, last: u32) -> Option<Self> {
        if first <= last {
            Some(Self { first, last })
        } else {
            None
        }
    }

    /// Names one page.
    #[must_use]
    pub const fn one(page: u32) -> Self {
        Self {
            first: page,
            last: page,
        }
    }

    /// Returns the first page.
    #[must_use]
    pub const fn first(self) -> u32 {
        self.first
    }

    /// Returns the last page.
    #[must_use]
    pub const fn last(self) -> u32 {
        self.last
    }

    /// Returns the pages in order.
    pub fn iter(self) -> impl Iterator<Item = u32> {
        self.first..=self.last
    }
}

impl fmt::Display for PageRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{}", self.first)?;
        if self.last == self.first {
            Ok(())
        } else {
            write!(f, "..p{}", self.last)
        }
    }
}

/// A list of pages: at most eight runs, in the order written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PageSet {
    runs: [PageRange; PageSet::RUNS],
    len: usize,
}

impl PageSet {
    /// How many runs fit.
    pub const RUNS: usize = 8;

    /// Makes an empty list.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            runs: [PageRange::one(0); Self::RUNS],
            len: 0,
        }
    }

    /// Adds a run; `None` where there is no room for it.
    #[must_use]
    pub fn with(mut self, run: PageRange) -> Option<Self> {
        *self.runs.get_mut(self.len)? = run;
        self.len = self.len.saturating_add(1);
        Some(self)
    }

    /// Returns the runs in order.
    pub fn runs(&self) -> Items<'_> {
        self.runs.get(..self.len).unwrap_or_default().iter()
    }

    /// Returns the pages in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.runs().flat_map(|run| run.iter())
    }
}

impl Default for PageSet {
    fn default() -> Self {
        Self::new()
    }
}

/// The runs of a list.
pub type Items<'a> = core::slice::Iter<'a, PageRange>;

impl fmt::Display for PageSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, run) in self.runs().enumerate() {
            if n > 0 {
                f.write_str(" ")?;
            }
            write!(f, "{run}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{string::ToString, vec::Vec};

    #[test]
    fn a_list_gives_its_pages_in_the_order_written() {
        let set = PageSet::new()
            .with(PageRange::new(4, 6).unwrap())
            .unwrap()
            .with(PageRange::one(0))
            .unwrap();
        assert_eq!(set.iter().collect::<Vec<_>>(), [4, 5, 6, 0]);
        assert_eq!(set.to_string(), "p4..p6 p0");
        assert_eq!(PageRange::new(2, 1), None);
    }

    #[test]
    fn a_range_has_its_ends() {
        let range = PageRange::new(4, 6).unwrap();
        assert_eq!((range.first(), range.last()), (4, 6));
        let one = PageRange::one(3);
        assert_eq!((one.first(), one.last()), (3, 3));
    }
}

//! How two traces differ, by what they mean.
//!
//! Ids are given anew to both, in order of first appearance, so that two traces whose frames, spaces, threads or contents are
//! only called differently are the same.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use mm_types::trace::{Event, Line, lines_of};

/// What kind of difference it is; the first that fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A page ended otherwise, or why it stayed is another reason.
    Outcomes,
    /// All is the same, and in the same order, but for barriers.
    Barriers,
    /// The same events in another order.
    Order,
    /// The same outcomes on another way.
    Way,
}

impl Kind {
    /// Returns what it is, in a few words.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Outcomes => "pages ended otherwise",
            Self::Barriers => "only barriers differ",
            Self::Order => "the same events in another order",
            Self::Way => "the same outcomes on another way",
        }
    }
}

/// A line of one of two traces, with the ids that were given anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its number, counted from 1 as a text has them: the version line is 1.
    pub number: usize,
    /// The line.
    pub line: Line,
}

/// What one page's outcome is in either trace; `None` where it has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The content, by its new id.
    pub page: u32,
    /// In the first trace.
    pub a: Option<String>,
    /// In the second.
    pub b: Option<String>,
}

/// How two traces differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What kind it is.
    pub kind: Kind,
    /// The first line that differs, in both; `None` where a trace ends.
    pub first: (Option<Place>, Option<Place>),
    /// Pages that ended otherwise.
    pub outcomes: Vec<Ended>,
    /// Words of events, and how often each trace has them, where that differs.
    pub counts: Vec<(&'static str, usize, usize)>,
    /// Where the line of the first trace that differs stands in the second, if it does later on.
    pub later: Option<usize>,
}

/// Compares two traces; `None` where they mean the same.
#[must_use]
pub fn diff(a: &[Line], b: &[Line]) -> Option<Difference> {
    let (a, b) = (anew(a), anew(b));
    let at = a.iter().zip(&b).position(|(a, b)| a != b);
    let at = at.or_else(|| (a.len() != b.len()).then(|| a.len().min(b.len())))?;
    let outcomes = otherwise(&a, &b);
    let counts = counts(&a, &b);
    let kind = if !outcomes.is_empty() {
        Kind::Outcomes
    } else if unbarred(&a).eq(unbarred(&b)) {
        Kind::Barriers
    } else if counts.is_empty() && sorted(&a) == sorted(&b) {
        Kind::Order
    } else {
        Kind::Way
    };
    let place = |lines: &[Line]| {
        let line = *lines.get(at)?;
        Some(Place {
            number: number(at),
            line,
        })
    };
    let later = a.get(at).and_then(|line| {
        let rest = b.iter().enumerate().skip(at);
        rest.into_iter()
            .find(|(_, other)| *other == line)
            .map(|(at, _)| number(at))
    });
    Some(Difference {
        kind,
        first: (place(&a), place(&b)),
        outcomes,
        counts,
        later,
    })
}

fn number(at: usize) -> usize {
    at.saturating_add(2)
}

fn anew(lines: &[Line]) -> Vec<Line> {
    lines_of(lines.iter().map(|line| line.event))
}

const fn is_barrier(event: &Event) -> bool {
    matches!(event, Event::Flush { .. } | Event::FlushPending(_))
}

fn unbarred(lines: &[Line]) -> impl Iterator<Item = &Line> {
    lines.iter().filter(|line| !is_barrier(&line.event))
}

fn sorted(lines: &[Line]) -> Vec<String> {
    let mut texts: Vec<String> = lines.iter().map(ToString::to_string).collect();
    texts.sort_unstable();
    texts
}

/// How each page ended, the last time that the trace says so.
fn ends(lines: &[Line]) -> BTreeMap<u32, String> {
    let mut ends = BTreeMap::new();
    for line in lines {
        let text = match line.event {
            Event::Moved { .. } => "moved".to_string(),
            Event::Freed(_) => "freed".to_string(),
            Event::Refuse {
                refusal, last: true, ..
            } => alloc::format!("refused: {refusal}"),
            _ => continue,
        };
        if let Some(page) = line.page {
            ends.insert(page, text);
        }
    }
    ends
}

fn otherwise(a: &[Line], b: &[Line]) -> Vec<Ended> {
    let (a, b) = (ends(a), ends(b));
    let mut pages: Vec<u32> = a.keys().chain(b.keys()).copied().collect();
    pages.sort_unstable();
    pages.dedup();
    let both = pages.into_iter().map(|page| Ended {
        page,
        a: a.get(&page).cloned(),
        b: b.get(&page).cloned(),
    });
    both.filter(|ended| ended.a != ended.b).collect()
}

fn counts(a: &[Line], b: &[Line]) -> Vec<(&'static str, usize, usize)> {
    let mut counts: BTreeMap<&'static str, (usize, usize)> = BTreeMap::new();
    for line in a {
        let (count, _) = counts.entry(line.event.word()).or_default();
        *count = count.saturating_add(1);
    }
    for line in b {
        let (_, count) = counts.entry(line.event.word()).or_default();
        *count = count.saturating_add(1);
    }
    let differ = counts.into_iter().filter(|(_, (a, b))| a != b);
    differ.map(|(word, (a, b))| (word, a, b)).collect()
}

// A page or a word more or less is told, a thousand of them are counted.
const SHOWN: usize = 10;

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}; ids are those of first appearance", self.kind.text())?;
        for (name, place) in [("A", &self.first.0), ("B", &self.first.1)] {
            match place {
                Some(place) => writeln!(f, "{name}, line {}: {}", place.number, place.line)?,
                None => writeln!(f, "{name} ends here")?,
            }
        }
        match (self.later, &self.first.0) {
            (Some(later), Some(_)) => writeln!(f, "B has the line of A later, as line {later}")?,
            (None, Some(_)) => writeln!(f, "B has no such line from here on")?,
            _ => {}
        }
        for ended in self.outcomes.iter().take(SHOWN) {
            let word = |end: &Option<String>| end.clone().unwrap_or_else(|| "no outcome".into());
            writeln!(f, "p{}: A {}; B {}", ended.page, word(&ended.a), word(&ended.b))?;
        }
        more(f, self.outcomes.len(), "pages")?;
        for (word, a, b) in self.counts.iter().take(SHOWN) {
            writeln!(f, "{word}: A {a}; B {b}")?;
        }
        more(f, self.counts.len(), "kinds of events")
    }
}

fn more(f: &mut fmt::Formatter<'_>, all: usize, what: &str) -> fmt::Result {
    match all.checked_sub(SHOWN) {
        None | Some(0) => Ok(()),
        Some(more) => writeln!(f, "and {more} more {what}"),
    }
}

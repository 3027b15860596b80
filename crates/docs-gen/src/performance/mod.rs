//! Measured results: what `compare` records, and what the chapter about speed is made from.
//!
//! The results are a file in the repository, so that the documents say the same on every machine; what measured it, where and how,
//! is in the file. `compare` draws with the same functions what it has just measured.

mod goals;
mod json;
mod text;

use crate::figures;

pub use goals::{GOALS, Goal, goal_table};
pub use json::Unreadable;
pub use text::{ratio_table, scaling_table};

/// The results that the documents are made from.
const RECORDED: &str = include_str!("../book/performance.json");

/// The median of a handful of measurements, and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The middle one.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The most.
    pub most: f64,
}

/// How long the accesses took that waited.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Waits {
    /// Visits to a page.
    pub visits: u64,
    /// Those that took longer than visits do where nothing moves.
    pub waited: u64,
    /// What that is, in nanoseconds: the largest limit of a round.
    pub limit: f64,
    /// Half of them took no longer, in nanoseconds.
    pub p50: f64,
    /// All but one in a hundred took no longer.
    pub p99: f64,
    /// The longest.
    pub worst: f64,
}

/// What a page cost while somebody used the memory, or while nobody did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Nanoseconds a page.
    pub ns: Spread,
    /// The same in plain copies of a page, made in the same round under the same load.
    pub ratio: Spread,
}

/// What a page cost while threads wrote to the memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loaded {
    /// The cost.
    pub cost: Cost,
    /// The processor time that the threads spent on faults, a page, in nanoseconds. The main job does not tell.
    pub faults: Option<Spread>,
    /// The ratio with that time in it.
    pub with_faults: Option<Spread>,
    /// How long they waited.
    pub waits: Waits,
}

/// One row: something that moves pages, so many at a time.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What moves them.
    pub engine: String,
    /// Pages at a time; `None` for the plain copy.
    pub batch: Option<u32>,
    /// Pages a round moves, in the middle.
    pub moved: u64,
    /// Pages that stayed, in all rounds.
    pub stayed: u64,
    /// With nobody there.
    pub alone: Option<Cost>,
    /// With threads that write; `None` where no thread can use the memory.
    pub loaded: Option<Loaded>,
}

/// Something that was not measured, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// What.
    pub what: String,
    /// Why not.
    pub why: String,
}

/// What a cost is drawn against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Against {
    /// How many pages move.
    Pages,
    /// How often each page is mapped.
    Mappings,
    /// How many threads are busy.
    Threads,
}

impl Against {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Pages, Self::Mappings, Self::Threads];

    /// Returns its word, as results and file names have it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pages => "pages",
            Self::Mappings => "mappings",
            Self::Threads => "threads",
        }
    }

    /// Says what is on the axis.
    #[must_use]
    pub const fn axis(self) -> &'static str {
        match self {
            Self::Pages => "pages that move",
            Self::Mappings => "mappings of each page",
            Self::Threads => "busy threads",
        }
    }
}

/// One curve: what a page costs with one thing that moves pages.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// Its name.
    pub name: String,
    /// Where, and nanoseconds a page.
    pub points: Vec<(u64, Spread)>,
}

/// Costs against something.
#[derive(Clone, Debug, PartialEq)]
pub struct Scaling {
    /// Against what.
    pub against: Against,
    /// The curves.
    pub curves: Vec<Curve>,
}

/// The machine on which it was measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// The processor's name.
    pub processor: String,
    /// Processors.
    pub cores: u64,
    /// Memory in bytes.
    pub memory: u64,
    /// Nodes with memory.
    pub nodes: u64,
    /// The kernel.
    pub kernel: String,
}

/// How it was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Method {
    /// Pages of each engine.
    pub pages: u64,
    /// Rounds that count.
    pub rounds: u64,
    /// Threads that write beside the one that moves pages.
    pub writers: u64,
    /// How much longer the plain copies took than they would have with nothing else on the machine: 1 there. That time is in no figure.
    pub disturbed: f64,
}

/// All of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Results {
    /// The commit that was measured, with `+` where the tree had changes.
    pub commit: String,
    /// The machine.
    pub host: Host,
    /// The method.
    pub method: Method,
    /// The table.
    pub rows: Vec<Row>,
    /// What is not in it.
    pub left_out: Vec<LeftOut>,
    /// The charts.
    pub scaling: Vec<Scaling>,
}

impl Results {
    /// Returns the results that the documents are made from.
    ///
    /// # Errors
    /// The file makes no sense.
    pub fn recorded() -> Result<Self, Unreadable> {
        Self::parse(RECORDED)
    }

    /// Returns the costs against one thing.
    #[must_use]
    pub fn against(&self, against: Against) -> Option<&Scaling> {
        self.scaling.iter().find(|scaling| scaling.against == against)
    }

    /// Draws every chart there are results for: its name, which ends in `.svg`, and its text.
    #[must_use]
    pub fn charts(&self) -> Vec<(String, String)> {
        let ratios = (!self.rows.is_empty()).then(|| ("performance-ratios.svg".to_owned(), figures::ratios(self)));
        let scaling = self.scaling.iter().filter(|scaling| !scaling.curves.is_empty());
        let scaling = scaling.map(|scaling| {
            let name = format!("performance-{}.svg", scaling.against.word());
            (name, figures::scaling(scaling))
        });
        ratios.into_iter().chain(scaling).collect()
    }
}

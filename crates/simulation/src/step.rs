//! What can be done, and how it is drawn.
//!
//! Numbers are picks: `at` is one of the things there are at that moment, so that a sequence from which steps were taken away
//! still does something.

use migrate_core::Injection;
use mm_types::Mode;

/// One call. What its picks meant is in the log of whoever plays it.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields are the arguments of calls, or picks")]
pub enum Step {
    /// Maps private memory.
    MapAnon { space: u32, page: u8, pages: u8 },
    /// Maps pages of a file, beyond its end perhaps.
    MapFile {
        space: u32,
        page: u8,
        pages: u8,
        file: u32,
        index: u8,
        shared: bool,
    },
    /// Loads a word.
    Read { at: u32, cpu: u8 },
    /// Stores a new word.
    Write { at: u32, cpu: u8 },
    /// Repeats one of the last accesses, on the CPU that made it.
    Again { nth: u32, write: bool },
    /// Copies a space.
    Fork { space: u32 },
    /// Ends a space.
    Exit { space: u32 },
    /// Changes whether pages may be written.
    Protect { at: u32, pages: u8, write: bool },
    /// Unmaps pages.
    Unmap { at: u32, pages: u8 },
    /// Moves mappings.
    Move { at: u32, pages: u8, to: u8 },
    /// Locks pages in memory, or unlocks them.
    Mlock { at: u32, pages: u8, locked: bool },
    /// Makes a page of a shared mapping stand for another one of its file.
    Remap { at: u32, index: u8 },
    /// Cuts a file off.
    Truncate { file: u32, pages: u32 },
    /// Cuts a file off at a page that is in use.
    CutOff { at: u32 },
    /// A thread of its own touches a page in flight, and waits.
    Wait { at: u32, write: bool },
    /// The soft-dirty mark of an entry is set.
    SoftDirty { at: u32 },
    /// Activates a swap file.
    SwapOn { ty: u8 },
    /// The kernel dirties a page.
    Dirty { at: u32 },
    /// The kernel dirties a part of a page.
    DirtyBuffer { at: u32, nth: u8 },
    /// Writes a page back.
    WriteBack { at: u32 },
    /// Begins to write a page back.
    BeginWriteback { at: u32 },
    /// Writing a page back is over.
    EndWriteback { nth: u32 },
    /// Somebody takes a reference.
    Get { at: u32 },
    /// Somebody drops a reference.
    Put { nth: u32 },
    /// Somebody pins a page.
    Pin { at: u32 },
    /// Somebody ends a pin.
    Unpin { nth: u32 },
    /// Somebody locks a page.
    Lock { at: u32 },
    /// As a lock, and the page's contents are being read in.
    Reading { at: u32 },
    /// Somebody unlocks a page.
    Unlock { nth: u32 },
    /// Buffers of a page are busy.
    Busy { at: u32 },
    /// Buffers of a page are free again.
    Idle { nth: u32 },
    /// Somebody isolates a page.
    Isolate { at: u32 },
    /// Somebody puts a page back.
    Putback { nth: u32 },
    /// Reclaim writes a page to swap and unmaps it.
    SwapOut { at: u32 },
    /// Accesses a page that is in swap.
    SwapIn { at: u32, write: bool },
    /// Puts a page into the swap cache.
    SwapCache { at: u32 },
    /// A run of the engine.
    Migrate(Migrate),
    /// Somebody stores to a mapped page behind everybody's back. Never drawn: it shows that the comparison notices.
    Corrupt { at: u32 },
    /// From now on no run gets a new page, and is told of another reason. Never drawn: it shows that somebody wants pages to move.
    Refuse,
}

/// What is noted of [`Step::Corrupt`].
pub const CORRUPT: &str = "corrupt";

/// One run.
#[derive(Clone, Debug)]
pub struct Migrate {
    /// The first page.
    pub at: u32,
    /// How many.
    pub pages: u8,
    /// The pages that were isolated before go too.
    pub isolated: bool,
    /// What it may wait for.
    pub mode: Mode,
    /// The other profile's rules, for once.
    pub other_rules: bool,
    /// Slots lent.
    pub batch: u8,
    /// New pages on the list; by closures, there are always enough.
    pub targets: Option<u8>,
    /// The caller wants the old pages.
    pub moved: bool,
    /// Before the so-many-th edge of the run, somebody else does this.
    pub middle: Vec<(u16, Step)>,
    /// What fails in it.
    pub fails: Vec<Fail>,
    /// Whatever moved is moved back by a second run. Nobody else does anything then.
    pub back: bool,
}

/// A step of a run that fails, when the run comes to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fail {
    /// The so-many-th step that can fail, in a way that its number decides.
    At(u16),
    /// In one way, the so-many-th step that can fail so.
    So {
        /// The way: its place in [`Injection::ALL`].
        way: u8,
        /// Which of these steps.
        nth: u8,
    },
}

impl Fail {
    /// Returns the way in which it fails, where that is known before the run comes to it.
    pub(crate) fn way(self) -> Option<Injection> {
        match self {
            Self::At(_) => None,
            Self::So { way, .. } => Injection::ALL.get(usize::from(way)).copied(),
        }
    }
}

/// Where a system starts, and what happens to it.
#[derive(Clone, Debug)]
pub struct Case {
    /// How the file without a mover writes its pages.
    pub writes: u8,
    /// What is mapped first.
    pub maps: Vec<Step>,
    /// What happens then.
    pub steps: Vec<Step>,
}

impl Case {
    /// Returns how many things are done in it, those in the middle of its runs and those that fail among them.
    #[must_use]
    pub fn count_steps(&self) -> usize {
        let within = |step: &Step| match step {
            Step::Migrate(run) => 1 + run.middle.len() + run.fails.len(),
            _ => 1,
        };
        self.maps.iter().chain(&self.steps).map(within).sum()
    }

    /// Every case that has one call less, or two, or of whose runs one has less happening in it.
    pub fn shorter(&self) -> Vec<Self> {
        let calls = self.maps.len() + self.steps.len();
        let without = |gone: &[usize]| {
            let mut n = 0;
            let mut keep = |_: &Step| {
                n += 1;
                !gone.contains(&(n - 1))
            };
            let mut case = self.clone();
            case.maps.retain(&mut keep);
            case.steps.retain(&mut keep);
            case
        };
        let one = (0..calls).map(|n| without(&[n]));
        let two = (0..calls).flat_map(|n| (n + 1..calls).map(move |m| [n, m]));
        let mut cases: Vec<Self> = one.chain(two.map(|gone| without(&gone))).collect();
        for (n, step) in self.steps.iter().enumerate() {
            let Step::Migrate(run) = step else { continue };
            let mut lesser = Vec::new();
            for gone in 0..run.middle.len() {
                let mut run = run.clone();
                run.middle.remove(gone);
                lesser.push(run);
            }
            for gone in 0..run.fails.len() {
                let mut run = run.clone();
                run.fails.remove(gone);
                lesser.push(run);
            }
            if run.pages > 1 {
                lesser.push(Migrate {
                    pages: run.pages - 1,
                    ..run.clone()
                });
            }
            cases.extend(lesser.into_iter().map(|run| {
                let mut case = self.clone();
                case.steps[n] = Step::Migrate(run);
                case
            }));
        }
        cases
    }
}

impl Migrate {
    /// Nobody else does anything in the middle, and no step fails.
    pub(crate) fn is_alone(&self) -> bool {
        self.fails.is_empty() && self.middle.is_empty()
    }

    /// Others do nothing in the middle but to wait for its pages and read them, and no step fails.
    pub(crate) fn only_waits(&self) -> bool {
        let reads = |step: &Step| matches!(step, Step::Wait { write: false, .. });
        self.fails.is_empty() && self.middle.iter().all(|(_, step)| reads(step))
    }
}

//! What can be done, and how it is drawn.
//!
//! Numbers are picks: `at` is the so-many-th of the things there are at that moment, so that a sequence from which steps were
//! taken away still does something.

use mm_types::Mode;
use proptest::collection::vec;
use proptest::prelude::*;

/// One call. What its picks meant is in the log of whoever plays it.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    MapAnon {
        space: u8,
        page: u8,
        pages: u8,
    },
    MapFile {
        space: u8,
        page: u8,
        pages: u8,
        file: u8,
        index: u8,
        shared: bool,
    },
    Read {
        at: u8,
        cpu: u8,
    },
    Write {
        at: u8,
        cpu: u8,
    },
    Again {
        nth: u8,
        write: bool,
    },
    Fork {
        space: u8,
    },
    Exit {
        space: u8,
    },
    Protect {
        at: u8,
        pages: u8,
        write: bool,
    },
    Unmap {
        at: u8,
        pages: u8,
    },
    Move {
        at: u8,
        pages: u8,
        to: u8,
    },
    Mlock {
        at: u8,
        pages: u8,
        locked: bool,
    },
    Remap {
        at: u8,
        index: u8,
    },
    Truncate {
        file: u8,
        pages: u8,
    },
    /// Cuts a file off at a page that is in use.
    CutOff {
        at: u8,
    },
    /// A thread of its own touches a page in flight, and waits.
    Wait {
        at: u8,
        write: bool,
    },
    SoftDirty {
        at: u8,
    },
    SwapOn {
        ty: u8,
    },
    Dirty {
        at: u8,
    },
    DirtyBuffer {
        at: u8,
        nth: u8,
    },
    WriteBack {
        at: u8,
    },
    BeginWriteback {
        at: u8,
    },
    EndWriteback {
        nth: u8,
    },
    Get {
        at: u8,
    },
    Put {
        nth: u8,
    },
    Pin {
        at: u8,
    },
    Unpin {
        nth: u8,
    },
    Lock {
        at: u8,
    },
    /// As a lock, and the page's contents are being read in.
    Reading {
        at: u8,
    },
    Unlock {
        nth: u8,
    },
    Busy {
        at: u8,
    },
    Idle {
        nth: u8,
    },
    Isolate {
        at: u8,
    },
    Putback {
        nth: u8,
    },
    SwapOut {
        at: u8,
    },
    SwapIn {
        at: u8,
        write: bool,
    },
    SwapCache {
        at: u8,
    },
    Migrate(Migrate),
}

/// One run.
#[derive(Clone, Debug)]
pub(crate) struct Migrate {
    /// The first page, and how many.
    pub(crate) at: u8,
    pub(crate) pages: u8,
    /// The pages that were isolated before go too.
    pub(crate) isolated: bool,
    pub(crate) mode: Mode,
    /// The other profile's rules, for once.
    pub(crate) other_rules: bool,
    pub(crate) batch: u8,
    /// New pages on the list; by closures, there are always enough.
    pub(crate) targets: Option<u8>,
    /// The caller wants the old pages.
    pub(crate) moved: bool,
    /// Before the so-many-th edge of the run, somebody else does this.
    pub(crate) middle: Vec<(u8, Step)>,
    /// At these edges a step fails, where it can.
    pub(crate) fails: Vec<u8>,
}

/// Where a system starts, and what happens to it.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// How the file without a mover writes its pages.
    pub(crate) writes: u8,
    pub(crate) maps: Vec<Step>,
    pub(crate) steps: Vec<Step>,
}

fn map() -> impl Strategy<Value = Step> {
    let place = || (any::<u8>(), 0..20u8, 1..5u8);
    prop_oneof![
        3 => place().prop_map(|(space, page, pages)| Step::MapAnon { space, page, pages }),
        3 => (place(), 0..8u8, 0..4u8, any::<bool>()).prop_map(|((space, page, pages), file, index, shared)| {
            Step::MapFile { space, page, pages, file, index, shared }
        }),
    ]
}

/// What is mapped at first: anything, or one kind of memory only, so that all that is done is about that kind.
fn maps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    let of_a_file = |file: u8| {
        (0..20u8, 1..5u8, 0..4u8, any::<bool>()).prop_map(move |(page, pages, index, shared)| Step::MapFile {
            space: 0,
            page,
            pages,
            file,
            index,
            shared,
        })
    };
    prop_oneof![
        vec(map(), 1..most),
        (0..4u8).prop_flat_map(move |file| vec(of_a_file(file), 1..most)),
    ]
}

/// Every call but a run: also what others do in the middle of one.
fn call() -> impl Strategy<Value = Step> {
    let at = any::<u8>;
    let pages = || 1..4u8;
    let programs = prop_oneof![
        3 => map(),
        10 => (at(), 0..4u8).prop_map(|(at, cpu)| Step::Read { at, cpu }),
        18 => (at(), 0..4u8).prop_map(|(at, cpu)| Step::Write { at, cpu }),
        5 => (0..4u8, any::<bool>()).prop_map(|(nth, write)| Step::Again { nth, write }),
        3 => at().prop_map(|space| Step::Fork { space }),
        1 => at().prop_map(|space| Step::Exit { space }),
        3 => (at(), pages(), any::<bool>()).prop_map(|(at, pages, write)| Step::Protect { at, pages, write }),
        2 => (at(), pages()).prop_map(|(at, pages)| Step::Unmap { at, pages }),
        2 => (at(), pages(), 0..24u8).prop_map(|(at, pages, to)| Step::Move { at, pages, to }),
        1 => (at(), pages(), any::<bool>()).prop_map(|(at, pages, locked)| Step::Mlock { at, pages, locked }),
        1 => (at(), 0..4u8).prop_map(|(at, index)| Step::Remap { at, index }),
        1 => (0..8u8, 0..4u8).prop_map(|(file, pages)| Step::Truncate { file, pages }),
        1 => at().prop_map(|at| Step::CutOff { at }),
        1 => at().prop_map(|at| Step::SoftDirty { at }),
    ];
    let kernel = prop_oneof![
        1 => at().prop_map(|at| Step::Dirty { at }),
        1 => (at(), 0..4u8).prop_map(|(at, nth)| Step::DirtyBuffer { at, nth }),
        1 => at().prop_map(|at| Step::WriteBack { at }),
        1 => at().prop_map(|at| Step::BeginWriteback { at }),
        1 => at().prop_map(|nth| Step::EndWriteback { nth }),
        1 => at().prop_map(|at| Step::Get { at }),
        1 => at().prop_map(|nth| Step::Put { nth }),
        1 => at().prop_map(|at| Step::Pin { at }),
        1 => at().prop_map(|nth| Step::Unpin { nth }),
        1 => at().prop_map(|at| Step::Lock { at }),
        1 => at().prop_map(|at| Step::Reading { at }),
        2 => at().prop_map(|nth| Step::Unlock { nth }),
        1 => at().prop_map(|at| Step::Busy { at }),
        1 => at().prop_map(|nth| Step::Idle { nth }),
        2 => at().prop_map(|at| Step::Isolate { at }),
        1 => at().prop_map(|nth| Step::Putback { nth }),
        3 => at().prop_map(|at| Step::SwapOut { at }),
        2 => (at(), any::<bool>()).prop_map(|(at, write)| Step::SwapIn { at, write }),
        1 => at().prop_map(|at| Step::SwapCache { at }),
        1 => (0..32u8).prop_map(|ty| Step::SwapOn { ty }),
    ];
    prop_oneof![5 => programs, 4 => kernel]
}

fn again() -> impl Strategy<Value = Step> {
    (0..4u8, any::<bool>()).prop_map(|(nth, write)| Step::Again { nth, write })
}

/// Calls that are about one page or its neighbour: they get into each other's way.
fn about_one() -> impl Strategy<Value = Vec<Step>> {
    any::<u8>().prop_flat_map(|at| {
        let at = at & !1;
        let uses = prop_oneof![
            Just(Step::Read { at, cpu: 0 }),
            Just(Step::Write { at, cpu: 1 }),
            Just(Step::Dirty { at }),
            Just(Step::DirtyBuffer { at, nth: 0 }),
            Just(Step::SwapCache { at }),
        ];
        let holds = prop_oneof![
            Just(Step::Get { at }),
            Just(Step::Pin { at }),
            Just(Step::Lock { at }),
            Just(Step::Busy { at }),
            Just(Step::Isolate { at }),
            Just(Step::BeginWriteback { at }),
        ];
        let next = at.wrapping_add(1);
        let takes_away = prop_oneof![
            Just(Step::Unmap { at, pages: 1 }),
            Just(Step::CutOff { at }),
            Just(Step::Remap { at: next, index: 0 }),
            Just(Step::SwapOut { at }),
            Just(Step::WriteBack { at }),
        ];
        (vec(uses, 0..2), vec(holds, 0..3), vec(takes_away, 0..2))
            .prop_map(|(uses, holds, takes_away)| [uses, holds, takes_away].concat())
    })
}

fn wait() -> impl Strategy<Value = Step> {
    (any::<u8>(), prop::bool::weighted(0.3)).prop_map(|(at, write)| Step::Wait { at, write })
}

/// Several calls at one edge, so that what one of them changed is used by the next before the run goes on.
fn at_once(edge: impl Strategy<Value = u8>) -> impl Strategy<Value = Vec<(u8, Step)>> {
    let mixed = vec(prop_oneof![4 => call(), 2 => again(), 1 => wait()], 1..5);
    let calls = prop_oneof![2 => mixed, 1 => about_one()];
    (edge, calls).prop_map(|(edge, calls)| calls.into_iter().map(|call| (edge, call)).collect())
}

/// A run in which others do `middle`, and at most so many edges fail.
fn migrate(
    middle: impl Strategy<Value = Vec<(u8, Step)>>,
    fails: impl Strategy<Value = Vec<u8>>,
) -> impl Strategy<Value = Step> {
    let mode = prop_oneof![Just(Mode::Async), Just(Mode::SyncLight), Just(Mode::Sync)];
    let pages = (any::<u8>(), 1..9u8, any::<bool>());
    let how = (mode, prop::bool::weighted(0.1), 1..9u8, any::<bool>());
    (pages, how, prop::option::weighted(0.6, 0..9u8), middle, fails).prop_map(
        |((at, pages, isolated), (mode, other_rules, batch, moved), targets, middle, fails)| {
            Step::Migrate(Migrate {
                at,
                pages,
                isolated,
                mode,
                other_rules,
                batch,
                targets,
                moved,
                middle,
                fails,
            })
        },
    )
}

/// A case of any length up to `steps`.
pub(crate) fn any_case(steps: usize) -> BoxedStrategy<Case> {
    let at_once = at_once(prop_oneof![0..10u8, 0..40u8]);
    let middle = prop_oneof![
        1 => Just(Vec::new()),
        1 => vec(at_once, 1..3).prop_map(|calls| calls.concat()),
    ];
    let fails = prop_oneof![
        4 => Just(Vec::new()),
        1 => vec(0..40u8, 1..3),
    ];
    let step = prop_oneof![
        6 => call().prop_map(|call| vec![call]),
        2 => about_one(),
        2 => migrate(middle, fails).prop_map(|run| vec![run]),
    ];
    (0..6u8, maps(4), vec(step, 1..steps))
        .prop_map(|(writes, maps, steps)| Case {
            writes,
            maps,
            steps: steps.concat(),
        })
        .boxed()
}

/// A case in which every page is in use by several CPUs when it moves, and somebody changes it while it is in flight.
pub(crate) fn case_in_flight(steps: usize) -> BoxedStrategy<Case> {
    let use_it = (any::<u8>(), 0..4u8, any::<bool>()).prop_map(|(at, cpu, write)| match write {
        true => Step::Write { at, cpu },
        false => Step::Read { at, cpu },
    });
    let middle = prop_oneof![
        5 => vec(at_once(2..16u8), 1..3).prop_map(|calls| calls.concat()),
        1 => vec((2..16u8, wait()), 1..4),
    ];
    let fails = prop_oneof![
        2 => Just(Vec::new()),
        1 => vec(2..16u8, 1..2),
    ];
    let round = (vec(use_it, 2..6), vec(call(), 0..2), migrate(middle, fails))
        .prop_map(|(uses, calls, migrate)| [uses, calls, vec![migrate]].concat());
    (0..6u8, maps(3), vec(round, 1..steps.div_ceil(10).max(2)))
        .prop_map(|(writes, maps, rounds)| Case {
            writes,
            maps,
            steps: rounds.concat(),
        })
        .boxed()
}

impl Case {
    /// Returns how many things are done in it, those in the middle of its runs and those that fail among them.
    pub(crate) fn len(&self) -> usize {
        let within = |step: &Step| match step {
            Step::Migrate(run) => 1 + run.middle.len() + run.fails.len(),
            _ => 1,
        };
        self.maps.iter().chain(&self.steps).map(within).sum()
    }

    /// Every case that has one call less, or two, or of whose runs one has less happening in it.
    pub(crate) fn shorter(&self) -> Vec<Self> {
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
    /// Others do nothing in the middle but to wait for its pages and read them, and no step fails.
    pub(crate) fn only_waits(&self) -> bool {
        let reads = |step: &Step| matches!(step, Step::Wait { write: false, .. });
        self.fails.is_empty() && self.middle.iter().all(|(_, step)| reads(step))
    }
}

//! How calls are drawn.

use std::collections::VecDeque;

use migrate_core::Injection;
use mm_types::Mode;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::size::Size;
use crate::step::{Case, Fail, Migrate, Step};

/// Returns the generator of `seed`; neighbouring seeds have nothing in common.
#[must_use]
pub fn rng(seed: u64) -> TestRng {
    // Splitmix: ChaCha's own seed has 32 bytes.
    let mut state = seed;
    let mut bytes = [0; 32];
    for chunk in bytes.chunks_exact_mut(8) {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        chunk.copy_from_slice(&(word ^ (word >> 31)).to_le_bytes());
    }
    TestRng::from_seed(RngAlgorithm::ChaCha, &bytes)
}

fn map(size: Size) -> impl Strategy<Value = Step> {
    let place = move || (any::<u32>(), 0..size.span, 1..=size.area);
    let of_file = (any::<u32>(), 0..size.file_pages, any::<bool>());
    prop_oneof![
        3 => place().prop_map(|(space, page, pages)| Step::MapAnon { space, page, pages }),
        3 => (place(), of_file).prop_map(|((space, page, pages), (file, index, shared))| {
            Step::MapFile { space, page, pages, file, index, shared }
        }),
    ]
}

/// What is mapped at first: anything, or one kind of memory only, so that all that is done is about that kind.
fn maps(size: Size, most: usize) -> impl Strategy<Value = Vec<Step>> {
    let of_a_file = move |file: u32| {
        let place = (0..size.span, 1..=size.area, 0..size.file_pages, any::<bool>());
        place.prop_map(move |(page, pages, index, shared)| Step::MapFile {
            space: 0,
            page,
            pages,
            file,
            index,
            shared,
        })
    };
    prop_oneof![
        vec(map(size), 1..most),
        any::<u32>().prop_flat_map(move |file| vec(of_a_file(file), 1..most)),
    ]
}

/// Every call but a run: also what others do in the middle of one.
fn call(size: Size) -> impl Strategy<Value = Step> {
    let at = any::<u32>;
    let pages = move || 1..=size.range;
    let cpu = move || 0..size.cpus;
    let programs = prop_oneof![
        3 => map(size),
        10 => (at(), cpu()).prop_map(|(at, cpu)| Step::Read { at, cpu }),
        18 => (at(), cpu()).prop_map(|(at, cpu)| Step::Write { at, cpu }),
        5 => again(),
        3 => at().prop_map(|space| Step::Fork { space }),
        1 => at().prop_map(|space| Step::Exit { space }),
        3 => (at(), pages(), any::<bool>()).prop_map(|(at, pages, write)| Step::Protect { at, pages, write }),
        2 => (at(), pages()).prop_map(|(at, pages)| Step::Unmap { at, pages }),
        2 => (at(), pages(), 0..size.span + 4).prop_map(|(at, pages, to)| Step::Move { at, pages, to }),
        1 => (at(), pages(), any::<bool>()).prop_map(|(at, pages, locked)| Step::Mlock { at, pages, locked }),
        1 => (at(), 0..size.file_pages).prop_map(|(at, index)| Step::Remap { at, index }),
        1 => (at(), at()).prop_map(|(file, pages)| Step::Truncate { file, pages }),
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
    (0..16u32, any::<bool>()).prop_map(|(nth, write)| Step::Again { nth, write })
}

/// What others do in the middle of a run: anything, and what is rare elsewhere as often as the rest.
fn meanwhile(size: Size) -> impl Strategy<Value = Step> {
    let at = any::<u32>;
    let pages = move || 1..=size.range;
    let rare = prop_oneof![
        1 => at().prop_map(|space| Step::Fork { space }),
        3 => at().prop_map(|space| Step::Exit { space }),
        1 => (at(), pages(), any::<bool>()).prop_map(|(at, pages, write)| Step::Protect { at, pages, write }),
        1 => (at(), pages()).prop_map(|(at, pages)| Step::Unmap { at, pages }),
        1 => (at(), pages(), 0..size.span + 4).prop_map(|(at, pages, to)| Step::Move { at, pages, to }),
        1 => (at(), pages(), any::<bool>()).prop_map(|(at, pages, locked)| Step::Mlock { at, pages, locked }),
        1 => (at(), 0..size.file_pages).prop_map(|(at, index)| Step::Remap { at, index }),
        1 => (at(), at()).prop_map(|(file, pages)| Step::Truncate { file, pages }),
        1 => at().prop_map(|at| Step::CutOff { at }),
        1 => at().prop_map(|at| Step::SoftDirty { at }),
        1 => at().prop_map(|at| Step::Dirty { at }),
        1 => at().prop_map(|at| Step::WriteBack { at }),
        2 => (at(), 0..4u8).prop_map(|(at, nth)| Step::DirtyBuffer { at, nth }),
        2 => at().prop_map(|at| Step::Busy { at }),
        3 => at().prop_map(|nth| Step::Idle { nth }),
        1 => at().prop_map(|at| Step::BeginWriteback { at }),
        3 => at().prop_map(|nth| Step::EndWriteback { nth }),
        1 => at().prop_map(|at| Step::Lock { at }),
        2 => at().prop_map(|nth| Step::Unlock { nth }),
        1 => at().prop_map(|at| Step::Pin { at }),
        1 => at().prop_map(|nth| Step::Unpin { nth }),
        2 => at().prop_map(|nth| Step::Put { nth }),
        2 => at().prop_map(|at| Step::Isolate { at }),
        3 => at().prop_map(|nth| Step::Putback { nth }),
        1 => at().prop_map(|at| Step::SwapOut { at }),
        4 => (at(), any::<bool>()).prop_map(|(at, write)| Step::SwapIn { at, write }),
        1 => at().prop_map(|at| Step::SwapCache { at }),
    ];
    prop_oneof![1 => call(size), 1 => rare]
}

/// Calls that are about one page or its neighbour: they get into each other's way.
fn about_one() -> impl Strategy<Value = Vec<Step>> {
    any::<u32>().prop_flat_map(|at| {
        // Such a pick is a page of the run in its middle, and means the same to what looks for a place and for a frame.
        let at = at & !3 | 2;
        let uses = prop_oneof![
            Just(Step::Read { at, cpu: 0 }),
            Just(Step::Write { at, cpu: 1 }),
            Just(Step::Dirty { at }),
            Just(Step::DirtyBuffer { at, nth: 0 }),
            Just(Step::SwapCache { at }),
        ];
        let holds = prop_oneof![
            1 => Just(Step::Get { at }),
            1 => Just(Step::Pin { at }),
            1 => Just(Step::Lock { at }),
            2 => Just(Step::Busy { at }),
            2 => Just(Step::Isolate { at }),
            1 => Just(Step::BeginWriteback { at }),
        ];
        let next = at.wrapping_add(4);
        let takes_away = prop_oneof![
            1 => Just(Step::Unmap { at, pages: 1 }),
            2 => Just(Step::CutOff { at }),
            1 => Just(Step::Remap { at: next, index: 0 }),
            1 => Just(Step::SwapOut { at }),
            1 => Just(Step::WriteBack { at }),
        ];
        let then = prop_oneof![
            2 => any::<bool>().prop_map(move |write| Step::SwapIn { at, write }),
            1 => Just(Step::Put { nth: 0 }),
            1 => Just(Step::Unpin { nth: 0 }),
            1 => Just(Step::Unlock { nth: 0 }),
            1 => Just(Step::Idle { nth: 0 }),
            1 => Just(Step::Putback { nth: 0 }),
            1 => Just(Step::EndWriteback { nth: 0 }),
        ];
        (
            vec(uses, 0..2),
            vec(holds, 0..3),
            vec(takes_away, 0..2),
            vec(then, 0..3),
        )
            .prop_map(|(uses, holds, takes_away, then)| [uses, holds, takes_away, then].concat())
    })
}

fn wait() -> impl Strategy<Value = Step> {
    (any::<u32>(), prop::bool::weighted(0.3)).prop_map(|(at, write)| Step::Wait { at, write })
}

/// Several calls at one edge, so that what one of them changed is used by the next before the run goes on.
fn at_once(size: Size, edge: impl Strategy<Value = u16>) -> impl Strategy<Value = Vec<(u16, Step)>> {
    let mixed = vec(prop_oneof![4 => meanwhile(size), 2 => again(), 1 => wait()], 2..7);
    let calls = prop_oneof![2 => mixed, 1 => about_one()];
    (edge, calls).prop_map(|(edge, calls)| calls.into_iter().map(|call| (edge, call)).collect())
}

/// A step that fails: one of the first `steps` that can, or one of the first few that can fail in one of all ways.
fn fail(size: Size, steps: u16) -> impl Strategy<Value = Fail> {
    let ways = 0..u8::try_from(Injection::ALL.len()).unwrap_or(u8::MAX);
    prop_oneof![
        1 => (0..steps).prop_map(Fail::At),
        2 => (ways, 0..1 + size.run / 4).prop_map(|(way, nth)| Fail::So { way, nth }),
    ]
}

/// A run in which others do `middle`, and steps fail as `fails` says.
fn migrate(
    size: Size,
    middle: impl Strategy<Value = Vec<(u16, Step)>>,
    fails: impl Strategy<Value = Vec<Fail>>,
) -> impl Strategy<Value = Step> {
    let mode = prop_oneof![Just(Mode::Async), Just(Mode::SyncLight), Just(Mode::Sync)];
    let pages = (any::<u32>(), 1..=size.run, any::<bool>());
    let back = prop::bool::weighted(0.2);
    let how = (mode, prop::bool::weighted(0.1), 1..=size.run, any::<bool>(), back);
    // A list that is too short now and then: the longest is as long as the longest run.
    let targets = prop::option::weighted(0.6, 0..=size.run);
    (pages, how, targets, middle, fails).prop_map(
        |((at, pages, isolated), (mode, other_rules, batch, moved, back), targets, middle, fails)| {
            Step::Migrate(Migrate {
                at,
                pages,
                isolated,
                mode,
                other_rules,
                batch,
                targets,
                moved,
                // Who moves pages there and back is alone.
                back: back && middle.is_empty() && fails.is_empty(),
                middle,
                fails,
            })
        },
    )
}

/// One call, a run, or some calls that are about one page.
fn any_steps(size: Size) -> BoxedStrategy<Vec<Step>> {
    let at_once = at_once(size, prop_oneof![2 => 0..10u16, 1 => 0..size.edges]);
    let middle = prop_oneof![
        2 => Just(Vec::new()),
        3 => vec(at_once, 1..3 + usize::from(size.edges / 200)).prop_map(|calls| calls.concat()),
    ];
    let fails = prop_oneof![
        5 - size.failing => Just(Vec::new()),
        size.failing => vec(fail(size, size.edges), 1..3 + usize::from(size.edges / 25)),
    ];
    prop_oneof![
        6 => call(size).prop_map(|call| vec![call]),
        2 => about_one(),
        size.runs => migrate(size, middle, fails).prop_map(|run| vec![run]),
    ]
    .boxed()
}

/// A small case of any length up to `steps`.
pub fn any_case(steps: usize) -> BoxedStrategy<Case> {
    let size = Size::SMALL;
    (0..6u8, maps(size, 4), vec(any_steps(size), 1..steps))
        .prop_map(|(writes, maps, steps)| Case {
            writes,
            maps,
            steps: steps.concat(),
        })
        .boxed()
}

/// A small case in which every page is in use by several CPUs when it moves, and somebody changes it while it is in flight.
pub fn case_in_flight(steps: usize) -> BoxedStrategy<Case> {
    let size = Size::SMALL;
    let use_it = (any::<u32>(), 0..size.cpus, any::<bool>()).prop_map(|(at, cpu, write)| match write {
        true => Step::Write { at, cpu },
        false => Step::Read { at, cpu },
    });
    let middle = prop_oneof![
        5 => vec(at_once(size, 2..16u16), 1..3).prop_map(|calls| calls.concat()),
        1 => vec((2..16u16, wait()), 1..4),
        1 => Just(Vec::new()),
    ];
    let fails = prop_oneof![
        2 => Just(Vec::new()),
        1 => vec(fail(size, 16), 1..4),
    ];
    let round = (vec(use_it, 2..6), vec(call(size), 0..2), migrate(size, middle, fails))
        .prop_map(|(uses, calls, migrate)| [uses, calls, vec![migrate]].concat());
    (0..6u8, maps(size, 3), vec(round, 1..steps.div_ceil(10).max(2)))
        .prop_map(|(writes, maps, rounds)| Case {
            writes,
            maps,
            steps: rounds.concat(),
        })
        .boxed()
}

/// Calls of one seed, one after the other, without end.
#[derive(Debug)]
pub struct Calls {
    runner: TestRunner,
    maps: BoxedStrategy<Step>,
    steps: BoxedStrategy<Vec<Step>>,
    /// What was drawn and not yet given.
    drawn: VecDeque<Step>,
    /// Areas to begin with, so that there is something to move.
    first: usize,
}

impl Calls {
    /// Begins the calls of `seed`, for worlds of `size`.
    #[must_use]
    pub fn new(size: Size, seed: u64) -> Self {
        let config = Config {
            failure_persistence: None,
            ..Config::default()
        };
        Self {
            runner: TestRunner::new_with_rng(config, rng(seed)),
            maps: map(size).boxed(),
            steps: any_steps(size),
            drawn: VecDeque::new(),
            first: size.alive,
        }
    }
}

impl Iterator for Calls {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        // No strategy above filters, so none can refuse.
        if let Some(left) = self.first.checked_sub(1) {
            self.first = left;
            return self.maps.new_tree(&mut self.runner).ok().map(|tree| tree.current());
        }
        while self.drawn.is_empty() {
            self.drawn = self.steps.new_tree(&mut self.runner).ok()?.current().into();
        }
        self.drawn.pop_front()
    }
}

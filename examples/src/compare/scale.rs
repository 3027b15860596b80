//! What a page costs with more pages, more mappings of each, and more threads.

use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::sync::Barrier;
use std::thread;

use backend_user::{Area, Machine, MachineError, Migrate, Prot, Sharing};
use docs_gen::performance::{Against, Curve, LeftOut, Scaling, Spread};
use mm_types::{NodeId, PAGE_SIZE, Page};

use crate::args::MAX_BATCH;
use crate::console;
use crate::memory;
use crate::reference::Reference;
use crate::size::Bytes;

use super::accessor::Phase;
use super::args::{Comparison, processors};
use super::clock::Took;
use super::core_only::{self, Core};
use super::engine::Engine;
use super::host::{self, Host};
use super::rounds::{COPY, WARM_UP, pair, spread};
use super::user::{self, User};

/// Pages of the charts by mappings.
const FEW: usize = 4096;

/// The most spaces that map a page.
const MAPPINGS: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];

/// Memory that is left to others.
const SPARE: u64 = 1 << 30;

/// Makes an engine of so many pages.
type Make = Box<dyn Fn(usize) -> Result<Box<dyn Engine>, String>>;

/// What makes an engine.
struct Maker {
    name: &'static str,
    /// Bytes that a page takes.
    bytes: usize,
    make: Make,
}

/// Two frames, and what is known of them.
const TWO_FRAMES: usize = 2 * (PAGE_SIZE + size_of::<Page>()) + 64;

fn makers() -> Vec<Maker> {
    let user = user::available().into_iter().map(|(name, builder)| Maker {
        name,
        bytes: TWO_FRAMES,
        make: Box::new(move |pages| Ok(Box::new(User::new(name, builder.clone(), pages)?))),
    });
    let core = Maker {
        name: core_only::NAME,
        bytes: 2 * size_of::<Page>() + 64,
        make: Box::new(|pages| Ok(Box::new(Core::new(pages)))),
    };
    // Its memory is not given back: last.
    let host = Maker {
        name: host::NAME,
        bytes: TWO_FRAMES,
        make: Box::new(|pages| Ok(Box::new(Host::new(pages, 1)))),
    };
    user.chain([core, host]).collect()
}

/// Measures one engine, in batches of 512 with nobody else about: nanoseconds a page moved, and a page copied.
fn measured(engine: &mut dyn Engine, rounds: usize, reference: &mut Reference) -> Result<[Spread; 2], String> {
    let (mut moved, mut copied) = (Vec::new(), Vec::new());
    for round in 0..WARM_UP + rounds {
        engine.prepare()?;
        let pair = pair(engine, MAX_BATCH, 0, reference, [Phase::Copying, Phase::Moving], 0)?;
        if round >= WARM_UP {
            moved.push(pair.ns());
            copied.push(pair.copy_ns());
        }
    }
    let nothing = || "no round was measured".to_owned();
    let spread = |ns: Vec<f64>| spread(ns.into_iter()).ok_or_else(nothing);
    Ok([spread(moved)?, spread(copied)?])
}

fn curves(names: impl Iterator<Item = &'static str>) -> Vec<Curve> {
    let empty = |name: &str| Curve {
        name: name.to_owned(),
        points: Vec::new(),
    };
    names.map(empty).collect()
}

/// Returns the curves that have points.
fn drawn(against: Against, curves: Vec<Curve>) -> Scaling {
    let curves = curves.into_iter().filter(|curve| !curve.points.is_empty()).collect();
    Scaling { against, curves }
}

fn by_pages(asked: &Comparison, stop: &AtomicBool, left_out: &mut Vec<LeftOut>) -> Result<Scaling, String> {
    let makers: Vec<Maker> = makers().into_iter().filter(|maker| asked.wants(maker.name)).collect();
    let mut curves = curves(makers.iter().map(|maker| maker.name).chain([COPY]));
    let sizes = (3..=7)
        .map(|power| 10usize.pow(power))
        .filter(|pages| *pages <= asked.most_pages);
    for pages in sizes {
        let mut reference = Reference::new(pages).map_err(|error| error.to_string())?;
        let mut copied = None;
        for (maker, curve) in makers.iter().zip(&mut curves) {
            go_on(stop)?;
            let (need, available) = ((pages * maker.bytes) as u64, memory::available());
            if available.is_some_and(|available| need.saturating_add(SPARE) > available) {
                left_out.push(LeftOut {
                    what: format!("{}, {pages} pages", maker.name),
                    why: format!(
                        "needs {} of memory, {} is available",
                        Bytes(need),
                        Bytes(available.unwrap_or(0))
                    ),
                });
                continue;
            }
            console::remark(format_args!("{pages} pages: {}", maker.name));
            let mut engine = (maker.make)(pages)?;
            let [moved, copy] = measured(engine.as_mut(), asked.rounds, &mut reference)?;
            curve.points.push((pages as u64, moved));
            copied.get_or_insert(copy);
        }
        if let (Some(curve), Some(copy)) = (curves.last_mut(), copied) {
            curve.points.push((pages as u64, copy));
        }
    }
    Ok(drawn(Against::Pages, curves))
}

fn by_mappings(asked: &Comparison, stop: &AtomicBool) -> Result<Scaling, String> {
    // Private pages have one mapping each.
    let wanted = |name: &str| name == user::NAME && asked.wants(name);
    let users: Vec<_> = user::engines().into_iter().filter(|(name, _)| wanted(name)).collect();
    let host = asked.wants(host::NAME);
    let names = users.iter().map(|(name, _)| *name).chain(host.then_some(host::NAME));
    let mut curves = curves(names);
    let pages = FEW.min(asked.pages);
    let mut reference = Reference::new(pages).map_err(|error| error.to_string())?;
    for mappings in MAPPINGS {
        for (n, curve) in curves.iter_mut().enumerate() {
            go_on(stop)?;
            console::remark(format_args!("{mappings} mappings of each page: {}", curve.name));
            let mut engine: Box<dyn Engine> = match users.get(n) {
                Some((name, builder)) => Box::new(User::shared(name, builder.clone(), pages, mappings)?),
                None => Box::new(Host::new(pages, mappings)),
            };
            let [moved, _] = measured(engine.as_mut(), asked.rounds, &mut reference)?;
            curve.points.push((mappings as u64, moved));
        }
    }
    Ok(drawn(Against::Mappings, curves))
}

/// Moves the pages of `areas`, each by a thread of its own; returns nanoseconds a page of all.
fn together(machine: &Machine, areas: &[Area], to: NodeId) -> Result<f64, String> {
    let start = Barrier::new(areas.len() + 1);
    let reports = thread::scope(|scope| {
        let movers: Vec<_> = areas
            .iter()
            .map(|area| {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    // As in the other rows: no batch is cut.
                    let request = Migrate::new(area, to).batch(MAX_BATCH).stall_budget(None);
                    Took::by(|| machine.migrate(request))
                })
            })
            .collect();
        start.wait();
        movers.into_iter().map(|mover| mover.join()).collect::<Vec<_>>()
    });
    let (mut moved, mut took) = (0, Duration::ZERO);
    for report in reports {
        let (each, report) = report.map_err(|_| "a thread that moves pages panicked".to_owned())?;
        moved += report.map_err(|error| error.to_string())?.moved;
        // They begin together: all is done when the last one is.
        took = took.max(each.own());
    }
    if moved == 0 {
        return Err("no page moved".to_owned());
    }
    Ok(took.as_nanos() as f64 / moved as f64)
}

/// The cost of a page where so many threads move pages of one machine at a time.
fn movers(
    builder: backend_user::Builder,
    pages: usize,
    threads: usize,
    rounds: usize,
) -> Result<Option<Spread>, String> {
    let each = (pages / threads).max(1);
    let make = || -> Result<_, MachineError> {
        let frames = threads * (each + 2 * MAX_BATCH);
        let machine = builder.nodes(2).frames_per_node(frames).build()?;
        let space = machine.space(threads * each)?;
        let areas: Result<Vec<_>, _> = (0..threads)
            .map(|_| space.map_anonymous(each, Prot::ReadWrite, Sharing::Private))
            .collect();
        let areas = areas?;
        areas.iter().try_for_each(Area::populate)?;
        Ok((machine, areas))
    };
    let (machine, areas) = make().map_err(|error| error.to_string())?;
    let mut ns = Vec::new();
    for round in 0..WARM_UP + rounds {
        let to = NodeId::new(u16::from(round % 2 == 0));
        let cost = together(&machine, &areas, to)?;
        if round >= WARM_UP {
            ns.push(cost);
        }
    }
    Ok(spread(ns.into_iter()))
}

fn by_threads(asked: &Comparison, stop: &AtomicBool) -> Result<Scaling, String> {
    let mut curves = Vec::new();
    for (name, builder) in user::available() {
        if !asked.wants(name) {
            continue;
        }
        let named = |what: &str| Curve {
            name: format!("{name}: {what}"),
            points: Vec::new(),
        };
        let (mut moving, mut writing) = (
            named("all of them move pages"),
            named("one moves pages, the others write"),
        );
        let mut reference = Reference::new(asked.pages).map_err(|error| error.to_string())?;
        let user = User::new(name, builder.clone(), asked.pages)?;
        for threads in 1..=processors() {
            go_on(stop)?;
            console::remark(format_args!("{threads} threads: {name}"));
            let cost = movers(builder.clone(), asked.pages, threads, asked.rounds)?;
            moving.points.extend(cost.map(|cost| (threads as u64, cost)));
            let mut ns = Vec::new();
            for round in 0..WARM_UP + asked.rounds {
                let order = [Phase::Copying, Phase::Moving];
                let pair = pair(&user, MAX_BATCH, threads - 1, &mut reference, order, round as u64)?;
                if round >= WARM_UP {
                    ns.push(pair.ns());
                }
            }
            writing
                .points
                .extend(spread(ns.into_iter()).map(|cost| (threads as u64, cost)));
        }
        curves.extend([moving, writing]);
    }
    Ok(drawn(Against::Threads, curves))
}

fn go_on(stop: &AtomicBool) -> Result<(), String> {
    if stop.load(Ordering::Relaxed) {
        return Err("interrupted".to_owned());
    }
    Ok(())
}

/// Measures all three; what there is no memory for is named in `left_out`.
///
/// # Errors
/// Why it could not be measured.
pub fn all(asked: &Comparison, stop: &AtomicBool, left_out: &mut Vec<LeftOut>) -> Result<Vec<Scaling>, String> {
    let (mappings, threads) = (by_mappings(asked, stop)?, by_threads(asked, stop)?);
    // Last, because it takes the most memory.
    let pages = by_pages(asked, stop, left_out)?;
    Ok(vec![pages, mappings, threads])
}

//! Everything that moves pages, side by side: what a page costs beside a plain copy of a page, in one table and a few charts.
//!
//! | question | module |
//! |---|---|
//! | what was asked for? | [`args`] |
//! | what moves pages? | [`engine`]: [`user`], [`core_only`], [`host`], [`kernel`], [`move_pages`] |
//! | who uses the memory meanwhile? | [`accessor`], by its own [`clock`] |
//! | what did it cost? | [`rounds`], [`table`] |
//! | and with more pages, mappings, threads? | [`scale`] |
//! | and in the main job? | [`main_job`] |
//! | where was that? | [`place`] |
//!
//! # Method
//!
//! A round goes through all engines and sizes of a batch: it copies as many pages plainly as the engine moves, and has the engine move
//! them, in turn one first and the other. It does so with nobody else about, and with threads that write to the memory, one less than
//! there are processors. What is printed is the median of the rounds, and the spread. Rounds that take the memory do not count, nor does
//! time in which something else had the processor.
//!
//! An engine may leave work to those who use the memory: a fault of the next access. The writers' processor time beyond what their
//! visits take while pages are only copied is counted in a second ratio. A visit that takes longer than twice what 99 of 100 take while
//! pages are only copied has waited.

pub mod accessor;
pub mod args;
pub mod clock;
pub mod core_only;
pub mod engine;
pub mod host;
pub mod kernel;
pub mod main_job;
pub mod move_pages;
pub mod place;
pub mod rounds;
pub mod scale;
pub mod table;
pub mod user;

use core::sync::atomic::{AtomicBool, Ordering};

use docs_gen::performance::{LeftOut, Method, Results};

use crate::console;
use args::Comparison;
use engine::Engine;
use rounds::Rounds;

/// An engine, or why there is none.
type Made = Result<Box<dyn Engine>, LeftOut>;

/// Makes every engine there is, in the order of the table.
fn engines(asked: &Comparison) -> Vec<Made> {
    let pages = asked.pages;
    let made = |what: &str, engine: Result<Box<dyn Engine>, String>| {
        engine.map_err(|why| LeftOut {
            what: what.to_owned(),
            why,
        })
    };
    let mut all: Vec<Made> = Vec::new();
    for (name, builder) in user::engines().into_iter().filter(|(name, _)| asked.wants(name)) {
        for batch in &asked.batches {
            let user = user::User::new(name, builder.clone(), pages).map(|user| user.only(*batch));
            let what = format!("{name}, batches of {batch}");
            all.push(made(&what, user.map(|user| Box::new(user) as Box<dyn Engine>)));
        }
    }
    all.push(Ok(Box::new(core_only::Core::new(pages))));
    all.push(Ok(Box::new(host::Host::new(pages, 1))));
    let kernel = kernel::Kernel::new(asked.fragments());
    all.push(made(
        kernel::NAME,
        kernel.map(|kernel| Box::new(kernel) as Box<dyn Engine>),
    ));
    let two_nodes = move_pages::MovePages::new(pages);
    all.push(made(
        move_pages::NAME,
        two_nodes.map(|engine| Box::new(engine) as Box<dyn Engine>),
    ));
    all
}

/// Measures everything that was asked for, or as much as there is time for until `stop`.
///
/// # Errors
/// Why it could not be measured.
pub fn run(asked: &Comparison, stop: &AtomicBool) -> Result<Results, String> {
    let stopped = || stop.load(Ordering::Relaxed);
    let (mut made, mut left_out) = (Vec::new(), Vec::new());
    for engine in engines(asked) {
        match engine {
            Ok(engine) if asked.wants(engine.name()) => made.push(engine),
            Ok(_) => {}
            Err(left) => left_out.push(left),
        }
    }
    let mut rounds = Rounds::new(asked, made)?;
    for round in 0..rounds::WARM_UP + asked.rounds {
        if stopped() {
            return Err("interrupted".to_owned());
        }
        let of = asked.rounds;
        match (round + 1).checked_sub(rounds::WARM_UP) {
            None | Some(0) => console::remark("a round that takes the memory"),
            Some(n) => console::remark(format_args!("round {n} of {of}")),
        }
        rounds.round(round, stop)?;
    }
    let (rows, disturbed, not_measured) = rounds.finish();
    left_out.extend(not_measured);
    let scaling = if asked.scaling {
        scale::all(asked, stop, &mut left_out)?
    } else {
        Vec::new()
    };
    Ok(Results {
        commit: place::commit(),
        host: place::host(),
        method: Method {
            pages: asked.pages as u64,
            rounds: asked.rounds as u64,
            writers: asked.writers as u64,
            disturbed,
        },
        rows,
        left_out,
        scaling,
    })
}

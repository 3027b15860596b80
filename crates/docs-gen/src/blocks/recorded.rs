//! Traces, recorded by running the engine on the model, and checked before they are shown.

use migrate_core::fixture::{Replay, run_scenario};
use migrate_core::model::{Access, Config, Model, ModelFixture, Op};
use migrate_core::{Frames, Profile};
use mm_types::trace::{Recorder, check_text, numbered_text};
use mm_types::{ActorId, Mode, NodeId, Pfn, Site, SpaceId, Vpn};

const PROGRAM: ActorId = ActorId::new(0);
const TARGET: NodeId = NodeId::new(1);

fn kernel(profile: &'static Profile) -> Model {
    Model::new(Config {
        profile,
        ..Config::default()
    })
}

fn write(model: &Model, site: Site) -> Result<Pfn, String> {
    match model.access(PROGRAM, site, Op::Write(42), ()) {
        Access::Done(42) => model.pte(site).pfn().ok_or_else(|| "nothing is mapped".to_owned()),
        other => Err(format!("a store gave {other:?}")),
    }
}

/// Makes a space with `pages` written pages; returns the frame of the first.
pub(super) fn written_page(model: &Model, pages: u64) -> Result<Pfn, String> {
    let site = Site::new(model.new_space(), Vpn::new(3));
    model.map_anon(site, pages);
    write(model, site)
}

/// Returns the trace with the numbers of its document beside the lines, as a text block.
fn shown(model: &Model, recorder: &Recorder) -> Result<String, String> {
    model
        .check(&[])
        .map_err(|violation| format!("the model: {violation:?}"))?;
    let text = recorder.text();
    check_text(&text).map_err(|error| error.to_string())?;
    let numbered = numbered_text(&text).map_err(|error| error.to_string())?;
    Ok(format!("```text\n{numbered}```\n"))
}

/// One anonymous page that two spaces map since a fork.
pub(super) fn one_page(profile: &'static Profile) -> Result<String, String> {
    let model = kernel(profile);
    let page = written_page(&model, 1)?;
    model.fork(SpaceId::new(0), ());
    let recorder = Recorder::new();
    model.migrate(&[page], TARGET, profile, Mode::Sync, 1, &recorder);
    shown(&model, &recorder)
}

/// Two pages in one batch.
pub(super) fn batch() -> Result<String, String> {
    let profile = &migrate_core::MODERN;
    let model = kernel(profile);
    let space = model.new_space();
    model.map_anon(Site::new(space, Vpn::new(3)), 2);
    let mut pages = Vec::new();
    for page in 3..5 {
        pages.push(write(&model, Site::new(space, Vpn::new(page)))?);
    }
    let recorder = Recorder::new();
    model.migrate(&pages, TARGET, profile, Mode::Async, 2, &recorder);
    shown(&model, &recorder)
}

/// A page that somebody holds, in the last pass that a run makes.
pub(super) fn refused() -> Result<String, String> {
    let profile = &migrate_core::LINUX_2_6_17;
    let model = kernel(profile);
    let page = written_page(&model, 1)?;
    let held = model.get(page).ok_or("the page is gone")?;
    let recorder = Recorder::new();
    model.migrate(&[page], TARGET, profile, Mode::Sync, 1, &recorder);
    model.put(held);
    let whole = shown(&model, &recorder)?;
    let last = whole.rfind("        pass number=").ok_or("no pass was recorded")?;
    Ok(format!("```text\n        …\n{}", &whole[last..]))
}

/// What an entry of the run of 2006 was and became: the first line with `word`, from `key` on.
pub(super) fn entry_2006(word: &str, key: &str) -> Result<String, String> {
    let run = one_page(&migrate_core::LINUX_2_6_17)?;
    let line = run.lines().find(|line| line.contains(word));
    let entry = line.and_then(|line| line.find(key).map(|at| line[at..].to_owned()));
    entry.ok_or_else(|| format!("no {word} with {key} was recorded"))
}

const FAULT: &str = include_str!("../book/fault.scn");

pub(super) fn scenario_fault() -> String {
    format!("```text\n{FAULT}```\n")
}

/// The scenario of a thread that touches a page in flight. What its text expects has been checked when this returns.
pub(super) fn fault(profile: &'static Profile) -> Result<String, String> {
    let replay = run_scenario(&mut ModelFixture::new(), FAULT, Some(profile)).map_err(|error| error.to_string())?;
    match replay {
        Replay::Ran(report) => {
            let numbered = numbered_text(&report.trace()).map_err(|error| error.to_string())?;
            Ok(format!("```text\n{numbered}```\n"))
        }
        Replay::NotApplicable { lacks } => Err(format!("the model has no {lacks}")),
    }
}

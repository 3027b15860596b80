//! A run with somebody watching what no trace tells: the translations that each CPU has cached, and the page cache's slot.

use core::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use migrate_core::fixture::{Fixture, Recording};
use migrate_core::invariants::{Inspect, TranslationState};
use migrate_core::model::{Model, ModelFixture};
use migrate_core::{Args, Edge, Hooked, Profile, Slot, Verdict, migrate_pages, putback_lru_pages};
use mm_types::scenario::{Mover, Sharing};
use mm_types::trace::{Event, Line, Lines, check_text, text_of};
use mm_types::{ActorId, MappingId, Mode, Pfn, Reason, Site, SpaceId, Vpn};

/// Events that the run may have.
const ROOM: usize = 1 << 8;
/// Which page of the file it is.
pub(super) const INDEX: u64 = 1;
/// Where the page is mapped: by a program that writes it, and by one that reads it.
pub(super) const WRITER: Site = Site::new(SpaceId::new(0), Vpn::new(3));
pub(super) const READER: Site = Site::new(SpaceId::new(1), Vpn::new(4));
/// The threads that use the page, each on the CPU of its number; the migrator is on CPU 0.
pub(super) const WRITES: ActorId = ActorId::new(1);
pub(super) const READS: ActorId = ActorId::new(2);

/// A translation that a CPU has cached: frames have the names of the trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cached {
    pub(super) cpu: u32,
    pub(super) site: Site,
    pub(super) frame: u64,
    pub(super) write: bool,
}

/// What was seen at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// The frame in the page cache's slot.
    pub(super) slot: Option<u64>,
    /// Every CPU's translations.
    pub(super) cached: Vec<Cached>,
}

/// The run: its lines, and what was seen after each.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) lines: Vec<Line>,
    pub(super) looks: Vec<Look>,
}

/// What was seen when so many events had happened: the page cache's slot, and each CPU's translations.
struct Seen {
    events: usize,
    slot: Option<Pfn>,
    cached: Vec<TranslationState>,
}

/// What is being watched, while it goes on.
struct Watch<'w> {
    fixture: &'w ModelFixture,
    file: MappingId,
    seen: RefCell<Vec<Seen>>,
}

impl Watch<'_> {
    fn look(&self) {
        let model = self.fixture.backend();
        let mut cached = Vec::new();
        model.translations(&mut |held| cached.push(held));
        self.seen.borrow_mut().push(Seen {
            events: self.fixture.recording().events().count(),
            slot: self.fixture.cached(self.file, INDEX).ok().flatten(),
            cached,
        });
    }
}

/// Migrates a page of a file that two programs map and use. Just before the copy one of them stores to it again.
pub(super) fn run(profile: &'static Profile) -> Result<Watched, String> {
    let mut fixture = ModelFixture::new();
    let recording = Arc::new(Recording::with_capacity(ROOM));
    fixture.begin(profile, Arc::clone(&recording));
    let told = |error: migrate_core::fixture::FixtureError| error.to_string();
    fixture.space().map_err(told)?;
    fixture.space().map_err(told)?;
    let file = fixture.file(4, Mover::Plain).map_err(told)?;
    let pfn = fixture
        .map_file(file, INDEX, WRITER, true, Sharing::Shared)
        .map_err(told)?;
    fixture.share(pfn, READER, false).map_err(told)?;
    fixture.fault(WRITES, WRITER, Some(42)).map_err(told)?;
    fixture.fault(READS, READER, None).map_err(told)?;

    let watch = Watch {
        fixture: &fixture,
        file,
        seen: RefCell::new(Vec::new()),
    };
    migrate(&fixture, &watch, pfn, profile, &recording)?;
    fixture.finish_faults().map_err(told)?;
    watch.look();
    fixture.check()?;

    let events: Vec<Event> = recording.events().collect();
    let text = text_of(events.iter().copied());
    check_text(&text).map_err(|error| error.to_string())?;
    let lines: Result<Vec<Line>, _> = Lines::new(&text).and_then(Iterator::collect);
    let lines = lines.map_err(|error| error.to_string())?;
    let names = names(&events, &lines);
    let looks = (1..=lines.len()).map(|events| look_after(events, &watch.seen.borrow(), &names));
    Ok(Watched {
        looks: looks.collect::<Result<_, _>>()?,
        lines,
    })
}

fn migrate(
    fixture: &ModelFixture,
    watch: &Watch<'_>,
    pfn: Pfn,
    profile: &'static Profile,
    recording: &Recording,
) -> Result<(), String> {
    let model: &Model = fixture.backend();
    let isolated = model.isolate(pfn, recording).map_err(|refusal| refusal.to_string())?;
    let stored = RefCell::new(false);
    let hook = |edge: Edge| {
        watch.look();
        if matches!(edge, Edge::Copy { .. }) && !stored.replace(true) {
            // It goes to sleep; what it stores is there when it wakes.
            let _ = fixture.fault(WRITES, WRITER, Some(43));
        }
        Verdict::Go
    };
    let hooked = Hooked::new(model, &hook);
    let mut from = VecDeque::from([isolated]);
    let (mut moved, mut failed) = (VecDeque::new(), VecDeque::new());
    let mut news = VecDeque::from([fixture.new_page().map_err(|error| error.to_string())?]);
    let mut slots = [Slot::new()];
    let args = Args {
        from: &mut from,
        target: migrate_core::HookedTarget(migrate_core::NewPages(&mut news)),
        moved: Some(&mut moved),
        failed: &mut failed,
        slots: &mut slots,
        profile,
        mode: Mode::Sync,
        reason: Reason::SyscallOrCpuset,
        outcome: &mut |_, _| {},
        observer: recording,
    };
    migrate_pages(&hooked, args).map_err(|error| error.to_string())?;
    watch.look();
    putback_lru_pages(model, &mut moved, recording);
    Ok(())
}

/// The names that the trace gives frames.
fn names(events: &[Event], lines: &[Line]) -> BTreeMap<Pfn, u64> {
    let mut names = BTreeMap::new();
    for (event, line) in events.iter().zip(lines) {
        if let (Some(pfn), Some(name)) = (event.frame(), line.event.frame()) {
            names.insert(pfn, name.raw());
        }
        if let (Event::NewPage { new, .. }, Event::NewPage { new: name, .. }) = (event, line.event) {
            names.insert(*new, name.raw());
        }
    }
    names
}

/// What was seen first when so many events had happened: nothing else had happened since the last of them.
fn look_after(events: usize, seen: &[Seen], names: &BTreeMap<Pfn, u64>) -> Result<Look, String> {
    let found = seen.iter().find(|seen| seen.events >= events).or(seen.last());
    let found = found.ok_or("nobody looked")?;
    let name = |pfn: Pfn| names.get(&pfn).copied().ok_or_else(|| format!("{pfn:?} has no name"));
    let cached = found.cached.iter().map(|held| {
        Ok(Cached {
            cpu: held.cpu,
            site: held.site,
            frame: name(held.pfn)?,
            write: held.write,
        })
    });
    Ok(Look {
        slot: found.slot.map(name).transpose()?,
        cached: cached.collect::<Result<_, String>>()?,
    })
}

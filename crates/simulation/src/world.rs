//! The model beside the reference: every call is made of both, and what they show is compared after each.

use core::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, MutexGuard};

use migrate_core::fixture::Recording;
use migrate_core::model::{Config, Model, Op, WritePage};
use migrate_core::{Mover, Profile};
use mm_types::trace::text_of;
use mm_types::{ActorId, Mapping, MappingId, NodeId, PageFlags, Pfn, Site, SpaceId, Vpn};

use crate::broke::Moment;
use crate::counts::{Counter, Counts, Kind};
use crate::disturbed::Disturbed;
use crate::held::{Held, Shared, lock, wake_by_holders};
use crate::reference::{Page, Reference};
use crate::size::Size;
use crate::step::{Case, Step};

/// Each file's way to move.
const MOVERS: [Mover; 4] = [Mover::Plain, Mover::Buffers, Mover::Fallback, Mover::Never];

/// How far a pick looks for what it wants.
const LOOK: usize = 64;

/// How much is looked at, and what is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Care {
    /// All of the state is recounted and compared after each so many calls and steps of runs; what a call touched, after each.
    pub every: u32,
    /// Of each so-many-th run the trace is replayed by the checker, and all of memory is compared with what it was before.
    pub traces: u32,
    /// Calls are written down in words.
    pub log: bool,
    /// The state before each step of a run is kept, so that a report says where what is seen at the end began.
    pub moments: bool,
}

impl Care {
    /// Everything, always.
    pub const FULL: Self = Self {
        every: 1,
        traces: 1,
        log: true,
        moments: false,
    };

    /// As [`Care::FULL`], for the report of a case that fails.
    pub const REPORT: Self = Self {
        moments: true,
        ..Self::FULL
    };
}

/// Both, and what has been done.
#[derive(Debug)]
pub struct World {
    pub(crate) model: Model,
    pub(crate) size: Size,
    pub(crate) care: Care,
    pub(crate) profile: &'static Profile,
    pub(crate) reference: RefCell<Reference>,
    held: Shared,
    writes: WritePage,
    log: RefCell<Vec<String>>,
    pub(crate) words: Cell<u64>,
    pub(crate) spaces_ever: Cell<usize>,
    /// Threads of their own so far.
    pub(crate) threads: Cell<u32>,
    /// Those that have not come to an end yet, and what each wants.
    pub(crate) waits: RefCell<BTreeMap<ActorId, Op>>,
    /// The newest accesses, and the CPU that made each.
    recent: RefCell<std::collections::VecDeque<(Site, u8)>>,
    /// The CPU that used a place last: it may remember a translation.
    last_cpu: RefCell<BTreeMap<Site, u8>>,
    /// What the last call changed that changed mappings.
    pub(crate) changed: RefCell<Vec<Site>>,
    /// Where the pages are mapped that the run in progress is about.
    pub(crate) run_sites: RefCell<Vec<Site>>,
    /// What the call that is being made is about.
    pub(crate) touched: RefCell<Vec<Site>>,
    /// Calls and steps of runs so far, and runs.
    pub(crate) looks: Cell<u32>,
    pub(crate) runs: Cell<u32>,
    /// Where the next look at what nobody touched begins.
    pub(crate) cursor: Cell<u64>,
    /// A migration is in progress: nobody may sleep for its pages.
    pub(crate) in_run: Cell<bool>,
    /// All has been done, and is looked at once more.
    pub(crate) ending: Cell<bool>,
    /// No run gets a new page.
    pub(crate) refuses: Cell<bool>,
    /// What others changed in the run in progress, where that is kept.
    pub(crate) disturbed: RefCell<Option<Disturbed>>,
    /// What the last run did.
    pub(crate) recording: RefCell<Option<Arc<Recording>>>,
    /// The state before each of its steps, where that is kept.
    pub(crate) moments: RefCell<Vec<Moment>>,
    /// How many events it had told when it went wrong.
    pub(crate) broke: Cell<Option<usize>>,
    pub(crate) counts: Counter,
}

/// The so-many-th of what there is.
pub(crate) fn pick<T: Copy>(of: &[T], nth: u32) -> Option<T> {
    of.get((nth as usize).checked_rem(of.len())?).copied()
}

pub(crate) fn site_name(site: Site) -> String {
    format!("m{}+{:#x}", site.space.raw(), site.page.raw())
}

impl World {
    /// Makes a small world for `case`.
    #[must_use]
    pub fn new(profile: &'static Profile, care: Care, case: &Case) -> Self {
        Self::sized(Size::SMALL, care, profile, case.writes)
    }

    /// Makes a world with one empty space and its files; the ones without a mover write their pages in the `writes`th way.
    #[must_use]
    pub fn sized(size: Size, care: Care, profile: &'static Profile, writes: u8) -> Self {
        let model = Model::new(Config {
            nodes: size.nodes,
            frames: size.frames,
            spaces: size.ever,
            cpus: size.cpus.into(),
            profile,
            ..Config::default()
        });
        let ways = [
            WritePage::Unlocks,
            WritePage::Starts,
            WritePage::Missing,
            WritePage::Activates,
            WritePage::Fails,
            WritePage::FailsUnlocked,
        ];
        let writes = ways[usize::from(writes) % ways.len()];
        let reference = Reference {
            spaces: vec![model.new_space()],
            ..Reference::default()
        };
        let held = Shared::default();
        wake_by_holders(&model, &held);
        let world = Self {
            model,
            size,
            care,
            profile,
            reference: RefCell::new(reference),
            held,
            writes,
            log: RefCell::new(vec![format!("{}; file 2 has writepage {writes:?}", profile.rules)]),
            words: Cell::new(0),
            spaces_ever: Cell::new(1),
            threads: Cell::new(0),
            waits: RefCell::default(),
            recent: RefCell::default(),
            last_cpu: RefCell::default(),
            changed: RefCell::default(),
            run_sites: RefCell::default(),
            touched: RefCell::default(),
            looks: Cell::new(0),
            runs: Cell::new(0),
            cursor: Cell::new(0),
            in_run: Cell::new(false),
            ending: Cell::new(false),
            refuses: Cell::new(false),
            disturbed: RefCell::default(),
            recording: RefCell::default(),
            moments: RefCell::default(),
            broke: Cell::new(None),
            counts: Counter::default(),
        };
        for _ in 0..size.files {
            let file = world.create_file();
            world.held().files.push(file);
        }
        world
    }

    /// Makes a file; each fourth moves in the same way.
    pub(crate) fn create_file(&self) -> MappingId {
        let mut reference = self.reference.borrow_mut();
        let mover = MOVERS[reference.files.len() % MOVERS.len()];
        let pages = usize::from(self.size.file_pages);
        let file = self.model.create_file(pages, mover, self.writes);
        let words = (0..pages).filter_map(|index| self.model.stored(file, index));
        reference.files.push(words.collect());
        file
    }

    pub(crate) fn mover(&self, file: MappingId) -> Mover {
        MOVERS[file.raw() as usize % MOVERS.len()]
    }

    pub(crate) fn held(&self) -> MutexGuard<'_, Held> {
        lock(&self.held)
    }

    /// Takes what has been counted so far.
    #[must_use]
    pub fn take_counts(&self) -> Counts {
        self.counts.take()
    }

    /// Counts and writes down what is being done, before it is done.
    pub(crate) fn note(&self, word: &'static str, what: impl FnOnce() -> String) {
        let kind = match (self.in_run.get(), self.ending.get()) {
            (true, _) => Kind::Middle,
            (false, true) => Kind::Sweep,
            (false, false) => Kind::Call,
        };
        self.counts.add(kind, word);
        self.log(|| format!("{word} {}", what()));
    }

    pub(crate) fn log(&self, line: impl FnOnce() -> String) {
        if self.care.log {
            let indent = if self.in_run.get() { "    in the middle: " } else { "" };
            self.log.borrow_mut().push(format!("{indent}{}", line()));
        }
    }

    /// Returns what was written down, a line for each call.
    #[must_use]
    pub fn story(&self) -> String {
        self.log.borrow().join("\n")
    }

    /// Returns the canonical trace of the last run whose trace was kept, if there was one.
    #[must_use]
    pub fn trace(&self) -> String {
        let recording = self.recording.borrow();
        recording
            .as_ref()
            .map_or_else(String::new, |recording| text_of(recording.events()))
    }

    /// The mapped page that a pick means: somewhere in some space, or the next one after it.
    pub(crate) fn site(&self, at: u32) -> Option<Site> {
        // In the middle of a run, most of what is done is done to its pages.
        let of_run = (self.in_run.get() && at % 4 != 0).then(|| pick(&self.run_sites.borrow(), at / 4));
        let mapped = |site: &Site| self.reference.borrow().pages.contains_key(site);
        of_run
            .flatten()
            .filter(mapped)
            .or_else(|| self.find_site(at, |_, _| true))
    }

    /// The first mapped page from where a pick points that is as wanted, if there is one near.
    pub(crate) fn find_site(&self, at: u32, wanted: impl Fn(Site, &Page) -> bool) -> Option<Site> {
        let reference = self.reference.borrow();
        let mut near = reference.sites_from(self.place(at, &reference.spaces)?).take(LOOK);
        near.find(|(site, page)| wanted(*site, page)).map(|(site, _)| site)
    }

    fn place(&self, at: u32, spaces: &[SpaceId]) -> Option<Site> {
        let alive = spaces.len() as u32;
        let page = at.checked_div(alive)? % (u32::from(self.size.span) + u32::from(self.size.area));
        Some(Site::new(pick(spaces, at)?, Vpn::new(page.into())))
    }

    pub(crate) fn note_access(&self, site: Site, cpu: u8) {
        let mut recent = self.recent.borrow_mut();
        recent.push_front((site, cpu));
        recent.truncate(8);
        self.last_cpu.borrow_mut().insert(site, cpu);
    }

    /// An access to be repeated: of a place that was changed just now, or one of the last ones.
    pub(crate) fn recent(&self, nth: u32) -> Option<(Site, u8)> {
        let (changed, last_cpu) = (self.changed.borrow(), self.last_cpu.borrow());
        let known = |site: &Site| Some((*site, *last_cpu.get(site)?));
        let changed: Vec<_> = changed.iter().filter_map(known).collect();
        let of_changed = (nth % 2 == 1).then(|| pick(&changed, nth / 2)).flatten();
        of_changed.or_else(|| pick(self.recent.borrow_mut().make_contiguous(), nth / 2))
    }

    /// The frames that are mapped or in a file's cache from where a pick points, each once and `most` of them.
    pub(crate) fn frames(&self, at: u32, most: usize) -> Vec<Pfn> {
        let look = LOOK + 4 * most;
        let reference = self.reference.borrow();
        let Some(place) = self.place(at / 4, &reference.spaces) else {
            return Vec::new();
        };
        let mapped = reference.sites_from(place).filter_map(|(site, _)| {
            let pte = self.model.pte(site);
            pte.pfn().filter(|_| pte.is_present())
        });
        let files = self.held().files.clone();
        let pages = usize::from(self.size.file_pages);
        let slots = (0..files.len() * pages)
            .cycle()
            .skip(at as usize / 4 % (files.len() * pages));
        let cached = slots
            .take(look)
            .filter_map(|slot| self.model.cached(files[slot / pages], slot % pages));
        let mut seen = BTreeSet::new();
        let first = |pfn: &Pfn| seen.insert(*pfn);
        // One pick in four begins with a file, and so finds pages that nobody maps.
        if at % 4 == 3 {
            cached.chain(mapped.take(look)).filter(first).take(most).collect()
        } else {
            mapped.take(look).chain(cached).filter(first).take(most).collect()
        }
    }

    pub(crate) fn frame(&self, at: u32) -> Option<Pfn> {
        self.placed(at).or_else(|| self.frames(at, 1).first().copied())
    }

    pub(crate) fn frame_with_buffers(&self, at: u32) -> Option<Pfn> {
        let has_buffers = |pfn: &Pfn| self.flags(*pfn).contains(PageFlags::PRIVATE);
        let near = || self.frames(at, usize::from(self.size.file_pages)).into_iter();
        self.placed(at).filter(has_buffers).or_else(|| near().find(has_buffers))
    }

    /// The page at a place, where the pick is even: calls that pick alike are about the same page.
    fn placed(&self, at: u32) -> Option<Pfn> {
        let pte = self.model.pte(self.site(at).filter(|_| at % 2 == 0)?);
        pte.pfn().filter(|_| pte.is_present())
    }

    pub(crate) fn flags(&self, pfn: Pfn) -> PageFlags {
        self.model.page(pfn).flags().load()
    }

    /// Locked by a run: who waited for it now would wait for ever.
    pub(crate) fn is_locked_by_a_run(&self, pfn: Pfn) -> bool {
        self.in_run.get()
            && self.flags(pfn).contains(PageFlags::LOCKED)
            && !self.held().locks.iter().any(|locked| locked.pfn() == pfn)
    }

    pub(crate) fn name(&self, pfn: Pfn) -> String {
        match (self.model.page(pfn).mapping(), self.model.page(pfn).index()) {
            (Mapping::File(file), index) => format!("f{:x} (file {} page {index})", pfn.raw(), file.raw()),
            (Mapping::Anon(_), index) => format!("f{:x} (anonymous, index {index:#x})", pfn.raw()),
            (Mapping::None, _) => format!("f{:x}", pfn.raw()),
        }
    }

    /// Plays a whole case.
    ///
    /// # Errors
    /// What went wrong; [`World::story`] says where.
    pub fn play(&self, case: &Case) -> Result<(), String> {
        case.maps
            .iter()
            .chain(&case.steps)
            .try_for_each(|step| self.step(step))?;
        self.end()
    }

    /// Makes one call, and looks at what became of it.
    ///
    /// # Errors
    /// As [`World::play`].
    pub fn step(&self, step: &Step) -> Result<(), String> {
        self.moments.borrow_mut().clear();
        self.act(step, ())?;
        self.look()
            .inspect_err(|what| self.mark_where(|_, wrong| wrong.contains(what)))
    }

    /// The node that is further on from where a page is.
    pub(crate) fn other_node(&self, pfn: Pfn) -> NodeId {
        NodeId::new((self.model.node_of(pfn).raw() + 1) % self.size.nodes)
    }
}

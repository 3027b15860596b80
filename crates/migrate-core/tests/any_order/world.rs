//! The model beside the reference: every call is made of both, and what they show is compared after each.

use core::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, MutexGuard};

use migrate_core::fixture::Recording;
use migrate_core::model::{Config, Model, Op, WritePage};
use migrate_core::{Mover, Profile};
use mm_types::{ActorId, Mapping, MappingId, NodeId, PageFlags, Pfn, Pte, Site};

use super::held::{Held, Shared, lock, wake_by_holders};
use super::reference::Reference;
use super::step::Case;

/// Frames of each of the two nodes: more than all spaces, files and targets together can want.
pub(crate) const FRAMES: u64 = 160;
/// Pages of each file.
pub(crate) const FILE: usize = 4;
/// Each file's way to move.
const MOVERS: [Mover; 4] = [Mover::Plain, Mover::Buffers, Mover::Fallback, Mover::Never];
/// Spaces alive at a time, and ever.
pub(crate) const ALIVE: usize = 4;
pub(crate) const SPACES: usize = 16;

/// Both, and what has been done.
pub(crate) struct World {
    pub(crate) model: Model,
    pub(crate) profile: &'static Profile,
    pub(crate) reference: RefCell<Reference>,
    held: Shared,
    log: RefCell<Vec<String>>,
    pub(crate) words: Cell<u64>,
    /// Every access so far, and the CPU that made it.
    pub(crate) recent: RefCell<Vec<(Site, u8)>>,
    /// Every thread that waited so far, and what for.
    pub(crate) waits: RefCell<Vec<(ActorId, Op)>>,
    /// What is told of the run in progress, or of the last.
    pub(crate) recording: RefCell<Arc<Recording>>,
    /// A migration is in progress: nobody may sleep for its pages.
    pub(crate) in_run: Cell<bool>,
    pub(crate) counts: RefCell<BTreeMap<String, u64>>,
}

/// The so-many-th of what there is.
pub(crate) fn pick<T: Copy>(of: &[T], nth: u8) -> Option<T> {
    of.get(usize::from(nth).checked_rem(of.len())?).copied()
}

pub(crate) fn site_name(site: Site) -> String {
    format!("m{}+{:#x}", site.space.raw(), site.page.raw())
}

impl World {
    pub(crate) fn new(profile: &'static Profile, case: &Case) -> Self {
        let model = Model::new(Config {
            frames: FRAMES,
            spaces: SPACES,
            profile,
            ..Config::default()
        });
        let writes = [
            WritePage::Unlocks,
            WritePage::Starts,
            WritePage::Missing,
            WritePage::Activates,
            WritePage::Fails,
            WritePage::FailsUnlocked,
        ];
        let writes = writes[usize::from(case.writes) % writes.len()];
        let files: Vec<MappingId> = MOVERS.map(|mover| model.create_file(FILE, mover, writes)).into();
        let words = |file: &MappingId| (0..FILE).filter_map(|index| model.stored(*file, index)).collect();
        let reference = Reference {
            spaces: vec![model.new_space()],
            files: files.iter().map(words).collect(),
            ..Reference::default()
        };
        let held = Shared::default();
        lock(&held).files = files;
        wake_by_holders(&model, &held);
        let log = format!("{}; file 2 has writepage {writes:?}", profile.rules);
        Self {
            model,
            profile,
            reference: RefCell::new(reference),
            held,
            log: RefCell::new(vec![log]),
            words: Cell::new(0),
            recent: RefCell::default(),
            waits: RefCell::default(),
            recording: RefCell::new(Arc::new(Recording::with_capacity(0))),
            in_run: Cell::new(false),
            counts: RefCell::default(),
        }
    }

    pub(crate) fn held(&self) -> MutexGuard<'_, Held> {
        lock(&self.held)
    }

    pub(crate) fn count(&self, what: impl Into<String>) {
        *self.counts.borrow_mut().entry(what.into()).or_default() += 1;
    }

    /// Writes down what is being done, before it is done.
    pub(crate) fn note(&self, line: String) {
        let word = line.split(' ').next().unwrap_or_default().to_owned();
        let indent = if self.in_run.get() { "    in the middle: " } else { "" };
        self.count(format!("{}{word}", indent.trim_start()));
        self.log.borrow_mut().push(format!("{indent}{line}"));
    }

    pub(crate) fn log(&self) -> String {
        self.log.borrow().join("\n")
    }

    pub(crate) fn sites(&self, which: impl Fn(Site, Pte) -> bool) -> Vec<Site> {
        let reference = self.reference.borrow();
        let sites = reference.pages.keys().copied();
        sites.filter(|site| which(*site, self.model.pte(*site))).collect()
    }

    /// The frames that are mapped or in a file's cache, each once, in the order of addresses and then of files.
    pub(crate) fn frames(&self) -> Vec<Pfn> {
        let mut seen = BTreeSet::new();
        let mapped = self.sites(|_, pte| pte.is_present());
        let mapped = mapped.into_iter().filter_map(|site| self.model.pte(site).pfn());
        let files = self.held().files.clone();
        let cached = files
            .into_iter()
            .flat_map(|file| (0..FILE).filter_map(move |index| self.model.cached(file, index)));
        mapped.chain(cached).filter(|pfn| seen.insert(*pfn)).collect()
    }

    pub(crate) fn mover(&self, file: MappingId) -> Mover {
        MOVERS[file.raw() as usize]
    }

    pub(crate) fn flags(&self, pfn: Pfn) -> PageFlags {
        self.model.page(pfn).flags().load()
    }

    /// Locked by a run: who waited for it now would wait for ever.
    pub(crate) fn is_locked_by_a_run(&self, pfn: Pfn) -> bool {
        let ours = self.held().locks.iter().any(|locked| locked.pfn() == pfn);
        self.in_run.get() && !ours && self.flags(pfn).contains(PageFlags::LOCKED)
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
    /// What went wrong; [`World::log`] says where.
    pub(crate) fn play(&self, case: &Case) -> Result<(), String> {
        for step in case.maps.iter().chain(&case.steps) {
            self.act(step, ())?;
            self.check()?;
        }
        self.end()
    }

    /// The node that is further on from where a page is.
    pub(crate) fn other_node(&self, pfn: Pfn) -> NodeId {
        NodeId::new(1 - self.model.node_of(pfn).raw())
    }

    pub(crate) fn entries(&self) -> BTreeMap<Site, Pte> {
        let reference = self.reference.borrow();
        reference
            .pages
            .keys()
            .map(|site| (*site, self.model.pte(*site)))
            .collect()
    }

    /// True where a locked area maps the page.
    pub(crate) fn is_mlocked(&self, pfn: Pfn) -> bool {
        let reference = self.reference.borrow();
        let mut locked = reference.pages.iter().filter(|(_, page)| page.locked);
        locked.any(|(site, _)| self.model.pte(*site).maps(pfn))
    }
}

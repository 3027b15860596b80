//! Pages of every kind, each in a space of its own, and the others who use them.

use core::cell::RefCell;
use std::collections::BTreeSet;

use migrate_core::model::{Config, Model, Op, WritePage};
use migrate_core::{Cache, Edge, Frames, Mover, PageRef, Profile, UsesPageMap, Verdict};
use mm_types::{ActorId, MappingId, NodeId, PageFlags, Pfn, Site, SpaceId, Vpn};

const USER: ActorId = ActorId::new(0);

/// What a page is, and who is in its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Anon,
    AnonForked,
    SwapCache,
    SwapCacheUnmapped,
    FileClean,
    FileDirty,
    FilePrivate,
    Buffers,
    BuffersDirty,
    BuffersBusy,
    Fallback,
    FallbackPrivate,
    FallbackDirty(WritePage),
    Never,
    Mlocked,
    Nonlinear,
    Truncated,
    Freed,
    Pinned,
    ExtraReference,
    Locked,
    ReadIn,
    Writeback,
    Poisoned,
}

impl Kind {
    pub(crate) const ALL: &'static [Self] = &[
        Self::Anon,
        Self::AnonForked,
        Self::SwapCache,
        Self::SwapCacheUnmapped,
        Self::FileClean,
        Self::FileDirty,
        Self::FilePrivate,
        Self::Buffers,
        Self::BuffersDirty,
        Self::BuffersBusy,
        Self::Fallback,
        Self::FallbackPrivate,
        Self::FallbackDirty(WritePage::Missing),
        Self::FallbackDirty(WritePage::Unlocks),
        Self::FallbackDirty(WritePage::Starts),
        Self::FallbackDirty(WritePage::Activates),
        Self::FallbackDirty(WritePage::Fails),
        Self::FallbackDirty(WritePage::FailsUnlocked),
        Self::Never,
        Self::Mlocked,
        Self::Nonlinear,
        Self::Truncated,
        Self::Freed,
        Self::Pinned,
        Self::ExtraReference,
        Self::Locked,
        Self::ReadIn,
        Self::Writeback,
        Self::Poisoned,
    ];
}

/// One page, and all places that it is seen from.
pub(crate) struct Listed {
    pub(crate) kind: Kind,
    pub(crate) pfn: Pfn,
    pub(crate) file: Option<MappingId>,
    pub(crate) sites: Vec<Site>,
    /// What a load sees at each site; `None` where the program would be killed.
    pub(crate) value: Option<u64>,
}

impl Listed {
    /// Private data of such a page may be freed by an attempt that then fails: this is not undone.
    pub(crate) fn may_lose_private_data(&self) -> bool {
        matches!(self.kind, Kind::FallbackPrivate | Kind::Truncated)
    }
}

/// The model, its pages, and what others hold of them.
pub(crate) struct Stage {
    pub(crate) model: Model,
    pub(crate) pages: Vec<Listed>,
    spaces: Vec<SpaceId>,
    references: Vec<PageRef>,
    locked: RefCell<BTreeSet<Pfn>>,
}

impl Stage {
    pub(crate) fn new(profile: &'static Profile, kinds: &[Kind]) -> Self {
        let model = Model::new(Config {
            // A page of every kind and one that a fault needs.
            frames: 2 * kinds.len() as u64,
            spaces: 3 * kinds.len(),
            cpus: 1,
            profile,
            ..Config::default()
        });
        let mut stage = Self {
            model,
            pages: Vec::new(),
            spaces: Vec::new(),
            references: Vec::new(),
            locked: RefCell::default(),
        };
        for (n, kind) in (1..).zip(kinds) {
            let page = stage.page(*kind, n);
            stage.pages.push(page);
        }
        migrate_core::migrate_prep(&stage.model);
        stage
    }

    fn access(&self, site: Site, op: Op) {
        let done = self.model.access(USER, site, op, ());
        assert!(
            matches!(done, migrate_core::model::Access::Done(_)),
            "{site:?}: {done:?}"
        );
    }

    fn page(&mut self, kind: Kind, n: u64) -> Listed {
        let value = 100 + n;
        let space = self.model.new_space();
        self.spaces.push(space);
        let site = Site::new(space, Vpn::new(0x10));
        let file = |mover, write| self.model.create_file(2, mover, write);
        let file = match kind {
            Kind::FileClean
            | Kind::FileDirty
            | Kind::FilePrivate
            | Kind::Nonlinear
            | Kind::ReadIn
            | Kind::Writeback => Some(file(Mover::Plain, WritePage::Unlocks)),
            Kind::Buffers | Kind::BuffersDirty | Kind::BuffersBusy | Kind::Truncated => {
                Some(file(Mover::Buffers, WritePage::Unlocks))
            }
            Kind::Fallback | Kind::FallbackPrivate => Some(file(Mover::Fallback, WritePage::Unlocks)),
            Kind::FallbackDirty(write) => Some(file(Mover::Fallback, write)),
            Kind::Never => Some(file(Mover::Never, WritePage::Unlocks)),
            _ => None,
        };
        match file {
            Some(file) => self.model.map_file(site, 1, file, 0, kind != Kind::FilePrivate),
            None => self.model.map_anon(site, 1),
        }
        if kind == Kind::Nonlinear {
            self.model.remap_file(site, 1, ());
        }
        let stored = file.and_then(|file| self.model.stored(file, usize::from(kind == Kind::Nonlinear)));
        let writes = file.is_none() || matches!(kind, Kind::FileDirty | Kind::BuffersDirty | Kind::FallbackDirty(_));
        self.access(site, if writes { Op::Write(value) } else { Op::Read });
        let pfn = self.model.pte(site).pfn().expect("it was just touched");
        let mut sites = vec![site];
        self.others_come(kind, pfn, &mut sites);
        let value = if writes { Some(value) } else { stored };
        Listed {
            kind,
            pfn,
            file,
            sites,
            value: value.filter(|_| !matches!(kind, Kind::Truncated | Kind::Freed)),
        }
    }

    /// What else happens to a page of this kind before the run.
    fn others_come(&mut self, kind: Kind, pfn: Pfn, sites: &mut Vec<Site>) {
        let model = &self.model;
        match kind {
            Kind::AnonForked | Kind::FileDirty => {
                for _ in 0..2 {
                    let child = model.fork(sites[0].space, ());
                    self.spaces.push(child);
                    sites.push(Site::new(child, sites[0].page));
                }
                for site in &sites[1..] {
                    self.access(*site, Op::Read);
                }
            }
            Kind::SwapCache => drop(model.swap_cache(pfn).expect("an anonymous page")),
            Kind::SwapCacheUnmapped => {
                // Somebody's reference keeps it from being freed at once.
                let page = model.get(pfn).expect("a page in use");
                model.swap_out(pfn);
                model.put(page);
            }
            Kind::BuffersBusy => model.set_buffers_busy(pfn, true),
            Kind::FallbackPrivate => model.attach_buffers(pfn),
            Kind::Mlocked => model.mlock(sites[0], 1, true),
            Kind::Truncated => assert!(model.truncate_page(pfn, ())),
            Kind::Pinned => assert!(model.pin(pfn)),
            Kind::ExtraReference => self.references.push(model.get(pfn).expect("a page in use")),
            Kind::Locked => {
                assert!(model.lock_page(pfn));
                self.locked.borrow_mut().insert(pfn);
            }
            Kind::ReadIn => {
                assert!(model.lock_page(pfn));
                self.locked.borrow_mut().insert(pfn);
                model.page(pfn).flags().edit(PageFlags::empty(), PageFlags::UPTODATE);
            }
            Kind::Writeback => model.begin_writeback(pfn),
            Kind::Poisoned => {
                model.page(pfn).flags().edit(PageFlags::HWPOISON, PageFlags::empty());
            }
            _ => {}
        }
    }

    /// What happens to some after they were isolated: their users go.
    pub(crate) fn after_isolation(&self, observer: impl mm_types::trace::Observer) {
        for page in self.pages.iter().filter(|page| page.kind == Kind::Freed) {
            self.model.exit(page.sites[0].space, observer);
        }
    }

    /// What others do while a run sleeps for them.
    pub(crate) fn while_it_sleeps(&self, edge: Edge, verdict: Verdict) {
        match edge {
            Edge::Lock(pfn) => self.unlock(pfn),
            Edge::WaitWriteback(pfn) => self.model.end_writeback(pfn),
            Edge::WaitBuffers(pfn) if verdict == Verdict::Go => self.model.set_buffers_busy(pfn, false),
            _ => {}
        }
    }

    fn unlock(&self, pfn: Pfn) {
        if self.locked.borrow_mut().remove(&pfn) {
            // Whoever read it in has done so; the others had no reason to change it.
            self.model
                .page(pfn)
                .flags()
                .edit(PageFlags::UPTODATE, PageFlags::empty());
            self.model.unlock_page(pfn);
        }
    }

    /// Writes back what somebody dirtied in the middle of a run.
    pub(crate) fn write_back(&self, page: &Listed) {
        self.model.write_back(page.pfn);
    }

    /// What others have begun, they end after the run, whether it waited for them or not.
    pub(crate) fn after_the_run(&self) {
        for page in &self.pages {
            self.unlock(page.pfn);
            if self.model.page(page.pfn).flags().load().contains(PageFlags::WRITEBACK) {
                self.model.end_writeback(page.pfn);
            }
            self.model.set_buffers_busy(page.pfn, false);
        }
    }

    /// The references that others hold.
    pub(crate) fn held(&self) -> Vec<Pfn> {
        self.references.iter().map(PageRef::pfn).collect()
    }

    /// Everybody goes; whatever is not free then is lost.
    ///
    /// # Errors
    /// What is left.
    pub(crate) fn end(mut self) -> Result<(), String> {
        let model = &self.model;
        self.references.drain(..).for_each(|page| model.put(page));
        for page in &self.pages {
            let of_frame = model.page(page.pfn);
            if page.kind == Kind::Pinned && of_frame.pins() > 0 {
                model.unpin(page.pfn);
            }
            if page.kind == Kind::Truncated && of_frame.flags().load().contains(PageFlags::PRIVATE) {
                let orphan = model.get(page.pfn).expect("its private data hold it");
                let orphan = model.try_lock(orphan).map_err(|_| "still locked".to_owned())?;
                model.release_buffers(&orphan);
                let orphan = model.unlock(orphan);
                model.put(orphan);
            }
        }
        self.spaces.iter().for_each(|space| model.exit(*space, ()));
        for file in self.pages.iter().filter_map(|page| page.file) {
            model.truncate(file, 0, ());
        }
        migrate_core::migrate_prep(model);
        model
            .check(&[])
            .map_err(|violation| format!("at the end: {violation}"))?;
        for node in [0, 1].map(NodeId::new) {
            let free = model.free_frames(node);
            let frames = model.page_map().len() / 2;
            if free != frames {
                return Err(format!("{free} of {frames} frames of node {} are free", node.raw()));
            }
        }
        Ok(())
    }
}

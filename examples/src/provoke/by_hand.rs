//! What a scenario cannot say: done to the model by hand, or by a hook that lets one step of the protocol fail.

use std::collections::VecDeque;

use migrate_core::model::{Config, Model, Op, WritePage};
use migrate_core::{
    Args, Edge, Frames, FromFn, Hooked, LINUX_2_6_17, MODERN, Mover, PageRef, Profile, Slot, Verdict, migrate_pages,
    putback_lru_pages,
};
use mm_types::{ActorId, Mode, NodeId, Outcome, PageFlags, Pfn, Reason, Refusal, Site, Vpn};

const SOURCE: u64 = 0;

/// A model with one page, and who uses it.
struct Stage {
    model: Model,
    site: Site,
    pfn: Pfn,
}

impl Stage {
    fn anonymous(profile: &'static Profile) -> Result<Self, String> {
        let model = Self::model(profile);
        let site = Site::new(model.new_space(), Vpn::new(SOURCE));
        model.map_anon(site, 1);
        Self::touch(model, site)
    }

    fn file(profile: &'static Profile, mover: Mover, write: WritePage) -> Result<Self, String> {
        let model = Self::model(profile);
        let site = Site::new(model.new_space(), Vpn::new(SOURCE));
        let file = model.create_file(1, mover, write);
        model.map_file(site, 1, file, 0, true);
        Self::touch(model, site)
    }

    fn model(profile: &'static Profile) -> Model {
        Model::new(Config {
            profile,
            ..Config::default()
        })
    }

    fn touch(model: Model, site: Site) -> Result<Self, String> {
        let _ = model.access(ActorId::new(0), site, Op::Read, ());
        let pfn = model.pte(site).pfn().ok_or("the model did not map the page")?;
        Ok(Self { model, site, pfn })
    }

    /// One run over the page, in which the steps that `fails` names fail.
    fn run(&self, profile: &Profile, fails: impl Fn(Edge) -> bool) -> Result<Vec<Outcome>, String> {
        self.run_with(profile, fails, |model| {
            model.allocate(NodeId::new(1)).ok_or(Refusal::NoTarget)
        })
    }

    fn run_with(
        &self,
        profile: &Profile,
        fails: impl Fn(Edge) -> bool,
        take: impl Fn(&Model) -> Result<PageRef, Refusal>,
    ) -> Result<Vec<Outcome>, String> {
        let hook = |edge| if fails(edge) { Verdict::Fail } else { Verdict::Go };
        let backend = Hooked::new(&self.model, &hook);
        let page = match self.model.isolate(self.pfn, ()) {
            Ok(page) => page,
            Err(refusal) => return Ok(vec![Outcome::Refused(refusal)]),
        };
        let mut outcomes = Vec::new();
        let (mut from, mut moved, mut failed) = (VecDeque::from([page]), VecDeque::new(), VecDeque::new());
        let args = Args {
            from: &mut from,
            target: FromFn {
                take: |_: &PageRef| take(&self.model),
                give_back: |page| self.model.put(page),
            },
            moved: Some(&mut moved),
            failed: &mut failed,
            slots: &mut [Slot::new()],
            profile,
            mode: Mode::Sync,
            reason: Reason::SyscallOrCpuset,
            outcome: &mut |_, outcome| outcomes.push(outcome),
            observer: (),
        };
        migrate_pages(&backend, args).map_err(|error| error.to_string())?;
        for list in [&mut moved, &mut failed, &mut from] {
            putback_lru_pages(&self.model, list, ());
        }
        Ok(outcomes)
    }
}

pub(super) fn buffers_not_releasable() -> Result<Vec<Outcome>, String> {
    let stage = Stage::file(&MODERN, Mover::Fallback, WritePage::Unlocks)?;
    // The reference is that of the private data.
    let page = stage.model.page(stage.pfn);
    page.get();
    page.flags().edit(PageFlags::PRIVATE, PageFlags::empty());
    stage.run(&MODERN, |edge| matches!(edge, Edge::ReleaseBuffers(_)))
}

pub(super) fn mapped() -> Result<Vec<Outcome>, String> {
    let stage = Stage::file(&LINUX_2_6_17, Mover::Plain, WritePage::Unlocks)?;
    stage.model.remap_file(stage.site, 0, ());
    let Stage { model, site, .. } = stage;
    Stage::touch(model, site)?.run(&LINUX_2_6_17, |_| false)
}

pub(super) fn slot_changed() -> Result<Vec<Outcome>, String> {
    let stage = Stage::file(&MODERN, Mover::Plain, WritePage::Unlocks)?;
    stage.run(&MODERN, |edge| matches!(edge, Edge::Switch { .. }))
}

pub(super) fn not_on_lru() -> Result<Vec<Outcome>, String> {
    let stage = Stage::anonymous(&MODERN)?;
    let first = stage
        .model
        .isolate(stage.pfn, ())
        .map_err(|refusal| refusal.to_string())?;
    let outcomes = stage.run(&MODERN, |_| false);
    putback_lru_pages(&stage.model, &mut Some(first), ());
    outcomes
}

pub(super) fn poisoned() -> Result<Vec<Outcome>, String> {
    let stage = Stage::anonymous(&MODERN)?;
    let page = stage.model.page(stage.pfn);
    page.flags().edit(PageFlags::HWPOISON, PageFlags::empty());
    stage.run(&MODERN, |_| false)
}

pub(super) fn write_failed() -> Result<Vec<Outcome>, String> {
    let stage = Stage::file(&LINUX_2_6_17, Mover::Fallback, WritePage::Fails)?;
    stage.model.dirty_page(stage.pfn);
    stage.run(&LINUX_2_6_17, |_| false)
}

pub(super) fn mapping_limit() -> Result<Vec<Outcome>, String> {
    let stage = Stage::anonymous(&MODERN)?;
    stage.run(&MODERN, |edge| matches!(edge, Edge::Reserve(_)))
}

pub(super) fn backend_error() -> Result<Vec<Outcome>, String> {
    let stage = Stage::anonymous(&MODERN)?;
    stage.run_with(&MODERN, |_| false, |_| Err(Refusal::Backend { code: libc::EIO }))
}

//! What a scenario cannot say: done to the model by hand, or by a step of the protocol that fails.

use std::collections::VecDeque;

use migrate_core::model::{Config, Model, Op, WritePage};
use migrate_core::{
    Args, EdgeKind, Failure, FailurePlan, FaultInjector, HookedTarget, Injection, LINUX_2_6_17, MODERN, Mover, Profile,
    Slot, migrate_pages, putback_lru_pages,
};
use mm_types::{ActorId, Mode, NodeId, Outcome, PageFlags, Pfn, Reason, Site, Vpn};

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

    /// One run over the page, in which every step of the kind named fails so.
    fn run_failing(&self, profile: &Profile, edge: EdgeKind, failure: Failure) -> Result<Vec<Outcome>, String> {
        self.run_with(profile, &FailurePlan::from_then_on(Injection { edge, failure }, 0))
    }

    /// One run over the page, as it is.
    fn run(&self, profile: &Profile) -> Result<Vec<Outcome>, String> {
        self.run_with(profile, &FailurePlan::nothing())
    }

    fn run_with(&self, profile: &Profile, plan: &FailurePlan) -> Result<Vec<Outcome>, String> {
        let backend = FaultInjector::new(&self.model, plan);
        let page = match self.model.isolate(self.pfn, ()) {
            Ok(page) => page,
            Err(refusal) => return Ok(vec![Outcome::Refused(refusal)]),
        };
        let mut outcomes = Vec::new();
        let (mut from, mut moved, mut failed) = (VecDeque::from([page]), VecDeque::new(), VecDeque::new());
        let args = Args {
            from: &mut from,
            target: HookedTarget(self.model.target(NodeId::new(1))),
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
    stage.model.attach_buffers(stage.pfn);
    stage.run_failing(&MODERN, EdgeKind::ReleaseBuffers, Failure::NotReleasable)
}

pub(super) fn mapped() -> Result<Vec<Outcome>, String> {
    let stage = Stage::file(&LINUX_2_6_17, Mover::Plain, WritePage::Unlocks)?;
    stage.model.remap_file(stage.site, 0, ());
    let Stage { model, site, .. } = stage;
    Stage::touch(model, site)?.run(&LINUX_2_6_17)
}

pub(super) fn slot_changed() -> Result<Vec<Outcome>, String> {
    let stage = Stage::file(&MODERN, Mover::Plain, WritePage::Unlocks)?;
    stage.run_failing(&MODERN, EdgeKind::Switch, Failure::SlotChanged)
}

pub(super) fn not_on_lru() -> Result<Vec<Outcome>, String> {
    let stage = Stage::anonymous(&MODERN)?;
    let first = stage
        .model
        .isolate(stage.pfn, ())
        .map_err(|refusal| refusal.to_string())?;
    let outcomes = stage.run(&MODERN);
    putback_lru_pages(&stage.model, &mut Some(first), ());
    outcomes
}

pub(super) fn poisoned() -> Result<Vec<Outcome>, String> {
    let stage = Stage::anonymous(&MODERN)?;
    let page = stage.model.page(stage.pfn);
    page.flags().edit(PageFlags::HWPOISON, PageFlags::empty());
    stage.run(&MODERN)
}

pub(super) fn write_failed() -> Result<Vec<Outcome>, String> {
    let stage = Stage::file(&LINUX_2_6_17, Mover::Fallback, WritePage::Fails)?;
    stage.model.dirty_page(stage.pfn);
    stage.run(&LINUX_2_6_17)
}

pub(super) fn mapping_limit() -> Result<Vec<Outcome>, String> {
    let stage = Stage::anonymous(&MODERN)?;
    stage.run_failing(&MODERN, EdgeKind::Reserve, Failure::MappingLimit)
}

pub(super) fn backend_error() -> Result<Vec<Outcome>, String> {
    let stage = Stage::anonymous(&MODERN)?;
    stage.run_failing(&MODERN, EdgeKind::Take, Failure::Backend)
}

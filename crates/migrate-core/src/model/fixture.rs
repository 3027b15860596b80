//! The model behind the scenarios' [`Fixture`]: it has everything that a scenario can ask for.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use mm_types::scenario::{Mover as FileMover, Sharing};
use mm_types::{
    ActorId, Backing, Mapping, MappingId, NodeId, PageFlags, Pfn, Pte, PteFlags, Site, SpaceId, Vma, VmaFlags, Vpn,
};

use super::lock::Lock;
use super::rmap::belongs;
use super::{Access, Config, Model, Op, WritePage};
use crate::fixture::{self, Capabilities, Fixture, FixtureError, Recording};
use crate::{Frames, LockedPage, Mover, PageRef, Profile, Rmap};

/// Where a scenario's pages are at first, and where they go.
const SOURCE: NodeId = NodeId::new(0);
const TARGET: NodeId = NodeId::new(1);

/// Who does the accesses of a scenario that name nobody.
const SELF: ActorId = ActorId::new(0);

const PRIVATE: VmaFlags = VmaFlags::READ.union(VmaFlags::MAYREAD).union(VmaFlags::MAYWRITE);

/// The model as a fixture.
#[derive(Debug)]
pub struct ModelFixture {
    model: Model,
    recording: Arc<Recording>,
    /// Pages of files whose truncation waits for the page lock.
    truncating: Lock<Vec<(MappingId, usize)>>,
}

impl ModelFixture {
    /// Makes a fixture with room for scenarios of a thousand pages.
    #[must_use]
    pub fn new() -> Self {
        let recording = Arc::new(Recording::with_capacity(0));
        Self {
            model: Self::model(&crate::MODERN),
            recording,
            truncating: Lock::default(),
        }
    }

    /// Returns what the last scenario recorded, however it ended.
    #[must_use]
    pub fn recording(&self) -> &Recording {
        &self.recording
    }

    fn model(profile: &'static Profile) -> Model {
        Model::new(Config {
            // Every check looks at all of them, and Miri is slow.
            frames: if cfg!(miri) { 32 } else { 2048 },
            cpus: 8,
            profile,
            ..Config::default()
        })
    }

    fn vma(&self, site: Site) -> Result<Vma, FixtureError> {
        self.model.vma_at(site).ok_or(FixtureError::BadSite(site))
    }

    fn alive(&self, pfn: Pfn) -> Result<(), FixtureError> {
        let page = self.model.get(pfn).ok_or(FixtureError::BadFrame(pfn))?;
        self.model.put(page);
        Ok(())
    }

    fn access(&self, site: Site, op: Op) -> Result<u64, FixtureError> {
        done(self.model.access(SELF, site, op, &*self.recording), site)
    }

    /// A mapping of one page, with a VMA of its own.
    fn map(&self, vma: Vma, site: Site) -> Result<(), FixtureError> {
        self.model.mmap(vma).map_err(|_| FixtureError::BadSite(site))
    }

    /// The sites of a page's mappings, and of the migration entries that name it.
    fn sites(&self, pfn: Pfn) -> Vec<Site> {
        let (mapping, index) = (self.model.page(pfn).mapping(), self.model.page(pfn).index());
        let vmas = self.model.vmas.lock();
        let of_page = vmas
            .list
            .iter()
            .filter(|vma| belongs(vma, mapping))
            .filter_map(|vma| vma.site(index));
        of_page
            .filter(|site| self.model.pte(*site).pfn() == Some(pfn))
            .collect()
    }

    fn finish_truncations(&self) {
        let late = core::mem::take(&mut *self.truncating.lock());
        for (file, index) in late {
            let done = self
                .model
                .cached(file, index)
                .is_none_or(|pfn| self.model.truncate_page(pfn, &*self.recording));
            if !done {
                self.truncating.lock().push((file, index));
            }
        }
    }
}

impl Default for ModelFixture {
    fn default() -> Self {
        Self::new()
    }
}

fn one_page(site: Site) -> Vpn {
    Vpn::new(site.page.raw().saturating_add(1))
}

fn done(access: Access, site: Site) -> Result<u64, FixtureError> {
    match access {
        Access::Done(word) => Ok(word),
        Access::MustWait(_) | Access::Busy(_) => {
            Err(FixtureError::Other(format!("the access at {site:?} would sleep")))
        }
        Access::Segv | Access::Bus => Err(FixtureError::Killed(site)),
        Access::OutOfMemory => Err(FixtureError::NoFrame),
    }
}

impl Fixture for ModelFixture {
    type Backend = Model;

    fn backend(&self) -> &Model {
        &self.model
    }

    fn capabilities(&self) -> Capabilities {
        // A frame of the model is one word.
        Capabilities::all().difference(Capabilities::WHOLE_PAGES)
    }

    fn begin(&mut self, profile: &'static Profile, recording: Arc<Recording>) {
        self.model = Self::model(profile);
        self.recording = recording;
    }

    fn space(&self) -> Result<SpaceId, FixtureError> {
        Ok(self.model.new_space())
    }

    fn map_anon(&self, site: Site, writable: bool) -> Result<Pfn, FixtureError> {
        let flags = if writable { PRIVATE | VmaFlags::WRITE } else { PRIVATE };
        if self.model.free_frames(SOURCE) == 0 {
            return Err(FixtureError::NoFrame);
        }
        self.map(Vma::anon(site.space, site.page, one_page(site), flags), site)?;
        let pfn = self
            .model
            .anon_fault(&self.vma(site)?, site, false, ())
            .map_err(|_| FixtureError::NoFrame)?;
        crate::migrate_prep(&self.model);
        Ok(pfn)
    }

    fn read(&self, site: Site) -> Result<u64, FixtureError> {
        self.access(site, Op::Read)
    }

    fn write(&self, site: Site, value: u64) -> Result<(), FixtureError> {
        self.access(site, Op::Write(value)).map(drop)
    }

    fn entry(&self, site: Site) -> Pte {
        self.model.pte(site)
    }

    fn new_page(&self) -> Result<PageRef, FixtureError> {
        self.model.allocate(TARGET).ok_or(FixtureError::NoFrame)
    }

    fn check(&self) -> Result<(), String> {
        self.finish_truncations();
        crate::migrate_prep(&self.model);
        self.model.check(&[]).map_err(|violation| violation.to_string())
    }

    fn share(&self, pfn: Pfn, to: Site, writable: bool) -> Result<(), FixtureError> {
        let mut flags = PRIVATE | VmaFlags::SHARED;
        flags.set(VmaFlags::WRITE, writable);
        let (mapping, index) = (self.model.page(pfn).mapping(), self.model.page(pfn).index());
        let vma = match mapping {
            Mapping::None => return Err(FixtureError::BadFrame(pfn)),
            Mapping::File(file) => Vma::file(to.space, to.page, one_page(to), flags, file, index),
            Mapping::Anon(id) => {
                let there = Vma::anon(to.space, to.page, one_page(to), flags);
                Vma {
                    pgoff: index,
                    anon_vma: Some(id),
                    ..there
                }
            }
        };
        if mapping.is_anon() {
            // Nobody has it alone any more, and a store is to be seen by all of them.
            let mut gather = self.model.gather();
            for site in self.sites(pfn) {
                self.model.cut(site, 1, |vma| vma.flags.insert(VmaFlags::SHARED));
                self.model
                    .with_entry(site, crate::EntryVma::PLAIN, &mut gather, |entry| {
                        entry.update(&|pte| match pte {
                            Pte::Present { pfn, flags } => {
                                Some(Pte::present(pfn, flags.difference(PteFlags::EXCLUSIVE)))
                            }
                            _ => None,
                        })
                    });
            }
            self.model.flush(gather);
        }
        self.map(vma, to)?;
        let flags = if writable { PteFlags::WRITE } else { PteFlags::empty() };
        self.model.install(&vma, to, Pte::None, Pte::present(pfn, flags), ());
        Ok(())
    }

    fn fork(&self, parent: SpaceId) -> Result<SpaceId, FixtureError> {
        Ok(self.model.fork(parent, &*self.recording))
    }

    fn protect(&self, site: Site, writable: bool) -> Result<(), FixtureError> {
        self.vma(site)?;
        self.model.protect(site, 1, writable, &*self.recording);
        Ok(())
    }

    fn unmap(&self, site: Site) -> Result<(), FixtureError> {
        self.vma(site)?;
        self.model.munmap(site, 1, &*self.recording);
        Ok(())
    }

    fn exit(&self, space: SpaceId) -> Result<(), FixtureError> {
        self.model.exit(space, &*self.recording);
        Ok(())
    }

    fn remap(&self, from: Site, to: Site) -> Result<(), FixtureError> {
        self.vma(from)?;
        let moved = from.space == to.space && self.model.mremap(from, 1, to.page, &*self.recording);
        if moved { Ok(()) } else { Err(FixtureError::BadSite(to)) }
    }

    fn pin(&self, pfn: Pfn) -> Result<(), FixtureError> {
        if self.model.pin(pfn) {
            Ok(())
        } else {
            Err(FixtureError::BadFrame(pfn))
        }
    }

    fn unpin(&self, pfn: Pfn) -> Result<(), FixtureError> {
        if self.model.page(pfn).pins() == 0 {
            return Err(FixtureError::BadFrame(pfn));
        }
        self.model.unpin(pfn);
        Ok(())
    }

    fn file(&self, pages: u64, mover: FileMover) -> Result<MappingId, FixtureError> {
        let pages = usize::try_from(pages).map_err(|error| FixtureError::Other(error.to_string()))?;
        let (mover, write) = match mover {
            FileMover::Plain => (Mover::Plain, WritePage::Unlocks),
            FileMover::Buffers => (Mover::Buffers, WritePage::Unlocks),
            FileMover::Fallback => (Mover::Fallback, WritePage::Unlocks),
            FileMover::FallbackNowrite => (Mover::Fallback, WritePage::Missing),
            FileMover::Never => (Mover::Never, WritePage::Unlocks),
        };
        Ok(self.model.create_file(pages, mover, write))
    }

    fn map_file(
        &self,
        file: MappingId,
        index: u64,
        site: Site,
        writable: bool,
        sharing: Sharing,
    ) -> Result<Pfn, FixtureError> {
        let index = usize::try_from(index).map_err(|_| FixtureError::BadSite(site))?;
        let mut flags = PRIVATE;
        flags.set(VmaFlags::WRITE, writable);
        flags.set(VmaFlags::SHARED, sharing == Sharing::Shared);
        let vma = Vma::file(site.space, site.page, one_page(site), flags, file, index);
        self.map(vma, site)?;
        self.model
            .file_fault(&vma, site, index, false, ())
            .map_err(|access| match access {
                Access::OutOfMemory => FixtureError::NoFrame,
                _ => FixtureError::BadSite(site),
            })?;
        crate::migrate_prep(&self.model);
        self.page_at(site).ok_or(FixtureError::BadSite(site))
    }

    fn nonlinear(&self, site: Site) -> Result<(), FixtureError> {
        let Backing::File(_) = self.vma(site)?.backing else {
            return Err(FixtureError::BadSite(site));
        };
        self.model.cut(site, 1, |vma| vma.flags.insert(VmaFlags::NONLINEAR));
        Ok(())
    }

    fn cached(&self, file: MappingId, index: u64) -> Result<Option<Pfn>, FixtureError> {
        Ok(usize::try_from(index)
            .ok()
            .and_then(|index| self.model.cached(file, index)))
    }

    fn stored(&self, file: MappingId, index: u64) -> Result<u64, FixtureError> {
        let stored = usize::try_from(index)
            .ok()
            .and_then(|index| self.model.stored(file, index));
        stored.ok_or_else(|| FixtureError::Other(format!("page {index} is beyond the end of the file")))
    }

    fn truncate(&self, pfn: Pfn) -> Result<(), FixtureError> {
        let Mapping::File(file) = self.model.page(pfn).mapping() else {
            return Err(FixtureError::BadFrame(pfn));
        };
        if !self.model.truncate_page(pfn, &*self.recording) {
            self.truncating.lock().push((file, self.model.page(pfn).index()));
        }
        Ok(())
    }

    fn free(&self, pfn: Pfn) -> Result<(), FixtureError> {
        self.alive(pfn)?;
        for site in self.sites(pfn) {
            self.model.munmap(site, 1, &*self.recording);
        }
        match self.model.page(pfn).mapping() {
            Mapping::File(_) => self.truncate(pfn),
            Mapping::Anon(_) | Mapping::None => Ok(()),
        }
    }

    fn dirty(&self, pfn: Pfn) -> Result<(), FixtureError> {
        self.alive(pfn)?;
        self.model.dirty_page(pfn);
        Ok(())
    }

    fn buffers_busy(&self, pfn: Pfn, busy: bool) -> Result<(), FixtureError> {
        if !self.model.page(pfn).flags().load().contains(PageFlags::PRIVATE) {
            return Err(FixtureError::BadFrame(pfn));
        }
        self.model.set_buffers_busy(pfn, busy);
        Ok(())
    }

    fn writeback(&self, pfn: Pfn, on: bool) -> Result<(), FixtureError> {
        self.alive(pfn)?;
        if on {
            self.model.begin_writeback(pfn);
        } else {
            self.model.end_writeback(pfn);
        }
        Ok(())
    }

    fn end_writeback_later(&self, pfn: Pfn) -> Result<(), FixtureError> {
        self.alive(pfn)?;
        self.model.on_sleep(move |model| model.end_writeback(pfn));
        Ok(())
    }

    fn unlock_later(&self, locked: LockedPage, opened: Arc<AtomicBool>) -> Result<(), FixtureError> {
        self.model.on_sleep(move |model| {
            opened.store(true, Ordering::Release);
            model.put(model.unlock(locked));
        });
        Ok(())
    }

    fn swap_cache(&self, pfn: Pfn) -> Result<(), FixtureError> {
        self.model.swap_cache(pfn).map(drop).ok_or(FixtureError::BadFrame(pfn))
    }

    fn mlock(&self, site: Site) -> Result<(), FixtureError> {
        self.vma(site)?;
        self.model.mlock(site, 1, true);
        Ok(())
    }

    fn fault(&self, actor: ActorId, site: Site, store: Option<u64>) -> Result<fixture::Access, FixtureError> {
        let op = store.map_or(Op::Read, Op::Write);
        if !self.model.access_in_thread(actor, site, op, &self.recording) {
            return Ok(fixture::Access::Asleep);
        }
        let last = self.model.finished.lock().pop();
        let (_, site, access) = last.ok_or(FixtureError::BadSite(site))?;
        done(access, site).map(fixture::Access::Done)
    }

    fn finish_faults(&self) -> Result<Vec<(ActorId, u64)>, FixtureError> {
        self.finish_truncations();
        if !self.model.sleepers.lock().is_empty() {
            return Err(FixtureError::Other(
                "a thread sleeps on a page lock that nobody opens".into(),
            ));
        }
        let mut finished = self.model.take_finished();
        finished.sort_by_key(|(actor, ..)| actor.raw());
        finished
            .into_iter()
            .map(|(actor, site, access)| Ok((actor, done(access, site)?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;

    const SITE: Site = Site::new(SpaceId::new(0), Vpn::new(0));

    fn fixture() -> ModelFixture {
        let fixture = ModelFixture::new();
        assert_eq!(fixture.space(), Ok(SITE.space));
        fixture
    }

    #[test]
    #[cfg_attr(miri, ignore = "there are fewer frames in Miri")]
    fn there_is_room_for_a_thousand_pages_and_a_cpu_for_each_of_eight_threads() {
        let model = ModelFixture::new().model;
        assert!(model.free_frames(SOURCE) > 1000 && model.free_frames(TARGET) > 1000);
        let tlbs: BTreeSet<_> = (0..8)
            .map(|n| core::ptr::from_ref(model.tlbs.of(ActorId::new(n))))
            .collect();
        assert_eq!(tlbs.len(), 8);
    }

    #[test]
    fn what_is_asked_of_a_page_that_is_free_is_an_error() {
        let fixture = fixture();
        let pfn = fixture.map_anon(SITE, true).unwrap();
        fixture.dirty(pfn).unwrap();
        fixture.unmap(SITE).unwrap();
        for asked in [fixture.dirty(pfn), fixture.free(pfn), fixture.writeback(pfn, true)] {
            assert_eq!(asked, Err(FixtureError::BadFrame(pfn)));
        }
    }

    #[test]
    fn a_truncation_that_finds_the_page_locked_is_finished_once_it_is_not() {
        let fixture = fixture();
        let file = fixture.file(1, FileMover::Plain).unwrap();
        let pfn = fixture.map_file(file, 0, SITE, true, Sharing::Shared).unwrap();
        assert!(fixture.model.lock_page(pfn));
        fixture.truncate(pfn).unwrap();
        assert_eq!(fixture.entry(SITE), Pte::None);
        assert_eq!(fixture.finish_faults(), Ok(Vec::new()), "nobody waits");
        assert_eq!(fixture.cached(file, 0), Ok(Some(pfn)), "not yet");
        fixture.model.unlock_page(pfn);
        assert_eq!(fixture.check(), Ok(()));
        assert_eq!(fixture.cached(file, 0), Ok(None));
    }

    #[test]
    fn a_mapping_for_which_there_is_no_frame_says_so() {
        let fixture = fixture();
        let file = fixture.file(1, FileMover::Plain).unwrap();
        fixture.model.fail_allocation(1);
        let mapped = fixture.map_file(file, 0, SITE, true, Sharing::Shared);
        assert_eq!(mapped, Err(FixtureError::NoFrame));
    }
}
